"""The tables behind `reports.records`, as a list of migrations.

A file's version is SQLite's `user_version`. To change the schema, append a migration: those that stand here have been
applied to files in the world and are never edited.
"""

from __future__ import annotations

APPLICATION_ID = 0x4D564C41
"""`MVLA`: marks a database as ours (SQLite's `application_id`)."""

_ATTEMPTS = """
CREATE TABLE attempts (
    suite TEXT NOT NULL,
    task TEXT NOT NULL,
    trial INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome IN ('success', 'failure', 'void')),
    steps INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    success_once INTEGER,
    success_at_end INTEGER,
    score REAL,
    instruction TEXT NOT NULL,
    cause TEXT NOT NULL,
    scene_hash TEXT NOT NULL,
    first_frame_hash TEXT NOT NULL,
    action_digest TEXT NOT NULL,
    subtask_steps TEXT NOT NULL,
    metrics TEXT NOT NULL,
    seconds TEXT NOT NULL,
    video TEXT NOT NULL,
    privileged INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at TEXT NOT NULL,
    seed INTEGER NOT NULL,
    PRIMARY KEY (suite, task, trial, attempt)
)
"""

_ONE_SCORE = "CREATE UNIQUE INDEX one_score ON attempts (suite, task, trial) WHERE outcome <> 'void'"

# The final attempt of each scene: the scored one if there is one, else the last void one.
_EPISODES = """
CREATE VIEW episodes AS
SELECT * FROM attempts AS a
WHERE a.attempt = (
    SELECT b.attempt FROM attempts AS b
    WHERE b.suite = a.suite AND b.task = a.task AND b.trial = a.trial
    ORDER BY b.outcome = 'void', b.attempt DESC
    LIMIT 1
)
"""

# SQLite does not notice bytes that changed inside a row. Rows from before have none (''); a migration that changes
# values takes theirs away.
_CHECKSUM = "ALTER TABLE attempts ADD COLUMN checksum TEXT NOT NULL DEFAULT ''"

# Where two episodes part, for `memvla explain`. Rows from before have none.
_ACTIONS = (
    "ALTER TABLE attempts ADD COLUMN first_action TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE attempts ADD COLUMN action_marks TEXT NOT NULL DEFAULT ''",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = ((_ATTEMPTS, _ONE_SCORE, _EPISODES), (_CHECKSUM,), _ACTIONS)

ADDED = {"checksum": (2, ""), "first_action": (3, "[]"), "action_marks": (3, "")}
"""Columns that came later: the version that has them, and what a row from before holds."""

SELECT_COLUMNS = (
    "suite, task, trial, attempt, outcome, steps, calls, success_once, success_at_end, score, instruction, cause, "
    "scene_hash, first_frame_hash, action_digest, subtask_steps, metrics, seconds, video, privileged, worker, "
    "started_at, seed, first_action, action_marks, checksum"
)
