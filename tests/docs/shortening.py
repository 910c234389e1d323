"""What the tests change in documented commands that would take minutes to days: fewer trials, updates, steps, seconds.

Nothing else: verb, suite, policy, files and all other words are the page's own. Used by the shell that runs a page:

    python shortening.py SOCKET memvla run suite=lab_memory policy=expert run.trials=20
"""

from __future__ import annotations

import os
import shlex
import sys
from fnmatch import fnmatchcase

STEPS = "protocol.max_steps=16"
QUICK = ("run.trials=1", "run.sample=1", STEPS, "run.videos=0", "cluster=inline")
ONE_TASK = ("cluster=local", "cluster.workers=1", "run.trials=1", "run.sample=1")
SIMULATORS = ("calvin", "libero", "mikasa", "simpler")
RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    # A command that has all words on the left (`*`: anything) gets those on the right in place of its own.
    ("memvla run", QUICK),
    ("memvla run policy=expert*", ("run.trials=4", "run.sample=null")),
    *((f"memvla run suite={simulator}*", ONE_TASK) for simulator in SIMULATORS),
    *((f"memvla check suite={simulator}*", ("check.tasks=1",)) for simulator in ("libero", "mikasa")),
    ("memvla tune", (STEPS, "cluster.max_batch=2", "cluster=inline")),
    ("memvla robot", ("run.trials=1", STEPS)),
    ("memvla nightly", ("--night=2026-11-24",)),
    ("memvla collect", ("collect.trials=2", "cluster=inline")),
    ("memvla collect learner=*", ("collect.off_course_steps=8",)),  # one that has learned nothing never gets there
    ("memvla train", ("train.updates=2", "train.warmup=0")),
    ("memvla train stage=world", ("held_out=1",)),
    (
        "memvla train train.evaluate.every=*",
        (
            "train.evaluate.every=2",
            "train.evaluate.trials=1",
            f"train.evaluate.overrides=['{STEPS}','run.videos=0','cluster=inline','run.tasks=[press_by_colour]']",
        ),
    ),
    ("python benchmarks/harness_cost.py", ("--seconds=0.2",)),
    ("python benchmarks/shared_core.py", ("--seconds=2",)),
    ("python benchmarks/policy_latency.py", ("--calls=4",)),
    ("python benchmarks/exact_against_fast.py", ("--trials=1",)),
    ("python benchmarks/serving.py", ("--seconds=1", "--clients=2")),
    ("python benchmarks/memory_flat.py", ("--episodes=40", "--alive=2")),
    ("python benchmarks/growth.py", ("--episodes=100",)),
    ("python benchmarks/lab_speed.py", ("press_by_colour",)),
    ("python benchmarks/training_speed.py", ("--updates=1",)),
)


def fits(words: list[str], rule: str) -> bool:
    """Whether a command has every word of a rule's left side."""
    return "--help" not in words and all(any(fnmatchcase(word, sought) for word in words) for sought in rule.split())


def shortened(words: list[str]) -> list[str]:
    """The words of a command with those of every rule that fits it."""
    for rule, instead in RULES:
        if fits(words, rule):
            keys = [
                word.partition("=")[0] for word in instead if not word.startswith("--")
            ]  # of options the last holds
            words = [word for word in words if word.partition("=")[0] not in keys] + list(instead)
    return words


if __name__ == "__main__":
    wanted = shortened(sys.argv[2:])
    print("$", shlex.join(wanted), file=sys.stderr, flush=True)
    if sys.argv[1] == "-" or wanted[0] != "memvla" or wanted[1] == "nightly":  # a night starts Ray, which is not forked
        os.execvp(wanted[0], wanted)
    from warm import ask

    sys.exit(ask(sys.argv[1], wanted))
