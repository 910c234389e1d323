"""The tasks by name: upstream's id, the instruction, and what of them an onlooker sees and a hash must cover."""

from __future__ import annotations

from dataclasses import dataclass

from envs.base import SceneError


@dataclass(frozen=True)
class TaskFacts:
    """One task. env_id: upstream's name for it; instruction: the protocol's sentence; hidden: attributes of the
    environment, set at reset, that decide what is right; mug: it needs the mug's files; things: what the expert is
    told of, by kind -> names of actors (`cubes` in the order of their colours)."""

    env_id: str
    instruction: str
    hidden: tuple[str, ...]
    things: dict[str, tuple[str, ...]]
    mug: bool = False


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
        mug=True,
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
    """The task of that name. Raises SceneError naming those there are."""
    if task not in TASKS:
        raise SceneError(f"MIKASA-Robo has no task {task!r} here; there are {', '.join(TASKS)}")
    return TASKS[task]
