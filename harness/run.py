"""`memvla run`: from a composed configuration to run folders, and what the exit code says of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import driver
from harness.assets import require_assets
from harness.cluster import Cluster, InlineCluster, RayCluster, kill_descendants
from harness.config import RunConfig
from harness.plan import scenes
from harness.progress import Progress, say_command
from harness.runs import Run, open_run, tasks_of
from harness.runtimes import require
from harness.throughput import expect, known

OK, NOT_COVERED, INTERRUPTED = 0, 2, 130
SHOW_CURSOR = "\x1b[?25h"

# Seconds per episode where nothing has been measured here yet: rough figures for a dry run on two CPU cores.
GUESS_S = {"lab": 0.2, "libero": 30.0}


@dataclass(frozen=True)
class Ended:
    """How a command of runs ended."""

    folders: tuple[Path, ...]
    exit_code: int


def run(config: RunConfig, console: Console, command: Sequence[str]) -> Ended:
    """Run or resume everything the configuration asks for. Errors of the user are raised before anything starts."""
    for suite in config.suites:
        require(suite.runtime, suite.name)
        require_assets(suite)
    with ExitStack() as stack:
        runs = []
        for policy in config.policies:
            runs.append(opened := open_run(config, policy))
            stack.callback(opened.close)
        code = OK
        if any(one.missing(suite) for one in runs for suite in one.planned):
            code = _carry_out(config, runs, console, command)
        else:
            console.print("every planned episode is recorded already: nothing to run")
        _say_coverage(runs, console)
        if code == OK and any(done < planned for done, planned in (one.coverage() for one in runs)):
            code = NOT_COVERED
        return Ended(tuple(one.folder for one in runs), code)


def _carry_out(config: RunConfig, runs: list[Run], console: Console, command: Sequence[str]) -> int:
    try:
        with started(config, console) as cluster, Progress(console) as progress:
            driver.carry_out(config, runs, cluster, progress)
    except KeyboardInterrupt:
        console.print("\nstopped: live episodes were dropped, finished ones are recorded. Resume with:")
        say_command(console, command)
        return INTERRUPTED
    except driver.TooManyVoids as error:
        console.print(f"[bold red]stopped:[/] {escape(str(error))}", soft_wrap=True)
        return NOT_COVERED
    return OK


@contextmanager
def started(config: RunConfig, console: Console) -> Iterator[Cluster]:
    """The cluster of the configuration, stopped at the end whatever happens."""
    rules = config.settings.cluster
    cluster: Cluster
    if rules.kind == "inline" and rules.address is None:
        cluster = InlineCluster()
    else:
        where = f"joining Ray at {rules.address}" if rules.address else "starting Ray on this machine"
        begun = time.monotonic()
        with console.status(f"{where} …"):
            workers = driver.worker_count(config.settings)
            cluster = RayCluster(
                address=rules.address,
                cpus=workers + 1,
                gpus_per_host=rules.gpus_per_host,
                gpus_per_worker=rules.gpus_per_worker,
            )
        console.print(f"{where}: ready after {time.monotonic() - begun:.1f} s", highlight=False)
    try:
        with _heeding_signals(console):
            cluster.require_gpus(rules.hosts, driver.worker_count(config.settings), config.settings.limits.build)
            yield cluster
    finally:
        cluster.stop()


@contextmanager
def _heeding_signals(console: Console) -> Iterator[None]:
    """Ctrl-C or SIGTERM once: KeyboardInterrupt, and everything is ended in order. Twice: this process ends at once,
    and all that it started.

    Handlers last until the process has ended in order, so that a second Ctrl-C counts while workers are being stopped.
    """
    kinds = [kind for kind in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(kind) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        kinds = []

    def second(*_: object) -> None:
        for kind in kinds:
            signal.signal(kind, signal.SIG_IGN)
        said = "\nstopped at once: finished episodes are recorded, the same command runs the rest\n"
        # Straight to the terminal: this may have cut short a line that was being printed, and what waits behind that
        # line in the console's buffer would never come out.
        with suppress(OSError, ValueError):
            os.write(console.file.fileno(), f"{SHOW_CURSOR if console.is_terminal else ''}{said}".encode())
        kill_descendants()
        os._exit(INTERRUPTED)

    def first(*_: object) -> None:
        for kind in kinds:
            signal.signal(kind, second)
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, first) for kind in kinds}
    stopped = False
    try:
        yield
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        if not stopped:
            for kind, handler in before.items():
                signal.signal(kind, handler)


def _say_coverage(runs: list[Run], console: Console) -> None:
    for one in runs:
        done, planned = one.coverage()
        for plan in one.manifest.suites:
            for reason, tasks in plan.not_covered.items():
                console.print(
                    f"[bold]not covered:[/] {len(tasks)} tasks of {plan.name}: {escape(reason)}", soft_wrap=True
                )
        if done < planned:
            left = sum(len(one.missing(suite)) for suite in one.planned)
            console.print(
                f"[bold red]coverage {done}/{planned}[/]: {planned - done} scenes of {one.policy.name} have no scored "
                f"episode" + ("; run the same command again to try them" if left else ""),
                soft_wrap=True,
            )


def dry_run(config: RunConfig, console: Console) -> None:
    """Print what would run: scenes, protocol fingerprints, and a rough estimate of the time."""
    table = Table(title="plan", title_justify="left")
    for column in (
        "policy",
        "suite",
        "tasks",
        "trials",
        "episodes",
        "first scene",
        "last scene",
        "protocol",
        "runtime",
    ):
        table.add_column(column, justify="right" if column in ("tasks", "trials", "episodes") else "left")
    workers = driver.worker_count(config.settings)
    hours, guessed = 0.0, False
    for policy in config.policies:
        for suite in config.suites:
            tasks = tasks_of(suite, config.settings.run)
            if not tasks:
                continue
            trials = config.trials(suite)
            planned = scenes(suite, trials, tasks)
            if measured := known(suite, policy):
                hours += len(planned) / expect(measured, workers, config.settings.cluster.max_batch).per_hour
            else:
                hours += len(planned) * GUESS_S.get(suite.benchmark, 30.0) / workers / 3600
                guessed = True
            name = suite.runtime.name or "main"
            row = (len(tasks), trials, len(planned), planned[0], planned[-1], suite.fingerprint(), name)
            table.add_row(policy.name, suite.name, *map(str, row))
    console.print(table)
    how = (
        "a rough guess from the benchmark alone: memvla tune with the same words measures" if guessed else "as measured"
    )
    console.print(
        f"about {60 * hours:.0f} minutes on {workers} worker{'s' * (workers > 1)} ({how})",
        highlight=False,
        soft_wrap=True,
    )
