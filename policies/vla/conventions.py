"""What the numbers mean that a model was trained on, by the name of its data (the un-normalisation key)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from envs.spec import ActionSpec, Gripper, Rotation
from policies.base import PolicyContext, PolicyError

OPEN_IS_ONE = Gripper(open=1.0, closed=0.0)
"""The family's gripper: 1 opens, 0 closes."""


@dataclass(frozen=True)
class Convention:
    """action: of the un-normalised numbers; binary: the gripper is thresholded to 0 or 1 (Mikasa's is passed on)."""

    action: ActionSpec
    binary: bool = True


LIBERO = ActionSpec(
    frame="world",
    absolute=False,
    translation_unit=0.05,
    rotation=Rotation.AXIS_ANGLE,
    rotation_unit=0.5,
    gripper=OPEN_IS_ONE,
    limit=1.0,
    hz=20.0,
)
"""LIBERO demonstrations store what robosuite's OSC_POSE controller was given."""


def metres(hz: float) -> ActionSpec:
    """Changes of pose in metres and Euler angles in radians, as the Open-X datasets store them."""
    return ActionSpec("base", False, 1.0, Rotation.EULER_XYZ, 1.0, OPEN_IS_ONE, limit=None, hz=hz)


CONVENTIONS = {
    "bridge_orig": Convention(metres(5.0)),
    "fractal20220817_data": Convention(metres(3.0)),
    "libero_spatial_no_noops": Convention(LIBERO),
    "libero_object_no_noops": Convention(LIBERO),
    "libero_goal_no_noops": Convention(LIBERO),
    "libero_10_no_noops": Convention(LIBERO),
    "libero_90_no_noops": Convention(LIBERO),
}


DEXBOTIC = {
    "bridge": Convention(metres(5.0), binary=False),
    "libero": Convention(replace(LIBERO, gripper=Gripper(open=-1.0, closed=1.0)), binary=False),
}
"""Of Dexbotic's data, whose gripper is normalised with the rest: as its evaluation clients read it (LIBERO: below 0
opens; SimplerEnv: above 0.5 opens)."""


def dexbotic_convention(data: str | None, context: PolicyContext) -> Convention:
    """Of a Dexbotic checkpoint trained on `data`, which nothing in its folder says; `environment`: on actions as the
    environment takes them."""
    if data == "environment":
        return Convention(context.env.action, binary=False)
    if data not in DEXBOTIC:
        asked = "is not said in a Dexbotic checkpoint" if data is None else f"{data!r} is not known"
        raise PolicyError(
            f"what its actions mean {asked}: name the data it was trained on with policy.trained_on=; there are "
            f"{', '.join(DEXBOTIC)}, and environment (actions as the environment takes them)"
        )
    return DEXBOTIC[data]


def convention_of(key: str | None, context: PolicyContext) -> Convention:
    """Of the data named `key`; for other data, the environment's own motion with the family's gripper.

    `mikasa_dataset` holds actions of its environment as they are.
    """
    if key in CONVENTIONS:
        return CONVENTIONS[key]
    if key == "mikasa_dataset":
        return Convention(context.env.action, binary=False)
    return Convention(replace(context.env.action, gripper=OPEN_IS_ONE))
