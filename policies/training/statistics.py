"""Statistics of datasets: `dataset_statistics.json` in the form of the family's released checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from envs.spec import Floats
from policies.training.demos import DemoError
from policies.vla.statistics import GRIPPER

FILE_NAME = "dataset_statistics.json"
CURE = "remove the file (statistics are computed then), or bring the dataset it belongs to"
Statistics = dict[str, dict[str, Any]]
"""Dataset key -> `action` (and `proprio`) with mean, std, min, max, q01, q99; num_transitions, num_trajectories."""


class Rows(Protocol):
    """What statistics need of an episode."""

    @property
    def dataset(self) -> str: ...
    @property
    def state(self) -> Floats | None: ...
    @property
    def actions(self) -> Floats | None: ...


def statistics_of(episodes: Iterable[Rows]) -> Statistics:
    """Statistics of every dataset among the episodes. The gripper is left out of the mask: it is never normalised.

    Raises DemoError for actions that differ in size within a dataset, and for numbers that are not finite.
    """
    actions: dict[str, list[Floats]] = {}
    states: dict[str, list[Floats]] = {}
    for episode in episodes:
        if episode.actions is None:
            continue
        actions.setdefault(episode.dataset, []).append(episode.actions)
        if episode.state is not None:
            states.setdefault(episode.dataset, []).append(episode.state)
    return {key: _entry(key, rows, states.get(key, [])) for key, rows in actions.items()}


def _entry(key: str, actions: list[Floats], states: list[Floats]) -> dict[str, Any]:
    labels = _joined(key, "actions", actions)
    mask = np.arange(labels.shape[1]) != GRIPPER
    entry: dict[str, Any] = {
        "action": {**_moments(labels), "mask": mask.tolist()},
        "num_transitions": len(labels),
        "num_trajectories": len(actions),
    }
    if states:
        entry["proprio"] = _moments(_joined(key, "states", states))
    return entry


def _joined(key: str, what: str, rows: list[Floats]) -> npt.NDArray[np.float64]:
    sizes = sorted({part.shape[1] for part in rows})
    if len(sizes) != 1:
        raise DemoError(f"dataset {key}: its {what} have {' and '.join(map(str, sizes))} numbers in different episodes")
    joined = np.concatenate(rows).astype(np.float64)
    if not np.isfinite(joined).all():
        raise DemoError(f"dataset {key}: its {what} hold NaN or infinite numbers")
    return joined


def _moments(rows: npt.NDArray[np.float64]) -> dict[str, list[float]]:
    found = {
        "mean": rows.mean(0),
        "std": rows.std(0),
        "max": rows.max(0),
        "min": rows.min(0),
        "q01": np.quantile(rows, 0.01, axis=0),
        "q99": np.quantile(rows, 0.99, axis=0),
    }
    return {name: numbers.tolist() for name, numbers in found.items()}


def write_statistics(statistics: Mapping[str, Any], folder: Path) -> Path:
    """Write the file into a folder, whole or not at all."""
    path = folder / FILE_NAME
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(statistics, indent=1) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_statistics(path: Path) -> Statistics:
    """The file as it is. Raises DemoError when it is missing or no such file."""
    try:
        data: Statistics = json.loads(path.read_text())
        if not data or not all("action" in entry for entry in data.values()):
            raise ValueError("it has no entry with `action`")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DemoError(f"dataset statistics {path} cannot be used: {error}") from error
    return data


def require_own(folder: Path, episodes: Iterable[Rows]) -> None:
    """Refuse a dataset folder whose statistics file is of other data. episodes: all of the dataset.

    Raises DemoError naming the number that differs. A folder without such a file is fine.
    """
    path = folder / FILE_NAME
    if path.exists():
        require_same(load_statistics(path), statistics_of(episodes), path)


def require_same(given: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    """Refuse a statistics file of other data. given: of the file; found: computed from the demonstrations at hand.

    Raises DemoError naming the dataset and the number that differs.
    """
    for key, entry in found.items():
        if key not in given:
            raise DemoError(f"{path} has statistics of {', '.join(given)}, but the demonstrations are of {key}; {CURE}")
        for name in ("num_transitions", "num_trajectories"):
            if given[key].get(name, entry[name]) != entry[name]:
                raise DemoError(
                    f"{path}: {key} has {name}={given[key][name]} there, the demonstrations have {entry[name]}: it is "
                    f"of other data; {CURE}"
                )
        for name in ("q01", "q99"):
            ours, theirs = np.array(entry["action"][name]), np.array(given[key]["action"].get(name, []))
            if ours.shape != theirs.shape or not np.allclose(ours, theirs, rtol=1e-3, atol=1e-5):
                raise DemoError(
                    f"{path}: {name} of {key} is {theirs.tolist()} there and {ours.tolist()} in the demonstrations: it "
                    f"is of other data; {CURE}"
                )
