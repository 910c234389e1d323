"""The Google robot's protocol as data: 336 variants, 2,856 trials, as SimplerEnv's evaluation scripts lay them out.

Visual matching (`vm`) stands the robot before real pictures and varies its colours (and, for drawers, its place);
variant aggregation (`va`) draws a whole scene and varies background, light, table, camera, distractors or cabinet.

    task               visual matching                      variant aggregation
    coke_can           3 poses x 4 robots,     25 places    3 poses x 11 scenes,    25 places
    move_near          4 robots,               60 layouts   10 scenes,              60 layouts
    open_close_drawer  6 drawers x 4 x 9 places, 1 trial    6 drawers x 7 scenes,    9 robot places
    put_in_drawer      4 robots x 3 places,     9 places    7 scenes,   3 robot places x 9 places

A task's score is the plain mean over its variants; all variants of a task have equally many trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from envs.base import SceneError

SETTINGS = ("vm", "va")
Places = tuple[tuple[float, float], ...]

ROBOTS = {
    "plain": "None",
    "tabletop_1": "recolor_tabletop_visual_matching_1",
    "tabletop_2": "recolor_tabletop_visual_matching_2",
    "cabinet_1": "recolor_cabinet_visual_matching_1",
}
"""Our word for a version of the robot's colours -> upstream's."""
CANS = {"horizontal": "lr_switch", "vertical": "laid_vertically", "standing": "upright"}
DRAWERS = tuple((verb, level) for verb in ("open", "close") for level in ("top", "middle", "bottom"))
STANDS = {
    "a0": (0.644, -0.179, -0.03),
    "a1": (0.765, -0.182, -0.02),
    "a2": (0.889, -0.203, -0.06),
    "b0": (0.652, 0.009, 0.0),
    "b1": (0.752, 0.009, 0.0),
    "b2": (0.851, 0.035, 0.0),
    "c0": (0.665, 0.224, 0.0),
    "c1": (0.765, 0.222, -0.025),
    "c2": (0.865, 0.222, -0.025),
}
"""Where the robot stands before a drawer: x, y (m), yaw (rad); named as the picture taken from there."""
COUNTER = "google_pick_coke_can_1_v4"
APARTMENT = "frl_apartment_stage_simple"
TABLES = {
    "table_1": "Baked_sc1_staging_objaverse_cabinet1_h870",
    "table_2": "Baked_sc1_staging_objaverse_cabinet2_h870",
}


@dataclass(frozen=True)
class Variant:
    """One variant. name: the task's in the suite; task: the published row it counts for; aspect: what it varies;
    env_id, scene, overlay, build: how upstream builds it; robots, yaw: places of the robot (m) and its heading (rad);
    objects: places of the object (m; none: it has none, or its layouts are counted); layouts: how many; traced:
    upstream draws it by ray tracing."""

    name: str
    task: str
    aspect: str
    env_id: str
    scene: str
    instruction: str
    max_steps: int
    robots: Places
    yaw: float = 0.0
    objects: Places = ()
    layouts: int = 0
    overlay: str = ""
    build: Mapping[str, Any] = field(default_factory=dict)
    traced: bool = False

    @property
    def trials(self) -> int:
        """Scenes there are."""
        return len(self.robots) * (len(self.objects) or self.layouts or 1)

    def place(self, trial: int) -> tuple[tuple[float, float], tuple[float, float] | None, int | None]:
        """Of one trial, in the order of upstream's loops: where the robot stands, where the object lies (None: nowhere
        of ours), which layout (None: it has none). Raises SceneError beyond the last."""
        if trial >= self.trials:
            raise SceneError(f"{self.name} has {self.trials} scenes, trials 0 to {self.trials - 1}; asked for {trial}")
        robot, rest = divmod(trial, self.trials // len(self.robots))
        return self.robots[robot], self.objects[rest] if self.objects else None, rest if self.layouts else None


def _line(first: float, last: float, count: int) -> tuple[float, ...]:
    """Evenly spaced numbers, ends included."""
    return tuple(first + (last - first) * k / (count - 1) for k in range(count))


def _grid(xs: tuple[float, ...], ys: tuple[float, ...]) -> Places:
    return tuple(itertools.product(xs, ys))


CAN_PLACES = _grid(_line(-0.35, -0.12, 5), _line(-0.02, 0.42, 5))
APPLE_PLACES = _grid(_line(-0.08, -0.02, 3), _line(-0.02, 0.08, 3))
CAN_ID, NEAR_ID = "GraspSingleOpenedCokeCan{}InScene-v0", "MoveNear{}InScene-v0"
DRAWER_ID, PUT_ID = "{}{}DrawerCustomInScene-v0", "PlaceIntoClosedTopDrawerCustomInScene-v0"
NEAR_WORDS = "move one object near another"
"""What move_near asks for; which objects, its episodes say."""


@lru_cache(maxsize=2)
def variants(setting: str) -> dict[str, Variant]:
    """All variants of `vm` or `va` by name, task by task."""
    makers = {"vm": (_vm_cans, _vm_near, _vm_drawers, _vm_put), "va": (_va_cans, _va_near, _va_drawers, _va_put)}
    return {variant.name: variant for make in makers[setting] for variant in make()}


def variant(name: str, setting: str) -> Variant:
    """The variant of that name. Raises SceneError."""
    known = variants(setting)
    if name not in known:
        raise SceneError(f"SimplerEnv-Fractal ({setting}) has no task {name!r}; see `memvla suites simpler_fractal_*`")
    return known[name]


# ---------------------------------------------------------------------- pick coke can, move near


def _can(name: str, aspect: str, pose: str, kind: str = "", scene: str = COUNTER, **more: Any) -> Variant:
    overlay = more.pop("overlay", "")
    build = {CANS[pose]: True, **more}
    at = {"robots": ((0.35, 0.20),), "objects": CAN_PLACES, "overlay": overlay, "build": build}
    return Variant(name, "coke_can", aspect, CAN_ID.format(kind), scene, "pick coke can", 80, **at)


def _near(name: str, aspect: str, kind: str = "Google", scene: str = COUNTER, **more: Any) -> Variant:
    overlay = more.pop("overlay", "")
    at = {"robots": ((0.35, 0.21),), "yaw": -0.09, "layouts": 60, "overlay": overlay, "build": more}
    return Variant(name, "move_near", aspect, NEAR_ID.format(kind), scene, NEAR_WORDS, 80, **at)


def _vm_cans() -> Iterator[Variant]:
    for (robot, urdf), pose in itertools.product(ROBOTS.items(), CANS):
        real = "google_coke_can_real_eval_1"
        yield _can(f"coke_can_{pose}_{robot}", "robot", pose, overlay=real, urdf_version=urdf)


def _vm_near() -> Iterator[Variant]:
    for robot, urdf in ROBOTS.items():
        real = "google_move_near_real_eval_1"
        yield _near(f"move_near_{robot}", "robot", "GoogleBakedTex", overlay=real, urdf_version=urdf)


def _scenes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What both tasks on the counter vary alike: (name, aspect, what is other than in the base)."""
    yield "base", "base", {}
    for number, suffix in enumerate(("alt_background", "alt_background_2"), start=1):
        yield f"background_{number}", "background", {"scene": f"{COUNTER}_{suffix}"}
    for light in ("darker", "brighter"):
        yield light, "lighting", {f"slightly_{light}_lighting": True}
    for name, scene in TABLES.items():
        yield name, "table texture", {"scene": scene}


