"""What the runtime of the original SimplerEnv needs beyond packages: its sources, and a SAPIEN 2 that can draw.

Called by `memvla setup`. The simulator (ManiSkill2_real2sim, with models and pictures) and SimplerEnv, whose scripts
its protocol is checked against, are on no package index: they come from their public repositories at fixed commits, or
from a folder that holds both, named by `memvla setup SUITE sources=DIR` or MEMVLA_SOURCES. Standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envs.maniskill.driver import bring_driver, complaint

VARIABLE = "MEMVLA_SOURCES"
"""Names a folder that holds the trees of REPOSITORIES by name."""
PACKAGES = Path("lib/python3.11/site-packages")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Repository:
    """A source tree: its name, where it is public, the commit, and a file that proves a folder to be it."""

    name: str
    url: str
    commit: str
    proof: str


REPOSITORIES = (
    Repository(
        "ManiSkill2_real2sim",
        "https://github.com/simpler-env/ManiSkill2_real2sim",
        "ef7a4d4fdf4b69f2c2154db5b15b9ac8dfe10682",
        "mani_skill2_real2sim/envs/custom_scenes/base_env.py",
    ),
    Repository(
        "SimplerEnv",
        "https://github.com/simpler-env/SimplerEnv",
        "4ab7178e83e84ee06894034ec6dbf9e7aad1e882",
        "simpler_env/__init__.py",
    ),
)

DRAWS = (
    "import sapien.core as s; r = s.SapienRenderer(); e = s.Engine(); e.set_renderer(r); "
    "e.create_scene().add_camera('c', 8, 8, 1, 0.1, 10)"
)
"""Statements that fail where SAPIEN 2 finds no device to draw with."""
WANTED, OFFERED = b"VK_KHR_external_semaphore_fd\0", b"VK_KHR_external_semaphore\0\0\0\0"
"""An extension SAPIEN 2.2.2 asks of the driver without which it draws as well; Mesa's software driver lacks it."""


def sources_in(folder: Path) -> Path:
    """Where a runtime keeps its sources (it need not exist)."""
    return folder / "sources"


def prepare(folder: Path, say: Say) -> None:
    """Complete the environment `folder`. Raises RuntimeError naming the cure."""
    for repository in REPOSITORIES:
        _bring(repository, sources_in(folder) / repository.name, say)
    paths = "".join(f"{sources_in(folder) / repository.name}\n" for repository in REPOSITORIES)
    (folder / PACKAGES / "memvla-sources.pth").write_text(paths)
    if complaint(folder / "bin" / "python", {}, DRAWS):
        library = _library(folder)
        if _ask_for_less(library):
            say(f"  {library.name}: does without {WANTED.decode().rstrip(chr(0))}, which software drivers lack")
    bring_driver(folder, say, DRAWS)


def _bring(repository: Repository, target: Path, say: Say) -> None:
    shutil.rmtree(target, ignore_errors=True)
    given = os.environ.get(VARIABLE)
    if given:
        tree = Path(given).expanduser() / repository.name
        if not (tree / repository.proof).is_file():
            raise RuntimeError(
                f"{VARIABLE} names {given}, but {tree / repository.proof} is not there: the folder must hold "
                f"{' and '.join(each.name for each in REPOSITORIES)}"
            )
        say(f"  copying {repository.name} from {tree}")
        shutil.copytree(tree, target, ignore=shutil.ignore_patterns(".git"), symlinks=True)
        return
    say(f"  bringing {repository.name} {repository.commit[:9]} from {repository.url}")
    target.mkdir(parents=True)
    for words in (
        ["init", "--quiet"],
        ["fetch", "--quiet", "--depth", "1", repository.url, repository.commit],
        ["-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD"],
    ):
        _git(words, target, repository)
    shutil.rmtree(target / ".git")


def _git(words: list[str], folder: Path, repository: Repository) -> None:
    if not shutil.which("git"):
        raise RuntimeError(f"git is not installed, and {repository.name} is brought with it: apt-get install git")
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, env=quiet)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(
            f"{repository.name} cannot be brought from {repository.url} ({said}); where it cannot be reached, give a "
            f"folder that holds {' and '.join(each.name for each in REPOSITORIES)}: memvla setup SUITE sources=DIR"
        )


def _library(folder: Path) -> Path:
    found = sorted((folder / PACKAGES / "sapien.libs").glob("libsapien*.so*"))
    if not found:
        raise RuntimeError(f"no library of SAPIEN in {folder / PACKAGES / 'sapien.libs'}")
    return found[0]


def _ask_for_less(library: Path) -> bool:
    """Rename the extension to one that is there, where its name stands exactly once. The file keeps its size."""
    data = library.read_bytes()
    if data.count(WANTED) != 1:
        return False
    fresh = library.with_name(f"{library.name}.new")
    fresh.write_bytes(data.replace(WANTED, OFFERED))
    shutil.copymode(library, fresh)
    os.replace(fresh, library)
    return True
