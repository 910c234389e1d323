"""Recorded episodes as an RLDS dataset that any RLDS tool reads (`tfds.builder_from_directory(FOLDER)`).

Layout of one example (https://github.com/google-research/rlds): `steps`, each with observation (`image_CAMERA`,
`state`), action, waypoint (where the simulator tells of its cues, or only the beginning is recorded), due (where the
simulator tells), off_course (where such steps are recorded), language_instruction, is_first, is_last, is_terminal,
reward, discount, timestep; and `episode_metadata`. Beside the dataset lies `collection.json`: which scenes are in it
and how many episodes were left out.
"""

from __future__ import annotations

import errno
import importlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.training.demos import DemoError
from policies.training.episodes import Episode
from policies.training.tfds import load_tfds

SPLIT = "train"
SHARD = 200
"""Episodes in one file."""
COLLECTION = "collection.json"
STAGING = ".staging"

WAYPOINT = (
    "what the frame itself says of where to go, metres: the place its cue is about, else where the hand acts next"
)
DUE = "where the hand acts next, metres; while it waits and things move, where it would have to act now"
OFF_COURSE = "whether random motion, or a learner that is taken over from, drove this step"
DESCRIPTION = (
    "Robot episodes recorded with memvla-bench. Motion and gripper of `action` are described by `action_spec` in "
    "episode_metadata (JSON): frame, units of 1.0, rotation, and which gripper value opens."
)


