"""How good a world model is: predicted against real frames on demonstrations it was not trained on.

Measured twice: after the whole denoising schedule, as videos are published, and after the first step alone, which is
what a policy gets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter
from torch import Tensor

from policies.base import PolicyError
from policies.memoryvla.imagination import WorldModel
from policies.training.demos import Demo
from policies.vla.language import WorldPrompter

Pictures = npt.NDArray[np.uint8]

GAP = 2
"""Pixels between the pictures of a strip."""

SHOWN = 10
"""Clips of a report's strip."""

AT_ONCE = 16
"""Clips predicted together."""


@dataclass(frozen=True)
class Quality:
    """Means over clips and their frames. psnr: dB; ssim: 0 ... 1 (Wang et al. 2004); still_*: of a prediction in which
    nothing moves, the least a world model must beat; limit_*: of the autoencoder alone, which no prediction passes."""

    psnr: float
    ssim: float
    first_psnr: float
    first_ssim: float
    still_psnr: float
    still_ssim: float
    limit_psnr: float
    limit_ssim: float


@dataclass(frozen=True)
class Clip:
    """One prediction to be made: uint8 pictures of the present [H, W, 3] and the F coming frames [F, H, W, 3]."""

    instruction: str
    present: Pictures
    future: Pictures


def clips_of(demos: Sequence[Demo], camera: str, frames: int, stride: int, each: int = 2, seed: int = 0) -> list[Clip]:
    """`each` clips of every demonstration, evenly spread with a random phase. Behind the end the last frame stands."""
    rng = np.random.default_rng(seed)
    found = []
    for demo in demos:
        video = demo.pictures[camera]
        starts = ((np.arange(each) + rng.random()) / each * (len(video) - 1)).astype(int)
        for start in starts:
            ahead = np.minimum(start + stride * np.arange(1, frames + 1), len(video) - 1)
            found.append(Clip(demo.instruction, video[start], video[ahead]))
    return found


def write_report(
    folder: Path, world: WorldModel, prompter: WorldPrompter, demos: Sequence[Demo], camera: str, stride: int
) -> Quality:
    """Measure a world model on demonstrations it was not trained on: `quality.json` and `strip.png` in `folder`."""
    predictions = predict(world, prompter, clips_of(demos, camera, world.options.frames, stride))
    found = quality(predictions)
    (folder / "quality.json").write_text(json.dumps({"clips": len(predictions), **asdict(found)}, indent=2) + "\n")
    strip(
        predictions[:: max(len(predictions) // SHOWN, 1)][:SHOWN],
        folder / "strip.png",
        zoom=max(96 // world.options.size, 1),
    )
    return found


@dataclass(frozen=True)
class Prediction:
    """What the world model makes of a clip, uint8 [F, size, size, 3]: after the whole schedule, and after one step;
    beside the real frames at its size, and those through its autoencoder."""

    present: Pictures
    real: Pictures
    whole: Pictures
    first: Pictures
    limit: Pictures


def predict(world: WorldModel, prompter: WorldPrompter, clips: Sequence[Clip], seed: int = 0) -> list[Prediction]:
    """Predictions of clips; the noise is keyed by seed and a clip's place. Raises PolicyError where there is none."""
    if not clips:
        raise PolicyError("a world model can only be measured on at least one clip")
    generator = torch.Generator().manual_seed(seed)
    found: list[Prediction] = []
    for begin in range(0, len(clips), AT_ONCE):
        some = clips[begin : begin + AT_ONCE]
        noise = torch.randn(len(some), *world.noise_shape, generator=generator)
        found.extend(_predict(world, prompter, some, noise))
    return found


@torch.no_grad()
def _predict(world: WorldModel, prompter: WorldPrompter, clips: Sequence[Clip], noise: Tensor) -> list[Prediction]:
    device = next(world.parameters()).device
    ids = torch.tensor([prompter.ids(clip.instruction) for clip in clips], device=device)
    present = torch.from_numpy(np.stack([clip.present for clip in clips])).to(device)
    future = torch.from_numpy(np.stack([clip.future for clip in clips])).to(device)
    flat = future.flatten(0, 1)
    shape = future.shape[:2]
    rows = (
        _shown(world, present),
        _shown(world, flat).reshape(*shape, world.options.size, world.options.size, 3),
        world.decode(world.sample(present, ids, noise.to(device))).cpu().numpy(),
        world.decode(world.sample(present, ids, noise.to(device), steps=1)).cpu().numpy(),
        world.decode(world.latents(flat).reshape(*shape, *world.noise_shape[1:])).cpu().numpy(),
    )
    return [Prediction(*row) for row in zip(*rows, strict=True)]


def _shown(world: WorldModel, pictures: Tensor) -> Pictures:
    """Pictures at the world model's size."""
    pixels = ((world.pixels(pictures) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    shown: Pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return shown


def quality(predictions: Sequence[Prediction]) -> Quality:
    """The figures of predictions."""
    pairs = {"": "whole", "first_": "first", "limit_": "limit"}
    found = {f"{name}{kind}": 0.0 for name in (*pairs, "still_") for kind in ("psnr", "ssim")}
    for one in predictions:
        shown = {name: getattr(one, field) for name, field in pairs.items()}
        shown["still_"] = np.broadcast_to(one.present, one.real.shape)
        for name, frames in shown.items():
            for a, b in zip(frames, one.real, strict=True):
                found[f"{name}psnr"] += psnr(a, b) / (len(predictions) * len(one.real))
                found[f"{name}ssim"] += ssim(a, b) / (len(predictions) * len(one.real))
    return Quality(**found)


def psnr(a: Pictures, b: Pictures) -> float:
    """Peak signal to noise ratio of two pictures in dB, at most 60 (they differ by rounding, or not at all)."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return 60.0 if error < 255**2 / 1e6 else 10 * float(np.log10(255**2 / error))


def ssim(a: Pictures, b: Pictures) -> float:
    """Structural similarity of two pictures, mean over pixels and channels."""
    return float(ssim_map(a, b).mean())


def ssim_map(a: Pictures, b: Pictures) -> npt.NDArray[np.float64]:
    """Structural similarity around every pixel, [H, W, 3]: Gaussian window of 11 pixels, deviation 1.5, constants 0.01
    and 0.03 (Wang et al. 2004)."""
    x, y = a.astype(np.float64), b.astype(np.float64)

    def blur(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        blurred: npt.NDArray[np.float64] = gaussian_filter(values, (1.5, 1.5, 0), truncate=3.5)
        return blurred

    mx, my = blur(x), blur(y)
    vx, vy, both = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    score: npt.NDArray[np.float64] = (2 * mx * my + c1) * (2 * both + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return score


def strip(predictions: Sequence[Prediction], path: Path, zoom: int = 1) -> None:
    """A PNG with three rows a clip: the present and the real frames, the predicted ones, those of the first step."""
    blocks: list[Pictures] = []
    for one in predictions:
        empty = np.full_like(one.present, 255)
        rows = ((one.present, one.real), (empty, one.whole), (empty, one.first))
        blocks.extend(_row([head, *frames]) for head, frames in rows)
        blocks.append(np.full((GAP, blocks[-1].shape[1], 3), 255, dtype=np.uint8))
    whole = Pillow.fromarray(np.concatenate(blocks))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.resize((whole.width * zoom, whole.height * zoom), Pillow.Resampling.NEAREST).save(path)


def _row(pictures: Sequence[Pictures]) -> Pictures:
    """Pictures side by side, with a gap between and below."""
    padded = [np.pad(picture, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for picture in pictures]
    return np.concatenate(padded, axis=1)
