"""How the cost of a run grows with its episodes, how soon it begins, and what a second worker brings.

    python benchmarks/growth.py [--episodes 1000]

Prints the seconds from the command to the first episode (in one process, and on local Ray); for a run of --episodes
lab episodes in one process, the seconds of an episode and the resident memory in its first and in its last tenth,
which must be the same if cost is linear and memory flat; the milliseconds of one record in SQLite; and the episodes a
second of two workers over those of one, for episodes that only compute.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil

from reports import load
from reports.records import FILE_NAME, RecordStore

TASK = "press_order"
"""Its episodes last to their limit under a policy that does nothing right: all cost the same."""


def run(folder: Path, episodes: int, *words: str) -> tuple[pd.DataFrame, float, list[float]]:
    """Records of a run, when its command was given (seconds since the epoch), and its resident MiB, ten a second."""
    scenes = ["suite=lab_memory", f"run.tasks=[{TASK}]", "policy=random", f"run.trials={episodes}", "run.videos=0"]
    command = [sys.executable, "-m", "harness.cli", "run", *scenes, f"run.dir={folder}", "--no-report", *words]
    given, resident = time.time(), list[float]()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                resident.append(psutil.Process(process.pid).memory_info().rss / 2**20)
            except psutil.Error:
                break
            time.sleep(0.1)
    if process.returncode != 0:
        sys.exit(f"the run ended with {process.returncode}")
    found = load(folder)
    found["began"] = pd.to_datetime(found["started_at"]).map(lambda stamp: stamp.timestamp())
    return found.sort_values("began", ignore_index=True), given, resident


def growth(folder: Path, episodes: int) -> None:
    """Start-up, and the first tenth of a long run against its last."""
    found, given, resident = run(folder / "inline", episodes, "cluster=inline")
    print(f"first episode after:            {found.began[0] - given:8.1f} s in one process")
    tenth = episodes // 10
    gaps = found.began.diff().dropna()
    first, last = gaps.head(tenth).mean(), gaps.tail(tenth).mean()
    print(f"an episode, first tenth:        {1000 * first:8.2f} ms")
    print(f"an episode, last tenth:         {1000 * last:8.2f} ms   {last / first:.3f} of the first")
    whole = len(resident)
    early, late = statistics.median(resident[whole // 10 : whole // 5]), statistics.median(resident[-whole // 10 :])
    print(f"resident, second tenth and last:{early:8.1f} MiB {late:.1f} MiB   {late / early:.3f}")
    record_cost(folder / "inline" / "random" / FILE_NAME, folder / "again")


def record_cost(source: Path, folder: Path) -> None:
    """Milliseconds to write one record, with the run's own records into a fresh file."""
    with RecordStore(source) as store:
        records = list(store.attempts())
    folder.mkdir()
    took = []
    with RecordStore(folder / FILE_NAME, create=True) as store:
        for record in records:
            begun = time.perf_counter()
            store.add(replace(record, attempt=1))
            took.append(1000 * (time.perf_counter() - begun))
    slow = sorted(took)[-max(1, len(took) // 100)]
    print(f"a record in SQLite:             {statistics.median(took):8.2f} ms   99 % below {slow:.2f}")


def scaling(folder: Path, episodes: int) -> None:
    """Episodes a second of one and two workers on Ray, from the first episode's begin to the last one's end."""
    rates = []
    for workers in (1, 2):
        where = folder / f"ray-{workers}"
        found, given, _ = run(where, episodes * workers, "cluster=local", f"cluster.workers={workers}")
        ended = (found.began + found["seconds.total"]).max()
        rates.append(len(found) / (ended - found.began.min()))
        print(f"first episode after:            {found.began[0] - given:8.1f} s on local Ray, {workers} worker(s)")
    print(f"two workers over one:           {rates[1] / rates[0]:8.2f}   {rates[0]:.1f} and {rates[1]:.1f} episodes/s")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--episodes", type=int, default=1000)
    given = words.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        growth(Path(name), given.episodes)
        scaling(Path(name), max(100, given.episodes // 2))


if __name__ == "__main__":
    main()
