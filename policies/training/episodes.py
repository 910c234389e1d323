"""One recorded episode as it waits on disk for its outcome: what the recorder writes and the RLDS writer reads."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.spec import ActionSpec, Floats, Gripper, Image, Rotation
from policies.training.demos import DemoError

OPTIONAL = ("state", "actions", "waypoints", "due", "off_course")
"""Arrays [T, ...] that not every episode has."""
Keep = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Episode:
    """T recorded steps of one attempt, and where they come from.

    pictures: camera name -> T PNG files; state: proprioception float32 [T, D] or None; actions: labels float32 [T, A]
    in the convention `action` (None: a video without labels); executed: what was carried out, same convention;
    instructions: the sentence in force at each step; timesteps: environment steps taken before each, int32 [T].
    waypoints: as in `Demo`, float32 [T, 3], where the simulator tells of its cues or only the beginning is recorded;
    due: as in `Demo`, float32 [T, 3], where the simulator tells; off_course: as in `Demo`, bool [T], where steps off
    course are recorded.
    kind: `demonstration`, `relabelled` (a learner acted, the expert labelled) or `play` (nobody labelled); seed,
    scene_seed: of the run and of the scene; pushed: steps at its start (or after its cue) that random motion drove.
    """

    suite: str
    task: str
    trial: int
    attempt: int
    kind: str
    seed: int
    scene_seed: int
    pushed: int
    action: ActionSpec
    state_names: tuple[str, ...]
    instructions: tuple[str, ...]
    pictures: Mapping[str, Sequence[bytes]]
    state: Floats | None
    actions: Floats | None
    executed: Floats
    timesteps: npt.NDArray[np.int32]
    waypoints: Floats | None = None
    due: Floats | None = None
    off_course: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        parts = {name: getattr(self, name) for name in ("instructions", "executed", *OPTIONAL)}
        lengths = {name: len(part) for name, part in parts.items() if part is not None}
        if set(lengths.values()) != {len(self)}:
            raise DemoError(f"{self}: its parts must have one length, {len(self)} steps, were {lengths}")

    def __len__(self) -> int:
        return len(self.timesteps)

    def __str__(self) -> str:
        return f"episode {self.suite}/{self.task}/{self.trial}#{self.attempt}"

    def select(self, keep: Keep) -> Episode:
        """Only these steps: bool [T] or indices."""
        rows: list[int] = (np.flatnonzero(keep) if keep.dtype == bool else keep).tolist()
        return replace(
            self,
            instructions=tuple(self.instructions[row] for row in rows),
            pictures={name: [files[row] for row in rows] for name, files in self.pictures.items()},
            state=None if self.state is None else self.state[rows],
            actions=None if self.actions is None else self.actions[rows],
            executed=self.executed[rows],
            timesteps=self.timesteps[rows],
            waypoints=None if self.waypoints is None else self.waypoints[rows],
            due=None if self.due is None else self.due[rows],
            off_course=None if self.off_course is None else self.off_course[rows],
        )


def file_name(suite: str, task: str, trial: int, attempt: int) -> str:
    """The file of one attempt's episode."""
    safe = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in f"{suite}_{task}")
    return f"{safe[:120]}_{trial:06d}_{attempt}.npz"


def write_episode(episode: Episode, folder: Path) -> Path:
    """Write the episode into the folder, whole or not at all. Raises OSError (a full disk leaves nothing behind)."""
    said = {
        name: getattr(episode, name)
        for name in ("suite", "task", "trial", "attempt", "kind", "seed", "scene_seed", "pushed")
    }
    said |= {
        "action": asdict(episode.action),
        "state_names": list(episode.state_names),
        "instructions": list(episode.instructions),
        "cameras": list(episode.pictures),
    }
    parts: dict[str, npt.NDArray[Any]] = {
        "said": np.frombuffer(json.dumps(said).encode(), dtype=np.uint8),
        "executed": episode.executed,
        "timesteps": episode.timesteps,
    }
    for name in OPTIONAL:
        if getattr(episode, name) is not None:
            parts[name] = getattr(episode, name)
    for number, files in enumerate(episode.pictures.values()):
        parts[f"pictures{number}"] = np.frombuffer(b"".join(files), dtype=np.uint8)
        parts[f"lengths{number}"] = np.array([len(file) for file in files], dtype=np.int64)
    path = folder / file_name(episode.suite, episode.task, episode.trial, episode.attempt)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **parts)  # type: ignore[arg-type] # the stubs take names for allow_pickle
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def read_episode(path: Path) -> Episode:
    """The episode in a file. Raises DemoError for one that is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as parts:
            return _assemble({name: parts[name] for name in parts.files})
    except FileNotFoundError as error:
        raise DemoError(
            f"recorded episode {path} is missing although its attempt is on record; was the folder moved, or does the "
            "policy host write to another machine's disk? Record into a new folder that all machines share"
        ) from error
    except Exception as error:  # readers of zip files and NumPy headers raise almost anything for a damaged one
        raise DemoError(
            f"recorded episode {path} is damaged ({error}); delete the folder and record it again"
        ) from error


def _assemble(parts: Mapping[str, npt.NDArray[Any]]) -> Episode:
    said = json.loads(parts["said"].tobytes())
    pictures: dict[str, list[bytes]] = {}
    for number, name in enumerate(said.pop("cameras")):
        ends = np.cumsum(parts[f"lengths{number}"])
        data = parts[f"pictures{number}"].tobytes()
        pictures[name] = [data[end - size : end] for end, size in zip(ends, parts[f"lengths{number}"], strict=True)]
    return Episode(
        **{
            **said,
            "action": action_spec(said["action"]),
            "state_names": tuple(said["state_names"]),
            "instructions": tuple(said["instructions"]),
        },
        pictures=pictures,
        state=parts.get("state"),
        actions=parts.get("actions"),
        executed=parts["executed"],
        timesteps=parts["timesteps"],
        waypoints=parts.get("waypoints"),
        due=parts.get("due"),
        off_course=parts.get("off_course"),
    )


def action_spec(data: Mapping[str, Any]) -> ActionSpec:
    """An ActionSpec from its JSON form. Raises KeyError or ValueError for one that is none."""
    return ActionSpec(
        **{**data, "rotation": Rotation(data["rotation"]), "gripper": Gripper(**data["gripper"])},
    )


def encode_png(picture: Image) -> bytes:
    """A picture as PNG, lightly compressed (a 64x64 picture of the lab: 0.2 ms, 1 kB)."""
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
