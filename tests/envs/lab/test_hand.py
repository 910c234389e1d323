"""The action convention of the hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs.lab import ACTION
from envs.lab.env import LabEnv
from envs.lab.hand import LEASH, compose

OPEN, CLOSE = 1.0, -1.0


def start(env: LabEnv) -> np.ndarray:
    env.reset(seed=0, options={"task": "press_by_colour", "trial": 0})
    return env.world.hand.pose()


def act(env: LabEnv, steps: int, *numbers: float) -> np.ndarray:
    env.step_chunk(np.tile(np.array(numbers, dtype=np.float32), (steps, 1)))
    env.step_chunk(np.tile(np.array([0, 0, 0, 0, 0, 0, numbers[6]], dtype=np.float32), (5, 1)))
    return env.world.hand.pose()


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_one_moves_the_tip_by_the_translation_unit(env: LabEnv, axis: int, sign: int) -> None:
    before = start(env)
    numbers = np.zeros(7)
    numbers[axis], numbers[6] = sign, CLOSE
    moved = act(env, 3, *numbers)[:3] - before[:3]
    assert moved[axis] == pytest.approx(3 * sign * ACTION.translation_unit, abs=1e-3)
    assert np.abs(np.delete(moved, axis)).max() < 1e-3


@pytest.mark.parametrize("axis", range(3))
def test_one_turns_the_hand_by_the_rotation_unit(env: LabEnv, axis: int) -> None:
    start(env)
    numbers = np.zeros(7)
    numbers[3 + axis], numbers[6] = 1.0, CLOSE
    assert act(env, 3, *numbers)[3 + axis] == pytest.approx(3 * ACTION.rotation_unit, abs=5e-3)


def test_turns_compose_about_the_worlds_axes_as_scipy_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        turn, angles = rng.uniform(-0.1, 0.1, 3), rng.uniform(-0.6, 0.6, 3)
        want = Rotation.from_euler("xyz", turn) * Rotation.from_euler("xyz", angles)
        found = Rotation.from_euler("xyz", compose((turn[0], turn[1], turn[2]), *angles))
        assert (want.inv() * found).magnitude() < 1e-9


def test_the_model_turns_the_hand_as_its_angles_say(env: LabEnv) -> None:
    start(env)
    pose = act(env, 3, 0, 0, 0, 0.8, -0.5, 1.0, CLOSE)
    model = env.world.data.body("hand").xmat.reshape(3, 3)
    assert np.allclose(model, Rotation.from_euler("xyz", pose[3:6]).as_matrix(), atol=1e-9)


def test_plus_opens_and_minus_closes(env: LabEnv) -> None:
    start(env)
    assert act(env, 10, 0, 0, 0, 0, 0, 0, OPEN)[6:] == pytest.approx([0.04, 0.04], abs=2e-3)
    assert act(env, 10, 0, 0, 0, 0, 0, 0, CLOSE)[6:] == pytest.approx([0.0, 0.0], abs=2e-3)


def test_pushing_against_the_table_does_not_wind_the_target_up(env: LabEnv) -> None:
    start(env)
    act(env, 40, 0, 0, -1, 0, 0, 0, CLOSE)
    assert env.world.hand.pose()[2] - env.world.hand.target()[2] <= LEASH + 1e-9
    assert act(env, 4, 0, 0, 1, 0, 0, 0, CLOSE)[2] > 0.04


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_action_that_is_not_finite_is_refused(env: LabEnv, bad: float) -> None:
    start(env)
    with pytest.raises(ValueError, match="finite"):
        act(env, 1, bad, 0, 0, 0, 0, 0, CLOSE)
    env.reset(seed=0, options={"task": "shell_game", "trial": 0})  # also while the hand is locked
    with pytest.raises(ValueError, match="finite"):
        act(env, 1, bad, 0, 0, 0, 0, 0, CLOSE)
