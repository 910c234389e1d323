"""Is reacting too late in lab_imagination? Success against how late a hand that knows the answer starts to move.

    python benchmarks/lab_too_late.py [--trials 100] [--seed 0]

Table 1: the expert (it knows where everything will be) is kept still until n control steps after the launch: the puck
leaves the muzzle, the gate opens, the block is on its way. n = 0 acts on the last frame before anything happened.
Table 2, conveyors: the hand moves from the first step on, but goes to where the block was n steps ago.
Around them: the expert let loose from the start, a hand that never moves, a hand that goes where the thing would come
in another trial, and the plain speed of the simulation.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.lab import make
from envs.lab.env import LabEnv
from policies.expert.lab import Steering, lab_scripts
from policies.expert.lab.imagination import InterceptBall, head_for
from policies.expert.lab.moves import HandPose

TASKS = ("catch_puck", "intercept_ball", "conveyor_low", "conveyor_mid", "conveyor_high")
CONVEYORS = TASKS[2:]
LIMIT = 200

Seen = Mapping[str, npt.NDArray[Any]]
Change = Callable[[list[Seen]], Seen]
"""What the script is given, made from all that was seen so far."""


class OpenHanded(InterceptBall):
    """Makes a wide hand and brings its nearer finger into the ball's way: the best that a late hand can do."""

    FINGER = 0.046

    def act(self, seen: Seen) -> npt.NDArray[np.float64]:
        hand = HandPose.of(seen)
        x, y, aim = (float(number) for number in seen["aim"])
        ys = np.linspace(seen["mat"][0] + 0.005, seen["mat"][1] - 0.005, 13)
        xs = x + (y - ys) * math.tan(aim)
        xs -= np.sign(xs - hand.tip[0]) * self.FINGER
        nearest = int(np.argmin(np.maximum(np.abs(xs - hand.tip[0]), np.abs(ys - hand.tip[1]))))
        return head_for(hand, (xs[nearest], ys[nearest], self.LOW), self.STEP, closed=False)


def episode(
    env: LabEnv,
    task: str,
    trial: int,
    *,
    seed: int = 0,
    late: int | None = None,
    script: type[Steering] | None = None,
    change: Change | None = None,
) -> tuple[bool, float, int]:
    """One episode of the expert: success, score and steps.

    late: kept still until so many steps after the launch (None: free from the start); script: in place of the task's
    own; change: what it is given instead of the present state.
    """
    env.select((), privileged=True)
    env.reset(seed=seed, options={"task": task, "trial": trial})
    expert = (script or lab_scripts()[task])(env.instruction())
    free = 0 if late is None else env.trial.launch + late  # type: ignore[attr-defined] # tasks with a launch only
    still = np.zeros(7)
    still[6] = 1.0 if env.state()[6] > 0.02 else -1.0
    past: list[Seen] = []
    for step in range(1, LIMIT + 1):
        past.append(env.observe().privileged or {})
        action = still if step <= free else expert.act(change(past) if change else past[-1])
        did = env.step_chunk(np.asarray(action, dtype=np.float32)[None])
        if did.terminated:
            break
    return did.success, env.metrics()["score"], step


def aged(age: int) -> Change:
    """The block where the belt had it `age` steps ago, and a belt taken to stand still; the truth once it is lifted."""

    def change(past: list[Seen]) -> Seen:
        now = dict(past[-1])
        if now["blocks"][0, 2] < past[0]["blocks"][0, 2] + 0.003:
            now["blocks"] = now["blocks"].copy()
            now["blocks"][0, 1] = past[max(0, len(past) - 1 - age)]["blocks"][0, 1]
        now["belt"] = now["belt"] * (1.0, 0.0, 1.0)
        return now

    return change


def stranger(env: LabEnv, task: str, trial: int, seed: int) -> Change:
    """The aim (and walls) of another trial."""
    env.select((), privileged=True)
    env.reset(seed=seed, options={"task": task, "trial": trial})
    other = dict(env.observe().privileged or {})
    del other["hand"]
    return lambda past: {**past[-1], **other}


def rate(run: Callable[[int], tuple[bool, float, int]], trials: int) -> float:
    """Share of trials that succeed."""
    return float(np.mean([run(trial)[0] for trial in range(trials)]))


def steps_per_second(env: LabEnv, task: str, *, steps: int = 3000) -> float:
    """Control steps per second of processor time with the hand doing nothing, nothing drawn, resets left out."""
    env.select(())
    still = np.zeros((1, 7), dtype=np.float32)
    spent, taken, trial = 0.0, 0, 0
    while taken < steps:
        env.reset(seed=0, options={"task": task, "trial": trial})
        trial += 1
        begun = time.process_time()
        while not (did := env.step_chunk(still)).terminated:
            taken += did.steps
        spent += time.process_time() - begun
    return taken / spent


def table(title: str, head: list[str], rows: list[tuple[str, list[float]]]) -> None:
    """Print one table of percentages."""
    print(f"\n{title}\n{'':26}" + "".join(f"{name:>7}" for name in head))
    for name, rates in rows:
        print(f"{name:26}" + "".join(f"{100 * r:6.0f}%" for r in rates), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    env, count, seed = make(), args.trials, args.seed
    delays = range(11)

    def late(task: str, script: type[Steering] | None = None) -> list[float]:
        # B023 here and below: `rate` calls its function at once, before the loop variable moves on.
        return [rate(lambda k: episode(env, task, k, seed=seed, late=n, script=script), count) for n in delays]  # noqa: B023

    rows = [(task, late(task)) for task in TASKS]
    rows.insert(2, ("  the same, hand opened", late("intercept_ball", OpenHanded)))
    table(f"1. moving only n steps after the launch ({count} trials each)", [f"n={n}" for n in delays], rows)

    def old(task: str) -> list[float]:
        return [rate(lambda k: episode(env, task, k, seed=seed, change=aged(n)), count) for n in delays]  # noqa: B023

    table("2. going to where the block was n steps ago", [f"n={n}" for n in delays], [(t, old(t)) for t in CONVEYORS])
    around = []
    for task in TASKS:
        row = [rate(lambda k: episode(env, task, k, seed=seed), count)]  # noqa: B023
        row.append(rate(lambda k: episode(env, task, k, seed=seed, late=LIMIT), count))  # noqa: B023
        if task not in CONVEYORS:
            other = [stranger(env, task, count + k, seed) for k in range(count)]
            row.append(rate(lambda k: episode(env, task, k, seed=seed, change=other[k]), count))  # noqa: B023
        around.append((task, row))
    table("around them", ["expert", "still", "guess"], around)
    print("\ncontrol steps per second of processor time, nothing drawn")
    for task in TASKS:
        print(f"{task:26}{steps_per_second(env, task):7.0f}", flush=True)


if __name__ == "__main__":
    main()
