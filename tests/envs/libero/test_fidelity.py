"""Bit for bit: what our restart, our substeps and our pictures give against upstream's own loop."""

from __future__ import annotations

import numpy as np
import pytest

from envs.libero import make
from tests.envs.libero.reference import Reference, model_arrays, random_actions, state_of

SCENES = [
    ("libero_spatial", "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate"),
    ("libero_spatial", "pick_up_the_black_bowl_in_the_top_drawer_of_the_wooden_cabinet_and_place_it_on_the_plate"),
    ("libero_object", "pick_up_the_milk_and_place_it_in_the_basket"),
    ("libero_goal", "turn_on_the_stove"),
    ("libero_10", "KITCHEN_SCENE6_put_the_yellow_and_white_mug_in_the_microwave_and_close_it"),
    ("libero_90", "KITCHEN_SCENE10_close_the_top_drawer_of_the_cabinet"),
]


@pytest.mark.parametrize(("suite", "task"), SCENES, ids=lambda value: value[:40])
def test_three_trials_equal_the_serial_reference_to_the_last_bit(suite: str, task: str) -> None:
    """Fixtures, models, states and proprioception after every step, of trials 0, 1, 2 of upstream run serially with
    hard resets; ours are warm, and taken in another order."""
    steps = 30
    reference = Reference(suite, task, pictures=False)
    wanted = []
    for trial in range(3):
        seen = [reference.next_episode()]
        models = {name: value.copy() for name, value in model_arrays(reference.model).items()}
        states = [state_of(reference.data)]
        dones = []
        for action in random_actions(steps, seed=trial):
            observation, done = reference.step(action.tolist())
            seen.append(observation)
            states.append(state_of(reference.data))
            dones.append(done)
        wanted.append((seen, models, states, dones))
    reference.close()

    env = make(suite=suite)
    env.select(cameras=())
    for trial in (1, 2, 0, 1):
        seen, models, states, dones = wanted[trial]
        env.reset(seed=0, options={"task": task, "trial": trial})
        ours = model_arrays(env.simulation.model)  # type: ignore[attr-defined]
        assert ours.keys() == models.keys()
        for name, value in models.items():
            assert ours[name].tobytes() == value.tobytes(), name  # bytes: some mesh normals are not a number
        for k, action in enumerate(random_actions(steps, seed=trial)):
            data, sample = env.simulation.data, env.simulation.sample  # type: ignore[attr-defined]
            assert np.array_equal(state_of(data), states[k]), f"trial {trial} step {k}"
            assert np.array_equal(sample.position, seen[k]["robot0_eef_pos"]), f"trial {trial} step {k}"
            assert np.array_equal(sample.quaternion, seen[k]["robot0_eef_quat"]), f"trial {trial} step {k}"
            assert np.array_equal(sample.fingers, seen[k]["robot0_gripper_qpos"]), f"trial {trial} step {k}"
            assert env.step_chunk(action[None], stop_on_done=False).success == dones[k]
    env.close()


def test_pictures_on_demand_equal_those_of_a_loop_that_draws_every_frame() -> None:
    """Pixel for pixel, turned by 180 degrees, while the stove is switched on (which changes a colour in the model)."""
    suite, task = "libero_goal", "turn_on_the_stove"
    reference = Reference(suite, task, pictures=True)
    env = make(suite=suite)
    reference.next_episode()
    env.reset(seed=0, options={"task": task, "trial": 0})
    agentview = []
    for k, action in enumerate(random_actions(8)):
        if k == 4:
            for data in (reference.data, env.simulation.data):  # type: ignore[attr-defined]
                data.joint("flat_stove_1_button").qpos[:] = 1.0
        observation, done = reference.step(action.tolist())
        result = env.step_chunk(action[None], stop_on_done=False)
        assert result.success == done == (k >= 4)
        seen = env.observe()
        for ours, theirs in (("agentview", "agentview_image"), ("wrist", "robot0_eye_in_hand_image")):
            wanted = observation[theirs][::-1, ::-1]
            assert seen.images[ours].shape == (256, 256, 3)
            assert np.array_equal(seen.images[ours], wanted), f"step {k}: {ours}"
        agentview.append(seen.images["agentview"])
    assert len({picture.tobytes() for picture in agentview}) == len(agentview), "the pictures must show motion"
    reference.close()
    env.close()
