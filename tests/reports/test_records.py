from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reports.records
from envs.spec import SceneId
from reports.records import EpisodeRecord, RecordError, RecordStore
from reports.schema import ADDED, MIGRATIONS
from tests.reports.making import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "episodes.sqlite"


def filled(path: Path, count: int = 50) -> Path:
    """A finished store of `count` scenes."""
    with RecordStore(path, create=True) as store:
        for trial in range(count):
            store.add(record(trial=trial))
    return path


def script(text: str, *words: str) -> list[str]:
    """A command that runs `text` in a Python of its own, with `tests` importable."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + textwrap.dedent(text), *words]


# ---------------------------------------------------------------------- what is kept


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    instruction=texts,
    score=st.none() | finite,
    seed=st.integers(-(2**63), 2**63 - 1),
    metrics=st.dictionaries(texts, finite, max_size=3),
    chain=st.lists(st.integers(0, 1000), max_size=5),
    first=st.lists(finite, max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_what_was_added_is_read_back_exactly(
    instruction: str, score: float | None, seed: int, metrics: dict[str, float], chain: list[int], first: list[float]
) -> None:
    parts = {"metrics": metrics, "subtask_steps": tuple(chain), "first_action": tuple(first)}
    made = record(instruction=instruction, score=score, seed=seed, **parts)
    with tempfile.TemporaryDirectory() as folder:
        with RecordStore(Path(folder) / "e.sqlite", create=True) as store:
            store.add(made)
        with RecordStore(Path(folder) / "e.sqlite") as store:
            assert store.episodes() == [made]


def test_a_duplicate_attempt_is_refused_and_the_first_one_stays(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add(record("failure"))
        with pytest.raises(RecordError, match=r"lab/press/0 attempt 1 .*already holds attempt 1 \(failure\)"):
            store.add(record("success"))
        assert [r.outcome for r in store.attempts()] == ["failure"]
        store.add(record(trial=1))  # and the store goes on


def test_a_scene_is_scored_once(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add(record("void"))
        store.add(record("failure", attempt=2))
        with pytest.raises(RecordError, match="never overwritten"):
            store.add(record("success", attempt=3))
        assert len(store.attempts()) == 2


def test_the_final_attempt_is_the_scored_one_or_the_last_void_one(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add(record("void", cause="first"))
        store.add(record("void", attempt=2, cause="second"))
        store.add(record("void", trial=1))
        store.add(record("failure", trial=1, attempt=2))
        store.add(record("void", trial=1, attempt=3, cause="late"))
        final = [(r.trial, r.attempt, r.outcome) for r in store.episodes()]
        assert final == [(0, 2, "void"), (1, 2, "failure")]
        assert store.scored() == {SceneId("lab", "press", 1)}
        assert store.attempts_of(SceneId("lab", "press", 0)) == 2
        assert store.attempts_of(SceneId("lab", "press", 9)) == 0


def test_scenes_are_told_apart_by_suite_task_and_trial(path: Path) -> None:
    scenes = [("lab", "press", 0), ("lab", "press", 1), ("lab", "stack", 0), ("libero", "press", 0)]
    with RecordStore(path, create=True) as store:
        for suite, task, trial in scenes:
            store.add(record(suite=suite, task=task, trial=trial))
        assert store.scored() == {SceneId(*scene) for scene in scenes}


def test_the_table_has_a_column_for_every_part(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add(record(metrics={"right_choices": 2.0}, subtask_steps=(3, 4)))
        store.add(record("void", trial=1))
        table = store.frame()
    assert list(table["outcome"]) == ["success", "void"]
    assert table["metrics.right_choices"].iloc[0] == 2.0
    assert table["seconds.policy"].iloc[0] == 0.5
    assert table["subtask_steps"].iloc[0] == "3 4"
    assert table["success_once"].isna().tolist() == [False, True]


def test_an_empty_store_gives_an_empty_table_with_its_columns(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        table = store.frame()
        assert store.episodes() == []
    assert len(table) == 0
    assert {"suite", "outcome", "score"} <= set(table.columns)


def test_exports_hold_the_same_numbers(path: Path, tmp_path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add(record(score=0.25, task='a "b", c'))
        back = pd.read_csv(store.export(tmp_path / "out.csv"))
        assert back.loc[0, "task"] == 'a "b", c'
        assert back.loc[0, "score"] == 0.25
        assert pd.read_parquet(store.export(tmp_path / "out.parquet")).loc[0, "score"] == 0.25
        with pytest.raises(RecordError, match=r"\.csv or \.parquet"):
            store.export(tmp_path / "out.xlsx")
        with pytest.raises(RecordError, match="nowhere"):
            store.export(tmp_path / "nowhere" / "out.csv")


def test_importing_records_loads_nothing_heavy() -> None:
    done = subprocess.run(
        script("import reports.records, reports.manifest; print(*sys.modules)"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"pandas", "matplotlib", "scipy", "statsmodels", "ray", "torch"} & set(done.stdout.split())


# ---------------------------------------------------------------------- kills, locks, two drivers


APPEND = """
    from tests.reports.making import record
    from reports.records import RecordStore
    store = RecordStore(sys.argv[1], create=True)
    for trial in range(100_000):
        store.add(record(trial=trial))
        print(trial, flush=True)
