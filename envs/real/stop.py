"""The emergency stop: once pressed, from any thread, no command reaches the robot until the next trial."""

from __future__ import annotations

import threading

from envs.real.station import Robot
from envs.spec import Floats


class EmergencyStop:
    """Stands between the control loop and the robot. reason: who pressed it ("" while nobody did)."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._commanding = threading.RLock()  # a signal's handler may press while its own thread commands
        self.reason = ""

    @property
    def pressed(self) -> bool:
        return bool(self.reason)

    def press(self, reason: str = "the operator") -> None:
        """Stop the robot now. The first reason is kept."""
        self.reason = self.reason or reason
        self._robot.stop()  # at once, also while a command is being handed over
        with self._commanding:
            self._robot.stop()  # and again behind that command

    def command(self, action: Floats) -> bool:
        """Hand a command on unless the stop is pressed; whether the robot got it."""
        with self._commanding:
            if self.pressed:
                return False
            self._robot.command(action)
            if self.pressed:  # pressed by a signal in the middle of it
                self._robot.stop()
                return False
        return True

    def release(self) -> None:
        """Ready for the next trial."""
        self.reason = ""
