"""What the training loop can be told: `train.*` of a recipe and of the command line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.base import PolicyError
from policies.vla.config import from_data, one_of

FREE = (
    "dir",
    "device",
    "processes",
    "accumulate",
    "shard_over",
    "address",
    "activations",
    "state_every",
    "state_minutes",
    "checkpoint_every",
    "log_every",
    "tensorboard",
    "draw_threads",
    "draw_ahead",
    "threads",
    "evaluate",
)
"""Options that change no update, so that a resume may have others."""

LENGTH = ("updates", "cooldown", "lr_final")
"""Options that change no update made before a `constant` rate begins to fall."""


class TrainingError(PolicyError):
    """A training that cannot begin or go on. The message names what was found, what was expected, and the cure."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluation by the harness itself while training goes on: it waits until the run has ended.

    every: updates between two runs (0: none); suite: one or more, separated by commas; trials: scenes a task; policy:
    name of the policy that reads the checkpoint (empty: its family's); overrides: more words for `memvla run`, as
    `policy.ensemble=7`.
    """

    every: int = 0
    suite: str = ""
    trials: int = 10
    policy: str = ""
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.every and not self.suite:
            raise TrainingError("train.evaluate.every is set: name the suites, train.evaluate.suite=NAME,...")
        at_least("train.evaluate.every", self.every, 0)
        at_least("train.evaluate.trials", self.trials, 1)


@dataclass(frozen=True)
class TrainOptions:
    """The loop's options.

    dir: folder of the training; one that holds a state is resumed. updates: of the weights, in all.

    lr, betas, weight_decay: of AdamW; weight decay is for matrices, not for norms and biases. schedule: `constant`, or
    `cosine` down to `lr * lr_final` at the last update; warmup: updates over which the rate first rises linearly;
    cooldown: share of the updates, the last ones, over which a `constant` rate falls linearly to `lr * lr_final` (as
    Hägele et al. 2024).
    clip: largest norm of the gradient (0: not clipped). ema: decay of an average of the weights, which is what
    checkpoints then hold (0: none); it starts fast, as min(ema, (1 + u) / (10 + u)) at update u.

    precision: `float32`, `bfloat16` (weights and sums over processes stay float32), or `auto`: bfloat16 on a GPU.
    activations: `keep`, or compute them again in the backward pass to save memory: those of the `language` model's
    blocks, or of all `blocks`. device: `auto`, `cpu`, `cuda`.

    accumulate: parts the batch of a process is computed in, one after another. processes: over which each batch is
    parted and the weights are sharded (one GPU each where there are any); shard_over: processes that hold one copy of
    the weights together, as those of one machine (0: all). address: of a Ray cluster to join (empty: this machine).

    state_every, state_minutes: updates and minutes after which the state is written, from which a training is resumed
    (0: not for that reason). checkpoint_every: updates after which what is trained is written under checkpoints/ (0:
    only at the end). log_every: updates between two rows of log.csv. draw_threads: threads that prepare batches;
    draw_ahead: batches prepared ahead; threads: of the CPU for computing (0: leave as it is).
    """

    dir: str = ""
    updates: int = 10_000
    lr: float = 1e-3
    betas: tuple[float, ...] = (0.9, 0.999)
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    cooldown: float = 0.0
    lr_final: float = 0.0
    clip: float = 1.0
    ema: float = 0.0
    precision: str = "auto"
    activations: str = "keep"
    device: str = "auto"
    accumulate: int = 1
    processes: int = 1
    shard_over: int = 0
    address: str = ""
    state_every: int = 1000
    state_minutes: float = 10.0
    checkpoint_every: int = 0
    log_every: int = 1
    tensorboard: bool = True
    draw_threads: int = 1
    draw_ahead: int = 2
    threads: int = 0
    evaluate: EvaluateOptions = field(default_factory=EvaluateOptions)

    def __post_init__(self) -> None:
        one_of("train.schedule", self.schedule, ("constant", "cosine"))
        one_of("train.precision", self.precision, ("auto", "float32", "bfloat16"))
        one_of("train.activations", self.activations, ("keep", "language", "blocks"))
        one_of("train.device", self.device, ("auto", "cpu", "cuda"))
        for name in ("updates", "accumulate", "processes", "log_every", "draw_threads"):
            at_least(f"train.{name}", getattr(self, name), 1)
        for name in ("warmup", "clip", "state_every", "state_minutes", "checkpoint_every", "draw_ahead", "shard_over"):
            at_least(f"train.{name}", getattr(self, name), 0)
        if not self.lr > 0:
            raise TrainingError(f"train.lr must be above 0, was {self.lr}")
        if self.cooldown and self.schedule != "constant":
            raise TrainingError(f"train.cooldown belongs to schedule=constant: {self.schedule} falls by itself")
        if not 0 <= self.cooldown <= 1:
            raise TrainingError(f"train.cooldown is a share of the updates, 0 ... 1, was {self.cooldown}")
        if not 0 <= self.ema < 1:
            raise TrainingError(f"train.ema is a decay in [0, 1), 0 for none; was {self.ema}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise TrainingError(f"train.betas are two numbers in [0, 1), were {self.betas}")
        if self.shard_over and self.processes % self.shard_over:
            raise TrainingError(
                f"train.shard_over={self.shard_over} must divide train.processes={self.processes}: copies are equal"
            )


def at_least(name: str, value: float, least: float) -> None:
    """Raise TrainingError unless `value` is `least` or more."""
    if value < least:
        raise TrainingError(f"{name} must be {least} or more, was {value}")


def train_options(data: Mapping[str, Any]) -> TrainOptions:
    """Options from plain data. Raises PolicyError for an unknown key, with the nearest one."""
    return from_data(TrainOptions, data, "train")


def steady(config: Mapping[str, Any], update: int) -> bool:
    """Whether the learning rates of the updates before this one do not depend on how many there are in all."""
    options = train_options(config["train"])
    falls = options.updates * (1 - options.cooldown) if options.cooldown else math.inf
    return options.schedule == "constant" and update <= falls


def fixed(config: Mapping[str, Any], *, any_length: bool = False) -> dict[str, Any]:
    """What a resume must share with the training it goes on with, as flat keys: all but the options that are FREE,
    and with `any_length` but those of LENGTH."""
    train = dataclasses.asdict(train_options(config["train"]))
    free = {*FREE, *(LENGTH if any_length else ())}
    kept = {**config, "train": {name: value for name, value in train.items() if name not in free}}
    return dict(flat(kept))


def free_options(config: Mapping[str, Any]) -> list[str]:
    """Names of the options a resume may change, as the command line has them."""
    options = train_options(config["train"])
    names = [*(LENGTH if options.schedule == "constant" else ()), *FREE]
    return [f"train.{name}" for name in names]


def flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as (dotted key, value)."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found.extend(flat(value, f"{name}."))
        else:
            found.append((name, list(value) if isinstance(value, tuple) else value))
    return found
