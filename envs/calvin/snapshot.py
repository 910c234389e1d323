"""Snapshot: what the rules of the tasks look at, as plain numbers (no simulator)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Contacts = frozenset[tuple[int, int]]
"""(body, link) of everything that is in contact with a body."""


@dataclass(frozen=True)
class Block:
    """One block: its body, position (m), quaternion xyzw, velocities (m/s and rad/s), contacts."""

    body: int
    position: Array
    quaternion: Array
    linear: Array
    angular: Array
    contacts: Contacts

    @property
    def bodies(self) -> frozenset[int]:
        """Bodies in contact with the block."""
        return frozenset(body for body, _ in self.contacts)


@dataclass(frozen=True)
class Snapshot:
    """The world at one moment. robot, table: their bodies; links: the table's links by name; slider, drawer: metres;
    lightbulb, led: 1 if lit."""

    robot: int
    table: int
    links: Mapping[str, int]
    robot_contacts: Contacts
    blocks: Mapping[str, Block]
    slider: float
    drawer: float
    lightbulb: int
    led: int

    def link(self, name: str) -> tuple[int, int]:
        """A link of the table as contacts name it."""
        return self.table, self.links[name]
