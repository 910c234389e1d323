"""What `fuzz.py` feeds to its targets: made-up values, and files damaged as disks and strangers do it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORDS = (
    *("op", "call", "step", "images", "state", "instruction", "seed", "episode", "type", "payload", "seq", "prompt"),
    *(
        "front",
        "wrist",
        "image",
        "text",
        "__ndarray__",
        "__image__",
        "data",
        "dtype",
        "shape",
        "host",
        "number",
        "start",
    ),
    *("act", "end", "session", "reset", "request", "observation", "<script>", "../../etc/passwd", "\0", "é", "null"),
)


def atom(rng: random.Random) -> Any:
    return rng.choice(
        [
            None,
            True,
            False,
            rng.randrange(-3, 300),
            rng.choice([2**31, -(2**63), 2**63 - 1, 2**64 - 1, 10**6]),
            rng.choice([0.0, -0.0, 1e308, float("nan"), float("inf"), 1e-320]),
            rng.choice(WORDS),
            rng.randbytes(rng.randrange(0, 40)),
            "".join(chr(rng.choice([rng.randrange(32, 127), rng.randrange(0xD7FF)])) for _ in range(rng.randrange(12))),
            rng.choice(["<f4", "u1", "|O", "f8", "<U8", "V100", "M8[ns]", "2147483647u1"]),
            [rng.randrange(-1, 70) for _ in range(rng.randrange(5))],
        ]
    )


def noise(rng: random.Random, depth: int = 3) -> Any:
    kind = rng.random()
    if depth == 0 or kind < 0.4:
        return atom(rng)
    if kind < 0.6:
        return [noise(rng, depth - 1) for _ in range(rng.randrange(5))]
    return {rng.choice(WORDS): noise(rng, depth - 1) for _ in range(rng.randrange(6))}


def damaged(good: bytes, rng: random.Random) -> bytes:
    """The bytes of a file, with something done to them."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not data:
            break
        at, many = rng.randrange(len(data)), rng.choice([1, 1, 2, 8, 64, 512])
        how = rng.randrange(7)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            del data[at : at + many]
        elif how == 3:
            data[at : at + many] = bytes(min(many, len(data) - at))
        elif how == 4:
            data[at : at + many] = rng.randbytes(min(many, len(data) - at))
        elif how == 5:
            other = rng.randrange(len(data))
            data[at:at] = data[other : other + many]
        else:
            data[at : at + 8] = rng.choice([b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8, b"\xff\xff\xff\x7f" * 2])
    return bytes(data)


def changed(value: Any, rng: random.Random) -> Any:
    """JSON data with one value somewhere in it replaced, dropped or added."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        how = rng.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return {**value, rng.choice(WORDS): plain(rng)}
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], changed(value[at], rng), *value[at + 1 :]]
    return plain(rng)


def plain(rng: random.Random) -> Any:
    """Noise that JSON can hold."""
    return json.loads(json.dumps(noise(rng, 2), default=lambda _: "bytes", allow_nan=True))


def spoil_file(path: Path, good: bytes, rng: random.Random) -> None:
    """Write a damaged form of the file's content; JSON and YAML mostly keep their form."""
    if path.suffix == ".json" and rng.random() < 0.7:
        path.write_text(json.dumps(changed(json.loads(good), rng)))
    else:
        path.write_bytes(damaged(good, rng))


@contextmanager
def one_spoilt(folder: Path, rng: random.Random, names: list[str] | None = None) -> Iterator[None]:
    """One file of the folder is damaged meanwhile, and whole again afterwards."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and (names is None or path.name in names))
    path = rng.choice(files)
    good = path.read_bytes()
    spoil_file(path, good, rng)
    try:
        yield
    finally:
        path.write_bytes(good)
