"""Imagination: what the world model is given and gives, the former, the integration, and that it stays frozen."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from policies.memoryvla.imagination import FeaturePyramid, FormerLayer, Imagination, WorldModel, position_code
from policies.memoryvla.policy import memoryvla_pp
from policies.vla.config import LAB_IMAGINATION, ImaginationOptions
from policies.vla.language import WorldPrompter, lab_tokenizer
from tests.policies.vla.playing import CONTEXT, alone, episode
from tests.policies.vla.reference import close


@lru_cache(maxsize=8)
def imagination(**changes: Any) -> Imagination:
    torch.manual_seed(0)
    return Imagination(replace(LAB_IMAGINATION, **changes), 96).eval()


def given(batch: int = 2, seed: int = 1, frames: int = LAB_IMAGINATION.frames) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (batch, 64, 64, 3), dtype=torch.uint8, generator=generator)
    ids = torch.randint(0, 100, (batch, 20), generator=generator)
    return picture, ids, torch.randn(batch, frames, 4, 8, 8, generator=generator)


def test_the_world_model_has_the_size_of_stable_video_diffusion() -> None:
    with torch.device("meta"):
        world = WorldModel(ImaginationOptions())
    assert sum(p.numel() for p in world.unet.parameters()) == 1_524_623_082  # the published SVD UNet
    assert sum(p.numel() for p in world.vae.parameters()) / 1e6 == pytest.approx(97.74, abs=0.01)
    assert world.widths == (1280, 1280, 640)
    assert world.noise_shape == (16, 4, 32, 32)


def test_features_come_from_the_first_up_blocks_of_the_whole_unet() -> None:
    """The shortened run gives what the whole UNet's blocks give, and leaves no hook and no change behind."""
    world = imagination().world
    picture, ids, noise = given()
    before = len(world.unet.up_blocks), type(world.unet.conv_out)
    maps = world.imagine(picture, ids, noise)
    assert (len(world.unet.up_blocks), type(world.unet.conv_out)) == before
    assert not any(block._forward_hooks for block in world.unet.up_blocks)
    found: list[Tensor] = []
    handles = [b.register_forward_hook(lambda _m, _i, out: found.append(out)) for b in world.unet.up_blocks[:3]]
    scheduler = world._scheduler(torch.device("cpu"))
    with torch.no_grad():
        half = functional.interpolate(
            picture.permute(0, 3, 1, 2).float() / 127.5 - 1, (32, 32), mode="bilinear", antialias=True
        )
        latent = world.vae.encode(half).latent_dist.mode()
        scaled = noise * scheduler.init_noise_sigma / (scheduler.sigmas[0] ** 2 + 1) ** 0.5
        told = torch.cat([scaled, latent[:, None].expand(-1, 4, -1, -1, -1)], 2)
        about = torch.tensor([[4.0, 127.0, 0.0]] * 2)
        words = world.text(input_ids=ids).last_hidden_state.repeat(1, 1, 2)
        world.unet(told, scheduler.timesteps[0], words, about)
    for handle in handles:
        handle.remove()
    for level, expected in zip(maps, found, strict=True):
        close(level.flatten(0, 1), expected, 1e-4, relative=True)


def test_the_first_step_starts_from_pure_noise() -> None:
    scheduler = imagination().world._scheduler(torch.device("cpu"))
    assert float(scheduler.sigmas[0]) == pytest.approx(700.0)
    assert float(scheduler.timesteps[0]) == pytest.approx(0.25 * np.log(700.0))
    assert len(scheduler.timesteps) == 20


@pytest.mark.parametrize("steps", [2, 3])
def test_more_denoising_steps_give_other_features(steps: int) -> None:
    one = imagination().world
    more = imagination(steps=steps).world
    more.load_state_dict(one.state_dict())
    a, b = (world.imagine(*given())[1] for world in (one, more))
    assert float((a - b).abs().max()) > 1e-3


def test_features_depend_on_picture_sentence_and_noise_and_on_no_batch_mate() -> None:
    world = imagination().world
    picture, ids, noise = given()
    both = world.imagine(picture, ids, noise)[1]
    alone_ = world.imagine(picture[:1], ids[:1], noise[:1])[1]
    close(both[:1], alone_, 1e-4, relative=True)
    for changed in (
        (picture[1:], ids[:1], noise[:1]),
        (picture[:1], ids[1:], noise[:1]),
        (picture[:1], ids[:1], noise[1:]),
    ):
        assert float((world.imagine(*changed)[1] - alone_).abs().max()) > 1e-4


def test_a_shorter_horizon_uses_the_first_frames() -> None:
    maps = imagination().world.imagine(*given())
    torch.manual_seed(5)
    long, short = FeaturePyramid((64, 32, 32), 96, 4), FeaturePyramid((64, 32, 32), 96, 2)
    state = long.state_dict()
    short.load_state_dict({**state, "steps": state["steps"][:2]})
    close(short(maps), long(maps)[:, :2], 1e-6)
    assert long(maps).shape == (2, 4, 64, 96)


