"""Isolated Python environments for simulators: where they are, whether they are complete, and how to build them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from envs.assets import home, named_by, place
from envs.runtime import Runtime

PACKAGES = ("harness", "envs", "policies", "suites", "reports")
STAMP = "memvla-runtime.json"
CHANGES = "memvla-changes.json"
"""In an environment: what was changed in its packages at the user's wish. Its workers report it, so that it stands in
the manifest of every run."""


class RuntimeNotReady(RuntimeError):
    """A runtime that is not set up, or lacks a system library. The message names the command that mends it."""


def folder_of(runtime: Runtime) -> Path:
    """The virtual environment of an isolated runtime."""
    return home() / "runtimes" / runtime.name


def python_of(runtime: Runtime) -> Path:
    """The Python a worker of this runtime runs under; the present one for a runtime without a name."""
    return folder_of(runtime) / "bin" / "python" if runtime.name else Path(sys.executable)


def environment_of(runtime: Runtime) -> dict[str, str]:
    """Environment variables of its processes: our packages and the user's own on the path, what the simulator needs
    (what the user has set himself wins), and the folder of assets he named."""
    own = os.environ.get("PYTHONPATH", "")
    path = os.pathsep.join([str(source_view()), *(own.split(os.pathsep) if own else [])])
    needs = {name: os.environ.get(name, value) for name, value in runtime.env_vars.items()}
    return {"PYTHONPATH": path, **needs, **{a.variables[0]: str(place(a)) for a in runtime.assets if named_by(a)}}


def wanted_stamp(runtime: Runtime) -> dict[str, str]:
    """What must hold of a complete environment."""
    text = _pins(runtime.requirements) if runtime.requirements else b""
    return {"requirements": hashlib.sha256(text).hexdigest(), "python": platform.python_version()}


def _pins(requirements: Path) -> bytes:
    """The text of a file of requirements, then that of each file it takes in by a line `-r FILE`."""
    text = requirements.read_bytes()
    taken = [line.split()[1] for line in text.decode().splitlines() if line.startswith("-r ")]
    return b"".join([text, *(_pins(requirements.parent / name) for name in taken)])


def missing_libraries(runtime: Runtime) -> dict[str, str]:
    """System libraries of the runtime that the loader cannot find: name -> Debian package."""
    script = "import ctypes, sys\nfor n in sys.argv[1:]:\n try: ctypes.CDLL(n)\n except OSError: print(n)"
    names = list(runtime.libraries)
    if not names:
        return {}
    found = subprocess.run([sys.executable, "-c", script, *names], capture_output=True, text=True, check=True)
    return {name: runtime.libraries[name] for name in found.stdout.split()}


def state_of(runtime: Runtime) -> str:
    """`ready`, or what is missing in a few words."""
    if runtime.name:
        stamp = folder_of(runtime) / STAMP
        if not stamp.is_file():
            return "not set up"
        if json.loads(stamp.read_text()) != wanted_stamp(runtime):
            return "out of date"
    lacking = missing_libraries(runtime)
    return f"system libraries missing: {', '.join(sorted(set(lacking.values())))}" if lacking else "ready"


def require(runtime: Runtime, suite: str) -> None:
    """Raise RuntimeNotReady unless the runtime is complete."""
    state = state_of(runtime)
    if state == "ready":
        return
    lacking = missing_libraries(runtime)
    apt = f"apt-get install {' '.join(sorted(set(lacking.values())))}, then: " if lacking else ""
    raise RuntimeNotReady(
        f"suite {suite} cannot run here: runtime {runtime.name!r} is {state}; {apt}memvla setup {suite}"
    )


def build(runtime: Runtime, say: Callable[[str], None] = print) -> None:
    """Make the isolated environment from its pinned requirements; does nothing when it is complete already.

    Uses uv where present, else venv and pip. Raises RuntimeNotReady when a system library is missing or the
    installation fails; an environment that was cut short is rebuilt from nothing.
    """
    lacking = missing_libraries(runtime)
    if lacking:
        packages = " ".join(sorted(set(lacking.values())))
        raise RuntimeNotReady(
            f"system libraries are missing: {', '.join(sorted(lacking))}; install them with: apt-get install {packages}"
        )
    if not runtime.name:
        say("runs in the main environment: nothing to build")
        return
    folder = folder_of(runtime)
    if state_of(runtime) == "ready":
        say(f"{folder} is complete")
        return
    assert runtime.requirements is not None
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    say(f"building {folder}")
    for command in _commands(folder, runtime.requirements):
        _run(command, say)
    if runtime.prepare is not None:
        try:
            runtime.prepare(folder, say)
        except RuntimeError as error:
            raise RuntimeNotReady(f"runtime {runtime.name!r} could not be completed: {error}") from error
    probe(runtime)
    stamp = folder / STAMP
    stamp.write_text(json.dumps(wanted_stamp(runtime), indent=1))


def quicken(runtime: Runtime, say: Callable[[str], None] = print) -> None:
    """Make the first picture quick, where the runtime offers it. Raises RuntimeNotReady where it cannot be done."""
    if runtime.fast_first_frame is None:
        say("this runtime has no slow first picture to make quick")
        return
    folder = folder_of(runtime)
    try:
        done = runtime.fast_first_frame(folder)
    except RuntimeError as error:
        raise RuntimeNotReady(f"runtime {runtime.name!r} is left as it is: {error}") from error
    (folder / CHANGES).write_text(json.dumps({"fast_first_frame": done}))
    say(f"  first picture made quick: {done}")


def _commands(folder: Path, requirements: Path) -> list[list[str]]:
    # Every package is pinned, so nothing is resolved: pip and uv give the same environment.
    uv = shutil.which("uv")
    python = str(folder / "bin" / "python")
    if uv:
        return [
            [uv, "venv", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "--python", python, "--no-deps", "-r", str(requirements)],
        ]
    install = [python, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--progress-bar", "off"]
    return [[sys.executable, "-m", "venv", str(folder)], [*install, "-r", str(requirements)]]


def _run(command: list[str], say: Callable[[str], None]) -> None:
    """Run a command, passing on one line in ten of what it says so that long installs show life."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        tail: list[str] = []
        for line in process.stdout:
            tail = [*tail[-20:], line.rstrip()]
            if line.startswith(("Collecting", "Downloading", "Installing", " + ", "Successfully")):
                say("  " + line.strip()[:110])
    if process.returncode:
        raise RuntimeNotReady(f"{' '.join(command[:4])} … failed with code {process.returncode}:\n" + "\n".join(tail))


def probe(runtime: Runtime) -> str:
    """Run the runtime's probe in its environment; returns what it prints. Raises RuntimeNotReady with its error."""
    if not runtime.probe:
        return ""
    variables = {**os.environ, **environment_of(runtime)}
    command = [str(python_of(runtime)), "-c", runtime.probe]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=600)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeNotReady(f"the probe of runtime {runtime.name or 'main'!r} failed: {last}")
    return done.stdout.strip()


def source_view() -> Path:
    """A folder that holds our packages and nothing else, for the PYTHONPATH of an isolated environment.

    An installed copy lies among the main environment's packages, which must not leak into another one.
    """
    origin = {name: _folder_of_package(name) for name in PACKAGES}
    key = hashlib.sha256(json.dumps({n: str(p) for n, p in origin.items()}).encode()).hexdigest()[:12]
    view = home() / "source" / key
    view.mkdir(parents=True, exist_ok=True)
    for name, target in origin.items():
        link = view / name
        if not link.is_symlink():
            link.symlink_to(target)
    return view


def _folder_of_package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).resolve().parent
