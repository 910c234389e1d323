"""`memvla collect`: record demonstrations with the evaluation engine, and keep them as an RLDS dataset.

Scenes, workers, retries and outcomes are the engine's; the policy it runs is `RecordingPolicy`. Finished episodes wait
in `DIR/recording/episodes`; the successful ones are appended to the dataset in DIR.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape

from harness import driver
from harness.assets import require_assets
from harness.cluster import Cluster, PolicyConfig
from harness.config import ConfigError, RunConfig, compose_run
from harness.progress import Progress, say_command
from harness.run import INTERRUPTED, NOT_COVERED, OK, started
from harness.runs import Run, open_run
from harness.runtimes import require
from harness.scene_probe import refuse_evaluation_scenes
from policies.training.demos import DemoError
from policies.training.episodes import Episode, file_name, read_episode
from policies.training.filters import NothingLeft, filtered
from policies.training.rlds import read_actions
from policies.training.rlds_writing import Finished, append, packed_scenes, read_collection
from policies.training.statistics import statistics_of, write_statistics
from policies.training.tfds import load_tfds
from reports.records import EpisodeRecord

SCENE_SEED = 1_000_000
"""Scene seed of recorded episodes where none is named. Evaluation uses 0, and MIKASA-Robo counts trials up from the
seed, so it lies far from any evaluation."""
EPISODES = "episodes"
PACK = 1000
"""Successful episodes that are moved into the dataset at a time."""


@dataclass
class CollectSettings:
    """What `memvla collect` can be told beside suite, policy, learner, cluster, limits and protocol."""

    dir: str = ""
    """Folder of the dataset; an existing one is resumed, and grows when more trials are asked for."""
    trials: int = 100
    """Scenes per task."""
    tasks: list[str] = field(default_factory=list)
    """Only these tasks (empty: all)."""
    seed: int = 0
    """Of the noise and of the policies."""
    cameras: list[str] = field(default_factory=list)
    """Recorded cameras (empty: all)."""
    noise: float = 0.0
    """Standard deviation of the noise on every motion number, as a share of the action's limit; labels stay clean."""
    noise_memory: float = 0.8
    """Correlation of the noise from one step to the next."""
    off_course: float = 0.0
    """Share of episodes that begin with smooth random motion."""
    off_course_steps: int = 12
    """Most steps of it."""
    off_course_recorded: bool = False
    """These steps are recorded too, with the policy's labels."""
    beta: float = 0.0
    """With a learner: share of its calls in which the policy drives instead."""
    takeover: bool = False
    """The learner drives the off-course steps, the policy all that follow: coherent labels from where the learner ends
    up."""
    play: bool = False
    """Random motion without labels, for the world model; no policy is needed."""
    speed: float = 0.6
    """Standard deviation of random motion, as a share of the action's limit."""
    turning: float = 1.0
    """How strong noise and random motion are on the turns, compared with the translation."""
    keep_failed: bool | None = None
    """Keep episodes without success too (None: only where a learner drives to the end, and in play)."""
    drop_noops: bool = False
    """Leave out steps in which nothing is commanded."""
    drop_still: bool = False
    """The real-robot filter: keep a frame when the tip moved over 0.01 m or turned over 0.4 rad, or after 120."""
    first_frame: bool = False
    """Only the first frame of each episode is drawn and recorded, with where the hand acts next: scenes by the ten
    thousand, for grounding."""
    evaluation_scenes: bool = False
    """Allow recording on the very scenes that evaluation uses."""


@dataclass(frozen=True)
class CollectConfig:
    """A composed command: the engine's configuration, and ours."""

    run: RunConfig
    collect: CollectSettings

    @property
    def folder(self) -> Path:
        return Path(self.collect.dir)

    @property
    def keeps_failed(self) -> bool:
        asked = self.collect.keep_failed
        learner = self.run.policies[0].options["learner"] is not None and not self.collect.takeover
        return (self.collect.play or learner) if asked is None else asked


