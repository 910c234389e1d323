"""The configuration of a run: dataclass schemas composed by Hydra, unknown keys refused.

    memvla run suite=lab_memory,libero_object policy=expert,random run.trials=5 cluster=local

Several suites or policies are separated by commas. Each policy gets a run of its own.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import MISSING, OmegaConf

from harness.cluster import PolicyConfig
from suites.protocol import Suite, SuiteError, Task, load_suite

POLICY_WORDS = ("target", "title", "name")


class ConfigError(ValueError):
    """An override or a file of configuration that is wrong. The message says what there is instead."""


@dataclass
class RunSettings:
    """What to run and where to keep it."""

    dir: str = ""
    """Folder of the runs (default: results/DATE_TIME); each policy has a folder of its own below it. An existing one
    is resumed: exactly the missing episodes run."""
    trials: int | None = None
    """Scenes per task (None: as the suite's protocol says)."""
    tasks: list[str] = field(default_factory=list)
    """Only these tasks (empty: all)."""
    tags: list[str] = field(default_factory=list)
    """Only tasks with these tags: [dimension:sensor_noise]; one key more than once means any of its values."""
    sample: int | None = None
    """Only so many tasks of each suite, spread evenly over those that are left (None: all)."""
    seed: int = 0
    """All randomness of policies comes from it."""
    attempts: int = 3
    """How often a void attempt is made again before the scene is given up."""
    max_void: float = 0.25
    """Share of void attempts at which the run is stopped (judged from the tenth attempt on)."""
    videos: int = 1
    """Trials filmed per task, from trial 0."""
    film_every: int = 2
    """Environment steps between two frames of a video."""

    def wants(self, task: Task) -> bool:
        """Whether `tasks` and `tags` let this task through."""
        wanted: dict[str, set[str]] = {}
        for tag in self.tags:
            key, _, value = tag.partition(":")
            wanted.setdefault(key, set()).add(value)
        labels = task.labels if wanted else {}
        named = not self.tasks or task.name in self.tasks
        return named and all(labels.get(key) in values for key, values in wanted.items())


@dataclass
class ClusterSettings:
    """Where it runs. Choose with cluster=inline|local, or join a cluster with cluster.address=HOST:PORT|auto."""

    kind: str = "local"
    address: str | None = None
    workers: int | None = None
    """Rollout workers (None: one per CPU, no more than there are tasks)."""
    max_batch: int = 16
    """Most episodes in one policy call."""
    hosts: int = 1
    """Policy hosts, one model each; workers are dealt out among them and an episode never changes its host."""
    gpus_per_host: float = 0.0
    """Ray GPUs reserved for the policy host."""
    gpus_per_worker: float = 0.0
    """Ray GPUs reserved for each worker, on which its simulator draws: 0.1 deals ten simulators to a GPU."""
    recycle_episodes: int = 1000
    """A worker is replaced after so many episodes ..."""
    recycle_growth_mb: float = 4000.0
    """... or when its memory has grown by so much."""


@dataclass
class Limits:
    """Seconds after which a phase counts as hung and its attempt as void."""

    build: float = 600.0
    reset: float = 300.0
    step: float = 120.0
    draw: float = 120.0
    policy: float = 300.0
    start: float = 300.0
    end: float = 60.0


@dataclass
class ProtocolChanges:
    """Fields of the suites' protocol to change for this run (None: as the suite says). They change its fingerprint,
    so such a run is never compared with one under the suite's own protocol by mistake."""

    max_steps: int | None = None
    success: str | None = None
    stop_on_success: bool | None = None
    execute: int | None = None
    memory_scope: str | None = None
    gives_state: bool | None = None
    scene_seed: int | None = None

    def given(self) -> dict[str, Any]:
        """Those that were named."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class Settings:
    """Everything `memvla run` can be told."""

    suite: list[str] = MISSING
    policy: Any = MISSING
    run: RunSettings = field(default_factory=RunSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    limits: Limits = field(default_factory=Limits)
    protocol: ProtocolChanges = field(default_factory=ProtocolChanges)


@dataclass(frozen=True)
class RunConfig:
    """A composed configuration, ready to run: several policies over several suites."""

    suites: tuple[Suite, ...]
    policies: tuple[PolicyConfig, ...]
    settings: Settings
    composed: dict[str, Any]

    def trials(self, suite: Suite) -> int:
        """Scenes per task of this suite."""
        return self.settings.run.trials or suite.protocol.trials


def policy_files() -> dict[str, Path]:
    """Policy name -> its YAML: our own, then those in the folders of MEMVLA_POLICIES."""
    import policies

    extra = os.environ.get("MEMVLA_POLICIES", "")
    folders = [Path(policies.__file__).parent, *(Path(p) for p in extra.split(os.pathsep) if p)]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load_policy_file(path: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """A policy's YAML: `target: module:callable`, `title`, and its options with their defaults.

    `base: NAME` takes all that from the YAML of another policy; what the file itself says wins. A `checkpoint` that
    begins with `./` lies beside the YAML. above: names of the files that are based on this one. Raises ConfigError.
    """
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"policy file {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"policy file {path} is no mapping")
    base = data.pop("base", None)
    if base is not None:
        if base not in policy_files() or base in (path.stem, *above):
            raise ConfigError(f"policy file {path}: there is no policy {base!r} to be based on")
        own = load_policy_file(policy_files()[base], (path.stem, *above))
        unknown = sorted(set(data) - set(own))
        if unknown:
            raise ConfigError(f"policy file {path}: {base} has no option {', '.join(unknown)}")
        data = {**own, **data, "name": data.get("name", path.stem)}
    if ":" not in str(data.get("target", "")):
        raise ConfigError(f"policy file {path} needs `target: module:callable`")
    if str(data.get("checkpoint") or "").startswith("./"):
        data["checkpoint"] = str((path.parent / data["checkpoint"]).resolve())
    return {"name": path.stem, "title": "", **data}


def read_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split `policy=a,b` off the overrides: (policy names, the rest, with suite=a,b made a list).

    Raises ConfigError for a word that is no override, and when no suite or policy is named.
    """
    names: list[str] = []
    rest: list[str] = []
    for word in words:
        key, sign, value = word.partition("=")
        if not sign:
            raise ConfigError(f"{word!r} is not of the form key=value; see memvla run --help")
        if key == "policy":
            names = [name for name in value.strip("[]").split(",") if name]
        elif key == "suite":
            rest.append(f"suite=[{value.strip('[]')}]")
        else:
            rest.append(word)
    if not names:
        raise ConfigError(f"name a policy: policy=NAME; there are: {', '.join(policy_files())}")
    if not any(word.startswith("suite=") for word in rest):
        raise ConfigError("name a suite: suite=NAME; see `memvla suites`")
    return names, rest


def compose_run(words: Sequence[str]) -> RunConfig:
    """Compose the overrides of one command. Raises ConfigError or SuiteError."""
    names, rest = read_overrides(words)
    rest = _resolve_dir(rest)
    made = [_compose_one(name, rest) for name in names]
    settings = made[0][0]
    labels = [config.name for _, config in made]
    if len(set(labels)) != len(labels):
        raise ConfigError(f"two policies have one name ({', '.join(labels)}): their runs would share a folder")
    suites = [load_suite(name).with_protocol(**settings.protocol.given()) for name in settings.suite]
    if len({suite.name for suite in suites}) != len(suites):
        raise ConfigError(f"a suite is named twice: {', '.join(settings.suite)}")
    _check(settings, suites)
    composed = {key: value for key, value in _plain(settings).items() if key != "policy"}
    return RunConfig(tuple(suites), tuple(config for _, config in made), settings, composed)


def _resolve_dir(rest: list[str]) -> list[str]:
    """One command, one folder, also when its policies are composed one after another."""
    if any(word.startswith("run.dir=") for word in rest):
        return rest
    from datetime import datetime

    return [*rest, f"run.dir=results/{datetime.now():%Y-%m-%d_%H-%M-%S}"]


def _compose_one(name: str, rest: list[str]) -> tuple[Settings, PolicyConfig]:
    files = policy_files()
    if name not in files:
        near = difflib.get_close_matches(name, files, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(files)}"
        raise ConfigError(f"unknown policy {name!r}; {hint}")
    store = ConfigStore.instance()
    store.store(name="settings", node=Settings)
    store.store(group="policy", name=name, node=load_policy_file(files[name]), package="policy")
    for kind in ("inline", "local"):
        store.store(group="cluster", name=kind, node=ClusterSettings(kind=kind), package="cluster")
    defaults = {"defaults": ["settings", {"cluster": "local"}, {"policy": name}, "_self_"]}
    store.store(name=f"run_{name}", node=defaults)
    GlobalHydra.instance().clear()
    try:
        with initialize(version_base="1.3", config_path=None):
            config = compose(config_name=f"run_{name}", overrides=rest)
        settings = OmegaConf.to_object(config)
        assert isinstance(settings, Settings)
        policy = dict(settings.policy)
    except Exception as error:  # Hydra raises almost anything for words that it did not foresee
        raise ConfigError(_explain(error, rest, list(load_policy_file(files[name])))) from error
    options = {key: value for key, value in policy.items() if key not in POLICY_WORDS}
    return settings, PolicyConfig(str(policy["name"]), str(policy["target"]), options)


def _explain(error: BaseException, words: list[str], options: list[str]) -> str:
    """What is wrong, with the nearest key that exists."""
    known = [*_keys(OmegaConf.structured(Settings)), *(f"policy.{name}" for name in options)]
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=2, cutoff=0.4)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(known))}"
            return f"unknown key {key!r}; {hint}"
    lines = []
    cause: BaseException | None = error
    while cause is not None:
        lines.append((str(cause) or type(cause).__name__).splitlines()[0])
        cause = cause.__cause__
    return f"cannot compose the configuration: {'; '.join(dict.fromkeys(lines))}"


