"""Demonstrations from RLDS datasets: our own and the public layouts."""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policies.training.demos import Demo, DemoError
from policies.training.layouts import Layout, Plain, Trajectory, layout_of
from policies.training.tfds import load_tfds

Pictures = npt.NDArray[np.uint8]


def read_demos(
    folder: Path,
    *,
    split: str = "train",
    cameras: Sequence[str] | None = None,
    name: str | None = None,
    size: int | None = None,
    limit: int | None = None,
    threads: int | None = None,
    encoded: bool = False,
) -> Iterator[Demo]:
    """The demonstrations of the RLDS dataset in `folder`, in the order of its files.

    cameras: which pictures to decode, by our names (None: all of the layout); name: the layout's, see
    `policies.training.layouts` (None: the dataset's own); size: pictures are resized to size x size (Lanczos, the
    aspect ratio ignored); limit: stop after so many; threads: of decoding (None: one per CPU); encoded: pictures stay
    as they are stored until one is looked at (`Film`), which takes a tenth of the memory. Episodes without language are
    skipped. Raises DemoError for a folder that is no dataset, missing or damaged files, actions of another
    size, and a dataset in which no episode has language.
    """
    builder = open_dataset(folder)
    key, layout = layout_of(name or builder.info.name, _names(builder.info.features))
    missing = [camera for camera in cameras or () if camera not in layout.cameras]
    if missing:
        there = ", ".join(layout.cameras)
        raise DemoError(f"dataset {folder} has no camera {', '.join(missing)}; there are {there}")
    if cameras is not None:
        layout = replace(layout, cameras={camera: layout.cameras[camera] for camera in cameras})
    plain = _plain(folder, builder, split, key, layout, limit)
    if encoded:
        yield from (_demo(each, {camera: Film(each, camera, size) for camera in each.pictures}) for each in plain)
    else:
        yield from _ahead(lambda each: _decoded(each, size), plain, threads or os.cpu_count() or 1)


def _plain(folder: Path, builder: Any, split: str, key: str, layout: Layout, limit: int | None) -> Iterator[Plain]:
    """The episodes that have language, pictures still encoded."""
    read = without = 0
    for number, trajectory in enumerate(trajectories(folder, builder, split)):
        for plain in layout.read(key, number, trajectory):
            if limit is not None and read >= limit:
                return
            if plain.instruction.strip():
                yield plain
                read += 1
            else:
                without += 1
    if read == 0:
        why = f"none of its {without} episodes has a language instruction" if without else "it has no episodes"
        raise DemoError(f"dataset {folder}: {why}; expected instructions under {layout.language!r}")


def read_actions(folder: Path, *, split: str = "train", name: str | None = None) -> Iterator[Plain]:
    """The same episodes without decoding any picture: enough for statistics."""
    builder = open_dataset(folder)
    key, layout = layout_of(name or builder.info.name, _names(builder.info.features))
    yield from _plain(folder, builder, split, key, layout, None)


def _ahead(work: Callable[[Plain], Demo], items: Iterator[Plain], threads: int) -> Iterator[Demo]:
    """`work` over the items in order, `threads` at a time and a few ahead."""
    waiting: deque[Future[Demo]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def open_dataset(folder: Path) -> Any:
    """The tfds builder of a dataset folder. Raises DemoError when it is none, or when a file of it is missing."""
    tfds = load_tfds()

    if not (folder / "dataset_info.json").exists():
        near = sorted(str(path.parent) for path in folder.glob("*/dataset_info.json")) if folder.is_dir() else []
        cure = f"; did you mean {near[0]}?" if near else "; expected the folder that holds dataset_info.json"
        raise DemoError(f"{folder} is no RLDS dataset: it has no dataset_info.json{cure}")
    try:
        builder = tfds.builder_from_directory(str(folder))
        files = {name: info.filepaths for name, info in builder.info.splits.items()}
    except Exception as error:
        raise DemoError(f"dataset {folder} cannot be opened: {' '.join(str(error).split())[:300]}") from error
    for name, paths in files.items():
        missing = [str(path) for path in paths if not Path(path).exists()]
        if missing:
            raise DemoError(
                f"dataset {folder}: split {name} lacks {len(missing)} of {len(paths)} files, the first is "
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
    # A file cut between two episodes is an error too: tfds then counts fewer than it was promised.
    options = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, assert_cardinality=True)
    try:
        data = builder.as_dataset(split=split, decoders={"steps": tfds.decode.SkipDecoding()}, read_config=options)
    except ValueError as error:  # its description promises no episodes, or impossible ones
        raise DemoError(
            f"dataset {folder}: split {split!r} cannot be read ({' '.join(str(error).split())[:200]}); "
            f"dataset_info.json says that it has {expected} episodes; copy the dataset again"
        ) from error
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


def _demo(plain: Plain, pictures: Mapping[str, Pictures | Film]) -> Demo:
    return Demo(
        plain.dataset,
        plain.task,
        plain.trial,
        plain.instruction,
        pictures,
        plain.state,
        plain.actions,
        plain.waypoints,
        plain.due,
        plain.off_course,
    )


def _decoded(plain: Plain, size: int | None) -> Demo:
    """A demonstration with its pictures decoded."""
    return _demo(plain, {camera: Film(plain, camera, size)[:] for camera in plain.pictures})


class Film:
    """The T pictures of one camera, encoded; `film[frames]` decodes those, uint8 [..., H, W, 3], as an array of all of
    them would give. Raises DemoError for a picture that cannot be decoded, and for a film without any."""

    def __init__(self, plain: Plain, camera: str, size: int | None = None) -> None:
        self._where = f"demonstration {plain.dataset}/{plain.task}/{plain.trial}, camera {camera}"
        self._files, self._size = list(plain.pictures[camera]), size
        if not self._files:
            raise DemoError(f"{self._where}: it has no steps")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, frames: int | slice | npt.NDArray[np.int64]) -> Pictures:
        if isinstance(frames, int | np.integer):
            first: Pictures = self._look([self._files[frames]])[0]
            return first
        if isinstance(frames, slice):
            return self._look(self._files[frames])
        return self._look([self._files[frame] for frame in frames.tolist()])

    def _look(self, files: Sequence[bytes]) -> Pictures:
        tensorflow = importlib.import_module("tensorflow")
        try:
            film: Pictures = _decoder()(tensorflow.constant(files)).numpy()
        except (tensorflow.errors.OpError, ValueError, TypeError) as error:
            why = " ".join(str(error).split())[:200]
            raise DemoError(f"{self._where}: a picture cannot be decoded ({why})") from error
        return film if self._size is None else np.stack([resized(picture, self._size) for picture in film])


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """Encoded pictures [T] -> uint8 [T, H, W, 3], compiled once: a third faster than Pillow, and it frees the
    interpreter while it works."""
    tensorflow = importlib.import_module("tensorflow")

    def one(file: Any) -> Any:
        return tensorflow.io.decode_image(file, channels=3, expand_animations=False)

    def film(files: Any) -> Any:
        return tensorflow.map_fn(one, files, fn_output_signature=tensorflow.uint8)

    return tensorflow.function(film, input_signature=[tensorflow.TensorSpec([None], tensorflow.string)])


def resized(picture: Pictures, size: int) -> Pictures:
    """A picture [H, W, 3] as [size, size, 3]: Lanczos, the aspect ratio ignored."""
    from PIL import Image as Pillow

    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Pillow.fromarray(picture).resize((size, size), Pillow.Resampling.LANCZOS))
