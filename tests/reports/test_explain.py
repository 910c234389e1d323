from __future__ import annotations

from pathlib import Path

import pytest

from reports.explain import build
from reports.summary import ReportError
from tests.reports.making import manifest, plan, record, run_folder


def two(folder: Path, **changes: object) -> tuple[Path, Path]:
    """Two runs of lab/press/0 that differ in these fields of the record."""
    made = []
    for name, each in (("a", {}), ("b", changes)):
        outcome = str(each.get("outcome", "success"))
        fields = {key: value for key, value in each.items() if key != "outcome"}
        made.append(run_folder(folder / name, manifest(name), [record(outcome, **fields)]))
    return made[0], made[1]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ({"scene_hash": "s2", "first_frame_hash": "f2", "action_digest": "d2"}, "scene hash"),
        ({"instruction": "press the blue button", "action_digest": "d2"}, "instruction"),
        ({"first_frame_hash": "f2", "action_digest": "d2", "steps": 50}, "first frame"),
        ({"seed": 3, "action_digest": "d2"}, "seed"),
        ({"action_digest": "d2", "steps": 50, "outcome": "failure"}, "actions"),
        ({"steps": 41}, "steps"),
        ({"outcome": "failure"}, "outcome"),
    ],
)
def test_the_first_thing_that_differs_is_named(tmp_path: Path, changes: dict[str, object], first: str) -> None:
    document = build(*two(tmp_path, **changes), "lab/press/0")
    assert document.headline.text.startswith(f"The first thing that differs: {first} (")
    verdicts = [row["verdict"] for row in document.rows]
    assert verdicts.index("DIFFERS") == [row["what"] for row in document.rows].index(first)


def test_a_scene_that_went_the_same_way_twice_is_said_to_be_the_same(tmp_path: Path) -> None:
    document = build(*two(tmp_path, worker="worker-7"), "lab/press/0")
    assert document.headline.kind == "complete"
    assert document.headline.text.startswith("Nothing differs")


def test_what_is_not_recorded_is_not_called_the_same(tmp_path: Path) -> None:
    document = build(*two(tmp_path, first_frame_hash=""), "lab/press/0")
    assert {row["what"]: row["verdict"] for row in document.rows}["first frame"] == "not recorded"
    assert document.headline.kind == "warning"
    assert "first_frame_hash is missing" in document.headline.text


def test_what_the_digest_cannot_tell_is_said(tmp_path: Path) -> None:
    text = build(*two(tmp_path, action_digest="d2"), "lab/press/0").markdown()
    assert "does not say at which step they part" in text


def test_protocols_come_before_everything(tmp_path: Path) -> None:
    a = run_folder(tmp_path / "a", manifest("a"), [record()])
    b = run_folder(tmp_path / "b", manifest("b", [plan(fingerprint="other")]), [record(scene_hash="s2")])
    assert "differs: protocol (" in build(a, b, "lab/press/0").headline.text


def test_a_void_scene_is_said_to_be_void(tmp_path: Path) -> None:
    a = run_folder(tmp_path / "a", manifest("a"), [record()])
    b = run_folder(tmp_path / "b", manifest("b"), [record("void", cause="host lost")])
    assert any("void: host lost" in note.text for note in build(a, b, "lab/press/0").notes)


@pytest.mark.parametrize(
    ("scene", "message"),
    [
        ("lab/press", "SUITE/TASK/TRIAL"),
        ("lab/press/x", "SUITE/TASK/TRIAL"),
        ("lab/press/7", "no episode of lab/press/7"),
    ],
)
def test_a_scene_that_is_not_there_is_an_error(tmp_path: Path, scene: str, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        build(*two(tmp_path), scene)


def test_one_run_given_twice_is_an_error(tmp_path: Path) -> None:
    a, _ = two(tmp_path)
    with pytest.raises(ReportError, match="explain needs two runs"):
        build(a, a, "lab/press/0")


def acted(folder: Path, name: str, first: tuple[float, ...], marks: str, outcome: str = "success") -> Path:
    """A run of one episode with these actions."""
    fields = {"first_action": first, "action_marks": marks, "steps": len(marks) // 4, "action_digest": marks}
    return run_folder(folder / name, manifest(name), [record(outcome, **fields)])


def test_the_first_action_is_shown_with_its_values(tmp_path: Path) -> None:
    a = acted(tmp_path, "a", (0.25, -0.5), "aaaabbbb")
    document = build(a, acted(tmp_path, "b", (0.25, -0.125), "ccccbbbb"), "lab/press/0")
    assert document.headline.text == "The first thing that differs: first action (0.25 -0.5 and 0.25 -0.125)."


def test_the_step_at_which_the_actions_part_is_named(tmp_path: Path) -> None:
    a = acted(tmp_path, "a", (0.25,), "aaaabbbbcccc")
    document = build(a, acted(tmp_path, "b", (0.25,), "aaaabbbbdddd", "failure"), "lab/press/0")
    assert document.headline.text == "The first thing that differs: actions (step 3: mark cccc and step 3: mark dddd)."
    assert "does not say at which step" not in document.markdown()


def test_one_episode_that_ends_earlier_acted_the_same_until_then(tmp_path: Path) -> None:
    a = acted(tmp_path, "a", (0.25,), "aaaabbbbcccc")
    document = build(a, acted(tmp_path, "b", (0.25,), "aaaabbbb"), "lab/press/0")
    assert document.headline.text == "The first thing that differs: steps (3 and 2)."
    assert ("actions", "the same in all 2 steps") in [(row["what"], row["a"]) for row in document.rows]
