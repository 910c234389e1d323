"""`memvla collect`: demonstrations through the evaluation engine, on the lab itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from envs.lab.env import LabEnv
from harness.collect import collect, compose_collect
from harness.config import ConfigError
from policies.base import PolicyError
from policies.training.demos import Demo, DemoError
from policies.training.rlds import read_demos
from policies.training.rlds_writing import read_collection
from policies.training.tfds import load_tfds
from policies.training.windows import next_waypoints, shown_waypoints, waypoints_of
from reports.manifest import ManifestError
from reports.records import RecordStore
from suites.protocol import load_suite

PRESS = ("suite=lab_general", "policy=expert", "collect.tasks=[press_by_colour]", "cluster=inline")


def run(folder: Path, *words: str) -> int:
    command = [f"collect.dir={folder}", *words]
    return collect(compose_collect(command), Console(quiet=True), ["memvla", "collect", *command])


def steps_of(folder: Path) -> list[dict[str, np.ndarray]]:  # type: ignore[type-arg]
    """All steps of each episode as stored, and its metadata."""
    tfds = load_tfds()
    data = tfds.builder_from_directory(str(folder)).as_dataset(
        split="train", decoders={"steps": tfds.decode.SkipDecoding()}
    )
    return [{**example["steps"], **example["episode_metadata"]} for example in data.as_numpy_iterator()]


def test_demonstrations_are_recorded_with_all_that_training_needs(tmp_path: Path) -> None:
    assert run(tmp_path / "press", *PRESS, "collect.trials=2") == 0
    demos = list(read_demos(tmp_path / "press"))
    assert [(demo.dataset, demo.task, demo.trial) for demo in demos] == [
        ("press", "press_by_colour", 0),
        ("press", "press_by_colour", 1),
    ]
    for demo in demos:
        assert {name: video.shape[1:] for name, video in demo.pictures.items()} == {
            "front": (64, 64, 3),
            "wrist": (64, 64, 3),
        }
        assert demo.state is not None
        assert demo.actions is not None
        assert set(demo.actions[:, 6]) <= {0.0, 1.0}
        assert "button" in demo.instruction
    statistics = json.loads((tmp_path / "press" / "dataset_statistics.json").read_text())
    assert statistics["press"]["num_transitions"] == sum(map(len, demos))
    assert not list((tmp_path / "press" / "recording" / "episodes").iterdir()), "nothing waits any more"


def test_labels_carried_out_in_the_recorded_scene_solve_the_task(tmp_path: Path) -> None:
    """The recorded convention, scene seed and pictures are true: a replay sees and does the same."""
    from dataclasses import replace

    from envs.conversions import converter
    from envs.spec import Gripper

    run(tmp_path / "d", *PRESS, "collect.trials=1")
    (stored,), (demo,) = steps_of(tmp_path / "d"), list(read_demos(tmp_path / "d"))
    suite = load_suite("lab_general")
    env = suite.module.make(**suite.env)
    convert = converter(replace(env.env_spec.action, gripper=Gripper(1.0, 0.0)), env.env_spec.action)
    _, info = env.reset(seed=int(stored["scene_seed"]), options={"task": demo.task, "trial": demo.trial})
    assert info["scene_hash"] == stored["scene_hash"].decode()
    assert demo.actions is not None
    for t, action in enumerate(demo.actions):
        np.testing.assert_array_equal(env.observe().images["front"], demo.pictures["front"][t])
        result = env.step_chunk(convert(action[None]))
    assert result.success


def test_noise_is_carried_out_and_labels_stay_clean(tmp_path: Path) -> None:
    run(tmp_path / "d", *PRESS, "collect.trials=3", "collect.noise=0.4")
    episodes = steps_of(tmp_path / "d")
    done = np.concatenate([episode["executed_action"] for episode in episodes])
    noise = done - np.concatenate([episode["action"] for episode in episodes])
    assert (noise[:, 6] == 0).all(), "the gripper is not disturbed"
    assert np.abs(done).max() <= 1
    for number in range(6):
        free = np.abs(done[:, number]) < 1  # not cut at the limit
        assert noise[free, number].std() > 0.2, "every motion number is disturbed, height included"


def test_noise_on_turns_can_be_weaker(tmp_path: Path) -> None:
    run(tmp_path / "d", *PRESS, "collect.trials=2", "collect.noise=0.4", "collect.turning=0.1")
    episodes = steps_of(tmp_path / "d")
    noise = np.concatenate([episode["executed_action"] - episode["action"] for episode in episodes])
    assert noise[:, 3:6].std() < 0.1 < noise[:, :3].std()


def test_noise_keeps_its_direction_for_a_while() -> None:
    from harness.recording import Drift

    drift = Drift(np.random.default_rng(0), 6, 0.8)
    rows = np.stack([drift.next() for _ in range(4000)])
    assert rows.std() == pytest.approx(1.0, abs=0.05)
    along = [np.corrcoef(rows[:-1, k], rows[1:, k])[0, 1] for k in range(6)]
    assert along == pytest.approx([0.8] * 6, abs=0.04)


def test_an_episode_off_course_is_pushed_first_and_recorded_from_there(tmp_path: Path) -> None:
    words = (*PRESS, "collect.trials=3", "collect.off_course=1")
    run(tmp_path / "cut", *words)
    run(tmp_path / "whole", *words, "collect.off_course_recorded=true")
    for cut, whole in zip(steps_of(tmp_path / "cut"), steps_of(tmp_path / "whole"), strict=True):
        pushed = int(cut["pushed"])
        assert 3 <= pushed <= 12
        np.testing.assert_array_equal(whole["timestep"][:2], [0, 1])
        np.testing.assert_array_equal(cut["timestep"], whole["timestep"][pushed:])
        np.testing.assert_array_equal(cut["action"], whole["action"][pushed:])
        assert not np.array_equal(whole["action"][:pushed, :6], whole["executed_action"][:pushed, :6])
        np.testing.assert_array_equal(cut["action"], cut["executed_action"])
        np.testing.assert_array_equal(whole["off_course"], np.arange(len(whole["timestep"])) < pushed)
        assert "off_course" not in cut
    read = {name: list(read_demos(tmp_path / name)) for name in ("cut", "whole")}
    assert [demo.off_course is None for demo in read["cut"]] == [True] * 3
    assert all(np.array_equal(demo.off_course, np.arange(len(demo)) < demo.off_course.sum()) for demo in read["whole"])


def test_a_push_waits_until_the_cue_is_gone(tmp_path: Path) -> None:
    """A memory task locks the hand while it shows its cue: those frames are all in the record."""
    run(
        tmp_path / "d",
        "suite=lab_memory",
        "policy=expert",
        "cluster=inline",
        "collect.tasks=[remember_colour_3]",
        "collect.trials=2",
        "collect.off_course=1",
    )
    for episode in steps_of(tmp_path / "d"):
        gaps = np.flatnonzero(np.diff(episode["timestep"]) > 1)
        assert episode["timestep"][0] == 0
        assert len(gaps) == 1
        assert gaps[0] >= 10, "the lamp is lit for some steps first"
        assert np.diff(episode["timestep"])[gaps[0]] == int(episode["pushed"]) + 1


def test_failed_episodes_are_left_out_and_counted(tmp_path: Path) -> None:
    words = ("suite=lab_general", "policy=expert", "collect.tasks=[stack]", "cluster=inline", "collect.trials=3")
    run(tmp_path / "d", *words, "collect.noise=1.5")
    with RecordStore(tmp_path / "d" / "recording" / "attempts" / "episodes.sqlite") as store:
        outcomes = {record.trial: record.outcome for record in store.episodes()}
    assert "failure" in outcomes.values(), "so much noise must spoil something"
    kept = [] if "success" not in outcomes.values() else [demo.trial for demo in read_demos(tmp_path / "d")]
    assert kept == [trial for trial, outcome in sorted(outcomes.items()) if outcome == "success"]
    counted = read_collection(tmp_path / "d")["attempts"]["lab_general/stack"]
    assert counted["failure"] == sum(outcome == "failure" for outcome in outcomes.values())


def test_a_collection_is_resumed_and_grows(tmp_path: Path) -> None:
    assert run(tmp_path / "d", *PRESS, "collect.trials=1") == 0
    first = (tmp_path / "d" / "d-train.tfrecord-00000").read_bytes()
    assert run(tmp_path / "d", *PRESS, "collect.trials=3") == 0
    assert [demo.trial for demo in read_demos(tmp_path / "d")] == [0, 1, 2]
    assert (tmp_path / "d" / "d-train.tfrecord-00000").read_bytes() == first
    with pytest.raises(ManifestError):
        run(tmp_path / "d", *PRESS, "collect.trials=3", "collect.noise=0.2")


def test_the_same_command_gives_the_same_demonstrations(tmp_path: Path) -> None:
    words = (*PRESS, "collect.trials=2", "collect.noise=0.3")
    run(tmp_path / "a" / "d", *words)
    run(tmp_path / "b" / "d", *words)
    run(tmp_path / "c" / "d", *words, "collect.seed=1")

    def actions(name: str) -> list[np.ndarray]:  # type: ignore[type-arg]
        return [episode["executed_action"] for episode in steps_of(tmp_path / name / "d")]

    for one, other in zip(actions("a"), actions("b"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(
        len(one) != len(other) or (one != other).any() for one, other in zip(actions("a"), actions("c"), strict=True)
    )


def test_an_episode_that_ends_while_it_is_pushed_is_its_last_frame(tmp_path: Path) -> None:
    words = ("suite=point", "policy=expert", "cluster=inline", "collect.trials=2", "protocol.max_steps=2")
    run(tmp_path / "d", *words, "collect.off_course=1", "collect.keep_failed=true")
    assert [(len(demo), demo.actions is not None) for demo in read_demos(tmp_path / "d")] == [(1, True), (1, True)]


def test_an_episode_of_which_a_filter_leaves_nothing_is_left_out_and_counted(tmp_path: Path) -> None:
    words = ("suite=point", "policy=random", "policy.chunk=1", "policy.scale=0", "cluster=inline", "collect.trials=2")
    for _ in range(2):
        assert run(tmp_path / "d", *words, "collect.drop_noops=true", "collect.keep_failed=true") == 0
        assert read_collection(tmp_path / "d")["filtered_to_nothing"] == ["point/reach/0", "point/reach/1"]
    with pytest.raises(DemoError, match="is no RLDS dataset"):
        next(read_demos(tmp_path / "d"))


def test_a_learner_is_executed_as_the_command_or_the_suite_or_it_says(tmp_path: Path) -> None:
    words = ("suite=point", "policy=expert", "learner=random", "learner.chunk=4", "cluster=inline", "collect.trials=2")
    run(tmp_path / "as_it_says", *words, "protocol.max_steps=8")
    run(tmp_path / "as_told", *words, "protocol.max_steps=8", "protocol.execute=2")
    for one, other in zip(steps_of(tmp_path / "as_it_says"), steps_of(tmp_path / "as_told"), strict=True):
        np.testing.assert_array_equal(one["executed_action"][:2], other["executed_action"][:2])
        assert not np.array_equal(one["executed_action"][2:4], other["executed_action"][2:4])
    with pytest.raises(PolicyError, match="answers with 4 actions, 5 are to be executed"):
        run(tmp_path / "more", *words, "protocol.execute=5")


def test_workers_of_a_cluster_record_what_one_process_records(tmp_path: Path) -> None:
    words = (*PRESS[:3], "collect.trials=4", "collect.noise=0.3")
    run(tmp_path / "inline" / "d", *words, "cluster=inline")
    run(tmp_path / "ray" / "d", *words, "cluster=local", "cluster.workers=2")
    for one, other in zip(steps_of(tmp_path / "inline" / "d"), steps_of(tmp_path / "ray" / "d"), strict=True):
        assert one["scene_hash"] == other["scene_hash"]
        np.testing.assert_array_equal(one["executed_action"], other["executed_action"])
        np.testing.assert_array_equal(one["action"], other["action"])
        assert list(one["observation"]["image_front"]) == list(other["observation"]["image_front"])


def test_a_learner_acts_and_the_expert_labels(tmp_path: Path) -> None:
    words = (*PRESS, "collect.trials=2", "learner=random", "learner.scale=0.7", "protocol.max_steps=20")
    run(tmp_path / "d", *words)
    episodes = steps_of(tmp_path / "d")
    assert len(episodes) == 2, "episodes that fail are kept: their labels are right"
    for episode in episodes:
        assert episode["kind"] == b"relabelled"
        assert np.abs(episode["executed_action"][:, :6]).max() <= 0.7 + 1e-6
        assert not np.allclose(episode["executed_action"][:, :6], episode["action"][:, :6])


def test_beta_is_the_share_of_calls_in_which_the_expert_drives(tmp_path: Path) -> None:
    words = (*PRESS, "collect.trials=6", "learner=random", "learner.chunk=4")
    run(tmp_path / "d", *words, "collect.beta=0.5")
    shares, lengths = [], []
    for episode in steps_of(tmp_path / "d"):
        same = (episode["executed_action"][:, :6] == episode["action"][:, :6]).all(axis=1)
        shares.append(same.mean())
        lengths += [len(set(same[begin : begin + 4])) for begin in range(0, len(same), 4)]
    assert 0.2 < np.mean(shares) < 0.8
    assert set(lengths) == {1}, "who drives changes with the learner's calls only"


def test_the_expert_takes_over_where_the_learner_has_led(tmp_path: Path) -> None:
    """The learner's steps are not recorded, and what is recorded was carried out by the expert, label by label."""
    words = (*PRESS, "collect.trials=3", "learner=random", "learner.chunk=4", "collect.takeover=true")
    words = (*words, "collect.off_course=1", "collect.off_course_steps=10")
    assert run(tmp_path / "led", *words, "learner.scale=0.7") == 0
    assert run(tmp_path / "still", *words, "learner.scale=0") == 0
    run(tmp_path / "own", *PRESS, "collect.trials=3")
    own = [episode["observation"]["state"][0, :3] for episode in steps_of(tmp_path / "own")]
    for name, moved in (("led", True), ("still", False)):
        episodes = steps_of(tmp_path / name)
        assert len(episodes) == 3
        for episode, begun in zip(episodes, own, strict=True):
            assert episode["kind"] == b"demonstration"
            assert 3 <= episode["pushed"] == episode["timestep"][0] <= 10
            np.testing.assert_allclose(episode["executed_action"][:, :6], episode["action"][:, :6], atol=1e-6)
            off = np.linalg.norm(episode["observation"]["state"][0, :3] - begun)
            assert (off > 0.02) if moved else (off < 0.01)


