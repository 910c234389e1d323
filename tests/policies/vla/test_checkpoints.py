"""Checkpoints: the released layout at small size, our own format, and everything that must be refused."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.base import PolicyError
from policies.cogact.model import CogACTNetwork
from policies.cogact.policy import CogACTPolicy, cogact
from policies.memoryvla.model import MemoryVLANetwork
from policies.memoryvla.policy import MemoryVLAPolicy, memoryvla
from policies.vla import checkpoint
from policies.vla.checkpoint import fill, save_checkpoint, translate
from policies.vla.config import ExpertConfig, LanguageConfig, ModelConfig, TowerConfig, VisionConfig, preset
from policies.vla.language import Prompter, lab_tokenizer
from policies.vla.policy import Loaded, Serving, VLAPolicy
from policies.vla.statistics import ActionStatistics
from tests.policies.vla.playing import ACTION, CONTEXT, alone, episode
from tests.policies.vla.reference import vectors

Groups = dict[str, dict[str, Tensor]]
SETTINGS = {
    "mem_length": 3,
    "retrieval_layers": 2,
    "use_timestep_pe": True,
    "fusion_type": "gate",
    "consolidate_type": "tome",
    "update_fused": False,
    "per_token_size": 16,
}
STATISTICS = {
    "libero_goal_no_noops": {"action": {"q01": [-0.5] * 7, "q99": [0.7] * 7, "mask": [True] * 6 + [False]}},
    "libero_10_no_noops": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}},
}


def small(family: str) -> ModelConfig:
    """A released architecture at the size of the tower vectors."""
    meta = vectors("towers").meta
    return ModelConfig(
        family=family,
        vision=VisionConfig(
            "towers", meta["image"], meta["patch"], TowerConfig(*meta["dino"]), TowerConfig(*meta["siglip"])
        ),
        language=LanguageConfig(512, 32, 2, 2, 48, pad=0, tail=(5, 2)),
        expert=ExpertConfig(depth=2, hidden=24, heads=4, chunk=16),
        perception=16,
    )


@pytest.fixture(autouse=True)
def _small_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checkpoint.BASES, "small", small)


def random_network(family: str) -> CogACTNetwork | MemoryVLANetwork:
    torch.manual_seed(3)
    config = small(family)
    config = replace(config, memory=replace(config.memory, length=3))
    network = MemoryVLANetwork(config) if family == "memoryvla" else CogACTNetwork(config)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def released(family: str) -> tuple[CogACTNetwork | MemoryVLANetwork, Groups]:
    """A network with the tower vectors' weights, and the same weights in the released layout."""
    network = random_network(family)
    groups: Groups = {"vision_backbone": vectors("towers").state()}
    groups["llm_backbone"] = {"llm.lm_head.weight": torch.zeros(512, 32)}
    for name, tensor in network.state_dict().items():
        room, _, inner = name.partition(".")
        group, _, rest = inner.partition(".")
        if room == "action_model":
            groups.setdefault("action_model", {})[inner] = tensor
        elif group == "llm_backbone":
            groups[group][f"llm.{rest}"] = tensor
        elif group != "vision_backbone":
            groups.setdefault(group, {})[rest] = tensor
    if family == "cogact":
        groups["action_model"]["net.history_embedder.linear.weight"] = torch.zeros(24, 7)
        groups["action_model"]["net.history_embedder.linear.bias"] = torch.zeros(24)
    network.load_state_dict({**network.state_dict(), **translate({"vision_backbone": groups["vision_backbone"]})})
    return network, groups


def write(run: Path, groups: Any, settings: dict[str, Any] | None = None) -> Path:
    (run / "checkpoints").mkdir(parents=True)
    torch.save({"model": groups}, run / "checkpoints" / "step-000001-epoch-01-loss=0.1.pt")
    (run / "config.json").write_text(json.dumps({"vla": {"base_vlm": "small"}, **(settings or SETTINGS)}))
    (run / "dataset_statistics.json").write_text(json.dumps(STATISTICS))
    lab_tokenizer().save(str(run / "tokenizer.json"))
    return run


