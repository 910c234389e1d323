"""A small real stage for tests of training."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from policies.base import PolicyError

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
