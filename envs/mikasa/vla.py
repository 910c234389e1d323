"""MIKASA-Robo-VLA: the names of its tasks by family, as upstream registers them (mikasa-robo-suite 1.0.0).

A task is called as upstream calls it, without its ending `-VLA-v0`: `RememberColor3`, `ShellGameTouch`.
"""

from __future__ import annotations

COLOURS = ("3", "5", "7", "3-Long", "5-Long", "7-Long")
MEMORIES = ("3", "5", "9", "3-Long", "5-Long", "9-Long")
SHUFFLES = ("ShuffleTouch", "ShuffleColorLampTouch", "ShuffleTouch-Long", "ShuffleColorLampTouch-Long")
SIZES = ("3x2", "3x3", "5x3")
LEVELS = ("Easy", "Medium", "Hard", "Easy-Long", "Medium-Long", "Hard-Long")

FAMILIES = {
    "batteries": ("BatteriesChecker", ("Easy-3", "Easy-6", "Hard-3", "Hard-6")),
    "blink count": ("BlinkCountButtonPress", LEVELS),
    "bunch of colors": ("BunchOfColors", COLOURS),
    "chain of colors": ("ChainOfColors", COLOURS),
    "find imposter": (
        "FindImposter",
        ("Color3", "Color5", "Color9", "Shape3", "Shape5", "Shape9", *(f"ShapeAndColor{size}" for size in SIZES)),
    ),
    "gather and recall": ("GatherAndRecall", ("1", "3", "5", "7", "9")),
    "intercept": ("Intercept", ("Slow", "Medium", "Fast", "GrabSlow", "GrabMedium", "GrabFast")),
    "remember color": ("RememberColor", MEMORIES),
    "remember shape": ("RememberShape", MEMORIES),
    "remember shape and color": ("RememberShapeAndColor", (*SIZES, *(f"{size}-Long" for size in SIZES))),
    "rotate": ("Rotate", ("LenientPos", "LenientPosNeg", "StrictPos", "StrictPosNeg")),
    "seq of colors": ("SeqOfColors", COLOURS),
    "shell game": (
        "ShellGame",
        ("Touch", "Push", "ColorLampTouch", *SHUFFLES),
    ),
    "take it back": ("TakeItBack", ("",)),
    "timed transfer": ("TimedTransfer", LEVELS),
    "trace shape": ("TraceShape", ("Easy", "Medium", "Hard", "SeqEasy", "SeqMedium", "SeqHard")),
}
"""Family -> the stem of its names and their ends: the 90 tasks that upstream declares its benchmark."""

EXTRA = {
    "batteries": ("BatteriesChecker", ("Easy-9", "Easy-12", "Easy-15", "Hard-9", "Hard-12", "Hard-15")),
    "shell game": ("ShellGame", ("Pick",)),
}
"""Registered by upstream too, but no part of its benchmark."""

WITH_LAMP = ("batteries", "blink count", "gather and recall", "timed transfer", "trace shape")
"""Families whose tasks show a lamp; of the shell games, those with `Lamp` in their name do."""

HELD_STILL = ("find imposter", "remember color", "remember shape", "remember shape and color", "shell game")
"""Families in whose tasks upstream's evaluation puts zeros for the policy's action until cue and pause are over
(vla/utils/apply_wrappers.py, CurriculumPhaseNoopActionWrapper), but for their long forms."""


def names(families: dict[str, tuple[str, tuple[str, ...]]]) -> dict[str, str]:
    """Task -> its family."""
    return {stem + end: family for family, (stem, ends) in families.items() for end in ends}


TASKS = {**names(FAMILIES), **names(EXTRA)}


def has_lamp(task: str) -> bool:
    """Whether the task shows a lamp, and so needs the bulb's file."""
    return TASKS[task] in WITH_LAMP or "Lamp" in task


def held_still(task: str) -> bool:
    """Whether the arm is held still while there is something to remember."""
    return TASKS[task] in HELD_STILL and not task.endswith("-Long") and task not in names(EXTRA)
