"""Datasets as the policy stages take them: demonstrations, their statistics, and what their actions mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs.spec import ActionSpec
from policies.training.demos import Demo, DemoError
from policies.training.episodes import action_spec
from policies.training.rlds import read_demos
from policies.training.rlds_writing import read_collection
from policies.training.statistics import require_own, statistics_of
from policies.vla.conventions import CONVENTIONS, OPEN_IS_ONE
from policies.vla.statistics import ActionStatistics


@dataclass(frozen=True)
class Data:
    """demos: of all datasets; statistics: by un-normalisation key, as `dataset_statistics.json` has them; action: what
    the labels mean, the same in all of them."""

    demos: tuple[Demo, ...]
    statistics: Mapping[str, Mapping[str, Any]]
    action: ActionSpec

    def of(self, demo: Demo) -> ActionStatistics:
        """The statistics a demonstration's actions are normalised with."""
        return ActionStatistics.of(self.statistics[demo.dataset]["action"], demo.dataset)


def read_data(
    folders: Sequence[str | Path], *, cameras: Sequence[str] | None = None, unnorm_key: str | None = None
) -> Data:
    """Read RLDS datasets into memory, pictures as they are stored. unnorm_key: one name and one set of statistics for
    all of them (None: each dataset has its own under its name). Raises DemoError where they are no datasets, or do not
    go together."""
    demos: list[Demo] = []
    actions: dict[str, ActionSpec] = {}
    for folder in map(Path, folders):
        read = list(read_demos(folder, cameras=cameras, encoded=True))
        require_own(folder, read)
        actions[str(folder)] = convention(folder, read[0].dataset)
        demos += read
    if not demos:
        raise DemoError("name the demonstrations: data=[DIR,...], each an RLDS dataset as `memvla collect` writes")
    if len(set(actions.values())) > 1:
        said = "; ".join(f"{name}: {spec}" for name, spec in actions.items())
        raise DemoError(f"datasets of different action conventions cannot be trained together: {said}")
    named = [replace(demo, dataset=unnorm_key) for demo in demos] if unnorm_key else demos
    whole = [demo for demo in named if not demo.beginning] or named  # beginnings do not tell how the hand moves
    return Data(tuple(named), statistics_of(whole), next(iter(actions.values())))


def convention(folder: Path, dataset: str) -> ActionSpec:
    """What a dataset's labels mean: as recorded with it, or known by its name. Raises DemoError where neither says."""
    recorded = read_collection(folder).get("shape", {}).get("action")
    if recorded is not None:
        return replace(action_spec(recorded), gripper=OPEN_IS_ONE)
    if dataset in CONVENTIONS:
        return CONVENTIONS[dataset].action
    raise DemoError(
        f"dataset {folder}: nothing says what its actions mean; known by name are {', '.join(CONVENTIONS)}, and "
        "datasets of `memvla collect` say it themselves"
    )
