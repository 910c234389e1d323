from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from reports.records import FILE_NAME, RecordStore
from reports.report import Report, build
from reports.summary import ReportError
from tests.reports.making import manifest, plan, record, run_folder


def shown(report: Report, width: int = 160, *, terminal: bool = True) -> str:
    """What the terminal shows."""
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    report.terminal(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def every_form(report: Report) -> dict[str, str]:
    return {"terminal": shown(report), "markdown": report.markdown(), "csv": report.csv(), "html": report.html()}


def half(folder: Path, **changes: object) -> Report:
    """The report on a run of 4 scenes: a success, a failure, one void, one not run."""
    records = [record(trial=0), record("failure", trial=1), record("void", trial=2, cause="worker 3 died")]
    return build([run_folder(folder / "run", manifest(suites=[plan(trials=4)], **changes), records)])


def test_missing_coverage_is_said_first_in_every_form(tmp_path: Path) -> None:
    report = half(tmp_path)
    first = "INCOMPLETE: 2 of 4 planned scenes were scored (50.0 %)"
    assert shown(report).startswith(first)
    assert report.markdown().split("\n\n")[1].startswith(f"**{first}")
    html = report.html()
    assert first in html
    assert html.index(first) < html.index("<table")
    table = pd.read_csv(io.StringIO(report.csv()))
    assert table.columns[0] == "incomplete"
    assert (
        table["incomplete"][0] == "INCOMPLETE: expert on lab/press: 2 of 4 scenes scored (50.0 %), 1 void, 1 not run."
    )


def test_a_complete_run_says_so_and_nothing_is_called_incomplete(tmp_path: Path) -> None:
    report = build([run_folder(tmp_path / "run", manifest(), [record()])])
    assert shown(report).startswith("Complete: all 1 planned scenes were scored.")
    assert not any("INCOMPLETE" in text for text in every_form(report).values())
    assert pd.isna(pd.read_csv(io.StringIO(report.csv()))["incomplete"][0])


def test_privileged_runs_are_marked_in_every_form(tmp_path: Path) -> None:
    for form, text in every_form(half(tmp_path, privileged=True)).items():
        mark = r"expert \[privileged\]" if form != "markdown" else r"expert \\\[privileged\\\]"
        assert re.search(mark, text), form
        assert not re.search(r"\bexpert\b(?!-run)(?! \\?\[privileged)[ <|,]", text), form


def test_voids_are_listed_with_their_causes(tmp_path: Path) -> None:
    forms = every_form(half(tmp_path))
    for form in ("terminal", "markdown", "html"):
        assert "worker 3 died" in forms[form], form
        assert "never scored" in forms[form], form
    table = pd.read_csv(io.StringIO(forms["csv"]))
    assert (table["void_scenes"][0], table["void_attempts"][0]) == (1, 1)


def test_different_protocols_are_loud_in_every_form(tmp_path: Path) -> None:
    run_folder(tmp_path / "a", manifest("a"), [record()])
    run_folder(tmp_path / "b", manifest("b", [plan(fingerprint="another")]), [record("failure")])
    forms = every_form(build([tmp_path]))
    for form in ("terminal", "markdown", "html"):
        assert "PROTOCOLS DIFFER under lab" in forms[form], form
        assert "Paired comparison" not in forms[form], form
    assert "differs" in forms["terminal"]
    assert "not comparable" in forms["markdown"]
    assert "not comparable" in forms["html"]
    assert set(pd.read_csv(io.StringIO(forms["csv"]))["fingerprint"]) == {"lab-0123456789", "another"}


def test_the_csv_holds_the_numbers_pandas_finds_in_the_records(tmp_path: Path) -> None:
    suites = [plan("one", ("press", "stack"), 3), plan("two", ("press",), 2)]
    records = [
        record(
            "success" if (trial + k) % 2 else "failure", suite=suite, task=task, trial=trial, steps=10 * trial + k + 1
        )
        for suite, tasks, trials in (("one", ("press", "stack"), 3), ("two", ("press",), 2))
        for k, task in enumerate(tasks)
        for trial in range(trials)
    ]
    path = run_folder(tmp_path / "run", manifest(suites=suites), [*records, record("void", suite="one", attempt=2)])
    table = pd.read_csv(io.StringIO(build([path]).csv())).set_index(["suite", "task"])
    with RecordStore(path / FILE_NAME) as store:
        frame = store.frame()
    frame = frame[frame["outcome"] != "void"]
    groups = frame.groupby(["suite", "task"])
    assert len(table) == 3
    assert dict(table["success_rate"]) == dict(groups["outcome"].apply(lambda o: (o == "success").mean()))
    assert dict(table["mean_steps"]) == dict(groups["steps"].mean())
    assert dict(table["mean_score"]) == dict(groups["score"].mean())
    assert dict(table["scored"]) == dict(groups.size())
    assert (table["wilson_low"] <= table["success_rate"]).all()
    assert (table["wilson_high"] >= table["success_rate"]).all()
    assert dict(table["seconds_policy"]) == dict(groups["seconds.policy"].mean())


def test_several_policies_stand_side_by_side(tmp_path: Path) -> None:
    for name, outcome in (("a", "success"), ("b", "failure")):
        run_folder(tmp_path / name, manifest(name), [record(outcome)])
    report = build([tmp_path])
    assert list(pd.read_csv(io.StringIO(report.csv()))["policy"]) == ["a", "b"]
    for form in ("terminal", "markdown", "html"):
        assert "Paired comparison" in every_form(report)[form]


# ---------------------------------------------------------------------- runs with little in them


def test_an_empty_run_is_a_report_without_numbers(tmp_path: Path) -> None:
    report = build([run_folder(tmp_path / "run", manifest(suites=[plan(trials=3)]), [])])
    forms = every_form(report)
    for form, text in forms.items():
        assert "INCOMPLETE" in text, form
        assert "0.0 %" not in re.sub(r"\(0\.0 %\)", "", text.split("<svg")[0]), form  # no rate of zero is claimed
    row = pd.read_csv(io.StringIO(forms["csv"])).iloc[0]
    assert row["scored"] == 0
    assert pd.isna(row["success_rate"])
    assert pd.isna(row["wilson_low"])
    assert "nothing scored" in forms["html"]


def test_a_run_of_voids_only_has_no_rate(tmp_path: Path) -> None:
    records = [record("void", trial=trial, cause="no GPU") for trial in range(2)]
    report = build([run_folder(tmp_path / "run", manifest(suites=[plan(trials=2)]), records)])
    forms = every_form(report)
    assert "0 of 2 planned scenes were scored (0.0 %). 2 came out void and 0 were not run" in forms["terminal"]
    assert forms["markdown"].count("no GPU") == 2
    assert pd.isna(pd.read_csv(io.StringIO(forms["csv"]))["success_rate"][0])


@pytest.mark.parametrize("outcome", ["success", "failure"])
def test_one_trial_is_enough(tmp_path: Path, outcome: str) -> None:
    report = build([run_folder(tmp_path / "run", manifest(), [record(outcome)])])
    row = pd.read_csv(io.StringIO(report.csv())).iloc[0]
    assert row["success_rate"] == float(outcome == "success")
    assert row["wilson_high"] - row["wilson_low"] > 0.7  # and says how little it means
    assert all(every_form(report).values())


def test_a_record_without_times_or_scores_is_reported(tmp_path: Path) -> None:
    made = manifest(suites=[plan(protocol={"max_steps": 9, "stop_on_success": False})])
    report = build([run_folder(tmp_path / "run", made, [record(seconds={}, score=None)])])
    assert "Where the time went" not in report.html()
    assert "lab is not drawn" in report.html()


# ---------------------------------------------------------------------- names are text


NASTY = "<script>alert(1)</script> [red]a|b[/red] $x_1$ *c* `d`"


def test_names_are_text_in_every_form(tmp_path: Path) -> None:
    made = manifest(NASTY, suites=[plan(tasks=(NASTY,))])
    report = build([run_folder(tmp_path / "run", made, [record(task=NASTY, cause="")])])
    assert "[red]a|b[/red]" in re.sub(r"\s+", " ", shown(report, 400))
    lines = [line for line in report.markdown().splitlines() if line.startswith("|")]
    assert lines
    assert "<script>" not in report.markdown()
    for block in re.findall(r"(?:^\|.*\n)+", report.markdown(), flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert pd.read_csv(io.StringIO(report.csv()))["task"][0] == NASTY
    assert "<script" not in report.html()


# ---------------------------------------------------------------------- terminal


def test_the_terminal_never_cuts_a_number(tmp_path: Path) -> None:
    suites = [plan("libero_spatial", ("pick_up_the_black_bowl_between_the_plate_and_the_ramekin", "stack"), 40)]
    records = [
        record("success" if trial % 3 else "failure", suite="libero_spatial", task=task, trial=trial)
        for task in suites[0].tasks
        for trial in range(37)
    ]
    report = build([run_folder(tmp_path / "run", manifest("memoryvla_pp", suites), records)])
    for width in (72, 80, 100, 120, 200):
        text = shown(report, width)
        assert "…" not in text
        for number in ("37/40", "(92.5 %)", "24/37", "64.9 %", "48.8 – 78.2 %"):
            assert number in text, (width, number)
        assert max(map(len, text.splitlines())) <= width
    narrow = re.sub(r"\s+", "", shown(report, 44))
    assert "…" not in narrow
    assert "no room for: Steps; Score; Voids" in shown(report, 80)


def test_a_pipe_gets_whole_lines(tmp_path: Path) -> None:
    text = shown(half(tmp_path), 80, terminal=False)
    [row] = [line for line in text.splitlines() if line.strip().startswith("lab ")][:1]
    assert "1/2" in row
    assert "2/4 (50.0 %)" in row


def test_a_long_table_says_what_it_leaves_out(tmp_path: Path) -> None:
    tasks = tuple(f"task_{i:03d}" for i in range(100))
    records = [record(task=task) for task in tasks]
    report = build([run_folder(tmp_path / "run", manifest(suites=[plan(tasks=tasks)]), records)])
    assert "40 more rows" in shown(report)
    assert len(pd.read_csv(io.StringIO(report.csv()))) == 100


# ---------------------------------------------------------------------- writing


def test_a_report_is_written_in_every_form(tmp_path: Path) -> None:
    report = half(tmp_path)
    files = report.write(tmp_path / "new" / "report")
    assert [file.name for file in files] == [f"report.{end}" for end in ("html", "md", "tex", "csv", "parquet")]
    assert files[1].read_text() == report.markdown()
    assert sorted(files) == sorted((tmp_path / "new" / "report").iterdir())
    report.write(tmp_path / "new" / "report")  # again, over the old ones


def test_a_folder_that_takes_no_report_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportError, match=r"cannot write the report into .*file.*choose another"):
        half(tmp_path).write(tmp_path / "file")


def test_what_is_missing_stands_in_the_caption_of_every_latex_table(tmp_path: Path) -> None:
    text = half(tmp_path).latex()
    captions = re.findall(r"\\caption\{(.*)\}", text)
    assert len(captions) == text.count(r"\toprule") > 3
    assert all("INCOMPLETE: 2 of 4 planned scenes were scored" in caption for caption in captions)


def test_the_report_of_the_same_runs_is_the_same_text(tmp_path: Path) -> None:
    first, second = half(tmp_path), build([tmp_path])
    assert every_form(first) == every_form(second)
