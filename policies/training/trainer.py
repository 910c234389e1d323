"""A stage with its optimiser: one update at a time, its whole state out and in. Knows nothing of files and folders."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from policies.training.options import TrainingError, TrainOptions
from policies.training.schedule import average_decay, learning_rate
from policies.training.stage import Stage

Groups = dict[str, dict[str, Tensor]]
LANGUAGE = ("llm", "language")
"""Parts of the names of modules that hold the language model."""


@dataclass(frozen=True)
class Team:
    """The processes that train together. Alone by default; `policies.training.parallel` makes teams."""

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 (a value, never changed)

    def shard(self, stage: Stage, options: TrainOptions, dtype: torch.dtype) -> None:
        """Part the weights among the processes."""

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the processes."""
        return values

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether it is set in any process."""
        return flags

    def wait(self) -> None:
        """Until all processes are here."""


class Trainer:
    """Trains `stage.module`. update: how many updates the weights have had."""

    def __init__(self, stage: Stage, options: TrainOptions, team: Team, seed: int = 0) -> None:
        self.stage, self.options, self.team, self.seed = stage, options, team, seed
        self.dtype = torch.bfloat16 if precision(options, team.device) == "bfloat16" else torch.float32
        stage.module.to(team.device)
        recompute(stage, options)
        team.shard(stage, options, self.dtype)
        self.trained = {name: p for name, p in stage.module.named_parameters() if p.requires_grad}
        if not self.trained:
            raise TrainingError("nothing to train: no parameter of the stage's module requires a gradient")
        self.optimiser = torch.optim.AdamW(self._groups(), lr=options.lr, betas=options.betas)  # type: ignore[arg-type]
        self.average = {name: p.detach().clone() for name, p in self.trained.items()} if options.ema else {}
        self.update = 0

    def _groups(self) -> list[dict[str, Any]]:
        matrices = [p for p in self.trained.values() if p.ndim > 1]
        vectors = [p for p in self.trained.values() if p.ndim <= 1]
        return [
            {"params": matrices, "weight_decay": self.options.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]

    def step(self, batches: Sequence[Any]) -> dict[str, float]:
        """One update from this process's parts of the batch; gives losses, `lr` and `gradient_norm`.

        Raises TrainingError for a loss or gradient that is no number; the weights are then as before.
        """
        torch.manual_seed(_seed(self.seed, self.update, self.team.rank))  # for chance inside layers, if any
        lr = learning_rate(self.options, self.update)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        losses = self._backward(batches)
        norm = self._clip()
        if not math.isfinite(norm):
            raise TrainingError(self._no_number("gradient norm", norm, losses))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._average()
        self.update += 1
        return {**losses, "lr": lr, "gradient_norm": norm}

    def _backward(self, batches: Sequence[Any]) -> dict[str, float]:
        parts: list[dict[str, Tensor]] = []
        for batch in batches:
            with self._autocast():
                losses = self.stage.module(to_device(batch, self.team.device))
            _check_losses(losses)
            (losses["loss"] / len(batches)).backward()
            parts.append({name: loss.detach().float() for name, loss in losses.items()})
        names = ["loss", *(name for name in parts[0] if name != "loss")]
        means = torch.stack([torch.stack([part[name] for part in parts]).mean() for name in names])
        values = dict(zip(names, self.team.mean(means).tolist(), strict=True))
        if not math.isfinite(values["loss"]):
            raise TrainingError(self._no_number("loss", values["loss"], values))
        return values

    def _no_number(self, what: str, value: float, losses: Mapping[str, float]) -> str:
        said = ", ".join(f"{name} {number:.6g}" for name, number in losses.items())
        return (
            f"the {what} of update {self.update + 1} is {value} ({said}): stopped before it reached the weights. The "
            "last state is kept. log.csv shows how it came; try another train.dir with a smaller train.lr or a longer "
            "train.warmup"
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.team.device.type, dtype=self.dtype)

    def _clip(self) -> float:
        most = self.options.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.trained.values(), most)
        return float(whole(norm))

    @torch.no_grad()
    def _average(self) -> None:
        if self.average:
            decay = average_decay(self.options, self.update)
            averages, weights = ([_own(t) for t in tensors.values()] for tensors in (self.average, self.trained))
            torch._foreach_lerp_(averages, weights, 1 - decay)

    # ------------------------------------------------------------------ state

    def state(self) -> Groups:
        """All that later updates depend on, by group and name, whole and on the CPU. Every process must ask; the
        first gets it, the others get nothing."""
        groups: dict[str, Iterator[tuple[str, Tensor]]] = {
            "weights": self._weights(),
            "average": iter(self.average.items()),
            "optimiser": self._moments(),
        }
        return {group: self._collect(tensors) for group, tensors in groups.items()}

    def result(self) -> dict[str, Tensor]:
        """The state dict of what is trained: averaged weights if there is an average. As `state` for processes."""
        return {**self._collect(self._weights()), **self._collect(iter(self.average.items()))}

    def _collect(self, tensors: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, tensor in tensors:
            full = whole(tensor)  # every process takes part in this
            if self.team.rank == 0:
                found[name] = full.detach().to("cpu", copy=True).contiguous()
        return found

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.stage.module.state_dict().items())

    def _moments(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.trained.items():
            for key, value in self.optimiser.state[parameter].items():
                yield f"{name}|{key}", value

    @torch.no_grad()
    def restore(self, read: Callable[[str], Callable[[str], Tensor]], update: int) -> None:
        """Set everything `state` gives; `read(group)(name)` gives a whole tensor. Raises TrainingError."""
        weights = read("weights")
        for name, tensor in self._weights():
            copy_whole(tensor, _shaped(weights(name), tensor, name))
        if self.average:
            average = read("average")
            for name, tensor in self.average.items():
                copy_whole(tensor, _shaped(average(name), tensor, name))
        moments = read("optimiser")
        for name, parameter in self.trained.items():
            state = self.optimiser.state[parameter]
            state["step"] = moments(f"{name}|step")
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.zeros_like(parameter)
                copy_whole(state[key], _shaped(moments(f"{name}|{key}"), parameter, name))
        self.update = update


def _seed(*parts: int) -> int:
    mixed = 0
    for part in parts:
        mixed = (mixed * 1_000_003 + part + 1) % 2**62
    return mixed


def _shaped(full: Tensor, like: Tensor, name: str) -> Tensor:
    if full.shape != like.shape:
        raise TrainingError(f"{name} is {tuple(full.shape)} in the training state, {tuple(like.shape)} in the model")
    return full


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be sharded, whole."""
    full = getattr(tensor, "full_tensor", None)
    return tensor if full is None else full()