def _keys(config: Any, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in config:
        name = f"{prefix}{key}"
        value = None if OmegaConf.is_missing(config, key) else config[key]
        found.append(name)
        if OmegaConf.is_dict(value):
            found.extend(_keys(value, f"{name}."))
    return found


def _plain(settings: Settings) -> dict[str, Any]:
    plain = OmegaConf.to_container(OmegaConf.structured(settings))
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _check(settings: Settings, suites: Sequence[Suite]) -> None:
    run, cluster = settings.run, settings.cluster
    for name, value, least in (
        ("run.trials", run.trials, 1),
        ("run.sample", run.sample, 1),
        ("run.attempts", run.attempts, 1),
        ("run.videos", run.videos, 0),
        ("run.film_every", run.film_every, 1),
        ("cluster.workers", cluster.workers, 1),
        ("cluster.max_batch", cluster.max_batch, 1),
        ("cluster.hosts", cluster.hosts, 1),
        ("cluster.recycle_episodes", cluster.recycle_episodes, 1),
    ):
        if value is not None and value < least:
            raise ConfigError(f"{name} must be {least} or more, was {value}")
    for name, gpus in (
        ("cluster.gpus_per_host", cluster.gpus_per_host),
        ("cluster.gpus_per_worker", cluster.gpus_per_worker),
    ):
        if not (gpus >= 0 and (gpus <= 1 or gpus == int(gpus))):
            raise ConfigError(f"{name} must be a whole number or a fraction of one GPU, was {gpus:g}")
    if not 0 <= run.seed < 2**63:
        raise ConfigError(f"run.seed must lie in 0 .. 2^63 - 1, was {run.seed}")
    if cluster.kind not in ("inline", "local"):
        raise ConfigError(f"cluster must be inline or local (or cluster.address=HOST:PORT), was {cluster.kind!r}")
    _check_tasks(run, suites)


def _check_tasks(run: RunSettings, suites: Sequence[Suite]) -> None:
    """Raise SuiteError where no task is left to run, or a task that is named does not exist."""
    known = {task.name for suite in suites for task in suite.tasks}
    for task in run.tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=3, cutoff=0.5)
            raise SuiteError(
                f"no suite here has a task {task!r}; "
                + (f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(known)[:20])}")
            )
    if run.tags and not any(run.wants(task) for suite in suites for task in suite.tasks):
        labels = {f"{key}:{value}" for suite in suites for task in suite.tasks for key, value in task.labels.items()}
        near = [match for tag in run.tags if tag not in labels for match in difflib.get_close_matches(tag, labels)]
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(labels)[:20]) or 'none'}"
        )
        raise SuiteError(f"no task here has the tags {', '.join(run.tags)}; {hint}")


def replace_trials(config: RunConfig, trials: int) -> RunConfig:
    """The same configuration with another number of trials."""
    return replace(config, settings=replace(config.settings, run=replace(config.settings.run, trials=trials)))
