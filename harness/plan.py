"""What to run: the scenes of a suite as a list of episodes, and whether a policy fits a suite at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from envs.conversions import ConventionError, converter
from envs.spec import ActionSpec, EpisodeId, SceneId
from policies.base import PolicyContext, PolicySpec
from suites.protocol import Suite


class PlanError(ValueError):
    """A policy and a suite that do not fit together; found before any simulator starts."""


@dataclass(frozen=True)
class EpisodeSpec:
    """One attempt at one scene, with everything of the protocol that the rollout needs.

    seed: the run's (policy noise); scene_seed: the protocol's (handed to reset); execute: actions carried out per
    policy call; film_every: a video frame every so many steps (0: no video).
    """

    episode: EpisodeId
    seed: int
    scene_seed: int
    max_steps: int
    execute: int
    success: str
    stop_on_success: bool
    memory_scope: str
    film_every: int = 0

    def again(self) -> EpisodeSpec:
        """The next attempt at the same scene."""
        return replace(self, episode=replace(self.episode, attempt=self.episode.attempt + 1))


@dataclass(frozen=True)
class Stage:
    """One policy on one suite: what every worker of it must know."""

    suite: str
    adapter: str
    env: Mapping[str, Any]
    policy: PolicySpec
    action: ActionSpec


def context_of(suite: Suite) -> PolicyContext:
    """What a policy may know of a suite when it is built."""
    return PolicyContext(
        suite=suite.name,
        env=suite.env_spec,
        execute=suite.protocol.execute,
        expert=suite.expert,
        gives_state=suite.protocol.gives_state,
        memory_scope=suite.protocol.memory_scope,
    )


def match(policy: PolicySpec, suite: Suite) -> Stage:
    """Check that the policy can be evaluated on the suite. Raises PlanError naming both sides."""
    env = suite.env_spec
    pair = f"policy {policy.name} on suite {suite.name}"
    try:
        converter(policy.action, env.action)
    except ConventionError as error:
        raise PlanError(f"{pair}: {error}") from error
    offered = {camera.name for camera in env.cameras}
    missing = [name for name in policy.cameras if name not in offered]
    if missing:
        raise PlanError(f"{pair}: the policy needs camera {', '.join(missing)}; there are {', '.join(sorted(offered))}")
    if policy.uses_state and not (suite.protocol.gives_state and env.state):
        raise PlanError(f"{pair}: the policy needs proprioception, which this protocol does not give")
    if policy.privileged and not env.privileged:
        raise PlanError(f"{pair}: the policy needs privileged state, which {env.benchmark} does not offer")
    if policy.memory_scope not in (None, suite.protocol.memory_scope):
        raise PlanError(
            f"{pair}: the policy was trained for memory_scope={policy.memory_scope}, the protocol says "
            f"{suite.protocol.memory_scope}; override one of them (protocol.memory_scope={policy.memory_scope})"
        )
    if steps_per_call(policy, suite) > policy.chunk:
        raise PlanError(
            f"{pair}: {steps_per_call(policy, suite)} actions are to be executed per call, but the policy answers "
            f"with {policy.chunk}; set protocol.execute={policy.chunk} or less"
        )
    return Stage(suite.name, suite.adapter, dict(suite.env), policy, env.action)


def steps_per_call(policy: PolicySpec, suite: Suite) -> int:
    """Actions carried out per policy call: the protocol's word, else the policy's."""
    return policy.execute if suite.protocol.execute is None else suite.protocol.execute


def scenes(suite: Suite, trials: int, tasks: Sequence[str] = ()) -> list[SceneId]:
    """All scenes of a run: trials 0..trials-1 of each task (or of the named ones; fewer where a task has no more), task
    by task."""
    chosen = [suite.task(name) for name in tasks] if tasks else list(suite.tasks)
    return [
        SceneId(suite.name, task.name, trial) for task in chosen for trial in range(suite.trials(task.name, trials))
    ]


def episodes(
    wanted: Iterable[SceneId],
    suite: Suite,
    policy: PolicySpec,
    *,
    seed: int,
    attempts: Mapping[SceneId, int] | None = None,
    videos: int = 0,
    film_every: int = 2,
) -> list[EpisodeSpec]:
    """One EpisodeSpec for every scene. attempts: attempts made before, by scene; videos: trials filmed per task."""
    made = attempts or {}
    rules = suite.protocol
    return [
        EpisodeSpec(
            episode=EpisodeId(scene.suite, scene.task, scene.trial, made.get(scene, 0) + 1),
            seed=seed,
            scene_seed=rules.scene_seed,
            max_steps=suite.max_steps(scene.task),
            execute=steps_per_call(policy, suite),
            success=rules.success,
            stop_on_success=rules.stop_on_success,
            memory_scope=rules.memory_scope,
            film_every=film_every if scene.trial < videos else 0,
        )
        for scene in wanted
    ]
