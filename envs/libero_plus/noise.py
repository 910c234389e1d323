"""The benchmark's noises on the agentview picture, from a generator keyed by scene and step.

Upstream draws a new noise for every frame from NumPy's global generator, so its pictures depend on everything that drew
before. Here the generator is seeded by (scene seed, variant, trial, step): the same frame twice is the same picture,
whatever ran or was drawn in between, and frames of an episode still differ as upstream's do.
"""

from __future__ import annotations

import hashlib
import importlib

import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures

from envs.libero.simulation import borrowed_generators
from envs.libero_plus.upstream import PACKAGE, liberoplus
from envs.spec import Image

KINDS = ("motion_blur", "gaussian_blur", "zoom_blur", "fog", "glass_blur")
"""Upstream's functions, ten strengths each: noise 1 to 10 is the first, 11 to 20 the second ..."""


def noisy(picture: Image, noise: int, key: str) -> Image:
    """The picture uint8 [256, 256, 3], turned as policies see it, with noise 1 to 50 drawn under `key`.

    Upstream lays the noise on the picture as the renderer hands it out, before the turn by 180 degrees: so here.
    """
    liberoplus()
    kind, strength = KINDS[(noise - 1) // 10], (noise - 1) % 10 + 1
    apply = getattr(importlib.import_module(f"{PACKAGE}.envs.env_wrapper"), kind)
    raw = Pictures.fromarray(np.ascontiguousarray(picture[::-1, ::-1]))
    with borrowed_generators():
        np.random.seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little"))
        found: npt.NDArray[np.uint8] = np.asarray(apply(raw, severity=strength)).astype(np.uint8)
    return np.ascontiguousarray(found[::-1, ::-1])