def _va_cans() -> Iterator[Variant]:
    for pose in CANS:
        for name, aspect, other in _scenes():
            yield _can(f"coke_can_{pose}_{name}", aspect, pose, **other)
        yield _can(f"coke_can_{pose}_distractors", "distractor", pose, "Distractor")
        more = {"distractor_config": "more"}
        yield _can(f"coke_can_{pose}_more_distractors", "distractor", pose, "Distractor", **more)
        for number, kind in enumerate(("AltGoogleCamera", "AltGoogleCamera2"), start=1):
            yield _can(f"coke_can_{pose}_camera_{number}", "camera", pose, kind)


def _va_near() -> Iterator[Variant]:
    for name, aspect, other in _scenes():
        yield _near(f"move_near_{name}", aspect, **other)
    yield _near("move_near_no_distractor", "distractor", no_distractor=True)
    for number, kind in enumerate(("AltGoogleCamera", "AltGoogleCamera2"), start=1):
        yield _near(f"move_near_camera_{number}", "camera", kind)


# ---------------------------------------------------------------------- drawers

MATCHED = {"station_name": "mk_station_recolor", "light_mode": "simple", "disable_bad_material": True}


def _vm_drawers() -> Iterator[Variant]:
    for (robot, urdf), (verb, level) in itertools.product(ROBOTS.items(), DRAWERS):
        for stand, (x, y, yaw) in STANDS.items():
            yield Variant(
                name=f"{verb}_{level}_drawer_{robot}_{stand}",
                task="open_close_drawer",
                aspect="robot",
                env_id=DRAWER_ID.format(verb.title(), level.title()),
                scene="dummy_drawer",
                instruction=f"{verb} {level} drawer",
                max_steps=113,
                robots=((x, y),),
                yaw=yaw,
                overlay=f"open_drawer_{stand}",
                build={**MATCHED, "urdf_version": urdf},
                traced=True,
            )


