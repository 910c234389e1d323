"""The training loop: draws, updates, logs, writes states and checkpoints, stops when asked. One process or a team.

DIR/log.csv, tensorboard/   one row an update        DIR/state/         from which it is resumed
DIR/checkpoint/             what was trained          DIR/checkpoints/   the same, at earlier updates
DIR/evaluations.csv         success rates             DIR/evaluations/   their runs
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from policies.training.log import EVALUATIONS, LOG, Log, Row
from policies.training.options import TrainingError, TrainOptions
from policies.training.stage import Stage
from policies.training.state import keep_state, last_state, same_training, whole_folder
from policies.training.trainer import Team, Trainer, parameters_of, precision


class Watcher(Protocol):
    """Who is told how it goes."""

    def row(self, row: Row) -> None:
        """A row of the log."""

    def say(self, text: str) -> None:
        """A line that stays."""


Evaluate = Callable[[Path, Path], Mapping[str, float]]
"""(checkpoint folder, folder for the run) -> success rates by name."""


@dataclass(frozen=True)
class Trained:
    """How a training ended: after which update, and whether all updates were made."""

    update: int
    finished: bool


def train(
    stage: Stage,
    options: TrainOptions,
    config: Mapping[str, Any],
    *,
    team: Team,
    watcher: Watcher,
    stop: Callable[[], bool],
    evaluate: Evaluate | None = None,
) -> Trained:
    """Train `stage`, from the state in `options.dir` if there is one.

    config: all that was asked for, as plain data; a state with another one is refused. stop: asked after each update;
    when true, the state is written and the training ends. Raises TrainingError.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    home = folder_of(options)
    config = {**config, "train": {**config["train"], "precision": precision(options, team.device)}}
    kept = last_state(home)
    if kept is not None:
        same_training(kept, config)
        if kept.update > options.updates:
            raise TrainingError(
                f"{home} holds {kept.update} updates already, train.updates={options.updates} are fewer: give another "
                "train.dir, or take an earlier one from its checkpoints"
            )
    trainer = Trainer(stage, options, team, int(config.get("seed") or 0))
    if kept is not None:
        trainer.restore(kept.tensor, kept.update)
    work = _Work(trainer, home, config, watcher, evaluate, seconds=float(kept.about["seconds"]) if kept else 0.0)
    try:
        with no_denormals():
            return work.run(stop)
    finally:
        work.close()


@contextmanager
def no_denormals() -> Iterator[None]:
    """Numbers below the smallest normal one count as zero meanwhile. Gradients through a sharp softmax hold
    many, and a processor takes many times as long over each."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def folder_of(options: TrainOptions) -> Path:
    """The training's folder, made if it is not there. Raises TrainingError if it cannot be."""
    home = Path(options.dir)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"train.dir={home} cannot be made: {error}") from error
    return home