def test_a_learner_that_is_taken_over_from_has_seen_the_cue(tmp_path: Path) -> None:
    """Its memory needs the frames in which the simulator takes no commands, though it does not drive in them."""
    notes = tmp_path / "notes"
    words = ("suite=lab_memory", "policy=expert", "collect.tasks=[remember_colour_3]", "cluster=inline")
    words = (*words, "collect.trials=1", "learner=slow", f"learner.notes={notes}", "learner.sleep=0")
    words = (*words, "collect.takeover=true", "protocol.execute=1")
    assert run(tmp_path / "d", *words, "collect.off_course=1", "collect.off_course_steps=3") == 0
    (episode,) = steps_of(tmp_path / "d")
    times = episode["timestep"]
    gap = int(np.flatnonzero(np.diff(times) > 1)[0])
    assert times[0] == 0
    assert times[gap] > 0
    assert times[gap + 1] - times[gap] == 1 + episode["pushed"] == 4
    assert len(notes.read_text().splitlines()) == times[gap + 1], "a call for every step until it is taken over from"


def test_a_first_frame_knows_where_the_hand_acts_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same scene recorded whole says the same, and only the first frame of each episode is drawn."""
    words = (*PRESS, "collect.tasks=[press_by_colour,pick_place_by_colour]", "collect.trials=2")
    assert run(tmp_path / "whole", *words) == 0
    drawn: list[str] = []
    draw = LabEnv.draw
    monkeypatch.setattr(LabEnv, "draw", lambda self, camera: (drawn.append(camera), draw(self, camera))[1])
    assert run(tmp_path / "first", *words, "collect.first_frame=true") == 0
    before = len(drawn) - 2 * 4  # the check that these scenes are not evaluation's draws too
    assert sorted(drawn[before:]) == ["front"] * 4 + ["wrist"] * 4
    assert before <= 2 * 4
    whole, first = list(read_demos(tmp_path / "whole")), list(read_demos(tmp_path / "first"))
    assert len(first) == len(whole) == 4
    for demo, beginning in zip(whole, first, strict=True):
        assert len(beginning) == 1
        assert (beginning.task, beginning.trial) == (demo.task, demo.trial)
        assert beginning.state is not None
        assert demo.state is not None
        assert np.array_equal(beginning.state[0], demo.state[0])
        for camera in demo.pictures:
            assert np.array_equal(beginning.pictures[camera][0], demo.pictures[camera][0])
        found = next_waypoints(beginning)
        assert np.array_equal(found, next_waypoints(demo)[:1])
        assert np.linalg.norm(found[0] - demo.state[0, :3]) > 0.05, "it names a place to go to"


def test_a_moving_ball_is_told_where_it_is_and_not_where_it_ends(tmp_path: Path) -> None:
    words = ("suite=lab_memory", "policy=expert", "collect.tasks=[shell_game]", "cluster=inline", "collect.trials=4")
    assert run(tmp_path / "d", *words) == 0
    for demo in read_demos(tmp_path / "d"):
        assert demo.state is not None
        assert demo.actions is not None
        assert demo.due is not None
        assert np.array_equal(next_waypoints(demo), demo.due)
        assert np.array_equal(shown_waypoints(demo), demo.due), "the frames that show it show it where it is"
        final = waypoints_of(demo.state, demo.actions)
        locked = np.flatnonzero(np.abs(np.diff(demo.state[:, :3], axis=0)).max(1) > 1e-3)[0]
        there = np.linalg.norm(demo.due - final, axis=1) < 0.04
        assert not there[:locked].all(), "it is swapped at least once"
        assert there[locked:].all()
        assert np.linalg.norm(np.diff(demo.due[:locked], axis=0), axis=1).max() < 0.06, "it moves and does not jump"


def test_a_frame_with_a_cue_says_where_the_cue_leads_even_where_others_come_first(tmp_path: Path) -> None:
    words = ("suite=lab_memory", "policy=expert", "collect.tasks=[press_order]", "cluster=inline", "collect.trials=1")
    assert run(tmp_path / "d", *words) == 0
    (demo,) = read_demos(tmp_path / "d")
    assert demo.waypoints is not None
    assert demo.state is not None
    assert demo.actions is not None
    assert not demo.beginning
    goes, shown = next_waypoints(demo), shown_waypoints(demo)
    off = np.linalg.norm(goes - waypoints_of(demo.state, demo.actions), axis=1)
    assert np.mean(off < 0.02) > 0.95, "but for the moment of a press, hindsight tells what is due"
    assert np.array_equal(shown, demo.waypoints)
    changes = np.flatnonzero((np.diff(goes, axis=0) != 0).any(1)) + 1
    pressed = goes[[0, *changes]]  # the three places in the order in which the hand went there
    assert len(pressed) == 3
    told = np.linalg.norm(shown[:, None, :2] - pressed[None, :, :2], axis=2).argmin(1)
    free = int(np.flatnonzero(np.abs(np.diff(demo.state[:, :3], axis=0)).max(1) > 1e-3)[0])
    lights = [int(told[t]) for t in range(free) if not np.array_equal(shown[t], goes[t])]
    assert lights == [1] * 10 + [2] * 10, "the later lights, each named while it shines; the first is due all along"
    assert np.array_equal(shown[free:], goes[free:])


def test_what_is_due_does_not_depend_on_who_presses(tmp_path: Path) -> None:
    """A learner that presses the first button in its turn has done so: what follows is the second's."""
    words = ("suite=lab_memory", "policy=expert", "collect.tasks=[press_order_marked]", "cluster=inline")
    words = (*words, "collect.trials=2", "protocol.execute=1")
    assert run(tmp_path / "own", *words) == 0
    words = (*words, "learner=expert", "collect.takeover=true", "collect.off_course=1", "collect.off_course_steps=60")
    assert run(tmp_path / "led", *words, "collect.off_course_recorded=true") == 0
    for own, led in zip(read_demos(tmp_path / "own"), read_demos(tmp_path / "led"), strict=True):
        assert led.off_course is not None
        assert led.off_course.any()
        assert np.array_equal(next_waypoints(led), next_waypoints(own)), "the same hand moves, under another name"
        assert len(np.unique(next_waypoints(led), axis=0)) >= 3


