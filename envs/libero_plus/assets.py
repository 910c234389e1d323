"""Where the benchmark's own assets lie: textures, lights and added objects that LIBERO does not have."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MEMVLA_LIBERO_PLUS_ASSETS"
ARCHIVE = "assets.zip of the data set Sylvest/LIBERO-plus on the Hugging Face hub"
CLASSIFICATION = "task_classification.json"
NEEDED = (
    "scenes/tabletop_table_Tiles01_COL_VAR1_6K.xml",
    "scenes/tabletop_light_sync_modified_187.xml",
    "new_objects/alarm_clock/cvknrh/usd/MJCF/cvknrh.xml",
)
"""One file of each kind: a texture, a light, an added object."""


class AssetsMissing(RuntimeError):
    """A folder that was named does not hold the assets. The message names it, the first missing file, the cure."""


def folder_of(folder: str = "") -> Path:
    """Where they are looked for, whether they are there or not."""
    home = Path(os.environ.get("MEMVLA_HOME") or Path.home() / ".memvla")
    chosen = Path(folder or os.environ.get(VARIABLE) or home / "assets" / "libero_plus").expanduser().resolve()
    return chosen.parent if chosen.name == "assets" and not (chosen / "assets").is_dir() else chosen


def find_assets(folder: str = "") -> Path | None:
    """The folder in which the benchmark's `assets` lie: `folder`, else the one MEMVLA_LIBERO_PLUS_ASSETS names, else
    assets/libero_plus under MEMVLA_HOME (~/.memvla); None where none was named and none is there.

    Raises AssetsMissing for a folder that was named and does not hold them.
    """
    chosen = folder_of(folder)
    missing = [name for name in NEEDED if not (chosen / "assets" / name).is_file()]
    if not missing:
        return chosen
    if not (folder or os.environ.get(VARIABLE)):
        return None
    raise AssetsMissing(
        f"LIBERO-Plus's own assets are not in {chosen}: assets/{missing[0]} is missing; unpack {ARCHIVE} there, or "
        f"leave {VARIABLE} unset to run the variants that LIBERO's assets are enough for"
    )
