"""The world-model stage under the training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from policies.training.loop import train
from policies.training.options import TrainOptions
from policies.training.trainer import Team
from policies.training.world import world_stage
from policies.training.world_files import load_world
from tests.policies.training.test_world import DEMOS, TINY


class Silent:
    """Nobody watches."""

    def row(self, row: Mapping[str, float | None]) -> None:
        pass

    def say(self, text: str) -> None:
        pass


def run(folder: Path, phase: str, start: Path | None, stop_at: int = 6) -> Path:
    """Six updates in `folder`, or until asked to stop; gives the checkpoint's folder."""
    stage = world_stage(DEMOS, None if start else TINY, phase=phase, start=start, batch=4, stride=2, words=True)
    options = TrainOptions(
        dir=str(folder), updates=6, schedule="cosine", warmup=2, ema=0.9, device="cpu", tensorboard=False, threads=1
    )
    asked: list[Any] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) >= stop_at

    train(stage, options, {"train": asdict(options), "seed": 0}, team=Team(), watcher=Silent(), stop=stop)
    return folder / "checkpoint"


def test_both_phases_train_under_the_loop_and_go_on_where_they_were_stopped(tmp_path: Path) -> None:
    first = run(tmp_path / "autoencoder", "autoencoder", None)
    whole = run(tmp_path / "whole", "video", first)
    assert not (run(tmp_path / "parts", "video", first, stop_at=3)).exists()
    parts = run(tmp_path / "parts", "video", first)
    a, b = load_world(whole).state_dict(), load_world(parts).state_dict()
    assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())
    begun = load_world(first).state_dict()
    moved = {name.split(".")[0] for name, tensor in a.items() if not torch.equal(tensor, begun[name])}
    assert moved == {"unet", "text"}
