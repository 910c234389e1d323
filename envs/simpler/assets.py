"""Where the models, stages and pictures of SimplerEnv lie, and which of them are not the benchmark's own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from envs.assets import AssetsMissing, home
from envs.simpler.bridge import BridgeTask

VARIABLE = "MEMVLA_SIMPLER_ASSETS"
DATASET = Path("data/tasks/bridge_v2_real2sim_dataset")
ROBOT = Path("data/robots/widowx/wx250s.urdf")

STAND_INS = {
    "4e52f65bd46b217ae8b9d2402dbe8c91fd2a54553b950e04cda16b530be4f552": "table",
    "a6aa91e23841fba5bbeb00108b5826b8ac3d3a650218ae296f5bae94d26a099b": "table",
    "10081da572064b11696758d600471cd50c0f7026077c11bc9f3b898e16db12ea": "eggplant",
    "3bba1fe807c84c487b3ed1dfa2c193c5fe65b4a7a8317003de55c33b20ae2416": "blue_plastic_bottle",
    "8e30f7cd01f6ceac498c58f6bf6c15dff9fa6aa32eafece6a3e52a45a895f02e": "opened_redbull_can",
    "934a40a3112f9b0aa10fe4ea8c2c9376d679e1ef873a6da888cdc93ab0fe1721": "baked_opened_redbull_can_v2",
}
"""SHA-256 of files that are known not to be the benchmark's own -> what of a scene they stand in for."""


def chosen_folder(folder: str = "") -> Path:
    """The folder that holds `ms3` (for ManiSkill 3) and `ms2` (for the original): `folder`, else
    MEMVLA_SIMPLER_ASSETS, else assets/simpler under MEMVLA_HOME (~/.memvla). It need not exist."""
    return Path(folder or os.environ.get(VARIABLE) or home() / "assets" / "simpler").expanduser().resolve()


def maniskill3_folder(folder: str = "") -> Path:
    """The folder that ManiSkill 3 reads (it holds `data`): `ms3` of the chosen one; where no folder was named and it
    is not there, the one ManiSkill's own MS_ASSET_DIR names."""
    ours = chosen_folder(folder) / "ms3"
    named = folder or os.environ.get(VARIABLE)
    own = os.environ.get("MS_ASSET_DIR")
    return ours if named or ours.is_dir() or not own else Path(own).expanduser().resolve()


def maniskill3_files(folder: Path, task: BridgeTask) -> list[Path]:
    """What the task needs of ManiSkill 3's folder, by name. Raises AssetsMissing naming the first file that is not
    there and the command that brings it."""
    data = folder / DATASET
    custom = data / "custom"
    models = [custom / "models" / model / "collision.obj" for model in task.models]
    single = [custom / "info_bridge_custom_v0.json", data / "stages" / f"{task.stage}.glb"]
    single += [data / "real_inpainting" / f"{task.overlay}.png", folder / ROBOT]
    _need([*single, *models], folder, f"MS_ASSET_DIR={folder} python -m mani_skill.utils.download_asset", "ms3/data")
    return [*single, *(file for path in models for file in sorted(path.parent.iterdir()) if file.is_file())]


def original_folder(folder: str = "") -> Path:
    """The folder that the original reads (it holds `custom`, `hab2_bench_assets`, `real_inpainting`): `ms2` of the
    chosen one; where no folder was named and it is not there, `data` of the sources that setup brought."""
    ours = chosen_folder(folder) / "ms2"
    own = Path(sys.prefix) / "sources" / "ManiSkill2_real2sim" / "data"
    named = folder or os.environ.get(VARIABLE)
    return ours if named or ours.is_dir() or not own.is_dir() else own


def visual_of(model: Path) -> str:
    """Name of the mesh that is drawn, by upstream's order of choice; the last one where none is there."""
    names = ("textured.obj", "textured.dae", "textured.glb")
    return next((name for name in names if (model / name).is_file()), names[-1])


def need_original(folder: Path, names: Sequence[str]) -> list[Path]:
    """What a task needs of the original's folder: these files, and all that lies beside a model's. Raises
    AssetsMissing naming the first file that is not there."""
    for name in names:
        if not (folder / name).is_file():
            raise AssetsMissing(
                f"{name} is not in {folder}: it comes with the sources (memvla setup), or name the folder that holds "
                f"ms2/custom with {VARIABLE}=FOLDER"
            )
    models = [folder / name for name in names if name.endswith("collision.obj")]
    single = [folder / name for name in names if not name.endswith("collision.obj")]
    return [*single, *(file for path in models for file in sorted(path.parent.iterdir()) if file.is_file())]


def _need(files: Iterable[Path], folder: Path, command: str, inside: str) -> None:
    for file in files:
        if not file.is_file():
            raise AssetsMissing(
                f"{file.relative_to(folder)} is not in {folder}: bring the models with `{command} bridge_v2_real2sim "
                f"widowx250s` inside the runtime, or name the folder that holds {inside} with {VARIABLE}=FOLDER"
            )


@lru_cache(maxsize=4096)
def digest_of(file: Path) -> str:
    """SHA-256 of one file, computed once a process."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over names and contents, so that a scene of other models is another scene."""
    parts = "".join(f"{file.name} {digest_of(file)}\n" for file in files)
    return hashlib.sha256(parts.encode()).hexdigest()


def stand_ins(files: Sequence[Path]) -> set[str]:
    """What of these files is none of the benchmark's own: known by its digest, or listed by a file STANDINS.json in
    the folder above `ms3` or `ms2`. Named by what they stand in for: `table`, `eggplant` ..."""
    known = {STAND_INS[digest_of(file)] for file in files if digest_of(file) in STAND_INS}
    return known | {_kind(file) for file in files if file in _listed(file.parent)}


def _kind(file: Path) -> str:
    return "table" if file.parent.name == "stages" else file.parent.name


@lru_cache(maxsize=256)
def _listed(inside: Path) -> frozenset[Path]:
    """The files named by the list that lies in a folder above this one, if there is any."""
    for folder in inside.parents:
        note = folder / "STANDINS.json"
        if note.is_file():
            entries = json.loads(note.read_text()).get("standins", [])
            return frozenset(folder / str(entry["path"]).removeprefix(f"{folder.name}/") for entry in entries)
    return frozenset()