"""


def test_kill_9_loses_nothing_that_was_added_and_frees_the_lock(path: Path) -> None:
    with subprocess.Popen(script(APPEND, str(path)), stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        reported = [int(driver.stdout.readline()) for _ in range(40)]
        os.kill(driver.pid, signal.SIGKILL)
        reported += [int(line) for line in driver.stdout]
    assert driver.returncode == -signal.SIGKILL
    with RecordStore(path) as reader:
        kept = len(reader.episodes())
    with RecordStore(path, write=True) as store:
        assert [r.trial for r in store.episodes()] == list(range(kept))
        assert kept in (len(reported), len(reported) + 1)  # killed between adding and reporting
        store.add(record(trial=kept))


def test_a_second_driver_on_the_same_run_is_refused_while_readers_are_welcome(path: Path) -> None:
    with subprocess.Popen(script(APPEND, str(path)), stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        with pytest.raises(RecordError, match=f"in use: process {driver.pid}"):
            RecordStore(path, create=True)
        with RecordStore(path) as reader:
            assert SceneId("lab", "press", 0) in reader.scored()
        driver.kill()


def test_a_second_writer_in_the_same_process_is_refused(path: Path) -> None:
    with RecordStore(path, create=True), pytest.raises(RecordError, match="in use"):
        RecordStore(path, write=True)
    RecordStore(path, write=True).close()


def test_many_are_added_whole_or_not_at_all(path: Path) -> None:
    with RecordStore(path, create=True) as store:
        store.add_all([record(trial=0), record(trial=1)])
        with pytest.raises(RecordError, match="UNIQUE"):
            store.add_all([record(trial=2), record(trial=1)])
        assert [each.trial for each in store.attempts()] == [0, 1]


def test_a_reader_cannot_add(path: Path) -> None:
    filled(path, 1)
    with RecordStore(path) as reader, pytest.raises(RecordError, match="write=True"):
        reader.add(record(trial=5))


def test_a_reader_leaves_the_folder_as_it_found_it(path: Path) -> None:
    before = filled(path, 3).read_bytes()
    names = sorted(file.name for file in path.parent.iterdir())
    with RecordStore(path) as reader:
        assert len(reader.episodes()) == 3
    assert sorted(file.name for file in path.parent.iterdir()) == names == ["episodes.sqlite", "episodes.sqlite.lock"]
    assert path.read_bytes() == before


def test_a_store_locked_by_another_program_is_named_and_nothing_is_lost(path: Path) -> None:
    with RecordStore(path, create=True, busy_s=0.05) as store:
        store.add(record())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordError, match="another program holds it"):
            store.add(record(trial=1))
        other.execute("ROLLBACK")
        other.close()
        store.add(record(trial=1))
        assert len(store.episodes()) == 2


def test_a_closed_store_says_so(path: Path) -> None:
    store = RecordStore(path, create=True)
    store.close()
    store.close()
    with pytest.raises(RecordError, match="closed"):
        store.scored()


# ---------------------------------------------------------------------- damage


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_text(path: Path) -> None:
    path.write_text("these are not the records you are looking for")


def spoil_truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def spoil_overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)


@pytest.mark.parametrize("spoil", [spoil_empty, spoil_text, spoil_truncated, spoil_overwritten])
@pytest.mark.parametrize("mode", [{}, {"write": True}, {"create": True}])
def test_a_damaged_file_is_refused_and_never_replaced(path: Path, spoil: object, mode: dict[str, bool]) -> None:
    filled(path)
    assert callable(spoil)
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"episodes\.sqlite is damaged: found .*memvla repair"):
        RecordStore(path, **mode)
    assert path.read_bytes() == before


def test_a_missing_file_is_not_made_unless_asked_for(path: Path) -> None:
    for mode in ({}, {"write": True}):
        with pytest.raises(RecordError, match="not found"):
            RecordStore(path, **mode)
    assert list(path.parent.iterdir()) == []


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE attempts (suite TEXT)")
    with pytest.raises(RecordError, match="another program"):
        RecordStore(path, write=True)


def test_a_row_that_another_program_changed_is_refused(path: Path) -> None:
    filled(path, 2)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE attempts SET success_once = 0, success_at_end = 0 WHERE trial = 1")
    with RecordStore(path) as store, pytest.raises(RecordError, match=r"lab/press/1#1 was changed"):
        store.episodes()


@pytest.mark.parametrize("change", ["steps = steps + 1", "action_digest = scene_hash", "outcome = 'failure'"])
def test_a_row_that_still_makes_sense_but_is_not_what_was_added_is_refused(path: Path, change: str) -> None:
    filled(path, 2)
    with sqlite3.connect(path) as other:
        other.execute(f"UPDATE attempts SET {change} WHERE trial = 1")
        same = other.execute("SELECT action_digest = scene_hash, outcome FROM attempts WHERE trial = 0").fetchone()
    with RecordStore(path) as store, pytest.raises(RecordError, match=r"lab/press/1#1 was changed"):
        store.episodes()
    assert same[0] == 0


def test_a_file_from_before_there_were_checksums_is_read_and_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports.records, "MIGRATIONS", MIGRATIONS[:1])
    monkeypatch.setattr(reports.records, "_row", as_in(1, reports.records._row))
    with RecordStore(path, create=True) as store:
        store.add(record(trial=0))
    monkeypatch.undo()
    with RecordStore(path) as store:
        assert store.episodes() == [record(trial=0)]
    with RecordStore(path, write=True) as store:
        store.add(record(trial=1))
        assert store.episodes() == [record(trial=0), record(trial=1)]


def as_in(version: int, row: Callable[[EpisodeRecord], dict[str, object]]) -> Callable[..., dict[str, object]]:
    """What makes the rows of an earlier version of the schema."""
    later = [name for name, (since, _) in ADDED.items() if since > version]
    return lambda record: {name: value for name, value in row(record).items() if name not in later}


def test_a_file_from_before_there_were_actions_is_read_goes_on_and_is_still_guarded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports.records, "MIGRATIONS", MIGRATIONS[:2])
    monkeypatch.setattr(reports.records, "_row", as_in(2, reports.records._row))
    with RecordStore(path, create=True) as store:
        store.add(record(trial=0))
    monkeypatch.undo()
    new = record(trial=1, steps=2, first_action=(0.5, -1.0), action_marks="01234567")
    with RecordStore(path, write=True) as store:
        store.add(new)
        assert store.episodes() == [record(trial=0), new]
    for change, trial in (("steps = 41", 0), ("action_marks = '01234568'", 1)):
        with sqlite3.connect(path) as other:
            other.execute(f"UPDATE attempts SET {change} WHERE trial = {trial}")
        with RecordStore(path) as store, pytest.raises(RecordError, match="was changed"):
            store.episodes()
        with sqlite3.connect(path) as other:
            other.execute("UPDATE attempts SET steps = 40 WHERE trial = 0")


def test_a_newer_schema_is_refused_clearly(path: Path) -> None:
    filled(path, 1)
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(RecordError, match="written by a newer one"):
        RecordStore(path)


def test_an_older_schema_is_migrated_by_the_writer_and_only_in_memory_by_a_reader(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(path, 3)
    later = (*MIGRATIONS, ("UPDATE attempts SET worker = 'moved', checksum = ''",))
    monkeypatch.setattr(reports.records, "MIGRATIONS", later)
    before = path.read_bytes()
    with RecordStore(path) as reader:
        assert {r.worker for r in reader.episodes()} == {"moved"}
    assert path.read_bytes() == before
    with RecordStore(path, write=True) as store:
        store.add(record(trial=3, worker="new"))
    monkeypatch.undo()
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA user_version").fetchone() == (len(later),)
        assert other.execute("SELECT COUNT(*) FROM attempts WHERE worker = 'moved'").fetchone() == (3,)


def test_a_migration_that_fails_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, 3)
    later = (*MIGRATIONS, ("UPDATE attempts SET worker = 'moved'", "UPDATE no_such_table SET x = 1"))
    monkeypatch.setattr(reports.records, "MIGRATIONS", later)
    with pytest.raises(RecordError, match="no_such_table"):
        RecordStore(path, write=True)
    monkeypatch.undo()
    with RecordStore(path) as reader:
        assert {r.worker for r in reader.episodes()} == {"worker-0"}


# ---------------------------------------------------------------------- disks


FULL = """
    import resource, signal
    from tests.reports.making import record
    from reports.records import RecordError, RecordStore
    store = RecordStore(sys.argv[1], write=True)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
    added = 0
    try:
        for trial in range(1000, 2000):
            store.add(record(trial=trial))
            added += 1
    except RecordError as error:
        print(added, error)
