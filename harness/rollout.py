"""One episode, from reset to record: the whole evaluation in plain Python, usable without Ray.

record = run_episode(env, policy, spec, convert).record
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from envs.base import VLAEnv
from envs.conversions import Converter
from envs.spec import Floats, Image, Observation, StepResult
from harness.plan import EpisodeSpec
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicyError, PolicySpec
from reports.episode import MARK
from reports.records import EpisodeRecord


class Fault(Exception):
    """Something other than the policy's choice of actions went wrong: the attempt is void. `phase` says where."""

    def __init__(self, phase: str, cause: str, trace: str = "") -> None:
        super().__init__(cause)
        self.phase, self.cause, self.trace = phase, cause, trace


@dataclass(frozen=True)
class Rollout:
    """A finished attempt: its record, the frames of its video, and the traceback of what made it void."""

    record: EpisodeRecord
    film: list[Image]
    fault: Fault | None = None


def run_episode(
    env: VLAEnv, policy: Policy, spec: EpisodeSpec, convert: Converter, log: EpisodeLog | None = None
) -> Rollout:
    """Run one attempt. Never raises for a fault of simulator or policy: the record's outcome is then `void`.

    convert: from the policy's action convention to the environment's (`envs.conversions.converter`); log: watched by
    the caller while the episode runs.
    """
    log = EpisodeLog(spec, privileged=policy.spec.privileged) if log is None else log
    fault = None
    try:
        play(env, policy, spec, convert, log)
    except Fault as error:
        fault = error
    return Rollout(log.record(fault), log.film, fault)


def play(env: VLAEnv, policy: Policy, spec: EpisodeSpec, convert: Converter, log: EpisodeLog) -> None:
    """The episode itself. Raises Fault; whatever happens, the policy's state is freed."""
    with log.phase("reset"):
        env.select(policy.spec.cameras, privileged=policy.spec.privileged)
        scene = {"task": spec.episode.task, "trial": spec.episode.trial}
        env.reset(seed=spec.scene_seed, options=scene)
        log.began(env)
    try:
        with log.phase("start"):
            policy.start([EpisodeStart(spec.episode, spec.seed, env.instruction())])
        between: list[Observation] = []
        while log.steps < spec.max_steps:
            with log.phase("draw"):
                request = ActRequest(spec.episode, log.calls, seen_by(policy.spec, env.observe()), tuple(between))
                if policy.spec.looks_once:
                    env.select((), privileged=policy.spec.privileged)
            with log.phase("policy"):
                actions = checked(policy.act([request]), request, policy.spec)
            left = min(spec.execute, spec.max_steps - log.steps)
            with log.phase("step"):
                chunk = convert(actions[:left])
                did = env.step_chunk(
                    chunk,
                    stop_on_done=spec.stop_on_success,
                    every_frame=policy.spec.needs_every_frame,
                    film_every=spec.film_every,
                )
            log.stepped(chunk[: did.steps], did)
            if did.terminated or (did.success and spec.stop_on_success):
                break
            between = [seen_by(policy.spec, observation) for observation in did.observations]
            if did.instruction_changed:
                with log.phase("policy"):
                    keep = spec.memory_scope == "episode"
                    policy.instruction_changed(spec.episode, env.instruction(), keep_memory=keep)
        with log.phase("draw"):
            log.ended(env)
    except BaseException:
        with suppress(Exception):  # the first fault is the one to report
            env.interrupted()
        with suppress(Exception):
            policy.end([spec.episode])
        raise
    with log.phase("end"):
        policy.end([spec.episode])


def seen_by(policy: PolicySpec, observation: Observation) -> Observation:
    """The observation as this policy may see it. Raises ValueError when its state is not finite, or a picture is none.

    A picture that a renderer spoiled may come as floats with NaN: a policy would answer something to that, too.
    """
    for camera, image in observation.images.items():
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"the simulator's picture of camera {camera!r} at step {observation.step} is {image.dtype} "
                f"{list(image.shape)}, not uint8 [H, W, 3]"
            )
    if observation.state is not None and not np.isfinite(observation.state).all():
        raise ValueError(f"the simulator's state is not finite at step {observation.step}: {observation.state}")
    return observation if policy.uses_state else replace(observation, state=None)


