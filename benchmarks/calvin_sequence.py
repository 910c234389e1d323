"""What drawing on demand is worth: whole CALVIN chains with a frame every step, and with one for each chunk of 8.

    PYTHONPATH=. ~/.memvla/runtimes/calvin/bin/python benchmarks/calvin_sequence.py [--chains 2] [--renderer tiny]

Runs inside CALVIN's own environment (`memvla setup calvin_abc_d`). The scripted expert's actions for each chain are
recorded first; then the same actions are played in turn (a) as the original evaluation does, both cameras drawn after
the reset, after every step and again at every subtask, and (b) as ours does, both cameras drawn before each chunk. Both
come to the same state, or it is an error. Seconds are the processor's, so that other work on
the machine disturbs them less. Prints them and the ratio, all from this one process.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from envs.base import VLAEnv
from envs.calvin import make
from envs.calvin.chains import chains
from policies.expert.calvin import CalvinScript

CHUNK = 8
Recording = list[np.ndarray]
"""Actions [steps, 7] of each subtask."""


def start(env: VLAEnv, trial: int) -> None:
    env.reset(seed=0, options={"task": "chain", "trial": trial})


def record(env: VLAEnv, trial: int) -> Recording:
    """What the expert does in a chain."""
    env.select((), privileged=True)
    start(env, trial)
    script = CalvinScript("chain", env.instruction(), env.env_spec)
    subtasks: list[list[np.ndarray]] = [[]]
    while True:
        seen = env.observe()
        assert seen.privileged is not None
        action = np.asarray(script.act(seen.privileged, seen.step), dtype=np.float32)
        subtasks[-1].append(action[0])
        did = env.step_chunk(action)
        if did.terminated:
            return [np.array(actions) for actions in subtasks]
        if did.instruction_changed:
            subtasks.append([])


def every_step(env: VLAEnv, trial: int, recording: Recording) -> tuple[float, str]:
    """Seconds, and the state at the end: a frame after every step."""
    env.select(None)
    begun = time.process_time()
    start(env, trial)
    for actions in recording:
        for camera in env.env_spec.cameras:  # the original looks again at the start of each subtask
            env.draw(camera.name)
        for action in actions:
            env.step_chunk(action[None])
            env.observe()
    return time.process_time() - begun, env.state_hash()


def on_demand(env: VLAEnv, trial: int, recording: Recording) -> tuple[float, str]:
    """Seconds, and the state at the end: a frame for each policy call."""
    env.select(None)
    begun = time.process_time()
    start(env, trial)
    for actions in recording:
        for first in range(0, len(actions), CHUNK):
            env.observe()
            env.step_chunk(actions[first : first + CHUNK])
    return time.process_time() - begun, env.state_hash()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chains", type=int, default=2, help="the first so many of the evaluation list")
    parser.add_argument("--renderer", default="tiny", choices=("tiny", "egl"))
    given = parser.parse_args()
    env = make(renderer=given.renderer)
    totals = np.zeros(2)
    for trial in range(given.chains):
        recording = record(env, trial)
        steps = [len(actions) for actions in recording]
        slow, slow_end = every_step(env, trial, recording)
        fast, fast_end = on_demand(env, trial, recording)
        if slow_end != fast_end:
            raise SystemExit(f"chain {trial}: the two ways ended in different states")
        totals += (slow, fast)
        print(
            f"chain {trial} {'/'.join(chains()[trial].tasks)}: {steps} steps; every step {slow:.1f} s, "
            f"chunks of {CHUNK} {fast:.1f} s, ratio {slow / fast:.2f}",
            flush=True,
        )
    print(f"{given.chains} chains, {given.renderer}: {totals[0]:.1f} s against {totals[1]:.1f} s")
    print(f"ratio {totals[0] / totals[1]:.2f}")
    env.close()


if __name__ == "__main__":
    main()
