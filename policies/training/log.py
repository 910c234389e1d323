"""What a training leaves to be read: a row of numbers in log.csv and in TensorBoard, and a display of its progress."""

from __future__ import annotations

import csv
import os
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from policies.training.options import TrainingError

LOG = "log.csv"
EVALUATIONS = "evaluations.csv"
LINE_EVERY_S = 15.0

Row = Mapping[str, float]


class Log:
    """Rows of one table: to a CSV, and to TensorBoard if asked.

    A resumed training first cuts the rows after the update it goes on from: they are written again. updates: those
    that have a row.
    """

    def __init__(self, path: Path, update: int, *, tensorboard: bool = False) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._columns: list[str] = []
        self.updates: set[int] = set()
        self._cut(update)
        self._board: Any = None
        if tensorboard:
            self._board = _board(path.parent / "tensorboard", update)

    def _cut(self, update: int) -> None:
        if not self._path.exists():
            return
        with self._path.open(newline="") as file:
            rows = list(csv.reader(file))
        if not rows or "update" not in rows[0]:
            self._path.unlink()
            return
        self._columns = rows[0]
        # The last row may be torn by a kill: it is after every state anyway.
        kept = [row for row in rows[1:] if len(row) == len(self._columns) and int(row[0]) <= update]
        self.updates = {int(row[0]) for row in kept}
        place = self._path.with_suffix(".unfinished")
        with place.open("w", newline="") as file:
            csv.writer(file).writerows([self._columns, *kept])
        os.replace(place, self._path)

    def add(self, row: Row) -> None:
        """Append a row, whose first key is `update`. Raises TrainingError for other columns, or a full disk."""
        if not self._columns:
            self._columns = list(row)
            self._write(self._columns)
        if list(row) != self._columns:
            raise TrainingError(f"{self._path} has the columns {self._columns}, the losses now are {list(row)}")
        self._write([repr(value) for value in row.values()])
        self.updates.add(int(row["update"]))
        self.show({name: value for name, value in row.items() if name not in ("update", "seconds")}, int(row["update"]))

    def show(self, values: Row, update: int) -> None:
        """Numbers for TensorBoard alone."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, update)

    def _write(self, cells: Sequence[str]) -> None:
        try:
            if self._file is None:
                self._file = self._path.open("a", newline="")
            csv.writer(self._file).writerow(cells)
            self._file.flush()
        except OSError as error:
            raise TrainingError(
                f"{self._path} could not be written: {error}. The last state is kept: make room and run the same "
                "command again"
            ) from error

    def close(self) -> None:
        """Flush and close."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def _board(folder: Path, update: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "TensorBoard is not installed: pip install 'memvla-bench[train]', or train.tensorboard=false"
        ) from error
    return SummaryWriter(str(folder), purge_step=update + 1)


class Progress:
    """A live bar on a terminal, lines in a pipe: loss, rate and remaining time."""

    def __init__(self, console: Console, name: str, total: int) -> None:
        self._console = console
        self._live = console.is_terminal
        self._name, self._total = name, total
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
        )
        self._losses: deque[float] = deque(maxlen=100)
        self._begun: tuple[float, float] | None = None
        self._said = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=self._total, said="")
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def row(self, row: Row) -> None:
        """Another row of the log."""
        update = row["update"]
        self._losses.append(row["loss"])
        if self._begun is None:
            self._begun = (update, time.monotonic())
            self._said = time.monotonic()
        loss = sum(self._losses) / len(self._losses)
        said = f"loss {loss:.4f}, {row['frames_per_s']:.0f} frames/s, {self._left(update)}"
        self._bar.update(self._task, completed=update, said=said)
        if not self._live and (update >= self._total or time.monotonic() - self._said > LINE_EVERY_S):
            self.say(f"{self._name}: {int(update)}/{self._total}, {said}")
            self._said = time.monotonic()

    def _left(self, update: float) -> str:
        assert self._begun is not None
        done, seconds = update - self._begun[0], time.monotonic() - self._begun[1]
        if done <= 0:
            return "-"
        return f"{spell(seconds / done * (self._total - update))} left"


def spell(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
