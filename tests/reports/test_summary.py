from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reports.manifest import ManifestError
from reports.records import RecordError
from reports.summary import ReportError, comparisons, floor_percent, headline, load, notes
from tests.reports.making import manifest, plan, record, run_folder


def texts(path: Path) -> str:
    runs = load([path])
    return "\n".join([headline(runs).text, *(note.text for note in notes(runs))])


def test_void_episodes_are_never_in_a_rate(tmp_path: Path) -> None:
    records = [record(trial=0), record("failure", trial=1), record("void", trial=2)]
    run = load([run_folder(tmp_path / "run", manifest(suites=[plan(trials=3)]), records)])[0]
    group = run.groups[0]
    assert (group.rate.successes, group.rate.n, group.void_scenes, group.not_run) == (1, 2, 1, 0)
    assert group.coverage == pytest.approx(2 / 3)


def test_a_repeated_attempt_counts_once_and_its_void_one_is_kept(tmp_path: Path) -> None:
    records = [record("void"), record("void", attempt=2), record("success", attempt=3)]
    run = load([run_folder(tmp_path / "run", manifest(), records)])[0]
    group = run.groups[0]
    assert (group.rate.n, group.void_scenes, len(group.void_attempts)) == (1, 0, 2)
    assert headline([run]).kind == "complete"


def test_missing_scenes_are_said_in_words(tmp_path: Path) -> None:
    records = [record(trial=0), record("void", trial=1)]
    said = texts(run_folder(tmp_path / "run", manifest(suites=[plan(trials=4)]), records))
    assert said.startswith("INCOMPLETE: 1 of 4 planned scenes were scored (25.0 %). 1 came out void and 2 were not run")
    assert "expert on lab: 1 of 4 scenes scored (25.0 %), 1 void, 2 not run" in said


def test_coverage_is_never_rounded_up_to_all() -> None:
    assert floor_percent(9_999, 10_000) == "99.9 %"
    assert floor_percent(2, 3) == "66.6 %"
    assert floor_percent(3, 3) == "100.0 %"


def test_records_outside_the_plan_are_named_and_not_counted(tmp_path: Path) -> None:
    records = [record(trial=0), record(trial=7), record(task="other"), record(suite="else")]
    path = run_folder(tmp_path / "run", manifest(), records)
    assert "3 recorded scenes are not in the plan" in texts(path)
    assert load([path])[0].groups[0].rate.n == 1


