"""Bit for bit: what our scenes, steps and pictures of variants give against upstream's own loop."""

from __future__ import annotations

import numpy as np
import pytest

from envs.libero_plus import make, noise, upstream
from tests.envs.libero.reference import model_arrays, random_actions, state_of
from tests.envs.libero_plus.reference import PlusReference

pytestmark = pytest.mark.timeout(900)  # upstream compiles its scene anew at every reset

BOWL = "pick_up_the_black_bowl_from_table_center_and_place_it_on_the_plate"
KITCHEN = "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it"
VARIANTS = [
    ("libero_plus_spatial", f"{BOWL}_view_31_15_100_0_0_initstate_0"),
    ("libero_plus_spatial", f"{BOWL}_view_0_0_100_0_0_initstate_103"),
    ("libero_plus_goal", "turn_on_the_stove_language_1_view_0_0_100_0_0_initstate_0"),
    ("libero_plus_goal", "open_the_middle_drawer_of_the_cabinet_moved_level1_sample1"),
    ("libero_plus_10", f"{KITCHEN}_level3_sample1"),
]


@pytest.mark.parametrize(("suite", "name"), VARIANTS, ids=lambda value: value[-45:])
def test_a_variant_equals_upstreams_to_the_last_bit(suite: str, name: str) -> None:
    """Model, states and proprioception of every step, the perturbed arm's settling included."""
    reference = PlusReference(name, pictures=False)
    seen = [reference.next_episode()]
    models = {field: value.copy() for field, value in model_arrays(reference.model).items()}
    states = [state_of(reference.data)]
    actions = random_actions(20)
    dones = []
    for action in actions:
        observation, done = reference.step(action.tolist())
        seen.append(observation)
        states.append(state_of(reference.data))
        dones.append(done)
    reference.close()

    env = make(suite=suite)
    env.select(cameras=())
    for _ in range(2):  # the second time with a compiled scene that has been used
        env.reset(seed=0, options={"task": name, "trial": 0})
        ours = model_arrays(env.simulation.model)  # type: ignore[attr-defined]
        for field, value in models.items():
            assert ours[field].tobytes() == value.tobytes(), field
        for k, action in enumerate(actions):
            data, sample = env.simulation.data, env.simulation.sample  # type: ignore[attr-defined]
            assert np.array_equal(state_of(data), states[k]), f"step {k}"
            assert np.array_equal(sample.position, seen[k]["robot0_eef_pos"]), f"step {k}"
            assert np.array_equal(sample.fingers, seen[k]["robot0_gripper_qpos"]), f"step {k}"
            assert env.step_chunk(action[None], stop_on_done=False).success == dones[k]
    env.close()


def test_pictures_from_another_camera_equal_upstreams() -> None:
    name = VARIANTS[0][1]
    reference = PlusReference(name, pictures=True)
    observation = reference.next_episode()
    env = make(suite="libero_plus_spatial")
    env.reset(seed=0, options={"task": name, "trial": 0})
    for ours, theirs in (("agentview", "agentview_image"), ("wrist", "robot0_eye_in_hand_image")):
        assert np.array_equal(env.observe().images[ours], observation[theirs][::-1, ::-1]), ours
    reference.close()
    env.close()


@pytest.mark.parametrize("number", [3, 18, 27, 33, 42])
def test_noise_is_upstreams_own_drawn_from_the_key(number: int) -> None:
    """What ControlEnv does to a raw frame under a seeded generator, turned as policies see it; the generator that
    others use is left as it was."""
    import hashlib
    import importlib

    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    upstream.liberoplus()
    wrapper = importlib.import_module(f"{upstream.PACKAGE}.envs.env_wrapper")
    names = ["motion_blur", "gaussian_blur", "zoom_blur", "fog", "glass_blur"]
    np.random.seed(int.from_bytes(hashlib.sha256(b"key").digest()[:4], "little"))
    apply = getattr(wrapper, names[(number - 1) // 10])
    wanted = apply(Image.fromarray(np.ascontiguousarray(picture[::-1, ::-1])), severity=(number - 1) % 10 + 1)
    np.random.seed(5)
    before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    found = noise.noisy(picture, number, "key")
    assert np.array_equal(found[::-1, ::-1], np.asarray(wanted).astype(np.uint8))
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]
    if names[(number - 1) // 10] in ("motion_blur", "fog", "glass_blur"):  # the others draw nothing at random
        assert not np.array_equal(noise.noisy(picture, number, "another"), found)
