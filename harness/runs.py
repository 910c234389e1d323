"""Run folders: opened new or resumed, and what is still missing in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from envs.spec import SceneId
from harness.assets import record
from harness.cluster import PolicyConfig
from harness.config import RunConfig, RunSettings
from harness.plan import PlanError, scenes
from policies.base import PolicySpec
from reports import manifest as manifests
from reports.manifest import Manifest, ManifestError, SuitePlan
from reports.records import FILE_NAME, RecordError, RecordStore
from suites.protocol import Suite


@dataclass
class Run:
    """One policy's run folder, open for writing."""

    folder: Path
    policy: PolicyConfig
    manifest: Manifest
    store: RecordStore
    planned: dict[str, list[SceneId]]

    def missing(self, suite: str) -> list[SceneId]:
        """Planned scenes of the suite that have no scored episode yet and can be run on this machine."""
        scored, plan = self.store.scored(), self.manifest.suite(suite)
        beyond = plan.beyond if plan else frozenset()
        return [scene for scene in self.planned[suite] if scene not in scored and scene.task not in beyond]

    def attempts(self, suite: str) -> dict[SceneId, int]:
        """The number of the last attempt so far, by scene (earlier ones may be missing from repaired records)."""
        return {record.scene: record.attempt for record in self.store.attempts() if record.suite == suite}

    def coverage(self) -> tuple[int, int]:
        """(scored, planned) scenes."""
        planned = [scene for group in self.planned.values() for scene in group]
        return len(self.store.scored() & set(planned)), len(planned)

    def note(self, suite: str, spec: PolicySpec, simulator: dict[str, str]) -> None:
        """Write into the manifest what is known only once policy and simulator run.

        Raises ManifestError when a resumed run finds another policy or simulator than it began with.
        """
        found = json.loads(json.dumps(asdict(spec)))
        if not spec.note:
            del found["note"]  # as in manifests from before there were notes
        plan = self.manifest.suite(suite)
        if plan is not None and plan.policy and plan.policy != found:
            raise ManifestError(
                f"run {self.folder}: its policy was {plan.policy}, and is {found} now; choose another run.dir"
            )
        plans = tuple(replace(plan, policy=found) if plan.name == suite else plan for plan in self.manifest.suites)
        known = replace(self.manifest, suites=plans, privileged=self.manifest.privileged or spec.privileged)
        self.manifest = known.with_simulator(suite, simulator)
        self.manifest.write(self.folder)

    def keep_file(self, name: str, content: bytes) -> None:
        """Write a video or log. Raises RecordError; its episode is then not recorded, and runs again on resume."""
        try:
            (self.folder / name).write_bytes(content)
        except OSError as error:
            raise RecordError(
                f"cannot write {self.folder / name}: {error.strerror or error}; make room or mend the folder, then run "
                "the same command again: finished episodes are kept"
            ) from error

    def close(self) -> None:
        self.store.close()


def tasks_of(suite: Suite, wanted: RunSettings) -> list[str]:
    """The names of the suite's tasks that are wanted."""
    found = [task.name for task in suite.tasks if wanted.wants(task)]
    if wanted.sample is None or wanted.sample >= len(found):
        return found
    return [found[k * len(found) // wanted.sample] for k in range(wanted.sample)]


def open_run(config: RunConfig, policy: PolicyConfig) -> Run:
    """Open the policy's folder below `run.dir`, new or to be resumed.

    Raises ManifestError when it was made under another protocol, policy configuration or seed; RecordError when its
    records are damaged or another driver is at work on it.
    """
    folder = Path(config.settings.run.dir) / _safe(policy.name)
    planned: dict[str, list[SceneId]] = {}
    plans: list[SuitePlan] = []
    for suite in config.suites:
        tasks = tasks_of(suite, config.settings.run)
        if tasks:
            planned[suite.name] = scenes(suite, config.trials(suite), tasks)
            plans.append(manifests.plan_of(suite, tasks, config.trials(suite)))
    new = manifests.collect(
        run=folder.name,
        policy=policy.name,
        policy_config={"target": policy.target, **policy.options},
        suites=plans,
        seed=config.settings.run.seed,
        privileged=False,
        config=config.composed,
        hashes=weights_digests(policy),
        assets={name: each for suite in config.suites for name, each in record(suite).items()},
    )
    for part in ("videos", "logs"):
        try:
            (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordError(
                f"cannot create {folder / part}: {error.strerror or error}; choose another folder with run.dir=FOLDER"
            ) from error
    resumed = (folder / manifests.FILE_NAME).exists()
    if resumed:
        old = manifests.read(folder)
        new = _carry_over(old, new)
        manifests.refuse_resume(old, new)
    # A manifest without records is a loss to be told of, not a run to be begun anew.
    store = RecordStore(folder / FILE_NAME, create=not resumed, write=True)
    try:
        new.write(folder)
    except BaseException:
        store.close()
        raise
    return Run(folder, policy, new, store, planned)


def _carry_over(old: Manifest, new: Manifest) -> Manifest:
    """`new` with what `old` learned while it ran; it is compared again as soon as policy and simulator run."""
    specs = {plan.name: plan.policy for plan in old.suites}
    return replace(
        new,
        suites=tuple(replace(plan, policy=specs.get(plan.name, {})) for plan in new.suites),
        simulators=old.simulators,
        privileged=old.privileged,
        started_at=old.started_at,
    )


WEIGHTS = ("checkpoint", "path")
"""Options of policies that name their weights."""


def weights_digests(policy: PolicyConfig) -> dict[str, str]:
    """By option, the SHA-256 of the weights it names, a file or the names and contents of a folder's files: weights
    that are trained on or swapped in place are another policy. Nothing where there are none (the policy itself then
    says what it misses)."""
    named = {name: Path(str(policy.options[name])) for name in WEIGHTS if policy.options.get(name)}
    return {name: _digest(path) for name, path in named.items() if path.exists()}


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _safe(name: str) -> str:
    """A policy's name as a folder. Raises PlanError for one that would leave the results folder."""
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise PlanError(f"policy.name={name!r} cannot name a folder; use letters, digits, '-', '_' and '.'")
    return name
