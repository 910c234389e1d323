"""MemoryVLA+: its parts against the official modules, its checkpoints in Dexbotic's layout, its sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from envs.spec import Observation
from policies.base import PolicyError
from policies.memoryvla.memory import MemoryBank, MemoryConfig
from policies.memoryvla.model import MemoryVLANetwork
from policies.memoryvla.policy import MemoryVLAPolicy, memoryvla, memoryvla_plus
from policies.vla import dexbotic
from policies.vla.compressor import GateFirstCompressor
from policies.vla.config import PLUS_MEMORY, LanguageConfig, ModelConfig, TowerConfig, VisionConfig, preset
from policies.vla.dexbotic import config_of, read_norm_stats, translate_dexbotic
from policies.vla.images import pictures
from policies.vla.language import PLACE, Language, Prompter, lab_tokenizer
from policies.vla.policy import Serving
from policies.vla.vision import ClipTower, Projector
from tests.policies.vla.playing import CONTEXT, alone, episode
from tests.policies.vla.reference import close, load, vectors

State = dict[str, Tensor]
TOWER = VisionConfig("clip", image=56, patch=14, clip=TowerConfig(24, 3, 2, 48))
CONFIG: dict[str, Any] = {
    "model_type": "dexbotic_memvla",
    "chat_template": "dexbotic",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_tower": "small-clip",
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 151920,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "rope_scaling": None,
    "action_model_type": "DiT-tiny",
    "action_dim": 7,
    "chunk_size": 16,
    "per_token_size": 16,
    "dataloader_type": "group",
    "group_size": 16,
    "mem_length": 3,
    "retrieval_layers": 2,
    "use_timestep_pe": True,
    "fusion_type": "gate",
    "consolidate_type": "tome",
    "update_fused": True,
}
NORMS = {"norm_stats": {"default": {"min": [-0.5] * 6 + [-1.0], "max": [0.7] * 6 + [1.0]}}}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dexbotic.CLIP_TOWERS, "small-clip", TOWER)
    monkeypatch.setitem(dexbotic.SIZES, "DiT-tiny", (2, 24, 4))


# ---------------------------------------------------------------------- parts against the official ones

CASES = {
    "default": {},
    "raw_fifo": {"write": "raw", "consolidation": "fifo"},
    "add_no_time": {"fusion": "add", "time_encoding": False},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("role", ["per", "cog"])
@pytest.mark.parametrize("case", CASES)
def test_the_memory_bank_gives_what_the_official_one_gives(case: str, role: str, dtype: torch.dtype) -> None:
    ref = vectors("plus")
    tokens = ref.meta["tokens"] if role == "per" else 1
    options = {**{k: v for k, v in vars(PLUS_MEMORY).items() if k not in ("streams", "time", "every")}, **CASES[case]}
    bank = MemoryBank(MemoryConfig(tokens, ref.meta[role], **{**options, "length": ref.meta["length"]})).eval()
    named = {f"model.per_cog_mem_bank.{k}": v for k, v in ref.state(f"{case}__").items()}
    ours = f"memory.{role}_mem_bank."
    load(bank, {k.removeprefix(ours): v for k, v in translate_dexbotic(named).items() if k.startswith(ours)}, dtype)
    store, slot = bank.new_store(3), torch.tensor([1])
    frames = ref.tensor(f"in__{role}", dtype)
    with torch.no_grad():
        fused = torch.cat([bank(f[None], torch.tensor([t]), store, slot) for t, f in enumerate(frames)])
    out, tolerance = ("out64", 1e-6) if dtype is torch.float64 else ("out", 1e-5)
    entries, times = store.read(1)
    close(fused, ref[f"{out}__{case}__{role}"], tolerance, relative=True)
    close(entries, ref[f"{out}__{case}__{role}_entries"], tolerance, relative=True)
    if f"{out}__{case}__{role}_times" in ref:
        assert times.tolist() == ref[f"{out}__{case}__{role}_times"].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compressor_gives_what_the_official_one_gives(dtype: torch.dtype) -> None:
    ref = vectors("plus")
    compressor = GateFirstCompressor(32, 16)
    load(compressor, ref.state("compressor__"), dtype)
    tokens = ref.tensor("in__compressor", dtype)
    out, tolerance = ("out64", 1e-6) if dtype is torch.float64 else ("out", 1e-5)
    with torch.no_grad():
        close(compressor(tokens), ref[f"{out}__compressor"], tolerance, relative=True)
        # Dexbotic has one view; two are compressed each on its own.
        both = compressor(tokens.reshape(1, 32, 32), views=2)
        close(both.reshape(2, 16, 16), ref[f"{out}__compressor"], tolerance, relative=True)


def test_the_tower_gives_the_second_to_last_states_of_clip() -> None:
    torch.manual_seed(0)
    tower = ClipTower(TOWER).double().eval()
    picture = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)[:, None, None]
    pixels = (picture.double().permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.no_grad():
        expected = tower.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        found = tower(picture, torch.zeros(2, 1))
    assert found.shape == (2, 16, 24)
    close(found, expected, 1e-5)


SMALL = LanguageConfig(
    kind="qwen2", vocabulary=512, width=32, layers=2, heads=4, key_heads=2, mlp=48, pad=0, tail=(2,), longest=64,
    bos=-1, prompt="look <image> {instruction}", lower=False,
)  # fmt: skip


def test_pictures_stand_where_the_prompt_says_and_the_last_token_answers() -> None:
    torch.manual_seed(0)
    language = Language(SMALL).double().eval()
    ids = torch.tensor([[9, 8, PLACE, 7, 2, 0, 0], [5, PLACE, 6, 7, 11, 10, 2]])
    lengths, place = torch.tensor([5, 7]), torch.tensor([2, 1])
    prefix = torch.randn(2, 3, 32, dtype=torch.float64)
    with torch.no_grad():
        found = language(language.embed(ids), lengths, prefix, place)
        for row, (length, at) in enumerate([(5, 2), (7, 1)]):
            text = language.embed(ids[row : row + 1, :length])
            whole = torch.cat([text[:, :at], prefix[row : row + 1], text[:, at + 1 :]], 1)
            hidden = language.model(inputs_embeds=whole).last_hidden_state
            close(found[row : row + 1], hidden[:, -1:], 1e-12)


def test_the_chat_template_is_tokenised_in_two_parts_with_the_pictures_between() -> None:
    tokenizer = lab_tokenizer()
    language = preset("7b", "memoryvla_plus").language
    ids = Prompter(tokenizer, language).ids(" stack the block ")
    at = ids.index(PLACE)
    head = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    head += "detailed, and polite answers to the user's questions. USER: "
    tail = "\nWhat action should the robot take to stack the block? ASSISTANT:  "
    assert ids[:at] == tokenizer.encode(head, add_special_tokens=False).ids
    assert ids[at + 1 : -1] == tokenizer.encode(tail, add_special_tokens=False).ids
    assert ids[-1] == 151643
    with pytest.raises(PolicyError, match="empty"):
        Prompter(tokenizer, language).ids(" ")


def test_a_sentence_keeps_its_capitals_where_it_is_taken_as_sent() -> None:
    seen: list[str] = []

    class Listening:
        def get_vocab_size(self) -> int:
            return 10

        def encode(self, text: str, add_special_tokens: bool) -> Any:
            seen.append(text)
            return lab_tokenizer().encode(text, add_special_tokens=add_special_tokens)

    Prompter(Listening(), SMALL).ids("Press RED")  # type: ignore[arg-type]
    assert seen == ["look ", " Press RED"]


def test_a_picture_that_is_not_square_is_padded_with_clips_mean_colour() -> None:
    config = VisionConfig("clip", image=56, patch=14, resize="pad")
    wide = np.full((28, 56, 3), 7, np.uint8)
    (found,) = pictures(Observation({"a": wide}, None, "go", 0), ("a",), config)
    assert found.shape == (56, 56, 3)
    assert (found[14:42] == 7).all()
    assert (found[:14] == (122, 116, 104)).all()
    assert (found[42:] == (122, 116, 104)).all()
    tall = np.full((112, 56, 3), 7, np.uint8)
    (found,) = pictures(Observation({"a": tall}, None, "go", 0), ("a",), config)
    assert found[28, 0].tolist() == [122, 116, 104]
    assert found[28, 28].tolist() == [7, 7, 7]


# ---------------------------------------------------------------------- sizes


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_the_7b_preset_has_the_sizes_of_its_parts() -> None:
    """Counts published for Qwen2.5-7B and CLIP ViT-L/14-336; of the rest, those the layers' shapes give."""
    config = preset("7b", "memoryvla_plus")
    with torch.device("meta"):
        network = MemoryVLANetwork(config)
        language = Language(replace(config.language, vocabulary=152064))
        tower = ClipTower(config.vision)
        projector = Projector(1024, 3584, "mlp2x_gelu")
    head = 152064 * 3584
    assert sum(p.numel() for p in language.parameters()) + head == 7_615_616_512  # Qwen2.5-7B as published
    assert millions(tower) == pytest.approx(303.5, abs=0.05)
    assert config.vision.tokens == 576
    assert millions(projector) == pytest.approx((1024 * 3584 + 3584 + 3584 * 3584 + 3584) / 1e6)
    wide, narrow = 3584, 256
    for bank, d in ((network.memory.cog_mem_bank, wide), (network.memory.per_mem_bank, narrow)):
        block = 3 * (d * d + d) + 2 * 2 * d + (d * 4 * d + 4 * d) + (4 * d * d + d)
        expected = 2 * block + (2 * d * d + d) + (256 * d + d) + (d * d + d)
        assert bank is not None
        assert sum(p.numel() for p in bank.parameters()) == expected
    gate = wide * 224 + 224 + 224 * wide + wide
    compressor = gate + (wide * 1792 + 1792) + (1792 * 256 + 256)
    assert sum(p.numel() for p in network.memory.per_compr.parameters()) == compressor
    assert round(millions(network) / 1e3) == 8  # the hub says 8B of a released one
    assert network.action_model.net.z_embedder.uncondition.shape == (1, 3584)


