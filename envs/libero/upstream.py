"""Everything that touches LIBERO's and robosuite's packages as packages: importing them safely, finding their files.

What their import does on its own, and what is done about it here:
- robosuite opens a log file at a fixed place in the temporary folder, which fails for the second user of a machine and
  mixes the lines of all workers: its file handler is put aside.
- robosuite and mujoco choose the OpenGL platform from variables read at import.
- LIBERO lets a file in the user's home redirect its assets: it is pointed away, so that a scene is what it is said
  to be.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError
from envs.libero import instruction
from envs.libero.renderer import choose_renderer

choose_renderer()
import mujoco as mujoco  # noqa: E402 - it reads the choice when it is imported; everyone here takes it from here

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaskFiles:
    """Where one task's scene comes from.

    problem: the bddl file; states: its initial states, float64 [N, 1 + nq + nv] (time, positions, velocities);
    instruction: the sentence policies are given.
    """

    name: str
    problem: Path
    states: Doubles
    instruction: str


@lru_cache(maxsize=1)
def libero() -> ModuleType:
    """The package `libero.libero.envs`, imported once and safely. Raises ImportError naming the cure."""
    os.environ["LIBERO_CONFIG_PATH"] = os.devnull
    try:
        with quietly():
            import robosuite

            envs = importlib.import_module("libero.libero.envs")
    except (ImportError, AttributeError) as error:  # PyOpenGL reports a missing libEGL as an AttributeError
        raise ImportError(
            f"LIBERO cannot be imported: {type(error).__name__}: {error}. Build its runtime with `memvla setup libero` "
            f"and run inside it; `memvla doctor` names system libraries that are missing"
        ) from error
    assert robosuite.__version__ == "1.4.0", robosuite.__version__
    return envs


@contextmanager
def quietly() -> Iterator[None]:
    """Import robosuite or what builds on it without its log file and its warnings."""
    kept: Any = logging.FileHandler
    logging.FileHandler = lambda *_, **__: logging.NullHandler()  # type: ignore[assignment, misc] # upstream opens a log file in the working folder
    logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.FileHandler = kept  # type: ignore[misc]


def task_names(suite: str) -> list[str]:
    """The tasks of a suite in the benchmark's own order."""
    libero()
    known = importlib.import_module("libero.libero.benchmark.libero_suite_task_map").libero_task_map
    return list(known[suite])


def task_files(suite: str, task: str) -> TaskFiles:
    """The files of one task. Raises SceneError for a task the suite does not have, or a file that is not there."""
    libero()
    names = task_names(suite)
    if task not in names:
        near = difflib.get_close_matches(task, names, n=2)
        raise SceneError(f"{suite} has no task {task!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    find = importlib.import_module("libero.libero").get_libero_path
    problem = Path(find("bddl_files")) / suite / f"{task}.bddl"
    states = Path(find("init_states")) / suite / f"{task}.pruned_init.npz"
    for path in (problem, states):
        if not path.is_file():
            raise SceneError(
                f"{suite}/{task}: file {path} is missing: the runtime is damaged; delete its folder and run "
                f"`memvla setup {suite}`"
            )
    with np.load(states, allow_pickle=False) as kept:
        values = np.asarray(kept["states"], dtype=np.float64)
    return TaskFiles(task, problem, values, instruction(task))
