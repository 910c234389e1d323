"""`memvla setup`: Python environments and assets of suites, built and brought; safe to repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from envs.assets import Assets
from harness.assets import AssetError, bring
from harness.downloads import DownloadError, Progress
from harness.progress import LINE_EVERY_S
from harness.runtimes import build, missing_libraries, quicken
from suites.protocol import Suite, SuiteError, load_suite, suite_names


def suite_called(name: str) -> Suite:
    """The suite of that name, or the first one of the benchmark, runtime or assets of that name. Raises SuiteError."""
    names = suite_names()
    if name in names:
        return load_suite(name)
    for suite in map(load_suite, names):
        if name in (suite.benchmark, suite.runtime.name, *(each.name for each in suite.runtime.assets)):
            return suite
    return load_suite(name)  # raises, suggesting the nearest


def setup(words: Sequence[str], console: Console, *, with_assets: bool = True, quick: bool = False) -> None:
    """Build what the suites named by `words` need, then bring their assets.

    words: suites, and OPTION=DIR naming a folder for the one set of assets that has this option. quick: make the first
    picture on a software renderer quick. Raises SuiteError,
    AssetError, DownloadError, UnpackError or RuntimeNotReady. Assets that only some tasks need and that cannot be
    reached are told of and passed over.
    """

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    suites, named = _read(words)
    chosen = _choices(named, _assets_of(suites))
    for name, runtime in {suite.runtime.name: suite.runtime for suite in suites}.items():
        console.print(f"[bold]{name or 'main'}[/]")
        build(runtime, say)
        if quick:
            quicken(runtime, say)
    for assets in _assets_of(suites) if with_assets or chosen else ():
        try:
            with _display(console) as show:
                bring(assets, say, show, chosen.get(assets.name, ""))
        except (DownloadError, AssetError) as error:
            if not assets.optional or assets.name in chosen:
                raise
            console.print(f"[yellow]not brought:[/] needed by {assets.optional} only", highlight=False)
            say(str(error))


def missing_packages(words: Sequence[str]) -> list[str]:
    """Debian packages that the suites' runtimes still lack."""
    suites, _ = _read(words)
    return sorted({package for suite in suites for package in missing_libraries(suite.runtime).values()})


def _read(words: Sequence[str]) -> tuple[list[Suite], dict[str, str]]:
    suites = [suite_called(word) for word in words if "=" not in word]
    options = {name: value for name, _, value in (word.partition("=") for word in words if "=" in word)}
    if not suites:
        raise SuiteError("memvla setup needs the name of a suite; see memvla suites")
    return suites, options


def _assets_of(suites: Iterable[Suite]) -> list[Assets]:
    return list({assets.name: assets for suite in suites for assets in suite.runtime.assets}.values())


def _choices(options: dict[str, str], known: list[Assets]) -> dict[str, str]:
    """Folder or file that was named, by name of the assets. Raises AssetError where the option fits none or several."""
    chosen = {}
    for option, value in options.items():
        fitting = [assets for assets in known if assets.option == option]
        if len(fitting) != 1:
            there = ", ".join(f"{assets.name} ({assets.option}=)" for assets in known) or "none"
            raise AssetError(f"{option}={value} must fit the assets of one suite; those that can be named: {there}")
        chosen[fitting[0].name] = value
    return chosen


@contextmanager
def _display(console: Console) -> Iterator[Callable[[str], Progress]]:
    """A bar for each piece of work on a terminal, a line every few seconds in a pipe. Counts of files and of bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:

        def show(name: str) -> Progress:
            task = bar.add_task(name, total=None)
            said = time.monotonic()

            def progress(done: int, total: int) -> None:
                nonlocal said
                bar.update(task, completed=done, total=total or None)
                if not console.is_terminal and time.monotonic() - said > LINE_EVERY_S:
                    said = time.monotonic()
                    share = f" of {total:,} ({100 * done // total} %)" if total else ""
                    console.print(f"  {name}: {done:,}{share}", highlight=False, markup=False)

            return progress

        yield show
