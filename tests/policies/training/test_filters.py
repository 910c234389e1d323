"""No-op removal and the real-robot frame filter."""

from __future__ import annotations

import numpy as np
import pytest
from rlds_making import recorded
from scipy.spatial.transform import Rotation as Turn

from policies.training.demos import DemoError
from policies.training.filters import changed_places, filtered, moving


def test_a_noop_neither_moves_nor_changes_the_gripper_since_the_last_step_kept() -> None:
    grip = [1, 1, 0, 0, 1, 1, 0]
    actions = np.zeros((7, 7))
    actions[:, 6] = grip
    actions[1, 2] = actions[5, 0] = 0.5
    actions[3, 1] = 1e-5
    np.testing.assert_array_equal(moving(actions), [False, True, True, False, True, True, True])


def test_a_frame_is_kept_when_the_tip_moved_turned_or_waited() -> None:
    positions = np.zeros((260, 3))
    positions[3:, 0] = 0.009  # too little
    positions[5:, 0] = 0.0101
    angles = np.zeros(260)
    angles[8:] = 0.41
    kept = np.flatnonzero(changed_places(positions, Turn.from_rotvec(angles[:, None] * [0, 0, 1])))
    np.testing.assert_array_equal(kept, [0, 5, 8, 128, 248])


def test_small_steps_add_up_since_the_last_kept_frame() -> None:
    positions = np.zeros((40, 3))
    positions[:, 1] = 0.003 * np.arange(40)
    kept = np.flatnonzero(changed_places(positions, Turn.identity(40)))
    np.testing.assert_array_equal(kept, np.arange(0, 40, 4))


def test_filtered_episodes_are_labelled_with_the_way_to_the_next_kept_frame() -> None:
    state = np.zeros((9, 8), dtype=np.float32)
    state[:, 0] = 0.004 * np.arange(9)
    state[:, 5] = 0.1 * np.arange(9)
    episode = filtered(recorded(0, steps=9, state=state), still=True)
    np.testing.assert_array_equal(episode.timesteps, [0, 3])
    assert episode.actions is not None
    np.testing.assert_allclose(episode.actions[:, 0], 0.012 / 0.02, rtol=1e-5)
    np.testing.assert_allclose(episode.actions[:, 5], 0.3 / 0.1, rtol=1e-5)
    np.testing.assert_array_equal(episode.actions[:, 6], recorded(0, steps=9).executed[[0, 3], 6])
    assert episode.action.limit is None, "a way between frames may be longer than one control step"
    assert len(episode.pictures["front"]) == len(episode.instructions) == 2


def test_noops_go_with_everything_that_belongs_to_them() -> None:
    whole = recorded(0)
    assert whole.actions is not None
    whole.actions[2, :6] = 0
    whole.actions[2, 6] = whole.actions[1, 6]
    short = filtered(whole, noops=True)
    np.testing.assert_array_equal(short.timesteps, [0, 1, 3, 4])
    assert short.pictures["wrist"] == [whole.pictures["wrist"][t] for t in (0, 1, 3, 4)]


def test_what_cannot_be_filtered_is_refused() -> None:
    with pytest.raises(DemoError, match="told by labels, and it has none"):
        filtered(recorded(0, actions=None), noops=True)
    with pytest.raises(DemoError, match="every step is a no-op"):
        filtered(recorded(0, actions=np.zeros((5, 7), np.float32)), noops=True)
    with pytest.raises(DemoError, match="needs a state that begins with the tip's"):
        filtered(recorded(0, state=None, state_names=()), still=True)
    with pytest.raises(DemoError, match="it never moved"):
        filtered(recorded(0, state=np.zeros((5, 8), np.float32)), still=True)
