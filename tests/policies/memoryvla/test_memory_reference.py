"""The memory bank against the official one: fused tokens, merges, contents and timesteps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.memoryvla.memory import MemoryBank, MemoryConfig, MemoryStore, MemoryStream
from tests.policies.vla.reference import Vectors, close, load, vectors

CASES = [
    (stream, variant, dtype)
    for stream in ("cognitive", "perceptual")
    for dtype in (torch.float32, torch.float64)
    for variant in vectors(f"bank_{stream}").meta["variants" if dtype is torch.float32 else "float64_variants"]
]


def config(meta: dict[str, Any], options: dict[str, Any]) -> MemoryConfig:
    """Released option names to ours."""
    return MemoryConfig(
        tokens=options.get("N", meta.get("N", 1)),
        width=meta["D"],
        length=meta["mem_length"],
        layers=meta["retrieval_layers"],
        fusion=options["fusion_type"],
        consolidation={"tome": "merge", "fifo": "fifo"}[options["consolidate_type"]],
        write="fused" if options["update_fused"] else "raw",
        time_encoding=options["use_timestep_pe"],
    )


def build(state: dict[str, Tensor], settings: MemoryConfig, dtype: torch.dtype) -> MemoryBank:
    bank = MemoryBank(settings)
    drop: tuple[str, ...] = ()
    if settings.fusion == "add":
        drop += ("gate_fusion_blocks",)
    if not settings.time_encoding:
        drop += ("timestep_encoder",)
    load(bank, state, dtype, drop)
    return bank.eval()


def replay(bank: MemoryBank, tokens: Tensor, episodes: list[int], times: Tensor) -> dict[str, Any]:
    """One frame per call over interleaved episodes; everything the reference recorded."""
    slot_of = {episode: i for i, episode in enumerate(sorted(set(episodes)))}
    store = bank.new_store(len(slot_of))
    found: dict[str, Any] = {"fused": [], "len": [], "merge": [], "times": [], "store": store, "slots": slot_of}
    with torch.no_grad():
        for i, episode in enumerate(episodes):
            slot = torch.tensor([slot_of[episode]])
            fused = bank.recall(tokens[i : i + 1], times[i : i + 1], store, slot)
            entry = tokens[i : i + 1] if bank.config.write == "raw" else fused
            merged = bank.write(entry, times[i : i + 1], store, slot)
            found["fused"].append(fused[0])
            found["merge"].append(int(merged))
            n = int(store.count[slot])
            found["len"].append(n)
            row = np.full(bank.config.length, -1)
            row[:n] = store.times[slot[0], :n].numpy()
            found["times"].append(row)
    return found


def compare(ref: Vectors, case: str, found: dict[str, Any], tolerance: float, contents: float) -> None:
    close(torch.stack(found["fused"]), ref[f"{case}fused"], tolerance)
    assert found["len"] == ref[f"{case}bank_len"].tolist()
    if f"{case}merge_index" in ref:
        assert found["merge"] == ref[f"{case}merge_index"].tolist()
    if f"{case}bank_timesteps" in ref:
        assert np.array_equal(np.stack(found["times"]), ref[f"{case}bank_timesteps"])
    for episode, slot in found["slots"].items():
        entries, times = found["store"].read(slot)
        close(entries, ref[f"{case}final_{episode}__feats"], contents)
        if f"{case}final_{episode}__timesteps" in ref:
            assert times.tolist() == ref[f"{case}final_{episode}__timesteps"].tolist()


@pytest.mark.parametrize(("stream", "variant", "dtype"), CASES)
def test_the_bank_does_what_the_official_one_does(stream: str, variant: str, dtype: torch.dtype) -> None:
    ref = vectors(f"bank_{stream}")
    double = dtype is torch.float64
    settings = config(ref.meta["common"], ref.meta["variants"][variant])
    bank = build(ref.state(), settings, dtype)
    tokens = ref.tensor("in__tokens", dtype)
    found = replay(bank, tokens, ref["in__episode_ids"].tolist(), ref.tensor("in__timesteps"))
    exact = settings.write == "raw"  # then contents are inputs and their averages, the same bits
    tolerance = 1e-6 if double else 1e-5
    compare(ref, f"{'out64' if double else 'out'}__{variant}__", found, tolerance, 0.0 if exact else tolerance)


@pytest.mark.parametrize("case", list(vectors("bank_ties").meta["cases"]))
def test_ties_in_similarity_go_to_the_lowest_index(case: str) -> None:
    ref = vectors("bank_ties")
    settings = config(ref.meta["common"], {**ref.meta["common"], **ref.meta["cases"][case]})
    bank = build(ref.state(), settings, torch.float32)
    tokens, times = ref.tensor(f"in__{case}__tokens"), ref.tensor(f"in__{case}__timesteps")
    found = replay(bank, tokens, ref[f"in__{case}__episode_ids"].tolist(), times)
    assert max(found["merge"]) >= 0
    compare(ref, f"out__{case}__", found, 1e-5, 0.0)


@pytest.mark.parametrize("case", list(vectors("bank_training").meta["cases"]))
def test_training_batches_give_the_official_values_and_gradients(case: str) -> None:
    ref = vectors("bank_training")
    options = ref.meta["cases"][case]
    common = {**ref.meta["common"], **options}
    bank = build(ref.state(), config(common, common), torch.float32).train()
    stream = MemoryStream(bank)
    for batch in range(options["batches"]):
        bank.zero_grad()
        inputs = f"in__{case}__{batch}__"
        tokens = ref.tensor(f"{inputs}tokens").requires_grad_()
        times = ref.tensor(f"{inputs}timesteps")
        if options["dataloader_type"] == "group":
            groups = len(tokens) // options["group_size"]
            fused = bank.train_episodes(tokens.unflatten(0, (groups, -1)), times.unflatten(0, (groups, -1)))
            fused = fused.flatten(0, 1)
        else:
            fused = stream(tokens, ref[f"{inputs}episode_ids"].tolist(), times)
        (fused * ref.tensor(f"{inputs}cotangent")).sum().backward()
        out = f"out__{case}__{batch}__"
        close(fused.detach(), ref[f"{out}fused"], 1e-5)
        close(tokens.grad, ref[f"{out}grad_tokens"], 1e-5, relative=True)
        for name, parameter in bank.named_parameters():
            if f"{out}grad__{name}" in ref:
                close(parameter.grad, ref[f"{out}grad__{name}"], 1e-5, relative=True)
        if options["dataloader_type"] == "stream":
            entries, stamps = _store(stream).read(0)
            episode = int(ref[f"{out}bank_episode_ids"][0])
            assert stream.episode == episode
            close(entries, ref[f"{out}final_{episode}__feats"], 1e-5 if options["update_fused"] else 0.0)
            assert stamps.tolist() == ref[f"{out}final_{episode}__timesteps"].tolist()


def _store(stream: MemoryStream) -> MemoryStore:
    assert stream.store is not None
    return stream.store
