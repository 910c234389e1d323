"""No change to the code changes an action, a scene, a picture or an outcome of the lab: they are written down.

Where one is meant to change (the version of the suite rises with it), write them down anew:

    MEMVLA_WRITE_DIGESTS=1 python -m pytest tests/harness/test_digests.py
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from rich.console import Console

from harness import run as running
from harness.config import compose_run
from reports.records import RecordStore

WRITTEN = Path(__file__).with_name("lab_digests.csv")
WORDS = [
    "suite=lab_general,lab_memory,lab_imagination",
    "policy=expert,remembering,random",
    "run.trials=3",
    "run.videos=0",
    "cluster=inline",
]


def played(folder: Path) -> list[dict[str, str]]:
    """A row an episode; of each hash the first 16 digits."""
    words = [f"run.dir={folder}", *WORDS]
    assert running.run(compose_run(words), Console(quiet=True), ["memvla", "run", *words]).exit_code == 0
    rows = []
    for path in sorted(folder.rglob("episodes.sqlite")):
        with RecordStore(path) as store:
            rows += [
                {
                    "policy": path.parent.name,
                    "suite": record.suite,
                    "task": record.task,
                    "trial": str(record.trial),
                    "outcome": record.outcome,
                    "steps": str(record.steps),
                    "scene": record.scene_hash[:16],
                    "first_frame": record.first_frame_hash[:16],
                    "actions": record.action_digest[:16],
                }
                for record in store.attempts()
            ]
    return sorted(rows, key=lambda row: tuple(row.values()))


def test_the_lab_plays_as_it_always_has(tmp_path: Path) -> None:
    found = played(tmp_path)
    if os.environ.get("MEMVLA_WRITE_DIGESTS"):
        with WRITTEN.open("w", newline="") as file:
            table = csv.DictWriter(file, list(found[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(found)
    with WRITTEN.open() as file:
        before = list(csv.DictReader(file))
    assert len(before) == 144
    assert found == before
