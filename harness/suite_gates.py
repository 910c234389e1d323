"""The gates every suite must pass: scenes that are what they are said to be, and drawing that changes nothing.

Runs inside the suite's own Python environment, so it imports nothing beyond NumPy, PyYAML and the adapter:

    python -m harness.suite_gates SUITE TASKS      prints one JSON object a line, one for each gate
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from envs.base import SceneError, VLAEnv
from envs.conversions import converter
from envs.spec import EpisodeId
from harness.gates import Broken, Gate, NotAsked, demand, run_gates
from harness.plan import context_of, episodes, match
from harness.rollout import frames_hash, run_episode
from policies.expert import ExpertPolicy
from suites.protocol import Suite, load_suite

STEPS = 24


class SuiteGates:
    """Runs the gates of one suite on its real simulator, on a sample of its tasks."""

    def __init__(self, suite: Suite, *, tasks: int = 3) -> None:
        self.suite = suite
        beyond = suite.not_covered([task.name for task in suite.tasks])
        self._names = [task.name for task in suite.tasks if task.name not in beyond]
        self._tasks = self._names[:: max(1, len(self._names) // tasks)][:tasks]
        self._env: VLAEnv = self._make()

    def _make(self) -> VLAEnv:
        env: VLAEnv = importlib.import_module(self.suite.adapter).make(**self.suite.env)
        return env

    def run(self) -> Iterator[Gate]:
        """All gates, in order."""
        yield from run_gates(
            [
                ("it offers what it declares", self._declares),
                ("a scene has one hash: again, after other scenes, on a fresh simulator", self._hashes),
                ("two trials are never alike", self._trials_differ),
                ("nothing is solved before the first action", self._unsolved),
                ("the same actions lead to the same end, also after other episodes", self._repeats),
                ("drawing changes nothing", self._draws),
                ("a chunk equals its single steps", self._chunks),
                ("pictures are upright arrays with something on them, the same when drawn twice", self._pictures),
                ("a task or trial that does not exist is an error", self._refuses),
                ("the scripted expert succeeds (positive control)", self._expert),
            ]
        )
        self._env.close()

    # ------------------------------------------------------------------ the gates

    def _declares(self) -> str:
        env, declared = self._env, self.suite.env_spec
        demand(env.env_spec == declared, f"describe() says {declared}, the environment is {env.env_spec}")
        for task in self._tasks:
            env.select(None)
            found, info = self._reset(env, task, 0)
            demand(env.observation_space.contains(found), f"{task}: the first observation is outside its space")
            demand(info["scene_hash"] == env.scene_hash(), "info and scene_hash() disagree")
            demand(env.observe().instruction.strip() != "", f"{task}: the instruction is empty")
        return f"{len(declared.cameras)} cameras, {declared.action.dim}-D actions, {len(declared.state)} state numbers"

    def _hashes(self) -> str:
        scenes = [(task, trial) for task in self._tasks for trial in self._trials(task, 2)]
        forward = {scene: self._hash(self._env, *scene) for scene in scenes}
        backward = {scene: self._hash(self._env, *scene) for scene in reversed(scenes)}
        fresh = self._make()
        try:
            cold = {scene: self._hash(fresh, *scene) for scene in scenes[:2]}
        finally:
            fresh.close()
        for scene, expected in forward.items():
            demand(backward[scene] == expected, f"{scene}: another hash in another order")
            demand(cold.get(scene, expected) == expected, f"{scene}: another hash on a fresh simulator")
        return f"{len(scenes)} scenes in two orders, {len(cold)} on a fresh simulator"

    def _trials_differ(self) -> str:
        trials = {task: self._trials(task, 4) for task in self._tasks}
        most = max(map(len, trials.values()))
        if most < 2:
            raise NotAsked("the protocol has one trial a task")
        for task, several in trials.items():
            hashes = {self._hash(self._env, task, trial) for trial in several}
            demand(len(hashes) == len(several), f"{task}: {len(several)} trials, {len(hashes)} different scenes")
        return f"{most} trials of {len(self._tasks)} tasks"

    def _unsolved(self) -> str:
        for task in self._tasks:
            self._env.select(())
            self._reset(self._env, task, 0)
            did = self._env.step_chunk(self._still()[None])
            demand(not did.success, f"{task}: success at the first step without moving")
        return f"{len(self._tasks)} tasks"

    def _repeats(self) -> str:
        for task in self._tasks:
            first = self._end_of(task, 0)
            self._end_of(self._tasks[0], self._trials(self._tasks[0], 2)[-1], other=True)
            demand(self._end_of(task, 0) == first, f"{task}: the same actions led to another end")
        return f"{STEPS} random steps, {len(self._tasks)} tasks, bit for bit"

    def _draws(self) -> str:
        for task in self._tasks:
            blind = self._end_of(task, 0)
            seen = self._end_of(task, 0, draw=True)
            demand(blind == seen, f"{task}: drawing every step led to another end")
        return f"{STEPS} steps with every frame and with none"

    def _chunks(self) -> str:
        task = self._tasks[0]
        demand(self._end_of(task, 0, single=True) == self._end_of(task, 0), f"{task}: single steps led to another end")
        return f"{STEPS} steps"

    def _pictures(self) -> str:
        env = self._env
        env.select(None)
        for task in self._tasks:
            self._reset(env, task, 0)
            observation = env.observe()
            for name, image in observation.images.items():
                camera = env.env_spec.camera(name)
                demand(image.shape == (camera.height, camera.width, 3), f"{name} has shape {image.shape}")
                demand(image.dtype == np.uint8, f"{name} has dtype {image.dtype}")
                demand(float(image.std()) > 2, f"{task}: {name} is blank (standard deviation {image.std():.2f})")
                demand(bool(np.array_equal(env.draw(name), image)), f"{task}: {name} drawn twice differs")
            before = frames_hash(observation)
            self._reset(env, task, 0)
            demand(frames_hash(env.observe()) == before, f"{task}: the first frame differs after a second reset")
        return f"{len(env.env_spec.cameras)} cameras, {len(self._tasks)} tasks"

    def _refuses(self) -> str:
        for options in (
            {"task": "no_such_task_at_all", "trial": 0},
            {"trial": 0},
            {"task": self._tasks[0], "trial": -1},
        ):
            try:
                self._env.reset(seed=0, options=options)
            except (SceneError, ValueError):
                continue
            raise Broken(f"reset(options={options}) raised no SceneError")
        return "unknown task, no task, negative trial"

    def _expert(self) -> str:
        if not self.suite.expert:
            raise NotAsked("the suite names no expert")
        policy = ExpertPolicy(context_of(self.suite))
        match(policy.spec, self.suite)
        convert = converter(policy.spec.action, self._env.env_spec.action)
        known = [name for name in self._names if policy.knows(name)]
        won = []
        for task in [name for name in self._tasks if name in known] or known[:1]:
            scenes = [EpisodeId(self.suite.name, task, trial).scene for trial in self._trials(task, 2)]
            for spec in episodes(scenes, self.suite, policy.spec, seed=0):
                rollout = run_episode(self._env, policy, spec, convert)
                demand(rollout.record.outcome != "void", f"{spec.episode} is void: {rollout.record.cause}")
                won.append(rollout.record.outcome == "success")
        demand(any(won), f"it solved none of {len(won)} episodes")
        return f"{sum(won)} of {len(won)} episodes"

    # ------------------------------------------------------------------ parts

    def _trials(self, task: str, most: int) -> range:
        return range(self.suite.trials(task, min(most, self.suite.protocol.trials)))

    def _reset(self, env: VLAEnv, task: str, trial: int) -> tuple[dict[str, Any], dict[str, Any]]:
        return env.reset(seed=self.suite.protocol.scene_seed, options={"task": task, "trial": trial})

    def _hash(self, env: VLAEnv, task: str, trial: int) -> str:
        env.select(())
        self._reset(env, task, trial)
        return env.scene_hash()

    def _still(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        action = self._env.env_spec.action
        still = np.zeros(action.dim, dtype=np.float32)
        still[-1] = action.gripper.open
        return still

    def _end_of(self, task: str, trial: int, *, draw: bool = False, single: bool = False, other: bool = False) -> str:
        """Digest of the state after STEPS random actions (`other`: different ones)."""
        env = self._env
        env.select(None if draw else ())
        self._reset(env, task, trial)
        noise = np.random.default_rng(1 if other else 0)
        actions = noise.uniform(-1, 1, (STEPS, env.env_spec.action.dim)).astype(np.float32)
        actions *= env.env_spec.action.limit or 0.1
        if single:
            for action in actions:
                env.step_chunk(action[None], stop_on_done=False)
        else:
            env.step_chunk(actions, stop_on_done=False, every_frame=draw)
        return env.state_hash()


def main(name: str, tasks: str) -> int:
    """Print every gate as a line of JSON; 0 if none failed."""
    failed = False
    for gate in SuiteGates(load_suite(name), tasks=int(tasks)).run():
        failed = failed or gate.passed is False
        print(json.dumps(asdict(gate)), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
