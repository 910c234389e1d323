"""Where the benchmark's models and meshes lie. They are not part of this package."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "MEMVLA_CALVIN_ASSETS"
NEEDED = (
    "franka_panda/panda_longer_finger.urdf",
    "plane/plane.urdf",
    *(f"calvin_table_{scene}/urdf/calvin_table_{scene}.urdf" for scene in "ABCD"),
    *(f"blocks/block_{colour}_{size}.urdf" for colour in ("blue", "pink", "red") for size in ("big", "small")),
    *(f"blocks/block_{colour}_middle.urdf" for colour in ("pink", "red")),
)


class AssetsMissing(RuntimeError):
    """CALVIN's files are not where they should be. The message names the folder, the first missing file, the cure."""


def find_assets(folder: str = "") -> Path:
    """The benchmark's `data` folder: `folder`, else the one MEMVLA_CALVIN_ASSETS names, else assets/calvin under
    MEMVLA_HOME (~/.memvla). A folder that holds a folder `data` will do as well. Raises AssetsMissing."""
    home = Path(os.environ.get("MEMVLA_HOME") or Path.home() / ".memvla")
    chosen = Path(folder or os.environ.get(VARIABLE) or home / "assets" / "calvin").expanduser().resolve()
    found = chosen / "data" if (chosen / "data").is_dir() else chosen
    missing = [name for name in NEEDED if not (found / name).is_file()]
    if missing:
        raise AssetsMissing(
            f"CALVIN's models are not in {chosen}: {len(missing)} of {len(NEEDED)} files are missing, the first is "
            f"{missing[0]}; take the folder `data` of the repository mees/calvin_env and name it with "
            f"{VARIABLE}=FOLDER (or put it at {home / 'assets' / 'calvin'})"
        )
    return found
