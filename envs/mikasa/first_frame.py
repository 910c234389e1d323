"""The first picture of a process on a software renderer, made quick: `memvla setup mikasa --fast-cpu-first-frame`.

SAPIEN fills a look-up table of its shading model in a compute shader that takes 1,024 samples an entry: nothing on a
GPU, most of a minute on lavapipe. The shader lies as SPIR-V inside one of SAPIEN's libraries, and the number of samples
in four of its constants. They are lowered to 32 in the runtime's own copy; the file keeps its length, and the untouched
one is kept beside it. The table serves light from an environment map alone, and MIKASA-Robo's scenes have none: their
pictures are the same to the last bit (tests/envs/mikasa/test_first_frame.py). It is not done unasked all the same.

SPIR-V: a word stream of 32 bits; every instruction begins with its length in words (upper half) and its code.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OFFICIAL, FEW = 1024, 32
SHADERS = {"IntegrateBRDF": ("float", "int", "uint"), "PrefilterEnvMap": ("uint",)}
"""Function of a shader -> the kinds of the constants that hold its number of samples, one each (sapien 3.0.3)."""
MAGIC = struct.pack("<I", 0x07230203)
HEADER_WORDS = 5
OP_NAME, OP_TYPE_INT, OP_TYPE_FLOAT, OP_CONSTANT, OP_FUNCTION = 5, 21, 22, 43, 54


class NotKnown(RuntimeError):
    """The library is not the one this was made for; nothing was changed."""


@dataclass(frozen=True)
class Site:
    """A constant in the library: where its value stands, and of which kind it is."""

    offset: int
    kind: str

    def value(self, data: bytes) -> float:
        return float(struct.unpack_from("<f" if self.kind == "float" else "<I", data, self.offset)[0])

    def packed(self, samples: int) -> bytes:
        return struct.pack("<f", samples) if self.kind == "float" else struct.pack("<I", samples)


def quicken(environment: Path) -> str:
    """Lower the samples in the SAPIEN of a Python environment; says what was done. Safe to repeat.

    Raises NotKnown where its library does not hold the constants exactly as expected.
    """
    library = _library(environment)
    kept = library.with_name(library.name + ".orig")
    data = library.read_bytes()
    if not find(data, FEW):
        sites = find(data, OFFICIAL)
        if not sites:
            raise NotKnown(f"{library} does not hold the shaders' constants as sapien 3.0.3 does; nothing was changed")
        if not kept.exists():
            shutil.copy2(library, kept)
        fresh = library.with_name(library.name + ".new")
        fresh.write_bytes(lowered(data, sites))
        shutil.copymode(library, fresh)
        os.replace(fresh, library)
    return f"{library.name}: {FEW} samples instead of {OFFICIAL} (the untouched library is kept as {kept.name})"


def samples(environment: Path) -> int:
    """How many samples the SAPIEN of that environment takes; 0 where its library is not a known one."""
    data = _library(environment).read_bytes()
    return next((number for number in (OFFICIAL, FEW) if find(data, number)), 0)


def lowered(data: bytes, sites: list[Site]) -> bytes:
    """The library with FEW at these places."""
    out = bytearray(data)
    for site in sites:
        new = site.packed(FEW)
        out[site.offset : site.offset + len(new)] = new
    return bytes(out)


def find(data: bytes, value: int) -> list[Site]:
    """The constants of the shaders that hold `value`; empty unless each shader is there once, with exactly the
    constants expected."""
    found: dict[str, list[list[Site]]] = {name: [] for name in SHADERS}
    at = data.find(MAGIC)
    while at >= 0:
        names, constants = _declarations(data, at)
        for shader in SHADERS:
            if shader in names:
                found[shader].append([site for site in constants if site.value(data) == value])
        at = data.find(MAGIC, at + 4)
    fits = all(
        len(modules) == 1 and tuple(sorted(site.kind for site in modules[0])) == SHADERS[shader]
        for shader, modules in found.items()
    )
    return [site for modules in found.values() for site in modules[0]] if fits else []


def _declarations(data: bytes, start: int) -> tuple[set[str], list[Site]]:
    """Names of the functions and variables of the module that begins at `start`, and its constants of 32 bits."""
    names: set[str] = set()
    kinds: dict[int, str] = {}
    constants: list[Site] = []
    for offset, code, words in _instructions(data, start + 4 * HEADER_WORDS):
        if code == OP_NAME:
            raw = data[offset + 8 : offset + 4 * words]
            names.add(raw.split(b"\0")[0].split(b"(")[0].decode("latin-1"))
        elif code == OP_TYPE_INT and words == 4:
            number, width, signed = struct.unpack_from("<3I", data, offset + 4)
            kinds[number] = ("int" if signed else "uint") if width == 32 else ""
        elif code == OP_TYPE_FLOAT and words >= 3:
            number, width = struct.unpack_from("<2I", data, offset + 4)
            kinds[number] = "float" if width == 32 else ""
        elif code == OP_CONSTANT and words == 4:
            kind = kinds.get(struct.unpack_from("<I", data, offset + 4)[0], "")
            if kind:
                constants.append(Site(offset + 12, kind))
    return names, constants


def _instructions(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(offset, code, length in words) of each instruction before the module's first function."""
    while at + 4 <= len(data):
        head = struct.unpack_from("<I", data, at)[0]
        words, code = head >> 16, head & 0xFFFF
        if words == 0 or at + 4 * words > len(data) or code == OP_FUNCTION:
            return
        yield at, code, words
        at += 4 * words


def _library(environment: Path) -> Path:
    found = [path for path in environment.rglob("sapien.libs/*.so*") if path.suffix == ".so" and _holds_shader(path)]
    if len(found) != 1:
        raise NotKnown(f"{len(found)} libraries with SAPIEN's shader below {environment}, expected one")
    return found[0]


def _holds_shader(path: Path) -> bool:
    return next(iter(SHADERS)).encode() in path.read_bytes()
