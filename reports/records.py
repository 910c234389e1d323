"""The records of a run: one SQLite file, one row for every attempt at a scene, appended by the driver alone.

Quick to import: pandas is loaded only where a table is asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from envs.spec import SceneId
from reports.episode import OUTCOMES, EpisodeRecord, RecordError
from reports.schema import ADDED, APPLICATION_ID, MIGRATIONS, SELECT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FILE_NAME", "OUTCOMES", "EpisodeRecord", "RecordError", "RecordStore"]

FILE_NAME = "episodes.sqlite"


class RecordStore:
    """The attempts of one run, in one SQLite file (`episodes.sqlite` in the run folder).

    `RecordStore(path)` reads, also while a run writes, and changes nothing. `write=True` opens an existing file for
    appending and holds a lock until `close` or the death of the process, so that a second driver on the same run is
    refused; `create=True` is the same and makes the file where there is none. `busy_s`: seconds to wait for another
    process that holds SQLite's own lock.

    Every `add` is one transaction, on disk when it returns (WAL, synchronous FULL): kill -9 loses nothing that was
    added. Raises RecordError, naming the file, what was found and the cure; a damaged file is never replaced.
    """

    def __init__(self, path: Path | str, *, create: bool = False, write: bool = False, busy_s: float = 10.0) -> None:
        self.path = Path(path)
        self.writable = create or write
        self._busy_s = busy_s
        self._lock: int | None = None
        self._db: sqlite3.Connection | None = None
        try:
            if self.writable:
                self._take_lock(create)
            if create and not self.path.exists():
                self._make()
            self._check_header()
            self._db = self._read_only()
            self._check_content()
            self._reopen()
            self._migrate()
        except (sqlite3.Error, OSError, UnicodeError) as error:
            self.close()
            raise self._explain(error) from error
        except RecordError:
            self.close()
            raise

    # ------------------------------------------------------------------ writing

    def add(self, record: EpisodeRecord) -> None:
        """Append one attempt, in one transaction.

        Raises RecordError, with nothing written, for an attempt that is there already, for a second scored attempt at
        a scene, and where the disk or the file does not allow it.
        """
        if not self.writable:
            raise RecordError(f"{self.path} was opened for reading; open it with write=True to add records")
        values = _row(record)
        marks = ", ".join("?" * len(values))
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"INSERT INTO attempts ({', '.join(values)}) VALUES ({marks})", list(values.values()))
            db.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            self._undo()
            raise RecordError(
                f"{self.path}: {record.scene} attempt {record.attempt} ({record.outcome}) was not added, since "
                f"{self._present(record.scene)}; records are never overwritten: resume the run to see what is missing"
            ) from error
        except sqlite3.Error as error:
            self._undo()
            raise self._explain(error) from error

    def add_all(self, records: Iterable[EpisodeRecord]) -> None:
        """Append many attempts in one transaction: all of them, or none and RecordError."""
        if not self.writable:
            raise RecordError(f"{self.path} was opened for reading; open it with write=True to add records")
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
            for values in map(_row, records):
                marks = ", ".join("?" * len(values))
                db.execute(f"INSERT INTO attempts ({', '.join(values)}) VALUES ({marks})", list(values.values()))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            self._undo()
            raise self._explain(error) from error

    def _undo(self) -> None:
        with suppress(sqlite3.Error):
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _present(self, scene: SceneId) -> str:
        rows = self._select(
            "SELECT attempt, outcome FROM attempts WHERE suite = ? AND task = ? AND trial = ? ORDER BY attempt",
            (scene.suite, scene.task, scene.trial),
        )
        return "it already holds " + (", ".join(f"attempt {a} ({o})" for a, o in rows) or "a record that conflicts")

    # ------------------------------------------------------------------ reading

    def scored(self) -> set[SceneId]:
        """The scenes that have an outcome which counts."""
        return {
            SceneId(*row) for row in self._select("SELECT suite, task, trial FROM attempts WHERE outcome <> 'void'")
        }

    def attempts_of(self, scene: SceneId) -> int:
        """The highest attempt number recorded for a scene, 0 when there is none."""
        query = "SELECT COALESCE(MAX(attempt), 0) FROM attempts WHERE suite = ? AND task = ? AND trial = ?"
        return int(self._select(query, (scene.suite, scene.task, scene.trial))[0][0])

    def episodes(self) -> list[EpisodeRecord]:
        """The final attempt of each scene: the scored one, or the last void one. Ordered by scene."""
        return self._records("episodes")

    def attempts(self) -> list[EpisodeRecord]:
        """Every attempt, ordered by scene and attempt."""
        return self._records("attempts")

    def frame(self) -> pd.DataFrame:
        """`episodes()` as a table: a column for each field, `metrics.NAME` and `seconds.PHASE` for their parts."""
        import pandas as pd

        rows = []
        for record in self.episodes():
            row = record.to_wire()
            for name in ("metrics", "seconds"):
                row.update({f"{name}.{key}": value for key, value in row.pop(name).items()})
            for name in ("subtask_steps", "first_action"):
                row[name] = " ".join(map(str, row[name]))
            rows.append(row)
        names = [f.name for f in fields(EpisodeRecord) if f.name not in ("metrics", "seconds")]
        extra = sorted({key for row in rows for key in row} - set(names))
        table = pd.DataFrame(rows, columns=[*names, *extra])
        return table.astype({"success_once": "boolean", "success_at_end": "boolean", "score": "float64"})

    def export(self, path: Path | str) -> Path:
        """Write `frame()` to a `.csv` or `.parquet` file. Raises RecordError for another ending."""
        path = Path(path)
        table = self.frame()
        try:
            if path.suffix == ".csv":
                table.to_csv(path, index=False)
            elif path.suffix == ".parquet":
                table.to_parquet(path, index=False)
            else:
                raise RecordError(f"cannot export to {path}: the name must end in .csv or .parquet")
        except OSError as error:
            raise RecordError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    def _records(self, table: str) -> list[EpisodeRecord]:
        rows = self._select(f"SELECT {SELECT_COLUMNS} FROM {table} ORDER BY suite, task, trial, attempt")
        return [self._record(row) for row in rows]

    def _record(self, row: tuple[Any, ...]) -> EpisodeRecord:
        try:
            return record_of(row)
        except (ValueError, TypeError, RecordError) as error:
            suite, task, trial, attempt = row[:4]
            raise RecordError(
                f"{self.path}: the row of {suite}/{task}/{trial}#{attempt} was changed by another program: {error}"
            ) from error

    def _select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._open().execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise self._explain(error) from error

    # ------------------------------------------------------------------ opening and closing

    def close(self) -> None:
        """Close the file and give up the lock. May be called twice."""
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RecordStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise RecordError(f"{self.path} is closed")
        return self._db

    def _take_lock(self, create: bool) -> None:
        if create or self.path.exists():  # else _check_header says so, and no lock file is left behind
            self._lock = take_lock(self.path)

    def _make(self) -> None:
        """Make an empty store beside its place and move it there whole, so that a file in place is never half made."""
        handle, name = tempfile.mkstemp(prefix=self.path.name + ".", suffix=".new", dir=self.path.parent)
        os.close(handle)
        try:
            db = sqlite3.connect(name, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                _upgrade(db, 0)
            finally:
                db.close()
            os.chmod(name, 0o644)
            os.rename(name, self.path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _check_header(self) -> None:
        """Refuse what is plainly no store before SQLite touches it."""
        if not self.path.is_file():
            raise RecordError(f"{self.path}: there are no records here (file not found); is this a run folder?")
        with self.path.open("rb") as file:
            head = file.read(16)
        if head != b"SQLite format 3\0":
            found = "an empty file" if not head else "something that is not an SQLite database"
            raise self._damaged(found)

    def _connect(self, options: str) -> sqlite3.Connection:
        address = f"{self.path.resolve().as_uri()}?{options}"
        db = sqlite3.connect(address, uri=True, isolation_level=None, timeout=self._busy_s)
        try:
            db.execute("SELECT COUNT(*) FROM sqlite_master")
        except BaseException:
            db.close()
            raise
        return db

    def _read_only(self) -> sqlite3.Connection:
        """A connection under which even a damaged file stays as it is."""
        try:
            return self._connect("mode=ro")
        except sqlite3.OperationalError as error:
            # A finished run in a folder that cannot be written: WAL wants its side files, `immutable` does without.
            wal = self.path.with_name(self.path.name + "-wal")
            refused = error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))
            if self.writable or not refused or (wal.exists() and wal.stat().st_size):
                raise
            return self._connect("mode=ro&immutable=1")

    def _reopen(self) -> None:
        """Now that the file is known to be sound, open it as it will be used.

        A reader too, where it may: only a connection that can write takes WAL's side files away when it closes.
        """
        try:
            db = self._connect("mode=rw")
        except sqlite3.OperationalError:
            if self.writable:
                raise
            return
        self._open().close()
        self._db = db
        if self.writable:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
        else:
            db.execute("PRAGMA query_only = ON")

    def _check_content(self) -> None:
        db = self._open()
        found = db.execute("PRAGMA integrity_check(3)").fetchall()
        if found != [("ok",)]:
            raise self._damaged("; ".join(str(row[0]) for row in found))
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise RecordError(f"{self.path} is an SQLite database of another program, not the records of a run")

    def _migrate(self) -> None:
        """Bring an older file up to date; a reader does so in memory and leaves the file as it is."""
        db = self._open()
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if not 1 <= version <= len(MIGRATIONS):
            raise RecordError(
                f"{self.path} has schema version {version}; this memvla-bench knows 1 to {len(MIGRATIONS)}: it was "
                f"written by a newer one, so upgrade this installation"
            )
        if version == len(MIGRATIONS):
            return
        if not self.writable:
            self._db = sqlite3.connect(":memory:", isolation_level=None)
            db.backup(self._db)
            db.close()
        _upgrade(self._open(), version)

    # ------------------------------------------------------------------ errors

    def _damaged(self, found: str) -> RecordError:
        return RecordError(
            f"{self.path} is damaged: found {found:.300}. It was left as it is. `memvla repair {self.path.parent}` "
            "keeps what can still be read, and the rest runs again; or restore it from a copy"
        )

    def _explain(self, error: sqlite3.Error | OSError | UnicodeError) -> RecordError:
        """The same fault in words of this store: which file, what was found, what mends it."""
        if isinstance(error, UnicodeError):  # of a damaged schema, even in SQLite's own complaint about it
            return self._damaged("text that is no UTF-8")
        code = getattr(error, "sqlite_errorname", None) or ""
        if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(error))
        if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            cure = "another program holds it: close that program, then run the same command again"
        elif code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            cure = "is the disk full? Free some space and run the same command again: it resumes where it stopped"
        elif code.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")) or isinstance(error, OSError):
            cure = f"check that {self.path.parent} exists, and that you may write there, or choose another folder"
        else:
            cure = "nothing was changed"
        return RecordError(f"{self.path}: {error} ({code or type(error).__name__}); {cure}")


def take_lock(path: Path) -> int:
    """One driver per run: an advisory lock that the kernel drops when the process dies, however it dies.

    path: the record file. Returns the handle to close. Raises RecordError naming the process that holds it.
    """
    handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 100, 0).decode(errors="replace").strip() or "unknown"
        os.close(handle)
        raise RecordError(
            f"{path.parent} is in use: process {holder} writes its records; wait for it, end it, or choose another "
            "results folder"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


_JSON = ("subtask_steps", "first_action", "metrics", "seconds")
"""Fields that have parts."""


def record_of(row: tuple[Any, ...]) -> EpisodeRecord:
    """The record of a row of SELECT_COLUMNS. Raises ValueError, TypeError or RecordError for one that is spoiled."""
    data = dict(zip(SELECT_COLUMNS.split(", "), row, strict=True))
    checksum = data.pop("checksum")
    if checksum and checksum != _checksum(data):
        raise RecordError("its checksum is another one")
    for name in _JSON:
        data[name] = json.loads(data[name])
    for name in ("success_once", "success_at_end", "privileged"):
        data[name] = None if data[name] is None else bool(data[name])
    return EpisodeRecord.from_wire(data)


def _row(record: EpisodeRecord) -> dict[str, Any]:
    """Column -> value as SQLite stores it: numbers, text, and JSON for what has parts; and their checksum."""
    row = record.to_wire()
    for name in _JSON:
        row[name] = json.dumps(row[name], allow_nan=False)
    for name, value in row.items():
        row[name] = int(value) if isinstance(value, bool) else value
    return {**row, "checksum": _checksum(row)}


def _checksum(row: Mapping[str, Any]) -> str:
    """Of the columns as SQLite gives them back. Columns that came later count where they hold something, so that the
    checksums from before hold."""
    counted = {name: value for name, value in row.items() if name not in ADDED or value != ADDED[name][1]}
    text = json.dumps(counted, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    """Apply the migrations after `version`, each in a transaction of its own."""
    for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        db.execute("BEGIN IMMEDIATE")
        try:
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
