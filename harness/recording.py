"""RecordingPolicy: acts like any policy, and writes down what it saw and what the demonstrator would have done.

Success, failure, voids and retries stay the engine's business; which of the episodes written here become
demonstrations is decided afterwards, by the engine's records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.conversions import converter
from envs.spec import ActionSpec, EpisodeId, Floats, Gripper, Observation
from harness.cluster import PolicyConfig
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
    noise_generator,
)
from policies.training.episodes import Episode, encode_png, write_episode
from policies.training.windows import waypoints_of
from suites.protocol import load_suite

TOLD = ("cue", "due")
"""What a simulator may tell of a frame for the labels: the place that its cue is about, whose turn may come later, and
the one where the hand would have to act if it could now."""
OPEN_IS_ONE = Gripper(open=1.0, closed=0.0)
"""The gripper of recorded actions, as the whole family trains on it."""


@dataclass(frozen=True)
class Disturbance:
    """What is done to the demonstrator's motion, so that demonstrations show how mistakes are mended.

    noise: standard deviation of the noise on every motion number, as a share of the action's limit; memory: its
    correlation from one step to the next; off_course: share of episodes that begin off course; off_course_steps: most
    steps of smooth random motion that bring them there, from the first step at which the simulator takes commands;
    off_course_recorded: these steps are part of the record, with the demonstrator's labels.
    """

    noise: float = 0.0
    memory: float = 0.8
    off_course: float = 0.0
    off_course_steps: int = 12
    off_course_recorded: bool = False

    @property
    def any(self) -> bool:
        return self.noise > 0 or self.off_course > 0


def _told(found: Floats, told: Sequence[Floats]) -> Floats:
    """Places [T, 3], and in their stead those that the simulator told, [3] a frame (NaN: none; empty: of no frame)."""
    if not told:
        return found
    better = np.array(told, dtype=np.float32)
    return np.where(np.isfinite(better), better, found)


class Drift:
    """Noise that keeps its direction for a while (a first-order autoregression with standard deviation 1)."""

    def __init__(self, generator: np.random.Generator, size: int, memory: float) -> None:
        self._generator, self._memory = generator, memory
        self._now = generator.standard_normal(size)

    def next(self) -> npt.NDArray[np.float64]:
        """The noise of the next step, float64 [size]."""
        now, fresh = self._now, self._generator.standard_normal(len(self._now))
        self._now = self._memory * now + np.sqrt(1 - self._memory**2) * fresh
        return now


@dataclass
class Actor:
    """A policy that is asked step by step: its chunks are carried out as it would have them."""

    policy: Policy
    cameras: tuple[str, ...]
    execute: int
    buffers: dict[EpisodeId, list[Floats]] = field(default_factory=dict)
    calls: dict[EpisodeId, int] = field(default_factory=dict)

    def start(self, starts: Sequence[EpisodeStart]) -> None:
        self.policy.start(starts)
        for start in starts:
            self.buffers[start.episode], self.calls[start.episode] = [], 0

    def due(self, episode: EpisodeId) -> bool:
        """Whether the next action takes a policy call."""
        return not self.buffers[episode]

    def act(self, asked: Mapping[EpisodeId, Observation]) -> dict[EpisodeId, Floats]:
        """The next action of each of these episodes, float32 [A], in its own convention. One policy call answers all
        that are due."""
        due = [ActRequest(e, self.calls[e], self._view(seen)) for e, seen in asked.items() if self.due(e)]
        for reply in self.policy.act(due) if due else ():
            actions = np.asarray(reply.actions, dtype=np.float32)
            if actions.ndim != 2 or not np.isfinite(actions).all():
                raise PolicyError(f"the action chunk of {self.policy.spec.name} is not [T, A] of finite numbers")
            self.buffers[reply.episode] = list(actions[: self.execute])
            self.calls[reply.episode] += 1
        return {episode: self.buffers[episode].pop(0) for episode in asked}

    def _view(self, seen: Observation) -> Observation:
        return replace(
            seen,
            images={name: seen.images[name] for name in self.cameras},
            state=seen.state if self.policy.spec.uses_state else None,
            privileged=seen.privileged if self.policy.spec.privileged else None,
        )

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        self.buffers[episode] = []
        self.policy.instruction_changed(episode, instruction, keep_memory=keep_memory)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        self.policy.end(episodes)
        for episode in episodes:
            self.buffers.pop(episode, None)
            self.calls.pop(episode, None)


@dataclass
class Session:
    """One live episode: who disturbs it, and what was recorded so far."""

    start: EpisodeStart
    chance: np.random.Generator
    drift: Drift
    wander: Drift
    push: int
    instruction: str
    pushed: int = 0
    unrecorded: tuple[Observation, Floats | None, Floats] | None = None
    by_learner: bool = False
    pictures: dict[str, list[bytes]] = field(default_factory=dict)
    state: list[Floats] = field(default_factory=list)
    actions: list[Floats] = field(default_factory=list)
    told: dict[str, list[Floats]] = field(default_factory=lambda: {name: [] for name in TOLD})
    executed: list[Floats] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    timesteps: list[int] = field(default_factory=list)
    off_course: list[bool] = field(default_factory=list)


class RecordingPolicy(Policy):
    """Wraps a demonstrator (none: random motion, for play videos) and, for relabelling, a learner.

    demonstrator, learner: `{name, target, options}` of a policy; execute: actions of the learner carried out per call
    (None: as the suite's protocol says, else the learner); beta: share of the learner's calls in which the demonstrator
    drives instead (DAgger); takeover: the learner drives the off-course steps in place of random motion, and the
    demonstrator all that follow; first_frame: only the first frame is drawn and recorded, with what it says of where to
    go; folder: where episodes are written; cameras: recorded ones (None: all); speed: of random motion; turning: how
    strong it and the noise are on turns, compared with the translation; gripper_change: how often random motion opens
    or closes, per step. Raises PolicyError, before anything runs, for a demonstrator that must be executed several
    steps at a time, and for noise on actions that have no limit.
    """

    def __init__(
        self,
        context: PolicyContext,
        *,
        folder: str,
        scene_seed: int,
        demonstrator: Mapping[str, Any] | None = None,
        learner: Mapping[str, Any] | None = None,
        execute: int | None = None,
        beta: float = 0.0,
        takeover: bool = False,
        first_frame: bool = False,
        cameras: Sequence[str] | None = None,
        disturbance: Mapping[str, Any] | None = None,
        speed: float = 0.6,
        turning: float = 1.0,
        gripper_change: float = 0.05,
    ) -> None:
        self._context, self._folder, self._scene_seed = context, Path(folder), scene_seed
        self._disturbance = Disturbance(**(disturbance or {}))
        self._beta, self._speed, self._gripper_change = beta, speed, gripper_change
        self._takeover, self._first_frame = takeover, first_frame
        env = context.env
        self._action: ActionSpec = replace(env.action, gripper=OPEN_IS_ONE)
        self._shares = np.repeat([1.0, turning], [3, env.action.rotation.size])
        self._offered = tuple(camera.name for camera in env.cameras)
        self._recorded = tuple(cameras) if cameras else self._offered
        missing = [name for name in self._recorded if name not in self._offered]
        if missing:
            raise PolicyError(
                f"no camera {', '.join(missing)} in {context.suite}; there are {', '.join(self._offered)}"
            )
        execute = execute or load_suite(context.suite).protocol.execute
        self._expert = self._build(demonstrator, 1)
        self._learner = self._build(learner, execute)
        self._refuse_what_cannot_be()
        inner = [actor.policy.spec for actor in (self._expert, self._learner) if actor]
        needed = {name for spec in inner for name in spec.cameras} | set(self._recorded)
        self._has_state = context.gives_state and bool(env.state)
        self._live: EpisodeStates[Session] = EpisodeStates()
        self._to_label = [converter(actor.policy.spec.action, self._action) for actor in self._actors()]
        self._to_env = converter(self._action, env.action)
        self.spec = PolicySpec(
            name="recorder",
            action=env.action,
            cameras=tuple(name for name in self._offered if name in needed),
            chunk=1,
            execute=1,
            stateful=True,
            looks_once=first_frame,
            privileged=any(spec.privileged for spec in inner),
            uses_state=self._has_state,
        )
        self._folder.mkdir(parents=True, exist_ok=True)

    def _build(self, config: Mapping[str, Any] | None, execute: int | None) -> Actor | None:
        if not config:
            return None
        policy = PolicyConfig(**config).build(replace(self._context, execute=execute))
        spec = policy.spec
        if (execute or 1) > spec.chunk:
            raise PolicyError(f"policy {spec.name} answers with {spec.chunk} actions, {execute} are to be executed")
        return Actor(policy, spec.cameras, execute or spec.execute)

    def _actors(self) -> list[Actor]:
        return [actor for actor in (self._expert, self._learner) if actor is not None]

    def _refuse_what_cannot_be(self) -> None:
        action, expert = self._action, self._expert
        if (self._disturbance.any or expert is None) and (action.limit is None or action.absolute):
            raise PolicyError(
                f"random motion needs actions that are bounded changes of pose; those of {self._context.suite} are "
                f"{'absolute' if action.absolute else 'unbounded'}: set collect.noise=0 and collect.off_course=0"
            )
        if expert is not None and expert.policy.spec.execute != 1:
            raise PolicyError(
                f"policy {expert.policy.spec.name} answers for {expert.policy.spec.execute} steps at a time; labels "
                "need one that answers at every step (policy=expert, or policy.execute=1)"
            )
        if self._first_frame and not (self._context.gives_state and self._context.env.state):
            raise PolicyError(f"where the hand acts next is read from proprioception: {self._context.suite} gives none")
        for actor in self._actors():
            if actor.policy.spec.needs_every_frame and actor.execute != 1:
                raise PolicyError(f"policy {actor.policy.spec.name} needs every frame: not supported while recording")

    # ------------------------------------------------------------------ the contract

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._live.open(start.episode, self._begin(start))
        for actor in self._actors():
            actor.start(episodes)

    def _begin(self, start: EpisodeStart) -> Session:
        chance = noise_generator(start.seed, start.episode, -1)
        rules, motion = self._disturbance, self._action.dim - 1
        push = 0
        if chance.random() < rules.off_course:
            push = int(chance.integers(min(3, rules.off_course_steps), rules.off_course_steps + 1))
        return Session(
            start=start,
            chance=chance,
            drift=Drift(chance, motion, rules.memory),
            wander=Drift(chance, motion, 0.9),
            push=push,
            instruction=start.instruction,
        )

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        seen = {request.episode: request.observation for request in requests}
        labels = self._answers(0, self._expert, seen)
        pushing, asked = set(), dict[EpisodeId, Observation]()
        for episode, observation in seen.items():
            session = self._live.of(episode)
            before = session.pushed < session.push
            if self._pushing(session, observation):
                pushing.add(episode)
            # One that takes over is asked while it waits too, so that it sees the cues.
            if before if self._takeover else episode not in pushing:
                asked[episode] = observation
        self._cast(asked)
        own = self._answers(1, self._learner, asked)
        return [
            self._answer(request, labels.get(request.episode), own.get(request.episode), request.episode in pushing)
            for request in requests
        ]

    def _answers(self, at: int, actor: Actor | None, seen: Mapping[EpisodeId, Observation]) -> dict[EpisodeId, Floats]:
        """What the demonstrator (0) or the learner (1) does now, in the recorded convention, float32 [A] each."""
        if actor is None or not seen:
            return {}
        return {episode: self._to_label[at](action[None])[0] for episode, action in actor.act(seen).items()}

    def _cast(self, asked: Mapping[EpisodeId, Observation]) -> None:
        """Draw who drives the steps of the learner's coming chunk."""
        if self._learner is None or self._takeover:
            return
        for episode in asked:
            if self._learner.due(episode):
                session = self._live.of(episode)
                session.by_learner = session.chance.random() >= self._beta

    def _answer(self, request: ActRequest, label: Floats | None, own: Floats | None, pushing: bool) -> ActReply:
        session, seen = self._live.of(request.episode), request.observation
        if label is None or (pushing and not self._takeover):
            done = self._wandered(session, label)
        elif own is not None and (pushing if self._takeover else session.by_learner):
            done = self._disturbed(session, own)
        else:
            done = self._disturbed(session, label)
        if not pushing or self._disturbance.off_course_recorded:
            self._note(session, seen, label, done, pushing)
        else:
            session.unrecorded = (seen, label, done)
        return ActReply(request.episode, request.step, self._to_env(done[None]))

    def _pushing(self, session: Session, seen: Observation) -> bool:
        """Whether this step is a push, by random motion or a learner. It waits until the simulator takes commands."""
        locked = (seen.privileged or {}).get("locked")
        if session.pushed >= session.push or (locked is not None and bool(locked[0])):
            return False
        session.pushed += 1
        return True

    def _wandered(self, session: Session, label: Floats | None) -> Floats:
        """Smooth random motion; the gripper is the demonstrator's, else changes now and then."""
        limit = self._action.limit or 1.0
        motion = np.clip(self._speed * limit * self._shares * session.wander.next(), -limit, limit)
        if label is not None:
            grip = float(label[-1])
        else:
            before = float(session.executed[-1][-1]) if session.executed else 0.0
            grip = 1.0 - before if session.chance.random() < self._gripper_change else before
        return np.array([*motion, grip], dtype=np.float32)

    def _disturbed(self, session: Session, action: Floats) -> Floats:
        noise = session.drift.next()
        if self._disturbance.noise <= 0:
            return action
        limit = self._action.limit or 1.0
        motion = np.clip(action[:-1] + self._disturbance.noise * limit * self._shares * noise, -limit, limit)
        return np.array([*motion, action[-1]], dtype=np.float32)

    def _note(self, session: Session, seen: Observation, label: Floats | None, done: Floats, pushing: bool) -> None:
        for name in self._recorded:
            if not (self._first_frame and session.timesteps):
                session.pictures.setdefault(name, []).append(encode_png(seen.images[name]))
        if self._has_state and seen.state is not None:
            session.state.append(np.array(seen.state, dtype=np.float32))
        if label is not None:
            session.actions.append(label)
        for name in TOLD:
            if seen.privileged is not None and name in seen.privileged:
                session.told[name].append(seen.privileged[name])
        session.executed.append(done)
        session.off_course.append(pushing)
        session.instructions.append(session.instruction)
        session.timesteps.append(seen.step)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        self._live.of(episode).instruction = instruction
        for actor in self._actors():
            actor.instruction_changed(episode, instruction, keep_memory=keep_memory)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        """Write the episodes. Raises PolicyError when the disk does not take them: such an attempt is void."""
        for actor in self._actors():
            actor.end(episodes)
        for episode in episodes:
            session = self._live.pop(episode, None)
            if session is None:
                continue
            if not session.timesteps and session.unrecorded is not None:  # it ended while it was pushed off course
                self._note(session, *session.unrecorded, True)
            if session.timesteps:
                self._write(episode, session)

    def _write(self, episode: EpisodeId, session: Session) -> None:
        try:
            write_episode(self._episode(session), self._folder)
        except OSError as error:
            raise PolicyError(
                f"cannot write the recorded episode {episode} into {self._folder}: {error.strerror or error}; make "
                "room and run the same command again: finished episodes are kept"
            ) from error

    def _episode(self, session: Session) -> Episode:
        episode = session.start.episode
        relabelled = self._learner is not None and not self._takeover
        kind = "play" if self._expert is None else "relabelled" if relabelled else "demonstration"
        whole = Episode(
            suite=episode.suite,
            task=episode.task,
            trial=episode.trial,
            attempt=episode.attempt,
            kind=kind,
            seed=session.start.seed,
            scene_seed=self._scene_seed,
            pushed=session.pushed,
            action=self._action,
            state_names=self._context.env.state if self._has_state else (),
            instructions=tuple(session.instructions),
            pictures=session.pictures,
            state=np.stack(session.state) if session.state else None,
            actions=np.stack(session.actions) if session.actions else None,
            executed=np.stack(session.executed),
            timesteps=np.array(session.timesteps, dtype=np.int32),
            off_course=np.array(session.off_course) if self._disturbance.off_course_recorded else None,
        )
        cues, due = session.told["cue"], session.told["due"]
        if whole.state is None or whole.actions is None or not (self._first_frame or cues):
            return whole
        acts = _told(waypoints_of(whole.state, whole.actions, whole.off_course), due)
        whole = replace(whole, waypoints=_told(acts, cues), due=acts if due else None)
        return whole.select(np.array([0])) if self._first_frame else whole

    def live(self) -> int:
        return len(self._live)

    def close(self) -> None:
        for actor in self._actors():
            actor.policy.close()
