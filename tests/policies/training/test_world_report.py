"""Figures and pictures of a world model's predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image as Pillow

from policies.base import PolicyError
from policies.memoryvla.imagination import WorldModel
from policies.training.demos import Demo
from policies.training.world_report import Prediction, clips_of, predict, psnr, quality, ssim, ssim_map, strip
from policies.vla.config import LAB_IMAGINATION
from policies.vla.language import WorldPrompter, lab_tokenizer

TINY = replace(
    LAB_IMAGINATION, size=16, latent=(32, 32, 32), channels=(32, 32, 32), heads=(1, 1, 1), frames=2, horizon=2
)


def picture(seed: int, side: int = 24) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def test_psnr_is_that_of_the_mean_squared_error() -> None:
    a = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert psnr(a, a) == 60.0
    assert psnr(a, a + np.uint8(10)) == pytest.approx(20 * np.log10(25.5))
    assert psnr(np.zeros_like(a), np.full_like(a, 255)) == pytest.approx(0.0)


def test_ssim_is_the_published_formula() -> None:
    """Against the windowed sums written out, at the one pixel of an 11 x 11 picture whose window lies inside."""
    a, b = picture(0, 11), picture(1, 11)
    axis = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / np.outer(axis, axis).sum()
    for channel in range(3):
        x, y = a[..., channel].astype(float), b[..., channel].astype(float)
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy, both = (window * x * x).sum() - mx**2, (window * y * y).sum() - my**2, (window * x * y).sum() - mx * my
        top = (2 * mx * my + 6.5025) * (2 * both + 58.5225)
        expected = top / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225))
        assert ssim_map(a, b)[5, 5, channel] == pytest.approx(expected, abs=1e-9)
    assert ssim(a, a) == pytest.approx(1.0)
    assert abs(ssim(picture(0, 64), picture(1, 64))) < 0.1


def demo(frames: int = 9) -> Demo:
    pictures = np.stack([np.full((16, 16, 3), 20 * t, dtype=np.uint8) for t in range(frames)])
    return Demo("lab", "fade", 0, "fade", {"front": pictures}, None, None)


def test_a_clip_is_a_frame_and_its_strided_future() -> None:
    clips = clips_of([demo(), demo()], "front", 3, 2, each=3)
    assert len(clips) == 6
    for clip in clips:
        now = int(clip.present[0, 0, 0]) // 20
        assert (clip.future[:, 0, 0, 0] // 20).tolist() == [min(now + k, 8) for k in (2, 4, 6)]
    assert len({int(clip.present[0, 0, 0]) for clip in clips[:3]}) == 3


def test_predictions_depend_on_clip_and_seed_alone() -> None:
    torch.manual_seed(0)
    world = WorldModel(TINY)
    prompter = WorldPrompter(lab_tokenizer(), TINY.text_tokens, TINY.text_vocabulary)
    clips = clips_of([demo()], "front", 2, 2)
    one, again = (predict(world, prompter, clips) for _ in range(2))
    other = predict(world, prompter, clips, seed=1)
    assert one[0].whole.shape == one[0].first.shape == one[0].real.shape == (2, 16, 16, 3)
    assert np.array_equal(one[1].whole, again[1].whole)
    assert not np.array_equal(one[1].whole, other[1].whole)
    assert np.array_equal(one[0].real, clips[0].future)
    with pytest.raises(PolicyError, match="at least one clip"):
        predict(world, prompter, [])


def test_quality_compares_every_row_with_the_real_frames() -> None:
    rng = np.random.default_rng(0)
    real = rng.integers(0, 200, (2, 16, 16, 3)).astype(np.uint8)
    off = [real + np.uint8(step) for step in (5, 10, 20)]
    found = quality([Prediction(present=real[0], real=real, whole=off[0], first=off[1], limit=off[2])] * 2)
    assert found.psnr == pytest.approx(20 * np.log10(255 / 5))
    assert found.first_psnr == pytest.approx(20 * np.log10(255 / 10))
    assert found.limit_psnr == pytest.approx(20 * np.log10(255 / 20))
    assert found.still_psnr == pytest.approx((60 + psnr(real[0], real[1])) / 2)
    assert 1 > found.ssim > found.first_ssim > found.limit_ssim > found.still_ssim - 0.5


def test_a_strip_shows_present_real_and_both_predictions(tmp_path: Path) -> None:
    shade = {name: np.full((2, 16, 16, 3), value, dtype=np.uint8) for name, value in (("real", 10), ("whole", 20))}
    one = Prediction(
        shade["real"][0] + np.uint8(30), shade["real"], shade["whole"], shade["whole"] + np.uint8(5), shade["real"]
    )
    strip([one, one], tmp_path / "deep" / "strip.png", zoom=2)
    shown = np.asarray(Pillow.open(tmp_path / "deep" / "strip.png"))[::2, ::2]
    assert shown.shape == (2 * (3 * 18 + 2), 3 * 18, 3)
    assert [int(shown[row, column, 0]) for row, column in ((0, 0), (0, 18), (18, 0), (18, 18), (36, 18))] == [
        40,
        10,
        255,
        20,
        25,
    ]
