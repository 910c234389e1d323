"""The benchmark's models and meshes: which, from where, and where they lie. They are not part of this package."""

from __future__ import annotations

from envs.assets import Archive, Assets

REVISION = "797142c588c21e76717268b7b430958dbd13bf48"
"""Of mees/calvin_env, its last one (December 2022)."""

NEEDED = (
    "franka_panda/panda_longer_finger.urdf",
    "plane/plane.urdf",
    *(f"calvin_table_{scene}/urdf/calvin_table_{scene}.urdf" for scene in "ABCD"),
    *(f"blocks/block_{colour}_{size}.urdf" for colour in ("blue", "pink", "red") for size in ("big", "small")),
    *(f"blocks/block_{colour}_middle.urdf" for colour in ("pink", "red")),
)

ASSETS = Assets(
    name="calvin",
    title="CALVIN's models (tables, blocks and robot of mees/calvin_env)",
    variables=("MEMVLA_CALVIN_ASSETS",),
    inner="data",
    archives=(
        Archive(
            url=f"https://github.com/mees/calvin_env/archive/{REVISION}.zip",
            keep="*/data",
            needed=NEEDED,
            # GitHub makes the archive anew when it likes, so it has no checksum of its own; what is in it has one.
            contents="deca95529e01d109b17c5c97afbd4cbedc24f001d0e8a7463fc21c5ede68744f",
            most_bytes=256 * 2**20,
        ),
    ),
)
