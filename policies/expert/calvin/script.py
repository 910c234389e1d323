"""CalvinScript: the scripted expert, one subtask after the other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from envs.spec import EnvSpec
from policies.expert.calvin import skills
from policies.expert.calvin.arm import Arm, Steps
from policies.expert.calvin.view import View


class CalvinScript:
    """One episode (see policies.expert.Script). It knows the task in force from the privileged state."""

    def __init__(self, task: str, instruction: str, env: EnvSpec) -> None:
        if env.action.absolute:
            raise ValueError("CALVIN's expert plays with relative actions; set env.actions=relative")
        self._env = env
        self._arm: Arm | None = None
        self._subtask = ""
        self._program: Steps | None = None

    def act(self, seen: Mapping[str, npt.NDArray[Any]], step: int) -> npt.ArrayLike:
        """The next action, float [1, 7]."""
        view = View(seen)
        if self._arm is None or self._program is None or view.subtask != self._subtask:
            self._arm, self._subtask = Arm(view, self._env.action), view.subtask
            self._program = _program(self._arm, view.subtask)
        self._arm.view = view
        return next(self._program)[None]


def _program(arm: Arm, subtask: str) -> Steps:
    """One try after the other, for as long as the subtask is in force."""
    while True:
        yield from arm.wait(1)
        if not subtask.startswith(("place", "stack")):
            yield from skills.let_go(arm)
        yield from _try(arm, subtask)


def _try(arm: Arm, subtask: str) -> Steps:
    block = re.fullmatch(r"(\w+?)_(red|blue|pink)_block_(\w+)", subtask)
    if block:
        verb, colour, how = block.groups()
        if verb == "lift":
            return skills.lift(arm, colour)
        if verb == "rotate":
            return skills.rotate(arm, colour, left=how == "left")
        return skills.push(arm, colour, right=how == "right")
    if subtask.endswith("_led"):
        return skills.press_button(arm)
    if subtask.endswith("_lightbulb"):
        return skills.work_switch(arm, up=subtask.startswith("turn_on"))
    if subtask.startswith("move_slider"):
        return skills.move_slider(arm, left=subtask.endswith("left"))
    return {
        "open_drawer": skills.open_drawer,
        "close_drawer": skills.close_drawer,
        "place_in_slider": skills.put_on_shelf,
        "place_in_drawer": skills.put_in_drawer,
        "stack_block": skills.stack,
        "unstack_block": skills.unstack,
        "push_into_drawer": skills.push_into_drawer,
    }[subtask](arm)
