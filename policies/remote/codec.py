"""msgpack with NumPy arrays, as openpi and vla-eval write it. No pickle; what comes in is checked first.

An array is a map with the key `__ndarray__` (openpi: bytes keys; vla-eval: text keys) and `data`, `dtype`, `shape`.
vla-eval may send pictures as a map with the key `__image__`: PNG or JPEG bytes, or raw like an array.
Sources: openpi-client 0.1.2, msgpack_numpy.py; vla-eval 0.8.0, protocol/numpy_codec.py and image_codec.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt

MOST_DIMENSIONS = 8
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")


class CodecError(ValueError):
    """A message that is not well formed."""


def pack(message: Any, *, byte_keys: bool = False) -> bytes:
    """msgpack of builtins and NumPy arrays and scalars. byte_keys: as openpi writes arrays, else as vla-eval does."""

    def encode(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            raise CodecError(f"a {type(value).__name__} does not travel")
        data = np.ascontiguousarray(value)
        parts = {"__ndarray__": True, "data": data.tobytes(), "dtype": data.dtype.str, "shape": list(data.shape)}
        return {key.encode(): part for key, part in parts.items()} if byte_keys else parts

    packed: bytes = msgpack.packb(message, default=encode)
    return packed


def unpack(data: bytes) -> Any:
    """The inverse of `pack`, in either style. Arrays are read-only views; an encoded picture comes as its bytes.

    Raises CodecError, and nothing else.
    """
    try:
        return msgpack.unpackb(data, object_hook=_hook, raw=False, strict_map_key=False)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"malformed msgpack: {type(error).__name__}") from error


def _hook(found: dict[Any, Any]) -> Any:
    for style in (str, str.encode):
        if style("__ndarray__") in found:
            return _array(found, style)
        if style("__npgeneric__") in found:
            return _array({**found, style("data"): np.array(found[style("data")])}, style, scalar=True)
    if "__image__" in found:
        if found.get("format") == "raw":
            return _array(found, str)
        if not isinstance(found.get("data"), bytes):
            raise CodecError("an encoded picture must be bytes")
        return found["data"]
    return found


def _array(found: Mapping[Any, Any], style: Any, *, scalar: bool = False) -> npt.NDArray[Any]:
    dtype, data = found.get(style("dtype")), found.get(style("data"))
    name = dtype.decode("latin-1") if isinstance(dtype, bytes) else dtype
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise CodecError(f"arrays of dtype {str(name)[:20]!r} are not accepted")
    if scalar:
        return np.asarray(data, dtype=np.dtype(name))
    shape = found.get(style("shape"))
    if (
        not isinstance(shape, list | tuple)
        or len(shape) > MOST_DIMENSIONS
        or not all(isinstance(side, int) and side >= 0 for side in shape)
        or not isinstance(data, bytes)
        or math.prod(shape) * np.dtype(name).itemsize != len(data)
    ):
        raise CodecError("an array's shape does not fit its data")
    return np.frombuffer(data, dtype=np.dtype(name)).reshape(shape)
