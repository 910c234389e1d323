"""What the runtime of the original SimplerEnv needs beyond packages: a SAPIEN 2 that can draw. Standard library only.

The simulator itself is on no package index; it is among the assets (envs.simpler.assets).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from envs.maniskill.driver import bring_driver, complaint

PACKAGES = Path("lib/python3.11/site-packages")
Say = Callable[[str], None]

DRAWS = (
    "import sapien.core as s; r = s.SapienRenderer(); e = s.Engine(); e.set_renderer(r); "
    "e.create_scene().add_camera('c', 8, 8, 1, 0.1, 10)"
)
"""Statements that fail where SAPIEN 2 finds no device to draw with."""
WANTED, OFFERED = b"VK_KHR_external_semaphore_fd\0", b"VK_KHR_external_semaphore\0\0\0\0"
"""An extension SAPIEN 2.2.2 asks of the driver without which it draws as well; Mesa's software driver lacks it."""


def prepare(folder: Path, say: Say) -> None:
    """Complete the environment `folder`. Raises RuntimeError naming the cure."""
    if complaint(folder / "bin" / "python", {}, DRAWS):
        library = _library(folder)
        if _ask_for_less(library):
            say(f"  {library.name}: does without {WANTED.decode().rstrip(chr(0))}, which software drivers lack")
    bring_driver(folder, say, DRAWS)


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
