"""The manifest of a run: everything that must be known to repeat it, in `manifest.json` of the run folder."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from suites.protocol import Suite

FILE_NAME = "manifest.json"
SCHEMA = 2
PACKAGES = (
    "memvla-bench", "av", "diffusers", "gymnasium", "hydra-core", "msgpack", "mujoco", "numpy", "pandas", "pyzmq",
    "ray", "safetensors", "scipy", "statsmodels", "tokenizers", "torch", "transformers",
)  # fmt: skip
"""Distributions whose versions are written down where they are installed."""

DECISIVE_PACKAGES = ("mujoco", "torch", "transformers", "diffusers")
"""Those with which a score can change: half a run under one version and half under another is no run."""


class ManifestError(RuntimeError):
    """A manifest is missing, unreadable, or of another run. The message names the file, what was found, the cure."""


@dataclass(frozen=True)
class SuitePlan:
    """One suite of a run as it was when the run began. `trials` scenes of each task of `tasks` are planned; of those
    in `fewer` only so many, because there are no more.

    fingerprint: `Suite.fingerprint()`, the protocol's identity; env: the adapter's options; runtime: name of the
    simulator's Python environment ("": the main one); policy: the PolicySpec the policy had for this suite; tags: of
    those tasks that have any; not_covered: what a machine lacked -> the planned tasks that could not be tried for it.
    """

    name: str
    version: int
    title: str
    benchmark: str
    fingerprint: str
    protocol: dict[str, Any]
    trials: int
    tasks: tuple[str, ...]
    env: dict[str, Any] = field(default_factory=dict)
    runtime: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    source: str = ""
    not_covered: dict[str, list[str]] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)

    @property
    def planned(self) -> int:
        """Scenes planned."""
        return sum(self.trials_of(task) for task in self.tasks)

    def trials_of(self, task: str) -> int:
        """Scenes planned of one task."""
        return self.fewer.get(task, self.trials)

    @cached_property
    def beyond(self) -> frozenset[str]:
        """The planned tasks that could not be tried."""
        return frozenset(task for tasks in self.not_covered.values() for task in tasks)


@dataclass(frozen=True)
class Manifest:
    """Everything needed to repeat a run of one policy on one or more suites. Values are what JSON can hold."""

    run: str
    """Name of the run."""
    policy: str
    """Name of the policy."""
    policy_config: dict[str, Any]
    """The policy's composed configuration."""
    suites: tuple[SuitePlan, ...]
    """What was planned, suite by suite."""
    seed: int
    """The run's seed: all sampling noise of policies comes from it."""
    privileged: bool
    """The policy reads simulator state; its numbers are not comparable with a learned policy's."""
    config: dict[str, Any]
    """The whole composed configuration."""
    hashes: dict[str, str]
    """Digests of checkpoints, by name."""
    simulators: dict[str, dict[str, str]]
    """By suite: simulator versions and renderer, as its workers found them (`with_simulator`)."""
    packages: dict[str, str]
    """Versions of the installed distributions that matter, in the driver's environment."""
    git: dict[str, Any]
    """`revision` (str) and `dirty` (bool) of the source checkout; empty when installed without one."""
    host: dict[str, Any]
    """`cpus`, `platform`, `python` of the driver's machine."""
    command: tuple[str, ...]
    """The command line."""
    started_at: str
    """ISO 8601 in UTC."""
    assets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name: the simulators' files beside their packages. `files`: the needed ones -> SHA-256; `stand_ins`: those
    that are not the benchmark's own -> what they are. What is not there is left out."""
    schema: int = SCHEMA
    """Version of this file's layout."""

    def suite(self, name: str) -> SuitePlan | None:
        """The plan of that suite, or None."""
        return next((plan for plan in self.suites if plan.name == name), None)

    def with_simulator(self, suite: str, found: Mapping[str, str]) -> Manifest:
        """With what a worker of `suite` reports of its simulator (versions, renderer).

        Raises ManifestError when another worker of the suite reported something else: one score, two simulators.
        """
        known = self.simulators.get(suite)
        if known is not None and known != dict(found):
            changes = "; ".join(_compare(f"simulator of {suite}", known, dict(found)))
            raise ManifestError(f"run {self.run}: workers disagree: {changes}; give every worker the same simulator")
        return replace(self, simulators={**self.simulators, suite: dict(found)})

    def write(self, folder: Path | str) -> Path:
        """Write `manifest.json` whole or not at all. Raises ManifestError when the folder does not take it."""
        folder = Path(folder)
        target = folder / FILE_NAME
        try:
            text = json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{target}: the manifest holds what JSON cannot: {error}") from error
        try:
            _write_whole(target, text)
        except OSError as error:
            raise ManifestError(
                f"cannot write {target}: {error.strerror or error}; check that the folder exists, can be written, and "
                f"that the disk has room, or choose another"
            ) from error
        return target


