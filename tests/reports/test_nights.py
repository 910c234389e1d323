from __future__ import annotations

import io
import sqlite3
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd
import pytest

from reports import nights
from reports.history import History
from reports.regression import FINE, NOT_COVERED, REGRESSION, Stream, bound, exit_code, judge
from reports.summary import ReportError, load
from tests.reports.making import manifest, plan, record, run_folder
from tests.reports.test_page import Page

ALPHA = 0.05
MATRIX = [("policy", "lab")]


class Nights:
    """A history filled night by night through real run folders. One sign a scene: `x` solved, `.` not, `v` void."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = History(folder / "history.sqlite")
        self.count = 0

    def add(self, solved: str, policy: str = "policy", night: str = "", **changes: object) -> str:
        night = night or f"night-{self.count:02d}"
        self.count += 1
        outcomes = {"x": "success", ".": "failure", "v": "void"}
        hashes = changes.pop("hashes", "h")
        records = [
            record(outcomes[sign], trial=i, scene_hash=f"{hashes}{i}") for i, sign in enumerate(solved) if sign != " "
        ]
        made = manifest(policy, [plan(trials=len(solved), **changes)])
        path = run_folder(self.folder / night / policy, made, records)
        self.history.begin(night, "2026-01-01T00:00:00")
        self.history.add(night, load([path])[0])
        return night

    def judged(self, matrix: list[tuple[str, str]] | None = None) -> tuple[Stream, ...]:
        return judge(self.history, self.history.nights()[-1], matrix or MATRIX, ALPHA)


@pytest.fixture
def made(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def test_a_first_night_is_the_baseline_and_fine(made: Nights) -> None:
    made.add("xxxx....")
    [stream] = made.judged()
    assert (stream.code, stream.baseline, stream.evidence) == (FINE, None, None)


def test_the_same_again_is_fine_for_ever(made: Nights) -> None:
    for _ in range(12):
        made.add("xxxx....")
    [stream] = made.judged()
    assert stream.code == FINE
    assert (stream.baseline, stream.last_good) == ("night-00", "night-10")


def test_a_real_loss_is_a_regression_and_stays_one_until_a_night_is_pinned(made: Nights) -> None:
    for _ in range(3):
        made.add("x" * 40)
    made.add("x" * 25 + "." * 15)
    [stream] = made.judged()
    assert (stream.code, stream.alarm, stream.last_good) == (REGRESSION, "night-03", "night-02")
    assert stream.against_baseline is not None
    assert stream.against_baseline.difference == pytest.approx(-15 / 40)
    made.add("x" * 40)
    assert made.judged()[0].alarm == "night-03"
    made.history.pin("night-04")
    made.add("x" * 40)
    assert made.judged()[0].code == FINE


def test_a_night_is_judged_as_of_that_night(made: Nights) -> None:
    made.add("x" * 40)
    made.add("x" * 40)
    made.add("." * 40)
    assert judge(made.history, "night-01", MATRIX, ALPHA)[0].code == FINE
    assert judge(made.history, "night-02", MATRIX, ALPHA)[0].code == REGRESSION


def test_missing_scenes_are_not_a_regression_and_not_fine(made: Nights) -> None:
    made.add("x" * 20)
    made.add("x" * 10 + "v" * 10)
    [stream] = made.judged()
    assert stream.code == NOT_COVERED
    assert stream.problem == "10 of 20 scenes scored, 10 void attempts"
    assert stream.evidence is not None
    assert stream.evidence.p_values == (1.0,)  # a void scene is not a failure


def test_what_was_not_run_is_said(made: Nights) -> None:
    made.add("xx")
    found = made.judged([("policy", "lab"), ("other", "lab")])
    assert [stream.problem for stream in found] == ["", "not run"]
    assert exit_code(found) == NOT_COVERED


def test_a_regression_outranks_what_is_missing(made: Nights) -> None:
    made.add("x" * 40)
    made.add("." * 40)
    found = made.judged([("policy", "lab"), ("other", "lab")])
    assert exit_code(found) == REGRESSION


def test_another_protocol_is_not_compared(made: Nights) -> None:
    made.add("x" * 40)
    made.add("." * 40, fingerprint="another")
    [stream] = made.judged()
    assert (stream.code, stream.against_baseline) == (NOT_COVERED, None)
    assert "not comparable; pin a new baseline with --pin night-01" in stream.problem


def test_scenes_with_other_hashes_are_no_evidence(made: Nights) -> None:
    made.add("x" * 40)
    made.add("." * 40, hashes="other")
    [stream] = made.judged()
    assert stream.evidence is not None
    assert stream.evidence.scenes == (0,)
    assert stream.against_baseline is not None
    assert stream.against_baseline.unmatched == 40
    assert stream.alarm is None


def test_a_half_covered_first_night_is_no_baseline(made: Nights) -> None:
    made.add("x" * 10 + "v" * 30)
    made.add("x" * 40)
    made.add("x" * 40)
    assert made.judged()[0].baseline == "night-01"


def test_more_rows_need_more_evidence(made: Nights) -> None:
    assert bound(1, 0.05) == pytest.approx(20)
    assert bound(12, 0.05) == pytest.approx(240)


def test_a_night_that_is_run_again_replaces_itself(made: Nights, tmp_path: Path) -> None:
    made.add("x" * 5 + "v" * 5, night="n")
    path = run_folder(tmp_path / "again", manifest("policy", [plan(trials=10)]), [record(trial=i) for i in range(10)])
    assert made.history.begin("n", "later") == 0
    made.history.add("n", load([path])[0])
    [result] = made.history.results("policy", "lab")
    assert (result.scored, result.covered) == (10, True)


def test_numbers_of_nights_go_up_and_stay(made: Nights) -> None:
    assert [made.history.begin(night, "") for night in ("b", "a", "b", "c")] == [0, 1, 0, 2]
    assert made.history.nights() == ["b", "a", "c"]


def test_a_night_that_is_not_there_cannot_be_pinned(made: Nights) -> None:
    made.add("x")
    with pytest.raises(ReportError, match="no night 'tomorrow' to pin; the last are: night-00"):
        made.history.pin("tomorrow")


def test_a_file_that_is_no_history_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_text("precious")
    with pytest.raises(ReportError, match="history"):
        History(path)
    assert path.read_text() == "precious"
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE mine (a)")
    other.close()
    with pytest.raises(ReportError, match="not a history of nights"):
        History(tmp_path / "other.sqlite")


# ---------------------------------------------------------------------- the morning report


def written(made: Nights, matrix: list[tuple[str, str]] | None = None) -> dict[str, str]:
    order = made.history.nights()
    files = nights.write(made.folder / "out", order[-1], order, made.judged(matrix), ALPHA)
    return {file.name: file.read_text() for file in files if file.suffix != ".parquet"}


def test_the_report_of_a_bad_night_says_so_first_everywhere(made: Nights) -> None:
    made.add("x" * 40)
    made.add("x" * 20 + "." * 20)
    texts = written(made, [("policy", "lab"), ("absent", "lab")])
    for name in ("index.html", "index.md", "message.md"):
        assert "REGRESSION: 1 of 2 got worse. 1 could not be judged." in texts[name], name
    assert "What got worse" in texts["index.html"]
    suite = ElementTree.fromstring(texts["junit.xml"])
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "1")
    assert [case.get("name") for case in suite if case.find("failure") is not None] == ["policy"]
    table = pd.read_csv(io.StringIO(texts["index.csv"]))
    assert list(table["verdict"]) == ["REGRESSION", "not covered"]
    assert table["difference"][0] == pytest.approx(-0.5)


def test_the_report_of_a_good_night_is_short_and_green(made: Nights) -> None:
    made.add("xx..")
    made.add("xx..")
    texts = written(made)
    assert texts["message.md"].startswith("**Night night-01**: Fine: none of 1 got worse")
    assert "What got worse" not in texts["index.html"]
    assert ElementTree.fromstring(texts["junit.xml"]).find("testcase/failure") is None


def test_a_policy_that_reads_simulator_state_is_marked(made: Nights, tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", manifest("policy", [plan()], privileged=True), [record(privileged=True)])
    made.history.begin("n", "")
    made.history.add("n", load([run])[0])
    texts = written(made)
    assert "policy [privileged]" in texts["index.html"]


def test_the_page_of_a_night_fetches_nothing(made: Nights) -> None:
    made.add("xx..")
    made.add("x...")
    page = Page(written(made)["index.html"])
    assert page.all("script") == []
    assert all(str(a.get("href", "#")).startswith(("#", "data:")) for _, a in page.elements)
    assert len(page.all("svg")) == 1
