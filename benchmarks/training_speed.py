"""What an update of a lab policy costs with denormal numbers kept and counted as zero.

    python benchmarks/training_speed.py [--family memoryvla] [--updates 12]

It records a few episodes, goes on from the shipped weights, and makes every update both ways in turn, so that other
work on the machine disturbs both alike. It is the processor's time on one thread, not the wall clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch

from harness.cli import app
from policies.training.loop import no_denormals
from policies.training.options import TrainOptions
from policies.training.policy_stage import PolicyStage, policy_stage
from policies.training.trainer import Team, Trainer

WEIGHTS = Path(__file__).parents[1] / "policies" / "weights"


def stage_of(family: str, data: Path) -> PolicyStage:
    """As recipe lab's stages for lab_memory, on a few episodes."""
    return policy_stage(
        family=family,
        data=[str(data)],
        cameras=["front", "wrist"],
        state=True,
        unnorm_key="lab",
        every=4,
        pieces=2,
        longest=48,
        model={"memory": {"length": 48}},
        start=str(WEIGHTS / "memoryvla_lab" / "lab_memory"),
        grounding=str(WEIGHTS / "starts" / "grounding_memory"),
        world=str(WEIGHTS / "starts" / "world") if family == "memoryvla_pp" else None,
        goal_weight=0.3,
        repeats=8,
        noisier=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="memoryvla", choices=["memoryvla", "memoryvla_pp"])
    parser.add_argument("--updates", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "order"
        words = ["suite=lab_memory", "policy=expert", "collect.tasks=[press_order]", "collect.trials=6"]
        app(["collect", *words, "cluster=inline", f"collect.dir={data}"], standalone_mode=False)
        stage = stage_of(options.family, data)
    trainer = Trainer(stage, TrainOptions(lr=1e-4), Team())
    ways: dict[str, list[float]] = {"kept": [], "zero": []}
    for update in range(options.updates + 1):  # the first warms up
        for way, seconds in ways.items():
            batch = stage.draw(update, 0, 1)
            with no_denormals() if way == "zero" else nullcontext():
                start = time.process_time()
                trainer.step([batch])
                seconds.append(time.process_time() - start)
    kept, zero = (statistics.median(seconds[1:]) for seconds in ways.values())
    print(f"denormals kept {kept:.3f} s an update, counted as zero {zero:.3f}: {kept / zero:.2f} times as many updates")


if __name__ == "__main__":
    main()
