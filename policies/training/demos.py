"""A demonstration as training sees it, whatever file it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.spec import Floats


class DemoError(ValueError):
    """Demonstrations that cannot be used; the message names them, what was found and what was expected."""


class Pictures(Protocol):
    """The T pictures of one camera: an array uint8 [T, H, W, 3], or what decodes them when they are looked at."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: Any, /) -> npt.NDArray[np.uint8]:
        """Those of an index, a slice or an array of indices."""


@dataclass(frozen=True)
class Demo:
    """One recorded episode of T steps.

    pictures: camera name -> what was seen before each action; state: proprioception float32
    [T, D] or None; actions: the labels float32 [T, 7] in the units of the data, gripper 1 open and 0 closed (None: a
    video without labels, for the world model only); dataset: key of its statistics; waypoints: what each frame itself
    says of where to go, float32 [T, 3] metres: the place its cue is about, else where the hand acts next (None: not
    recorded, `next_waypoints` tells); due: where the hand acts next as far as it can be known by then, float32 [T, 3]
    metres: while it waits and things move, where it would have to act now (None: not recorded); off_course: bool [T],
    where random motion drove, or a learner that is taken over from (None: nowhere). A label there answers one state of
    a path that others took: it begins no plan.
    """

    dataset: str
    task: str
    trial: int
    instruction: str
    pictures: Mapping[str, Pictures]
    state: Floats | None
    actions: Floats | None
    waypoints: Floats | None = None
    due: Floats | None = None
    off_course: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        lengths = {f"camera {name!r}": len(video) for name, video in self.pictures.items()}
        for name in ("state", "actions", "waypoints", "due", "off_course"):
            rows = getattr(self, name)
            if rows is not None:
                lengths[name] = len(rows)
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise DemoError(f"{self}: its parts must have one length of at least 1, were {lengths}")
        if not self.instruction.strip():
            raise DemoError(f"{self}: it has no instruction")

    @property
    def beginning(self) -> bool:
        """Whether this is a first frame alone (`collect.first_frame`): its action does not tell what came after."""
        return self.waypoints is not None and len(self) == 1

    def __len__(self) -> int:
        return len(next(iter(self.pictures.values())))

    def __str__(self) -> str:
        return f"demonstration {self.dataset}/{self.task}/{self.trial}"
