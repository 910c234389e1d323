from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from reports.papers import build
from reports.summary import ReportError
from suites.protocol import load_suite
from tests.reports.making import manifest, plan, record, run_folder

TASKS = ("t0", "t1")


def libero(folder: Path, policy: str = "memoryvla_pp", successes: int = 49, suite: str = "libero_spatial") -> Path:
    """A run of 2 x 25 scenes under the suite's own fingerprint."""
    made = plan(suite, TASKS, 25, fingerprint=load_suite(suite).fingerprint())
    scenes = [(task, trial) for task in TASKS for trial in range(25)]
    records = [
        record("success" if i < successes else "failure", suite=suite, task=task, trial=trial)
        for i, (task, trial) in enumerate(scenes)
    ]
    return run_folder(folder / policy, manifest(policy, [made]), records)


def rows(text: str, kind: str) -> list[dict[str, str]]:
    return [row for row in csv.DictReader(io.StringIO(text)) if row["row"] == kind]


def test_ours_stands_below_the_published_rows_in_the_papers_columns(tmp_path: Path) -> None:
    made = build("memoryvla_pp/libero", [libero(tmp_path)])
    layout = made.tables[0]
    assert [c.title for c in layout.columns][:3] == ["Method", "Spatial", "Object"]
    names = [row[0] for row in layout.rows]
    assert "MemoryVLA++" in names
    ours = layout.rows[names.index("memoryvla_pp, ours")]
    assert ours[1] == "98.0"
    assert ours[2] == ours[-1] == "–"  # nothing is guessed, and no average is made of what is there
    assert layout.rows[names.index("episodes")][1] == "49/50"


def test_the_verdict_is_against_the_method_that_the_policy_implements(tmp_path: Path) -> None:
    found = rows(build("memoryvla_pp/libero", [libero(tmp_path, "memoryvla")]).csv(), "ours")
    assert [(row["against"], row["column"]) for row in found] == [("MemoryVLA", "Spatial")]
    assert float(found[0]["difference"]) == pytest.approx(0.98 - 0.984)
    named = rows(build("memoryvla_pp/libero", [tmp_path], method="MemoryVLA++").csv(), "ours")
    assert float(named[0]["difference"]) == pytest.approx(0.98 - 0.998)


def test_a_row_with_a_remark_in_brackets_is_the_policys_own(tmp_path: Path) -> None:
    found = rows(build("memoryvla_pp/libero", [libero(tmp_path, "cogact")]).csv(), "ours")
    assert found[0]["against"] == "CogACT (re-trained)"


def test_a_method_that_is_not_in_the_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"no row 'GPT'; there are: .*MemoryVLA"):
        build("memoryvla_pp/libero", method="GPT")


def test_a_suite_the_paper_does_not_know_is_said(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", manifest(suites=[plan("lab_memory")]), [record(suite="lab_memory")])
    made = build("memoryvla_pp/libero", [run])
    assert any("none of its suites (lab_memory) stands in this table" in note.text for note in made.notes)
    assert rows(made.csv(), "ours") == []


def test_a_changed_protocol_is_said_in_every_form(tmp_path: Path) -> None:
    made = plan("libero_spatial", ("t0",), 1, fingerprint="changed")
    run = run_folder(tmp_path / "run", manifest("cogact", [made]), [record(suite="libero_spatial", task="t0")])
    document = build("memoryvla_pp/libero", [run])
    for text in (document.markdown(), document.html(tmp_path), document.latex()):
        assert "not the protocol of the paper" in text


def test_a_mean_needs_all_of_its_parts(tmp_path: Path) -> None:
    for suite in ("libero_spatial", "libero_object", "libero_goal"):
        libero(tmp_path / suite, "memoryvla", 45, suite)
    found = rows(build("memoryvla/libero", [tmp_path]).csv(), "ours")
    assert {row["column"] for row in found} == {"Spatial", "Object", "Goal"}


def test_published_means_are_recomputed_and_the_known_inconsistencies_found() -> None:
    text = build("memoryvla/libero").markdown()
    assert "MaIL, Average of 4: published 83.5, but the mean of the numbers printed beside it is 81.20" in text
    assert "CoT-VLA, Average of 4: published 81.1, but the mean of the numbers printed beside it is 83.92" in text
    assert "MemoryVLA, Average" not in text  # 96.44 is what rounding allows
    plus = build("memoryvla_pp/libero_plus_zero_shot").markdown()
    assert "published 73.1, but the weighted mean of the numbers printed beside it is 73.3" in plus
    assert "88.0 % is no share of 240 trials" in build("memoryvla/fractal").markdown()


def test_chains_are_counted_from_their_lengths(tmp_path: Path) -> None:
    lengths = [5, 5, 3, 0, 1, 5, 2, 5, 4, 5]
    suite = load_suite("calvin_abc_d")
    made = plan(suite.name, ("chain",), len(lengths), fingerprint=suite.fingerprint())
    records = [
        record(
            "success" if n == 5 else "failure",
            suite=suite.name,
            task="chain",
            trial=i,
            metrics={"chain_length": float(n)},
        )
        for i, n in enumerate(lengths)
    ]
    run = run_folder(tmp_path / "run", manifest("memoryvla_pp", [made]), records)
    found = {row["column"]: float(row["value"]) for row in rows(build("memoryvla_pp/calvin", [run]).csv(), "ours")}
    assert found["1/5"] == pytest.approx(90)
    assert found["5/5"] == pytest.approx(50)
    assert found["Average length"] == pytest.approx(sum(lengths) / len(lengths))


def test_an_empty_run_and_a_run_of_voids_have_no_numbers(tmp_path: Path) -> None:
    made = plan("libero_spatial", ("t0",), 2)
    run_folder(tmp_path / "empty", manifest("a", [made]), [])
    run_folder(tmp_path / "void", manifest("b", [made]), [record("void", suite="libero_spatial", task="t0")])
    document = build("memoryvla_pp/libero", [tmp_path])
    assert document.headline.kind == "incomplete"
    assert rows(document.csv(), "ours") == []
    assert all(document.html(tmp_path).count(word) for word in ("INCOMPLETE", "MemoryVLA++"))


def test_a_dimension_that_the_machine_lacks_files_for_is_said_to_be_not_covered(tmp_path: Path) -> None:
    tags = {"n": "sensor_noise", "a": "objects_layout", "b": "objects_layout", "l": "light_conditions"}
    made = plan(
        "libero_plus",
        tags,
        tags={task: {"dimension": dimension} for task, dimension in tags.items()},
        not_covered={"needs the archive": ["b", "l"]},
    )
    scored = [record(suite="libero_plus", task="n"), record("failure", suite="libero_plus", task="a")]
    layout = build("libero_plus/zero_shot", [run_folder(tmp_path / "x", manifest("x", [made]), scored)]).tables[0]
    titles = [column.title for column in layout.columns[1:]]
    ours = {row[0]: dict(zip(titles, row[1:], strict=True)) for row in layout.rows[-4:]}
    assert ours["x, ours"] == dict.fromkeys(titles, "–") | {"Noise": "100.0", "Layout": "0.0", "Light": "not covered"}
    assert ours["episodes"] == dict.fromkeys(titles, "–") | {"Noise": "1/1", "Layout": "0/1"}
    assert ours["scenes not covered"] == dict.fromkeys(titles, "0") | {"Layout": "1", "Light": "1", "Average": "2"}
