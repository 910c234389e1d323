"""What a whole LIBERO episode costs: upstream's loop against ours, in turn, in one process.

    PYTHONPATH=. ~/.memvla/runtimes/libero/bin/python benchmarks/libero_episode.py [SUITE [TASK NUMBER|all [EPISODES]]]

(a) upstream as the reference evaluation runs it: a hard reset, both 256x256 cameras drawn after every step;
(b) ours: a warm reset, both cameras drawn when the policy is called, every 8 steps.
Both carry out the same actions, those of the scripted expert, from the reset through the settle steps to the success.
Compiling a task's scene for the first time is counted apart, on both sides. Seconds are the processor's, so that other
work on the machine disturbs them less. Final states, outcomes and the pictures at the policy's calls are compared too.
`libero_spatial all 5` is a whole evaluation of 50 episodes.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from envs.libero import make
from envs.libero.adapter import CAMERAS, SETTLE, SETTLE_STEPS, LiberoEnv
from envs.libero.upstream import libero, task_files, task_names
from policies.expert.libero import LiberoScript
from suites.protocol import load_suite

CHUNK = 8


@dataclass(frozen=True)
class Episode:
    """seconds: processor time; state: the simulator's last; success; steps; pictures: those at the policy's calls."""

    seconds: float
    state: npt.NDArray[np.float64]
    success: bool
    steps: int
    pictures: list[npt.NDArray[np.uint8]]


def expert_actions(suite: str, task: str, trial: int) -> npt.NDArray[np.float32]:
    """What the scripted expert does, float32 [T, 7]."""
    found = load_suite(suite)
    env = make(suite=suite)
    env.select(cameras=(), privileged=True)
    env.reset(seed=0, options={"task": task, "trial": trial})
    script = LiberoScript(task, found.task(task).instruction, found.env_spec)
    actions = []
    for step in range(found.max_steps(task)):
        privileged = env.observe().privileged
        assert privileged is not None
        actions.append(np.asarray(script.act(privileged, step), dtype=np.float32)[0])
        if env.step_chunk(actions[-1][None]).success:
            break
    env.close()
    return np.array(actions)


def upstream(env: Any, initial: npt.NDArray[np.float64], actions: npt.NDArray[np.float32]) -> Episode:
    """One episode of upstream's environment."""
    env.sim._render_context_offscreen.gl_ctx.make_current()  # it frees and draws in whatever context is current
    start = time.process_time()
    env.env.reset()
    env.set_init_state(initial)
    for _ in range(SETTLE_STEPS):
        seen, _, done, _ = env.step(list(SETTLE))
    pictures = []
    for step, action in enumerate(actions):
        if step % CHUNK == 0:
            pictures += [seen[f"{camera}_image"][::-1, ::-1].copy() for camera in CAMERAS.values()]
        seen, _, done, _ = env.step(action.tolist())
        if done:
            break
    seconds = time.process_time() - start
    data = env.sim.data._data
    return Episode(seconds, np.concatenate([data.qpos, data.qvel]), bool(done), step + 1, pictures)


def ours(env: LiberoEnv, task: str, trial: int, actions: npt.NDArray[np.float32]) -> Episode:
    """One episode of our environment."""
    start = time.process_time()
    env.reset(seed=0, options={"task": task, "trial": trial})
    pictures, steps = [], 0
    for k in range(0, len(actions), CHUNK):
        pictures += list(env.observe().images.values())
        result = env.step_chunk(actions[k : k + CHUNK])
        steps += result.steps
        if result.success:
            break
    seconds = time.process_time() - start
    data = env.simulation.data
    return Episode(seconds, np.concatenate([data.qpos, data.qvel]), result.success, steps, pictures)


@dataclass(frozen=True)
class Spent:
    """Processor seconds of upstream and of ours: building scenes, playing episodes."""

    building: npt.NDArray[np.float64]
    playing: npt.NDArray[np.float64]

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.building + other.building, self.playing + other.playing)


def compare(suite: str, task: str, episodes: int) -> Spent:
    """Play trials 0 to `episodes` - 1 of a task both ways."""
    files = task_files(suite, task)
    actions = [expert_actions(suite, task, trial) for trial in range(episodes)]
    begun = time.process_time()
    theirs = libero().env_wrapper.OffScreenRenderEnv(
        bddl_file_name=str(files.problem), camera_heights=256, camera_widths=256
    )
    theirs.seed(0)
    built = time.process_time()
    env = make(suite=suite)
    assert isinstance(env, LiberoEnv)
    env.reset(seed=0, options={"task": task, "trial": len(files.states) - 1})
    building = np.array([built - begun, time.process_time() - built])
    print(f"{suite}/{task}, a policy call every {CHUNK} steps")
    playing = np.zeros(2)
    for trial, chosen in enumerate(actions):
        a, b = upstream(theirs, files.states[trial], chosen), ours(env, task, trial, chosen)
        assert a.steps == b.steps, (a.steps, b.steps)
        same = {
            "final states": np.array_equal(a.state, b.state),
            "outcomes": a.success == b.success,
            "pictures": len(a.pictures) == len(b.pictures) and all(map(np.array_equal, a.pictures, b.pictures)),
        }
        print(f"trial {trial}: {a.steps} steps, {len(b.pictures)} pictures, {'success' if b.success else 'failure'}")
        print(f"    (a) {a.seconds:.1f} s, (b) {b.seconds:.1f} s; equal: {same}", flush=True)
        playing += [a.seconds, b.seconds]
    env.close()
    theirs.sim._render_context_offscreen.gl_ctx.make_current()
    theirs.close()
    return Spent(building, playing)


def main(suite: str = "libero_spatial", number: str = "0", episodes: str = "2") -> None:
    tasks = task_names(suite) if number == "all" else [task_names(suite)[int(number)]]
    spent = Spent(np.zeros(2), np.zeros(2))
    for task in tasks:
        spent += compare(suite, task, int(episodes))
    (a, b), (c, d) = spent.playing, spent.building
    print(f"(a) takes {a / b:.1f} times as long as (b): {a:.0f} and {b:.0f} s of episodes")
    print(f"with the building of scenes, {c:.0f} and {d:.0f} s: {(a + c) / (b + d):.1f} times")


if __name__ == "__main__":
    main(*sys.argv[1:])
