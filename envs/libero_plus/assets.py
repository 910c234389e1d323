"""The benchmark's own assets: textures, lights and added objects that LIBERO does not have; from where, and where."""

from __future__ import annotations

from pathlib import Path

from envs.assets import Archive, Assets, named_by, own_folder, place, require

VARIABLE = "MEMVLA_LIBERO_PLUS_ASSETS"
CLASSIFICATION = "task_classification.json"
NEEDED = (
    "scenes/tabletop250/tabletop_table_FabricString001_DISP_4K.xml",
    "scenes/lights/tabletop_light_sync_modified_187.xml",
    "new_objects/box_of_shampoo/bclpiq/usd/MJCF/bclpiq.xml",
)
"""One file of each kind, each of a variant: a texture (turn_on_the_stove_table_1), a light
(open_the_middle_drawer_of_the_cabinet_light_1), an added object (turn_on_the_stove_add_1)."""

ASSETS = Assets(
    name="libero_plus",
    title="LIBERO-Plus's own textures, lights and objects",
    optional="3,047 of LIBERO-Plus's 10,030 variants",
    variables=(VARIABLE,),
    archives=(
        Archive(
            url="https://huggingface.co/datasets/Sylvest/LIBERO-plus/resolve/dd2bd61b7d9a6fef1abc52d606e983b41886a149/"
            "assets.zip",
            sha256="96764a4bfbdaea98d4411598caeab235458318fe0f549611b93d1a323027b3cf",
            size=6_395_849_578,
            # The folder of its author's machine from which it was packed.
            keep="inspire/hdd/project/embodied-multimodality/public/syfei/libero_new/release/dataset/LIBERO-plus-0/assets",
            into="assets",
            needed=NEEDED,
            most_bytes=12 * 2**30,  # 8,953,192,654 bytes in 448,799 files
            most_files=500_000,
        ),
    ),
)


def folder_of(folder: str = "") -> Path:
    """Where they are looked for, whether they are there or not: the folder that holds `assets`, if that itself is
    named."""
    chosen = place(ASSETS, folder)
    return chosen.parent if chosen.name == "assets" and not (chosen / "assets").is_dir() else chosen


def find_assets(folder: str = "") -> Path | None:
    """The folder in which the benchmark's `assets` lie: `folder`, else the one MEMVLA_LIBERO_PLUS_ASSETS names, else
    assets/libero_plus under MEMVLA_HOME (~/.memvla); None where none was named and none is there.

    Raises AssetsMissing for a folder that was named and does not hold them.
    """
    chosen = folder_of(folder)
    if all((chosen / name).is_file() for name in ASSETS.needed):
        return chosen
    ours = chosen == folder_of(str(own_folder(ASSETS)))  # workers are told of it by name, whatever it holds
    return None if ours or not named_by(ASSETS, folder) else require(ASSETS, folder)