"""


def test_a_full_disk_is_named_and_every_added_record_is_kept(path: Path) -> None:
    filled(path, 5)
    done = subprocess.run(script(FULL, str(path)), capture_output=True, text=True, check=True)
    added, _, said = done.stdout.partition(" ")
    assert int(added) > 0
    assert "is the disk full?" in said
    assert str(path) in said
    with RecordStore(path, write=True) as store:
        assert len(store.episodes()) == 5 + int(added)
        store.add(record(trial=1000 + int(added)))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder with a finished store, seen by somebody who may read it and not write."""
    folder = Path(tempfile.mkdtemp())
    path = filled(folder / "episodes.sqlite", 3)
    path.chmod(0o444)
    path.with_name(path.name + ".lock").unlink()
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write anywhere: be nobody for a moment
    yield path
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_read_only_run_can_be_reported_on(read_only: Path) -> None:
    with RecordStore(read_only) as reader:
        assert [r.trial for r in reader.episodes()] == [0, 1, 2]


@pytest.mark.parametrize("mode", [{"write": True}, {"create": True}])
def test_a_read_only_run_cannot_be_resumed_and_the_error_says_so(read_only: Path, mode: dict[str, bool]) -> None:
    with pytest.raises(RecordError, match="you may write there"):
        RecordStore(read_only, **mode)


def test_a_folder_that_cannot_be_written_takes_no_new_run(read_only: Path) -> None:
    with pytest.raises(RecordError, match="you may write there"):
        RecordStore(read_only.with_name("other.sqlite"), create=True)


def test_every_column_is_a_field_of_the_record(path: Path) -> None:
    filled(path, 1)
    with sqlite3.connect(path) as other:
        columns = [row[1] for row in other.execute("PRAGMA table_info(attempts)")]
    assert sorted(columns) == sorted([*EpisodeRecord.__dataclass_fields__, "checksum"])