def checked(replies: list[ActReply], request: ActRequest, policy: PolicySpec) -> Floats:
    """The actions of the one reply, [T, A]. Raises PolicyError when it is not exactly an answer to this request."""
    if len(replies) != 1:
        raise PolicyError(f"1 reply was due, the policy gave {len(replies)}")
    reply = replies[0]
    if (reply.episode, reply.step) != (request.episode, request.step):
        raise PolicyError(
            f"asked for {request.episode} step {request.step}, answered for {reply.episode} step {reply.step}"
        )
    actions = np.asarray(reply.actions, dtype=np.float32)
    if actions.shape != (policy.chunk, policy.action.dim):
        raise PolicyError(
            f"the action chunk has shape {list(actions.shape)}, its PolicySpec says {[policy.chunk, policy.action.dim]}"
        )
    if not np.isfinite(actions).all():
        raise PolicyError(f"the action chunk of step {request.step} holds NaN or infinite numbers")
    return actions


@dataclass
class EpisodeLog:
    """What an episode leaves behind, gathered while it runs."""

    spec: EpisodeSpec
    privileged: bool
    worker: str = ""
    steps: int = 0
    calls: int = 0
    success: bool = False
    success_once: bool = False
    finished: bool = False
    instruction: str = ""
    scene_hash: str = ""
    first_frame_hash: str = ""
    now: str = "waiting"
    since: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    subtask_steps: list[int] = field(default_factory=list)
    film: list[Image] = field(default_factory=list)
    first_action: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        self._started = datetime.now(UTC)
        self._digest = hashlib.sha256()
        self._marks: list[str] = []
        self._switched = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside, and turn any exception into a Fault of this phase."""
        self.now, self.since = name, time.monotonic()
        begun = time.perf_counter()
        try:
            yield
        except Exception as error:
            kind = "" if isinstance(error, PolicyError) else f"{type(error).__name__}: "
            cause = " ".join(f"{kind}{error}".split())[:500]
            raise Fault(name, f"{name}: {cause}", traceback.format_exc()) from error
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def began(self, env: VLAEnv) -> None:
        """Note the scene as it stands after reset."""
        first = env.observe()
        self.instruction = first.instruction
        self.scene_hash = env.scene_hash()
        if first.images:
            self.first_frame_hash = frames_hash(first)
        if self.spec.film_every:
            self.film.append(env.render())

    def stepped(self, chunk: npt.NDArray[np.float32], did: StepResult) -> None:
        """Note one executed chunk."""
        self.calls += 1
        self.steps += did.steps
        self.success = did.success
        self.success_once = self.success_once or did.success_once
        for action in np.ascontiguousarray(chunk, dtype="<f4"):
            data = action.tobytes()
            self._digest.update(data)
            self._marks.append(hashlib.sha256(data).hexdigest()[:MARK])
            self.first_action = self.first_action or tuple(map(float, action))
        self.film.extend(image for _, image in did.frames)
        if did.instruction_changed:
            self.subtask_steps.append(self.steps - self._switched)
            self._switched = self.steps

    def ended(self, env: VLAEnv) -> None:
        """Note how the episode came out."""
        self.success = env.judged(self.success)
        self.success_once = self.success_once or self.success
        self.metrics = {name: float(value) for name, value in env.metrics().items()}
        if self.subtask_steps:
            self.subtask_steps.append(self.steps - self._switched)
        if self.spec.film_every:
            self.film.append(env.render())
        self.finished = True

    def record(self, fault: Fault | None) -> EpisodeRecord:
        """The record of this attempt; void if a fault is given."""
        episode = self.spec.episode
        scored = self.success_once if self.spec.success == "once" else self.success
        outcome = "void" if fault or not self.finished else "success" if scored else "failure"
        self.seconds["total"] = sum(self.seconds.values())
        return EpisodeRecord(
            suite=episode.suite,
            task=episode.task,
            trial=episode.trial,
            attempt=episode.attempt,
            outcome=outcome,
            success_once=None if outcome == "void" else self.success_once,
            success_at_end=None if outcome == "void" else self.success,
            steps=self.steps,
            calls=self.calls,
            score=None if outcome == "void" else self.metrics.get("score"),
            instruction=self.instruction,
            cause=fault.cause if fault else "",
            scene_hash=self.scene_hash,
            first_frame_hash=self.first_frame_hash,
            action_digest=self._digest.hexdigest(),
            first_action=self.first_action,
            action_marks="".join(self._marks),
            subtask_steps=tuple(self.subtask_steps),
            metrics=self.metrics,
            seconds=self.seconds,
            video="",
            privileged=self.privileged,
            worker=self.worker,
            started_at=self._started.isoformat(timespec="milliseconds"),
            seed=self.spec.seed,
        )


def frames_hash(observation: Observation) -> str:
    """Hex digest over all pictures of an observation, by camera name."""
    digest = hashlib.sha256()
    for name in sorted(observation.images):
        image = np.ascontiguousarray(observation.images[name])
        digest.update(f"{name}|{image.dtype.str}|{image.shape}".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()
