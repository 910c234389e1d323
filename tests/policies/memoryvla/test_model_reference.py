"""The pieces put together, against the official model class with the vision-language part given."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from policies.memoryvla.memory import MemoryBank, MemoryStream
from policies.memoryvla.model import Memory
from policies.vla import diffusion
from policies.vla.config import ExpertConfig, LanguageConfig, MemoryOptions, ModelConfig, TowerConfig, VisionConfig
from policies.vla.dit import ActionModel
from policies.vla.language import cognition_of
from policies.vla.model import expert_of
from policies.vla.statistics import ActionStatistics, settle, unnormalise
from tests.policies.vla.reference import Vectors, close, vectors


def build(ref: Vectors, write: str = "raw") -> tuple[Memory, ActionModel]:
    meta = ref.meta
    left, right = meta["vision_dims"]
    config = ModelConfig(
        family="memoryvla",
        vision=VisionConfig(
            "towers", math.isqrt(meta["num_patch"]), 1, TowerConfig(left, 1, 1, left), TowerConfig(right, 1, 1, right)
        ),
        language=LanguageConfig(32, meta["token_size"], 1, 1, 8),
        expert=ExpertConfig(meta["depth"], meta["hidden"], meta["heads"], chunk=meta["T"], guidance=meta["cfg_scale"]),
        perception=meta["per_token_size"],
        memory=MemoryOptions(length=meta["mem_length"], layers=meta["retrieval_layers"], write=write),
    )
    assert config.picture_tokens == meta["num_patch"]
    memory, action_model = Memory(config), ActionModel(expert_of(config, perception=True))
    state = ref.state()
    action = {k.removeprefix("action_model."): v for k, v in state.items() if k.startswith("action_model.")}
    action_model.load_state_dict(action, strict=True)
    memory.load_state_dict({k: v for k, v in state.items() if not k.startswith("action_model.")}, strict=True)
    return memory, action_model


def test_calls_over_two_episodes_give_the_official_actions() -> None:
    ref = vectors("whole_model")
    memory, action_model = build(ref)
    statistics = ActionStatistics.of({name: ref[f"in__{name}"] for name in ("q01", "q99", "mask")})
    hidden, vision, noise = (ref.tensor(f"in__infer__{name}") for name in ("hidden", "vision", "noise"))
    stores = memory.new_stores(1)
    slot = torch.tensor([0])
    time = 0
    for call, first in enumerate(ref["in__infer__first"]):
        if first:
            time = 0
            for store in stores.values():
                store.clear(slot)
        with torch.no_grad():
            cognition = hidden[call : call + 1, -1:]
            times = torch.tensor([float(time)])
            cognition, perception = memory(cognition, vision[call : call + 1], times, stores, slot)
            raw = diffusion.sample(action_model.net, noise[call], cognition, perception, diffusion.Sampling(10, 1.5))
        time += 1
        close(cognition[0], ref["out__infer__cog"][call], 1e-5)
        close(perception[0], ref["out__infer__per"][call], 1e-5)
        close(raw[0], ref["out__infer__raw"][call], 1e-5, relative=True)
        settled = settle(raw[0].numpy())
        close(torch.from_numpy(settled), ref["out__infer__normalized"][call], 1e-5)
        close(torch.from_numpy(unnormalise(settled, statistics)), ref["out__infer__actions"][call], 1e-5)
    for stream, name in (("cognitive", "cog"), ("perceptual", "per")):
        entries, times = stores[stream].read(0)
        assert times.tolist() == ref[f"out__infer__{name}bank_final_0__timesteps"].tolist()
        # Cognition tokens are written as given, perceptual tokens come out of the compressor.
        close(entries, ref[f"out__infer__{name}bank_final_0__feats"], 0.0 if name == "cog" else 1e-6)


@pytest.mark.parametrize("case", list(vectors("whole_model").meta["train_cases"]))
def test_training_gives_the_official_loss_and_gradients(case: str) -> None:
    ref = vectors("whole_model")
    options = ref.meta["train_cases"][case]
    memory, action_model = build(ref, "fused" if options.get("update_fused") else "raw")
    streams = {name: MemoryStream(bank) for name, bank in memory.banks.items()}
    for batch in range(options["batches"]):
        memory.zero_grad()
        action_model.zero_grad()
        at = f"in__{case}__{batch}__"
        hidden, vision = (ref.tensor(at + name).requires_grad_() for name in ("hidden", "vision"))
        cognition = cognition_of(hidden, ref.tensor(at + "attention_mask"), vision.shape[1])
        tokens = {"cognitive": cognition, "perceptual": memory.per_compr(vision)}
        for name, bank in memory.banks.items():
            tokens[name] = remember(bank, streams[name], tokens[name], ref, at, options)
        repeats = options["repeats"]
        loss = diffusion.diffusion_loss(
            action_model.net,
            ref.tensor(at + "actions").repeat(repeats, 1, 1),
            tokens["cognitive"].repeat(repeats, 1, 1),
            tokens["perceptual"].repeat(repeats, 1, 1),
            noise=ref.tensor(at + "noise"),
            step=ref.tensor(at + "t"),
            drop=ref.tensor(at + "drop_u") < diffusion.DROP,
        )
        loss.backward()
        out = f"out__{case}__{batch}__"
        close(loss, ref[out + "loss"], 1e-5, relative=True)
        for name, inputs in (("hidden", hidden), ("vision", vision)):
            assert inputs.grad is not None
            largest = float(torch.as_tensor(ref[f"{out}grad_{name}"]).abs().max())
            close(inputs.grad, ref[f"{out}grad_{name}"], 2e-5 * largest)
        compare_norms(nn.ModuleList([memory, action_model]), ref, out)


def remember(
    bank: MemoryBank, stream: MemoryStream, tokens: Tensor, ref: Vectors, at: str, options: dict[str, Any]
) -> Tensor:
    times = ref.tensor(at + "timesteps")
    if options["dataloader_type"] == "stream":
        return stream(tokens, ref[at + "episode_ids"].tolist(), times)
    groups = len(tokens) // options["group_size"]
    return bank.train_episodes(tokens.unflatten(0, (groups, -1)), times.unflatten(0, (groups, -1))).flatten(0, 1)


def compare_norms(both: nn.ModuleList, ref: Vectors, out: str) -> None:
    names = {f"0.{k}": k for k in dict(both[0].named_parameters())}
    names |= {f"1.{k}": f"action_model.{k}" for k in dict(both[1].named_parameters())}
    for ours, parameter in both.named_parameters():
        expected = float(ref[f"{out}gradnorm__{names[ours]}"])
        found = 0.0 if parameter.grad is None else float(parameter.grad.norm())
        assert found == pytest.approx(expected, rel=2e-5, abs=1e-7), names[ours]


def test_a_stream_left_out_passes_its_tokens_through() -> None:
    ref = vectors("whole_model")
    whole, _ = build(ref)
    for streams, untouched in (("perceptual", "cognitive"), ("cognitive", "perceptual")):
        config = replace(whole.config, memory=replace(whole.config.memory, streams=streams))
        memory = Memory(config)
        assert list(memory.banks) == [streams]
        cognition, vision = torch.randn(2, 1, 32), torch.randn(2, 16, 48)
        stores, slots = memory.new_stores(2), torch.tensor([0, 1])
        with torch.no_grad():
            memory(torch.randn(2, 1, 32), torch.randn(2, 16, 48), torch.zeros(2), stores, slots)
            out = dict(
                zip(("cognitive", "perceptual"), memory(cognition, vision, torch.ones(2), stores, slots), strict=True)
            )
            given = {"cognitive": cognition, "perceptual": memory.per_compr(vision)}
        assert torch.equal(out[untouched], given[untouched])
        assert not torch.allclose(out[streams], given[streams])
