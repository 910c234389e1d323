"""Models, stages and pictures of SimplerEnv, and the sources of the original: which, from where, and where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from envs.assets import Archive, Assets, AssetsMissing, cure, stand_ins
from envs.simpler.bridge import TASKS, BridgeTask

VARIABLE = "MEMVLA_SIMPLER_ASSETS"
"""Names a folder that holds `ms3` (for ManiSkill 3) or `ms2` (for the original), or one of the two."""
DATASET = Path("data/tasks/bridge_v2_real2sim_dataset")
ROBOT = Path("data/robots/widowx/wx250s.urdf")
SIMULATOR = Path("ManiSkill2_real2sim")
PROTOCOL = Path("SimplerEnv")

_INFO = "custom/info_bridge_custom_v0.json"
_OVERLAYS = sorted({f"real_inpainting/{task.overlay}.png" for task in TASKS.values()})
_STAGES = sorted({f"{task.stage}.glb" for task in TASKS.values()})
_BODIES = sorted({f"custom/models/{model}/collision.obj" for task in TASKS.values() for model in task.models})
_MADE = {
    "4e52f65bd46b217ae8b9d2402dbe8c91fd2a54553b950e04cda16b530be4f552": "two boxes: a table top and a floor",
    "a6aa91e23841fba5bbeb00108b5826b8ac3d3a650218ae296f5bae94d26a099b": "three boxes: a counter, its body, a floor",
    "10081da572064b11696758d600471cd50c0f7026077c11bc9f3b898e16db12ea": "the collision mesh in one purple",
    "3bba1fe807c84c487b3ed1dfa2c193c5fe65b4a7a8317003de55c33b20ae2416": "the collision mesh in one colour",
    "8e30f7cd01f6ceac498c58f6bf6c15dff9fa6aa32eafece6a3e52a45a895f02e": "the collision mesh in one colour",
    "934a40a3112f9b0aa10fe4ea8c2c9376d679e1ef873a6da888cdc93ab0fe1721": "the collision mesh in one colour",
}

BRIDGE = Assets(
    name="simpler",
    title="SimplerEnv-Bridge's models, stages and pictures, and its robot, for ManiSkill 3",
    variables=(VARIABLE, "MS_ASSET_DIR"),
    inner="ms3",
    archives=(
        Archive(
            # Version 3.0.1 of mani_skill names place and checksum (utils/assets/data.py: "bridge_v2_real2sim").
            url="https://huggingface.co/datasets/haosulab/ManiSkill_bridge_v2_real2sim/resolve/main/"
            "bridge_v2_real2sim_dataset.zip",
            sha256="618512a205b4528cafecdad14b1788ed1130879f3064deb406516ed5b9c5ba92",
            size=81_962_479,
            keep="*",
            into=str(DATASET),
            needed=(_INFO, *(f"stages/{stage}" for stage in _STAGES), *_OVERLAYS, *_BODIES),
        ),
        Archive(
            url="https://github.com/haosulab/ManiSkill-WidowX250S/archive/refs/tags/v0.2.0.zip",
            contents="7a0671c4d50ac4f655b9c69e9743793ba548bb6bbb141eb8e0613ed4729bc4f8",
            keep="*",
            into=str(ROBOT.parent),
            needed=(ROBOT.name,),
            most_bytes=512 * 2**20,
        ),
    ),
    stand_ins=_MADE,
)
"""The folder is the one that holds `data`, as for ManiSkill's own MS_ASSET_DIR."""

_REPOSITORY = "https://github.com/simpler-env/ManiSkill2_real2sim/archive/ef7a4d4fdf4b69f2c2154db5b15b9ac8dfe10682.zip"

