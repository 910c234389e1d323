"""MJCF pieces the lab's scenes are made of, and its colours.

Lengths in metres, table top at z = 0, x to the right of the front camera, y away from it. Every piece is placed by the
task at each trial: fixtures stand on mocap bodies (`World.put`), loose things on free joints (`World.lay`), colours are
painted (`World.paint`). Collision bits: 1 loose things and everything solid, 2 what gives way (caps,
drawers), pushed by the hand and by loose things, never by the table it stands in.
"""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]

COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.08, 0.08),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.90),
    "yellow": (0.97, 0.87, 0.10),
    "purple": (0.52, 0.12, 0.72),
    "cyan": (0.10, 0.82, 0.88),
    "orange": (0.98, 0.50, 0.05),
    "pink": (1.00, 0.58, 0.76),
    "white": (0.98, 0.98, 0.98),
}
"""Colours tasks may name, most distinct first. Position in this table is a colour's number in privileged state."""

COLOUR_NAMES = tuple(COLOURS)

TABLE: Colour = (0.46, 0.44, 0.42)
FLOOR: Colour = (0.20, 0.22, 0.26)
HAND: Colour = (0.30, 0.31, 0.34)
LOCKED: Colour = (0.95, 0.62, 0.10)
"""The palm while commands are ignored."""
FINGER: Colour = (0.12, 0.12, 0.14)
DARK: Colour = (0.16, 0.16, 0.17)
"""A lamp that is off, the rim of a button, the inside of a box."""

BUTTON_TOP = 0.022
"""Height of an untouched button's top."""
BUTTON_PRESS = 0.006
"""A button counts as pressed when its cap is this deep."""
BUTTON_RELEASE = 0.003
"""... and as released again above this depth."""
BLOCK_HALF = 0.025
"""Half the edge of a block."""


@dataclass(frozen=True)
class Parts:
    """What a task adds to the empty lab. Tasks with equal parts share one compiled model.

    bodies: MJCF inside `<worldbody>`; extra: MJCF beside it (`<equality>`, `<contact>` ...); timestep x substeps is
    one control step (0.05 s); hand_step: metres an action of 1 moves the hand's target (a task may slow the hand
    down, never speed it up).
    """

    bodies: str
    extra: str = ""
    timestep: float = 0.01
    substeps: int = 5
    hand_step: float = 0.02

    def __post_init__(self) -> None:
        if abs(self.timestep * self.substeps - 0.05) > 1e-12:
            raise ValueError(f"timestep x substeps must be 0.05 s, was {self.timestep} x {self.substeps}")
        if not 0 < self.hand_step <= 0.02:
            raise ValueError(f"hand_step must lie in (0, 0.02] m, was {self.hand_step}")


def rgba(colour: Colour, alpha: float = 1.0) -> str:
    """A colour as an MJCF attribute value."""
    return f"{colour[0]} {colour[1]} {colour[2]} {alpha}"


def button(name: str, radius: float = 0.045, top: float = BUTTON_TOP) -> str:
    """A round button: fixture `name`, sprung cap (joint and geom `name_cap`) that high, dark rim. 3 N press it to
    `BUTTON_PRESS`, so a block that lies on it does not."""
    half = top / 2 - 0.003
    return f"""
    <body name="{name}" mocap="true">
      <geom type="cylinder" size="{radius + 0.008} 0.004" pos="0 0 0.002" rgba="{rgba(DARK)}" contype="0"
        conaffinity="0"/>
      <body name="{name}_cap" pos="0 0 {top - half}" gravcomp="1">
        <joint name="{name}_cap" type="slide" axis="0 0 1" stiffness="500" damping="10" range="-0.014 0.01"
          limited="true"/>
        <geom name="{name}_cap" type="cylinder" size="{radius} {half}" mass="0.05" contype="0" conaffinity="2"/>
      </body>
    </body>"""


def lamp(name: str, radius: float = 0.055) -> str:
    """A dome that shows a colour (geom `name`); nothing touches it."""
    return f"""
    <body name="{name}" mocap="true">
      <geom name="{name}" type="ellipsoid" size="{radius} {radius} {0.8 * radius}" rgba="{rgba(DARK)}" contype="0"
        conaffinity="0"/>
    </body>"""


def block(name: str, half: float = BLOCK_HALF, density: float = 400.0) -> str:
    """A loose cube (joint and geom `name`), as heavy as balsa."""
    return f"""
    <body name="{name}">
      <freejoint name="{name}"/>
      <geom name="{name}" type="box" size="{half} {half} {half}" density="{density}" contype="3"/>
    </body>"""


def fixed_box(name: str, half: tuple[float, float, float], pos: tuple[float, float, float], colour: Colour) -> str:
    """One solid wall of a fixture (geom `name`), to be put inside a body."""
    return (
        f'<geom name="{name}" type="box" size="{half[0]} {half[1]} {half[2]}" '
        f'pos="{pos[0]} {pos[1]} {pos[2]}" rgba="{rgba(colour)}"/>'
    )