def compose_collect(words: Sequence[str]) -> CollectConfig:
    """Compose the overrides of one command. Raises ConfigError or SuiteError."""
    ours = [word.removeprefix("collect.") for word in words if word.startswith("collect.")]
    learner = [word for word in words if word.startswith(("learner=", "learner."))]
    execute = [word.partition("=")[2] for word in words if word.startswith("protocol.execute=")]
    rest = [word for word in words if not word.startswith(("collect.", "learner=", "learner.", "protocol.execute="))]
    settings = _settings(ours)
    if refused := [word for word in rest if word.startswith("run.")]:
        raise ConfigError(f"{refused[0]!r} belongs to `memvla run`; see memvla collect --help")
    if settings.play and any(word.startswith("policy") for word in rest):
        raise ConfigError("collect.play=true records random motion: leave policy= out")
    wanted = [*rest, *(["policy=random"] if settings.play else [])]
    seeded = any(word.startswith("protocol.scene_seed=") for word in rest)
    engine = [
        f"run.dir={Path(settings.dir) / 'recording'}",
        f"run.trials={settings.trials}",
        f"run.seed={settings.seed}",
        "run.videos=0",
        "protocol.execute=1",
        *([f"run.tasks=[{','.join(settings.tasks)}]"] if settings.tasks else []),
        *([] if seeded else [f"protocol.scene_seed={SCENE_SEED}"]),
    ]
    made = compose_run([*wanted, *engine])
    if len(made.policies) != 1:
        raise ConfigError("collect takes one policy: the demonstrator")
    _refuse_evaluation_scenes(made, settings)
    taught = _learner(learner, [*rest, *engine])
    return CollectConfig(replace(made, policies=(_recorder(made, settings, taught, execute),)), settings)


def _settings(words: Sequence[str]) -> CollectSettings:
    known = [f.name for f in fields(CollectSettings)]
    for word in words:
        key, sign, _ = word.partition("=")
        if not sign:
            raise ConfigError(f"'collect.{word}' is not of the form key=value; see memvla collect --help")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=2, cutoff=0.4)
            hint = (
                f"did you mean {' or '.join(f'collect.{n}' for n in near)}?"
                if near
                else f"there are: {', '.join(known)}"
            )
            raise ConfigError(f"unknown key 'collect.{key}'; {hint}")
    lists = [
        f"{key}=[{value.strip('[]')}]"
        for key, _, value in (word.partition("=") for word in words)
        if key in ("tasks", "cameras")
    ]
    plain = [word for word in words if word.partition("=")[0] not in ("tasks", "cameras")]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(CollectSettings), OmegaConf.from_dotlist([*plain, *lists]))
        settings = OmegaConf.to_object(merged)
        assert isinstance(settings, CollectSettings)
    except Exception as error:  # OmegaConf raises almost anything for words that it did not foresee
        raise ConfigError(f"collect: {(str(error) or type(error).__name__).splitlines()[0]}") from error
    _check(settings)
    return settings


def _check(settings: CollectSettings) -> None:
    if not settings.dir:
        raise ConfigError("name the folder of the dataset: collect.dir=FOLDER")
    for name, low, high in (
        ("trials", 1, 10**9),
        ("noise", 0.0, 2.0),
        ("noise_memory", 0.0, 0.999),
        ("off_course", 0.0, 1.0),
        ("off_course_steps", 1, 1000),
        ("beta", 0.0, 1.0),
        ("speed", 0.0, 2.0),
        ("turning", 0.0, 10.0),
    ):
        if not low <= getattr(settings, name) <= high:
            raise ConfigError(f"collect.{name} must lie in {low} .. {high}, was {getattr(settings, name)}")
    if settings.drop_still and (settings.noise or settings.off_course):
        raise ConfigError(
            "collect.drop_still takes labels from the measured motion, which would hold the noise: set collect.noise=0 "
            "and collect.off_course=0"
        )


def _refuse_evaluation_scenes(config: RunConfig, settings: CollectSettings) -> None:
    from suites.protocol import load_suite

    for suite in config.suites:
        own = load_suite(suite.name).protocol
        far = max(settings.trials, own.trials)  # some simulators count trials up from the seed
        if abs(suite.protocol.scene_seed - own.scene_seed) <= far and not settings.evaluation_scenes:
            raise ConfigError(
                f"protocol.scene_seed={suite.protocol.scene_seed} may give scenes that {suite.name} is evaluated on "
                f"(scene seed {own.scene_seed}): name one that is more than {far} away, or say "
                "collect.evaluation_scenes=true"
            )


