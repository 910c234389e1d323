from __future__ import annotations

import csv
import io
import re
import sqlite3
from pathlib import Path

import pytest
from statsmodels.stats.contingency_tables import mcnemar

import reports
import reports.records
from reports.comparison import build
from reports.document import Document
from reports.pairing import best_of, pairs
from reports.records import RecordError, RecordStore
from reports.schema import MIGRATIONS
from reports.summary import ReportError, load
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_page import MP4, Page
from tests.reports.test_records import as_in

TASKS = ("press", "stack")


def run(folder: Path, name: str, solved: str, trials: int = 10, **changes: object) -> Path:
    """A run of one suite with two tasks; solved: one sign a scene, `x` for a success, `v` for void."""
    outcomes = {"x": "success", ".": "failure", "v": "void"}
    scenes = [(task, trial) for task in TASKS for trial in range(trials)]
    records = [
        record(outcomes[sign], task=task, trial=trial, **({"video": f"{task}{trial}.mp4"} if trial < 2 else {}))
        for sign, (task, trial) in zip(solved, scenes, strict=False)
        if sign != " "
    ]
    path = run_folder(folder / name, manifest(name, [plan(tasks=TASKS, trials=trials, **changes)]), records)
    for each in records:
        if each.video:
            (path / each.video).write_bytes(MP4)
    return path


def forms(document: Document, folder: Path) -> dict[str, str]:
    return {
        "markdown": document.markdown(),
        "latex": document.latex(),
        "html": document.html(folder),
    }


def rows(document: Document, kind: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(document.csv())) if row["row"] == kind]


def test_the_counts_and_the_test_are_those_of_the_paired_scenes(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "xxxxxxxx..xxxxxxxxxx"), run(tmp_path, "b", "x........xxxxxxxx...")
    [row] = rows(build([a, b]), "suite")
    assert [int(row[k]) for k in ("both", "only_a", "only_b", "neither")] == [8, 10, 1, 1]
    assert float(row["mcnemar_p"]) == pytest.approx(mcnemar([[8, 10], [1, 1]], exact=True).pvalue)
    assert float(row["difference"]) == pytest.approx(9 / 20)


def test_the_better_one_is_named_whichever_comes_first(tmp_path: Path) -> None:
    good, bad = run(tmp_path, "good", "x" * 20), run(tmp_path, "bad", "." * 20)
    assert "good (A) succeeds more often than bad (B): +100.0 points" in build([good, bad]).findings[0]
    assert "good (B) succeeds more often than bad (A): \N{MINUS SIGN}100.0 points" in build([bad, good]).findings[0]


def test_what_chance_explains_is_not_called_a_difference(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "xx.................."), run(tmp_path, "b", "." * 20)
    assert "cannot be told apart" in build([a, b]).findings[0]


