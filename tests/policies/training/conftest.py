"""Running `memvla train` as a user does: another process, the recipes and stages of tests/extras."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

EXTRAS = Path(__file__).parents[2] / "extras"
ENVIRONMENT = {
    **os.environ,
    "MEMVLA_RECIPES": str(EXTRAS / "recipe_files"),
    "PYTHONPATH": str(EXTRAS),
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


@pytest.fixture(autouse=True)
def recipes_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_RECIPES", ENVIRONMENT["MEMVLA_RECIPES"])


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "train", "recipe=finder", f"train.dir={folder}", *words]


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command at work; killed at the end if it still is."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command(folder, *words), env=ENVIRONMENT, text=True, **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *words), env=ENVIRONMENT, text=True, capture_output=True)


def table(folder: Path) -> list[dict[str, str]]:
    """log.csv, without what depends on the machine's speed."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("frames_per_s", "seconds")} for row in rows]


def losses(folder: Path) -> list[float]:
    return [float(row["loss"]) for row in table(folder)]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoint" / "finder.safetensors")


def until_row(folder: Path, row: int) -> None:
    """Wait until the log has so many rows."""
    for _ in range(6000):
        if (folder / "log.csv").exists() and len(table(folder)) >= row:
            return
        time.sleep(0.05)
    raise AssertionError(f"{folder} never came to row {row}")
