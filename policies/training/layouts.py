"""How RLDS datasets are laid out, and what is done to their actions before training (one function for each).

A layout turns one stored episode into plain ones: labels with the gripper 1 (open) or 0 (closed), pictures still
encoded, one instruction each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import Floats
from policies.training.demos import DemoError

Numbers = npt.NDArray[np.floating[Any]]

Trajectory = Mapping[str, Any]
"""One stored episode: `steps` (arrays [T, ...], pictures encoded) and `episode_metadata`, as tfds gives them."""

ACTIONS = 7


@dataclass(frozen=True)
class Plain:
    """One episode before its pictures are decoded; fields as in `Demo`."""

    dataset: str
    task: str
    trial: int
    instruction: str
    pictures: Mapping[str, Sequence[bytes]]
    state: Floats | None
    actions: Floats | None
    waypoints: Floats | None = None
    due: Floats | None = None
    off_course: npt.NDArray[np.bool_] | None = None


Steps = dict[str, Any]
"""Arrays [T, ...] of an episode, nested as stored."""


@dataclass(frozen=True)
class Layout:
    """cameras: our name -> path of the pictures in a step; language: path of the sentence; state: path or "" (not
    used); action: path of the stored action; waypoint, due, off_course: path or ""; change: what is done to the steps
    first (`action` is set by it where `action` is a dict)."""

    cameras: Mapping[str, str]
    language: str = "language_instruction"
    state: str = ""
    action: str = "action"
    waypoint: str = ""
    due: str = ""
    off_course: str = ""
    change: Callable[[Steps], Steps] | None = None

    def read(self, dataset: str, number: int, trajectory: Trajectory) -> Iterator[Plain]:
        """The plain episodes of a stored one: one for each stretch under one instruction.

        Raises DemoError naming what is missing or mis-shaped.
        """
        steps: Steps = dict(trajectory["steps"])
        where = f"dataset {dataset}, episode {number}"
        try:
            steps = self.change(steps) if self.change is not None else steps
        except DemoError as error:
            raise DemoError(f"{where}: {error}") from error
        actions = self._actions(steps, where)
        said = trajectory.get("episode_metadata", {})
        task, trial = _text(said.get("task", b"")), int(said.get("trial", number))
        sentences = [_text(sentence) for sentence in np.atleast_1d(_at(steps, self.language, where, b""))]
        state = _at(steps, self.state, where) if self.state else None
        waypoints = _at(steps, self.waypoint, where) if self.waypoint else None
        due = _at(steps, self.due, where) if self.due else None
        astray = _at(steps, self.off_course, where) if self.off_course else None
        films = {name: _at(steps, path, where) for name, path in self.cameras.items()}
        length = len(next(iter(films.values())))
        if len(sentences) == 1:
            sentences *= length
        for begin, end in _stretches(sentences):
            yield Plain(
                dataset=dataset,
                task=task or sentences[begin],
                trial=trial,
                instruction=sentences[begin],
                pictures={name: film[begin:end] for name, film in films.items()},
                state=None if state is None else np.asarray(state[begin:end], dtype=np.float32),
                actions=None if actions is None else actions[begin:end],
                waypoints=None if waypoints is None else np.asarray(waypoints[begin:end], dtype=np.float32),
                due=None if due is None else np.asarray(due[begin:end], dtype=np.float32),
                off_course=None if astray is None else np.asarray(astray[begin:end], dtype=bool),
            )

    def _actions(self, steps: Steps, where: str) -> Floats | None:
        if self.action.partition("/")[0] not in steps:
            return None
        actions = np.asarray(_at(steps, self.action, where), dtype=np.float32)
        if actions.ndim != 2 or actions.shape[1] != ACTIONS:
            raise DemoError(f"{where}: its actions have shape {list(actions.shape)}, expected [T, {ACTIONS}]")
        if not np.isfinite(actions).all():
            raise DemoError(f"{where}: its actions hold NaN or infinite numbers")
        return actions


def _at(steps: Mapping[str, Any], path: str, where: str, default: Any = None) -> Any:
    node: Any = steps
    for key in path.split("/"):
        if key not in node:
            if default is not None:
                return default
            raise DemoError(f"{where}: steps have no {path!r}; they have {', '.join(sorted(node))}")
        node = node[key]
    return node


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _stretches(sentences: Sequence[str]) -> Iterator[tuple[int, int]]:
    begin = 0
    for t in range(1, len(sentences) + 1):
        if t == len(sentences) or sentences[t] != sentences[begin]:
            yield begin, t
            begin = t


def own_layout(names: set[str]) -> Layout:
    """Our own datasets: every camera and the state that are there."""
    films = sorted(name for name in names if name.startswith("observation/image_"))
    cameras = {name.removeprefix("observation/image_"): name for name in films}
    state = "observation/state" if "observation/state" in names else ""
    waypoint, due, off_course = (name if name in names else "" for name in ("waypoint", "due", "off_course"))
    return Layout(cameras, state=state, waypoint=waypoint, due=due, off_course=off_course)


# ---------------------------------------------------------------------- public datasets (specification, 4.4)


def libero(steps: Steps) -> Steps:
    """LIBERO without no-ops: the gripper (-1 opens, 1 closes) is clipped to 0..1 and inverted."""
    actions = np.array(_at(steps, "action", "libero"), dtype=np.float32)
    if actions.ndim == 2 and actions.shape[1] == ACTIONS:
        actions[:, -1] = 1 - np.clip(actions[:, -1], 0, 1)
    return {**steps, "action": actions}


def bridge(steps: Steps) -> Steps:
    """Bridge V2: the first frame (an action of zeros) is dropped; motion becomes the difference of consecutive measured
    states, so the last step goes too; the gripper becomes 0 or 1."""
    steps = _cut(steps, slice(1, None))
    actions = np.array(_at(steps, "action", "bridge"), dtype=np.float32)
    if len(actions) < 2:
        raise DemoError(f"a Bridge episode needs 3 steps or more, this one has {len(actions) + 1}")
    if actions.ndim != 2 or actions.shape[1] != ACTIONS:
        return {**steps, "action": actions}
    grip = binarised(actions[:, -1])
    poses = np.asarray(_at(steps, "observation/state", "bridge"), dtype=np.float32)[:, :6]
    steps = _cut(steps, slice(None, -1))
    return {**steps, "action": np.concatenate([poses[1:] - poses[:-1], grip[:-1, None]], axis=1)}


def fractal(steps: Steps) -> Steps:
    """Fractal (RT-1): the parts of the action are put together; the relative gripper (1 closes, -1 opens, 0 stays)
    becomes absolute."""
    parts = _at(steps, "action", "fractal")
    grip = absolute(np.asarray(_at(parts, "gripper_closedness_action", "fractal action"), dtype=np.float32)[:, 0])
    motion = [np.asarray(_at(parts, name, "fractal action"), dtype=np.float32) for name in RT1_MOTION]
    return {**steps, "action": np.concatenate([*motion, grip[:, None]], axis=1)}


def calvin(steps: Steps) -> Steps:
    """CALVIN's relative actions: the gripper (1 opens, -1 closes) is clipped to 0..1."""
    actions = np.array(_at(steps, "action", "calvin"), dtype=np.float32)
    if actions.ndim == 2 and actions.shape[1] == ACTIONS:
        actions[:, -1] = np.clip(actions[:, -1], 0, 1)
    return {**steps, "action": actions}


