"""Runtime: what a simulator needs around it, known without importing it.

Every adapter package (`envs/<benchmark>/__init__.py`) exports three names:

    RUNTIME: Runtime                        which Python environment, libraries, variables and assets it needs
    describe(**options) -> EnvSpec          what it offers under the suite's `env` options; imports no simulator
    make(**options) -> VLAEnv               the simulator itself; imports it here and nowhere else

and may export three more, which import no simulator either:

    tasks(**options) -> list of tasks       as a suite file would list them: for a suite that says `tasks: adapter`
    not_covered(names, **options) -> dict   those of the tasks that cannot be run on this machine, and what they lack
    settle(**options) -> options            the options with what is left open (a back end) chosen by what this machine
                                            has; the choice is part of the protocol's fingerprint

A benchmark that can run on more than one simulator makes `RUNTIME` a function, RUNTIME(**options) -> Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envs.assets import Assets


@dataclass(frozen=True)
class Runtime:
    """The surroundings of one simulator.

    name: of the isolated Python environment (`""`: runs in the main one). requirements: a file with *every* package
    pinned, installed without dependency resolution. libraries: system libraries by the name the loader knows
    (`libEGL.so.1`) -> the Debian package that brings it. env_vars: set before its process starts. probe: Python
    statements that fail unless the environment works; they may print one line to show. prepare: called by
    `memvla setup` once the packages are in, with the environment's folder and a function that says a line: brings what
    no package index has (a graphics driver, say) into that folder; raises RuntimeError naming the cure. assets: files
    beside the packages, downloaded by `memvla setup` or named by the user. fast_first_frame: for
    `memvla setup --fast-cpu-first-frame`: makes the first picture of a process quick on a software renderer, the pixels
    proven the same; called with the environment's folder, says what it did; raises RuntimeError.
    """

    name: str = ""
    requirements: Path | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)
    probe: str = ""
    prepare: Callable[[Path, Callable[[str], None]], None] | None = None
    assets: tuple[Assets, ...] = ()
    fast_first_frame: Callable[[Path], str] | None = None
