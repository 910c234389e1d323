"""A stage that makes checkpoints of a real policy."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from envs.lab import ACTION
from policies.memoryvla.model import MemoryVLANetwork
from policies.vla.checkpoint import save_checkpoint
from policies.vla.config import preset
from policies.vla.language import lab_tokenizer


class ShrinkStage:
    """A real policy network of the `lab` preset, whose weights shrink: it shows how checkpoints are evaluated, and
    learns nothing. family: of the policy."""

    def __init__(self, *, family: str = "memoryvla", seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.config = preset("lab", family)
        self.module: nn.Module = Shrink(MemoryVLANetwork(self.config))
        self.blocks: tuple[nn.Module, ...] = ()
        self.frames = 1

    def draw(self, update: int, rank: int, world: int) -> dict[str, Tensor]:
        return {"weight": torch.ones(())}

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        network = MemoryVLANetwork(self.config)
        network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in state.items()})
        action = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}
        save_checkpoint(
            folder,
            network,
            self.config,
            statistics={"lab": {"action": action}},
            tokenizer=lab_tokenizer(),
            action=ACTION,
            cameras=("front",),
        )


class Shrink(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        squares = [weight.square().mean() for weight in self.network.parameters()]
        return {"loss": batch["weight"] * torch.stack(squares).mean()}
