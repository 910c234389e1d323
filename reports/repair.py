"""What can still be read of a damaged record file: its sound rows go into a new file, the damaged one is kept."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envs.spec import SceneId
from reports.episode import EpisodeRecord, RecordError
from reports.records import FILE_NAME, RecordStore, record_of, take_lock
from reports.schema import ADDED, SELECT_COLUMNS

LEAST_ROW_BYTES = 100
"""Fewer bytes than any row takes: bounds the number of rows that a file can have held."""


@dataclass(frozen=True)
class Repaired:
    """What came of a repair. kept: attempts; damaged: where the damaged file lies now (None: the records were sound,
    and nothing was touched)."""

    kept: int
    damaged: Path | None


def repair(folder: Path) -> Repaired:
    """Make the records of a run folder sound again, without what cannot be read; it runs again on resume.

    The damaged file stays beside the new one, which takes its place in one step. Raises RecordError when the folder is
    no run, a driver is at work on it, or the disk does not allow it.
    """
    path = folder / FILE_NAME
    if not (folder / "manifest.json").is_file():
        raise RecordError(f"{folder} is no run folder: it has no manifest.json")
    lock = take_lock(path)
    try:
        with suppress(RecordError), RecordStore(path) as store:
            return Repaired(len(store.attempts()), None)
        with tempfile.TemporaryDirectory(prefix="repair-", dir=folder) as room:
            kept = _rescue(path, Path(room))
            return Repaired(kept, _change_places(path, Path(room) / "new" / FILE_NAME))
    except OSError as error:
        raise RecordError(f"cannot repair {path}: {error.strerror or error}; make room or mend the folder") from error
    finally:
        os.close(lock)


def _rescue(path: Path, room: Path) -> int:
    """Write the sound rows of `path` into a new store; returns how many."""
    for part in ("", "-wal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}{part}", room / f"old{part}")
    (room / "new").mkdir()
    found: dict[tuple[SceneId, int], EpisodeRecord] = {}
    scored: set[SceneId] = set()
    for record in _rows(room / "old"):
        name = (record.scene, record.attempt)
        if name not in found and not (record.scored and record.scene in scored):  # as the store itself would refuse
            found[name] = record
            scored |= {record.scene} if record.scored else set()
    with RecordStore(room / "new" / FILE_NAME, create=True) as store:
        store.add_all(found.values())
    return len(found)


def _rows(path: Path) -> Iterator[EpisodeRecord]:
    """The rows of a damaged file that can be read and make sense, in the order they were added."""
    try:
        db = sqlite3.connect(path, isolation_level=None)
        db.text_factory = lambda text: text.decode("utf-8", "strict")
        # Lets SQLite read what there is of a file that is shorter than its header says.
        db.execute("PRAGMA writable_schema = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        old = version < ADDED["checksum"][0]
        # Rows are numbered from 1 on, and none is ever taken away. What the file says of the last is not to be trusted.
        log = Path(f"{path}-wal")
        last = (path.stat().st_size + (log.stat().st_size if log.exists() else 0)) // LEAST_ROW_BYTES
    except (sqlite3.Error, OSError, ValueError):
        return
    later = {name: f"'{empty}'" for name, (since, empty) in ADDED.items() if version < since}
    columns = ", ".join(later.get(name, name) for name in SELECT_COLUMNS.split(", "))
    query = f"SELECT {columns} FROM attempts NOT INDEXED WHERE rowid = ?"
    try:
        for number in range(1, last + 1):
            try:
                row = db.execute(query, (number,)).fetchone()
                record = None if row is None else record_of(row)
            except sqlite3.OperationalError:
                return  # there is no such table: nothing of the file is left
            except (sqlite3.Error, RecordError, ValueError, TypeError):
                continue
            if record is not None and (row[-1] or old) and _makes_sense(record):
                yield record
    finally:
        db.close()


def _makes_sense(record: EpisodeRecord) -> bool:
    """For rows from before there were checksums: the digests look like digests, and a scored attempt has them."""
    digests = (record.scene_hash, record.first_frame_hash, record.action_digest)
    whole = all(re.fullmatch(r"([0-9a-f]{64})?", digest) for digest in digests)
    return whole and (record.outcome == "void" or bool(record.scene_hash and record.action_digest))


def _change_places(path: Path, new: Path) -> Path:
    """Put `new` where `path` is, in one step; returns where the old file lies now."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    # SQLite's side files first: beside the new file they would be taken for its own.
    for part in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{path}{part}", f"{aside}{part}")
    if path.exists():
        os.link(path, aside)
    else:
        aside.touch()
    os.replace(new, path)
    return aside