@dataclass(frozen=True)
class Shape:
    """What all episodes of one dataset share: pictures by camera [H, W, 3], numbers of state and action, the action
    convention, whether there are labels, and whether each step names a waypoint, what is due, and whether it is off
    course."""

    cameras: Mapping[str, tuple[int, int, int]]
    state: tuple[str, ...]
    action: Mapping[str, Any]
    actions: int
    labelled: bool
    waypoints: bool = False
    due: bool = False
    off_course: bool = False

    @classmethod
    def of(cls, episode: Episode) -> Shape:
        from PIL import Image

        sizes = {}
        for name, files in episode.pictures.items():
            width, height = Image.open(io.BytesIO(files[0])).size
            sizes[name] = (height, width, 3)
        states = 0 if episode.state is None else episode.state.shape[1]
        names = episode.state_names if len(episode.state_names) == states else tuple(f"s{i}" for i in range(states))
        spec = json.loads(json.dumps(asdict(episode.action)))
        said = (getattr(episode, name) is not None for name in ("actions", "waypoints", "due", "off_course"))
        return cls(sizes, names, spec, episode.executed.shape[1], *said)

    def as_json(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for name in ("waypoints", "due", "off_course"):  # datasets from before there were any do not mention them
            if not data[name]:
                del data[name]
        return data

    def difference(self, other: Mapping[str, Any]) -> str:
        """How this shape differs from one in JSON form ("" if it does not)."""
        mine = self.as_json()
        keys = [*mine, *(key for key in other if key not in mine)]
        return "; ".join(
            f"{key} is {mine.get(key)}, was {other.get(key)}" for key in keys if mine.get(key) != other.get(key)
        )


def features_of(shape: Shape) -> Any:
    """The tfds features of a dataset of this shape."""
    tfds = load_tfds()

    feature, scalar = tfds.features, tfds.features.Scalar
    observation: dict[str, Any] = {
        f"image_{name}": feature.Image(shape=size, dtype=np.uint8, encoding_format="png", doc=f"camera {name}")
        for name, size in shape.cameras.items()
    }
    if shape.state:
        doc = f"proprioception: {', '.join(shape.state)}"
        observation["state"] = feature.Tensor(shape=(len(shape.state),), dtype=np.float32, doc=doc)
    numbers = feature.Tensor(shape=(shape.actions,), dtype=np.float32)
    steps: dict[str, Any] = {
        "observation": observation,
        "executed_action": numbers,
        "language_instruction": feature.Text(),
        "timestep": scalar(np.int32, doc="environment steps taken before this one"),
        "reward": scalar(np.float32),
        "discount": scalar(np.float32),
        "is_first": scalar(np.bool_),
        "is_last": scalar(np.bool_),
        "is_terminal": scalar(np.bool_),
    }
    if shape.labelled:
        steps["action"] = feature.Tensor(shape=(shape.actions,), dtype=np.float32, doc="what the demonstrator would do")
    if shape.waypoints:
        steps["waypoint"] = feature.Tensor(shape=(3,), dtype=np.float32, doc=WAYPOINT)
    if shape.due:
        steps["due"] = feature.Tensor(shape=(3,), dtype=np.float32, doc=DUE)
    if shape.off_course:
        steps["off_course"] = scalar(np.bool_, doc=OFF_COURSE)
    text, number = feature.Text(), scalar(np.int64)
    metadata = {
        "suite": text,
        "task": text,
        "kind": feature.Text(doc="demonstration, relabelled (a learner acted) or play (no labels)"),
        "scene_hash": text,
        "action_spec": text,
        "trial": number,
        "attempt": number,
        "seed": number,
        "scene_seed": number,
        "pushed": feature.Scalar(np.int64, doc="steps driven by random motion or a learner to begin off course"),
        "success": scalar(np.bool_),
    }
    return feature.FeaturesDict({"steps": feature.Dataset(steps), "episode_metadata": metadata})


@dataclass(frozen=True)
class Finished:
    """A recorded episode whose outcome is known."""

    episode: Episode
    success: bool
    scene_hash: str


def example_of(finished: Finished) -> dict[str, Any]:
    """One episode in the form of `features_of`."""
    episode, last = finished.episode, len(finished.episode) - 1
    steps = []
    for t in range(len(episode)):
        observation: dict[str, Any] = {
            f"image_{name}": io.BytesIO(files[t]) for name, files in episode.pictures.items()
        }
        if episode.state is not None:
            observation["state"] = episode.state[t]
        won = finished.success and t == last
        step = {
            "observation": observation,
            "executed_action": episode.executed[t],
            "language_instruction": episode.instructions[t],
            "timestep": episode.timesteps[t],
            "reward": np.float32(won),
            "discount": np.float32(1.0),
            "is_first": t == 0,
            "is_last": t == last,
            "is_terminal": won,
        }
        if episode.actions is not None:
            step["action"] = episode.actions[t]
        if episode.waypoints is not None:
            step["waypoint"] = episode.waypoints[t]
        if episode.due is not None:
            step["due"] = episode.due[t]
        if episode.off_course is not None:
            step["off_course"] = episode.off_course[t]
        steps.append(step)
    said = {name: getattr(episode, name) for name in METADATA}
    spec = json.dumps(asdict(episode.action), sort_keys=True)
    said |= {"success": finished.success, "scene_hash": finished.scene_hash, "action_spec": spec}
    return {"steps": steps, "episode_metadata": said}


METADATA = ("suite", "task", "kind", "trial", "attempt", "seed", "scene_seed", "pushed")


def dataset_name(folder: Path) -> str:
    """What the dataset in a folder is called: the folder's name, in the letters tfds allows."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"demos_{name}"


def read_collection(folder: Path) -> dict[str, Any]:
    """The dataset's own account ({} if there is none yet). Raises DemoError for one that cannot be read."""
    path = folder / COLLECTION
    try:
        data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise DemoError(f"{path} cannot be read ({error}); is this a folder of `memvla collect`?") from error
    return data


def packed_scenes(folder: Path) -> set[tuple[str, str, int]]:
    """(suite, task, trial) of every episode that is in the dataset."""
    _settle(folder)
    found = read_collection(folder).get("scenes", {})
    return {(*key.split("/", 1), trial) for key, trials in found.items() for trial in trials}


def append(folder: Path, finished: Iterable[Finished], account: Mapping[str, Any]) -> int:
    """Append episodes to the dataset in `folder` (made if there is none), all of them or none; how many there were.

    account: further entries for `collection.json`. New files are written aside and moved into place, the dataset's own
    description last: a full disk or a kill leaves what was there before. Raises DemoError when an episode does not fit
    the dataset, OSError when the disk does not take it.
    """
    staging = folder / STAGING
    _settle(folder)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        before = read_collection(folder)
        count, collection = _write(folder, staging, finished, before)
        collection |= account
        (staging / COLLECTION).write_text(json.dumps(collection, indent=1, sort_keys=True) + "\n")
        _move(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return count


def _write(
    folder: Path, staging: Path, finished: Iterable[Finished], before: Mapping[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Write new shards into `staging`; (episodes, the new account)."""
    scenes: dict[str, list[int]] = {key: list(trials) for key, trials in before.get("scenes", {}).items()}
    shape: dict[str, Any] | None = before.get("shape")
    writer: Any = None
    name = before.get("name", dataset_name(folder))
    count = steps = 0
    for group in _groups(finished, 20):
        for one in group:
            found = Shape.of(one.episode)
            if shape is None:
                shape = found.as_json()
            if difference := found.difference(shape):
                raise DemoError(
                    f"{one.episode} does not fit the dataset {folder}: {difference}; collect suites with other "
                    "cameras, states or actions into folders of their own"
                )
            scenes.setdefault(f"{one.episode.suite}/{one.episode.task}", []).append(one.episode.trial)
            steps += len(one.episode)
        writer = writer or _writer(folder, staging, name, Shape.of(group[0].episode))
        with _disk_errors():
            writer.add_examples({SPLIT: [example_of(one) for one in group]})
        count += len(group)
    if writer is not None:
        with _disk_errors():
            writer.close_all()
    total = before.get("episodes", 0) + count
    return count, {
        "name": name,
        "shape": shape,
        "scenes": {key: sorted(trials) for key, trials in sorted(scenes.items())},
        "episodes": total,
        "transitions": before.get("transitions", 0) + steps,
    }


@contextmanager
def _disk_errors() -> Iterator[None]:
    """TensorFlow's own errors of writing as the OSError they are."""
    errors = importlib.import_module("tensorflow").errors
    try:
        yield
    except errors.OpError as error:
        raise OSError(errno.EIO, " ".join(str(error.message).split())[:200]) from error


def _writer(folder: Path, staging: Path, name: str, shape: Shape) -> Any:
    tfds = load_tfds()

    for known in ("dataset_info.json", "features.json"):
        if (folder / known).exists():
            shutil.copy(folder / known, staging / known)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(staging), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, description=DESCRIPTION, features=features_of(shape))
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=SHARD, overwrite=False)
    writer.initialize_splits([SPLIT], fail_if_exists=False)
    return writer


def _groups(items: Iterable[Finished], size: int) -> Iterator[list[Finished]]:
    group: list[Finished] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


READY = ".ready"


def _move(staging: Path, folder: Path) -> None:
    """Put a written staging folder into place. The renaming to `.ready` decides: before it nothing has happened, after
    it `_settle` finishes whatever a kill interrupted."""
    ready = folder / READY
    os.replace(staging, ready)
    _settle(folder)


def _settle(folder: Path) -> None:
    """Finish an append that was interrupted after all was written."""
    ready = folder / READY
    if not ready.is_dir():
        return
    last: Sequence[str] = ("features.json", COLLECTION, "dataset_info.json")
    names = sorted(path.name for path in ready.iterdir() if path.name not in last)
    for name in [*names, *last]:
        if (ready / name).exists():
            os.replace(ready / name, folder / name)
    ready.rmdir()