def test_the_lab_preset_has_about_a_million_parameters() -> None:
    assert 0.8 < millions(MemoryVLANetwork(preset("lab", "memoryvla_plus"))) < 2


# ---------------------------------------------------------------------- checkpoints


def random_network() -> MemoryVLANetwork:
    torch.manual_seed(3)
    network = MemoryVLANetwork(config_of(CONFIG, "here"))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def dexbotic_names(network: MemoryVLANetwork) -> State:
    """The network's weights under Dexbotic's names."""
    found: State = {"lm_head.weight": torch.zeros(8, 32)}
    for name, tensor in network.state_dict().items():
        part, _, inner = name.partition(".")
        if part == "action_model":
            found[f"model.action_head.{inner}"] = tensor
        elif name.startswith("vlm.vision_backbone.vision_tower."):
            inner = name.removeprefix("vlm.vision_backbone.vision_tower.")
            found[f"model.mm_vision_tower.vision_tower.vision_model.{inner}"] = tensor
        elif name.startswith("vlm.projector.projector."):
            found[f"model.mm_projector.{name.removeprefix('vlm.projector.projector.')}"] = tensor
        elif name.startswith("vlm.llm_backbone.model."):
            found[f"model.llm.{name.removeprefix('vlm.llm_backbone.model.')}"] = tensor
        elif inner.startswith("per_compr."):
            found[f"model.{inner}"] = tensor
        else:
            bank, _, rest = inner.partition(".")
            kind, _, rest = rest.partition(".")
            kind = {"timestep_encoder": "timestep_embedders"}.get(kind, kind)
            rest = rest.replace("ffn.2.", "ffn.3.")
            found[f"model.per_cog_mem_bank.{kind}.{bank.removesuffix('_mem_bank')}.{rest}"] = tensor
    position = torch.arange(17)[None]
    return {**found, "model.mm_vision_tower.vision_tower.vision_model.embeddings.position_ids": position}