def test_only_with_a_position_code_does_it_matter_where_something_is_imagined() -> None:
    """Attention alone cannot tell: the former's tokens stay as they are when the positions of a map change places."""
    torch.manual_seed(0)
    plain, told = FeaturePyramid((64, 32, 32), 96, 4), FeaturePyramid((64, 32, 32), 96, 4, encodes=True)
    told.load_state_dict(plain.state_dict())
    maps = imagination().world.imagine(*given())
    code = (told(maps) - plain(maps))[0, 0].detach()
    close(code, position_code(8, 96, code.device), 1e-5)
    assert float(torch.cdist(code, code).add(torch.eye(64)).min()) > 0.1
    layer, queries, shuffled = FormerLayer(96, 4), torch.randn(2, 4, 3, 96), torch.randperm(64)
    with torch.no_grad():
        seen = plain(maps)
        close(layer(queries, seen[:, :, shuffled]), layer(queries, seen), 1e-5)
        moved = layer(queries, seen[:, :, shuffled] + code) - layer(queries, seen + code)
    assert float(moved.abs().max()) > 1e-3


def test_space_attention_stays_in_its_step_and_time_attention_mixes_steps() -> None:
    torch.manual_seed(0)
    layer = FormerLayer(32, 4)
    queries, maps = torch.randn(1, 5, 3, 32), torch.randn(1, 5, 7, 32)
    other = maps.clone()
    other[:, 2] += torch.randn(7, 32)
    silent = FormerLayer(32, 4)
    silent.load_state_dict(layer.state_dict())
    torch.nn.init.zeros_(silent.time.out_proj.weight)
    with torch.no_grad():
        changed = (silent(queries, maps) - silent(queries, other)).abs().amax((0, 2, 3))
        assert (changed > 1e-4).tolist() == [False, False, True, False, False]
        mixed = (layer(queries, maps) - layer(queries, other)).abs().amax((0, 2, 3))
        assert (mixed > 1e-4).all()


def test_the_gate_weighs_memory_against_imagination_as_published() -> None:
    module = imagination()
    perception, imagined = torch.randn(2, 16, 96), torch.randn(2, 4, 4, 96)
    with torch.no_grad():
        found = module.integrate(perception, imagined)
        flat = imagined.flatten(1, 2)
        block = module.guided
        share = torch.softmax(block.q_proj(perception) @ block.k_proj(flat).transpose(1, 2) / 96**0.5, -1)
        hidden = block.attn_norm(perception + share @ block.v_proj(flat))
        h = block.ffn_norm(hidden + block.ffn(hidden))
        gate = torch.sigmoid(module.gate.proj(torch.cat([perception, h], -1)))
        close(found, gate * perception + (1 - gate) * h, 1e-5)


def test_direct_addition_and_a_closed_gate() -> None:
    perception, imagined = torch.randn(2, 16, 96), torch.randn(2, 4, 4, 96)
    with torch.no_grad():
        added = imagination(integration="add")
        flat = imagined.flatten(1, 2)
        visible = torch.ones(1, 1, 16, dtype=torch.bool)
        close(added.integrate(perception, imagined), perception + added.guided(perception, flat, flat, visible), 1e-6)
        close(imagination(keep_bias=30.0).integrate(perception, imagined), perception, 1e-5)


def test_the_world_model_stays_frozen_while_the_policy_trains() -> None:
    torch.manual_seed(0)
    module = Imagination(LAB_IMAGINATION, 96).train()
    assert not module.world.training
    assert not any(part.training for part in module.world.modules())
    module(torch.randn(1, 16, 96), *given(1)).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in module.world.parameters())
    trained = [name for name, p in module.named_parameters() if not name.startswith("world.")]
    assert all(module.get_parameter(name).grad is not None for name in trained)


def test_imagination_changes_what_a_policy_does() -> None:
    base = alone(memoryvla_pp(CONTEXT, threads=1), episode(0), 2)
    again = alone(memoryvla_pp(CONTEXT, threads=1), episode(0), 2)
    added = alone(memoryvla_pp(CONTEXT, threads=1, imagination={"integration": "add"}), episode(0), 2)
    assert np.array_equal(base, again)
    assert not np.array_equal(base, added)


def test_the_instruction_reaches_the_world_model_in_ids_of_one_length() -> None:
    prompter = WorldPrompter(lab_tokenizer(), 8, 512)
    short, long = prompter.ids("Press RED"), prompter.ids("press the red button and then the blue button")
    assert short[0] == 1
    assert short[3:] == [2, 0, 0, 0, 0]
    assert len(long) == 8
    assert long[-1] == 2
