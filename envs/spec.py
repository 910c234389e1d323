"""The words every room shares: what a scene, an observation, an action and an environment are.

Ground floor: this module imports NumPy and the standard library only, so that it loads in every simulator's own Python
environment, whatever is pinned there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]
"""One picture, uint8 [H, W, 3], RGB, upright as the protocol's policies were trained to see it."""

Floats: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, order=True)
class SceneId:
    """(suite, task, trial): names one start of one task, for ever."""

    suite: str
    task: str
    trial: int

    def __str__(self) -> str:
        return f"{self.suite}/{self.task}/{self.trial}"


@dataclass(frozen=True, order=True)
class EpisodeId:
    """One attempt at one scene. A void attempt is repeated under the next attempt number."""

    suite: str
    task: str
    trial: int
    attempt: int = 1

    @property
    def scene(self) -> SceneId:
        return SceneId(self.suite, self.task, self.trial)

    def __str__(self) -> str:
        return f"{self.suite}/{self.task}/{self.trial}#{self.attempt}"


class Rotation(StrEnum):
    """How a rotation is written inside an action."""

    EULER_XYZ = "euler_xyz"
    AXIS_ANGLE = "axis_angle"
    ROT6D = "rot6d"
    QUATERNION_XYZW = "quaternion_xyzw"

    @property
    def size(self) -> int:
        """Numbers one rotation takes."""
        return {"euler_xyz": 3, "axis_angle": 3, "rot6d": 6, "quaternion_xyzw": 4}[self.value]


@dataclass(frozen=True)
class Gripper:
    """The gripper number of an action.

    `open` and `closed` are the values that mean fully open and fully closed. `binary`: only the side of the middle
    counts. `sticky`: a command is repeated for so many control steps once it changes (0: never).
    """

    open: float
    closed: float
    binary: bool = True
    sticky: int = 0


@dataclass(frozen=True)
class ActionSpec:
    """What the numbers of one action mean: xyz (3), rotation (`rotation.size`), gripper (1), in this order.

    frame: `world`, `base` or `tool`; absolute: pose targets rather than changes; translation_unit: metres that 1.0
    stands for; rotation_unit: radians that 1.0 stands for (1.0 for rot6d and quaternions); limit: every motion
    component lies in [-limit, limit] (None: unbounded); hz: control steps per second (None: any).
    """

    frame: str
    absolute: bool
    translation_unit: float
    rotation: Rotation
    rotation_unit: float
    gripper: Gripper
    limit: float | None = 1.0
    hz: float | None = None

    @property
    def dim(self) -> int:
        """Numbers in one action."""
        return 3 + self.rotation.size + 1


@dataclass(frozen=True)
class CameraSpec:
    """A camera an environment offers: its name and its picture's size in pixels."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class EnvSpec:
    """What an environment offers. Known without importing its simulator.

    cameras: all cameras on offer, the main one first (videos show it); state: names of the numbers in
    `Observation.state` (empty: none); privileged: whether simulator state can be given to experts.
    """

    benchmark: str
    action: ActionSpec
    cameras: tuple[CameraSpec, ...]
    state: tuple[str, ...] = ()
    privileged: bool = True

    def camera(self, name: str) -> CameraSpec:
        """The camera of that name. Raises KeyError naming those there are."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise KeyError(f"no camera {name!r}; there are {', '.join(c.name for c in self.cameras)}")


@dataclass(frozen=True)
class Observation:
    """What a policy is given at one step.

    images: camera name -> uint8 [H, W, 3]; state: float32 [D] (proprioception, `EnvSpec.state` names it) or None;
    instruction: the sentence in force; step: environment steps taken so far; privileged: simulator state for experts,
    present only when the PolicySpec asks for it.
    """

    images: Mapping[str, Image]
    state: Floats | None
    instruction: str
    step: int
    privileged: Mapping[str, npt.NDArray[Any]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form Gymnasium spaces hold: absent parts left out."""
        found: dict[str, Any] = {"images": dict(self.images), "instruction": self.instruction}
        if self.state is not None:
            found["state"] = self.state
        if self.privileged is not None:
            found["privileged"] = dict(self.privileged)
        return found


@dataclass(frozen=True)
class Advance:
    """What one control step did.

    success: the success rule holds now; terminated: nothing can follow in this episode; instruction_changed: another
    sentence is in force from here on (a subtask switch), so a buffered chunk is stale.
    """

    success: bool
    terminated: bool = False
    instruction_changed: bool = False


@dataclass(frozen=True)
class StepResult:
    """What `VLAEnv.step_chunk` did.

    steps: control steps taken (less than asked when it stopped early); success: the rule holds after the last one;
    success_once: it held after any of them; frames: (step, picture of the main camera) for a video; observations: one
    for every step taken but the last, when every frame was asked for (the last is `VLAEnv.observe()`).
    """

    steps: int
    success: bool
    success_once: bool
    terminated: bool
    instruction_changed: bool
    frames: Sequence[tuple[int, Image]] = field(default_factory=tuple)
    observations: Sequence[Observation] = field(default_factory=tuple)
