"""How RLDS datasets are laid out, and what is done to their actions before training (one function for each).

A layout turns one stored episode into plain ones: labels with the gripper 1 (open) or 0 (closed), pictures still
encoded, one instruction each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import Floats
from policies.training.demos import DemoError

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


Steps = dict[str, Any]
"""Arrays [T, ...] of an episode, nested as stored."""


@dataclass(frozen=True)
class Layout:
    """cameras: our name -> path of the pictures in a step; language: path of the sentence; state: path or "" (not
    used); action: path of the stored action; change: what is done to the steps first (`action` is set by it where
    `action` is a dict)."""

    cameras: Mapping[str, str]
    language: str = "language_instruction"
    state: str = ""
    action: str = "action"
    change: Callable[[Steps], Steps] | None = None

    def read(self, dataset: str, number: int, trajectory: Trajectory) -> Iterator[Plain]:
        """The plain episodes of a stored one: one for each stretch under one instruction.

        Raises DemoError naming what is missing or mis-shaped.
        """
        steps: Steps = dict(trajectory["steps"])
        where = f"dataset {dataset}, episode {number}"
        if self.change is not None:
            steps = self.change(steps)
        actions = self._actions(steps, where)
        said = trajectory.get("episode_metadata", {})
        task, trial = _text(said.get("task", b"")), int(said.get("trial", number))
        sentences = [_text(sentence) for sentence in np.atleast_1d(_at(steps, self.language, where, b""))]
        state = _at(steps, self.state, where) if self.state else None
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
    return Layout(cameras, state="observation/state" if "observation/state" in names else "")


LAYOUTS: dict[str, Layout] = {}


def layout_of(dataset: str, names: set[str]) -> Layout:
    """The layout of a dataset by its name; of one with another name, ours. Raises DemoError when it is not ours."""
    if dataset in LAYOUTS:
        return LAYOUTS[dataset]
    found = own_layout(names)
    if not found.cameras:
        raise DemoError(
            f"dataset {dataset}: unknown layout; its steps have {', '.join(sorted(names))}. Known by name: "
            f"{', '.join(sorted(LAYOUTS))}; our own have observation/image_CAMERA"
        )
    return found


Numbers = npt.NDArray[np.floating[Any]]