def write(folder: Path, state: State, how: str = "one", config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    kept = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    if how == "one":
        save_file(kept, folder / "model.safetensors")
    elif how == "pickle":
        torch.save(kept, folder / "pytorch_model.bin")
    else:
        names, files = list(kept), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        where = {name: files[i % 2] for i, name in enumerate(names)}
        for file in files:
            save_file({name: kept[name] for name in names if where[name] == file}, folder / file)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    (folder / "norm_stats.json").write_text(json.dumps(NORMS))
    lab_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("how", ["one", "shards", "pickle"])
def test_a_dexbotic_checkpoint_acts_as_the_network_it_was_written_from(how: str, tmp_path: Path) -> None:
    network = random_network()
    folder = write(tmp_path / "run", dexbotic_names(network), how)
    policy = memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero", threads=1)
    state = policy.network.state_dict()
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[name], tensor), name
    config = policy.loaded.config
    assert (config.memory.length, config.memory.heads, config.memory.time_width) == (3, 4, 256)
    assert (config.memory.write, config.memory.merged_time, config.memory.when_empty) == ("fused", "mean", "attend")
    assert (policy.spec.chunk, policy.spec.execute) == (16, 11)
    assert policy.spec.action.gripper.closed == 1.0
    again = MemoryVLAPolicy("memoryvla_plus", replace(policy.loaded, network=network), Serving())
    played = alone(policy, episode(0), 5)
    assert np.array_equal(played, alone(again, episode(0), 5))
    assert played[..., :6].min() >= -0.5
    assert played[..., :6].max() <= 0.7
    grip = played[..., 6]
    assert len(np.unique(grip)) > 2, "the gripper was scaled with the rest and must not be decided here"
    assert (grip.min() >= -1, grip.max() <= 1) == (True, True)


