"""`memvla nightly`: a matrix of policies and suites, night after night, with a history and one answer in the morning.

A configuration is one YAML file:

    dir: results/nightly           # history.sqlite, the nights' runs, index.html
    policies:
      - expert
      - memoryvla_pp: [policy.checkpoint=runs/best]     # with overrides of its own
    suites: [lab_memory, libero_spatial]
    overrides: [run.trials=10]     # as for `memvla run`; run.dir and run.seed are nightly's own
    budget_minutes: 240            # nothing new is begun after that; what is missing is said, and not a regression
    seed: 0                        # night number k runs with seed + k
    alpha: 0.05                    # chance of any false alarm, ever

Each night has a seed of its own: a policy that draws noise must draw it afresh, or a night would be counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from harness import run as running
from harness.cluster import ClusterError
from harness.config import ConfigError, RunConfig, compose_run
from harness.plan import PlanError
from harness.runtimes import RuntimeNotReady
from policies.base import PolicyError
from reports import manifest as manifests
from reports import nights, regression, summary
from reports.history import FILE_NAME, History
from reports.manifest import ManifestError
from reports.records import RecordError

OWN = ("run.dir", "run.seed", "suite", "policy", "policy.name")


@dataclass(frozen=True)
class NightlyConfig:
    """What `memvla nightly` is told; see the module's head."""

    dir: str
    policies: tuple[str, ...]
    suites: tuple[str, ...]
    overrides: tuple[str, ...] = field(default=())
    budget_minutes: float | None = None
    seed: int = 0
    alpha: float = 0.05
    options: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Overrides of single policies."""

    @property
    def matrix(self) -> list[tuple[str, str]]:
        """Every (policy, suite)."""
        return [(policy, suite) for suite in self.suites for policy in self.policies]


def read(path: Path) -> NightlyConfig:
    """The configuration in a file. Raises ConfigError, naming the file and the key."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; give the YAML file of the matrix") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    known = [f.name for f in fields(NightlyConfig) if f.name != "options"]
    if not isinstance(data, dict) or set(data) - set(known) or {"dir", "policies", "suites"} - set(data):
        found = ", ".join(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ConfigError(f"{path}: needs dir, policies and suites, and knows {', '.join(known)}; found {found}")
    data["policies"], data["options"] = _policies(path, data["policies"])
    for name in ("policies", "suites", "overrides"):
        data[name] = _listed(path, name, data.get(name, ()))
    try:
        config = NightlyConfig(**data)
        _check(path, config)
    except TypeError as error:
        raise ConfigError(f"{path}: a value is of the wrong kind: {error}") from error
    return config


def _policies(path: Path, entries: Any) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """Names, and the overrides of those that are given as {NAME: [KEY=VALUE ...]}."""
    names, options = [], {}
    for entry in entries if isinstance(entries, list) else [entries]:
        if isinstance(entry, dict) and len(entry) == 1:
            [(name, words)] = entry.items()
            options[str(name)] = _listed(path, f"overrides of {name}", words)
            entry = name
        names.append(entry)
    return names, options


def _listed(path: Path, name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise ConfigError(f"{path}: {name} must be a list of words, was {values!r}")
    return tuple(values)


def _check(path: Path, config: NightlyConfig) -> None:
    if not config.policies or not config.suites or len(set(config.matrix)) != len(config.matrix):
        raise ConfigError(f"{path}: policies and suites need one entry or more, each once")
    for word in (*config.overrides, *(word for words in config.options.values() for word in words)):
        if word.partition("=")[0] in OWN:
            raise ConfigError(f"{path}: {word.partition('=')[0]} is nightly's own; take {word!r} out of overrides")
    if not 0 < config.alpha < 1:
        raise ConfigError(f"{path}: alpha must lie between 0 and 1, was {config.alpha}")
    if config.budget_minutes is not None and config.budget_minutes <= 0:
        raise ConfigError(f"{path}: budget_minutes must be above 0, was {config.budget_minutes}")


@dataclass(frozen=True)
class Night:
    """How a night ended. exit_code: 0 fine, 1 a regression, 2 not all covered, 130 stopped by Ctrl-C."""

    name: str
    files: tuple[Path, ...]
    streams: tuple[regression.Stream, ...]
    exit_code: int


def run(
    config: NightlyConfig,
    console: Console,
    *,
    night: str | None = None,
    pin: str | None = None,
    report_only: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Night:
    """Run or resume a night (default: today's date in UTC), compare, and write the morning report.

    pin: a night that is the baseline from now on. report_only: run nothing. Raises ConfigError and what running raises.
    """
    now = datetime.now(UTC)
    name = night or f"{now:%Y-%m-%d}"
    if not name or name.startswith(".") or "/" in name:
        raise ConfigError(f"night {name!r} cannot name a folder; use a date such as {now:%Y-%m-%d}")
    jobs = [(policy, suite) for policy, suite in config.matrix]
    for policy, suite in jobs:
        compose_run(_words(config, policy, suite, config.dir, 0))  # every mistake before the first simulator
    folder = Path(config.dir)
    with History(folder / FILE_NAME) as history:
        code = running.OK
        if not report_only:
            number = history.begin(name, now.isoformat(timespec="seconds"))
            code = _carry_out(config, history, name, number, console, clock)
        if pin is not None:
            history.pin(pin)
        order = history.nights()
        if name not in order:
            raise ConfigError(f"{folder / FILE_NAME} has no night {name!r}; it has: {', '.join(order[-5:]) or 'none'}")
        streams = regression.judge(history, name, config.matrix, config.alpha)
        until = order[: order.index(name) + 1]
        files = nights.write(folder, name, until, streams, config.alpha)
        nights.document(name, until, streams, config.alpha).terminal(console)
    ended = running.INTERRUPTED if code == running.INTERRUPTED else regression.exit_code(streams)
    return Night(name, tuple(files), streams, ended)


def _carry_out(
    config: NightlyConfig, history: History, night: str, number: int, console: Console, clock: Callable[[], float]
) -> int:
    """Run every job of the matrix while the budget lasts, those first whose last covered night is longest ago."""
    begun = clock()
    for policy, suite in _order(config, history):
        base = Path(config.dir) / "nights" / night / suite
        minutes = (clock() - begun) / 60
        if config.budget_minutes is not None and minutes >= config.budget_minutes:
            console.print(f"the budget of {config.budget_minutes:g} minutes is spent: {policy} on {suite} is not run")
            _keep(history, night, base / policy)
            continue
        words = _words(config, policy, suite, str(base), config.seed + number)
        code = _run_one(compose_run(words), console, words, f"{policy} on {suite}")
        _keep(history, night, base / policy)
        if code == running.INTERRUPTED:
            return code
    return running.OK


def _run_one(config: RunConfig, console: Console, words: Sequence[str], what: str) -> int:
    """One job; a fault of it must not take the night from the others, and is said as `not covered`."""
    console.rule(what)
    try:
        return running.run(config, console, ["memvla", "run", *words]).exit_code
    except (ClusterError, RuntimeNotReady, PolicyError, ManifestError, RecordError, PlanError) as error:
        console.print(f"{what} was not run: {error}", style="bold red", markup=False, soft_wrap=True)
        return running.NOT_COVERED


def _keep(history: History, night: str, folder: Path) -> None:
    """Take a run's outcomes into the history; also those of an earlier, broken attempt at the night."""
    if (folder / manifests.FILE_NAME).is_file():
        history.add(night, summary.load([folder])[0])


def _order(config: NightlyConfig, history: History) -> list[tuple[str, str]]:
    order = history.nights()

    def last_covered(job: tuple[str, str]) -> int:
        return max((order.index(r.night) for r in history.results(*job) if r.covered), default=-1)

    return sorted(config.matrix, key=last_covered)


def _words(config: NightlyConfig, policy: str, suite: str, folder: str, seed: int) -> list[str]:
    own: list[Any] = [f"suite={suite}", f"policy={policy}", f"run.dir={folder}", f"run.seed={seed}"]
    return [*own, *config.overrides, *config.options.get(policy, ())]