def _learner(words: Sequence[str], rest: Sequence[str]) -> PolicyConfig | None:
    """The learner of `learner=NAME learner.OPTION=...`, composed as a policy."""
    if not words:
        return None
    if not any(word.startswith("learner=") for word in words):
        raise ConfigError(f"{words[0]!r} without learner=NAME")
    plain = [word for word in rest if not word.startswith(("policy=", "policy."))]
    made = compose_run([*plain, *(f"policy{word.removeprefix('learner')}" for word in words)])
    if len(made.policies) != 1:
        raise ConfigError("collect takes one learner")
    return made.policies[0]


def _recorder(
    config: RunConfig, settings: CollectSettings, learner: PolicyConfig | None, execute: Sequence[str]
) -> PolicyConfig:
    def plain(policy: PolicyConfig | None) -> dict[str, Any] | None:
        return (
            None if policy is None else {"name": policy.name, "target": policy.target, "options": dict(policy.options)}
        )

    if settings.play and learner is not None:
        raise ConfigError("collect.play=true records random motion: leave learner= out")
    if settings.takeover and (learner is None or not settings.off_course or settings.beta):
        raise ConfigError(
            "collect.takeover=true lets a learner drive the off-course steps and the policy all others: it needs "
            "learner=NAME and collect.off_course=SHARE, and no collect.beta"
        )
    others = ("play", "off_course", "keep_failed", "drop_noops", "drop_still")
    if settings.first_frame and (learner or any(getattr(settings, name) for name in others)):
        raise ConfigError(
            "collect.first_frame=true records how a scene begins, and where the hand acts next when the policy "
            f"succeeds: leave out learner= and collect.{', .'.join(others)}"
        )
    seeds = {suite.protocol.scene_seed for suite in config.suites}
    options = {
        "folder": str((Path(settings.dir) / "recording" / EPISODES).resolve()),
        "scene_seed": seeds.pop(),
        "demonstrator": None if settings.play else plain(config.policies[0]),
        "learner": plain(learner),
        **({"execute": _positive("protocol.execute", execute[-1])} if execute else {}),
        **({"turning": settings.turning} if settings.turning != 1 else {}),
        **({"takeover": True} if settings.takeover else {}),
        **({"first_frame": True} if settings.first_frame else {}),
        "beta": settings.beta,
        "cameras": list(settings.cameras) or None,
        "speed": settings.speed,
        "disturbance": {
            "noise": settings.noise,
            "memory": settings.noise_memory,
            "off_course": settings.off_course,
            "off_course_steps": settings.off_course_steps,
            "off_course_recorded": settings.off_course_recorded,
        },
    }
    return PolicyConfig("attempts", "harness.recording:RecordingPolicy", options)


