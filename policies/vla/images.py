"""From an observation's pictures to the model's input, as the released models were trained and served."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from envs.spec import Image, Observation
from policies.base import PolicyError
from policies.vla.config import VisionConfig

CROP_AREA = 0.9
"""Share of the picture that random crops kept in training, and the centre crop keeps at test."""


PAD_COLOUR = (122, 116, 104)
"""CLIP's mean colour in whole numbers, each rounded down."""


def pictures(observation: Observation, cameras: tuple[str, ...], config: VisionConfig) -> npt.NDArray[np.uint8]:
    """The pictures of these cameras at the model's input size, uint8 [V, image, image, 3].

    Raises PolicyError for a camera that is missing, and for a picture of the wrong type or size.
    """
    return np.stack([prepare(_of(observation, name), name, config) for name in cameras])


def check_pictures(observation: Observation, cameras: tuple[str, ...], config: VisionConfig) -> None:
    """Raise what `pictures` would raise, without its work."""
    for name in cameras:
        check_picture(_of(observation, name), name, config)


def check_picture(picture: Image, name: str, config: VisionConfig) -> None:
    """Raise PolicyError for a picture of the wrong type or size."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise PolicyError(f"camera {name!r}: expected uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
    side = config.image
    if config.resize == "none" and picture.shape[:2] != (side, side):
        raise PolicyError(f"camera {name!r}: this model takes {side}x{side} pictures, got {list(picture.shape[:2])}")


def _of(observation: Observation, name: str) -> Image:
    if name not in observation.images:
        raise PolicyError(f"camera {name!r} is missing; the observation has {', '.join(observation.images) or 'none'}")
    return observation.images[name]


def prepare(picture: Image, name: str, config: VisionConfig) -> Image:
    """One picture at the model's input size."""
    check_picture(picture, name, config)
    side = config.image
    if config.swap_red_blue:
        picture = picture[..., ::-1]
    if config.centre_crop:
        picture = square_crops(picture, side)
    if config.resize == "pad":
        picture = _square(picture)
    if picture.shape[:2] == (side, side):
        return np.ascontiguousarray(picture)
    return np.asarray(Pillow.fromarray(np.ascontiguousarray(picture)).resize((side, side), Pillow.Resampling.BICUBIC))


def _square(picture: Image) -> Image:
    """The picture in the middle of a square of CLIP's mean colour (Dexbotic's aspect `pad`)."""
    height, width = picture.shape[:2]
    size = max(height, width)
    whole = np.empty((size, size, 3), np.uint8)
    whole[:] = PAD_COLOUR
    top, left = (size - height) // 2, (size - width) // 2
    whole[top : top + height, left : left + width] = picture
    return whole


def square_crops(picture: Image, side: int) -> Image:
    """The MemoryVLA server's crops: the centre square to the input size, its middle 90 % of area back to that size."""
    height, width = picture.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = Pillow.fromarray(np.ascontiguousarray(picture[top : top + short, left : left + short]))
    square = square.resize((side, side), Pillow.Resampling.LANCZOS)
    inner = int(side * CROP_AREA**0.5)
    edge = (side - inner) // 2
    cropped = square.crop((edge, edge, edge + inner, edge + inner))
    return np.asarray(cropped.resize((side, side), Pillow.Resampling.LANCZOS))
