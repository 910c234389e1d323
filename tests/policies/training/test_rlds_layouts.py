"""The public layouts: small datasets written in them by tfds, and what is done to their actions (spec, 4.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rlds_making import film, image_feature, numbers_feature, png, text_feature, write_dataset

from policies.training.demos import Demo, DemoError
from policies.training.layouts import absolute, binarised
from policies.training.rlds import read_demos

STEPS = 6
RNG = np.random.default_rng(5)
MOTION = RNG.uniform(-1, 1, (STEPS, 6)).astype(np.float32)
STATE = RNG.uniform(-1, 1, (STEPS, 8)).astype(np.float32)
FRONT, WRIST = film(STEPS, 1), film(STEPS, 2)


def actions(grip: list[float]) -> np.ndarray[Any, Any]:
    return np.concatenate([MOTION, np.array(grip, dtype=np.float32)[:, None]], axis=1)


def written(folder: Path, dataset: str, steps: dict[str, Any], rows: list[dict[str, Any]], **read: Any) -> Demo:
    """The only demonstration of a dataset with these step features and steps."""
    write_dataset(folder, dataset, steps, [rows])
    (demo,) = read_demos(folder, **read)
    return demo


def two_views(front: str, wrist: str, state: str) -> dict[str, Any]:
    observation = {front: image_feature(), wrist: image_feature(), state: numbers_feature(8)}
    return {"observation": observation, "action": numbers_feature(7), "language_instruction": text_feature()}


def two_view_rows(front: str, wrist: str, state: str, action: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    return [
        {
            "observation": {front: png(FRONT[t]), wrist: png(WRIST[t]), state: STATE[t]},
            "action": action[t],
            "language_instruction": "put the bowl on the plate",
        }
        for t in range(STEPS)
    ]


@pytest.mark.parametrize("suite", ["spatial", "object", "goal", "10", "90"])
def test_libero_gripper_is_clipped_and_inverted(tmp_path: Path, suite: str) -> None:
    names = ("image", "wrist_image", "state")
    stored = actions([-1, -1, 1, 1, 0.25, -1])
    demo = written(tmp_path, f"libero_{suite}_no_noops", two_views(*names), two_view_rows(*names, stored))
    assert demo.dataset == f"libero_{suite}_no_noops"
    np.testing.assert_array_equal(demo.actions, actions([1, 1, 0, 0, 0.75, 1]))
    np.testing.assert_array_equal(demo.pictures["agentview"], FRONT)
    np.testing.assert_array_equal(demo.pictures["wrist"], WRIST)
    np.testing.assert_array_equal(demo.state, STATE)
    assert demo.instruction == "put the bowl on the plate"


@pytest.mark.parametrize("name", ["bridge_orig", "bridge_dataset"])
def test_bridge_loses_its_first_frame_and_moves_by_measured_states(tmp_path: Path, name: str) -> None:
    steps = {
        "observation": {"image_0": image_feature(), "state": numbers_feature(7)},
        "action": numbers_feature(7),
        "language_instruction": text_feature(),
    }
    stored = actions([0, 1, 0.5, 0.5, 0, 1])
    rows = [
        {
            "observation": {"image_0": png(FRONT[t]), "state": STATE[t, :7]},
            "action": stored[t],
            "language_instruction": "lift the pot",
        }
        for t in range(STEPS)
    ]
    demo = written(tmp_path, name, steps, rows)
    assert demo.dataset == "bridge_orig", "statistics have one key whatever the edition is called"
    assert demo.state is None
    assert demo.actions is not None
    np.testing.assert_array_equal(demo.pictures["image_0"], FRONT[1:-1])
    np.testing.assert_array_equal(demo.actions[:, :6], STATE[2:, :6] - STATE[1:-1, :6])
    np.testing.assert_array_equal(demo.actions[:, 6], [1, 0, 0, 0])


def test_a_bridge_episode_of_two_steps_is_named(tmp_path: Path) -> None:
    steps = {
        "observation": {"image_0": image_feature(), "state": numbers_feature(7)},
        "action": numbers_feature(7),
        "language_instruction": text_feature(),
    }
    row = {
        "observation": {"image_0": png(FRONT[0]), "state": STATE[0, :7]},
        "action": np.zeros(7, np.float32),
        "language_instruction": "lift",
    }
    with pytest.raises(DemoError, match="dataset bridge_orig, episode 0: a Bridge episode needs 3 steps"):
        written(tmp_path, "bridge_orig", steps, [row, row])


def test_fractal_actions_are_put_together_and_the_gripper_becomes_absolute(tmp_path: Path) -> None:
    steps = {
        "observation": {"image": image_feature(), "natural_language_instruction": text_feature()},
        "action": {
            "world_vector": numbers_feature(3),
            "rotation_delta": numbers_feature(3),
            "gripper_closedness_action": numbers_feature(1),
        },
    }
    closing = [0, 0, 1, 0, -1, 0]
    rows = [
        {
            "observation": {"image": png(FRONT[t]), "natural_language_instruction": "pick coke can"},
            "action": {
                "world_vector": MOTION[t, :3],
                "rotation_delta": MOTION[t, 3:],
                "gripper_closedness_action": np.array([closing[t]], dtype=np.float32),
            },
        }
        for t in range(STEPS)
    ]
    demo = written(tmp_path, "fractal20220817_data", steps, rows)
    np.testing.assert_array_equal(demo.actions, actions([1, 1, 0, 0, 1, 1]))
    assert demo.instruction == "pick coke can"


def test_mikasa_actions_are_used_as_stored(tmp_path: Path) -> None:
    names = ("image", "wrist_image", "state")
    stored = actions([-1, 0.3, 1, 1, -0.2, -1])
    demo = written(tmp_path, "mikasa_dataset", two_views(*names), two_view_rows(*names, stored))
    np.testing.assert_array_equal(demo.actions, stored)
    assert list(demo.pictures) == ["base", "hand"]


@pytest.mark.parametrize("names", [("rgb_static", "rgb_gripper", "robot_obs"), ("image", "wrist_image", "state")])
def test_calvin_gripper_is_clipped(tmp_path: Path, names: tuple[str, str, str]) -> None:
    stored = actions([1, 1, -1, -1, 1, -1])
    demo = written(tmp_path, "calvin_abc", two_views(*names), two_view_rows(*names, stored))
    np.testing.assert_array_equal(demo.actions, actions([1, 1, 0, 0, 1, 0]))
    np.testing.assert_array_equal(demo.pictures["static"], FRONT)
    np.testing.assert_array_equal(demo.pictures["gripper"], WRIST)


def test_custom_fine_tuning_data_is_used_as_stored(tmp_path: Path) -> None:
    steps = {
        "observation": {"image": image_feature()},
        "action": numbers_feature(7),
        "language_instruction": text_feature(),
    }
    rows = [
        {"observation": {"image": png(FRONT[t])}, "action": actions([1] * STEPS)[t], "language_instruction": "fold"}
        for t in range(STEPS)
    ]
    demo = written(tmp_path, "my_own_data", steps, rows, name="custom_finetuning")
    np.testing.assert_array_equal(demo.actions, actions([1] * STEPS))
    assert demo.state is None


def test_an_unknown_layout_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    steps = {
        "observation": {"rgb": image_feature()},
        "action": numbers_feature(7),
        "language_instruction": text_feature(),
    }
    row = {"observation": {"rgb": png(FRONT[0])}, "action": np.zeros(7, np.float32), "language_instruction": "fold"}
    with pytest.raises(DemoError, match=r"dataset strange: no pictures .*observation/rgb.*bridge_orig"):
        written(tmp_path, "strange", steps, [row])


def test_a_bridge_gripper_between_open_and_closed_takes_the_value_it_is_on_the_way_to() -> None:
    found = binarised(np.array([1.0, 0.6, 0.3, 0.0, 0.4, 0.97, 0.5, 0.7], dtype=np.float32))
    np.testing.assert_array_equal(found, np.float32([1, 0, 0, 0, 1, 1, 0.7, 0.7]))


def test_a_relative_gripper_stands_the_other_way_before_its_first_command() -> None:
    np.testing.assert_array_equal(absolute(np.float32([0, 0.05, 1, 0, -1, 0])), [1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(absolute(np.float32([0, -1, 0, 1])), [0, 1, 1, 0])
    np.testing.assert_array_equal(absolute(np.float32([0, 0])), [1, 1])
