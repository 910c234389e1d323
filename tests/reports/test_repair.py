"""Repair keeps what can be read, invents nothing, and takes nothing away."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from reports.episode import EpisodeRecord, RecordError
from reports.records import FILE_NAME, RecordStore
from reports.repair import repair


def record(trial: int, attempt: int = 1, outcome: str = "failure") -> EpisodeRecord:
    digest = f"{trial:02x}{attempt:02x}" * 16
    won = None if outcome == "void" else outcome == "success"
    return EpisodeRecord(
        suite="lab",
        task=f"task-{trial % 3}",
        trial=trial,
        attempt=attempt,
        outcome=outcome,
        steps=trial,
        calls=1,
        success_once=won,
        success_at_end=won,
        instruction="press the red button " * 3,
        cause="it hung" if outcome == "void" else "",
        scene_hash=digest,
        action_digest=digest,
        started_at="2026-11-24T10:00:00.000+00:00",
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of 150 scored attempts and 10 void ones."""
    (tmp_path / "manifest.json").write_text("{}")
    rows = []
    with RecordStore(tmp_path / FILE_NAME, create=True) as store:
        for trial in range(150):
            if trial % 15 == 0:
                rows.append(record(trial, outcome="void"))
            rows.append(record(trial, attempt=1 + (trial % 15 == 0)))
        store.add_all(rows)
    return tmp_path


def identities(folder: Path) -> dict[tuple[int, int], EpisodeRecord]:
    with RecordStore(folder / FILE_NAME) as store:
        return {(each.trial, each.attempt): each for each in store.attempts()}


def test_sound_records_are_left_alone(run: Path) -> None:
    before = (run / FILE_NAME).read_bytes()
    done = repair(run)
    assert (done.kept, done.damaged) == (160, None)
    assert (run / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("share", [0.9, 0.6, 0.4])
def test_a_truncated_file_keeps_the_rows_that_are_left(run: Path, share: float) -> None:
    whole = identities(run)
    path = run / FILE_NAME
    cut = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(cut)
    done = repair(run)
    found = identities(run)
    assert done.damaged is not None
    assert done.damaged.read_bytes() == cut
    assert 0 < done.kept == len(found) < 160
    assert all(whole[key] == each for key, each in found.items())


def test_whatever_is_overwritten_nothing_is_made_up(run: Path) -> None:
    """Sectors of noise, zeros or other rows' bytes: every row that is kept is one that was there."""
    whole, rng = identities(run), random.Random(0)
    path = run / FILE_NAME
    good = path.read_bytes()
    for number in range(16):
        bad = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(0 if number % 4 == 0 else 4096, len(bad) - 512) // 512 * 512
            other = rng.randrange(0, len(bad) - 512) // 512 * 512
            bad[at : at + 512] = rng.choice([rng.randbytes(512), bytes(512), good[other : other + 512]])
        for extra in ("-wal", "-shm"):
            Path(f"{path}{extra}").unlink(missing_ok=True)
        path.write_bytes(bad)
        repair(run)
        found = identities(run)
        strange = {key: each for key, each in found.items() if whole.get(key) != each}
        assert not strange, f"damage {number}"


@pytest.mark.parametrize("content", [b"", b"these are no records", None])
def test_where_nothing_is_left_an_empty_store_stands_and_everything_runs_again(
    run: Path, content: bytes | None
) -> None:
    path = run / FILE_NAME
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert repair(run).kept == 0
    assert identities(run) == {}


def test_what_lay_in_the_log_beside_the_file_is_kept(run: Path) -> None:
    """The damaged file's last transactions are in its -wal: a writer was killed before they were moved over."""
    path = run / FILE_NAME
    store = RecordStore(path, write=True)
    store.add(record(200))
    beside = {part: Path(f"{path}{part}").read_bytes() for part in ("", "-wal")}
    store.close()
    for part, content in beside.items():
        Path(f"{path}{part}").write_bytes(content)
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(bytes(4096))
    done = repair(run)
    assert done.damaged is not None
    assert (200, 1) in identities(run)
    assert not Path(f"{path}-wal").exists() or Path(f"{path}-wal").stat().st_size == 0


def test_a_run_at_work_and_a_folder_that_is_no_run_are_refused(run: Path, tmp_path: Path) -> None:
    with RecordStore(run / FILE_NAME, write=True), pytest.raises(RecordError, match="is in use: process"):
        repair(run)
    (tmp_path / "other").mkdir()
    with pytest.raises(RecordError, match="is no run folder"):
        repair(tmp_path / "other")


def test_a_repaired_store_takes_further_records(run: Path) -> None:
    (run / FILE_NAME).write_bytes(b"gone")
    repair(run)
    with RecordStore(run / FILE_NAME, write=True) as store:
        store.add(record(0))
    db = sqlite3.connect(run / FILE_NAME)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
