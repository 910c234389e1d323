"""The history of nightly runs: one SQLite file with what every night found, scene by scene."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

from envs.spec import SceneId
from reports.summary import Group, ReportError, Run

FILE_NAME = "history.sqlite"
_VERSION = 1
_APPLICATION_ID = 0x4D564C4E  # `MVLN`
_SCHEMA = """
CREATE TABLE nights (night TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, started_at TEXT NOT NULL);
CREATE TABLE results (
    night TEXT NOT NULL REFERENCES nights, policy TEXT NOT NULL, suite TEXT NOT NULL, fingerprint TEXT NOT NULL,
    planned INTEGER NOT NULL, scored INTEGER NOT NULL, void_attempts INTEGER NOT NULL, successes INTEGER NOT NULL,
    seconds REAL NOT NULL, steps INTEGER NOT NULL, privileged INTEGER NOT NULL, revision TEXT NOT NULL,
    folder TEXT NOT NULL,
    PRIMARY KEY (night, policy, suite)
);
CREATE TABLE outcomes (
    night TEXT NOT NULL, policy TEXT NOT NULL, suite TEXT NOT NULL, task TEXT NOT NULL, trial INTEGER NOT NULL,
    scene_hash TEXT NOT NULL, success INTEGER NOT NULL,
    PRIMARY KEY (night, policy, suite, task, trial)
) WITHOUT ROWID;
CREATE TABLE pins (number INTEGER PRIMARY KEY AUTOINCREMENT, night TEXT NOT NULL REFERENCES nights);
"""


@dataclass(frozen=True)
class Result:
    """One policy on one suite in one night. seconds: of all its attempts together; revision: of the checkout."""

    night: str
    policy: str
    suite: str
    fingerprint: str
    planned: int
    scored: int
    void_attempts: int
    successes: int
    seconds: float
    steps: int
    privileged: bool
    revision: str
    folder: str

    @property
    def covered(self) -> bool:
        """Whether every planned scene was scored."""
        return self.scored == self.planned


class History:
    """The file, made where there is none. Raises ReportError, naming it, when it is not one or cannot be used."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            if new:
                marks = f"PRAGMA user_version = {_VERSION}; PRAGMA application_id = {_APPLICATION_ID};"
                self._db.executescript(f"BEGIN; {_SCHEMA} {marks} COMMIT;")
            kind, version = (self._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
        except (sqlite3.Error, OSError) as error:
            raise ReportError(f"{self.path} cannot be used as the history of nights: {error}; move it away") from error
        if kind != _APPLICATION_ID or version != _VERSION:
            self.close()
            raise ReportError(
                f"{self.path} is not a history of nights that this memvla-bench knows (version {version}, expected "
                f"{_VERSION}); upgrade memvla-bench, or choose another `dir`"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, night: str, started_at: str) -> int:
        """The number of a night, from 0; a night that is new gets the next one. Numbers make seeds, and stay."""
        with closing(self._db.cursor()) as cursor:
            cursor.execute(
                "INSERT OR IGNORE INTO nights SELECT ?, COALESCE(MAX(number) + 1, 0), ? FROM nights",
                (night, started_at),
            )
            return int(cursor.execute("SELECT number FROM nights WHERE night = ?", (night,)).fetchone()[0])

    def add(self, night: str, run: Run) -> None:
        """What a run found in that night, in one transaction; what was there of its suites is replaced."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for group in run.groups:
                self._add(night, run, group)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _add(self, night: str, run: Run, group: Group) -> None:
        key = (night, run.manifest.policy, group.suite.name)
        for table in ("results", "outcomes"):
            self._db.execute(f"DELETE FROM {table} WHERE night = ? AND policy = ? AND suite = ?", key)
        spent = sum(r.seconds.get("total", 0.0) for r in (*group.scored, *group.void_attempts))
        counts = (group.planned, len(group.scored), len(group.void_attempts), group.rate.successes, spent)
        rest = (sum(r.steps for r in group.scored), run.privileged, str(run.manifest.git.get("revision", "")))
        values = (*key, group.suite.fingerprint, *counts, *rest, str(run.folder))
        self._db.execute(f"INSERT INTO results VALUES ({', '.join('?' * len(values))})", values)
        self._db.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(*key, r.task, r.trial, r.scene_hash, r.outcome == "success") for r in group.scored],
        )

    def nights(self) -> list[str]:
        """All nights in order."""
        return [row[0] for row in self._db.execute("SELECT night FROM nights ORDER BY number")]

    def results(self, policy: str, suite: str) -> list[Result]:
        """What every night found for one policy on one suite, in order."""
        rows = self._db.execute(
            "SELECT r.* FROM results AS r JOIN nights USING (night) WHERE policy = ? AND suite = ? ORDER BY number",
            (policy, suite),
        )
        names = [f.name for f in fields(Result)]
        made = [dict(zip(names, row, strict=True)) for row in rows]
        return [Result(**(values | {"privileged": bool(values["privileged"])})) for values in made]

    def outcomes(self, night: str, policy: str, suite: str) -> dict[SceneId, tuple[bool, str]]:
        """Scene -> (success, scene hash) of the scored scenes."""
        rows = self._db.execute(
            "SELECT task, trial, success, scene_hash FROM outcomes WHERE night = ? AND policy = ? AND suite = ?",
            (night, policy, suite),
        )
        return {SceneId(suite, task, trial): (bool(success), digest) for task, trial, success, digest in rows}

    def pin(self, night: str) -> None:
        """Make a night the baseline of all that follow. Raises ReportError for a night that is not there."""
        if night not in self.nights():
            listed: Sequence[str] = self.nights()[-5:]
            raise ReportError(f"there is no night {night!r} to pin; the last are: {', '.join(listed) or 'none'}")
        self._db.execute("INSERT INTO pins (night) VALUES (?)", (night,))

    def pinned(self) -> str | None:
        """The night that was pinned last, or None."""
        row = self._db.execute("SELECT night FROM pins ORDER BY number DESC LIMIT 1").fetchone()
        return None if row is None else str(row[0])