def tray(name: str, half: float, height: float, colour: Colour, *, thick: float = 0.006, inside: str = "") -> str:
    """An open square box standing on the table (fixture `name`): floor, four walls, anything more as `inside`."""
    wall, z = half + thick / 2, height / 2
    sides = "".join(
        fixed_box(f"{name}_{side}", size, pos, colour)
        for side, size, pos in (
            ("left", (thick / 2, half + thick, z), (-wall, 0.0, z)),
            ("right", (thick / 2, half + thick, z), (wall, 0.0, z)),
            ("near", (half, thick / 2, z), (0.0, -wall, z)),
            ("far", (half, thick / 2, z), (0.0, wall, z)),
        )
    )
    floor = fixed_box(f"{name}_floor", (half, half, 0.002), (0.0, 0.0, 0.002), colour)
    return f'<body name="{name}" mocap="true">{floor}{sides}{inside}</body>'


def lab_xml(parts: Parts) -> str:
    """The whole scene: hand, table, floor, lights and cameras, and a task's parts."""
    return f"""
<mujoco model="lab">
  <option timestep="{parts.timestep}" integrator="implicitfast" iterations="20" ls_iterations="20"/>
  <visual><global offwidth="1024" offheight="1024"/><quality shadowsize="4096"/></visual>
  <default>
    <geom friction="1.0 0.01 0.001" solref="{2 * parts.timestep} 1"/>
  </default>
  <worldbody>
    <light pos="-0.4 -0.6 1.5" dir="0.3 0.45 -1" diffuse="0.7 0.7 0.7" castshadow="true"/>
    <camera name="front" pos="0 -0.52 0.60" xyaxes="1 0 0 0 0.739 0.674" fovy="40"/>
    <geom name="table" type="box" size="0.42 0.34 0.02" pos="0 0 -0.02" rgba="{rgba(TABLE)}"/>
    <geom name="floor" type="plane" size="2 2 0.1" pos="0 0 -0.5" rgba="{rgba(FLOOR)}"/>
    {HAND_XML}
    {parts.bodies}
  </worldbody>
  {parts.extra}
  {HAND_ACTUATORS}
</mujoco>"""


HAND_XML = f"""
    <body name="hand" gravcomp="1">
      <joint name="hand_x" type="slide" axis="1 0 0"/>
      <joint name="hand_y" type="slide" axis="0 1 0"/>
      <joint name="hand_z" type="slide" axis="0 0 1"/>
      <joint name="hand_yaw" type="hinge" axis="0 0 1" armature="0.004"/>
      <joint name="hand_pitch" type="hinge" axis="0 1 0" armature="0.004"/>
      <joint name="hand_roll" type="hinge" axis="1 0 0" armature="0.004"/>
      <geom name="palm" type="box" size="0.052 0.016 0.012" pos="0 0 0.072" mass="0.6" rgba="{rgba(HAND)}"
        contype="3"/>
      <geom name="stem" type="cylinder" size="0.016 0.05" pos="0 0 0.134" mass="0.2" rgba="{rgba(HAND)}" contype="3"/>
      <camera name="wrist" pos="0 -0.09 0.085" xyaxes="1 0 0 0 0.811 0.584" fovy="80"/>
      <body name="left" gravcomp="1">
        <joint name="left" type="slide" axis="-1 0 0" range="0 0.042" limited="true" armature="0.2"/>
        <geom name="left" type="box" size="0.006 0.011 0.03" pos="-0.006 0 0.03" mass="0.05" rgba="{rgba(FINGER)}"
          contype="3" friction="1.5 0.02 0.001"/>
      </body>
      <body name="right" gravcomp="1">
        <joint name="right" type="slide" axis="1 0 0" range="0 0.042" limited="true" armature="0.2"/>
        <geom name="right" type="box" size="0.006 0.011 0.03" pos="0.006 0 0.03" mass="0.05" rgba="{rgba(FINGER)}"
          contype="3" friction="1.5 0.02 0.001"/>
      </body>
    </body>"""
"""Tip of the hand at its body's origin, fingers opening along its x axis. Its joints come first in every model."""

HAND_ACTUATORS = """
  <tendon>
    <fixed name="mirror" stiffness="1500" damping="20" springlength="0">
      <joint joint="left" coef="1"/>
      <joint joint="right" coef="-1"/>
    </fixed>
  </tendon>
  <actuator>
    <position joint="hand_x" kp="14000" kv="235" forcerange="-40 40"/>
    <position joint="hand_y" kp="14000" kv="235" forcerange="-40 40"/>
    <position joint="hand_z" kp="14000" kv="235" forcerange="-40 40"/>
    <position joint="hand_yaw" kp="60" kv="1.2" forcerange="-4 4"/>
    <position joint="hand_pitch" kp="110" kv="2.8" forcerange="-8 8"/>
    <position joint="hand_roll" kp="110" kv="2.8" forcerange="-8 8"/>
    <position joint="left" kp="600" kv="20" forcerange="-8 8"/>
    <position joint="right" kp="600" kv="20" forcerange="-8 8"/>
  </actuator>
  <contact>
    <exclude body1="left" body2="right"/>
    <exclude body1="hand" body2="left"/>
    <exclude body1="hand" body2="right"/>
  </contact>"""