class _Work:
    """One training at work."""

    def __init__(
        self,
        trainer: Trainer,
        home: Path,
        config: Mapping[str, Any],
        watcher: Watcher,
        evaluate: Evaluate | None,
        seconds: float,
    ) -> None:
        self.trainer, self.home, self.config, self.evaluate = trainer, home, config, evaluate
        self.options, self.team, self.watcher = trainer.options, trainer.team, watcher
        self.first = self.team.rank == 0
        self.logs: dict[str, Log] = {}
        if self.first:
            self.logs[LOG] = Log(home / LOG, trainer.update, tensorboard=self.options.tensorboard)
        self.earlier = seconds
        self.begun = time.monotonic()
        self.kept = time.monotonic()

    def close(self) -> None:
        for log in self.logs.values():
            log.close()

    def run(self, stop: Callable[[], bool]) -> Trained:
        total = self.options.updates
        self._say_start()
        self._pay(self.options)
        draws = drawn(self.trainer.stage, self.trainer.update, total, self.team, self.options)
        try:
            asked = False
            before = time.monotonic()
            while self.trainer.update < total and not asked:
                row = self.trainer.step(next(draws))
                now = time.monotonic()
                self._log(row, now - before)
                asked, late = self.team.any(stop(), self._late())
                self._after_update(asked or late)
                before = time.monotonic()
        finally:
            draws.close()
        if self.trainer.update < total:
            return Trained(self.trainer.update, finished=False)
        self._finish()
        return Trained(self.trainer.update, finished=True)

    def _say_start(self) -> None:
        if not self.first:
            return
        stage = self.trainer.stage
        went_on = f", going on after update {self.trainer.update}" if self.trainer.update else ""
        word = {torch.float32: "float32", torch.bfloat16: "bfloat16"}[self.trainer.dtype]
        self.watcher.say(
            f"{parameters_of(stage.module)}; batches of {stage.frames} frames; {self.team.world} "
            f"process{'es' * (self.team.world > 1)} on {self.team.device.type} in {word}{went_on}"
        )

    def _log(self, row: Mapping[str, float], seconds: float) -> None:
        update = self.trainer.update
        if not self.first or (update % self.options.log_every and update != self.options.updates):
            return
        rate = self.trainer.stage.frames / max(seconds, 1e-9)
        full = {"update": update, **row, "frames_per_s": rate, "seconds": self._seconds()}
        self.logs[LOG].add(full)
        self.watcher.row(full)

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.begun

    def _late(self) -> bool:
        minutes = self.options.state_minutes
        return self.first and minutes > 0 and time.monotonic() - self.kept > 60 * minutes

    def _after_update(self, asked: bool) -> None:
        """Write what is due, the same in every process. The state goes first: a checkpoint is then never of an update
        that will be made again."""
        update, options = self.trainer.update, self.options
        every = (options.state_every, options.checkpoint_every, options.evaluate.every)
        if asked or update == options.updates or any(n and update % n == 0 for n in every):
            self.write_state()
        self._pay(options)

    def _pay(self, options: TrainOptions) -> None:
        """Write and evaluate the checkpoint of this update, if it is due and not there yet."""
        update = self.trainer.update
        if update in (0, options.updates):
            return
        folder = self.home / "checkpoints" / f"update-{update:08d}"
        evaluate = self._wants_evaluation() and update % options.evaluate.every == 0
        keep = evaluate or (options.checkpoint_every > 0 and update % options.checkpoint_every == 0)
        keep, evaluate = self.team.any(self.first and keep and not folder.exists(), evaluate)
        if keep:
            self._write_checkpoint(folder)
        if evaluate:
            self._evaluate(folder)

    def _finish(self) -> None:
        folder = self.home / "checkpoint"
        self._write_checkpoint(folder)
        if self.team.any(self._wants_evaluation())[0]:
            self._evaluate(folder)

    def _wants_evaluation(self) -> bool:
        """Whether this update may have to be evaluated; the first process answers for all."""
        if not self.first or not self.options.evaluate.every:
            return False
        if EVALUATIONS not in self.logs:
            self.logs[EVALUATIONS] = Log(self.home / EVALUATIONS, self.trainer.update)
        return self.trainer.update not in self.logs[EVALUATIONS].updates

    def write_state(self) -> None:
        groups = self.trainer.state()
        if self.first:
            about = {"update": self.trainer.update, "seconds": self._seconds(), "config": dict(self.config)}
            keep_state(self.home, groups, {**about, "torch": torch.__version__})
        self.kept = time.monotonic()

    def _write_checkpoint(self, folder: Path) -> None:
        result = self.trainer.result()
        if self.first:
            with whole_folder(folder, "the checkpoint") as place:
                self.trainer.stage.save(place, result)
        self.team.wait()

    def _evaluate(self, folder: Path) -> None:
        update = self.trainer.update
        if self.first and self.evaluate is not None:
            rates = self.evaluate(folder, self.home / "evaluations" / f"update-{update:08d}")
            self.logs[EVALUATIONS].add({"update": update, **rates})
            self.logs[LOG].show({f"success/{name}": rate for name, rate in rates.items()}, update)
            self.watcher.say(f"update {update}: " + ", ".join(f"{name} {100 * r:.1f} %" for name, r in rates.items()))
        self.team.wait()


def drawn(stage: Stage, update: int, total: int, team: Team, options: TrainOptions) -> Generator[list[Any]]:
    """This process's parts of the batches of the updates from `update` on, prepared ahead in other threads."""
    parts = options.accumulate
    shares = [team.rank * parts + part for part in range(parts)]

    def draw(number: int) -> list[Any]:
        return [stage.draw(number, share, team.world * parts) for share in shares]

    if not options.draw_ahead:
        for number in range(update, total):
            yield draw(number)
        return
    waiting: deque[Future[list[Any]]] = deque()
    pool = ThreadPoolExecutor(options.draw_threads, thread_name_prefix="draw")
    try:
        for number in range(update, total):
            while len(waiting) <= options.draw_ahead and number + len(waiting) < total:
                waiting.append(pool.submit(draw, number + len(waiting)))
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """A question that is answered with yes after SIGINT or SIGTERM; a second SIGINT interrupts at once."""
    asked: list[int] = []

    def note(number: int, _frame: Any) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
