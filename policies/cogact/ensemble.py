"""The adaptive action ensemble of CogACT (its section 3.4): one action a step from the last few predicted chunks."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt


class AdaptiveEnsemble:
    """The chunks of one episode, and their weighted mean for the present step.

    horizon: chunks kept (7 for WidowX, 2 for the Google robot); alpha: how much agreement with the newest chunk
    weighs. The cosine runs over the whole un-normalised action, the gripper included.
    """

    def __init__(self, horizon: int, alpha: float = 0.1) -> None:
        if horizon < 1:
            raise ValueError(f"ensemble horizon must be 1 or more, was {horizon}")
        self.alpha = alpha
        self.chunks: deque[npt.NDArray[np.floating[Any]]] = deque(maxlen=horizon)

    def clear(self) -> None:
        """Forget all chunks: at an episode's start, and when the instruction changes."""
        self.chunks.clear()

    def __call__(self, chunk: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """The action [A] for now, given the newest chunk [T, A]: a chunk of k calls ago gives its k-th action.

        A single action [A] counts for every step (policies without chunks). Raises ValueError when a chunk is shorter
        than the horizon reaches back.
        """
        self.chunks.append(chunk)
        newest_first = list(self.chunks)[::-1]
        if chunk.ndim == 1:
            actions = np.stack(newest_first)
        elif len(newest_first) > min(len(c) for c in newest_first):
            raise ValueError(f"chunks of {len(chunk)} actions are too short for an ensemble of {self.chunks.maxlen}")
        else:
            actions = np.stack([c[k] for k, c in enumerate(newest_first)])
        newest = actions[0]
        norms = np.linalg.norm(actions, axis=1) * np.linalg.norm(newest)
        weights = np.exp(self.alpha * (actions @ newest / (norms + 1e-7)))
        mean: npt.NDArray[np.floating[Any]] = ((weights / weights.sum())[:, None] * actions).sum(axis=0)
        return mean
