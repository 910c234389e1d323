"""`memvla train`: a recipe, trained or resumed, and evaluated by the harness itself on the way."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from harness.progress import say_command
from policies.training.log import Progress
from policies.training.loop import Trained, stopping, train
from policies.training.options import EvaluateOptions, TrainingError, TrainOptions
from policies.training.recipes import Recipe, compose
from policies.training.trainer import Team
from reports.records import RecordStore

OK, INTERRUPTED = 0, 130


def train_command(words: Sequence[str], console: Console) -> int:
    """Carry out one command; the exit code. Raises PolicyError and its kind for a user's mistakes."""
    recipe = compose(words)
    with Progress(console, f"{recipe.name} {recipe.stage}", recipe.train.updates) as progress, stopping() as stop:
        try:
            ended = _carry_out(recipe, progress, stop)
        except KeyboardInterrupt:  # the second Ctrl-C
            console.print("interrupted: the last state is kept, the same command goes on from there")
            return INTERRUPTED
    if ended.finished:
        console.print(f"wrote {Path(recipe.train.dir) / 'checkpoint'}", highlight=False, soft_wrap=True)
        return OK
    console.print(f"stopped after update {ended.update}; its state is written. Resume with:", highlight=False)
    say_command(console, ["memvla", "train", *words])
    return INTERRUPTED


def _carry_out(recipe: Recipe, progress: Progress, stop: Callable[[], bool]) -> Trained:
    asked = recipe.train.evaluate
    evaluate = functools.partial(evaluated, asked) if asked.every else None
    if recipe.train.processes > 1:
        from policies.training.parallel import train_together

        return train_together(recipe, watcher=progress, stop=stop, evaluate=evaluate)
    team = Team(device=device_of(recipe.train))
    return train(
        recipe.make(), recipe.train, recipe.config(), team=team, watcher=progress, stop=stop, evaluate=evaluate
    )


def device_of(options: TrainOptions) -> torch.device:
    """Where this process computes. Raises TrainingError if there is no such device."""
    wanted = options.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise TrainingError("train.device=cuda, but no GPU can be used here; see memvla doctor, or train.device=cpu")
    return torch.device(wanted)


def evaluated(options: EvaluateOptions, checkpoint: Path, folder: Path) -> Mapping[str, float]:
    """Success rates of a checkpoint, by the harness in a process of its own, so that it disturbs nothing.

    folder: of the run. Raises TrainingError if the run fails or leaves a scene without a score.
    """
    words = [
        f"suite={options.suite}",
        f"policy={options.policy or family_of(checkpoint)}",
        f"policy.checkpoint='{checkpoint.resolve()}'",
        f"run.dir='{folder.resolve()}'",
        f"run.trials={options.trials}",
        "run.videos=0",
        *options.overrides,
    ]
    command = [sys.executable, "-m", "harness.cli", "run", "--no-report", *words]
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "output.txt"
    with said.open("w") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=surroundings)
    if ended.returncode:
        last = said.read_text().strip().splitlines()[-1:]
        raise TrainingError(
            f"the evaluation of {checkpoint} ended with exit code {ended.returncode}: {' '.join(last)}; see {said}. "
            "The last state of the training is kept: the same command goes on"
        )
    return success_rates(folder)


def family_of(checkpoint: Path) -> str:
    """The name of the policy that reads a checkpoint: its family."""
    try:
        return str(json.loads((checkpoint / "config.json").read_text())["model"]["family"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{checkpoint} is no policy's checkpoint: name the policy that reads it with train.evaluate.policy=NAME"
        ) from error


def success_rates(folder: Path) -> dict[str, float]:
    """Suite, and suite/task -> success rate of the scored episodes of the runs under `folder`."""
    scored: dict[str, list[bool]] = {}
    for path in sorted(folder.rglob("episodes.sqlite")):
        with RecordStore(path) as store:
            for record in store.episodes():
                if record.scored:
                    for name in (record.suite, f"{record.suite}/{record.task}"):
                        scored.setdefault(name, []).append(record.outcome == "success")
    return {name: sum(found) / len(found) for name, found in sorted(scored.items())}
