"""Graded scores: what an operator counts in a trial, and what it earns (MemoryVLA paper, appendix on real robots)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FULL = 100.0


class Voided(RuntimeError):
    """The operator says that the trial counts for nothing: something other than the policy went wrong."""


@dataclass(frozen=True)
class Grade:
    """One thing to count: `points` each, at most `most` of them in a trial. Points below 0 are taken off."""

    name: str
    points: float
    most: int = 1

    def __post_init__(self) -> None:
        if self.most < 1:
            raise ValueError(f"grade {self.name!r}: the most that can be counted must be 1 or more, was {self.most}")


@dataclass(frozen=True)
class Judgement:
    """What the operator counted, by the grade's name."""

    counts: Mapping[str, int] = field(default_factory=dict)

    def points(self, grades: tuple[Grade, ...]) -> float:
        """The points earned, 0 ... 100. Raises ValueError for a count that cannot be."""
        unknown = set(self.counts) - {grade.name for grade in grades}
        if unknown:
            names = ", ".join(grade.name for grade in grades)
            raise ValueError(f"no grade {', '.join(sorted(unknown))}; there are: {names}")
        total = 0.0
        for grade in grades:
            count = self.counts.get(grade.name, 0)
            if not 0 <= count <= grade.most:
                raise ValueError(f"{grade.name}: 0 to {grade.most} can be counted, was {count}")
            total += count * grade.points
        if total > FULL:
            raise ValueError(f"that makes {total:g} points, and {FULL:g} is all there is: something is counted twice")
        return max(0.0, total)


SUCCESS = (Grade("success", FULL),)
"""The scheme of a task that is either done or not."""


def grades_of(scheme: Mapping[str, Any] | None) -> tuple[Grade, ...]:
    """The grades of a task as a suite file writes them: {name: points} or {name: [points, most]}; none: success.

    Raises ValueError for a scheme that cannot earn exactly 100.
    """
    if not scheme:
        return SUCCESS
    made = []
    for name, worth in scheme.items():
        points, most = worth if isinstance(worth, (list, tuple)) else (worth, 1)
        made.append(Grade(str(name), float(points), int(most)))
    best = sum(grade.points * grade.most for grade in made if grade.points > 0)
    if best < FULL:
        raise ValueError(f"these grades earn {best:g} points at most; {FULL:g} is what a flawless trial must earn")
    return tuple(made)
