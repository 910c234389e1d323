"""Our own RLDS datasets: any RLDS tool reads them, nothing is lost when writing fails, and damage is named."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from rlds_making import film, image_feature, numbers_feature, png, recorded, text_feature, write_dataset

from envs.spec import ActionSpec
from policies.training.demos import DemoError
from policies.training.episodes import Episode, action_spec, file_name, read_episode, write_episode
from policies.training.rlds import read_demos
from policies.training.rlds_writing import Finished, append, packed_scenes, read_collection
from policies.training.tfds import load_tfds


def finished(*episodes: Episode, success: bool = True) -> list[Finished]:
    return [Finished(episode, success, f"hash-{episode.trial}") for episode in episodes]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "demos"
    assert append(folder, finished(recorded(0), recorded(1, steps=3)), {}) == 2
    return folder


def test_a_recorded_episode_survives_the_disk_whole(tmp_path: Path) -> None:
    astray = recorded(5, off_course=np.arange(len(recorded(5))) < 2)
    for episode in (recorded(3), recorded(4, actions=None, kind="play", state=None, state_names=()), astray):
        found = read_episode(write_episode(episode, tmp_path))
        for name in vars(episode):
            np.testing.assert_equal(getattr(found, name), getattr(episode, name), err_msg=name)


def test_parts_of_an_episode_have_one_length() -> None:
    with pytest.raises(DemoError, match=r"one length, \d+ steps, were .*'off_course': 3"):
        recorded(1, off_course=np.zeros(3, dtype=bool))


def test_any_rlds_tool_reads_what_is_written(dataset: Path) -> None:
    builder = load_tfds().builder_from_directory(str(dataset))
    examples = list(builder.as_dataset(split="train"))
    assert builder.info.splits["train"].num_examples == len(examples) == 2
    said = examples[1]["episode_metadata"]
    assert (said["task"].numpy(), said["trial"].numpy(), said["scene_hash"].numpy()) == (b"press", 1, b"hash-1")
    steps = list(examples[1]["steps"])
    np.testing.assert_array_equal([step["observation"]["image_front"] for step in steps], film(3, 1))
    np.testing.assert_array_equal([step["action"] for step in steps], recorded(1, steps=3).actions)
    np.testing.assert_array_equal([step["executed_action"] for step in steps], recorded(1, steps=3).executed)
    assert [bool(step["is_first"]) for step in steps] == [True, False, False]
    assert [bool(step["is_last"]) for step in steps] == [False, False, True]
    assert [float(step["reward"]) for step in steps] == [0.0, 0.0, 1.0]
    assert [int(step["timestep"]) for step in steps] == [0, 1, 2]


def test_pictures_looked_at_one_by_one_are_those_decoded_at_once(dataset: Path) -> None:
    at_once, later = (list(read_demos(dataset, encoded=encoded)) for encoded in (False, True))
    for whole, lazy in zip(at_once, later, strict=True):
        for camera, video in whole.pictures.items():
            found = lazy.pictures[camera]
            assert len(found) == len(video)
            for frames in (1, -1, slice(None), slice(1, 3), np.array([2, 0, 2])):
                np.testing.assert_array_equal(found[frames], video[frames])


def test_the_action_convention_is_part_of_every_episode(dataset: Path) -> None:
    example = next(iter(load_tfds().builder_from_directory(str(dataset)).as_dataset(split="train")))
    found: ActionSpec = action_spec(json.loads(example["episode_metadata"]["action_spec"].numpy()))
    assert found == recorded(0).action


def test_a_failed_episode_that_is_kept_says_so(tmp_path: Path) -> None:
    append(tmp_path / "d", finished(recorded(0), success=False), {})
    example = next(iter(load_tfds().builder_from_directory(str(tmp_path / "d")).as_dataset(split="train")))
    assert not example["episode_metadata"]["success"]
    assert [float(step["reward"]) for step in example["steps"]] == [0.0] * 5


def test_demonstrations_come_back_bit_for_bit(dataset: Path) -> None:
    demos = list(read_demos(dataset))
    assert [(demo.dataset, demo.task, demo.trial, len(demo)) for demo in demos] == [
        ("demos", "press", 0, 5),
        ("demos", "press", 1, 3),
    ]
    for demo, episode in zip(demos, (recorded(0), recorded(1, steps=3)), strict=True):
        np.testing.assert_array_equal(demo.pictures["wrist"], film(len(episode), episode.trial))
        np.testing.assert_array_equal(demo.state, episode.state)
        np.testing.assert_array_equal(demo.actions, episode.actions)


def test_only_the_cameras_asked_for_are_decoded_at_the_size_asked_for(dataset: Path) -> None:
    demo = next(read_demos(dataset, cameras=["wrist"], size=8))
    assert {name: video.shape for name, video in demo.pictures.items()} == {"wrist": (5, 8, 8, 3)}
    with pytest.raises(DemoError, match="no camera top; there are front, wrist"):
        next(read_demos(dataset, cameras=["top"]))


def test_a_video_without_labels_has_no_actions(tmp_path: Path) -> None:
    append(tmp_path / "d", finished(recorded(0, actions=None, kind="play")), {})
    assert next(read_demos(tmp_path / "d")).actions is None


def test_an_episode_under_two_instructions_becomes_two_demonstrations(tmp_path: Path) -> None:
    append(tmp_path / "d", finished(recorded(0, instructions=("open",) * 2 + ("close",) * 3)), {})
    assert [(demo.instruction, len(demo)) for demo in read_demos(tmp_path / "d")] == [("open", 2), ("close", 3)]


def test_appending_keeps_what_was_there(dataset: Path) -> None:
    append(dataset, finished(recorded(2)), {"note": 1})
    assert [demo.trial for demo in read_demos(dataset)] == [0, 1, 2]
    collection = read_collection(dataset)
    assert (collection["episodes"], collection["transitions"], collection["note"]) == (3, 13, 1)
    assert packed_scenes(dataset) == {("lab_general", "press", trial) for trial in range(3)}


def test_a_dataset_keeps_its_name_when_its_folder_is_moved(dataset: Path, tmp_path: Path) -> None:
    moved = dataset.rename(tmp_path / "elsewhere")
    append(moved, finished(recorded(2)), {})
    assert [(demo.dataset, demo.trial) for demo in read_demos(moved)] == [("demos", trial) for trial in range(3)]


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_an_append_that_was_killed_while_files_were_moved_is_finished_later(
    dataset: Path, tmp_path: Path, done: int
) -> None:
    """A kill leaves the folder `.ready` with the files that were not moved yet, the dataset's description last."""
    before = tmp_path / "before"
    shutil.copytree(dataset, before)
    append(dataset, finished(recorded(2)), {})
    names = ["demos-train.tfrecord-00001", "features.json", "collection.json", "dataset_info.json"]
    (before / ".ready").mkdir()
    for number, name in enumerate(names):
        shutil.copy(dataset / name, before / name if number < done else before / ".ready" / name)
    assert len(packed_scenes(before)) == 3
    assert [demo.trial for demo in read_demos(before)] == [0, 1, 2]


