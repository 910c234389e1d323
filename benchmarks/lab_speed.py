"""How fast the lab is: control steps per second of every task, without pictures and with one or two 64x64 cameras.

    python benchmarks/lab_speed.py [TASK ...]

The expert plays whole episodes; only the environment's own time counts. It is the processor's time, not the wall
clock's, so that other work on the machine disturbs it less (caches and clock rates are still shared).
"""

from __future__ import annotations

import sys
import time

from envs.lab import make
from envs.lab.env import LabEnv
from envs.lab.task import lab_tasks
from policies.expert.lab import LabScript, lab_scripts

STEPS, LIMIT = 2000, 400
"""Control steps measured per figure; steps after which an episode is cut."""


def steps_per_second(env: LabEnv, task: str, cameras: list[str]) -> float:
    """Control steps per second while the expert plays, a picture of each camera drawn after every step."""
    steps, seconds, trial = 0, 0.0, 0
    while steps < STEPS:
        env.reset(seed=0, options={"task": task, "trial": trial})
        script = LabScript(task, env.instruction(), env.env_spec)
        for step in range(LIMIT):
            action = script.act(env.privileged(), step)
            start = time.process_time()
            result = env.step_chunk(action)
            for camera in cameras:
                env.draw(camera)
            seconds += time.process_time() - start
            steps += 1
            if result.success or result.terminated:
                break
        trial += 1
    return steps / seconds


def main(names: list[str]) -> None:
    env = make()
    env.select([], privileged=True)
    print(f"{'task':28s} {'no picture':>12s} {'front':>8s} {'front+wrist':>12s}   control steps per second")
    for task in names or [name for name in lab_tasks() if name in lab_scripts()]:
        figures = [steps_per_second(env, task, cameras) for cameras in ([], ["front"], ["front", "wrist"])]
        print(f"{task:28s} {figures[0]:12.0f} {figures[1]:8.0f} {figures[2]:12.0f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
