"""What the lab's tests share: playing an episode with the expert, and asking another process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from envs.lab.env import LabEnv
from policies.expert.lab import LabScript

GENERAL = ("press_by_colour", "pick_place_by_colour", "stack", "open_drawer")
REMEMBER = ("remember_colour_3", "remember_colour_3_shuffled", "remember_colour_5", "remember_colour_9")
MEMORY = (*REMEMBER, "press_order", "press_order_marked", "shell_game", "count_blocks")
TASKS = (*GENERAL, *MEMORY)


@dataclass(frozen=True)
class Played:
    """How an episode went."""

    success: bool
    steps: int
    metrics: dict[str, float]
    digest: str


def play(
    env: LabEnv,
    task: str,
    trial: int,
    *,
    instruction: str = "",
    memory: bool = True,
    draw: bool = False,
    shake: float = 0.0,
    limit: int = 480,
) -> Played:
    """Run the expert from the start of (task, trial).

    instruction: told to the expert instead of the true one; memory False: a fresh expert at every step; draw: look at
    both cameras after each step; shake: size of a random walk added to its actions.
    """
    env.reset(seed=0, options={"task": task, "trial": trial})
    words = instruction or env.instruction()
    script = LabScript(task, words, env.env_spec)
    noise, rng, digest = np.zeros(7), np.random.default_rng(trial), hashlib.sha256()
    for step in range(1, limit + 1):
        if not memory:
            script = LabScript(task, words, env.env_spec)
        action = script.act(env.privileged(), step)
        if shake:
            noise = 0.9 * noise + shake * rng.normal(size=7) * (1, 1, 1, 1, 1, 1, 0)
            action = np.clip(action + noise, -1.0, 1.0)
        result = env.step_chunk(action)
        digest.update(env.world.data.qpos.tobytes() + env.world.data.qvel.tobytes())
        if draw:
            env.draw("front"), env.draw("wrist")
        if result.terminated:
            break
    return Played(result.success, step, env.metrics(), digest.hexdigest())


def run_until_free(env: LabEnv) -> None:
    """Let the cue pass, with the hand doing nothing."""
    while env.trial.locked():
        env.step_chunk(np.zeros((1, 7), dtype=np.float32))


PLAIN_PROCESSOR = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX,-FMA4,-AVX512F",
}
"""Makes NumPy and the C library compute as they would on a processor without wide or fused instructions."""


def fresh_process(code: str, variables: dict[str, str] | None = None) -> str:
    """What another Python process prints, with these environment variables set in it."""
    surroundings = {**os.environ, **(variables or {})}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120, env=surroundings
    )
    return done.stdout.strip()
