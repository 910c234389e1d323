"""Reads the reference vectors (see vectors/README.md)."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

torch.set_num_threads(1)  # the tensors here are small, and threads would only wait for one another


class Vectors:
    """One file of arrays."""

    def __init__(self, name: str) -> None:
        own = Path(__file__).parent / "vectors" / f"{name}.npz"
        other = Path(os.environ.get("MEMVLA_REFERENCE", "")) / f"{name}.npz"
        with np.load(other if other.is_file() else own, allow_pickle=False) as found:
            self.arrays: dict[str, npt.NDArray[Any]] = {key: found[key] for key in found.files}
        self.meta: dict[str, Any] = json.loads(str(self.arrays.pop("meta")))

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def tensor(self, key: str, dtype: torch.dtype | None = None) -> Tensor:
        """One array as a tensor; floats in `dtype` where given."""
        found = torch.from_numpy(self.arrays[key].copy())
        return found.to(dtype) if dtype is not None and found.is_floating_point() else found

    def starting(self, prefix: str) -> dict[str, Tensor]:
        """Arrays whose name starts with `prefix`, the prefix cut off."""
        return {k.removeprefix(prefix): self.tensor(k) for k in self.arrays if k.startswith(prefix)}

    def state(self, prefix: str = "") -> dict[str, Tensor]:
        """Weights by their released names, from `prefix` on."""
        return self.starting(f"state__{prefix}")


@lru_cache(maxsize=16)
def vectors(name: str) -> Vectors:
    return Vectors(name)


def load(
    module: nn.Module, state: dict[str, Tensor], dtype: torch.dtype = torch.float32, drop: tuple[str, ...] = ()
) -> None:
    """Load released names strictly, leaving out those that start with one of `drop`."""
    module.load_state_dict({k: v for k, v in state.items() if not k.startswith(drop or ("\0",))}, strict=True)
    module.to(dtype)


def close(found: Tensor, expected: npt.NDArray[Any] | Tensor, tolerance: float, relative: bool = False) -> None:
    """Largest difference at most `tolerance`, times the largest expected value where relative (and that exceeds 1)."""
    other = torch.as_tensor(expected)
    assert found.shape == other.shape
    assert torch.isfinite(found).all()
    gap = float((found.detach().double() - other.detach().double()).abs().max()) if found.numel() else 0.0
    bound = tolerance * (max(1.0, float(other.abs().max())) if relative else 1.0)
    assert gap <= bound, f"differs by {gap:.3g}, allowed {bound:.3g}"