def test_an_episode_that_does_not_fit_is_refused_and_the_dataset_stays(dataset: Path) -> None:
    with pytest.raises(DemoError, match=r"press/2#1 does not fit.*actions is 8, was 7"):
        append(dataset, finished(recorded(2, numbers=8)), {})
    assert [demo.trial for demo in read_demos(dataset)] == [0, 1]
    assert not (dataset / ".staging").exists()


def test_a_full_disk_leaves_the_dataset_as_it_was(dataset: Path) -> None:
    """The limit on a file's size stands for a full disk: the kernel refuses the write in both cases."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"\w"):
            append(dataset, finished(*(recorded(trial, steps=40) for trial in range(2, 6))), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [demo.trial for demo in read_demos(dataset)] == [0, 1]
    append(dataset, finished(recorded(2)), {})
    assert [demo.trial for demo in read_demos(dataset)] == [0, 1, 2]


def test_a_full_disk_leaves_no_half_episode(tmp_path: Path) -> None:
    path = tmp_path / file_name("lab_general", "press", 0, 1)
    path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_episode(recorded(0), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_or_missing_recorded_episode_is_named(tmp_path: Path) -> None:
    path = write_episode(recorded(0), tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DemoError, match=r"press_000000_1.npz is damaged"):
        read_episode(path)
    path.unlink()
    with pytest.raises(DemoError, match="is missing although its attempt is on record"):
        read_episode(path)


def test_a_truncated_file_is_an_error_and_never_a_shorter_dataset(dataset: Path) -> None:
    file = dataset / "demos-train.tfrecord-00000"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])  # in the middle of the last record
    with pytest.raises(DemoError, match=r"a file is damaged after 1 of 2 episodes"):
        list(read_demos(dataset))
    size = int.from_bytes(whole[:8], "little") + 16
    file.write_bytes(whole[:size])  # exactly between two records
    with pytest.raises(DemoError, match=r"damaged after 1 of 2 episodes .*expected to contain 2"):
        list(read_demos(dataset))


def test_a_description_that_promises_no_episodes_is_an_error(dataset: Path) -> None:
    file = dataset / "dataset_info.json"
    described = json.loads(file.read_text())
    for split in described["splits"]:
        split["shardLengths"] = ["0"]
    file.write_text(json.dumps(described))
    with pytest.raises(DemoError, match=r"split 'train' cannot be read .* says that it has 0 episodes"):
        next(read_demos(dataset))


def test_missing_files_and_folders_are_named(dataset: Path, tmp_path: Path) -> None:
    (dataset / "demos-train.tfrecord-00000").unlink()
    with pytest.raises(DemoError, match=r"lacks 1 of 1 files, the first is .*tfrecord-00000"):
        next(read_demos(dataset))
    with pytest.raises(DemoError, match=r"is no RLDS dataset: it has no dataset_info.json; did you mean .*demos"):
        next(read_demos(tmp_path))
    append(tmp_path / "other", finished(recorded(0)), {})
    with pytest.raises(DemoError, match="no split 'test'; there are train"):
        next(read_demos(tmp_path / "other", split="test"))


def test_a_dataset_without_language_is_refused(tmp_path: Path) -> None:
    append(tmp_path / "d", finished(recorded(0, instructions=("",) * 5)), {})
    with pytest.raises(DemoError, match="none of its 1 episodes has a language instruction"):
        next(read_demos(tmp_path / "d"))
    append(tmp_path / "d", finished(recorded(1)), {})
    assert [demo.trial for demo in read_demos(tmp_path / "d")] == [1], "episodes without language are skipped"


def test_other_action_sizes_are_refused(tmp_path: Path) -> None:
    steps = {
        "observation": {"image_front": image_feature()},
        "action": numbers_feature(8),
        "language_instruction": text_feature(),
    }
    one = {
        "observation": {"image_front": png(film(1, 0)[0])},
        "action": np.zeros(8, np.float32),
        "language_instruction": "go",
    }
    write_dataset(tmp_path, "eight", steps, [[one]])
    with pytest.raises(
        DemoError, match=r"dataset eight, episode 0: its actions have shape \[1, 8\], expected \[T, 7\]"
    ):
        next(read_demos(tmp_path))


def test_reading_in_many_threads_keeps_the_order(tmp_path: Path) -> None:
    append(tmp_path / "d", finished(*(recorded(trial, steps=1 + trial % 4) for trial in range(30))), {})
    assert [demo.trial for demo in read_demos(tmp_path / "d", threads=4)] == list(range(30))
    assert len(list(read_demos(tmp_path / "d", limit=7))) == 7
    assert os.listdir(tmp_path) == ["d"]
