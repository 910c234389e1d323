"""`dataset_statistics.json`: as the released checkpoints have it, and never of other data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rlds_making import recorded

from policies.training.data import read_data
from policies.training.demos import Demo, DemoError
from policies.training.rlds import read_actions
from policies.training.rlds_writing import Finished, append
from policies.training.statistics import load_statistics, require_same, statistics_of, write_statistics
from policies.vla.statistics import normalise, read_statistics


def demo(dataset: str, seed: int, steps: int = 50, numbers: int = 7) -> Demo:
    rng = np.random.default_rng(seed)
    return Demo(
        dataset,
        "task",
        seed,
        "go",
        {"front": np.zeros((steps, 2, 2, 3), np.uint8)},
        rng.standard_normal((steps, 8)).astype(np.float32),
        rng.standard_normal((steps, numbers)).astype(np.float32),
    )


def test_statistics_are_those_of_all_transitions_of_each_dataset() -> None:
    demos = [demo("a", 0), demo("b", 1), demo("a", 2, steps=30)]
    found = statistics_of(demos)
    assert sorted(found) == ["a", "b"]
    rows = np.concatenate([demos[0].actions, demos[2].actions]).astype(np.float64)
    entry = found["a"]
    assert (entry["num_transitions"], entry["num_trajectories"]) == (80, 2)
    np.testing.assert_allclose(entry["action"]["mean"], rows.mean(0))
    np.testing.assert_allclose(entry["action"]["std"], rows.std(0))
    np.testing.assert_allclose(entry["action"]["q01"], np.quantile(rows, 0.01, axis=0))
    np.testing.assert_allclose(entry["action"]["q99"], np.quantile(rows, 0.99, axis=0))
    assert entry["action"]["mask"] == [True] * 6 + [False]
    assert len(entry["proprio"]["q01"]) == 8


def test_what_is_written_is_what_policies_read(tmp_path: Path) -> None:
    demos = [demo("a", 0)]
    found = statistics_of(demos)
    write_statistics(found, tmp_path)
    known = read_statistics(tmp_path / "dataset_statistics.json")["a"]
    assert demos[0].actions is not None
    scaled = normalise(demos[0].actions, known)
    assert np.abs(scaled[:, :6]).max() <= 1
    np.testing.assert_array_equal(scaled[:, 6], demos[0].actions[:, 6])
    assert load_statistics(tmp_path / "dataset_statistics.json") == json.loads(json.dumps(found))


def test_a_statistics_file_of_another_dataset_is_refused() -> None:
    path = Path("dataset_statistics.json")
    found = statistics_of([demo("a", 0)])
    require_same(found, found, path)
    with pytest.raises(DemoError, match="has statistics of b, but the demonstrations are of a"):
        require_same(statistics_of([demo("b", 0)]), found, path)
    with pytest.raises(DemoError, match="a has num_transitions=20 there, the demonstrations have 50"):
        require_same(statistics_of([demo("a", 0, steps=20)]), found, path)
    with pytest.raises(DemoError, match="q01 of a is"):
        require_same(statistics_of([demo("a", 1)]), found, path)


def test_a_dataset_with_the_statistics_of_another_is_refused_when_it_is_read(tmp_path: Path) -> None:
    for name, first in (("one", 0), ("two", 10)):
        append(tmp_path / name, [Finished(recorded(first + k), True, "hash") for k in range(2)], {})
        write_statistics(statistics_of(read_actions(tmp_path / name)), tmp_path / name)
        read_data([tmp_path / name])
    (tmp_path / "one" / "dataset_statistics.json").write_bytes(
        (tmp_path / "two" / "dataset_statistics.json").read_bytes().replace(b'"two"', b'"one"')
    )
    with pytest.raises(DemoError, match=r"q01 of one is .* remove the file"):
        read_data([tmp_path / "one"])


def test_a_file_that_is_no_statistics_is_refused(tmp_path: Path) -> None:
    for text in ("{", "[]", "{}", '{"a": {"q01": []}}'):
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(DemoError, match="cannot be used"):
            load_statistics(tmp_path / "s.json")
    with pytest.raises(DemoError, match="cannot be used"):
        load_statistics(tmp_path / "none.json")


def test_action_sizes_that_differ_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(DemoError, match="its actions have 7 and 8 numbers"):
        statistics_of([demo("a", 0), demo("a", 1, numbers=8)])
    broken = demo("a", 0)
    assert broken.actions is not None
    broken.actions[3, 2] = np.nan
    with pytest.raises(DemoError, match="NaN or infinite"):
        statistics_of([broken])


def test_videos_without_labels_have_no_statistics() -> None:
    video = demo("a", 0)
    assert statistics_of([Demo("a", "t", 0, "go", video.pictures, None, None)]) == {}