def _vm_put() -> Iterator[Variant]:
    for (robot, urdf), stand in itertools.product(ROBOTS.items(), ("a0", "b0", "c0")):
        x, y, yaw = STANDS[stand]
        build = {**MATCHED, "urdf_version": urdf, "model_ids": "baked_apple_v2"}
        at = {"robots": ((x, y),), "yaw": yaw, "objects": APPLE_PLACES, "overlay": f"open_drawer_{stand}"}
        yield _put(f"put_in_drawer_{robot}_{stand}", "robot", "dummy_drawer", build, **at)


def _put(name: str, aspect: str, scene: str, build: Mapping[str, Any], **at: Any) -> Variant:
    words = "open top drawer"  # after 100 steps: place apple into top drawer
    return Variant(name, "put_in_drawer", aspect, PUT_ID, scene, words, 200, build=build, traced=True, **at)


def _rooms() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """What both tasks at the cabinet vary alike: (name, aspect, scene, how it is built)."""
    yield "base", "base", APARTMENT, {}
    yield "background_1", "background", "modern_bedroom_no_roof", {}
    yield "background_2", "background", "modern_office_no_roof", {}
    for light in ("brighter", "darker"):
        yield light, "lighting", APARTMENT, {"light_mode": light}
    for number in (2, 3):
        yield f"cabinet_{number}", "cabinet", APARTMENT, {"station_name": f"mk_station{number}"}


def _va_drawers() -> Iterator[Variant]:
    robots = _grid(_line(0.65, 0.85, 3), _line(-0.2, 0.2, 3))
    for (verb, level), (name, aspect, scene, build) in itertools.product(DRAWERS, list(_rooms())):
        yield Variant(
            name=f"{verb}_{level}_drawer_{name}",
            task="open_close_drawer",
            aspect=aspect,
            env_id=DRAWER_ID.format(verb.title(), level.title()),
            scene=scene,
            instruction=f"{verb} {level} drawer",
            max_steps=113,
            robots=robots,
            build=build,
            traced=True,
        )


def _va_put() -> Iterator[Variant]:
    robots = _grid((0.65,), _line(-0.2, 0.2, 3))
    for name, aspect, scene, build in _rooms():
        made = {**build, "model_ids": "apple"}
        yield _put(f"put_in_drawer_{name}", aspect, scene, made, robots=robots, objects=APPLE_PLACES)


# ---------------------------------------------------------------------- as tasks of a suite


def tasks(setting: str) -> list[dict[str, Any]]:
    """The variants as a suite lists its tasks."""
    return [
        {
            "name": each.name,
            "instruction": each.instruction,
            "max_steps": each.max_steps,
            "trials": each.trials,
            "tags": {"published": each.task, "family": each.task, "varies": each.aspect},
        }
        for each in variants(setting).values()
    ]
