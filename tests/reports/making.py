"""Records and run folders for the tests of this room, made through the real store and the real manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports.manifest import Manifest, SuitePlan, collect
from reports.records import FILE_NAME, EpisodeRecord, RecordStore


def record(outcome: str = "success", **changes: Any) -> EpisodeRecord:
    """One attempt at lab/press/0 with every field filled in as the engine would, save what `changes` says."""
    held = None if outcome == "void" else outcome == "success"
    values: dict[str, Any] = {
        "suite": "lab",
        "task": "press",
        "trial": 0,
        "attempt": 1,
        "outcome": outcome,
        "steps": 40,
        "calls": 5,
        "success_once": held,
        "success_at_end": held,
        "score": None if held is None else float(held),
        "instruction": "press the red button",
        "cause": "worker died" if held is None else "",
        "first_frame_hash": "f0",
        "action_digest": "ad",
        "seconds": {"reset": 0.1, "policy": 0.5, "step": 0.2, "draw": 0.1, "total": 1.0},
        "worker": "worker-0",
        "started_at": "2025-06-01T08:00:00+00:00",
    }
    values.update(changes)
    values.setdefault("scene_hash", f"{values['suite']}{values['task']}{values['trial']}")
    return EpisodeRecord(**values)


def plan(name: str = "lab", tasks: Iterable[str] = ("press",), trials: int = 1, **changes: Any) -> SuitePlan:
    """The plan of a suite that stops at success."""
    values: dict[str, Any] = {
        "version": 1,
        "title": f"The suite {name}",
        "benchmark": "lab",
        "fingerprint": f"{name}-0123456789",
        "protocol": {"max_steps": 120, "trials": 50, "success": "once", "stop_on_success": True},
    }
    return SuitePlan(name=name, tasks=tuple(tasks), trials=trials, **(values | changes))


def manifest(policy: str = "expert", suites: Iterable[SuitePlan] = (), **changes: Any) -> Manifest:
    """The manifest of a run of `policy`, collected on this machine."""
    values: dict[str, Any] = {"run": f"{policy}-run", "policy_config": {"options": {"memory": True}}, "seed": 0}
    values |= {"privileged": False, "command": ("memvla", "run")}
    return collect(policy=policy, suites=tuple(suites) or (plan(),), **(values | changes))


def run_folder(folder: Path, made: Manifest, records: Iterable[EpisodeRecord]) -> Path:
    """A run folder with this manifest and these records."""
    folder.mkdir(parents=True)
    made.write(folder)
    with RecordStore(folder / FILE_NAME, create=True) as store:
        for each in records:
            store.add(each)
    return folder
