"""What a vision-language part that is not trained sees in demonstrations, computed once, not in every update.

At `lab` size looking is two fifths of an update's forward pass, and a frame's tokens take 7 kB.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from policies.training.batches import BatchMaker
from policies.training.windows import Piece
from policies.vla.model import VLM


@dataclass(frozen=True)
class Sight:
    """Cognition tokens float32 [N, 1, D] and vision tokens float16 [N, V * P, channels] of N frames."""

    cognition: Tensor
    vision: Tensor


class Sights:
    """Tokens of demonstrations, computed when one is first drawn. every, longest: as of the pieces; a demonstration's
    calls are always at the same frames, the first of them by its index."""

    def __init__(self, vlm: VLM, maker: BatchMaker, every: int, longest: int) -> None:
        # A copy: the one that is saved may move to a GPU or be parted among processes.
        self._vlm, self._maker = copy.deepcopy(vlm).eval(), maker
        self._every, self._longest = every, longest
        self._seen: dict[int, Sight] = {}
        self._lock = threading.Lock()  # batches are drawn in threads

    def of(self, pieces: Sequence[Piece]) -> tuple[list[Piece], Sight]:
        """The pieces at the frames their demonstrations are always called at, and what is seen in all of these."""
        settled = [self._settled(piece) for piece in pieces]
        found = [self._of(piece) for piece in settled]
        return settled, Sight(torch.cat([s.cognition for s in found]), torch.cat([s.vision for s in found]))

    def _settled(self, piece: Piece) -> Piece:
        length = len(self._maker.demos[piece.demo])
        first = piece.demo % min(self._every, length)  # the shortest are called once at least
        frames = np.arange(first, length, self._every)[: self._longest]
        return replace(piece, frames=frames, times=np.arange(len(frames), dtype=np.float64))

    @torch.no_grad()
    def _of(self, piece: Piece) -> Sight:
        with self._lock:
            if piece.demo not in self._seen:
                cognition, vision = self._vlm(self._maker.batch([piece], len(piece.frames)).inputs)
                self._seen[piece.demo] = Sight(cognition, vision.half())
            return self._seen[piece.demo]