def test_what_the_actions_of_a_dexbotic_checkpoint_mean_must_be_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", dexbotic_names(random_network()))
    with pytest.raises(PolicyError, match=r"policy\.trained_on=; there are bridge, libero, and environment"):
        memoryvla_plus(CONTEXT, checkpoint=str(folder))
    with pytest.raises(PolicyError, match="'lego' is not known"):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="lego")
    as_they_are = memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="environment")
    assert as_they_are.spec.action == CONTEXT.env.action
    with pytest.raises(PolicyError, match="use policy=memoryvla_plus"):
        memoryvla(CONTEXT, checkpoint=str(folder))


def test_the_memory_switches_of_a_config_arrive(tmp_path: Path) -> None:
    data = {**CONFIG, "consolidate_type": "fifo", "fusion_type": "add", "update_fused": False, "use_timestep_pe": False}
    memory = config_of(data, "here").memory
    assert (memory.consolidation, memory.fusion, memory.write, memory.time_encoding) == ("fifo", "add", "raw", False)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"mem_length": None, "chunk_size": None}, "lacks chunk_size, mem_length"),
        ({"mm_vision_tower": "google/siglip"}, "mm_vision_tower is 'google/siglip'; known are openai/clip"),
        ({"mm_projector_type": "linear"}, "mm_projector_type is 'linear', only 'mlp2x_gelu'"),
        ({"chat_template": "step"}, "chat_template is 'step'"),
        ({"action_model_type": "DiT-XL"}, "action_model_type is 'DiT-XL'; known are DiT-S"),
        ({"image_aspect_ratio": "keep"}, "image_aspect_ratio is 'keep'"),
        ({"rope_scaling": {"type": "yarn"}}, "no rope_scaling"),
        ({"rope_theta": None}, "must have a rope_theta"),
        ({"consolidate_type": "drop"}, "must be one of merge, fifo"),
    ],
)
def test_a_config_that_means_something_else_is_refused(change: dict[str, Any], error: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", {"none": torch.zeros(1)}, config={**CONFIG, **change})
    with pytest.raises(PolicyError, match=error):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero")


def _drop(state: State) -> None:
    del state["model.per_cog_mem_bank.gate_fusion_blocks.cog.proj.bias"]


def _extra(state: State) -> None:
    state["model.action_head.net.surprise"] = torch.zeros(2)


def _shape(state: State) -> None:
    state["model.mm_projector.2.bias"] = torch.zeros(3)


def _nan(state: State) -> None:
    state["model.per_compr.reduce.0.bias"][0] = float("nan")


def _foreign(state: State) -> None:
    state["model.history.weight"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_drop, r"missing: memory.cog_mem_bank.gate_fusion_blocks.proj.bias \[32\]"),
        (_extra, r"extra: action_model.net.surprise \[2\]"),
        (_shape, r"shape of vlm.projector.projector.2.bias: \[3\], expected \[32\]"),
        (_nan, "not a number: memory.per_compr.reduce.0.bias"),
        (_foreign, "extra: model.history.weight"),
    ],
)
def test_a_key_that_is_missing_extra_misshaped_or_nan_is_named(
    spoil: Callable[[State], None], error: str, tmp_path: Path
) -> None:
    state = {name: tensor.clone() for name, tensor in dexbotic_names(random_network()).items()}
    spoil(state)
    folder = write(tmp_path / "run", state)
    with pytest.raises(PolicyError, match=error):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero")


