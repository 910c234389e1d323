"""PyBullet, one client at a time: every call names its client, so that two worlds in a process never mix."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

pybullet: Any = importlib.import_module("pybullet")

_PURE = frozenset(
    {
        "computeProjectionMatrixFOV",
        "computeViewMatrix",
        "getEulerFromQuaternion",
        "getMatrixFromQuaternion",
        "getQuaternionFromEuler",
    }
)
"""Functions that only calculate; they know no client."""


class Bullet:
    """A world without a window. `Bullet().loadURDF(...)` is `pybullet.loadURDF(..., physicsClientId=this one)`."""

    def __init__(self, client: int | None = None) -> None:
        """client: of a world that somebody else has opened (None: a new one)."""
        self.client: int = pybullet.connect(pybullet.DIRECT) if client is None else client
        if self.client < 0:
            raise RuntimeError("PyBullet gave no physics client (it allows 1024 at a time)")

    def __getattr__(self, name: str) -> Any:
        found = getattr(pybullet, name)
        if callable(found) and name not in _PURE:
            found = partial(found, physicsClientId=self.client)
        setattr(self, name, found)
        return found

    def close(self) -> None:
        """Give the client back; a second call does nothing."""
        if self.client >= 0:
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1
