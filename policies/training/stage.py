"""What a training stage is to the loop that drives it: batches, a loss, and a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn


class Stage(Protocol):
    """One kind of training. The loop knows nothing else about it.

    module: `module(batch)` gives the losses of a batch as 0-dimensional tensors; `loss` is what is minimised, the
    others are logged. Its parameters with `requires_grad` are trained, and nothing outside it has any; it is in the
    mode (train or eval) it is to be trained in. blocks: submodules that are sharded, or computed again in the backward
    pass, one by one; each is used by being called. frames: frames in the whole batch of an update, for the log.

    All chance is in `draw`, keyed by (seed, update, share): so a resumed training goes on exactly.
    """

    module: nn.Module
    blocks: tuple[nn.Module, ...]
    frames: int

    def draw(self, update: int, rank: int, world: int) -> Any:
        """Share `rank` of `world` of the batch of this update (from 0), on the CPU.

        The shares are equal parts of one batch: the mean of their losses is the loss of the whole, however many there
        are (processes times accumulated parts). Raises PolicyError where the batch cannot be parted so. May be called
        from another thread, ahead of time, and changes nothing.
        """

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write what the stage is for (a policy, a world model) from the module's whole state dict, on the CPU."""
