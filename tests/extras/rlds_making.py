"""Small RLDS datasets in any layout, and recorded episodes, for tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.spec import ActionSpec, Gripper, Rotation
from policies.training.episodes import Episode, encode_png
from policies.training.tfds import load_tfds

SIDE = 16
SPEC = ActionSpec("world", False, 0.02, Rotation.EULER_XYZ, 0.1, Gripper(1.0, 0.0), hz=20.0)
POSE = ("x", "y", "z", "roll", "pitch", "yaw", "left_finger", "right_finger")


def film(steps: int, seed: int) -> np.ndarray[Any, Any]:
    """Pictures uint8 [T, 16, 16, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (steps, SIDE, SIDE, 3), dtype=np.uint8)


def recorded(trial: int = 0, steps: int = 5, *, numbers: int = 7, **changes: Any) -> Episode:
    """A recorded episode with random content."""
    rng = np.random.default_rng(trial)
    parts: dict[str, Any] = {
        "suite": "lab_general",
        "task": "press",
        "trial": trial,
        "attempt": 1,
        "kind": "demonstration",
        "seed": 0,
        "scene_seed": 7,
        "pushed": 0,
        "action": SPEC,
        "state_names": POSE,
        "instructions": ("press the red button",) * steps,
        "pictures": {name: [encode_png(one) for one in film(steps, trial)] for name in ("front", "wrist")},
        "state": rng.standard_normal((steps, 8)).astype(np.float32),
        "actions": rng.standard_normal((steps, numbers)).astype(np.float32),
        "executed": rng.standard_normal((steps, numbers)).astype(np.float32),
        "timesteps": np.arange(steps, dtype=np.int32),
    }
    return Episode(**{**parts, **changes})


def write_dataset(folder: Path, name: str, steps: dict[str, Any], episodes: Sequence[Sequence[dict[str, Any]]]) -> Path:
    """An RLDS dataset called `name` with the given step features, written by tfds itself."""
    tfds = load_tfds()
    features = tfds.features.FeaturesDict({"steps": tfds.features.Dataset(steps)})
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    folder.mkdir(parents=True, exist_ok=True)
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=2)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [{"steps": list(episode)} for episode in episodes]})
    writer.close_all()
    return folder


def image_feature() -> Any:
    return load_tfds().features.Image(shape=(SIDE, SIDE, 3), dtype=np.uint8, encoding_format="png")


def numbers_feature(*shape: int) -> Any:
    return load_tfds().features.Tensor(shape=shape, dtype=np.float32)


def text_feature() -> Any:
    return load_tfds().features.Text()


def png(picture: np.ndarray[Any, Any]) -> io.BytesIO:
    return io.BytesIO(encode_png(picture))
