"""A scene is named by (task, trial) and proven by its hash."""

from __future__ import annotations

import numpy as np
import pytest

from envs.base import SceneError
from envs.lab import describe, make
from envs.lab.env import LabEnv
from envs.lab.task import lab_tasks, trial_generator
from tests.envs.lab.helpers import PLAIN_PROCESSOR, TASKS, fresh_process, play

HASHES = """
from envs.lab import make
env = make()
env.select([])
for task in {tasks!r}:
    env.reset(seed=0, options={{"task": task, "trial": 4}})
    print(env.scene_hash())
"""


def hash_of(env: LabEnv, task: str, trial: int, seed: int = 0) -> str:
    env.reset(seed=seed, options={"task": task, "trial": trial})
    return env.scene_hash()


def test_the_same_scene_has_the_same_hash_in_any_order_and_in_a_fresh_process(env: LabEnv) -> None:
    forth = [hash_of(env, task, 4) for task in TASKS]
    play(env, "stack", 1)
    back = [hash_of(env, task, 4) for task in reversed(TASKS)]
    assert forth == back[::-1]
    assert forth == fresh_process(HASHES.format(tasks=TASKS)).split()


def test_the_hash_does_not_depend_on_what_the_processor_can_do(env: LabEnv) -> None:
    ours = [hash_of(env, task, 4) for task in TASKS]
    assert ours == fresh_process(HASHES.format(tasks=TASKS), PLAIN_PROCESSOR).split()


@pytest.mark.parametrize("task", TASKS)
def test_no_two_trials_are_alike(env: LabEnv, task: str) -> None:
    hashes = [hash_of(env, task, trial) for trial in range(60)] + [hash_of(env, task, 10**6)]
    assert len(set(hashes)) == len(hashes)
    assert hash_of(env, task, 0, seed=1) not in hashes


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_does_not_depend_on_what_was_played_before(env: LabEnv, task: str) -> None:
    alone = make()
    alone.select([])
    first = play(alone, task, 3, limit=60)
    play(env, task, 8, limit=150, shake=0.2)
    assert play(env, task, 3, limit=60).digest == first.digest


def test_the_hash_covers_colours_hidden_choices_and_the_hands_target(env: LabEnv) -> None:
    def parts() -> dict[str, bytes]:
        return {name: v.encode() if isinstance(v, str) else np.asarray(v).tobytes() for name, v in env.scene()}

    env.reset(seed=0, options={"task": "remember_colour_3", "trial": 0})
    before = parts()
    assert {"xml", "qpos", "qvel", "mocap_pos", "mocap_quat", "geom_rgba", "instruction", "goal", "timing"} <= set(
        before
    )
    env.world.paint("button0_cap", (0.0, 0.0, 0.0))
    assert parts()["geom_rgba"] != before["geom_rgba"]
    env.trial.goal = (env.trial.goal + 1) % 3  # type: ignore[attr-defined]
    assert parts()["goal"] != before["goal"]


def test_only_the_named_model_fields_change_between_trials(env: LabEnv) -> None:
    """Whatever a reset chooses must be in the hash: so no model field but the colours may differ after many trials."""
    for task in TASKS:
        play(env, task, 0, limit=40)
        fresh = make()
        fresh.reset(seed=0, options={"task": task, "trial": 0})
        used, new = env.world.model, fresh.world.model
        for name in dir(new):
            value = getattr(new, name, None)
            if isinstance(value, np.ndarray) and name != "geom_rgba":
                assert np.array_equal(value, getattr(used, name), equal_nan=True), (task, name)


def test_a_mistyped_task_suggests_the_nearest(env: LabEnv) -> None:
    with pytest.raises(SceneError, match=r"remember_color_3.*did you mean .*remember_colour_3"):
        env.reset(seed=0, options={"task": "remember_color_3", "trial": 0})
    with pytest.raises(RuntimeError, match="no scene"):
        env.observe()


def test_a_scene_is_addressed_explicitly(env: LabEnv) -> None:
    with pytest.raises(SceneError, match="reset needs"):
        env.reset(seed=0)


def test_describing_the_lab_does_not_import_its_simulator() -> None:
    code = "import sys, envs.lab; envs.lab.describe(size=64); print([m for m in sys.modules if 'mujoco' in m])"
    assert fresh_process(code) == "[]"


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ValueError, match="renderer must be one of ray, gl"):
        describe(renderer="vulkan")
    with pytest.raises(ValueError, match="picture size"):
        describe(size=4)


def test_trials_draw_from_a_generator_keyed_by_seed_task_and_trial() -> None:
    draws = {trial_generator(*key).random() for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))}
    assert len(draws) == 4
    assert trial_generator(0, "a", 0).random() in draws


def test_every_task_has_its_own_name_and_is_found_without_a_list() -> None:
    assert set(TASKS) <= set(lab_tasks())
