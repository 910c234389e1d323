"""The fixed rate of control: every command has a period of its own, and being late is counted, never made up for."""

from __future__ import annotations

from envs.real.station import Clock

LATE = 0.5
"""Share of a period by which a command may be late before it is counted."""


class Pace:
    """Ticks at `hz`. A policy call takes the time it takes: the grid of periods begins anew with its first action."""

    def __init__(self, clock: Clock, hz: float) -> None:
        self._clock, self._period = clock, 1.0 / hz
        self._next: float | None = None
        self.late = 0

    def rest(self) -> None:
        """The robot stands still from here on (a policy call, the end): the next command opens a new grid."""
        self._next = None

    def begin(self) -> None:
        """Call before a command: waits until its period begins."""
        now = self._clock.now()
        if self._next is None:
            self._next = now
        elif now - self._next > LATE * self._period:
            self.late += 1
            self._next = now  # two commands in one period would move the robot twice as fast
        else:
            self._clock.sleep(self._next - now)

    def end(self) -> None:
        """Call after the last command of a chunk too: waits until its period is over, so that what is seen next is
        seen after it."""
        assert self._next is not None
        self._next += self._period
        self._clock.sleep(self._next - self._clock.now())
