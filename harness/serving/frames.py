"""Pictures and arrays from strangers: sizes are looked at before anything is decoded, and nothing is ever executed."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from envs.spec import Floats, Image
from harness.serving.sessions import ServingError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
MAX_STATE = 1024


def picture(data: bytes, *, max_pixels: int, name: str = "image") -> Image:
    """An encoded picture as uint8 [H, W, 3] RGB. Raises ServingError 400 or 413."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            opened = Pillow.open(io.BytesIO(data), formats=FORMATS)
            _bounded(opened.height, opened.width, max_pixels, name)
            return np.array(opened.convert("RGB"), dtype=np.uint8)
    except ServingError:
        raise
    except (UnidentifiedImageError, Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise ServingError(400, f"{name!r} is not a picture that can be read ({', '.join(FORMATS)})") from error
    except Exception as error:  # Pillow's readers raise almost anything for a damaged file
        raise ServingError(400, f"{name!r} is a damaged picture") from error


def raw_picture(value: Any, *, max_pixels: int, name: str = "image") -> Image:
    """A picture that came as an array, or as the bytes of an encoded one. Raises ServingError 400 or 413."""
    if isinstance(value, bytes):
        return picture(value, max_pixels=max_pixels, name=name)
    if not isinstance(value, np.ndarray):
        raise ServingError(400, f"{name!r} must be a picture, was {type(value).__name__}")
    if value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3 or 0 in value.shape:
        raise ServingError(400, f"{name!r} must be uint8 [H, W, 3], was {value.dtype} {list(value.shape)}")
    _bounded(value.shape[0], value.shape[1], max_pixels, name)
    return value


def numbers(value: Any, *, name: str = "state") -> Floats:
    """A vector of finite numbers, float32 [D]. Raises ServingError 400."""
    try:
        found: npt.NDArray[Any] = np.asarray(value)
        if found.dtype.kind not in "fiub" or found.ndim != 1 or not 0 < len(found) <= MAX_STATE:
            raise ValueError
        with np.errstate(over="ignore"):
            vector = found.astype(np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ServingError(400, f"{name!r} must be a list of at most {MAX_STATE} numbers") from error
    if not np.isfinite(vector).all():
        raise ServingError(400, f"{name!r} holds NaN or infinite numbers")
    return vector


def _bounded(height: int, width: int, max_pixels: int, name: str) -> None:
    if height * width > max_pixels:
        raise ServingError(413, f"{name!r} has {width} x {height} pixels; at most {max_pixels} are allowed")
