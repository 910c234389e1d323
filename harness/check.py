"""`memvla check`: run the gates and print what was checked."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape

from harness.assets import require_assets
from harness.config import ConfigError, compose_run
from harness.gates import Gate
from harness.plan import context_of
from harness.policy_gates import PolicyGates
from harness.runtimes import environment_of, python_of, require
from suites.protocol import Suite, load_suite

DEFAULT_SUITE = "lab_general"
TASKS = 3
"""Tasks of a suite that are looked at."""


def check_command(overrides: list[str], console: Console) -> bool:
    """Check `policy=NAME [suite=NAME] [policy.OPTION=...]`, or `suite=NAME [check.tasks=N]`; whether all passed."""
    named = {word.partition("=")[0] for word in overrides}
    if "policy" not in named and "suite" not in named:
        raise ConfigError("say what to check: memvla check policy=NAME, or memvla check suite=NAME")
    if "policy" not in named:
        names, tasks = _suites(overrides)
        outcomes = [_say(f"suite {name}", check_suite(load_suite(name), tasks), console) for name in names]
        return all(outcomes)
    words = overrides if "suite" in named else [*overrides, f"suite={DEFAULT_SUITE}"]
    config = compose_run(words)
    passed = True
    for suite in config.suites:
        if suite.runtime.name:
            raise ConfigError(
                f"a policy is checked on a suite of the main environment, not on {suite.name}; e.g. suite=lab_memory"
            )
        for policy in config.policies:
            env = importlib.import_module(suite.adapter).make(**suite.env)
            gates = PolicyGates(lambda p=policy, s=suite: p.build(context_of(s)), env, suite)  # type: ignore[misc]
            passed = _say(f"policy {policy.name} on {suite.name}", gates.run(), console) and passed
    return passed


def _suites(words: Sequence[str]) -> tuple[list[str], int]:
    """The suites to check, and on how many tasks of each. Raises ConfigError."""
    given = dict(word.partition("=")[::2] for word in words)
    if unknown := sorted(given.keys() - {"suite", "check.tasks"}):
        raise ConfigError(f"unknown key {unknown[0]!r}; a suite is checked with suite=NAME and check.tasks=N")
    tasks = given.get("check.tasks", str(TASKS))
    if not tasks.isdecimal() or int(tasks) < 1:
        raise ConfigError(f"check.tasks must be 1 or more, was {tasks}")
    return given["suite"].strip("[]").split(","), int(tasks)


def check_suite(suite: Suite, tasks: int = TASKS) -> Iterator[Gate]:
    """The gates of a suite on a sample of so many of its tasks, run in its own Python environment."""
    require(suite.runtime, suite.name)
    require_assets(suite)
    command = [str(python_of(suite.runtime)), "-m", "harness.suite_gates", suite.name, str(tasks)]
    surroundings = {**os.environ, **environment_of(suite.runtime)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=surroundings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield Gate(**json.loads(line))
            else:
                sys.stderr.write(line)
    if process.returncode not in (0, 1):
        yield Gate("the gates ran to their end", False, f"{suite.name}: their process ended with {process.returncode}")


def _say(title: str, gates: Iterable[Gate], console: Console) -> bool:
    """Print gates as they come; whether none failed."""
    console.print(f"[bold]{escape(title)}[/]")
    marks = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: "[yellow] -- [/]"}
    failed = passed = 0
    for gate in gates:
        console.print(f"  {marks[gate.passed]}  {escape(gate.rule)}", highlight=False, soft_wrap=True)
        if gate.detail:
            console.print(f"        [dim]{escape(gate.detail)}[/]", highlight=False, soft_wrap=True)
        failed += gate.passed is False
        passed += gate.passed is True
    console.print(f"  {passed} passed, {failed} failed", highlight=False)
    return failed == 0 and passed > 0