def _own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor that may be sharded."""
    local = getattr(tensor, "to_local", None)
    return tensor if local is None else local()


def copy_whole(target: Tensor, full: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded. Every process has the same whole tensor."""
    mesh = getattr(target, "device_mesh", None)
    if mesh is None:
        target.copy_(full)
        return
    from torch.distributed.tensor import distribute_tensor

    target.copy_(distribute_tensor(full.to(target.device), mesh, target.placements, src_data_rank=None))  # type: ignore[attr-defined]


def _check_losses(losses: Any) -> None:
    if not isinstance(losses, Mapping) or "loss" not in losses or any(loss.ndim for loss in losses.values()):
        raise TypeError(
            f"a stage's module gives a mapping of 0-dimensional losses with `loss` among them, not {losses}"
        )


def precision(options: TrainOptions, device: torch.device) -> str:
    """`float32` or `bfloat16`: what `auto` means here. bfloat16 is slow on CPUs (5 times, measured)."""
    if options.precision == "auto":
        return "bfloat16" if device.type == "cuda" else "float32"
    return options.precision


def recompute(stage: Stage, options: TrainOptions) -> None:
    """Have blocks computed again in the backward pass instead of keeping their activations."""
    if options.activations == "keep":
        return
    names = {module: name for name, module in stage.module.named_modules()}
    chosen = [
        block for block in stage.blocks if options.activations == "blocks" or any(w in names[block] for w in LANGUAGE)
    ]
    if not chosen:
        raise TrainingError(f"train.activations={options.activations}: this stage has no such blocks; use keep")
    for block in chosen:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch (tensors in mappings, sequences and dataclasses) on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{f.name: to_device(getattr(batch, f.name), device) for f in fields(batch) if f.init})
    return batch


def parameters_of(module: nn.Module) -> str:
    """How many parameters it has and how many are trained, to be said at the start."""
    count = sum(p.numel() for p in module.parameters())
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return f"{_amount(count)} parameters" + ("" if trained == count else f", {_amount(trained)} of them trained")


def _amount(count: int) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.2f} {letter}"
    return str(count)
