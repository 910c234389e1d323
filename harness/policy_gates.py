"""The gates every policy must pass: the rules of memory, asked of the policy itself on observations of a real suite.

A track is one episode's observations, recorded while the policy played it alone. Fed the same observations again, in
whatever company and order, the policy must answer with the same actions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.base import VLAEnv
from envs.conversions import converter
from envs.spec import EpisodeId, Floats, Observation
from harness.gates import Broken, Gate, NotAsked, demand, run_gates
from harness.plan import match
from harness.rollout import checked, seen_by
from policies.base import ActReply, ActRequest, EpisodeStart, Policy, PolicyError
from suites.protocol import Suite

TOLERANCE = 1e-4
CALLS = 6


@dataclass(frozen=True)
class Track:
    """An episode played alone: its observations, and the actions they were answered with."""

    start: EpisodeStart
    requests: tuple[ActRequest, ...]
    actions: tuple[Floats, ...]

    def renamed(self, attempt: int) -> Track:
        """The same track under another attempt number."""
        episode = replace(self.start.episode, attempt=attempt)
        requests = tuple(replace(request, episode=episode) for request in self.requests)
        return Track(replace(self.start, episode=episode), requests, self.actions)


class PolicyGates:
    """Runs the gates of one policy on one suite. make: builds a fresh policy."""

    def __init__(self, make: Callable[[], Policy], env: VLAEnv, suite: Suite, *, seed: int = 0) -> None:
        self._make, self._env, self._suite, self._seed = make, env, suite, seed
        self._policy = make()
        self._tracks: list[Track] = []
        self._largest = 0.0

    def run(self) -> Iterator[Gate]:
        """All gates, in order."""
        yield from run_gates(
            [
                ("fits the suite and answers with finite chunks of the promised shape", self._records),
                ("the same observations give the same actions again", self._repeats),
                ("state lives and dies with its episode", self._frees),
                ("an episode that was not started, or was started twice, is an error", self._refuses),
                ("an episode starts with an empty memory, also after an attempt that was cut short", self._restarts),
                ("interleaved episodes do not touch one another", self._interleaves),
                ("batched equals alone", self._batches),
                ("the order within a batch does not matter, and each reply is for its request", self._reverses),
                ("a batch mate that ends or starts does not matter", self._mates),
                ("global random generators do not matter", self._ignores_globals),
                ("the next call follows the present observation, not a stale chunk", self._not_stale),
                ("a changed instruction empties the memory when told to", self._forgets),
                ("a thousand short episodes leave nothing behind", self._leaks_nothing),
            ]
        )
        self._policy.close()

    # ------------------------------------------------------------------ the gates

    def _records(self) -> str:
        stage = match(self._policy.spec, self._suite)
        for task, trial in self._scenes():
            self._tracks.append(self._record(self._make(), stage.policy.execute, task, trial))
        return f"{len(self._tracks)} episodes of {CALLS} calls on {self._suite.name}"

    def _repeats(self) -> str:
        for track in self._need(1):
            self._same(track, self._play_alone(self._make(), track), exact=True)
        return "bit for bit, on a fresh policy"

    def _frees(self) -> str:
        policy, tracks = self._make(), self._need(2)
        for track in tracks:
            policy.start([track.start])
        demand(policy.live() in (0, len(tracks)), f"{len(tracks)} episodes live, live() says {policy.live()}")
        stateful = policy.live() > 0
        policy.end([track.start.episode for track in tracks])
        policy.end([track.start.episode for track in tracks])
        demand(policy.live() == 0, f"{policy.live()} episodes alive after the end of all")
        return "freed, and a second end is harmless" if stateful else "it keeps no state"

    def _refuses(self) -> str:
        policy, track = self._make(), self._need(1)[0]
        self._must_raise(lambda: policy.act([track.requests[0]]), "acting in an episode that was never started")
        policy.start([track.start])
        self._must_raise(lambda: policy.start([track.start]), "starting an episode that is alive")
        policy.end([track.start.episode])
        self._must_raise(lambda: policy.act([track.requests[0]]), "acting in an episode that has ended")
        return "each an error"

    def _restarts(self) -> str:
        policy = self._used()
        for track in self._need(1):
            policy.start([track.start])
            for request in track.requests[: CALLS // 2]:
                policy.act([request])
            policy.end([track.start.episode])
            self._same(track, self._play_alone(policy, track.renamed(attempt=2)), exact=True)
            self._same(track, self._play_alone(policy, track), exact=True)
        return "attempt 2 and a repeated attempt 1 equal the first"

    def _interleaves(self) -> str:
        policy, tracks = self._used(), self._need(2)
        policy.start([track.start for track in tracks])
        answers: list[list[Floats]] = [[] for _ in tracks]
        for call in range(CALLS):
            for index, track in enumerate(tracks):
                answers[index].append(self._one(policy, track.requests[call]))
        policy.end([track.start.episode for track in tracks])
        for track, got in zip(tracks, answers, strict=True):
            self._same(track, got, exact=True)
        return f"{len(tracks)} episodes in turn, bit for bit"

    def _batches(self) -> str:
        self._largest = 0.0
        self._in_batches(self._need(2), reverse=False)
        return "bit for bit" if self._largest == 0 else f"largest difference {self._largest:.1e} (limit {TOLERANCE:g})"

    def _reverses(self) -> str:
        self._in_batches(self._need(2), reverse=True)
        return "reversed batches equal alone"

    def _in_batches(self, tracks: Sequence[Track], *, reverse: bool) -> None:
        policy = self._used()
        order = list(reversed(tracks)) if reverse else list(tracks)
        policy.start([track.start for track in order])
        answers: dict[EpisodeId, list[Floats]] = {track.start.episode: [] for track in order}
        for call in range(CALLS):
            requests = [track.requests[call] for track in order]
            for request, actions in zip(requests, self._checked(policy, requests), strict=True):
                answers[request.episode].append(actions)
        policy.end([track.start.episode for track in order])
        for track in tracks:
            self._same(track, answers[track.start.episode])

    def _mates(self) -> str:
        policy, tracks = self._used(), self._need(2)
        stays, mate = tracks[0], tracks[1]
        policy.start([stays.start, mate.start])
        got = []
        for call in range(CALLS):
            together = [stays.requests[call]]
            if call in (0, 1):
                together.insert(0, mate.requests[call])
            if call == 2:
                policy.end([mate.start.episode])
            if call == CALLS - 2:
                policy.start([mate.renamed(attempt=3).start])
                together.append(mate.renamed(attempt=3).requests[0])
            answers = self._checked(policy, together)
            got.append(answers[together.index(stays.requests[call])])
        policy.end([stays.start.episode, mate.renamed(attempt=3).start.episode])
        self._same(stays, got)
        return "one ended in call 2, one started in call 4"

    def _ignores_globals(self) -> str:
        policy, track = self._used(), self._need(1)[0]
        policy.start([track.start])
        got = []
        for call, request in enumerate(track.requests):
            _stir_globals(call + 1)
            got.append(self._one(policy, request))
        policy.end([track.start.episode])
        self._same(track, got, exact=True)
        return "random, NumPy and torch reseeded before each call"

    def _not_stale(self) -> str:
        """Ask the last call of one track right after the first of another start: the answer may not be the old one."""
        policy, tracks = self._used(), self._need(2)
        fresh = self._make()
        track = tracks[0]
        late = replace(track.requests[-1], call=1)
        answers = []
        for one in (policy, fresh):
            one.start([track.start])
            one.act([track.requests[0]])
            answers.append(self._one(one, late))
            one.end([track.start.episode])
        demand(bool(np.array_equal(answers[0], answers[1])), "a used policy answers otherwise than a fresh one")
        if policy.spec.stateful or policy.spec.privileged or policy.spec.cameras:
            first = track.actions[0]
            again = all(np.array_equal(first, other) for other in track.actions[1:])
            moved = any(_differs(track.requests[0].observation, r.observation) for r in track.requests[1:])
            demand(not (again and moved), "every call was answered with the very same chunk, whatever was seen")
        return "answers come from what is seen now"

    def _forgets(self) -> str:
        policy, tracks = self._used(), self._need(2)
        track = tracks[0]
        text = tracks[1].start.instruction
        last = replace(track.requests[-1], observation=replace(track.requests[-1].observation, instruction=text))
        policy.start([track.start])
        for request in track.requests[:-1]:
            policy.act([request])
        policy.instruction_changed(track.start.episode, text, keep_memory=False)
        forgot = self._one(policy, last)
        policy.end([track.start.episode])
        fresh = self._make()
        fresh.start([replace(track.start, instruction=text)])
        empty = self._one(fresh, last)
        demand(bool(np.array_equal(forgot, empty)), "it still remembers what was seen under the old instruction")
        return "as after a fresh start"

    def _leaks_nothing(self) -> str:
        policy, track = self._used(), self._need(1)[0]
        for attempt in range(10, 1010):
            episode = replace(track.start.episode, attempt=attempt)
            policy.start([replace(track.start, episode=episode)])
            policy.end([episode])
        demand(policy.live() == 0, f"{policy.live()} episodes alive after 1000 were ended")
        return "live() is 0"

    # ------------------------------------------------------------------ parts

    def _scenes(self) -> list[tuple[str, int]]:
        tasks = [task.name for task in self._suite.tasks]
        return [(tasks[index % len(tasks)], index // len(tasks)) for index in range(3)]

    def _used(self) -> Policy:
        """The policy that has been through the gates before; what a failed gate left alive is ended."""
        self._policy.end([track.renamed(n).start.episode for track in self._tracks for n in (1, 2, 3)])
        return self._policy

    def _need(self, least: int) -> list[Track]:
        if len(self._tracks) < least:
            raise NotAsked("no episode could be recorded")
        return self._tracks

    def _record(self, policy: Policy, execute: int, task: str, trial: int) -> Track:
        env, rules = self._env, self._suite.protocol
        execute = rules.execute or execute
        convert = converter(policy.spec.action, env.env_spec.action)
        env.select(policy.spec.cameras, privileged=policy.spec.privileged)
        env.reset(seed=rules.scene_seed, options={"task": task, "trial": trial})
        episode = EpisodeId(self._suite.name, task, trial)
        start = EpisodeStart(episode, self._seed, env.instruction())
        policy.start([start])
        requests, actions = [], []
        between: tuple[Observation, ...] = ()
        for call in range(CALLS):
            request = ActRequest(episode, call, seen_by(policy.spec, env.observe()), between)
            answer = checked(policy.act([request]), request, policy.spec)
            requests.append(request)
            actions.append(answer)
            did = env.step_chunk(
                convert(answer[:execute]), stop_on_done=False, every_frame=policy.spec.needs_every_frame
            )
            between = tuple(seen_by(policy.spec, observation) for observation in did.observations)
            if did.terminated and call + 1 < CALLS:
                raise Broken(f"{episode} ended after {call + 1} calls: too short to check a policy on")
        policy.end([episode])
        return Track(start, tuple(requests), tuple(actions))

    def _play_alone(self, policy: Policy, track: Track) -> list[Floats]:
        policy.start([track.start])
        got = [self._one(policy, request) for request in track.requests]
        policy.end([track.start.episode])
        return got

    def _one(self, policy: Policy, request: ActRequest) -> Floats:
        return checked(policy.act([request]), request, policy.spec)

    def _checked(self, policy: Policy, requests: list[ActRequest]) -> list[Floats]:
        replies: list[ActReply] = policy.act(requests)
        demand(len(replies) == len(requests), f"{len(requests)} requests, {len(replies)} replies")
        return [checked([reply], request, policy.spec) for reply, request in zip(replies, requests, strict=True)]

    def _same(self, track: Track, got: Sequence[Floats], *, exact: bool = False) -> None:
        for call, (before, now) in enumerate(zip(track.actions, got, strict=True)):
            apart = float(np.abs(before - now).max())
            self._largest = max(self._largest, apart)
            limit = 0.0 if exact else TOLERANCE
            demand(apart <= limit, f"{track.start.episode} call {call}: actions differ by {apart:.2g}")

    @staticmethod
    def _must_raise(action: Callable[[], object], what: str) -> None:
        try:
            action()
        except PolicyError:
            return
        raise Broken(f"{what} raised no PolicyError")


def _differs(one: Observation, other: Observation) -> bool:
    pairs = [(one.images, other.images), (one.privileged or {}, other.privileged or {})]
    return any(not np.array_equal(a[key], b[key]) for a, b in pairs for key in a)


def _stir_globals(seed: int) -> None:
    import sys

    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
