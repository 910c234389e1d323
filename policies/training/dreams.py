"""What the frozen world model imagines from every frame of the demonstrations, computed once, not in every update.

Worth it where frames are drawn many times: at `lab` size a frame takes 40 kB and 5 to 12 ms.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from policies.base import PolicyError
from policies.memoryvla.imagination import WorldModel
from policies.training.batches import BatchMaker
from policies.training.windows import Piece

AT_ONCE = 64
"""Frames imagined in one run."""


class Dreams:
    """Feature maps of all frames, in float16, imagined when a demonstration is first drawn. draws: noises a frame is
    imagined from; which of them a batch sees is drawn with the piece. Raises PolicyError where pictures are augmented:
    what was imagined would be of others."""

    def __init__(self, world: WorldModel, maker: BatchMaker, draws: int, seed: int) -> None:
        if maker.augmented:
            raise PolicyError("dreams and augment do not go together: what is imagined is computed before")
        # A copy: the policy's own may move to a GPU or be parted among processes.
        self._world, self._maker, self._draws, self._seed = copy.deepcopy(world), maker, draws, seed
        self._films: dict[tuple[int, int], list[Tensor]] = {}
        self._lock = threading.Lock()  # batches are drawn in threads

    def _film(self, demo: int, draw: int) -> list[Tensor]:
        with self._lock:
            if (demo, draw) not in self._films:
                key = (self._seed, demo, draw)
                self._films[demo, draw] = self._imagined(self._world, self._maker, demo, key)
            return self._films[demo, draw]

    @staticmethod
    def _imagined(world: WorldModel, maker: BatchMaker, demo: int, key: tuple[int, ...]) -> list[Tensor]:
        """Maps [T, F, channels, side, side] of every level of one demonstration."""
        pictures = torch.from_numpy(maker.film(demo))
        ids = torch.tensor([maker.world_ids(demo)] * len(pictures))
        noise = np.random.default_rng(key).standard_normal((len(pictures), *world.noise_shape), dtype=np.float32)
        parts = zip(*(torch.split(each, AT_ONCE) for each in (pictures, ids, torch.from_numpy(noise))), strict=True)
        found = [[level.half() for level in world.imagine(*part)] for part in parts]
        return [torch.cat(level) for level in zip(*found, strict=True)]

    def maps(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Maps [N, F, channels, side, side] of every level for all frames of the pieces, in order."""
        films = []
        for piece in pieces:
            draw = int(np.random.default_rng((*piece.seed, 4)).integers(self._draws))
            films.append([level[torch.from_numpy(piece.frames)] for level in self._film(piece.demo, draw)])
        return [torch.cat(level).float() for level in zip(*films, strict=True)]
