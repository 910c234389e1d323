"""The command `memvla`. Verbs import what they need when they run, so that help and lists are quick."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from harness import collecting, new, reporting, robot, serve

app = typer.Typer(
    name="memvla",
    help="Evaluate robot policies that remember: LIBERO(-Plus), SimplerEnv, MIKASA-Robo, CALVIN and the lab benchmark.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
# A pipe has no width of its own: 80 columns would cut the tables.
out = Console(width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True)

RUN_HELP = """
Run policies on suites, or resume a run: exactly the missing episodes run.

[bold]memvla run suite=lab_memory policy=expert[/]
[bold]memvla run suite=lab_general,lab_memory policy=expert,random run.trials=5 run.dir=results/first[/]
[bold]memvla run suite=libero_object policy=expert run.trials=5 cluster.workers=2[/]

Words are key=value, lists are separated by commas:
  [bold]suite[/]                       one or more; see memvla suites
  [bold]policy[/], policy.OPTION       one or more, each with a run of its own; see memvla policies
  [bold]run.dir[/]                     folder of the runs (results/DATE_TIME); an existing one is resumed
  [bold]run.trials[/], run.tasks=[...] scenes per task; only these tasks
  [bold]run.tags[/], run.sample        only tasks with these tags, as in [dimension:sensor_noise]; only so many, evenly
  [bold]run.seed[/]                    all randomness of policies comes from it (0)
  [bold]run.attempts[/], run.max_void  attempts at a scene that stays void (3); share of voids that stops the run
  [bold]run.videos[/], run.film_every  trials filmed per task (1); steps between two frames (2)
  [bold]cluster[/]=local|inline        Ray on this machine, or this process alone
  [bold]cluster.address[/]             join a Ray cluster: HOST:PORT or auto
  [bold]cluster.workers[/], .max_batch simulators at once (one per CPU); episodes in one policy call (16)
  [bold]cluster.hosts[/], .gpus_per_host   policy hosts (1); GPUs reserved for each, fractions allowed (0)
  [bold]cluster.gpus_per_worker[/]     GPU reserved for each simulator to draw on, as 0.1 for ten to a GPU (0)
  [bold]cluster.recycle_episodes[/], .recycle_growth_mb   when a worker is replaced
  [bold]limits.PHASE[/]                seconds until a phase counts as hung: build reset step draw policy start end
  [bold]protocol.FIELD[/]              change the suites' protocol; changes its fingerprint, so results stand apart

Exit code: 0 every planned episode is scored; 2 some are not; 1 a mistake in command or set-up; 130 Ctrl-C.
"""


TRAIN_HELP = """
Train a policy, a world model or a stage before them, or resume a training: the same command on the same folder goes on.

[bold]memvla train stage=policy recipe=bridge_memoryvla train.dir=trained/memoryvla data=demos[/]
[bold]memvla train stage=world_model recipe=libero_memoryvla_pp train.dir=trained/world train.processes=8 data=DIR[/]

Words are key=value; all but these are options of the recipe's stage (see its file):
  [bold]recipe[/]                      name or YAML file; see policies/training/recipes
  [bold]stage[/]                       which of the recipe's stages (may be left out if it has one)
  [bold]train.dir[/]                   folder of the training
  [bold]train.updates[/]               of the weights, in all
  [bold]train.lr[/], .betas, .weight_decay, .clip, .ema      of AdamW; largest gradient; decay of averaged weights
  [bold]train.schedule[/]=constant|cosine, .warmup, .cooldown, .lr_final
  [bold]train.device[/], .precision, .activations=keep|language|blocks, .threads
  [bold]train.processes[/], .shard_over, .accumulate, .address   several GPUs with Ray Train and FSDP2; parts of a batch
  [bold]train.state_every[/], .state_minutes   when the state is written from which a training is resumed
  [bold]train.checkpoint_every[/]      checkpoints/update-N on the way (checkpoint/ is written at the end)
  [bold]train.log_every[/], .tensorboard, .draw_threads, .draw_ahead
  [bold]train.evaluate.every[/], .suite, .trials, .policy, .overrides   runs of the harness on the way

