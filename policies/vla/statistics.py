"""Dataset statistics: from a model's normalised actions to the data's own units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.base import PolicyError

GRIPPER = 6
"""Index of the gripper in the family's 7 numbers."""


@dataclass(frozen=True)
class ActionStatistics:
    """1st and 99th percentile of each number of the actions, float64 [A], and which numbers were normalised, bool [A]
    (statistics without a mask: all of them, the gripper included)."""

    q01: npt.NDArray[np.float64]
    q99: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, entry: Mapping[str, Any], key: str = "") -> ActionStatistics:
        """From the `action` part of a statistics file. Raises PolicyError naming what is missing or mis-shaped."""
        missing = [name for name in ("q01", "q99") if name not in entry]
        if missing:
            raise PolicyError(f"statistics {key!r}: action lacks {', '.join(missing)}; it has {', '.join(entry)}")
        q01, q99 = (np.asarray(entry[name], dtype=np.float64) for name in ("q01", "q99"))
        mask = np.asarray(entry.get("mask", np.ones(q01.shape, dtype=bool)), dtype=bool)
        if q01.ndim != 1 or q01.shape != q99.shape or q01.shape != mask.shape:
            raise PolicyError(f"statistics {key!r}: q01 {q01.shape}, q99 {q99.shape} and mask {mask.shape} must agree")
        if not (np.isfinite(q01).all() and np.isfinite(q99).all()):
            raise PolicyError(f"statistics {key!r}: q01 and q99 must be finite numbers")
        return cls(q01, q99, mask)

    @classmethod
    def unit(cls, dim: int) -> ActionStatistics:
        """Statistics that change nothing: actions already lie in [-1, 1], the gripper in [0, 1]."""
        mask = np.ones(dim, dtype=bool)
        mask[GRIPPER] = False
        return cls(-np.ones(dim), np.ones(dim), mask)

    @property
    def dim(self) -> int:
        return len(self.q01)


def read_statistics(path: Path) -> dict[str, ActionStatistics]:
    """All datasets of a `dataset_statistics.json`, by key."""
    try:
        data = json.loads(path.read_text())
        return {key: ActionStatistics.of(entry["action"], key) for key, entry in data.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PolicyError(f"dataset statistics {path}: {type(error).__name__}: {error}") from error


def choose_statistics(known: Mapping[str, ActionStatistics], key: str | None) -> ActionStatistics:
    """The statistics of `key`, which may be left out when there is one dataset only."""
    if key is None and len(known) == 1:
        return next(iter(known.values()))
    if key is None or key not in known:
        asked = "no unnorm_key was given" if key is None else f"unknown unnorm_key {key!r}"
        raise PolicyError(f"{asked}; this checkpoint has statistics for {', '.join(sorted(known)) or 'no dataset'}")
    return known[key]


def settle(
    raw: npt.NDArray[np.float32], *, binary: bool = True, mask: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float32]:
    """The sampler's chunk [..., A] clipped to [-1, 1], with the gripper 1 (open) from 0.5 on and 0 (closed) below.

    binary False: the gripper is passed on, and only numbers under `mask` are clipped (the later server's rule).
    """
    clipped = np.clip(raw, -1.0, 1.0)
    if not binary:
        return clipped if mask is None else np.where(mask, clipped, raw)
    clipped[..., GRIPPER] = np.where(clipped[..., GRIPPER] < 0.5, 0.0, 1.0)
    return clipped


def unnormalise(actions: npt.NDArray[np.float32], statistics: ActionStatistics) -> npt.NDArray[np.float64]:
    """Settled actions [..., A] in the data's own units, float64."""
    low, high = statistics.q01, statistics.q99
    return np.where(statistics.mask, 0.5 * (actions + 1) * (high - low) + low, actions)


def normalise(actions: npt.NDArray[np.floating[Any]], statistics: ActionStatistics) -> npt.NDArray[np.float64]:
    """The inverse, for training: masked numbers to [-1, 1] and clipped; numbers that never vary become 0."""
    low, high = statistics.q01, statistics.q99
    scaled = np.clip(2 * (actions - low) / (high - low + 1e-8) - 1, -1, 1)
    return np.where(statistics.mask, np.where(low == high, 0.0, scaled), actions)