POLICIES: dict[str, Callable[..., VLAPolicy[Any]]] = {"cogact": cogact, "memoryvla": memoryvla}
CLASSES: dict[str, type[Any]] = {"cogact": CogACTPolicy, "memoryvla": MemoryVLAPolicy}


@pytest.mark.parametrize("family", POLICIES)
def test_a_released_checkpoint_acts_as_the_network_it_was_written_from(family: str, tmp_path: Path) -> None:
    network, groups = released(family)
    run = write(tmp_path / "run", groups)
    policy = POLICIES[family](CONTEXT, checkpoint=str(run), unnorm_key="libero_goal_no_noops", threads=1)
    state = policy.network.state_dict()
    assert state.keys() == network.state_dict().keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(state[name], tensor), name
    assert policy.loaded.config.memory.length == (3 if family == "memoryvla" else 16)
    assert policy.spec.action.translation_unit == 0.05  # LIBERO's convention, from the key
    assert policy.spec.action.gripper.closed == 0.0
    assert policy.spec.chunk == 16
    again = CLASSES[family](family, replace(policy.loaded, network=network), Serving())
    assert np.array_equal(alone(policy, episode(0), 5), alone(again, episode(0), 5))


def test_the_file_itself_can_be_named_and_keys_without_choice_are_an_error(tmp_path: Path) -> None:
    run = write(tmp_path / "run", released("cogact")[1])
    (file,) = (run / "checkpoints").iterdir()
    assert cogact(CONTEXT, checkpoint=str(file), unnorm_key="libero_10_no_noops").loaded.statistics.q99[0] == 1.0
    with pytest.raises(PolicyError, match=r"no unnorm_key was given.*libero_10_no_noops, libero_goal_no_noops"):
        cogact(CONTEXT, checkpoint=str(file))
    with pytest.raises(PolicyError, match="unknown unnorm_key 'libero'"):
        cogact(CONTEXT, checkpoint=str(file), unnorm_key="libero")


def _drop(groups: Groups) -> None:
    del groups["per_mem_bank"]["gate_fusion_blocks.proj.bias"]


def _extra(groups: Groups) -> None:
    groups["action_model"]["net.surprise"] = torch.zeros(2)


def _shape(groups: Groups) -> None:
    groups["projector"]["projector.2.bias"] = torch.zeros(3)


def _nan(groups: Groups) -> None:
    groups["vision_backbone"]["siglip_featurizer.blocks.1.mlp.fc1.bias"][0] = float("nan")


def _group(groups: Groups) -> None:
    del groups["llm_backbone"]


def _average(groups: Groups) -> None:
    groups["ema_diffusion"] = {}


def _foreign(groups: Groups) -> None:
    groups["value_head"] = {"weight": torch.zeros(1)}


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_drop, r"missing: memory.per_mem_bank.gate_fusion_blocks.proj.bias \[16\]"),
        (_extra, r"extra: action_model.net.surprise \[2\]"),
        (_shape, r"shape of vlm.projector.projector.2.bias: \[3\], expected \[32\]"),
        (_nan, "not a number: vlm.vision_backbone.siglip.encoder.layers.1.mlp.fc1.bias"),
        (_group, "lacks llm_backbone"),
        (_average, "ema_diffusion"),
        (_foreign, "extra: memory.value_head.weight"),
    ],
)
def test_a_key_that_is_missing_extra_misshaped_or_nan_is_named(
    spoil: Callable[[Groups], None], error: str, tmp_path: Path
) -> None:
    groups = {group: {k: v.clone() for k, v in state.items()} for group, state in released("memoryvla")[1].items()}
    spoil(groups)
    run = write(tmp_path / "run", groups)
    with pytest.raises(PolicyError, match=error):
        memoryvla(CONTEXT, checkpoint=str(run), unnorm_key="libero_goal_no_noops")