@pytest.mark.parametrize("missing", ["model.safetensors", "norm_stats.json", "tokenizer.json"])
def test_a_file_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "run", dexbotic_names(random_network()))
    (folder / missing).unlink()
    with pytest.raises(PolicyError, match=missing):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero")


def test_a_shard_that_is_missing_or_lies_elsewhere_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", dexbotic_names(random_network()), "shards")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(PolicyError, match=r"not there: model-00002-of-00002\.safetensors"):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(PolicyError, match=r"not there: \.\./other\.safetensors"):
        memoryvla_plus(CONTEXT, checkpoint=str(folder), trained_on="libero")


def test_statistics_may_lie_beside_the_folder_bare_or_be_one_number(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    per_data = {"default": {"min": -1, "max": 1}, "some/data": {"default": {"min": [0.0] * 7, "max": [2.0] * 7}}}
    (tmp_path / "norm_stats.json").write_text(json.dumps(per_data))
    found = read_norm_stats(folder)
    assert found["default"].q01.tolist() == [-1.0] * 7
    assert found["some/data"].q99.tolist() == [2.0] * 7
    assert found["default"].mask.all()
    (folder / "norm_stats.json").write_text(json.dumps({"norm_stats": {"default": {"min": [0.0] * 7}}}))
    with pytest.raises(PolicyError, match="lacks max"):
        read_norm_stats(folder)


def test_our_own_format_keeps_memoryvla_plus(tmp_path: Path) -> None:
    from policies.vla.checkpoint import save_checkpoint

    policy = memoryvla_plus(CONTEXT, threads=1)
    masks = {"scaled": [True] * 7, "plain": [True] * 6 + [False]}
    save_checkpoint(
        tmp_path / "toy",
        policy.network,
        policy.loaded.config,
        statistics={k: {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": m}} for k, m in masks.items()},
        tokenizer=policy.loaded.prompter.tokenizer,
        action=policy.spec.action,
        cameras=policy.spec.cameras,
    )
    plain = memoryvla_plus(CONTEXT, checkpoint=str(tmp_path / "toy"), unnorm_key="plain", threads=1)
    assert isinstance(plain.loaded.config, ModelConfig)
    assert plain.loaded.config == policy.loaded.config
    assert np.array_equal(alone(policy, episode(1), 4), alone(plain, episode(1), 4))
    scaled = memoryvla_plus(CONTEXT, checkpoint=str(tmp_path / "toy"), unnorm_key="scaled", threads=1)
    assert not scaled.loaded.convention.binary
