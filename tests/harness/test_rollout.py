"""One episode: what is recorded, and that state is freed and nothing scored on every path (the rules of memory)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from extra_env import PointEnv, PointScript
from extra_policies import Faulty, Remembering

from envs.conversions import converter
from envs.spec import EpisodeId
from harness.plan import EpisodeSpec, context_of, episodes, match
from harness.rollout import Rollout, run_episode
from policies.base import ActReply, Policy
from policies.expert import ExpertPolicy
from suites.protocol import Suite, load_suite


def spec_of(suite: Suite, policy: Policy, trial: int = 1, **changes: Any) -> EpisodeSpec:
    task = suite.tasks[0].name
    made = episodes([EpisodeId(suite.name, task, trial).scene], suite, policy.spec, seed=3)[0]
    return replace(made, **changes)


def roll(policy: Policy, env: PointEnv | None = None, suite: str = "point", **changes: Any) -> Rollout:
    loaded = load_suite(suite)
    env = env or PointEnv(**loaded.env)
    convert = converter(policy.spec.action, env.env_spec.action)
    return run_episode(env, policy, spec_of(loaded, policy, **changes), convert)


def remembering(**options: Any) -> Remembering:
    return Remembering(context_of(load_suite("point")), **options)


def faulty(how: str) -> Faulty:
    return Faulty(context_of(load_suite("point")), how=how)


def test_a_solved_episode_is_a_success_with_its_steps_and_hashes() -> None:
    policy = ExpertPolicy(context_of(load_suite("point")))
    record = roll(policy).record
    assert (record.outcome, record.success_once, record.success_at_end) == ("success", True, True)
    assert record.steps == record.calls > 3
    assert len(record.scene_hash) == len(record.action_digest) == 64
    assert record.first_frame_hash == ""  # the expert asked for no camera
    assert record.privileged
    assert policy.live() == 0


def test_the_record_holds_the_first_action_and_a_mark_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[np.ndarray] = []
    carry_out = PointEnv.step_chunk

    def step_chunk(self: PointEnv, actions: np.ndarray, **options: Any) -> Any:
        did = carry_out(self, actions, **options)
        done.extend(actions[: did.steps])
        return did

    monkeypatch.setattr(PointEnv, "step_chunk", step_chunk)
    record = roll(remembering(chunk=7)).record
    assert record.first_action == tuple(float(value) for value in done[0])
    marks = [record.action_marks[i : i + 4] for i in range(0, len(record.action_marks), 4)]
    assert len(marks) == len(done) == record.steps == 40
    same = {(marks[i] == marks[j], bool((done[i] == done[j]).all())) for i in range(40) for j in range(40)}
    assert same == {(True, True), (False, False)}


def test_an_unsolved_episode_stops_at_the_limit_and_is_a_failure() -> None:
    record = roll(remembering(chunk=7)).record
    assert (record.outcome, record.steps, record.calls) == ("failure", 40, 6)
    assert record.first_frame_hash != ""


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("start", "no memory left"),
        ("raise", "wrong size"),
        ("not_a_number", "NaN"),
        ("shape", "shape [1, 7]"),
        ("episode", "answered for point/reach/2#1"),
        ("step", "answered for point/reach/1#1 step"),
        ("end", "could not free it"),
    ],
)
def test_a_fault_of_the_policy_voids_the_attempt_and_frees_its_state(how: str, says: str) -> None:
    policy = faulty(how)
    rollout = roll(policy)
    assert rollout.record.outcome == "void"
    assert rollout.record.success_once is None
    assert says in rollout.record.cause
    assert policy.live() == 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("reset", "mesh of the point"),
        ("raise", "solver diverged"),
        ("nan", "not finite"),
        ("picture", "is float64 [32, 32, 3], not uint8"),
    ],
)
def test_a_fault_of_the_simulator_voids_the_attempt_and_frees_the_policy(how: str, says: str) -> None:
    policy = remembering()
    rollout = roll(policy, PointEnv(how=how, trial=1))
    assert rollout.record.outcome == "void"
    assert says in rollout.record.cause
    assert rollout.fault is not None
    assert "Traceback" in rollout.fault.trace
    assert policy.live() == 0


def test_what_a_policy_does_depends_on_scene_seed_and_nothing_that_ran_before() -> None:
    policy, env = remembering(), PointEnv()
    first = roll(policy, env).record
    roll(policy, env, seed=4)
    roll(policy, env, trial=2)
    again = roll(policy, env).record
    other_seed = roll(policy, env, seed=4).record
    assert again.action_digest == first.action_digest
    assert again.scene_hash == first.scene_hash == other_seed.scene_hash
    assert other_seed.action_digest != first.action_digest


def test_a_repeated_attempt_does_what_the_first_would_have_done() -> None:
    policy, env = remembering(), PointEnv()
    first = roll(policy, env)
    second = roll(policy, env, episode=EpisodeId("point", "reach", 1, attempt=2))
    assert second.record.action_digest == first.record.action_digest


def test_proprioception_is_given_only_to_a_policy_that_asks() -> None:
    seen = []

    class Peeking(Remembering):
        def act(self, requests: Any) -> list[ActReply]:
            seen.extend(request.observation for request in requests)
            size = (self.spec.chunk, self.spec.action.dim)
            return [ActReply(r.episode, r.step, np.zeros(size, np.float32)) for r in requests]

    policy = Peeking(context_of(load_suite("point")))
    policy.spec = replace(policy.spec, uses_state=False)
    roll(policy)
    assert all(observation.state is None and observation.privileged is None for observation in seen)


def test_a_buffered_chunk_dies_with_its_instruction() -> None:
    """Three goals in a row: each change stops the chunk, and the next call sees the new sentence."""
    calls = []

    class Watching(ExpertPolicy):
        def act(self, requests: Any) -> list[ActReply]:
            (request,) = requests
            calls.append((request.observation.instruction, request.step))
            seen, actions = dict(request.observation.privileged), []
            for _ in range(8):
                actions.append(PointScript("", "", self._env).act(seen, 0))
                seen["place"] = seen["place"] + 0.1 * actions[-1][:3]
            return [ActReply(request.episode, request.step, np.array(actions, np.float32))]

    suite = load_suite("point_chain")
    policy = Watching(context_of(suite))
    policy.spec = replace(policy.spec, chunk=8, execute=8)
    record = roll(policy, suite="point_chain").record
    assert record.outcome == "success"
    assert [text for text, _ in calls] == sorted(text for text, _ in calls)
    assert len(record.subtask_steps) == 3
    assert sum(record.subtask_steps) == record.steps
    switches = [step for (text, step), (before, _) in zip(calls[1:], calls, strict=False) if text != before]
    assert switches == [record.subtask_steps[0], sum(record.subtask_steps[:2])]


@pytest.mark.parametrize(("scope", "kept"), [("episode", True), ("subtask", False)])
def test_memory_scope_decides_what_survives_a_subtask_switch(scope: str, kept: bool) -> None:
    told = []

    class Listening(ExpertPolicy):
        def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
            told.append((instruction, keep_memory))
            super().instruction_changed(episode, instruction, keep_memory=keep_memory)

    suite = load_suite("point_chain")
    roll(Listening(context_of(suite)), suite="point_chain", memory_scope=scope)
    assert told == [("reach goal 2", kept), ("reach goal 3", kept)]


def test_a_policy_that_needs_every_frame_gets_every_frame() -> None:
    seen: list[int] = []

    class Counting(Remembering):
        def act(self, requests: Any) -> list[ActReply]:
            for request in requests:
                seen.extend(observation.step for observation in (*request.between, request.observation))
            return super().act(requests)

    policy = Counting(context_of(load_suite("point")))
    policy.spec = replace(policy.spec, needs_every_frame=True)
    record = roll(policy).record
    assert seen == list(range(record.steps - policy.spec.chunk + 1))


def test_frames_are_drawn_only_for_calls_and_videos() -> None:
    drawn = []

    class Drawing(PointEnv):
        def draw(self, camera: str) -> Any:
            drawn.append(self._step)
            return super().draw(camera)

    record = roll(remembering(chunk=8), Drawing()).record
    assert drawn == list(range(0, record.steps, 8))
    drawn.clear()
    filmed = roll(remembering(chunk=8), Drawing(), film_every=5)
    assert sorted(set(drawn)) == sorted({*range(0, 40, 8), *range(5, 41, 5)})
    assert filmed.record.action_digest == record.action_digest
    assert len(filmed.film) == 10  # the start, every fifth step, and the end


def test_match_is_made_before_any_simulator_starts() -> None:
    suite = load_suite("point")
    policy = remembering()
    assert match(policy.spec, suite).action == suite.env_spec.action