def _positive(name: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(f"{name} must be a number of 1 or more, was {text!r}")
    return int(text)


# ---------------------------------------------------------------------- carrying it out


def collect(config: CollectConfig, console: Console, command: Sequence[str]) -> int:
    """Record what is missing and append it to the dataset; the exit code. Raises DemoError and the engine's errors."""
    for suite in config.run.suites:
        require(suite.runtime, suite.name)
        require_assets(suite)
    load_tfds()  # said now, not after an hour of recording
    run = open_run(config.run, config.run.policies[0])
    try:
        packer = Packer(config, run)
        code = _record(config, run, packer, console, command)
        packer.pack()
        packer.conclude(console)
        done, planned = run.coverage()
        return NOT_COVERED if code == OK and done < planned else code
    finally:
        run.close()


def _record(config: CollectConfig, run: Run, packer: Packer, console: Console, command: Sequence[str]) -> int:
    if not any(run.missing(suite) for suite in run.planned):
        console.print("every planned episode is recorded already")
        return OK
    try:
        with started(config.run, console) as cluster, Gathering(console, packer) as progress:
            _prove_other_scenes(config, run, cluster)
            driver.carry_out(config.run, [run], cluster, progress)
    except KeyboardInterrupt:
        console.print("\nstopped: finished episodes are kept. Resume with:")
        say_command(console, command)
        return INTERRUPTED
    except driver.TooManyVoids as error:
        console.print(f"[bold red]stopped:[/] {escape(str(error))}", soft_wrap=True)
        return NOT_COVERED
    return OK


def _prove_other_scenes(config: CollectConfig, run: Run, cluster: Cluster) -> None:
    """Suites of which nothing was recorded yet: their scenes must not be those of evaluation."""
    known = {record.suite for record in run.store.episodes()}
    for suite in config.run.suites:
        if suite.name not in known and not config.collect.evaluation_scenes:
            refuse_evaluation_scenes(suite, cluster, timeout_s=config.run.settings.limits.policy)


class Gathering(Progress):
    """Progress that moves finished episodes into the dataset now and then, so that they do not pile up."""

    def __init__(self, console: Console, packer: Packer) -> None:
        super().__init__(console)
        self._packer = packer
        self._waiting = 0

    def finished(self, record: EpisodeRecord) -> None:
        super().finished(record)
        self._waiting += record.scored
        if self._waiting >= PACK:
            self._packer.pack()
            self._waiting = 0


class Packer:
    """Moves the successful episodes from where they were written into the dataset."""

    def __init__(self, config: CollectConfig, run: Run) -> None:
        self._config, self._run = config, run
        self._episodes = run.folder.parent / EPISODES
        self._empty: list[str] = read_collection(config.folder).get("filtered_to_nothing", [])
        config.folder.mkdir(parents=True, exist_ok=True)

    def pack(self) -> None:
        """Append what is recorded, scored and not yet in the dataset; then remove the files that are done with.

        Raises DemoError when an episode's file is missing or the disk is full: nothing is lost, and the same command
        goes on from here.
        """
        packed = packed_scenes(self._config.folder)
        scored = sorted((r for r in self._run.store.episodes() if r.scored), key=lambda record: record.scene)
        wanted = [record for record in scored if self._wants(record)]
        fresh = [
            record
            for record in wanted
            if (record.suite, record.task, record.trial) not in packed and str(record.scene) not in self._empty
        ]
        try:
            append(self._config.folder, self._finished(fresh), {"attempts": self._account(scored), **self._said()})
        except OSError as error:
            raise DemoError(
                f"cannot write the dataset {self._config.folder}: {error.strerror or error}; make room and run the "
                "same command again: recorded episodes are kept"
            ) from error
        for record in self._run.store.attempts():  # void ones too: some wrote their episode before the fault
            self._file(record).unlink(missing_ok=True)

    def _wants(self, record: EpisodeRecord) -> bool:
        return record.outcome == "success" or self._config.keeps_failed

    def _file(self, record: EpisodeRecord) -> Path:
        return self._episodes / file_name(record.suite, record.task, record.trial, record.attempt)

    def _finished(self, records: Sequence[EpisodeRecord]) -> Iterator[Finished]:
        rules = self._config.collect
        for record in records:
            episode: Episode = read_episode(self._file(record))
            try:
                episode = filtered(episode, noops=rules.drop_noops, still=rules.drop_still)
            except NothingLeft:
                self._empty.append(str(record.scene))
            else:
                yield Finished(episode, record.outcome == "success", record.scene_hash)

    def _account(self, scored: Sequence[EpisodeRecord]) -> dict[str, dict[str, int]]:
        """Attempts by task and outcome, over everything that was ever recorded here."""
        found: dict[str, Counter[str]] = {}
        for record in scored:
            found.setdefault(f"{record.suite}/{record.task}", Counter())[record.outcome] += 1
        return {key: dict(counts) for key, counts in found.items()}

    def _said(self) -> Mapping[str, Any]:
        policy = self._run.policy
        return {
            "failed_kept": self._config.keeps_failed,
            "filtered_to_nothing": self._empty,
            "recorder": dict(policy.options),
        }

    def conclude(self, console: Console) -> None:
        """Write the statistics, and say in the last line what is in the dataset and what was left out."""
        if packed_scenes(self._config.folder) and (found := statistics_of(read_actions(self._config.folder))):
            write_statistics(found, self._config.folder)
        scored = [record for record in self._run.store.episodes() if record.scored]
        kept = len(packed_scenes(self._config.folder))
        failed = sum(record.outcome != "success" for record in scored)
        console.print(
            f"{kept} episodes in {self._config.folder}; {failed} of {len(scored)} attempts failed and were "
            f"{'kept' if self._config.keeps_failed else 'left out'}"
            + (f"; {len(self._empty)} had no frame left after filtering" if self._empty else ""),
            highlight=False,
            soft_wrap=True,
        )