def test_different_protocols_under_one_suite_are_loud_and_never_compared(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", manifest("a"), [record()])
    run_folder(tmp_path / "b", manifest("b", [plan(fingerprint="another")]), [record("failure")])
    assert "PROTOCOLS DIFFER under lab: a lab-0123456789, b another" in texts(tmp_path)
    assert comparisons(load([tmp_path])) == []


def test_scenes_that_differ_under_one_name_are_loud_and_left_out(tmp_path: Path) -> None:
    suites = [plan(trials=2)]
    run_folder(tmp_path / "a", manifest("a", suites), [record(trial=0), record(trial=1)])
    run_folder(tmp_path / "b", manifest("b", suites), [record(trial=0), record(trial=1, scene_hash="x")])
    assert "SCENES DIFFER under lab: 1 scenes" in texts(tmp_path)
    [(suite, a, b, found)] = comparisons(load([tmp_path]))
    assert (suite, a, b, found.n, found.unmatched) == ("lab", "a", "b", 1, 1)


def test_different_simulators_under_one_suite_are_loud(tmp_path: Path) -> None:
    for name, version in (("a", "4.0.0"), ("b", "3.3.7")):
        made = manifest(name).with_simulator("lab", {"mujoco": version})
        run_folder(tmp_path / name, made, [record()])
    assert "SIMULATORS DIFFER under lab: a: mujoco 4.0.0; b: mujoco 3.3.7" in texts(tmp_path)


def test_scores_with_stand_in_assets_are_marked_with_their_tasks_and_files(tmp_path: Path) -> None:
    marked = [record(trial=0, metrics={"stand_in_mug": 1.0}), record(trial=1, metrics={"stand_in_mug": 0.0})]
    assets = {"mikasa": {"files": {}, "stand_ins": {"models/mug.obj": "a cylinder"}}}
    path = run_folder(tmp_path / "a", manifest(suites=[plan(trials=2)], assets=assets), marked)
    said = texts(path)
    assert "STAND-IN ASSETS: expert on lab: 1 of 2 scored episodes (press)" in said
    assert "not comparable with published ones. What stands in: mug.obj (a cylinder)." in said
    plain = run_folder(tmp_path / "b", manifest(assets=assets), [record()])
    assert "STAND-IN" not in texts(plain)


def test_privileged_runs_are_marked_whether_the_manifest_or_a_record_says_so(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", manifest("a", privileged=True), [record()])
    run_folder(tmp_path / "b", manifest("b"), [record(privileged=True)])
    run_folder(tmp_path / "c", manifest("c"), [record()])
    assert [run.label for run in load([tmp_path])] == ["a [privileged]", "b [privileged]", "c"]


def test_uncommitted_changes_are_said(tmp_path: Path) -> None:
    made = replace(manifest(), git={"revision": "c0ffee" * 6, "dirty": True})
    assert "uncommitted changes (c0ffeec0ff)" in texts(run_folder(tmp_path / "run", made, [record()]))


def test_two_runs_of_one_policy_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for night in ("monday", "tuesday"):
        run_folder(tmp_path / night / "expert", manifest(), [record()])
    run_folder(tmp_path / "tuesday" / "cogact", manifest("cogact"), [record()])
    labels = [run.label for run in load([tmp_path])]
    assert labels == ["expert (monday/expert)", "cogact", "expert (tuesday/expert)"]


def test_a_run_named_twice_is_read_once(tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run", manifest(), [record()])
    assert len(load([path, tmp_path, path])) == 1


def test_the_task_mean_waits_for_every_task(tmp_path: Path) -> None:
    suites = [plan(tasks=("press", "stack"), trials=2)]
    records = [record(trial=0), record("failure", trial=1)]
    assert load([run_folder(tmp_path / "a", manifest(suites=suites), records)])[0].task_mean("lab") is None
    records += [record(task="stack")]
    assert load([run_folder(tmp_path / "b", manifest(suites=suites), records)])[0].task_mean("lab") == 0.75


def test_seconds_are_means_over_scored_episodes_and_the_rest_is_other(tmp_path: Path) -> None:
    records = [
        record(trial=0, seconds={"reset": 1.0, "policy": 2.0, "total": 4.0}),
        record(trial=1, seconds={"reset": 3.0, "total": 4.0}),
        record("void", trial=2, seconds={"reset": 99.0, "total": 99.0}),
    ]
    group = load([run_folder(tmp_path / "run", manifest(suites=[plan(trials=3)]), records)])[0].groups[0]
    assert group.seconds == {"reset": 2.0, "policy": 1.0, "other": 1.0}


def test_choices_are_summed_over_scored_episodes_that_report_them(tmp_path: Path) -> None:
    records = [
        record(trial=0, metrics={"right_choices": 2.0, "wrong_choices": 1.0}),
        record("failure", trial=1, metrics={"right_choices": 1.0}),
        record("void", trial=2, metrics={"right_choices": 50.0}),
    ]
    group = load([run_folder(tmp_path / "run", manifest(suites=[plan(trials=3)]), records)])[0].groups[0]
    assert (group.choices("right_choices"), group.choices("wrong_choices")) == (3, 1)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no run was named"):
        load([])
    with pytest.raises(ManifestError, match="no run here"):
        load([tmp_path])
    path = run_folder(tmp_path / "run", manifest(), [record()])
    (path / "episodes.sqlite").write_bytes(b"")
    with pytest.raises(RecordError, match="is damaged"):
        load([tmp_path])
    (path / "episodes.sqlite").unlink()
    with pytest.raises(RecordError, match="not found"):
        load([tmp_path])


def test_what_a_machine_could_not_cover_is_neither_a_failure_nor_not_run(tmp_path: Path) -> None:
    made = plan(tasks=("a", "b", "c"), not_covered={"needs the archive": ["b", "c"]})
    run_folder(tmp_path / "x", manifest("x", [made]), [record("success", task="a")])
    (run,) = load([tmp_path])
    group = run.groups[0]
    assert (group.not_covered, group.not_run, group.void_scenes) == (2, 0, 0)
    assert [each.not_covered for each in run.task_groups["lab"]] == [0, 1, 1]
    assert group.rate.value == 1.0
    assert headline([run]).kind == "incomplete"
    assert "2 are not covered here" in headline([run]).text
    assert any("2 not covered (needs the archive)" in note.text for note in notes([run]))


def test_a_manifest_from_before_coverage_was_written_down_is_read(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "x", manifest("x"), [record()])
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    del data["suites"][0]["not_covered"]
    path.write_text(json.dumps(data))
    assert load([folder])[0].groups[0].not_covered == 0
