"""Every task resets, is not solved at the start, and its scenes are what they are said to be, whoever sets them up."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs.base import SceneError
from envs.libero import SUITES, make
from envs.libero.adapter import LiberoEnv
from envs.libero.simulation import Simulation
from envs.libero.upstream import task_files, task_names

ROOT = Path(__file__).parents[3]
PAIRS = [(suite, task) for suite in SUITES for task in task_names(suite)]
BOWL, DRAWER, STOVE = (task_names("libero_spatial")[k] for k in (0, 4, 7))


@pytest.mark.timeout(900)
def test_every_task_of_every_suite_resets_and_is_not_solved_at_the_start() -> None:
    """All 130 tasks, physics only."""
    hashes = set()
    for suite in SUITES:
        env = make(suite=suite)
        assert isinstance(env, LiberoEnv)
        env.select(cameras=())
        for task in task_names(suite):
            _, info = env.reset(seed=0, options={"task": task, "trial": 7})
            assert not env.simulation.success(), f"{suite}/{task} is solved before anything was done"
            hashes.add(info["scene_hash"])
        env.close()
    assert len(hashes) == len(PAIRS) == 130


SCRIPT = """
import json, sys
from envs.libero import make
env = make(suite="libero_spatial")
env.select(cameras=())
found = {}
for task, trial in json.loads(sys.argv[1]):
    found[f"{task}/{trial}"] = env.reset(seed=0, options={"task": task, "trial": trial})[1]["scene_hash"]
    env.step_chunk([[0.5, -0.3, -1, 0.2, 0, 0.4, 1]] * 5)
print(json.dumps(found))
"""


def test_a_scene_has_one_hash_cold_or_warm_in_any_order_on_any_worker() -> None:
    order = [(BOWL, 0), (BOWL, 3), (DRAWER, 3), (DRAWER, 0), (BOWL, 0)]
    orders = [order[:1], order, order[::-1]]
    workers = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps(part)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for part in orders
    ]
    found = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    assert found[1] == found[2]
    assert found[0].items() <= found[1].items()
    assert len(set(found[1].values())) == 4


def test_the_hash_covers_fixture_poses_velocities_and_lights(blind: LiberoEnv) -> None:
    blind.reset(seed=0, options={"task": BOWL, "trial": 0})
    simulation = blind.simulation
    cabinet = simulation.model.body("wooden_cabinet_1_main").id

    def hash_now() -> str:
        from envs.base import _digest

        return _digest(blind.scene())

    start = hash_now()
    assert start == blind.scene_hash()
    for array, index in (
        (simulation.model.body_pos, (cabinet, 0)),
        (simulation.data.qvel, 0),
        (simulation.data.qpos, 9),
    ):
        kept = array[index]
        array[index] = np.nextafter(kept, np.inf)
        assert hash_now() != start
        array[index] = kept
    assert hash_now() == start


def test_fixtures_are_drawn_anew_for_every_trial_as_the_serial_reference_does(blind: LiberoEnv) -> None:
    """The initial states do not hold them; one seed for a task gives each of its trials other poses."""
    poses = []
    for trial in (0, 1, 2, 0):
        blind.reset(seed=0, options={"task": BOWL, "trial": trial})
        model = blind.simulation.model
        poses.append(model.body_pos[model.body("wooden_cabinet_1_main").id].copy())
    assert np.array_equal(poses[0], poses[3])
    assert not np.array_equal(poses[0], poses[1])
    assert not np.array_equal(poses[1], poses[2])


def test_an_episode_changes_nothing_in_the_model_that_a_reset_does_not_restore() -> None:
    """All arrays of the compiled model, after pictures, a stove switched on and a hundred steps."""
    from tests.envs.libero.reference import model_arrays, random_actions

    env = make(suite="libero_goal", size=64)
    assert isinstance(env, LiberoEnv)
    where = {"task": "turn_on_the_stove", "trial": 0}
    env.reset(seed=0, options=where)
    start = {name: value.tobytes() for name, value in model_arrays(env.simulation.model).items()}
    env.simulation.data.joint("flat_stove_1_button").qpos[:] = 1.0
    env.step_chunk(random_actions(100), stop_on_done=False)
    env.observe()
    changed = {n for n, v in model_arrays(env.simulation.model).items() if v.tobytes() != start[n]}
    assert changed == {"site_rgba"}
    env.reset(seed=0, options=where)
    assert {n: v.tobytes() for n, v in model_arrays(env.simulation.model).items()} == start
    env.close()


def test_memory_does_not_grow_as_tasks_change(blind: LiberoEnv) -> None:
    def megabytes() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    for task in (BOWL, DRAWER, STOVE):
        blind.reset(seed=0, options={"task": task, "trial": 0})
    before = megabytes()
    for task in (BOWL, DRAWER, STOVE) * 2:
        blind.reset(seed=0, options={"task": task, "trial": 0})
    assert megabytes() - before < 300, "one scene takes over a gigabyte: an old one was kept"


def test_unknown_task_and_trial_are_errors_that_say_what_there_is(blind: LiberoEnv) -> None:
    with pytest.raises(SceneError, match="did you mean pick_up_the_black_bowl_on_the_stove"):
        blind.reset(seed=0, options={"task": STOVE.replace("stove", "stve"), "trial": 0})
    with pytest.raises(SceneError, match="50 initial states, so no trial 50"):
        blind.reset(seed=0, options={"task": STOVE, "trial": 50})


def test_a_scene_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    """Upstream's wrapper swallows every exception of a reset and tries again, for ever."""
    text = task_files("libero_spatial", BOWL).problem.read_text()
    broken = tmp_path / "broken.bddl"
    broken.write_text(text.replace("plate_1 - plate", "plate_1 - unobtainable_thing"))
    with pytest.raises(SceneError, match=r"broken\.bddl cannot be built: KeyError: 'unobtainable_thing'"):
        Simulation(broken)
    with pytest.raises(SceneError, match=r"gone\.bddl is missing"):
        Simulation(tmp_path / "gone.bddl")


def test_objects_that_find_no_place_are_an_error_not_an_endless_loop(tmp_path: Path) -> None:
    """Two objects told to start in one region: upstream draws again without end."""
    text = task_files("libero_object", "pick_up_the_milk_and_place_it_in_the_basket").problem.read_text()
    crowded = tmp_path / "crowded.bddl"
    crowded.write_text(text.replace("floor_other_object_region_1)", "floor_other_object_region_0)"))
    assert crowded.read_text() != text
    with pytest.raises(SceneError, match="no valid placement"):
        Simulation(crowded)


def test_a_reset_gives_the_global_generators_back(blind: LiberoEnv) -> None:
    np.random.seed(5)
    random.seed(5)
    wanted = np.random.random(3), random.random()
    np.random.seed(5)
    random.seed(5)
    blind.reset(seed=0, options={"task": BOWL, "trial": 1})
    assert np.array_equal(np.random.random(3), wanted[0])
    assert random.random() == wanted[1]


def test_a_wrong_initial_state_is_an_error(blind: LiberoEnv) -> None:
    blind.reset(seed=0, options={"task": BOWL, "trial": 0})
    with pytest.raises(SceneError, match=r"initial state has shape \[5\]"):
        blind.simulation.restart(np.zeros(5), 0, 0)
