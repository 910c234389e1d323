"""Sizes, initial values and errors of the shared parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from policies.base import PolicyError
from policies.memoryvla.memory import MemoryBank, MemoryConfig
from policies.vla.compressor import PerceptualCompressor
from policies.vla.diffusion import predict
from policies.vla.dit import SIZES, ActionModel, DiTConfig
from policies.vla.statistics import ActionStatistics, choose_statistics, normalise, settle, unnormalise


def millions(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / 1e6, 2)


@pytest.mark.parametrize(
    ("size", "with_perception", "without"), [("DiT-S", 16.1, 12.5), ("DiT-B", 117.5, 89.0), ("DiT-L", 408.8, 307.8)]
)
def test_the_action_experts_have_the_published_sizes(size: str, with_perception: float, without: float) -> None:
    with torch.device("meta"):
        memoryvla = ActionModel(DiTConfig.of_size(size, chunk=16, condition=4096, perception=256))
        cogact = ActionModel(DiTConfig.of_size(size, chunk=16, condition=4096))
    assert millions(memoryvla) == pytest.approx(with_perception, abs=0.051)
    assert millions(cogact) == pytest.approx(without, abs=0.051)


def test_the_memory_parts_have_the_published_sizes() -> None:
    with torch.device("meta"):
        cognitive = MemoryBank(MemoryConfig(tokens=1, width=4096))
        perceptual = MemoryBank(MemoryConfig(tokens=256, width=256))
        compressor = PerceptualCompressor(2176, 256)
    assert millions(cognitive) == pytest.approx(423.7, abs=0.051)
    assert millions(perceptual) == pytest.approx(1.66, abs=0.0051)
    assert millions(compressor) == pytest.approx(1.28, abs=0.0051)
    shapes = {name: list(p.shape) for name, p in cognitive.named_parameters()}
    assert shapes["gate_fusion_blocks.proj.weight"] == [4096, 8192]
    assert shapes["timestep_encoder.mlp.0.weight"] == [4096, 1024]
    assert shapes["retrieval_blocks.1.ffn.2.weight"] == [4096, 16384]


def test_perception_attention_starts_silent_but_can_learn() -> None:
    net = ActionModel(DiTConfig(2, 24, 4, chunk=4, condition=8, perception=8)).net
    nn.init.normal_(net.final_layer.linear.weight)
    x, step, z = torch.randn(2, 4, 7), torch.tensor([3, 70]), torch.randn(2, 1, 8)
    one, two = (net(x, step, z, net.see(torch.randn(2, 5, 8))) for _ in range(2))
    assert torch.equal(one, two)
    (one**2).sum().backward()
    gradient = net.blocks[0].per_attn.in_proj_bias.grad  # type: ignore[union-attr]
    assert gradient is not None
    assert float(gradient.abs().max()) > 0


def test_a_fresh_expert_predicts_zero_noise() -> None:
    net = ActionModel(DiTConfig(2, 24, 4, chunk=4, condition=8)).net
    noise = net(torch.randn(1, 4, 7), torch.tensor([5]), torch.randn(1, 1, 8))
    assert not noise.any()


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_a_guidance_of_one_or_less_is_off(guidance: float) -> None:
    net = ActionModel(DiTConfig(1, 24, 4, chunk=4, condition=8)).net
    nn.init.normal_(net.final_layer.linear.weight)
    x, step, z = torch.randn(1, 4, 7), torch.tensor([5]), torch.randn(1, 1, 8)
    assert torch.equal(predict(net, x, step, z, None, guidance), net(x, step, z))


def test_an_unknown_size_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=", ".join(SIZES)):
        DiTConfig.of_size("DiT-XL", chunk=16, condition=8)


def test_an_unknown_statistics_key_is_refused_with_those_there_are() -> None:
    known = {"bridge_orig": ActionStatistics.unit(7), "fractal": ActionStatistics.unit(7)}
    with pytest.raises(PolicyError, match=r"unknown unnorm_key 'bridge'.*bridge_orig, fractal"):
        choose_statistics(known, "bridge")
    with pytest.raises(PolicyError, match="no unnorm_key was given"):
        choose_statistics(known, None)
    assert choose_statistics({"one": known["fractal"]}, None) is known["fractal"]


@pytest.mark.parametrize(
    "entry", [{"q01": [0.0] * 7}, {"q01": [0.0] * 7, "q99": [1.0] * 6}, {"q01": [0.0] * 7, "q99": [float("nan")] * 7}]
)
def test_broken_statistics_are_refused(entry: dict[str, list[float]]) -> None:
    with pytest.raises(PolicyError, match="statistics"):
        ActionStatistics.of(entry, "x")


def test_normalising_undoes_unnormalising() -> None:
    generator = torch.Generator().manual_seed(0)
    low, high = -torch.rand(7, generator=generator), torch.rand(7, generator=generator)
    entry = {"q01": low.tolist(), "q99": high.tolist(), "mask": [True] * 6 + [False]}
    statistics = ActionStatistics.of(entry)
    raw = settle((2 * torch.rand(5, 7, generator=generator) - 1).numpy())
    assert abs(normalise(unnormalise(raw, statistics), statistics) - raw).max() < 1e-6
