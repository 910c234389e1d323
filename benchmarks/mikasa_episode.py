"""What a whole MIKASA-Robo episode costs: a frame every step against chunks of 4, in turn, in one process.

    PYTHONPATH=. ~/.memvla/runtimes/maniskill/bin/python benchmarks/mikasa_episode.py [TASK [EPISODES]]

(a) both 128x128 cameras drawn after every step, as upstream's own environment does it;
(b) both drawn when the policy is called, every 4 steps.
Both carry out the same actions, those of the scripted expert, from the reset to the success. Building the task and the
first picture of the process are left out on both sides. Seconds are the processor's (the software renderer's threads
included), so that other work on the machine disturbs them less. Final states and pictures at the calls are compared.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from envs.base import VLAEnv
from envs.mikasa import make
from policies.expert.mikasa import MikasaScript
from suites.protocol import load_suite

CHUNK = 4
SUITE = load_suite("mikasa_memoryvla")


@dataclass(frozen=True)
class Episode:
    """seconds: processor time; state: digest of the last one; drawn: pictures taken; pictures: those at the calls."""

    seconds: float
    state: str
    drawn: int
    pictures: list[npt.NDArray[np.uint8]]


def expert_actions(env: VLAEnv, task: str, trial: int) -> npt.NDArray[np.float32]:
    """What the scripted expert does, float32 [T, 7]."""
    env.select(cameras=(), privileged=True)
    env.reset(seed=SUITE.protocol.scene_seed, options={"task": task, "trial": trial})
    script = MikasaScript(task, env.instruction(), env.env_spec)
    actions: list[npt.NDArray[np.float32]] = []
    for step in range(SUITE.max_steps(task)):
        actions.append(script.act(env.privileged(), step)[0].astype(np.float32))
        if env.step_chunk(actions[-1][None]).success:
            break
    return np.array(actions)


def play(env: VLAEnv, task: str, trial: int, actions: npt.NDArray[np.float32], *, every_frame: bool) -> Episode:
    """One episode: a policy call, with pictures, every CHUNK steps."""
    env.select(None)
    pictures, drawn = [], 0
    start = time.process_time()
    env.reset(seed=SUITE.protocol.scene_seed, options={"task": task, "trial": trial})
    for first in range(0, len(actions), CHUNK):
        seen = env.observe()
        pictures += list(seen.images.values())
        did = env.step_chunk(actions[first : first + CHUNK], every_frame=every_frame)
        drawn += len(seen.images) * (1 + len(did.observations))
    return Episode(time.process_time() - start, env.state_hash(), drawn, pictures)


def main(task: str = "remember_color_3", episodes: str = "5") -> None:
    env = make()
    totals, drawn, steps = {True: 0.0, False: 0.0}, {True: 0, False: 0}, 0
    for trial in range(int(episodes)):
        actions = expert_actions(env, task, trial)
        steps += len(actions)
        if trial == 0:
            play(env, task, trial, actions[:CHUNK], every_frame=True)  # the first picture of the process
        both = {every: play(env, task, trial, actions, every_frame=every) for every in (True, False)}
        for every, episode in both.items():
            totals[every] += episode.seconds
            drawn[every] += episode.drawn
        if both[True].state != both[False].state:
            raise SystemExit(f"{task}/{trial}: the two ended in different states")
        if not all(map(np.array_equal, both[True].pictures, both[False].pictures)):
            raise SystemExit(f"{task}/{trial}: the pictures at the policy's calls differ")
    env.close()
    count = int(episodes)
    print(f"{task}: {count} episodes of {steps / count:.1f} steps; same final states, same pictures at the calls")
    for every, name in ((True, "a frame every step"), (False, f"a frame every {CHUNK} steps")):
        print(f"  {name:24s} {totals[every] / count:7.2f} s an episode, {drawn[every] / count:6.1f} pictures")
    print(f"  ratio {totals[True] / totals[False]:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
