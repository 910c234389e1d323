"""Table: its doors, button, switch and lamps (mees/calvin_env, scene/objects)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from envs.calvin import layout
from envs.calvin.bullet import Bullet


class Table:
    """A loaded play table.

    The button switches the led each time it is pressed past half of its way; the switch lights the bulb while it stands
    beyond half of its way, but changes it only where its own memory of being on says otherwise.
    """

    def __init__(self, bullet: Bullet, assets: Path, scene: str) -> None:
        self._bullet = bullet
        name = f"calvin_table_{scene}"
        file = str(assets / name / "urdf" / f"{name}.urdf")
        self.body: int = bullet.loadURDF(file, (0, 0, 0), (0, 0, 0, 1), globalScaling=layout.SCALE)
        joints = [bullet.getJointInfo(self.body, k) for k in range(bullet.getNumJoints(self.body))]
        self.links = {joint[12].decode(): k for k, joint in enumerate(joints)} | {"base_link": -1}
        self._joints = {joint[1].decode(): k for k, joint in enumerate(joints)}
        self._half = {joint[1].decode(): (joint[8] + joint[9]) / 2 for joint in joints}
        for door in layout.DOORS:
            self._hold(door)
        bullet.setJointMotorControl2(
            self.body,
            self._joints[layout.BUTTON],
            controlMode=bullet.POSITION_CONTROL,
            targetPosition=0,
            force=layout.FRICTION,
        )
        self._hold(layout.SWITCH)
        self.lit = dict.fromkeys(layout.LIGHTS, False)
        self._led_wanted = self._pressed_before = self._switched = False

    def _hold(self, joint: str) -> None:
        control = self._bullet.VELOCITY_CONTROL
        self._bullet.setJointMotorControl2(self.body, self._joints[joint], controlMode=control, force=layout.FRICTION)

    def reset(self, scene: npt.NDArray[np.float64]) -> None:
        """Doors, lamps, button and switch as the first six numbers of `scene_obs` say."""
        slider, drawer, button, switch, bulb, led = (float(number) for number in scene[:6])
        if {bulb, led} - {0.0, 1.0}:
            raise ValueError(f"lamps of a start are 0 or 1, got lightbulb {bulb} and led {led}")
        for joint, state in zip(layout.DOORS, (slider, drawer), strict=True):
            self._bullet.resetJointState(self.body, self._joints[joint], state)
        self._light("lightbulb", bulb == 1.0)
        self._light("led", led == 1.0)
        self._bullet.resetJointState(self.body, self._joints[layout.BUTTON], button)
        self._led_wanted = self.lit["led"]
        self._bullet.resetJointState(self.body, self._joints[layout.SWITCH], switch)
        self._switched = False

    def step(self) -> None:
        """What button and switch do after a control step."""
        pressed = self.joint(layout.BUTTON) > self._half[layout.BUTTON]
        if pressed and not self._pressed_before:
            self._led_wanted = not self._led_wanted
            self._light("led", self._led_wanted)
        self._pressed_before = pressed
        on = self.joint(layout.SWITCH) > self._half[layout.SWITCH]
        if on != self._switched:
            self._light("lightbulb", on)
        self._switched = on

    def joint(self, name: str) -> float:
        """Position of a joint by name, metres."""
        return float(self._bullet.getJointState(self.body, self._joints[name])[0])

    def pose(self, link: str) -> npt.NDArray[np.float64]:
        """Position 3 (m) and quaternion xyzw 4 of the frame of a link."""
        state = self._bullet.getLinkState(self.body, self.links[link])
        return np.array([*state[4], *state[5]])

    def observation(self) -> tuple[float, float, float, float, float, float]:
        """Slider, drawer, button, switch (m), lightbulb, led (0 or 1)."""
        slider, drawer, button, switch = (self.joint(name) for name in (*layout.DOORS, layout.BUTTON, layout.SWITCH))
        return slider, drawer, button, switch, float(self.lit["lightbulb"]), float(self.lit["led"])

    def hidden(self) -> list[float]:
        """Lamps, and what button and switch remember."""
        return [float(x) for x in (*self.lit.values(), self._led_wanted, self._pressed_before, self._switched)]

    def _light(self, name: str, lit: bool) -> None:
        link, colour = layout.LIGHTS[name]
        self.lit[name] = lit
        shown = colour if lit else (1, 1, 1, 1)
        self._bullet.changeVisualShape(self.body, self.links[link], rgbaColor=shown)
