"""Several processes train one model: Ray Train starts them, FSDP2 parts the weights among them.

Every process computes its shares of each batch; the mean of the gradients is that of the whole batch, so that the
number of processes changes no more than the last bits. The first process writes logs, states and checkpoints; it tells
the command that started it how it goes through a file in the training's folder, which all machines must share.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import torch
import torch.distributed as dist

from policies.base import PolicyError
from policies.training.demos import DemoError
from policies.training.log import Row
from policies.training.loop import Evaluate, Trained, Watcher, folder_of, train
from policies.training.options import TrainingError, TrainOptions, train_options
from policies.training.recipes import Recipe
from policies.training.stage import Stage
from policies.training.state import last_state
from policies.training.trainer import Team

STOP = "stop.asked"
MESSAGES = "messages.jsonl"
SURROUNDINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",  # a busy machine imports torch in minutes
    "RAY_worker_niceness": "0",  # the training is what this machine is for: Ray's own choice is 15
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
POLL_S = 0.5
HANG_S = 1800
"""Seconds after which a process that waits for the others counts them as hung."""
EVALUATION_S = 12 * 3600
"""The same where the others wait for the first one's evaluations."""


@dataclass(frozen=True)
class Sharded(Team):
    """Processes of one `torch.distributed` group."""

    def shard(self, stage: Stage, options: TrainOptions, dtype: torch.dtype) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        over = options.shard_over or self.world
        kind = self.device.type
        if over == self.world:
            mesh = init_device_mesh(kind, (self.world,))
        else:
            mesh = init_device_mesh(kind, (self.world // over, over), mesh_dim_names=("copies", "shards"))
        # Weights are gathered in `dtype`, gradients are summed in float32, and the shards stay float32. What goes in
        # and out of a block is left to autocast, as in a single process.
        low = None if dtype == torch.float32 else dtype
        policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in stage.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(stage.module, mesh=mesh, mp_policy=policy)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total / self.world

    def any(self, *flags: bool) -> tuple[bool, ...]:
        seen = torch.tensor(flags, dtype=torch.float32, device=self.device)
        dist.all_reduce(seen, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in seen.tolist())

    def wait(self) -> None:
        self.any(False)


class Messages:
    """The first process's watcher: it writes what it is told to a file. The other processes' are silent."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("a") if path else None

    def row(self, row: Row) -> None:
        self._write({"row": dict(row)})

    def say(self, text: str) -> None:
        self._write({"say": text})

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(message) + "\n")
            self._file.flush()


class Follower:
    """Reads that file as it grows and passes it on."""

    def __init__(self, path: Path, watcher: Watcher) -> None:
        path.write_text("")
        self._path, self._watcher, self._read = path, watcher, 0

    def look(self) -> None:
        """Pass on what was written since the last look."""
        with self._path.open() as file:
            file.seek(self._read)
            for line in iter(file.readline, ""):
                if not line.endswith("\n"):
                    break  # it is being written
                self._read = file.tell()
                message = json.loads(line)
                if "say" in message:
                    self._watcher.say(message["say"])
                else:
                    self._watcher.row(message["row"])


def train_together(
    recipe: Recipe, *, watcher: Watcher, stop: Callable[[], bool], evaluate: Evaluate | None = None
) -> Trained:
    """`loop.train` in `recipe.train.processes` processes. Raises PolicyError and its kinds as they did."""
    home = folder_of(recipe.train).resolve()
    recipe = replace(recipe, train=replace(recipe.train, dir=str(home)))
    follower = Follower(home / MESSAGES, watcher)
    (home / STOP).unlink(missing_ok=True)
    with _ray(recipe.train):
        trainer = _trainer(recipe, evaluate)
        failures: list[BaseException] = []
        thread = threading.Thread(target=_fit, args=(trainer, failures), name="ray-train")
        thread.start()
        while thread.is_alive():
            if stop():
                (home / STOP).touch()
            follower.look()
            thread.join(POLL_S)
        follower.look()
    for left in (home / STOP, home / MESSAGES):
        left.unlink(missing_ok=True)
    shutil.rmtree(home / "ray", ignore_errors=True)  # Ray Train's own notes; our state says all
    if failures:
        raise _mistake(failures[0]) from failures[0]
    kept = last_state(home)
    update = kept.update if kept else 0
    return Trained(update, finished=update >= recipe.train.updates)


def _fit(trainer: Any, failures: list[BaseException]) -> None:
    """In a thread of its own: signals stay with the loop above, not with Ray."""
    try:
        trainer.fit()
    except BaseException as error:
        failures.append(error)


def _mistake(failure: BaseException) -> BaseException:
    """The user's mistake behind a failure of Ray Train, or the failure."""
    causes = list(getattr(failure, "worker_failures", {}).values())
    while causes:
        cause = causes.pop(0)
        if isinstance(cause, PolicyError | DemoError):
            return cause
        inner = (getattr(cause, "_base_exc", None), getattr(cause, "cause", None), cause.__cause__)
        causes.extend(found for found in inner if found is not None)
    return failure


@contextlib.contextmanager
def _ray(options: TrainOptions) -> Iterator[None]:
    for name, value in SURROUNDINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.train
    except ImportError as error:
        raise TrainingError(
            f"train.processes={options.processes} needs Ray Train: pip install 'memvla-bench[train]'"
        ) from error
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if options.address:
            ray.init(address=options.address, **quiet)
        else:
            ray.init(num_cpus=options.processes + 1, include_dashboard=False, **quiet)
    except Exception as error:
        where = f"the Ray cluster at {options.address}" if options.address else "Ray on this machine"
        raise TrainingError(f"could not reach or start {where}: {error}") from error
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray puts its own in their place, which end the process at once
    try:
        yield
    finally:
        ray.shutdown()


def _trainer(recipe: Recipe, evaluate: Evaluate | None) -> Any:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    options = recipe.train
    gpus = int(ray.cluster_resources().get("GPU", 0))
    on_gpus = options.device == "cuda" or (options.device == "auto" and gpus > 0)
    if on_gpus and gpus < options.processes:
        raise TrainingError(
            f"train.processes={options.processes} need a GPU each; there are {gpus}, or train.device=cpu"
        )
    timeout = EVALUATION_S if options.evaluate.every else HANG_S
    return TorchTrainer(
        _work,
        train_loop_config={"recipe": asdict(recipe), "evaluate": evaluate},
        scaling_config=ScalingConfig(num_workers=options.processes, use_gpu=on_gpus),
        torch_config=TorchConfig(backend="nccl" if on_gpus else "gloo", timeout_s=timeout),
        run_config=RunConfig(name="ray", storage_path=options.dir, failure_config=FailureConfig(max_failures=0)),
    )


def _work(task: Mapping[str, Any]) -> None:
    """One process's training, started by Ray Train."""
    from ray.train import get_context
    from ray.train.torch import get_device

    data = dict(task["recipe"])
    recipe = Recipe(**{**data, "train": train_options(data["train"])})
    home = Path(recipe.train.dir)
    context = get_context()
    team = Sharded(context.get_world_rank(), context.get_world_size(), get_device())
    train(
        recipe.make(),
        recipe.train,
        recipe.config(),
        team=team,
        watcher=Messages(home / MESSAGES if team.rank == 0 else None),
        stop=lambda: team.rank == 0 and (home / STOP).exists(),
        evaluate=task["evaluate"],
    )
