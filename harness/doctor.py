"""`memvla doctor`: the state of everything a run needs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from envs import vulkan
from envs.assets import home
from envs.runtime import Runtime
from harness.assets import state
from harness.runtimes import CHANGES, RuntimeNotReady, folder_of, missing_libraries, probe, state_of
from suites.protocol import Suite, SuiteError, load_suite, suite_names

PACKAGES = ("memvla-bench", "ray", "pyzmq", "numpy", "mujoco", "gymnasium", "torch", "transformers", "diffusers")


def examine(console: Console) -> bool:
    """Print the state of machine, packages and simulators. Whether everything that is set up works."""
    _machine(console)
    _vulkan(console)
    _packages(console)
    fine = _runtimes(console)
    _assets(console)
    return fine


def _machine(console: Console) -> None:
    table = Table("machine", "", title_justify="left")
    table.add_row("system", platform.platform())
    table.add_row("python", f"{platform.python_version()} ({sys.executable})")
    table.add_row("CPUs", str(os.cpu_count()))
    table.add_row("GPU", gpu())
    for name, folder in (("disk, here", Path.cwd()), ("disk, runtimes", home())):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        usage = shutil.disk_usage(there)
        table.add_row(name, f"{usage.free / 2**30:.0f} GiB free of {usage.total / 2**30:.0f} ({folder})")
    console.print(table)


def gpu() -> str:
    """The NVIDIA GPUs of this machine in words."""
    if not shutil.which("nvidia-smi"):
        return "none found (no nvidia-smi)"
    ask = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(ask, capture_output=True, text=True, timeout=30)
    return "; ".join(done.stdout.split("\n")).strip("; ") or f"nvidia-smi failed: {done.stderr.strip()[:100]}"


def _vulkan(console: Console) -> None:
    """The driver that simulators on Vulkan draw with: the system's, and those that runtimes brought for themselves.

    A system's driver that is too old is no fault where the runtime has one of its own.
    """
    drawing = {suite.runtime.name: suite for suite in _loadable() if vulkan.LOADER in suite.runtime.libraries}
    if not drawing:
        return
    table = Table("Vulkan", "draws with", "")
    named = next((name for name in vulkan.VARIABLES if os.environ.get(name)), "")
    found, fit = _devices({})
    cure = vulkan.CURE.format(suite=next(iter(drawing)))
    table.add_row(f"named by {named}" if named else "system", found, "" if fit else cure)
    for name, each in drawing.items():
        own = sorted((folder_of(each.runtime) / "vulkan").glob("*.json"))
        if own and not named:
            found, fit = _devices(dict.fromkeys(vulkan.VARIABLES, str(own[0])))
            table.add_row(f"runtime {name}", found, _slow(each.runtime) if fit and "software" in found else "")
    console.print(table)


def _slow(runtime: Runtime) -> str:
    quick = (folder_of(runtime) / CHANGES).is_file()
    return "software; the first picture was made quick" if quick else vulkan.SLOW.format(suite=runtime.name)


def _devices(variables: dict[str, str]) -> tuple[str, bool]:
    """The devices in words, and whether SAPIEN can draw with the first."""
    try:
        found = vulkan.ask(variables)
    except RuntimeError as error:
        return f"[yellow]{error}[/]", False
    if not found:
        return "[yellow]no device[/]", False
    words = "\n".join(f"[{'green' if device.partially_bound else 'yellow'}]{device.said}[/]" for device in found)
    return words, found[0].partially_bound


def _packages(console: Console) -> None:
    table = Table("package", "version")
    for name in PACKAGES:
        try:
            table.add_row(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            table.add_row(name, "[yellow]not installed[/] (only needed by learned policies)")
    console.print(table)


def _runtimes(console: Console) -> bool:
    """One row per runtime. A runtime that is not set up is no fault; one that is set up and fails is."""
    table = Table("runtime", "suites", "state", "what its probe says")
    suites: dict[str, list[str]] = {}
    runtimes: dict[str, list[Runtime]] = {}  # benchmarks that share an environment have a probe each
    for name in suite_names():
        try:
            runtime = load_suite(name).runtime
        except SuiteError as error:
            table.add_row("?", name, f"[red]{error}[/]", "")
            continue
        alike = runtimes.setdefault(runtime.name, [])
        alike.extend([runtime] if runtime not in alike else [])
        suites.setdefault(runtime.name, []).append(name)
    fine = True
    for key, alike in runtimes.items():
        found = [_examine_one(runtime, suites[key][0]) for runtime in alike]
        fine = fine and all(works for _, _, works in found)
        states = dict.fromkeys(state for state, _, _ in found)
        said = dict.fromkeys(words for _, words, _ in found)
        table.add_row(key or "main", ", ".join(suites[key]), ", ".join(states), "\n".join(said))
    console.print(table)
    return fine


def _assets(console: Console) -> None:
    """One row for each benchmark's files that no package brings. Files that are not there are no fault."""
    table = Table("assets", "what", "state", "where, or what brings them")
    for assets in {each.name: each for suite in _loadable() for each in suite.runtime.assets}.values():
        words, where, there = state(assets)
        colour = "green" if there and "STAND" not in words else "yellow"
        only = f" (for {assets.optional} only)" if assets.optional else ""
        table.add_row(assets.name, f"{assets.title}{only}", f"[{colour}]{words}[/]", where)
    if table.rows:
        console.print(table)


def _loadable() -> Iterator[Suite]:
    for name in suite_names():
        with suppress(SuiteError):
            suite = load_suite(name)
            suite.module  # noqa: B018 - imports the adapter, which may be broken: told of in the table of runtimes
            yield suite


def _examine_one(runtime: Runtime, suite: str) -> tuple[str, str, bool]:
    state = state_of(runtime)
    lacking = missing_libraries(runtime)
    if lacking:
        return f"[yellow]{state}[/]", f"apt-get install {' '.join(sorted(set(lacking.values())))}", True
    if state != "ready":
        return f"[yellow]{state}[/]", f"memvla setup {suite}", True
    try:
        return "[green]ready[/]", probe(runtime) or str(folder_of(runtime) if runtime.name else ""), True
    except RuntimeNotReady as error:
        return "[red]broken[/]", str(error), False
