"""Suites as data: tasks and the protocol that fixes a score, read from one YAML a stranger can write."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import yaml

from envs.runtime import Runtime
from envs.spec import EnvSpec

HERE = Path(__file__).parent
SCORES = ("once", "at_end")
SCOPES = ("episode", "subtask")


class SuiteError(ValueError):
    """A suite, task or protocol value that does not exist or does not hold together. The message names the cure."""


@dataclass(frozen=True)
class Protocol:
    """What fixes a score besides the policy.

    max_steps: step limit of an episode, settle steps not counted; trials: scenes per task; success: `once` (held at
    any step) or `at_end` (held at the last); stop_on_success: end the episode at the first success; execute: actions
    carried out per policy call (None: as the policy says); memory_scope: `episode`, or `subtask` (memory emptied when
    the instruction changes); gives_state: whether policies are given proprioception; scene_seed: handed to every
    reset.
    """

    max_steps: int
    trials: int
    success: str = "once"
    stop_on_success: bool = True
    execute: int | None = None
    memory_scope: str = "episode"
    gives_state: bool = False
    scene_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_steps", "trials"):
            if getattr(self, name) < 1:
                raise SuiteError(f"protocol.{name} must be 1 or more, was {getattr(self, name)}")
        if self.execute is not None and self.execute < 1:
            raise SuiteError(f"protocol.execute must be 1 or more, was {self.execute}")
        if self.success not in SCORES:
            raise SuiteError(f"protocol.success must be one of {', '.join(SCORES)}, was {self.success!r}")
        if self.memory_scope not in SCOPES:
            raise SuiteError(f"protocol.memory_scope must be one of {', '.join(SCOPES)}, was {self.memory_scope!r}")


@dataclass(frozen=True)
class Task:
    """One goal. max_steps overrides the protocol's limit; trials: scenes there are, where that is fewer than are asked
    for; tags (family, dimension ...) group it in reports; marks do too, but come from files that need not be at hand,
    so they are no part of the protocol's fingerprint."""

    name: str
    instruction: str = ""
    max_steps: int | None = None
    trials: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    marks: Mapping[str, str] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """Tags and marks."""
        return {**self.tags, **self.marks}