def test_scenes_with_other_hashes_and_void_scenes_are_no_pairs(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", "v" + "x" * 18)
    changed = record("failure", task="stack", trial=9, scene_hash="another")
    with RecordStore(b / "episodes.sqlite", write=True) as store:
        store.add(changed)
    document = build([a, b])
    [row] = rows(document, "suite")
    assert (row["scenes"], row["unmatched"]) == ("18", "1")
    assert document.headline.kind == "incomplete"
    assert any("1 scene was scored by one of the two only" in note.text for note in document.notes)


def test_other_protocols_are_refused_and_marked_on_every_page_when_allowed(tmp_path: Path) -> None:
    a = run(tmp_path, "a", "x" * 20)
    b = run(tmp_path, "b", "." * 20, fingerprint="other", protocol={"max_steps": 60, "stop_on_success": True})
    with pytest.raises(
        ReportError, match=r"(?s)protocols of lab differ.*max_steps.*120.*60.*--allow-different-protocols"
    ):
        build([a, b])
    document = build([a, b], allow_different_protocols=True)
    for form, text in forms(document, tmp_path).items():
        assert "PROTOCOLS DIFFER" in text, form
    assert all(row["same_protocol"] == "False" for row in csv.DictReader(io.StringIO(document.csv())))


def test_one_run_or_no_common_suite_is_an_error(tmp_path: Path) -> None:
    a = run(tmp_path, "a", "x" * 20)
    with pytest.raises(ReportError, match="needs two runs"):
        build([a, a])
    other = run_folder(tmp_path / "c", manifest("c", [plan("elsewhere")]), [record(suite="elsewhere")])
    with pytest.raises(ReportError, match="no suite in common"):
        build([a, other])


def test_tasks_stand_in_the_order_of_their_evidence(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", "xxxxxxxxx." + "." * 10)
    found = rows(build([a, b]), "task")
    assert [row["task"] for row in found] == ["stack", "press"]
    assert float(found[0]["mcnemar_p"]) < float(found[1]["mcnemar_p"])


def test_every_flipped_scene_is_listed_and_the_filmed_ones_stand_side_by_side(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", ".x........" + "x" * 10)
    document = build([a, b])
    assert {(row["task"], row["trial"]) for row in rows(document, "flipped")} == {
        ("press", str(t)) for t in range(10) if t != 1
    }
    page = Page(document.html(tmp_path))
    assert len(page.all("video")) == 2  # of the nine only the first was filmed, in both runs
    assert "press" in str(page.all("video")[0]["aria-label"])


def test_steps_are_compared_where_both_succeed_and_chains_everywhere(tmp_path: Path) -> None:
    for name, more in (("a", 0), ("b", 7)):
        records = [
            record(
                "success" if t < 6 else "failure",
                trial=t,
                steps=30 + t + more * (t % 2 + 1),
                metrics={"chain_length": float(t % 3 + bool(more))},
            )
            for t in range(12)
        ]
        run_folder(tmp_path / name, manifest(name, [plan(trials=12)]), records)
    [pair] = pairs(load([tmp_path]))
    assert (pair.steps.n, pair.steps.value) == (6, pytest.approx(-10.5))
    assert pair.steps.interval is not None
    assert pair.steps.interval.low >= -14
    assert pair.steps.interval.high <= -7
    assert (pair.chains.n, pair.chains.value) == (12, -1.0)


def test_the_set_of_the_best_keeps_whom_the_data_cannot_part_from_it(tmp_path: Path) -> None:
    run(tmp_path, "best", "x" * 20)
    run(tmp_path, "close", "x" * 18 + "..")
    run(tmp_path, "far", "." * 20)
    found = best_of(load([tmp_path]), "lab")
    assert found is not None
    assert found.kept == ("best", "close")
    assert found.successes == {"best": 20, "close": 18, "far": 0}
    assert best_of(load([tmp_path / "best", tmp_path / "far"]), "lab") is None


def test_manifests_that_differ_are_listed_key_by_key(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", "x" * 20)
    table = next(t for t in build([a, b]).tables if t.title == "Manifests of a and b")
    assert ("policy", "'a'", "'b'") in table.rows


def test_the_page_fetches_nothing_runs_nothing_and_keeps_names_text(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    for name, outcome in (("a", "success"), ("b", "failure")):
        made = manifest(f"{nasty}{name}", [plan(tasks=(nasty,))])
        run_folder(tmp_path / name, made, [record(outcome, task=nasty)])
    document = build([tmp_path])
    html = document.html(tmp_path)
    page = Page(html)
    assert page.all("script") == []
    assert "<script" not in document.markdown()
    for _, attributes in page.elements:
        for key in ("src", "href", "xlink:href"):
            assert re.match(r"data:|#|$", attributes.get(key) or "")


def test_latex_cells_are_escaped_and_every_row_has_every_cell(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a_1", "x" * 20), run(tmp_path, "b&2 100%", "." * 20)
    text = build([a, b]).latex()
    assert r"b\&2 100\%" in text
    for block in re.findall(r"\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text, flags=re.DOTALL):
        for line in block[1].splitlines():
            if line.endswith(r"\\"):
                assert len(re.findall(r"(?<!\\)&", line)) == len(block[0]) - 1
    assert r"\toprule" in text


def test_a_document_writes_every_form_and_the_same_again(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", "." * 20)
    files = build([a, b]).write(tmp_path / "out")
    assert [file.suffix for file in files] == [".html", ".md", ".tex", ".csv", ".parquet"]
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in build([a, b]).write(tmp_path / "out")] == before


def test_runs_without_scored_episodes_make_a_page_without_numbers(tmp_path: Path) -> None:
    document = build([run(tmp_path, "empty", ""), run(tmp_path, "void", "v" * 20)])
    assert document.headline.kind == "incomplete"
    assert "no scene in common" in document.findings[0]
    [row] = rows(document, "suite")
    assert (row["difference"], row["mcnemar_p"]) == ("", "")
    assert all(forms(document, tmp_path).values())


def test_the_frame_for_notebooks_holds_every_episode(tmp_path: Path) -> None:
    run(tmp_path, "a", "x" * 10 + "." * 9 + "v")
    frame = reports.load(tmp_path)
    assert len(frame) == 20
    assert (frame["success"].sum(), frame["success"].count()) == (10, 19)  # void is missing, not a failure
    assert set(frame["policy"]) == {"a"}


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_runs_of_different_schema_versions_are_compared(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports.records, "MIGRATIONS", MIGRATIONS[:version])
    monkeypatch.setattr(reports.records, "_row", as_in(version, reports.records._row))
    old = run(tmp_path, "old", "x" * 20)
    monkeypatch.undo()
    document = build([old, run(tmp_path, "new", "x" * 9 + "." * 11)])
    [row] = rows(document, "suite")
    assert (row["scenes"], row["only_a"], row["only_b"]) == ("20", "11", "0")
    with sqlite3.connect(old / "episodes.sqlite") as file:
        assert file.execute("PRAGMA user_version").fetchone() == (version,)  # reading left it as it was


def test_a_run_of_a_newer_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", "x" * 20), run(tmp_path, "b", "x" * 20)
    with sqlite3.connect(b / "episodes.sqlite") as file:
        file.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(RecordError, match=r"b/episodes\.sqlite has schema version .* upgrade this installation"):
        build([a, b])
