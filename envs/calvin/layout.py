"""The constants of robot, scenes and cameras (mees/calvin_env: conf/scene, conf/robot, conf/cameras, robot.py)."""

from __future__ import annotations

COLOURS = ("red", "blue", "pink")
"""The order of the blocks in the evaluation's starts, whatever the scene."""

BLOCKS: dict[str, tuple[tuple[str, str], ...]] = {
    "A": (("pink", "small"), ("blue", "big"), ("red", "middle")),
    "B": (("red", "small"), ("blue", "big"), ("pink", "middle")),
    "C": (("blue", "small"), ("red", "big"), ("pink", "middle")),
    "D": (("red", "middle"), ("blue", "small"), ("pink", "big")),
}
"""Colour and size of each block, in the order in which a scene loads and reports them."""

LENGTHS = {"small": 0.05, "middle": 0.07, "big": 0.1}
"""Length of a block before scaling, metres; the other edges are 0.05."""

_MIDDLE = ((-0.12, 0.05, 0.46), (0.06, 0.12, 0.46))
_SHELVES = (((-0.32, 0.05, 0.46), (-0.16, 0.12, 0.46)), ((-0.05, 0.05, 0.46), (0.13, 0.12, 0.46)))
SURFACES: dict[str, tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]] = {
    "A": (((-0.2, -0.15, 0.46), (0.35, -0.03, 0.46)), *_SHELVES),
    "B": (((-0.35, -0.15, 0.46), (0.15, -0.03, 0.46)), _MIDDLE, ((0.15, 0.05, 0.46), (0.33, 0.12, 0.46))),
    "C": (((0.0, -0.15, 0.46), (0.35, -0.03, 0.46)), _MIDDLE, ((0.15, 0.05, 0.46), (0.3, 0.12, 0.46))),
    "D": (((0.0, -0.15, 0.46), (0.35, -0.03, 0.46)), *_SHELVES),
}
"""Corners (m) of the places where blocks may lie: table, shelf left, shelf right."""

SCALE = 0.8
"""Of table and blocks; robot and floor are not scaled."""

ROBOT_FILE = "franka_panda/panda_longer_finger.urdf"
ROBOT_BASE = (-0.34, -0.46, 0.24)
REST_JOINTS = (-1.21779206, 1.03987646, 2.11978261, -2.34205014, -0.87015947, 1.64119353, 0.55344866)
JOINT_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
JOINT_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
ARM = tuple(range(7))
FINGERS = (9, 11)
TOOL = 15
OPEN, CLOSED = 0.04, 0.0
"""Position of one finger, metres."""
ARM_FORCE, ARM_SPEED = 200.0, 2.0
GRIP_FORCE, OPEN_FORCE, FINGER_SPEED = 200.0, 2.0, 1.0
POSITION_UNIT, ANGLE_UNIT = 0.02, 0.05
"""Metres and radians that 1.0 stands for in a relative action."""

DOORS = ("base__slide", "base__drawer")
BUTTON, SWITCH = "base__button", "base__switch"
LIGHTS = {"lightbulb": ("light_link", (1.0, 1.0, 0.0, 1.0)), "led": ("led_link", (0.0, 1.0, 0.0, 1.0))}
"""Link and colour, when lit, of each lamp, as in `scene_obs`. The switch works the bulb, the button the led."""
FRICTION = 4.0
"""Force of the motors that hold doors and switch still and push the button back."""

PHYSICS_HZ = 240.0
SUBSTEPS = 8
GRAVITY = -9.8

STATIC_CAMERA = {
    "cameraEyePosition": (2.871459009488717, -2.166602199425597, 2.555159848480571),
    "cameraTargetPosition": (-0.026242351159453392, -0.0302329882979393, 0.3920000493526459),
    "cameraUpVector": (0.4041403970338857, 0.22629790978217404, 0.8862616969685161),
}
LENSES = {"static": (10.0, 0.01, 10.0), "gripper": (75.0, 0.01, 2.0)}
"""Vertical field of view (degrees), near and far plane (m) of each camera."""

START_ROBOT = (
    *(0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963),
    *(-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928),
    1.0,
)
"""`robot_obs` at the start of every chain (mees/calvin, evaluation/utils.py)."""