def test_first_frames_and_whole_episodes_are_datasets_apart(tmp_path: Path) -> None:
    assert run(tmp_path / "d", *PRESS, "collect.trials=1") == 0
    with pytest.raises(ManifestError, match="first_frame"):
        run(tmp_path / "d", *PRESS, "collect.trials=2", "collect.first_frame=true")


def test_play_videos_have_no_labels(tmp_path: Path) -> None:
    words = ("suite=lab_imagination", "collect.tasks=[catch_puck]", "cluster=inline", "collect.trials=2")
    run(tmp_path / "d", *words, "collect.play=true")
    demos: list[Demo] = list(read_demos(tmp_path / "d"))
    assert [demo.actions for demo in demos] == [None, None]
    for episode in steps_of(tmp_path / "d"):
        moved = np.diff(episode["observation"]["state"][:, :3], axis=0)
        assert np.abs(moved).max() > 0.005
        turns = (moved[1:] * moved[:-1]).sum(axis=1) > 0
        assert turns.mean() > 0.6, "motion is smooth: it rarely turns back"


def test_recording_the_scenes_of_evaluation_is_refused_unless_told(tmp_path: Path) -> None:
    for seed in (0, 99):
        with pytest.raises(ConfigError, match=f"scene_seed={seed} may give scenes that lab_general is evaluated on"):
            compose_collect([f"collect.dir={tmp_path}", *PRESS, f"protocol.scene_seed={seed}"])
    told = [f"collect.dir={tmp_path}", *PRESS, "protocol.scene_seed=0", "collect.evaluation_scenes=true"]
    assert compose_collect(told).run.suites[0].protocol.scene_seed == 0