@dataclass(frozen=True)
class Suite:
    """A named list of tasks with a protocol.

    version: raised whenever a number may change; adapter: dotted name of the package under which the simulator lives
    (see envs/runtime.py); env: options for its `describe` and `make`; expert: `module:Class` of the scripted expert.
    """

    name: str
    version: int
    title: str
    benchmark: str
    adapter: str
    env: Mapping[str, Any]
    protocol: Protocol
    tasks: tuple[Task, ...]
    expert: str = ""
    source: str = ""

    @cached_property
    def _index(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    def task(self, name: str) -> Task:
        """The task of that name. Raises SuiteError suggesting the nearest."""
        if name in self._index:
            return self._index[name]
        raise SuiteError(_unknown("task", name, [t.name for t in self.tasks], f" in suite {self.name}"))

    def max_steps(self, task: str) -> int:
        """The step limit of a task."""
        return self.task(task).max_steps or self.protocol.max_steps

    def trials(self, task: str, asked: int | None = None) -> int:
        """Scenes of a task: as many as are asked for (None: as the protocol says), but no more than there are."""
        wanted = self.protocol.trials if asked is None else asked
        there = self.task(task).trials
        return wanted if there is None else min(wanted, there)

    @property
    def module(self) -> ModuleType:
        """The adapter package (light: no simulator)."""
        try:
            return importlib.import_module(self.adapter)
        except ImportError as error:
            raise SuiteError(f"suite {self.name}: cannot import its adapter {self.adapter!r}: {error}") from error

    @property
    def runtime(self) -> Runtime:
        chosen: Runtime | Callable[..., Runtime] = self.module.RUNTIME
        return chosen if isinstance(chosen, Runtime) else chosen(**self.env)

    @property
    def env_spec(self) -> EnvSpec:
        try:
            spec: EnvSpec = self.module.describe(**self.env)
        except (TypeError, ValueError) as error:
            raise SuiteError(f"suite {self.name}: {error}") from error
        return spec

    def not_covered(self, tasks: Sequence[str]) -> dict[str, str]:
        """Those of the tasks that cannot be run on this machine, with what they lack. Raises SuiteError."""
        ask = getattr(self.module, "not_covered", None)
        try:
            found: dict[str, str] = ask(tasks, **self.env) if ask else {}
        except (RuntimeError, ValueError) as error:
            raise SuiteError(f"suite {self.name}: {error}") from error
        return found

    def with_protocol(self, **changes: Any) -> Suite:
        """The same suite under a changed protocol. Raises SuiteError for a field that does not exist."""
        known = [f.name for f in fields(Protocol)]
        for name in changes:
            if name not in known:
                raise SuiteError(_unknown("protocol field", name, known))
        return replace(self, protocol=replace(self.protocol, **changes))

    def fingerprint(self) -> str:
        """Digest of everything that fixes a score besides the policy and the number of trials."""
        rules = asdict(self.protocol)
        del rules["trials"]
        parts = {
            "suite": self.name,
            "version": self.version,
            "adapter": self.adapter,
            "env": dict(self.env),
            "protocol": rules,
            "tasks": [
                {"name": t.name, "instruction": t.instruction, "max_steps": t.max_steps, "tags": dict(t.tags)}
                for t in self.tasks
            ],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def search_path() -> list[Path]:
    """Folders that may hold suite files: our own, then those in the variable MEMVLA_SUITES."""
    return [HERE, *(Path(p) for p in os.environ.get("MEMVLA_SUITES", "").split(os.pathsep) if p)]


def suite_names() -> list[str]:
    """Names of all suites that can be loaded."""
    return sorted({path.stem for folder in search_path() for path in folder.glob("*.yaml")})


def load_suite(name: str, *, like: Mapping[str, Any] | None = None) -> Suite:
    """The suite of that name, with what its adapter chooses by what this machine has (a back end) filled in.

    like: options of a run elsewhere, to have such choices as they were made there. Raises SuiteError suggesting the
    nearest name, or naming what is wrong in its file.
    """
    for folder in search_path():
        path = folder / f"{name}.yaml"
        if path.is_file() and path.parent.resolve() == folder.resolve():
            return _settled(_parse(path), like or {})
    raise SuiteError(_unknown("suite", name, suite_names()) + "; see `memvla suites`")


def _settled(suite: Suite, like: Mapping[str, Any]) -> Suite:
    """The suite with the options that its adapter's `settle` chooses, if it has one (see envs/runtime.py)."""
    try:
        settle = getattr(suite.module, "settle", None)
    except SuiteError:
        return suite  # said when its adapter is needed
    if settle is None:
        return suite
    try:
        found = settle(**suite.env)
    except ValueError as error:
        raise SuiteError(f"suite {suite.name}: {error}") from error
    chosen = {name: value for name, value in found.items() if suite.env.get(name) != value}
    return replace(suite, env={**suite.env, **{name: like.get(name, value) for name, value in chosen.items()}})


@lru_cache(maxsize=256)
def _parse(path: Path) -> Suite:
    try:
        data = yaml.safe_load(path.read_text())
        if not isinstance(data, dict):
            raise SuiteError("it is not a mapping")
        data = dict(data)
        data["protocol"] = _build(Protocol, data.get("protocol") or {}, "protocol")
        data.setdefault("env", {})
        data["tasks"] = tuple(_tasks(data.get("tasks"), path, data))
        suite: Suite = _build(Suite, data, "suite")
    except (ValueError, yaml.YAMLError, TypeError, OSError, RecursionError) as error:
        raise SuiteError(f"suite file {path}: {error}") from error
    if suite.name != path.stem:
        raise SuiteError(f"suite file {path}: its name is {suite.name!r}, the file's is {path.stem!r}")
    names = [task.name for task in suite.tasks]
    if len(set(names)) != len(names) or not names:
        raise SuiteError(f"suite file {path}: task names must be unique, and there must be one at least")
    return suite


def _tasks(entries: Any, path: Path, data: Mapping[str, Any]) -> Iterator[Task]:
    """Tasks as listed; a `{file: NAME}` entry stands for a JSON list beside the YAML, and the word `adapter` for what
    the adapter's own `tasks` says under the suite's `env` options."""
    if isinstance(entries, dict) and set(entries) == {"file"}:
        beside = path.parent / str(entries["file"])
        if beside.parent.resolve() != path.parent.resolve():
            raise SuiteError(f"tasks.file must lie beside the suite file, was {entries['file']!r}")
        entries = json.loads(beside.read_text())
    if entries == "adapter":
        entries = _tasks_of_adapter(str(data.get("adapter")), data["env"])
    if not isinstance(entries, list):
        raise SuiteError("tasks must be a list, {file: NAME.json}, or the word adapter")
    for entry in entries:
        yield _build(Task, {"name": entry} if isinstance(entry, str) else entry, "task")


def _tasks_of_adapter(adapter: str, env: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        listed: list[dict[str, Any]] = importlib.import_module(adapter).tasks(**env)
    except (ImportError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise SuiteError(f"its adapter {adapter!r} lists no tasks: {type(error).__name__}: {error}") from error
    return listed


_hints = lru_cache(get_type_hints)


def _build(kind: type, data: Any, what: str) -> Any:
    """A dataclass from a mapping of its fields, the types looked at."""
    if not isinstance(data, Mapping):
        raise SuiteError(f"{what} must be a mapping, was {type(data).__name__}")
    hints = _hints(kind)
    for name, value in data.items():
        if name not in hints:
            raise SuiteError(_unknown(f"{what} field", str(name), list(hints)))
        if not _fits(value, hints[name]):
            raise SuiteError(f"{what}.{name} must be {_said(hints[name])}, was {value!r:.80}")
    return kind(**data)


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    plain = tuple(get_origin(each) or each for each in kinds)
    return isinstance(value, plain) and not (isinstance(value, bool) and bool not in plain)


def _said(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)).replace("NoneType", "empty")


def _unknown(what: str, name: str, known: list[str], where: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known[:20])}"
    return f"unknown {what} {name!r}{where}; {hint}"
