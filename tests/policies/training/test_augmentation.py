"""Augmentation does what `tf.image` does in the released training."""

from __future__ import annotations

import numpy as np
import pytest

from policies.training.augmentation import Augmentation, coloured, cropped
from policies.training.tfds import load_tfds

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


def image_ops():  # type: ignore[no-untyped-def]
    load_tfds()
    import tensorflow

    return tensorflow.image


@pytest.mark.parametrize(("saturation", "turn"), [(1.0, 0.0), (0.8, 0.0), (1.2, 0.05), (1.0, -0.05), (0.9, 0.02)])
def test_saturation_and_hue_are_those_of_tensorflow(saturation: float, turn: float) -> None:
    picture = PICTURES[0].astype(np.float32) / 255
    picture[0, :4] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 1]]
    ops = image_ops()
    expected = ops.adjust_hue(ops.adjust_saturation(picture, saturation), turn).numpy()
    np.testing.assert_allclose(coloured(picture, saturation, turn), expected, atol=2e-5)


def test_brightness_and_contrast_are_those_of_tensorflow() -> None:
    ops = image_ops()
    only = Augmentation(area=1.0, brightness=0.2, contrast=(0.8, 1.2), saturation=(1.0, 1.0), hue=0.0)
    rng = np.random.default_rng(3)
    found = only.one(PICTURES[0], rng)
    again = np.random.default_rng(3)
    again.random(2)
    added, contrast = again.uniform(-0.2, 0.2), again.uniform(0.8, 1.2)
    bright = np.clip(ops.adjust_brightness(PICTURES[0].astype(np.float32) / 255, added).numpy(), 0, 1)
    expected = np.clip(ops.adjust_contrast(bright, contrast).numpy(), 0, 1) * 255
    assert np.abs(found.astype(np.float32) - expected).max() <= 0.51


def test_the_crop_keeps_the_area_and_the_proportions() -> None:
    height, width = 200, 300
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    ramp[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    found = cropped(ramp, 0.9, 0.5, 0.5).astype(float)
    assert found.shape == ramp.shape
    for channel in (0, 1):
        seen = (found[..., channel].max() - found[..., channel].min()) / 255
        assert seen == pytest.approx(np.sqrt(0.9), abs=0.015)
    np.testing.assert_array_equal(cropped(ramp, 1.0, 0.3, 0.7), ramp)


def test_without_amounts_a_picture_is_left_alone() -> None:
    nothing = Augmentation(area=1.0, brightness=0.0, contrast=(1.0, 1.0), saturation=(1.0, 1.0), hue=0.0)
    found = nothing(PICTURES, np.random.default_rng(0))
    assert np.abs(found.astype(int) - PICTURES).max() <= 1


def test_chance_is_the_generator_alone_and_every_picture_has_its_own() -> None:
    twice = np.stack([PICTURES[0], PICTURES[0]])
    first = Augmentation()(twice, np.random.default_rng(1))
    np.testing.assert_array_equal(first, Augmentation()(twice, np.random.default_rng(1)))
    assert not np.array_equal(first[0], first[1])
    assert first.dtype == np.uint8
    assert first.shape == twice.shape
