"""The sticky gripper of the Google robot's evaluations."""

from __future__ import annotations


class StickyGripper:
    """From how open the gripper is to be (1 open, 0 closed) to the change the controller takes (1 closes, -1 opens).

    A change by more than a half is repeated for `repeats` steps, in which no other is heeded; what later changes are
    measured against is the number that was repeated. (SimplerEnv's own clients measure against the last number and
    repeat 15 times; those of CogACT and MemoryVLA 10 times, as here.)
    """

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self._before: float | None = None
        self._latched = 0.0
        self._left = 0

    def reset(self) -> None:
        """Forget: a new episode, or another instruction."""
        self._before, self._latched, self._left = None, 0.0, 0

    def __call__(self, opening: float) -> float:
        """The controller's number for this step."""
        if self._before is None:
            self._before = opening
        change = self._before - opening
        if abs(change) > 0.5 and self._left == 0:
            self._latched, self._left, self._before = change, self._repeats, opening
        if self._left > 0:
            self._left -= 1
            return self._latched
        return change

    @property
    def state(self) -> tuple[float, float, int]:
        """What it remembers, as numbers (-1: nothing yet)."""
        return (-1.0 if self._before is None else self._before, self._latched, self._left)
