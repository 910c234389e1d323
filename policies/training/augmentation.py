"""What is done to training pictures at random, in this order: crop, brightness, contrast, saturation, hue.

Amounts as in the released training (specification, 4.4); formulas as TensorFlow's `tf.image` defines them (a test keeps
them equal).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pictures = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """area: share of the picture that a random square-in-proportion crop keeps, resized back; brightness: most that is
    added (pictures as 0..1); contrast, saturation: range of the factors; hue: most turns of the colour circle."""

    area: float = 0.9
    brightness: float = 0.2
    contrast: tuple[float, float] = (0.8, 1.2)
    saturation: tuple[float, float] = (0.8, 1.2)
    hue: float = 0.05

    def __call__(self, pictures: Pictures, rng: np.random.Generator) -> Pictures:
        """uint8 [V, H, W, 3] -> the same shape; every picture has its own draws from `rng`."""
        return np.stack([self.one(picture, rng) for picture in pictures])

    def one(self, picture: Pictures, rng: np.random.Generator) -> Pictures:
        """One picture, uint8 [H, W, 3]."""
        left, top = rng.random(2)
        added = rng.uniform(-self.brightness, self.brightness)
        contrast, saturation = rng.uniform(*self.contrast), rng.uniform(*self.saturation)
        turn = rng.uniform(-self.hue, self.hue)
        found = cropped(picture, self.area, float(left), float(top)).astype(np.float32) / 255
        found = np.clip(found + np.float32(added), 0, 1)
        mean = found.mean(axis=(0, 1))
        found = np.clip((found - mean) * np.float32(contrast) + mean, 0, 1)
        found = np.clip(coloured(found, saturation, turn), 0, 1)
        return np.asarray((found * 255 + 0.5).astype(np.uint8))


def cropped(picture: Pictures, area: float, left: float, top: float) -> Pictures:
    """The part of a picture with `area` of its pixels and its proportions, resized back (bilinear).

    left, top: where it lies, 0 (at the edge) to 1.
    """
    from PIL import Image as Pillow

    height, width = picture.shape[:2]
    part = np.sqrt(area)
    x, y = left * width * (1 - part), top * height * (1 - part)
    box = (x, y, x + part * width, y + part * height)
    return np.asarray(Pillow.fromarray(picture).resize((width, height), Pillow.Resampling.BILINEAR, box=box))


def coloured(picture: Numbers, saturation: float, turn: float) -> Numbers:
    """A picture [H, W, 3] in 0..1 with its saturation multiplied and its hue turned (1: once round), in HSV."""
    value, low = picture.max(-1), picture.min(-1)
    spread = value - low
    safe = np.where(spread > 0, spread, 1)
    red, green, blue = (picture[..., k] for k in range(3))
    hue = np.where(
        value == red,
        (green - blue) / safe,
        np.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = np.where(spread > 0, hue / 6, 0) % 1
    share = np.where(value > 0, spread / np.where(value > 0, value, 1), 0)
    return _from_hsv((hue + turn) % 1, np.clip(share * saturation, 0, 1), value)


def _from_hsv(hue: npt.NDArray[Any], share: npt.NDArray[Any], value: npt.NDArray[Any]) -> Numbers:
    places = (np.array([5.0, 3.0, 1.0]) + hue[..., None] * 6) % 6
    ramp = np.clip(np.minimum(places, 4 - places), 0, 1)
    return np.asarray(value[..., None] * (1 - share[..., None] * ramp), dtype=np.float32)
