"""The tasks by name: upstream's id, the instruction, and what of them an onlooker sees and a hash must cover."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from envs.assets import Archive
from envs.base import SceneError
from envs.mikasa import vla
from envs.mikasa.assets import BULB, MUG


@dataclass(frozen=True)
class TaskFacts:
    """One task. env_id: upstream's name for it; instruction: the protocol's sentence (empty: what upstream says in
    the scene); hidden: attributes of the environment, set at reset, that decide what is right (none named: all the
    task has); things: what the expert is told of, by kind -> names of actors (`cubes` in the order of their colours);
    files: what it needs beside the package; still: the arm is held still until cue and pause are over; afresh: the task
    is built anew for every scene, since upstream keeps leftovers of the last one (ShellGameTouch: its mugs)."""

    env_id: str
    instruction: str = ""
    hidden: tuple[str, ...] = ()
    things: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: tuple[Archive, ...] = ()
    still: bool = False
    afresh: bool = False


def _remember(colours: int) -> TaskFacts:
    return TaskFacts(
        env_id=f"RememberColor{colours}-v0",
        instruction="Remember the color of the cube and then pick the matching one",
        hidden=("true_color_indices", "center_pose", "initial_poses"),
        things={"cubes": tuple(f"cube_{k}" for k in range(colours))},
    )


TASKS = {
    "shell_game_touch": TaskFacts(
        env_id="ShellGameTouch-v0",
        instruction="Memorize the position of the cup covering the ball, then pick that cup",
        hidden=("cup_with_ball_number", "ball_initial_pose", "object_zs"),
        things={"mugs": ("mug_left", "mug_center", "mug_right"), "ball": ("red_ball",)},
        files=(MUG,),
    ),
    "intercept_medium": TaskFacts(
        env_id="InterceptMedium-v0",
        instruction="Track the ball\N{RIGHT SINGLE QUOTATION MARK}s movement, estimate its velocity, "
        "then aim the ball at the target",
        hidden=("oracle_info",),
        things={"ball": ("ball",), "goal": ("goal_region",)},
    ),
    "remember_color_3": _remember(3),
    "remember_color_5": _remember(5),
    "remember_color_9": _remember(9),
}
"""Instructions as the protocol of MemoryVLA's evaluation has them (its apostrophe is the typographic one)."""


def facts(task: str) -> TaskFacts:
    """The task of that name, of `TASKS` or `envs.mikasa.vla.TASKS`. Raises SceneError naming those there are."""
    if task in vla.TASKS:
        files = (*((MUG,) if vla.TASKS[task] == "shell game" else ()), *((BULB,) if vla.has_lamp(task) else ()))
        return TaskFacts(env_id=f"{task}-VLA-v0", files=files, still=vla.held_still(task), afresh=True)
    if task not in TASKS:
        near = difflib.get_close_matches(task, [*TASKS, *vla.TASKS], n=3, cutoff=0.5) or TASKS
        raise SceneError(f"MIKASA-Robo has no task {task!r} here; there are {', '.join(near)}")
    return TASKS[task]