def test_a_suite_whose_scenes_do_not_depend_on_the_seed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Path(__file__).parents[1] / "extras" / "suite_files" / "point.yaml"
    fixed = (
        point.read_text().replace("name: point\n", "name: fixed\n").replace("adapter: extra_env", "adapter: fixed_env")
    )
    (tmp_path / "fixed.yaml").write_text(fixed)
    monkeypatch.setenv("MEMVLA_SUITES", str(tmp_path))
    words = ("suite=fixed", "policy=expert", "cluster=inline", "collect.trials=2")
    with pytest.raises(ConfigError, match=r"the scenes of fixed do not depend on the scene seed"):
        run(tmp_path / "d", *words)
    assert not (tmp_path / "d" / "dataset_info.json").exists()
    assert run(tmp_path / "d", *words, "collect.evaluation_scenes=true") == 0
    assert len(list(read_demos(tmp_path / "d"))) == 2


def test_an_episode_with_subtasks_becomes_a_demonstration_of_each(tmp_path: Path) -> None:
    run(tmp_path / "d", "suite=point_chain", "policy=expert", "cluster=inline", "collect.trials=1")
    assert [demo.instruction for demo in read_demos(tmp_path / "d")][:2] == ["reach goal 1", "reach goal 2"]


def test_a_policy_that_does_not_answer_at_every_step_cannot_label(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="answers for 8 steps at a time; labels need one that answers at every step"):
        run(tmp_path, "suite=lab_general", "policy=random", "cluster=inline")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """An episode that cannot be written is void; the next command goes on from there."""
    from policies.training.episodes import file_name

    waiting = tmp_path / "d" / "recording" / "episodes"
    waiting.mkdir(parents=True)
    for attempt in (1, 2, 3):
        partial = (waiting / file_name("lab_general", "press_by_colour", 1, attempt)).with_suffix(".partial")
        partial.symlink_to("/dev/full")
    assert run(tmp_path / "d", *PRESS, "collect.trials=3") == 2
    assert [demo.trial for demo in read_demos(tmp_path / "d")] == [0, 2]
    assert run(tmp_path / "d", *PRESS, "collect.trials=3") == 0
    assert sorted(demo.trial for demo in read_demos(tmp_path / "d")) == [0, 1, 2]


