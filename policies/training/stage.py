"""What a training stage is to the loop that drives it: batches, a loss, and a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Stage(Protocol):
    """One kind of training. The loop knows nothing else about it.

    module: `module(batch)` gives the losses of a batch as 0-dimensional tensors; `loss` is what is minimised, the
    others are logged. Its parameters with `requires_grad` are trained, and nothing outside it has any. blocks: submodules
    that are sharded one by one over several devices.

    All chance is in `draw`, keyed by (seed, update, rank): so a resumed training goes on exactly.
    """

    module: nn.Module
    blocks: tuple[nn.Module, ...]

    def draw(self, update: int, rank: int, world: int) -> Any:
        """The batch of this update for process `rank` of `world`, on the CPU."""

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write what the stage is for (a policy, a world model) from the module's whole state dict."""