RT1_MOTION = ("world_vector", "rotation_delta")


def binarised(grip: Numbers) -> Floats:
    """A measured opening [T] as 1 (over 0.95) and 0 (under 0.05). What lies between takes the value that it is on the
    way to; at the end of the episode, where there is none, the last number as it is."""
    found, coming = np.empty(len(grip), dtype=np.float32), np.float32(grip[-1])
    for t in range(len(grip) - 1, -1, -1):
        if grip[t] > 0.95 or grip[t] < 0.05:
            coming = np.float32(grip[t] > 0.95)
        found[t] = coming
    return found


def absolute(grip: Numbers) -> Floats:
    """Relative gripper commands [T] (over 0.1 closes, under -0.1 opens) as 1 (open) or 0 (closed). Before the first
    command it stood the other way; without any it is open."""
    turns = np.where(grip < -0.1, 1, np.where(grip > 0.1, -1, 0))
    given = np.flatnonzero(turns)
    now = -turns[given[0]] if len(given) else 1
    found = np.empty(len(grip), dtype=np.float32)
    for t, turn in enumerate(turns):
        now = turn or now
        found[t] = (now + 1) / 2
    return found


def _cut(node: Any, part: slice) -> Any:
    return {key: _cut(value, part) for key, value in node.items()} if isinstance(node, Mapping) else node[part]


LIBERO = Layout(
    {"agentview": "observation/image", "wrist": "observation/wrist_image"}, state="observation/state", change=libero
)
CALVIN = Layout(
    {
        "static": "observation/rgb_static|observation/image",
        "gripper": "observation/rgb_gripper|observation/wrist_image",
    },
    state="observation/robot_obs|observation/state",
    action="action|rel_actions",
    change=calvin,
)
LAYOUTS = {
    **{f"libero_{name}_no_noops": LIBERO for name in ("spatial", "object", "goal", "10", "90")},
    "bridge_orig": Layout({"image_0": "observation/image_0"}, change=bridge),
    "fractal20220817_data": Layout(
        {"image": "observation/image"}, language="observation/natural_language_instruction", change=fractal
    ),
    "mikasa_dataset": Layout(
        {
            "base": "observation/image|observation/base_camera",
            "hand": "observation/wrist_image|observation/hand_camera",
        },
        state="observation/state",
    ),
    "calvin": CALVIN,
    "calvin_dataset": CALVIN,
    "calvin_abc": CALVIN,
    "custom_finetuning": Layout({"image": "observation/image"}),
}
"""Public layouts by the dataset's name. Paths after | stand for the same thing in other editions; cameras and states
that an edition lacks are left out. `custom_finetuning`: actions as the family wants them already."""
ALIASES = {"bridge_dataset": "bridge_orig"}
"""Names under which the same data is published."""


def layout_of(dataset: str, names: set[str]) -> tuple[str, Layout]:
    """The key of a dataset's statistics and its layout, by its name; of one with another name, ours.

    names: what its steps have. Raises DemoError when the layout is not known, or when it has no camera of it.
    """
    key = ALIASES.get(dataset, dataset)
    found = _present(LAYOUTS[key], names) if key in LAYOUTS else own_layout(names)
    if not found.cameras:
        raise DemoError(
            f"dataset {dataset}: no pictures where its layout has them; its steps have {', '.join(sorted(names))}. "
            f"Layouts known by name: {', '.join(sorted(LAYOUTS))}; all others must have observation/image_CAMERA"
        )
    return key, found


def _present(layout: Layout, names: set[str]) -> Layout:
    """The layout with only what is there, alternatives decided."""

    def first(paths: str) -> str:
        return next((path for path in paths.split("|") if path in names), "")

    cameras = {name: path for name, paths in layout.cameras.items() if (path := first(paths))}
    action = first(layout.action) or layout.action.split("|")[0]
    return replace(layout, cameras=cameras, state=first(layout.state), action=action)
