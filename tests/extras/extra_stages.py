"""Small real stages for tests of training."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from envs.lab import ACTION
from policies.base import PolicyError
from policies.memoryvla.model import MemoryVLANetwork
from policies.vla.checkpoint import save_checkpoint
from policies.vla.config import preset
from policies.vla.language import lab_tokenizer

SIDE = 16


class Finder(nn.Module):
    """Says where the square is. Pictures [B, 3, 16, 16] and places [B, 2] in [0, 1] -> losses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.language = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.head = nn.Linear(width, 2)
        self.register_buffer("unit", torch.ones(()))

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = self.stem(batch["pictures"]).flatten(2).transpose(1, 2) + self.place
        for block in self.language:
            tokens = block(tokens)
        off = self.unit * self.head(self.frozen(tokens).mean(1)) - batch["places"]
        return {"loss": (off**2).mean() * batch["scale"].mean(), "distance": off.detach().norm(dim=-1).mean()}


class FinderStage:
    """Learns where the bright square of a picture is.

    seed: of weights and batches; batch: frames an update; broken_at: the update whose loss is no number (-1: none);
    slow: seconds a draw takes.
    """

    def __init__(
        self, *, seed: int = 0, batch: int = 8, width: int = 16, broken_at: int = -1, slow: float = 0.0
    ) -> None:
        torch.manual_seed(seed)
        self.module = Finder(width)
        self.blocks: tuple[nn.Module, ...] = tuple(self.module.language)
        self.frames, self.seed, self.broken_at, self.slow = batch, seed, broken_at, slow

    def draw(self, update: int, rank: int, world: int) -> dict[str, Tensor]:
        if self.frames % world:
            raise PolicyError(f"batch={self.frames} cannot be parted in {world}")
        time.sleep(self.slow)
        chance = torch.Generator().manual_seed(1_000_003 * self.seed + update)
        corners = torch.randint(0, SIDE - 4, (self.frames, 2), generator=chance)
        pictures = 0.1 * torch.randn(self.frames, 3, SIDE, SIDE, generator=chance)
        for picture, (row, column) in zip(pictures, corners.tolist(), strict=True):
            picture[:, row : row + 4, column : column + 4] += 1
        mine = slice(rank * self.frames // world, (rank + 1) * self.frames // world)
        scale = torch.full((self.frames,), float("nan") if update == self.broken_at else 1.0)
        return {"pictures": pictures[mine], "places": corners[mine] / (SIDE - 4), "scale": scale[mine]}

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        save_file(state, folder / "finder.safetensors")


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