def test_an_episode_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    assert run(tmp_path / "d", *PRESS, "collect.trials=1") == 0
    for name in ("collection.json", "dataset_info.json", "features.json", "d-train.tfrecord-00000"):
        (tmp_path / "d" / name).unlink()
    with pytest.raises(DemoError, match=r"press_by_colour_000000_1.npz is missing although its attempt is on record"):
        run(tmp_path / "d", *PRESS, "collect.trials=1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["policy=expert"], "name the folder of the dataset"),
        (["policy=expert", "collect.dir=d", "collect.nosie=1"], "did you mean collect.noise"),
        (["policy=expert", "collect.dir=d", "collect.noise=-1"], r"collect.noise must lie in 0.0 .. 2.0"),
        (["policy=expert", "collect.dir=d", "collect.noise=much"], "collect: .*much"),
        (["policy=expert", "collect.dir=d", "run.trials=3"], "belongs to `memvla run`"),
        (["policy=expert", "collect.dir=d", "collect.play=true"], "leave policy= out"),
        (["policy=expert", "collect.dir=d", "learner.scale=1"], "without learner=NAME"),
        (["policy=expert,random", "collect.dir=d"], "one policy"),
        (["policy=expert", "collect.dir=d", "collect.drop_still=true", "collect.noise=0.1"], "drop_still"),
        (["policy=expert", "collect.dir=d", "collect.takeover=true", "collect.off_course=1"], "needs learner=NAME"),
        (["policy=expert", "collect.dir=d", "collect.takeover=true", "learner=random"], "and collect.off_course=SHARE"),
        (["policy=expert", "collect.dir=d", "collect.first_frame=true", "collect.off_course=1"], "leave out learner="),
        (["policy=expert", "collect.dir=d", "collect.first_frame=true", "learner=random"], "how a scene begins"),
        (["collect.dir=d"], "name a policy"),
    ],
)
def test_a_mistake_in_the_command_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_collect(["suite=lab_general", *words])


def test_the_command_line_says_it_in_one_line_and_exit_code_1(tmp_path: Path) -> None:
    words = ["collect", "suite=lab_general", "policy=expert", f"collect.dir={tmp_path}", "protocol.scene_seed=0"]
    done = subprocess.run([sys.executable, "-m", "harness.cli", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: protocol.scene_seed=0 may give scenes")
    assert "Traceback" not in done.stderr


def test_help_does_not_import_tensorflow() -> None:
    code = "import sys, harness.cli, harness.collect; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
