"""The state of a training on disk: written whole or not at all, so that a kill or a full disk loses nothing.

    DIR/state/00001000/   weights.safetensors, optimiser.safetensors, average.safetensors, state.json

A folder is written under another name, synced, and renamed; the one before it is removed only then.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from policies.training.options import TrainingError, fixed, free_options, steady

FORMAT = "memvla-training-1"
ABOUT = "state.json"
UNFINISHED = ".unfinished"
NONE = "not given"


@dataclass(frozen=True)
class Kept:
    """A state on disk. tensors: group (weights, optimiser, average) -> file; about: update, seconds, config."""

    folder: Path
    about: Mapping[str, Any]

    @property
    def update(self) -> int:
        return int(self.about["update"])

    def tensor(self, group: str) -> Callable[[str], Tensor]:
        """A reader of one tensor of the group by name. Raises TrainingError naming the file."""
        path = self.folder / f"{group}.safetensors"
        try:
            file = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"training state {path} cannot be read: {error}; {_older(self.folder)}") from error

        def read(name: str) -> Tensor:
            try:
                found: Tensor = file.get_tensor(name)  # type: ignore[no-untyped-call] # safetensors has no types
            except SafetensorError as error:
                raise TrainingError(f"training state {path} lacks {name}: it is of another model") from error
            return found

        return read


def _older(folder: Path) -> str:
    return f"remove {folder} to begin with the state before it, or from the start where there is none"


def last_state(home: Path) -> Kept | None:
    """The newest whole state under `home`/state, or None. Raises TrainingError if it is broken."""
    folders = sorted(path for path in (home / "state").glob("*") if path.name.isdigit())
    if not folders:
        return None
    folder = folders[-1]
    try:
        about = json.loads((folder / ABOUT).read_text())
        if about.get("format") != FORMAT:
            raise ValueError(f"its format is {about.get('format')!r}, expected {FORMAT!r}")
        int(about["update"]), dict(about["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"training state {folder} cannot be read: {error!r}; {_older(folder)}") from error
    return Kept(folder, about)


def keep_state(home: Path, groups: Mapping[str, Mapping[str, Tensor]], about: Mapping[str, Any]) -> Path:
    """Write a state and remove those before it. Raises TrainingError and leaves the last good one as it was."""
    folder = home / "state" / f"{int(about['update']):08d}"
    with whole_folder(folder, "the training state") as place:
        for name, tensors in groups.items():
            save_file(dict(tensors), place / f"{name}.safetensors")
        (place / ABOUT).write_text(json.dumps({"format": FORMAT, **about}, indent=1))
    for path in folder.parent.iterdir():
        if path != folder:
            shutil.rmtree(path, ignore_errors=True)
    return folder


@contextmanager
def whole_folder(folder: Path, what: str) -> Iterator[Path]:
    """A place to write a folder that then appears at once under its name, in place of one that was there.

    Raises TrainingError when something cannot be written; what was there before stays.
    """
    place = folder.with_name(folder.name + UNFINISHED)
    old = folder.with_name(folder.name + ".old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not folder.exists():
            old.rename(folder)  # a kill fell between the two renames below
        for left in (place, old):
            shutil.rmtree(left, ignore_errors=True)
        place.mkdir()
        yield place
        for path in (*place.rglob("*"), place):
            _sync(path)
        if folder.exists():
            folder.rename(old)
        place.rename(folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(place, ignore_errors=True)
        raise TrainingError(
            f"{what} {folder} could not be written: {error}. Is the disk full? The last state that was written whole "
            "is kept: make room and run the same command again"
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def same_training(kept: Kept, config: Mapping[str, Any]) -> None:
    """Raise TrainingError, listing the differences, if the state is of a training with another configuration."""
    configs = (kept.about["config"], config)
    any_length = all(steady(each, kept.update) for each in configs)
    before, now = (fixed(each, any_length=any_length) for each in configs)
    differences = [
        f"  {name.removeprefix('options.')}: {before.get(name, NONE)!r} there, {now.get(name, NONE)!r} here"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
    if differences:
        listed = "\n".join(differences)
        raise TrainingError(
            f"{kept.folder.parents[1]} holds a training with another configuration (update {kept.update}):\n{listed}\n"
            f"Give the same to resume it, or another train.dir. A resume may change: {', '.join(free_options(config))}"
        )
