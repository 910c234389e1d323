"""The lab and any policy, made to go wrong at places that a plan names: for soak runs (benchmarks/faults.py).

The plan is a folder, named by the variable MEMVLA_FAULTS: one file a fault, `KIND@TASK@TRIAL@STEP` for the simulator
and `KIND@TASK@TRIAL@CALL` for the policy. Who comes to the place takes the file away, so that it strikes once, notes it
in the file `struck` and goes wrong. Without the variable nothing ever does.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.lab import RUNTIME as RUNTIME
from envs.lab import describe as describe
from envs.lab.env import LabEnv
from envs.spec import EnvSpec, EpisodeId, Floats, Image
from policies.base import ActReply, ActRequest, EpisodeStart, OutOfMemory, Policy, PolicyContext, PolicySpec

SIMULATOR = ("sim-kill", "sim-abort", "sim-raise", "sim-nan", "sim-image", "sim-hang")
POLICY = ("host-kill", "start", "act", "end", "nan", "shape", "episode", "memory", "memory-always", "late", "hang")


def strikes(kind: str, task: str, trial: int, place: int) -> bool:
    """Whether the plan says so; it is struck out then, and noted with the time."""
    folder = os.environ.get("MEMVLA_FAULTS")
    if not folder:
        return False
    name = f"{kind}@{task}@{trial}@{place}"
    try:
        os.remove(Path(folder, name))
    except FileNotFoundError:
        return False
    with Path(folder, "struck").open("a") as file:
        file.write(f"{time.time():.3f} {name}\n")
    return True


def make(size: int = 64) -> LabEnv:
    return FaultyLab(describe(size), "ray")


class FaultyLab(LabEnv):
    """The lab with a plan of faults."""

    def __init__(self, env_spec: EnvSpec, renderer: str) -> None:
        super().__init__(env_spec, renderer)
        self._scene: tuple[str, int] = ("", 0)
        self._clock = 0

    def load(self, task: str, trial: int, seed: int) -> None:
        self._scene, self._clock = (task, trial), 0
        super().load(task, trial, seed)

    def _strikes(self, kind: str) -> bool:
        return strikes(kind, *self._scene, self._clock)

    def advance(self, action: Floats) -> Any:
        if self._strikes("sim-kill"):
            return self._inside_the_step(lambda *_: os.kill(os.getpid(), signal.SIGKILL), action)
        if self._strikes("sim-abort"):
            return self._inside_the_step(lambda *_: os.abort(), action)
        if self._strikes("sim-raise"):
            raise RuntimeError("the solver diverged")
        if self._strikes("sim-hang"):
            time.sleep(3600)
        did = super().advance(action)
        self._clock += 1
        return did

    def _inside_the_step(self, end: Any, action: Floats) -> Any:
        """Let MuJoCo call `end` in the middle of its own step."""
        import mujoco

        mujoco.set_mjcb_passive(end)
        return super().advance(action)

    def state(self) -> Floats:
        state = super().state()
        return np.full_like(state, np.nan) if self._strikes("sim-nan") else state

    def draw(self, camera: str) -> Image:
        image = super().draw(camera)
        return np.full(image.shape, np.nan) if self._strikes("sim-image") else image  # type: ignore[return-value]


class FaultyPolicy(Policy):
    """Any policy with a plan of faults. inner: its name; the options are its own."""

    def __init__(self, context: PolicyContext, *, inner: str, late_s: float = 5.0, **options: Any) -> None:
        from harness.cluster import PolicyConfig
        from harness.config import POLICY_WORDS, load_policy_file, policy_files

        file = load_policy_file(policy_files()[inner])
        own = {key: value for key, value in file.items() if key not in POLICY_WORDS}
        self._inner = PolicyConfig(inner, file["target"], {**own, **options}).build(context)
        self._late_s = late_s

    @property
    def spec(self) -> PolicySpec:  # type: ignore[override]
        return self._inner.spec

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        if any(strikes("start", start.episode.task, start.episode.trial, 0) for start in episodes):
            raise RuntimeError("no weights")
        self._inner.start(episodes)

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        def struck(kind: str) -> bool:
            return any(strikes(kind, each.episode.task, each.episode.trial, each.call) for each in requests)

        if struck("act"):
            raise ValueError("a tensor of the wrong size")
        if struck("memory-always") or (len(requests) > 1 and struck("memory")):
            raise OutOfMemory("out of memory on purpose")
        replies = self._inner.act(requests)  # the faults below come after the memory was written
        if struck("host-kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if struck("late"):
            time.sleep(self._late_s)
        if struck("hang"):
            time.sleep(3600)
        return [self._spoilt(*each) for each in zip(requests, replies, strict=True)]

    def _spoilt(self, request: ActRequest, reply: ActReply) -> ActReply:
        scene = (request.episode.task, request.episode.trial, request.call)
        if strikes("nan", *scene):
            return replace(reply, actions=np.full_like(reply.actions, np.nan))
        if strikes("shape", *scene):
            return replace(reply, actions=reply.actions[:, :3])
        if strikes("episode", *scene):
            return replace(reply, episode=replace(reply.episode, trial=reply.episode.trial + 1))
        return reply

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        self._inner.end(episodes)
        if any(strikes("end", episode.task, episode.trial, 0) for episode in episodes):
            raise RuntimeError("could not free it")

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        self._inner.instruction_changed(episode, instruction, keep_memory=keep_memory)

    def check(self, request: ActRequest) -> None:
        self._inner.check(request)

    def live(self) -> int:
        return self._inner.live()

    def memory_per_episode(self) -> int:
        return self._inner.memory_per_episode()

    def close(self) -> None:
        self._inner.close()
