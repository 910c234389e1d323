"""World models as folders: ours, and Stable Video Diffusion's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policies.base import PolicyError
from policies.memoryvla.imagination import WorldModel
from policies.training.world_files import load_svd, load_world, read_world, save_world
from policies.vla.config import LAB_IMAGINATION
from policies.vla.language import lab_tokenizer

TINY = replace(
    LAB_IMAGINATION, size=16, latent=(32, 32, 32), channels=(32, 32, 32), heads=(1, 1, 1), frames=2, horizon=2
)


def made() -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(TINY)


def test_a_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    world = made()
    save_world(tmp_path, world, lab_tokenizer(), 3)
    found, folder = load_world(tmp_path), read_world(tmp_path)
    assert (folder.stride, folder.options, found.options) == (3, TINY, TINY)
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in world.state_dict().items())
    assert folder.prompter().ids("press the red button")[:2] == [1, lab_tokenizer().token_to_id("press")]
    assert not any(p.requires_grad for p in found.parameters())


def test_half_precision_is_half_the_size_and_float32_again_when_read(tmp_path: Path) -> None:
    world = made()
    for name in ("whole", "half"):
        save_world(tmp_path / name, world, lab_tokenizer(), 3, half=name == "half")
    sizes = [(tmp_path / name / "world.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.55 * sizes[1]
    for name, tensor in load_world(tmp_path / "half").state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, world.state_dict()[name].half().float())


def test_weights_too_large_for_half_precision_are_refused(tmp_path: Path) -> None:
    world = made()
    with torch.no_grad():
        world.unet.conv_in.bias[0] = 1e6
    with pytest.raises(PolicyError, match="do not fit float16"):
        save_world(tmp_path, world, lab_tokenizer(), 3, half=True)


def test_a_folder_that_is_no_world_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"has no world\.json"):
        load_world(tmp_path)
    save_world(tmp_path, made(), lab_tokenizer(), 3)
    path = tmp_path / "world.json"
    good = json.loads(path.read_text())
    for data, complaint in (
        ({**good, "format": 9}, "format 9, this version reads 1"),
        ({**good, "options": {**good["options"], "frame": 2}}, "frame"),
        ({"format": 1}, "stride"),
        ({**good, "options": {**good["options"], "channels": [32, 32, 64], "heads": [1, 1, 2]}}, "does not fit"),
    ):
        path.write_text(json.dumps(data))
        with pytest.raises(PolicyError, match=complaint):
            load_world(tmp_path)
    path.write_text(json.dumps(good))
    weights = tmp_path / "world.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PolicyError, match="cannot be read"):
        load_world(tmp_path)


def test_stable_video_diffusion_is_read_from_the_folders_it_is_published_in(tmp_path: Path) -> None:
    world = made()
    for name in ("unet", "vae"):
        getattr(world, name).save_pretrained(tmp_path / "svd" / name)
    world.text.save_pretrained(tmp_path / "clip")
    lab_tokenizer().save(str(tmp_path / "clip" / "tokenizer.json"))
    found, tokenizer = load_svd(tmp_path / "svd", tmp_path / "clip", TINY)
    assert all(torch.equal(tensor, found.state_dict()[name]) for name, tensor in world.state_dict().items())
    assert tokenizer.get_vocab_size() == lab_tokenizer().get_vocab_size()
    picture, ids = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8), torch.ones(1, 20, dtype=torch.int64)
    noise = torch.randn(1, *world.noise_shape)
    for a, b in zip(found.imagine(picture, ids, noise), world.imagine(picture, ids, noise), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(PolicyError, match="another shape"):
        load_svd(tmp_path / "svd", tmp_path / "clip", replace(TINY, channels=(32, 32, 64), heads=(1, 1, 2)))
    with pytest.raises(PolicyError, match="are no such parts"):
        load_svd(tmp_path / "clip", tmp_path / "clip", TINY)
