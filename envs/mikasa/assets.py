"""Where the one file of MIKASA-Robo lies that its package does not bring: the mug of the shell games (YCB 025_mug)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

VARIABLE = "MEMVLA_MIKASA_ASSETS"
MUG = Path("data/assets/mani_skill2_ycb")
NEEDED = (
    MUG / "info_pick_v0.json",
    MUG / "models/025_mug/textured.obj",
    MUG / "models/025_mug/collision.ply",
)

STAND_INS = frozenset({"07c74cbca19ba79760b153002cd81c391916cd8c3adc6030e1761b4d88654816"})
"""Digests of mugs that are known not to be the benchmark's own: made from measures, another shape and colour."""


class AssetsMissing(RuntimeError):
    """The mug is not where it should be. The message names the folder, the first missing file and the cure."""


def chosen_folder(folder: str = "") -> Path:
    """The folder that holds `data`: `folder`, else MEMVLA_MIKASA_ASSETS, else ManiSkill's own MS_ASSET_DIR, else
    assets/mikasa under MEMVLA_HOME (~/.memvla). It need not exist: most tasks need nothing of it."""
    home = Path(os.environ.get("MEMVLA_HOME") or Path.home() / ".memvla")
    named = folder or os.environ.get(VARIABLE) or os.environ.get("MS_ASSET_DIR") or home / "assets" / "mikasa"
    return Path(named).expanduser().resolve()


def require_mug(folder: Path) -> None:
    """Raise AssetsMissing unless the mug is in `folder`."""
    missing = [str(name) for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise AssetsMissing(
            f"the mug of the shell games (YCB object 025_mug) is not in {folder}: {missing[0]} is missing; bring it "
            f"with `MS_ASSET_DIR={folder} python -m mani_skill.utils.download_asset ycb` inside the runtime, or name "
            f"the folder that holds `data` with {VARIABLE}=FOLDER"
        )


def mug_digest(folder: Path) -> str:
    """SHA-256 over the mug's files, so that another mug is another scene."""
    digest = hashlib.sha256()
    for name in NEEDED:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def is_stand_in(folder: Path) -> bool:
    """Whether the mug is none of the benchmark's: known by its digest, or said so by a file STANDINS.json beside it."""
    return (folder / "STANDINS.json").is_file() or mug_digest(folder) in STAND_INS
