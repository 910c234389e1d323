"""What MIKASA-Robo's package does not bring: the mug of its shell games, and the bulb of its lamps."""

from __future__ import annotations

from envs.assets import Archive, Assets

MUG = Archive(
    # Version and checksum are those that mani_skill 3.0.1 names (utils/assets/data.py: "ycb").
    url="https://huggingface.co/datasets/haosulab/ManiSkill2/resolve/"
    "a1988e0918a9a1f2a9cb46ad7984efc3d422ac63/data/mani_skill2_ycb.zip",
    sha256="1551724fd1ac7bad9807ebcf46dd4a788caed5c9499c1225b9bfa080ffbefcb3",
    size=26_229_037,
    keep="*",
    into="data/assets/mani_skill2_ycb",
    needed=("info_pick_v0.json", "models/025_mug/textured.obj", "models/025_mug/collision.ply"),
    most_bytes=512 * 2**20,
)
"""The YCB object 025_mug, visual and physical."""

BULB = Archive(
    # In upstream's repository at version 1.0.0, but left out of the package that is built from it.
    url="https://raw.githubusercontent.com/CognitiveAISystems/MIKASA-Robo/16634db18bef08128ed79346469c86fc12169aed/"
    "mikasa_robo_suite/vla/utils/objects/low_poly_light_bulb.glb",
    sha256="cc66bda617401ce47bf4bd69e297c226b909d2bb532a5ff57721ee75d6d4aca5",
    size=697_948,
    into="data/mikasa/objects",
    needed=("low_poly_light_bulb.glb",),
)
"""The bulb of the VLA tasks' lamps, visual only: what it collides with is a sphere."""

ASSETS = Assets(
    name="mikasa",
    title="MIKASA-Robo's mug (YCB object 025_mug) and light bulb",
    optional="MIKASA-Robo's shell games, and the VLA tasks with a lamp",
    variables=("MEMVLA_MIKASA_ASSETS", "MS_ASSET_DIR"),
    archives=(MUG, BULB),
    stand_ins={
        "c80b2b6a3af7104f942a8c36089e3702c0d00ebbd8c371e2481084856deed1b4": "a red cylinder with a box as handle",
        "a7258353342128bc912ace67afebe6e75e863b691ea6b450d573e9e7b8434a2e": "14 convex parts made from measures",
        "26983f3c94a66656daa081f8c57d0084ef1a9b67e51579888b9440f4cd75cd9f": "a list with the made mug alone",
    },
)
"""The folder is the one that holds `data`, as for ManiSkill's own MS_ASSET_DIR. Most tasks need nothing of it."""
