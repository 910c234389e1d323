"""`memvla robot`: trials on a real robot, as episodes of a run like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from suites.protocol import Suite

HELP = """
Run a policy on a real robot: a person arranges each scene, watches over it, and grades what was achieved.

[bold]memvla robot suite=real_rehearsal policy=expert run.dir=results/rehearsal[/]
[bold]memvla robot suite=real_memory policy=memoryvla policy.checkpoint=DIR station=my_arm run.dir=results/arm[/]
[bold]memvla robot suite=real_memory policy=remote policy.protocol=memvla policy.url=URL station=my_arm run.dir=DIR[/]

Words are those of memvla run, and:
  [bold]station[/]                     module with describe() and connect(): see envs/real/station.py
  [bold]station.OPTION[/]              the station's own options

Control runs at the station's fixed rate, policy.execute (or protocol.execute) actions of each answer. Ctrl-C while the
robot moves is the emergency stop; the trial is then graded, or made void with a reason and repeated. Ctrl-C at a
question ends the session: the same command goes on with what is missing. Records, reports and tables are those of
memvla run.
"""


def register(app: typer.Typer, out: Console) -> None:
    """Add the verb `robot`."""

    @app.command("robot", help=HELP)
    def command(
        words: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    ) -> None:
        from harness import run as running
        from harness.cli import _report

        config = compose_robot(words)
        if dry_run:
            running.dry_run(config, out)
            return
        folder = Path(config.settings.run.dir)
        given = [] if any(word.startswith("run.dir=") for word in words) else [f"run.dir={folder}"]
        ended = running.run(config, out, ["memvla", "robot", *words, *given])
        if any((made / "manifest.json").exists() for made in ended.folders):
            _report([folder], folder)
        raise typer.Exit(ended.exit_code)


def compose_robot(words: Sequence[str]) -> Any:
    """The configuration of a session at the robot. Raises ConfigError or SuiteError before anything moves."""
    from harness.config import ConfigError, compose_run

    options, rest = station_of(words)
    if any(word.partition("=")[0] == "cluster" or word.startswith("cluster.") for word in rest):
        raise ConfigError("a robot is driven from this process: leave out cluster")
    config = compose_run([*rest, "cluster=inline"])
    for suite in config.suites:
        if suite.benchmark != "real":
            raise ConfigError(f"suite {suite.name} runs in a simulator: memvla run suite={suite.name}")
    return replace(config, suites=tuple(at_station(suite, options) for suite in config.suites))


def at_station(suite: Suite, options: Mapping[str, Any]) -> Suite:
    """The suite with a station's options. Raises SuiteError for a station that cannot be."""
    suite = replace(suite, env={**suite.env, **options})
    _ = suite.env_spec
    return suite


def station_of(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The options that `station=MODULE station.OPTION=VALUE` give to a suite of real robots, and all other words."""
    pairs = [(word.partition("=")[0], word) for word in words]
    ours = [word for key, word in pairs if key == "station" or key.startswith("station.")]
    given = (word.removeprefix("station.").partition("=") for word in ours)
    return {key: yaml.safe_load(value) for key, _, value in given}, [word for word in words if word not in ours]
