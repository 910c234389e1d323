"""Stopping a run on Ray by hand, by the system, and for good: nothing is lost and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness import run as running
from reports.records import EpisodeRecord, RecordStore


def begin(folder: Path, sleep: float = 0.05) -> subprocess.Popen[str]:
    """A run on Ray that is in the middle of its episodes, in a session of its own, as under a terminal."""
    notes = folder / "notes"
    words = [
        "suite=point",
        "policy=slow",
        f"policy.notes={notes}",
        f"policy.sleep={sleep}",
        f"run.dir={folder / 'run'}",
    ]
    command = [sys.executable, "-m", "harness.cli", "run", *words, "run.trials=40", "cluster.workers=2", "run.videos=0"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heed, start_new_session=True)
    while not notes.exists() or notes.stat().st_size < 5 * 30:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    return process


def left_behind(process: subprocess.Popen[str], family: list[psutil.Process], shared: set[str]) -> list[str]:
    """What still is there of a run that ended: processes, shared memory, sockets."""
    _, alive = psutil.wait_procs(family, timeout=90)
    found = [str(each) for each in alive]
    found += sorted(set(os.listdir("/dev/shm")) - shared)
    return found + [str(path) for path in Path(tempfile.gettempdir()).glob(f"memvla-sockets-{process.pid}-*")]


def records(folder: Path) -> list[EpisodeRecord]:
    with RecordStore(folder / "run" / "slow" / "episodes.sqlite") as store:
        return store.attempts()


@pytest.mark.parametrize("by", ["terminal", "system"])
def test_one_signal_ends_the_run_in_order_and_leaves_nothing_behind(tmp_path: Path, by: str) -> None:
    """Ctrl-C reaches every process of the terminal; SIGTERM the driver alone."""
    shared = set(os.listdir("/dev/shm"))
    process = begin(tmp_path)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("raylet" in each.name() for each in family)
    if by == "terminal":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == running.INTERRUPTED, said
    assert "Resume with" in said
    assert left_behind(process, family, shared) == []
    found = records(tmp_path)
    assert 0 < len(found) < 40
    assert all(record.scored for record in found)


def test_two_signals_end_it_at_once_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    shared = set(os.listdir("/dev/shm"))
    process = begin(tmp_path, sleep=0.2)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    while process.poll() is None:  # an end in order may take only a moment
        time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == running.INTERRUPTED, said
    # The folder of the sockets is taken away when the next run begins.
    assert [found for found in left_behind(process, family, shared) if "memvla-sockets" not in found] == []
    assert said.count("stopped at once") == 1
    assert all(record.scored for record in records(tmp_path))
