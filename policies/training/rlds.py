"""Demonstrations from RLDS datasets: our own and the public layouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.training.demos import Demo, DemoError
from policies.training.layouts import Layout, Trajectory, layout_of
from policies.training.tfds import load_tfds

Pictures = npt.NDArray[np.uint8]


def read_demos(
    folder: Path,
    *,
    split: str = "train",
    cameras: Sequence[str] | None = None,
    layout: Layout | None = None,
    size: int | None = None,
    limit: int | None = None,
    threads: int = 2,
) -> Iterator[Demo]:
    """The demonstrations of the RLDS dataset in `folder`, in the order of its files.

    cameras: which pictures to decode, by our names (None: all of the layout); layout: how the dataset is laid out
    (None: by its name, see `policies.training.layouts`); size: pictures are resized to size x size (Lanczos, the aspect
    ratio ignored); limit: stop after so many. Episodes without language are skipped. Raises DemoError for a folder
    that is no dataset, missing or damaged files, actions of another size, and a dataset in which no episode has
    language.
    """
    builder = open_dataset(folder)
    layout = layout or layout_of(builder.info.name, _names(builder.info.features))
    read = without = 0
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for number, trajectory in enumerate(trajectories(folder, builder, split)):
            if limit is not None and read >= limit:
                break
            for plain in layout.read(builder.info.name, number, trajectory):
                if not plain.instruction.strip():
                    without += 1
                    continue
                yield _decoded(plain, cameras, size, pool)
                read += 1
    if read == 0:
        why = f"none of its {without} episodes has a language instruction" if without else "it has no episodes"
        raise DemoError(f"dataset {folder}: {why}; expected instructions under {layout.language!r}")


def open_dataset(folder: Path) -> Any:
    """The tfds builder of a dataset folder. Raises DemoError when it is none, or when a file of it is missing."""
    tfds = load_tfds()

    if not (folder / "dataset_info.json").exists():
        near = sorted(str(path.parent) for path in folder.glob("*/dataset_info.json")) if folder.is_dir() else []
        cure = f"; did you mean {near[0]}?" if near else "; expected the folder that holds dataset_info.json"
        raise DemoError(f"{folder} is no RLDS dataset: it has no dataset_info.json{cure}")
    try:
        builder = tfds.builder_from_directory(str(folder))
    except Exception as error:
        raise DemoError(f"dataset {folder} cannot be opened: {' '.join(str(error).split())[:300]}") from error
    for name, info in builder.info.splits.items():
        missing = [str(path) for path in info.filepaths if not Path(path).exists()]
        if missing:
            raise DemoError(
                f"dataset {folder}: split {name} lacks {len(missing)} of {len(info.filepaths)} files, the first is "
                f"{missing[0]}; copy the dataset again"
            )
    return builder


def trajectories(folder: Path, builder: Any, split: str) -> Iterator[Trajectory]:
    """Episodes as stored: `steps` as arrays [T, ...] with pictures still encoded, and what else the example has."""
    tfds = load_tfds()
    import tensorflow as tf

    if split not in builder.info.splits:
        raise DemoError(f"dataset {folder} has no split {split!r}; there are {', '.join(builder.info.splits)}")
    expected = builder.info.splits[split].num_examples
    options = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=False)
    data = builder.as_dataset(split=split, decoders={"steps": tfds.decode.SkipDecoding()}, read_config=options)
    found = 0
    try:
        for example in data.prefetch(4).as_numpy_iterator():
            found += 1
            yield example
    except tf.errors.OpError as error:
        raise DemoError(
            f"dataset {folder}: a file is damaged after {found} of {expected} episodes "
            f"({' '.join(error.message.split())[:200]}); copy the dataset again"
        ) from error
    if found != expected:
        raise DemoError(
            f"dataset {folder}: split {split} has {found} episodes, its dataset_info.json says {expected}; a file is "
            "truncated: copy the dataset again"
        )


def _names(features: Any) -> set[str]:
    """Names of what a step holds, `observation/image_front` for nested ones."""
    if "steps" not in features:
        return set()

    def walk(node: Any, prefix: str) -> Iterator[str]:
        for key, value in node.items():
            yield f"{prefix}{key}"
            if hasattr(value, "items"):
                yield from walk(value, f"{prefix}{key}/")

    return set(walk(features["steps"].feature, ""))


def _decoded(plain: Any, cameras: Sequence[str] | None, size: int | None, pool: ThreadPoolExecutor) -> Demo:
    """A demonstration with its pictures decoded."""
    wanted = tuple(plain.pictures) if cameras is None else tuple(cameras)
    missing = [name for name in wanted if name not in plain.pictures]
    if missing:
        raise DemoError(
            f"dataset {plain.dataset} has no camera {', '.join(missing)}; there are {_list(plain.pictures)}"
        )
    pictures = {name: _pictures(plain, name, size, pool) for name in wanted}
    return Demo(plain.dataset, plain.task, plain.trial, plain.instruction, pictures, plain.state, plain.actions)


def _pictures(plain: Any, camera: str, size: int | None, pool: ThreadPoolExecutor) -> Pictures:
    files = plain.pictures[camera]
    if len(files) == 0:
        raise DemoError(f"{plain.dataset}/{plain.task}/{plain.trial}: it has no steps")
    try:
        half = -(-len(files) // 2)
        parts = pool.map(lambda part: [decode(file, size) for file in part], (files[:half], files[half:]))
        return np.stack([picture for part in parts for picture in part])
    except (OSError, ValueError) as error:
        raise DemoError(f"{plain.dataset}/{plain.task}/{plain.trial}: camera {camera}: {error}") from error


def decode(file: bytes, size: int | None = None) -> Pictures:
    """An encoded picture as uint8 [H, W, 3], resized to [size, size, 3] (Lanczos) if asked."""
    import io

    from PIL import Image as Pillow

    picture = Pillow.open(io.BytesIO(file)).convert("RGB")
    if size is not None and picture.size != (size, size):
        picture = picture.resize((size, size), Pillow.Resampling.LANCZOS)
    return np.asarray(picture)


def _list(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
