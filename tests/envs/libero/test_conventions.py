"""Which way is up, which way is open: the conventions every policy for LIBERO is trained on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.libero import ACTION, STATE, describe, make
from envs.libero.adapter import SETTLE, LiberoEnv, axis_angle
from envs.libero.probe import probe
from envs.libero.upstream import task_names

TASK = task_names("libero_object")[0]


@pytest.fixture(scope="module")
def seeing() -> Iterator[LiberoEnv]:
    env = make(suite="libero_object", size=256)
    assert isinstance(env, LiberoEnv)
    yield env
    env.close()


@pytest.fixture
def env(seeing: LiberoEnv) -> LiberoEnv:
    seeing.reset(seed=0, options={"task": TASK, "trial": 0})
    return seeing


def act(env: LiberoEnv, *action: float, times: int = 1) -> None:
    env.step_chunk(np.tile(np.array(action, dtype=np.float32), (times, 1)), stop_on_done=False)


def test_pictures_are_upright_and_mirrored_left_to_right(env: LiberoEnv) -> None:
    """Where the basket appears, against where a true camera would show it: the row is right, the column mirrored."""
    simulation = env.simulation
    model, data = simulation.model, simulation.data
    camera = model.camera("agentview").id
    with_basket = env.draw("agentview")
    basket = data.body("basket_1_main").xpos.copy()
    seen = data.cam_xmat[camera].reshape(3, 3).T @ (basket + np.array([0, 0, 0.07]) - data.cam_xpos[camera])
    focal = 128 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
    true_column, true_row = 128 + focal * seen[0] / -seen[2], 128 - focal * seen[1] / -seen[2]
    place = model.joint("basket_1_joint0").qposadr[0]
    simulation.sample.drawn_from[place + 2] = -5.0  # under the floor
    rows, columns = np.nonzero((with_basket != env.draw("agentview")).any(axis=2))
    assert abs(true_column - 128) > 40, "the basket must stand well to one side for this test"
    assert abs(rows.mean() - true_row) < 12
    assert abs(columns.mean() - (255 - true_column)) < 12
    assert abs(columns.mean() - true_column) > 40


def test_drawing_does_not_change_the_simulation(env: LiberoEnv) -> None:
    data = env.simulation.data
    before = [np.copy(x) for x in (data.qpos, data.qvel, data.qacc, data.xpos, data.geom_xpos, data.qacc_warmstart)]
    env.draw("agentview")
    env.draw("wrist")
    after = (data.qpos, data.qvel, data.qacc, data.xpos, data.geom_xpos, data.qacc_warmstart)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_minus_one_opens_the_gripper_and_plus_one_closes_it(env: LiberoEnv) -> None:
    fingers = STATE.index("finger_1")
    act(env, 0, 0, 0, 0, 0, 0, -1, times=15)
    opened = env.observe().state[fingers]  # type: ignore[index]
    act(env, 0, 0, 0, 0, 0, 0, 1, times=15)
    closed = env.observe().state[fingers]  # type: ignore[index]
    assert opened == pytest.approx(0.04, abs=0.002)
    assert closed == pytest.approx(0.0, abs=0.002)
    assert (ACTION.gripper.open, ACTION.gripper.closed) == (-1.0, 1.0)
    assert SETTLE[-1] == ACTION.gripper.open


def test_only_the_sign_of_the_gripper_number_counts(env: LiberoEnv) -> None:
    act(env, 0, 0, 0, 0, 0, 0, 1, times=5)
    hard = env.simulation.data.qpos.copy()
    env.reset(seed=0, options={"task": TASK, "trial": 0})
    act(env, 0, 0, 0, 0, 0, 0, 0.2, times=5)
    assert np.array_equal(hard, env.simulation.data.qpos)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_action_moves_the_goal_by_its_unit_along_the_world_axes(env: LiberoEnv, axis: int) -> None:
    controller = env.simulation.robot.controller
    site = env.simulation.robot.eef_site_id
    before = env.simulation.data.site_xpos[site].copy()
    action = np.zeros(7)
    action[axis], action[6] = 1.0, -1.0
    act(env, *action)
    moved = controller.goal_pos - before
    assert moved[axis] == pytest.approx(ACTION.translation_unit, abs=1e-3)
    assert np.abs(np.delete(moved, axis)).max() < 1e-3
    start = env.simulation.data.site_xpos[site].copy()
    act(env, *action, times=5)
    assert env.simulation.data.site_xpos[site][axis] - start[axis] > 0.03


def test_rotations_are_axis_angle_about_the_world_axes(env: LiberoEnv) -> None:
    from scipy.spatial.transform import Rotation

    controller = env.simulation.robot.controller
    turn = np.array([0.3, -0.5, 0.8])
    site = env.simulation.robot.eef_site_id
    before = env.simulation.data.site_xmat[site].reshape(3, 3).copy()
    act(env, 0, 0, 0, *turn, -1)
    wanted = Rotation.from_rotvec(turn * ACTION.rotation_unit).as_matrix() @ before
    assert np.allclose(controller.goal_ori, wanted, atol=2e-3)


def test_the_state_is_position_rotation_vector_and_two_fingers(env: LiberoEnv) -> None:
    from scipy.spatial.transform import Rotation

    state = env.observe().state
    assert state is not None
    assert state.dtype == np.float32
    assert len(state) == len(describe(suite="libero_object").state) == 8
    sample = env.simulation.sample
    assert np.allclose(state[:3], sample.position, atol=1e-6)
    rotation = Rotation.from_rotvec(state[3:6]).as_matrix()
    assert np.allclose(rotation, Rotation.from_quat(sample.quaternion).as_matrix(), atol=1e-5)


def test_a_rotation_vector_keeps_the_sign_of_its_quaternion() -> None:
    """robosuite's convention, which policies are trained on: angles reach 2 pi, where others would turn back."""
    half = np.array([0.6, 0.0, 0.0, -0.8])
    assert np.linalg.norm(axis_angle(half)) == pytest.approx(2 * np.arccos(-0.8))
    assert np.array_equal(axis_angle(np.array([0.0, 0.0, 0.0, 1.0])), np.zeros(3))


def test_an_action_that_is_not_finite_is_refused(env: LiberoEnv) -> None:
    with pytest.raises(ValueError, match="not finite"):
        act(env, 0, 0, float("nan"), 0, 0, 0, 1)


def test_unknown_options_are_errors() -> None:
    with pytest.raises(ValueError, match="no suite 'libero_object_'"):
        describe(suite="libero_object_")
    with pytest.raises(ValueError, match="renderer must be one of"):
        describe(suite="libero_object", renderer="vulkan")
    with pytest.raises(RuntimeError, match="before the process starts"):
        make(suite="libero_object", renderer="osmesa")


PICTURE = """
import hashlib, sys
from envs.libero import make
env = make(suite="libero_object", size=128, renderer=sys.argv[1])
env.reset(seed=0, options={"task": sys.argv[2], "trial": 3})
print(hashlib.sha256(env.draw("agentview").tobytes() + env.draw("wrist").tobytes()).hexdigest())
"""


def test_both_renderers_draw_the_same_pixels() -> None:
    """Where both are software; on a machine whose EGL is a graphics card's, they may differ."""
    surroundings = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    command = [sys.executable, "-c", PICTURE]
    root = Path(__file__).parents[3]
    found = {
        subprocess.run(
            [*command, name, TASK], cwd=root, env=surroundings, capture_output=True, text=True, check=True
        ).stdout
        for name in ("egl", "osmesa")
    }
    assert len(found) == 1 or "llvmpipe" not in probe()