@pytest.mark.parametrize(("family", "other"), [("cogact", "memoryvla"), ("memoryvla", "cogact")])
def test_a_checkpoint_of_another_family_is_refused(family: str, other: str, tmp_path: Path) -> None:
    run = write(tmp_path / "run", released(family)[1])
    with pytest.raises(PolicyError, match=f"is of family {family}; use policy={family}"):
        POLICIES[other](CONTEXT, checkpoint=str(run), unnorm_key="libero_goal_no_noops")


class _Bomb:
    """What a hostile pickle would run."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"action_model": {"x": _Bomb(tmp_path / "boom")}})
    with pytest.raises(PolicyError, match="cannot be read as weights"):
        memoryvla(CONTEXT, checkpoint=str(run))
    assert not (tmp_path / "boom").exists()
    pickle.loads(pickle.dumps(_Bomb(tmp_path / "boom")))  # and the bomb is a real one
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        ({"vla": {"base_vlm": "llava"}}, "base_vlm is 'llava'"),
        ({"vla": {"base_vlm": "small"}, "mem_length": 3}, "lacks retrieval_layers, use_timestep_pe"),
    ],
)
def test_a_training_config_that_leaves_memory_open_is_refused(
    spoil: dict[str, Any], error: str, tmp_path: Path
) -> None:
    run = write(tmp_path / "run", released("memoryvla")[1])
    (run / "config.json").write_text(json.dumps(spoil))
    with pytest.raises(PolicyError, match=error):
        memoryvla(CONTEXT, checkpoint=str(run), unnorm_key="libero_goal_no_noops")


@pytest.mark.parametrize("missing", ["config.json", "dataset_statistics.json", "tokenizer.json"])
def test_a_file_that_is_missing_beside_a_checkpoint_is_named(missing: str, tmp_path: Path) -> None:
    run = write(tmp_path / "run", released("memoryvla")[1])
    (run / missing).unlink()
    with pytest.raises(PolicyError, match=missing):
        memoryvla(CONTEXT, checkpoint=str(run), unnorm_key="libero_goal_no_noops")


def save(folder: Path) -> MemoryVLAPolicy:
    policy = memoryvla(CONTEXT, cameras=["wrist", "front"], memory={"length": 4}, threads=1)
    save_checkpoint(
        folder,
        policy.network,
        policy.loaded.config,
        statistics={"toy": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}}},
        tokenizer=policy.loaded.prompter.tokenizer,
        action=policy.spec.action,
        cameras=policy.spec.cameras,
        memory_scope="episode",
        card="# A toy\n",
    )
    return policy


def test_our_format_brings_back_the_same_policy_bit_for_bit(tmp_path: Path) -> None:
    policy = save(tmp_path / "toy")
    again = memoryvla(CONTEXT, checkpoint=str(tmp_path / "toy"), threads=1)
    assert again.loaded.config == policy.loaded.config
    assert again.spec == replace(policy.spec, memory_scope="episode")
    assert np.array_equal(alone(policy, episode(1), 6), alone(again, episode(1), 6))
    shorter = memoryvla(CONTEXT, checkpoint=str(tmp_path / "toy"), memory={"length": 2}, threads=1)
    assert not np.array_equal(alone(policy, episode(1), 6), alone(shorter, episode(1), 6))


def test_a_folder_with_a_checkpoint_for_each_suite_gives_the_suites_own(tmp_path: Path) -> None:
    policy = save(tmp_path / "all" / "toy")
    again = memoryvla(CONTEXT, checkpoint=str(tmp_path / "all"), threads=1)
    assert np.array_equal(alone(policy, episode(1), 3), alone(again, episode(1), 3))
    with pytest.raises(PolicyError, match="has nothing for suite other; it has weights for toy"):
        memoryvla(replace(CONTEXT, suite="other"), checkpoint=str(tmp_path / "all"))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda d: d.update(format="other"), "format is 'other'"),
        (lambda d: d["model"].update(viwes=2), "unknown model key 'viwes'; did you mean views"),
        (lambda d: d.pop("action"), "KeyError: 'action'"),
        (lambda d: d["model"]["memory"].update(streams="none"), "memory.streams must be one of"),
        (lambda d: d["model"].update(family="cogact"), "is of family cogact; use policy=cogact"),
    ],
)
def test_a_broken_config_in_our_format_is_named(
    spoil: Callable[[dict[str, Any]], Any], error: str, tmp_path: Path
) -> None:
    save(tmp_path / "toy")
    data = json.loads((tmp_path / "toy" / "config.json").read_text())
    spoil(data)
    (tmp_path / "toy" / "config.json").write_text(json.dumps(data))
    with pytest.raises(PolicyError, match=error):
        memoryvla(CONTEXT, checkpoint=str(tmp_path / "toy"))


def test_weights_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "toy")
    weights = tmp_path / "toy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PolicyError, match=r"model\.safetensors cannot be read"):
        memoryvla(CONTEXT, checkpoint=str(tmp_path / "toy"))


def test_a_tokenizer_that_is_too_large_for_the_model_is_refused() -> None:
    language = replace(preset("lab", "memoryvla").language, vocabulary=100)
    with pytest.raises(PolicyError, match="room for 100"):
        Prompter(lab_tokenizer(), language)


def test_names_and_shapes_of_the_released_7b_layout() -> None:
    """All groups at full size, one of the 32 language layers, on the meta device."""
    config = preset("7b", "memoryvla")
    with torch.device("meta"):
        network = MemoryVLANetwork(replace(config, language=replace(config.language, layers=1)))
    shapes = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    for name, shape in {
        "action_model.net.positional_embedding": [17, 1024],
        "action_model.net.z_embedder.uncondition": [1, 4096],
        "action_model.net.per_token_embedder.linear.weight": [1024, 256],
        "action_model.net.blocks.23.per_attn.in_proj_weight": [3072, 1024],
        "action_model.net.blocks.0.norm3.bias": [1024],
        "memory.per_compr.reduce.weight": [512, 2176, 1, 1],
        "memory.per_compr.excite.1.weight": [32, 512, 1, 1],
        "memory.per_compr.expand.weight": [256, 512, 1, 1],
        "memory.cog_mem_bank.timestep_encoder.mlp.0.weight": [4096, 1024],
        "memory.per_mem_bank.retrieval_blocks.1.ffn.0.weight": [1024, 256],
        "memory.per_mem_bank.timestep_encoder.mlp.0.weight": [256, 64],
        "vlm.projector.projector.0.weight": [8704, 2176],
        "vlm.llm_backbone.model.embed_tokens.weight": [32064, 4096],
    }.items():
        assert shapes[name] == shape, name


def test_a_network_is_never_filled_in_part() -> None:
    network = random_network("cogact")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    state.popitem()
    with pytest.raises(PolicyError, match="1 problems"):
        fill(network, state, "it")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_the_statistics_of_a_loaded_policy_scale_its_actions() -> None:
    network = random_network("cogact")
    prompter = Prompter(lab_tokenizer(), network.config.language)
    statistics = ActionStatistics(np.full(7, -3.0), np.full(7, 5.0), np.array([True] * 6 + [False]))
    base = cogact(CONTEXT).loaded
    assert isinstance(network, CogACTNetwork)
    loaded: Loaded[CogACTNetwork] = Loaded(
        network, network.config, prompter, statistics, replace(base.convention, action=ACTION), ("front",)
    )
    policy = CogACTPolicy("cogact", loaded, Serving())
    actions = alone(policy, episode(0), 2)
    assert actions[..., :6].min() >= -3.0
    assert actions[..., :6].max() <= 5.0
    assert actions[..., :6].max() > 1.0