def plan_of(suite: Suite, tasks: Sequence[str], trials: int, policy: Mapping[str, Any] | None = None) -> SuitePlan:
    """The plan of running `trials` trials of `tasks` of a suite. policy: its PolicySpec as a dict."""
    return SuitePlan(
        name=suite.name,
        version=suite.version,
        title=suite.title,
        benchmark=suite.benchmark,
        fingerprint=suite.fingerprint(),
        protocol=asdict(suite.protocol),
        trials=trials,
        tasks=tuple(tasks),
        env=dict(suite.env),
        runtime=suite.runtime.name,
        policy=dict(policy or {}),
        tags={name: suite.task(name).labels for name in tasks if suite.task(name).labels},
        source=suite.source,
        not_covered=_by_reason(suite.not_covered(tasks)),
        fewer={name: count for name in tasks if (count := suite.trials(name, trials)) < trials},
    )


def _by_reason(found: Mapping[str, str]) -> dict[str, list[str]]:
    turned: dict[str, list[str]] = {}
    for task, reason in found.items():
        turned.setdefault(reason, []).append(task)
    return turned


def collect(
    *,
    run: str,
    policy: str,
    policy_config: Mapping[str, Any],
    suites: Iterable[SuitePlan],
    seed: int,
    privileged: bool,
    config: Mapping[str, Any] | None = None,
    hashes: Mapping[str, str] | None = None,
    assets: Mapping[str, Mapping[str, Any]] | None = None,
    command: Sequence[str] | None = None,
) -> Manifest:
    """The manifest of a run that begins now: what is given, and what this machine and installation are.

    Everything is brought to the form JSON gives back (tuples become lists), so that a manifest equals itself after a
    round trip. Raises ManifestError for what JSON cannot hold, for a suite planned twice, and for an empty plan.
    """
    plans = tuple(suites)
    names = [plan.name for plan in plans]
    if not plans or any(plan.planned == 0 for plan in plans) or len(set(names)) != len(names):
        raise ManifestError(f"run {run}: needs one suite or more, each once and with scenes; got {names or 'none'}")
    made = Manifest(
        run=run,
        policy=policy,
        policy_config=dict(policy_config),
        suites=plans,
        seed=seed,
        privileged=privileged,
        config=dict(config or {}),
        hashes=dict(hashes or {}),
        assets={name: dict(each) for name, each in (assets or {}).items()},
        simulators={},
        packages=_packages(),
        git=_git(Path(__file__).resolve().parent.parent),
        host={"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        command=tuple(sys.argv if command is None else command),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    try:
        return _parse(json.loads(json.dumps(asdict(made), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ManifestError(f"run {run}: the manifest holds what JSON cannot: {error}") from error


def read(folder: Path | str) -> Manifest:
    """The manifest of a run folder. Raises ManifestError, naming the file, when it is missing or not one."""
    path = Path(folder) / FILE_NAME
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path}: there is no manifest here; is {folder} a run folder?") from None
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ManifestError(
            f"{path} is not JSON ({error}); restore it from a copy, or run into a new folder"
        ) from error
    try:
        return _parse(data)
    except (TypeError, KeyError, ValueError) as error:
        raise ManifestError(f"{path} is not the manifest of a run: {error}") from error


def differences(old: Manifest, new: Manifest) -> list[str]:
    """What differs between two manifests, one readable line each. When and by which command they began is left out."""
    return [f"{name}: was {was}, is {now}" for name, was, now in differing(old, new)]


def differing(old: Manifest, new: Manifest) -> list[tuple[str, str, str]]:
    """(key, old value, new value) for what differs, values as short text; the same things left out."""
    a, b = asdict(old), asdict(new)
    for data in (a, b):
        del data["started_at"], data["command"]
        data["suites"] = {plan["name"]: plan for plan in data["suites"]}
    return _walk("", a, b)


def changed_rules(old: SuitePlan, new: SuitePlan) -> list[str]:
    """What differs in the parts of two plans that make up the protocol's fingerprint, as far as a plan holds them."""
    rules = [{k: v for k, v in plan.protocol.items() if k != "trials"} for plan in (old, new)]
    found = _compare("version", old.version, new.version) + _compare("protocol", *rules)
    return found + _compare("env", old.env, new.env)


def refuse_resume(old: Manifest, new: Manifest) -> None:
    """Raise ManifestError, listing what differs, when `new` cannot carry on the run that `old` began.

    More trials, more tasks and more suites are welcome: they only add scenes. Refused are another protocol, policy,
    policy configuration, seed, checkpoint, simulator, assets or decisive package version, and a plan that leaves scenes
    out. Assets that came since are welcome too: scenes that need them were void.
    """
    found = []
    for name in ("policy", "policy_config", "seed", "privileged"):
        found += _compare(name, getattr(old, name), getattr(new, name))
    found += _compare("hashes", old.hashes, new.hashes)
    for name in DECISIVE_PACKAGES:
        found += _compare(f"package {name}", old.packages.get(name), new.packages.get(name))
    for name in sorted(set(old.simulators) & set(new.simulators)):
        found += _compare(f"simulator of {name}", old.simulators[name], new.simulators[name])
    for name in sorted(set(old.assets) & set(new.assets)):
        before, now = (dict(each.assets[name]["files"]) for each in (old, new))
        for file in sorted(set(before) & set(now)):
            found += _compare(f"assets {name}: {file}", before[file], now[file])
    for plan in old.suites:
        found += _refuse_suite(plan, new.suite(plan.name))
    if found:
        lines = "\n".join(f"  - {line}" for line in found)
        raise ManifestError(
            f"run {old.run} cannot be resumed, since this command asks for another run:\n{lines}\n"
            f"Repeat the command that began it, or choose another results folder."
        )


def find_runs(path: Path | str) -> list[Path]:
    """`path` itself if it is a run folder, else the run folders one or two levels below it, sorted.

    Raises ManifestError when there are none.
    """
    path = Path(path)
    if (path / FILE_NAME).is_file():
        return [path]
    if not path.is_dir():
        raise ManifestError(f"{path}: no such folder; give a run folder, or a folder of run folders")
    found = {file.parent for pattern in ("*", "*/*") for file in path.glob(f"{pattern}/{FILE_NAME}")}
    if not found:
        raise ManifestError(f"{path}: no run here, nor one or two levels below ({FILE_NAME} not found)")
    return sorted(found)


# ---------------------------------------------------------------------- parts


def _refuse_suite(old: SuitePlan, new: SuitePlan | None) -> list[str]:
    where = f"suite {old.name}"
    if new is None:
        return [f"{where}: planned before, left out now"]
    found = _compare(f"{where}: protocol fingerprint", old.fingerprint, new.fingerprint)
    if found:
        found += [f"{where}: {line}" for line in changed_rules(old, new)]
    found += _compare(f"{where}: policy", old.policy, new.policy)
    if new.trials < old.trials:
        found.append(f"{where}: {old.trials} trials planned before, only {new.trials} now")
    missing = [task for task in old.tasks if task not in set(new.tasks)]
    if missing:
        found.append(f"{where}: {len(missing)} tasks planned before are left out now, {missing[0]!r} among them")
    return found


def _compare(where: str, old: Any, new: Any) -> list[str]:
    """Lines for what differs in two JSON-like values, mappings compared key by key."""
    return [f"{name}: was {was}, is {now}" for name, was, now in _walk(where, old, new)]


def _walk(where: str, old: Any, new: Any) -> list[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}, key=str):
            inner = f"{where}.{key}" if where else str(key)
            found += _walk(inner, old.get(key, _ABSENT), new.get(key, _ABSENT))
        return found
    if old == new and type(old) is type(new):
        return []
    return [(where, _show(old), _show(new))]


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _parse(data: Any) -> Manifest:
    if not isinstance(data, dict):
        raise TypeError("it is not a mapping")
    version = data.get("schema")
    if not isinstance(version, int) or not 1 <= version <= SCHEMA:
        raise ValueError(f"schema {version!r}; this memvla-bench knows 1 to {SCHEMA}: upgrade it, if it is older")
    data = {"assets": {}, **data, "schema": SCHEMA}  # schema 1 knew nothing of assets
    late: dict[str, Any] = {"not_covered": {}, "fewer": {}}  # manifests from before these were written down have none
    data["suites"] = tuple(_build(SuitePlan, {**late, **plan}, ("tasks",)) for plan in data["suites"])
    made: Manifest = _build(Manifest, data, ("command",))
    return made


def _build(kind: Any, data: Mapping[str, Any], tuples: Sequence[str]) -> Any:
    known = {f.name for f in fields(kind)}
    missing, unknown = sorted(known - set(data)), sorted(set(data) - known)
    if missing or unknown:
        raise ValueError(f"missing {', '.join(missing) or 'nothing'}; unknown {', '.join(unknown) or 'nothing'}")
    return kind(**{**data, **{name: tuple(data[name]) for name in tuples}})


def _write_whole(target: Path, text: str) -> None:
    """Write beside the target, bring it to the disk, move it into place: a reader sees the old file or the new."""
    handle, name = tempfile.mkstemp(prefix=target.name + ".", suffix=".new", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _git(folder: Path) -> dict[str, Any]:
    """Revision of the checkout whose root is `folder`; {} for an installation that merely lies inside some checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder:
            return {}
        return {"revision": git("rev-parse", "HEAD"), "dirty": git("status", "--porcelain") != ""}
    except (OSError, subprocess.SubprocessError):
        return {}