The folder then holds log.csv (update, losses, lr, gradient norm, frames/s, seconds), tensorboard/, state/, checkpoint/.
Ctrl-C and SIGTERM finish the update, write the state and say how to go on.

Exit code: 0 all updates are made; 1 a mistake in command or set-up, or a loss that is no number; 130 stopped.
"""


@app.command(help=RUN_HELP)
def run(
    overrides: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    report: Annotated[bool, typer.Option(help="Print the table and write the report at the end.")] = True,
) -> None:
    from harness import run as running
    from harness.config import compose_run

    config = compose_run(overrides)
    if dry_run:
        running.dry_run(config, out)
        return
    command = ["memvla", "run", *overrides]
    if not any(word.startswith("run.dir=") for word in overrides):
        command.append(f"run.dir={config.settings.run.dir}")
    ended = running.run(config, out, command)
    if report and any((folder / "manifest.json").exists() for folder in ended.folders):
        _report([Path(config.settings.run.dir)], Path(config.settings.run.dir))
    raise typer.Exit(ended.exit_code)


@app.command()
def tune(
    overrides: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
) -> None:
    """Measure a suite and a policy for a few episodes, and say how many workers are best and what a run will take.

    [bold]memvla tune suite=libero_object policy=memoryvla_pp policy.checkpoint=DIR[/]

    Takes the words of memvla run. `memvla run … --dry-run` then estimates from what was measured.
    """
    from harness.config import compose_run
    from harness.tune import tune as measure

    measure(compose_run(overrides), out)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders that hold some.", metavar="RUN...")],
    to: Annotated[Optional[Path], typer.Option(help="Folder for the report (default: the first RUN).")] = None,  # noqa: UP045
) -> None:
    """Print the table of one or more runs, and write report.html, .md, .tex, .csv and .parquet."""
    _report(runs, to or runs[0])


def _report(runs: list[Path], to: Path) -> None:
    from reports.report import build

    made = build(runs)
    made.terminal(out)
    for path in made.write(to):
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)


@app.command()
def repair(
    runs: Annotated[list[Path], typer.Argument(help="Run folders whose records are damaged.", metavar="RUN...")],
) -> None:
    """Keep what can still be read of damaged records; what is missing then runs again on resume.

    The damaged file stays beside the new one. Sound records are left alone.
    """
    from reports.repair import repair as mend

    for folder in runs:
        done = mend(folder)
        found = f"{done.kept} attempts kept; what else there was runs again. The damaged file is {done.damaged}"
        said = f"sound ({done.kept} attempts), nothing was changed" if done.damaged is None else found
        out.print(f"{folder}: {said}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def suites(name: Annotated[Optional[str], typer.Argument(help="Show the tasks of one suite.")] = None) -> None:  # noqa: UP045
    """List the suites, or the tasks and protocol of one."""
    from suites.protocol import load_suite, suite_names

    if name is not None:
        _show_suite(load_suite(name))
        return
    table = Table("suite", "title", "tasks", "trials", "steps", "runtime", "protocol")
    for column in table.columns:
        column.no_wrap = column.header in ("suite", "protocol")
    for each in suite_names():
        suite = load_suite(each)
        rules = suite.protocol
        limits = {suite.max_steps(task.name) for task in suite.tasks}
        steps = str(max(limits)) if len(limits) == 1 else f"{min(limits)}-{max(limits)}"
        runtime = suite.runtime.name or "main"
        table.add_row(
            suite.name, suite.title, str(len(suite.tasks)), str(rules.trials), steps, runtime, suite.fingerprint()
        )
    out.print(table)


def _show_suite(suite: Any) -> None:
    out.print(f"[bold]{suite.name}[/] {suite.title} (version {suite.version}, protocol {suite.fingerprint()})")
    for key, value in vars(suite.protocol).items():
        out.print(f"  {key}: {value}", highlight=False)
    table = Table("task", "steps", "instruction", "tags")
    for task in suite.tasks:
        tags = ", ".join(f"{key}={value}" for key, value in task.tags.items())
        table.add_row(task.name, str(suite.max_steps(task.name)), task.instruction, tags)
    out.print(table)


@app.command()
def policies() -> None:
    """List the policies and their options."""
    from harness.config import POLICY_WORDS, load_policy_file, policy_files

    table = Table("policy", "title", "options (policy.NAME=VALUE)")
    for name, path in policy_files().items():
        data = load_policy_file(path)
        options = ", ".join(f"{key}={value}" for key, value in data.items() if key not in POLICY_WORDS)
        table.add_row(name, str(data["title"]), options)
    out.print(table)


@app.command()
def setup(
    suites: Annotated[list[str], typer.Argument(help="Suites or benchmarks, and assets=DIR.", metavar="SUITE...")],
    list_apt: Annotated[bool, typer.Option("--list-apt", help="Only print the Debian packages still missing.")] = False,
    assets: Annotated[bool, typer.Option(help="Also bring the benchmark's files from their official places.")] = True,
    quick: Annotated[
        bool,
        typer.Option("--fast-cpu-first-frame", help="SAPIEN without a GPU: seconds instead of a minute, same pixels."),
    ] = False,
) -> None:
    """Build the Python environment of suites from pinned requirements, and bring their assets. Safe to repeat.

    [bold]memvla setup calvin assets=DIR[/] takes the assets from a folder that you have (or an archive: FILE.zip).
    """
    from harness.setup import missing_packages
    from harness.setup import setup as bring_all

    if list_apt:
        print(" ".join(missing_packages(suites)))
        return
    bring_all(suites, out, with_assets=assets, quick=quick)


@app.command()
def doctor() -> None:
    """Show the state of everything: simulators, renderers, GPU, Ray, disk, versions."""
    from harness.doctor import examine

    raise typer.Exit(0 if examine(out) else 1)


@app.command()
def check(
    overrides: Annotated[list[str], typer.Argument(metavar="policy=NAME|suite=NAME...", show_default=False)],
) -> None:
    """Run the gates on a policy or a suite, also on one of your own: memory rules, determinism, contracts.

    [bold]memvla check policy=expert[/]  (on suite=lab_general unless another is named)

    [bold]memvla check suite=libero_object[/]  (on a sample of 3 tasks; check.tasks=N looks at more or fewer)
    """
    from harness.check import check_command

    raise typer.Exit(0 if check_command(overrides, out) else 1)


@app.command(help=TRAIN_HELP)
def train(
    overrides: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
) -> None:
    from harness.training import train_command

    raise typer.Exit(train_command(overrides, out))


reporting.register(app, out)
serve.register(app, out)
collecting.register(app, out)
new.register(app, out)
robot.register(app, out)


def main() -> None:
    """Entry point: a user's mistake is one clear message and exit code 1; anything else shows its traceback."""
    try:
        app()
    except Exception as error:
        if not is_mistake(error):
            raise
        tell(error)
        sys.exit(1)


def tell(error: Exception) -> None:
    """A user's mistake as one message."""
    err.print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True, highlight=False)


def is_mistake(error: Exception) -> bool:
    """Whether the error is of a kind whose message was written for users."""
    from envs.assets import AssetsMissing
    from harness.assets import AssetError
    from harness.cluster import ClusterError
    from harness.config import ConfigError
    from harness.downloads import DownloadError
    from harness.plan import PlanError
    from harness.runtimes import RuntimeNotReady
    from harness.unpacking import UnpackError
    from policies.base import PolicyError
    from policies.training.demos import DemoError
    from reports.manifest import ManifestError
    from reports.records import RecordError
    from reports.summary import ReportError
    from suites.protocol import SuiteError

    asked = (ConfigError, PlanError, SuiteError, PolicyError, DemoError)
    surroundings = (ClusterError, RuntimeNotReady, ManifestError, RecordError, ReportError)
    files = (AssetsMissing, AssetError, DownloadError, UnpackError)
    kinds = (*asked, *surroundings, *files)
    disk = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    return isinstance(error, kinds) or (isinstance(error, OSError) and error.errno in disk)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
