"""conveyor_low, conveyor_mid, conveyor_high: pick the block from the moving belt, at three speeds, by a real grasp.

After the real-robot tasks "Conveyor Pick Low / Mid / High" of MemoryVLA++ (section 5). The belt is a heavy slab that
slides at the shown speed, so it is friction that carries the block and that the fingers work against; the needle of a
dial beside it shows how fast it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab.blocks import Blocks
from envs.lab.movers import Foreseen, fixture, painted
from envs.lab.parts import BLOCK_HALF, COLOUR_NAMES, COLOURS, DARK, Colour, Parts, block, rgba
from envs.lab.task import GOING, LOST, WON, LabTask
from envs.lab.world import World
from envs.spec import Advance

SPEEDS = {"low": (0.06, 0.08), "mid": (0.13, 0.17), "high": (0.26, 0.30)}
"""m/s, slowest and fastest of each task; the hand's own top speed is 0.2 m/s."""
DIAL = (0.04, 0.32)
"""m/s at the needle's two ends."""
NEEDLE = math.radians(75)
"""The needle's turn at its two ends: to the left where slow, to the right where fast, radians."""
TOP = 0.02
"""Height of the belt's surface, metres."""
ENTRY, END = 0.14, -0.15
"""y at which the block starts (about) and at which it is lost, metres. The belt runs towards -y."""
HALF_WIDTH, SLAT = 0.075, 0.06
"""Half the belt's width and the distance of its stripes, metres."""
LIFTED = 0.03
"""Picked when it is held so far above where it lay, metres."""
ACROSS = (0.08, 0.12)
"""How far beside the middle of the belt the hand starts, least and most, metres."""
HAND_STEP = 0.010

BELT: Colour = (0.25, 0.26, 0.28)
STRIPE: Colour = (0.42, 0.43, 0.45)
COVER: Colour = (0.72, 0.70, 0.66)
BLOCK_COLOURS = COLOUR_NAMES[:4]
PHRASES = (
    "pick the {} block from the conveyor",
    "pick up the {} block from the moving belt",
    "grasp the {} block on the conveyor and lift it",
    "take the {} block off the belt",
)


def _belt() -> str:
    """Slab and stripes, as long as the covers at both ends hide its return by one stripe; and those covers."""
    stripes = "".join(
        painted((HALF_WIDTH, 0.006, 0.0005), (0.0, y, TOP / 2), STRIPE) for y in np.arange(-0.20, 0.26, SLAT).round(3)
    )
    return (
        f'<body name="belt" pos="0 0 {TOP / 2}"><joint name="belt" type="slide" axis="0 -1 0"/>'
        f'<geom name="belt" type="box" size="{HALF_WIDTH} 0.25 {TOP / 2}" pos="0 0.02 0" mass="1000" '
        f'rgba="{rgba(BELT)}"/>{stripes}</body>'
        + painted((HALF_WIDTH + 0.01, 0.045, 0.025), (0.0, -0.26, 0.025), COVER)
        + painted((HALF_WIDTH + 0.01, 0.05, 0.05), (0.0, 0.235, 0.05), COVER)
    )


PARTS = Parts(
    fixture("conveyor", _belt())
    + fixture(
        "dial",
        f'<geom type="cylinder" size="0.075 0.002" pos="0 0 0.002" rgba="{rgba(DARK)}" contype="0" conaffinity="0"/>',
    )
    + fixture("needle", painted((0.007, 0.035, 0.002), (0.0, 0.035, 0.006), COLOURS["white"]))
    + block("block0"),
    extra='<contact><exclude body1="world" body2="belt"/></contact>',
    timestep=0.005,
    substeps=10,
    hand_step=HAND_STEP,
)


class ConveyorPick(Foreseen):
    """Grasp the block and lift it before the belt has carried it to its end. It is on its way from the first frame
    (launch = 0). Score: 0.3 for having the block between the low fingers, 0.6 for gripping it, 1 for lifting it."""

    def __init__(self, world: World, rng: np.random.Generator, speeds: tuple[float, float]) -> None:
        super().__init__(world, rng)
        self.speed = float(rng.uniform(*speeds))
        self.belt = float(rng.uniform(-0.10, 0.10))
        self.phase = float(rng.uniform(0.0, SLAT))
        world.put("conveyor", (self.belt, 0.0, 0.0))
        side = 1.0 if self.belt < 0 else -1.0
        dial = (self.belt + side * 0.19, 0.02, 0.0)
        share = (self.speed - DIAL[0]) / (DIAL[1] - DIAL[0])
        world.put("dial", dial)
        world.put("needle", dial, NEEDLE * (1 - 2 * share))
        self._block(rng)
        across = self.belt - side * rng.uniform(*ACROSS)
        world.hand.start((across, rng.uniform(-0.16, -0.08), rng.uniform(0.14, 0.18)), opening=0.04)

    def _block(self, rng: np.random.Generator) -> None:
        self.blocks = Blocks(self.world, 1)
        colour = int(rng.integers(len(BLOCK_COLOURS)))
        self.blocks.paint([colour])
        self.instruction = str(rng.choice(PHRASES)).format(BLOCK_COLOURS[colour])
        place = (self.belt + rng.uniform(-0.03, 0.03), ENTRY + rng.uniform(-0.015, 0.015), TOP + BLOCK_HALF)
        self.world.lay("block0", place, float(rng.uniform(-0.25, 0.25)))
        model, data = self.world.model, self.world.data
        self._slab = int(model.joint("belt").qposadr[0]), int(model.joint("belt").dofadr[0])
        data.qvel[model.joint("block0").dofadr[0] + 1] = -self.speed
        self._run(0)

    def _run(self, clock: int) -> None:
        """The slab as it is at the start of step `clock`: at its speed, put back by one stripe whenever it can be."""
        at, v = self._slab
        self.world.data.qpos[at] = (self.phase + self.speed * 0.05 * clock) % SLAT
        self.world.data.qvel[v] = self.speed

    def drive(self) -> None:
        self._run(self.clock)

    def judge(self) -> Advance:
        x, y, z = self.blocks.place(0)
        tip = self.world.hand.tip
        lain = TOP + BLOCK_HALF
        if abs(tip[0] - x) < 0.02 and abs(tip[1] - y) < 0.02 and -0.03 < tip[2] - z < 0.01:
            self.score = max(self.score, 0.3)
            if all(self.world.touching("block0", finger) for finger in ("left", "right")):
                self.score = max(self.score, 0.6)
                if z > lain + LIFTED:
                    self.right_choices, self.score = 1, 1.0
                    return WON
        off = z < lain - 0.01
        return LOST if off or (y < END and z < lain + 0.01) else GOING

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        return {**self.blocks.seen(), "belt": np.array([self.belt, self.speed, END])}

    def hidden(self) -> list[tuple[str, npt.ArrayLike | str]]:
        return [("speed", np.array(self.speed))]


def _at(speeds: tuple[float, float]) -> Callable[[World, np.random.Generator], ConveyorPick]:
    return lambda world, rng: ConveyorPick(world, rng, speeds)


TASKS = tuple(LabTask(f"conveyor_{name}", PARTS, _at(speeds)) for name, speeds in SPEEDS.items())