SOURCES = Assets(
    name="simpler_env",
    title="the sources of the original (ManiSkill2_real2sim and SimplerEnv)",
    variables=("MEMVLA_SIMPLER_SOURCES",),
    option="sources",
    archives=(
        Archive(
            url=_REPOSITORY,
            contents="0595dabf6cc89ad097e4a6d7331d27504c86c51e865cf4e2d0b21e0fdca17dcc",
            keep="*",
            into=str(SIMULATOR),
            needed=("mani_skill2_real2sim/envs/custom_scenes/base_env.py",),
            most_bytes=2 * 2**30,
        ),
        Archive(
            url="https://github.com/simpler-env/SimplerEnv/archive/4ab7178e83e84ee06894034ec6dbf9e7aad1e882.zip",
            contents="6b0a090cb4dc17887319df96312f9ab073c641c3a6b54abc4cc024dccefdb5fb",
            keep="*",
            into=str(PROTOCOL),
            needed=("simpler_env/__init__.py", "scripts/rt1_drawer_visual_matching.sh"),
            most_bytes=256 * 2**20,
        ),
    ),
)
"""The folder holds both repositories by name. The simulator is run; SimplerEnv's scripts are what the protocol is
compared with."""

MODELS = Assets(
    name="simpler_models",
    title="the models, stages and pictures of the original SimplerEnv",
    variables=(VARIABLE,),
    inner="ms2",
    within=(SOURCES, str(SIMULATOR / "data")),
    archives=(
        Archive(
            url=_REPOSITORY,
            contents="69a14650f635b7045be8e15f28271137ba1b1ed1c9c7a6710bbaa4cc7195313a",
            keep="*/data",
            needed=(
                _INFO,
                "custom/info_pick_custom_v0.json",
                "custom/mk_station_recolor.urdf",
                *(f"hab2_bench_assets/stages/{stage}" for stage in (*_STAGES, "google_pick_coke_can_1_v4.glb")),
                *(f"real_inpainting/open_drawer_{stand}.png" for stand in ("a0", "b0", "c0")),
                *_OVERLAYS,
                *_BODIES,
            ),
            most_bytes=2 * 2**30,
        ),
    ),
    stand_ins=_MADE,
)
"""The folder is the one that holds `custom`, `hab2_bench_assets` and `real_inpainting`. It comes with the sources."""


def maniskill3_files(folder: Path, task: BridgeTask) -> list[Path]:
    """What a scene of the task is made of, by name."""
    data = folder / DATASET
    single = [data / _INFO, data / "stages" / f"{task.stage}.glb", data / f"real_inpainting/{task.overlay}.png"]
    bodies = [data / "custom" / "models" / model / "collision.obj" for model in task.models]
    return with_neighbours([*single, folder / ROBOT, *bodies])


def visual_of(model: Path) -> str:
    """Name of the mesh that is drawn, by upstream's order of choice; the last one where none is there."""
    names = ("textured.obj", "textured.dae", "textured.glb")
    return next((name for name in names if (model / name).is_file()), names[-1])


def need_original(folder: Path, names: Sequence[str]) -> list[Path]:
    """What a task needs of the original's folder: these files, and all that lies beside a model's. Raises
    AssetsMissing naming the first file that is not there and what brings it."""
    for name in names:
        if not (folder / name).is_file():
            raise AssetsMissing(f"{name} is not in {folder}; {cure(MODELS)}")
    return with_neighbours([folder / name for name in names])


def with_neighbours(files: Sequence[Path]) -> list[Path]:
    """The files, and last the models': whatever lies beside one's `collision.obj`."""
    bodies = [file for file in files if file.name == "collision.obj"]
    single = [file for file in files if file.name != "collision.obj"]
    return [*single, *(near for file in bodies for near in sorted(file.parent.iterdir()) if near.is_file())]


@lru_cache(maxsize=4096)
def digest_of(file: Path) -> str:
    """SHA-256 of one file, computed once a process."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over names and contents, so that a scene of other models is another scene."""
    parts = "".join(f"{file.name} {digest_of(file)}\n" for file in files)
    return hashlib.sha256(parts.encode()).hexdigest()


def marks(assets: Assets, folder: Path, files: Iterable[Path]) -> dict[str, float]:
    """What an episode says of those of its files that are not the benchmark's own: `stand_in_table`,
    `stand_in_eggplant` ... 1. files: below `folder`."""
    listed = stand_ins(assets, folder)
    made = [file for file in files if str(file.relative_to(folder)) in listed or digest_of(file) in assets.stand_ins]
    return {f"stand_in_{name}": 1.0 for name in sorted(map(_kind, made))}


def _kind(file: Path) -> str:
    return "table" if file.parent.name == "stages" else file.parent.name
