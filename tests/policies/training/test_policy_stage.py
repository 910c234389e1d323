"""The stages as `memvla train` uses them: on recorded datasets, from one to the next, to a policy that acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from envs.lab import describe
from envs.spec import EpisodeId
from harness.collect import collect, compose_collect
from policies.base import ActRequest, PolicyContext, PolicyError
from policies.cogact.model import CogACTNetwork
from policies.cogact.policy import cogact
from policies.memoryvla.controls import CONTROLS, control
from policies.memoryvla.imagination import WorldModel
from policies.memoryvla.model import MemoryVLANetwork
from policies.memoryvla.policy import memoryvla
from policies.training.batches import Waypoints
from policies.training.demos import DemoError
from policies.training.foresight import FutureHead, foresight_stage
from policies.training.grounding import grounding_stage
from policies.training.policy_stage import policy_stage
from policies.training.recall import recall_stage
from policies.training.sampling import Mixture, StreamSampler
from policies.training.stage import Stage
from policies.training.starts import HEADS, begin_from, fresh
from policies.training.world_files import save_world
from policies.vla.config import changed, preset
from policies.vla.language import lab_tokenizer
from tests.policies.vla.playing import episode, request, start

LAB = PolicyContext(suite="lab_smoke", env=describe(), gives_state=True)
BOTH: Any = {"cameras": ["front", "wrist"], "state": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small dataset of the lab, recorded as users do."""
    folder = tmp_path_factory.mktemp("demos") / "smoke"
    words = ["suite=lab_smoke", "policy=expert", "cluster=inline", "collect.trials=2", f"collect.dir={folder}"]
    assert collect(compose_collect(words), Console(), ["memvla", "collect", *words]) == 0
    return str(folder)


def updated(stage: Stage, updates: int = 2) -> Stage:
    optimiser = torch.optim.AdamW([p for p in stage.module.parameters() if p.requires_grad], 1e-3)
    for update in range(updates):
        optimiser.zero_grad()
        stage.module(stage.draw(update, 0, 1))["loss"].backward()
        optimiser.step()
    return stage


def saved(stage: Stage, folder: Path) -> Path:
    stage.save(folder, {name: tensor.detach().clone() for name, tensor in stage.module.state_dict().items()})
    return folder


def test_a_trained_policy_is_saved_as_one_that_acts_in_the_units_of_its_demonstrations(
    data: str, tmp_path: Path
) -> None:
    stage = updated(policy_stage(family="memoryvla", data=[data], unnorm_key="lab", goal_weight=0.3, **BOTH))
    folder = saved(stage, tmp_path / "policy")
    policy = memoryvla(LAB, checkpoint=str(folder))
    trained: Any = stage.module
    for name, tensor in policy.network.state_dict().items():
        assert torch.equal(tensor, trained.network.state_dict()[name])
    assert policy.spec.cameras == ("front", "wrist")
    assert policy.spec.uses_state
    assert policy.spec.action.gripper.open == 1
    assert policy.spec.action.gripper.closed == 0
    assert policy.spec.action.translation_unit == LAB.env.action.translation_unit


def test_weights_saved_in_half_precision_act_in_single(data: str, tmp_path: Path) -> None:
    stage = updated(policy_stage(family="cogact", data=[data], half=True, **BOTH))
    policy = cogact(LAB, checkpoint=str(saved(stage, tmp_path / "policy")))
    trained: Any = stage.module
    for name, tensor in policy.network.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, trained.network.state_dict()[name].half().float())


def test_policies_start_from_the_same_grounding(data: str, tmp_path: Path) -> None:
    grounding = saved(updated(grounding_stage(data=[data], frames=8, **BOTH)), tmp_path / "grounding")
    given = {"data": [data], "goal_weight": 0.3, "grounding": str(grounding), **BOTH}
    networks: list[Any] = [
        policy_stage(family=f, seed=i, **given).module for i, f in enumerate(("cogact", "memoryvla"))
    ]  # type: ignore[arg-type]
    first, second = (module.network.vlm.state_dict() for module in networks)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(networks[0].goal.chunk.weight, networks[1].goal_now.chunk.weight)


def test_a_grounding_replaces_the_vision_language_part_of_the_policy_to_start_from(data: str, tmp_path: Path) -> None:
    ground: Any = updated(grounding_stage(data=[data], frames=8, seed=1, **BOTH))
    before: Any = updated(policy_stage(family="memoryvla", data=[data], **BOTH))
    given = {"start": str(saved(before, tmp_path / "policy")), "grounding": str(saved(ground, tmp_path / "grounding"))}
    module: Any = policy_stage(family="memoryvla", data=[data], goal_weight=0.3, seed=2, **given, **BOTH).module
    begun, seen, acts = (
        m.state_dict() for m in (module.network, ground.module.vlm, before.module.network.action_model)
    )
    assert all(torch.equal(begun[f"vlm.{name}"], tensor) for name, tensor in seen.items())
    assert all(torch.equal(begun[f"action_model.{name}"], tensor) for name, tensor in acts.items())
    assert torch.equal(module.goal.chunk.weight, ground.module.goal.chunk.weight)


@pytest.fixture(scope="module")
def recalling(data: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recall stage after some updates."""
    folder = tmp_path_factory.mktemp("grounding")
    grounding = saved(updated(grounding_stage(data=[data], frames=8, **BOTH)), folder)
    given = {"start": str(grounding), "model": {"memory": {"write": "fused"}}, "pieces": 2, **BOTH}
    return updated(recall_stage(data=[data], **given), 5)


def test_recall_learns_from_what_the_frozen_encoder_sees(recalling: Any) -> None:
    """The tokens of a batch are those of its frames, computed once; only the bank and its head learn."""
    stage = recalling
    batch = stage.draw(9, 0, 1)
    pieces, _ = stage._sights.of(stage._sampler.draw(9, 0, 1)[0])
    with torch.no_grad():
        seen, _ = stage.recall.vlm(stage._maker.batch(pieces, 1.0).inputs)
    torch.testing.assert_close(batch.seen, seen, rtol=1e-4, atol=1e-5)
    assert len(batch.inputs.pictures) == 0
    assert {name.split(".")[0] for name, p in stage.module.named_parameters() if p.requires_grad} == {
        "bank",
        "recalled",
    }
    before = float(stage.module(batch)["loss"])
    updated(stage, 20)
    assert float(stage.module(batch)["loss"]) < before


def test_recall_goes_on_with_the_bank_it_finds(data: str, recalling: Any, tmp_path: Path) -> None:
    given = {"data": [data], "start": str(saved(recalling, tmp_path)), "pieces": 2, "seed": 3, **BOTH}
    going_on = recall_stage(model={"memory": {"write": "fused"}}, **given).module.state_dict()
    for name, tensor in recalling.module.state_dict().items():
        assert torch.equal(going_on[name], tensor), name
    with pytest.raises(PolicyError, match=r"learned with other options \(write: fused there, raw here\)"):
        recall_stage(**given)


def test_policies_start_from_the_same_recall_and_those_that_remember_from_its_bank(
    data: str, recalling: Any, tmp_path: Path
) -> None:
    given = {"data": [data], "goal_weight": 0.3, "grounding": str(saved(recalling, tmp_path)), **BOTH}
    fused = {"model": {"memory": {"write": "fused"}}}
    blind: Any = policy_stage(family="cogact", **given).module
    remembers: Any = policy_stage(family="memoryvla", **given, **fused).module
    mine = recalling.module
    for module in (blind, remembers):
        for name, tensor in mine.vlm.state_dict().items():
            assert torch.equal(tensor, module.network.vlm.state_dict()[name])
    for name, tensor in mine.bank.state_dict().items():
        assert torch.equal(tensor, remembers.network.memory.cog_mem_bank.state_dict()[name])
    assert torch.equal(blind.goal.chunk.weight, mine.goal.chunk.weight)
    assert torch.equal(remembers.goal_now.chunk.weight, mine.goal.chunk.weight)
    assert torch.equal(remembers.goal.chunk.weight, mine.recalled.chunk.weight)
    with pytest.raises(PolicyError, match=r"learned with other options \(write: fused there, raw here\)"):
        policy_stage(family="memoryvla", **given)


@pytest.mark.parametrize("family", ["cogact", "memoryvla", "memoryvla_pp"])
def test_what_a_frozen_vision_language_part_sees_is_computed_once_and_all_else_learns(
    data: str, recalling: Any, tmp_path: Path, family: str
) -> None:
    given = {"data": [data], "goal_weight": 0.3, "grounding": str(saved(recalling, tmp_path)), **BOTH}
    given |= {"model": {"memory": {"write": "fused"}}, "pieces": 2, "noised": 0.5}
    if family == "memoryvla_pp":
        save_world(tmp_path / "world", WorldModel(preset("lab", family).imagination), lab_tokenizer(), 4)
        given["world"] = str(tmp_path / "world")
    stage: Any = policy_stage(family=family, frozen=True, **given)
    batch = stage.draw(9, 0, 1)
    pieces, _ = stage._sights.of(stage._sampler.draw(9, 0, 1)[0])
    assert (len(batch.inputs.pictures) == 0) == (family != "memoryvla_pp")  # which imagines from them
    begun = {name: tensor.clone() for name, tensor in stage.module.state_dict().items()}
    with torch.no_grad():
        looking = stage._maker.batch(pieces, batch.frames)
        seen, vision = stage.module.network.vlm(looking.inputs)
        torch.testing.assert_close(batch.seen, seen, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(batch.vision.float(), vision, rtol=1e-3, atol=1e-3)
        for name, loss in stage.module(looking).items():
            assert float(stage.module(batch)[name]) == pytest.approx(float(loss), rel=1e-3)
    updated(stage, 3)
    changed = {name for name, tensor in stage.module.state_dict().items() if not torch.equal(tensor, begun[name])}
    assert {name for name in changed if ".vlm." in name} == set()
    assert {name.split(".")[1] for name in changed} >= {"action_model"} | ({"memory"} if family != "cogact" else set())


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"sampler": "group"}, "sampler=calls"),
        ({"augment": True}, "augment=false"),
        ({"firsts": 4}, "firsts=0"),
    ],
    ids=str,
)
def test_tokens_computed_once_need_frames_that_are_always_the_same(
    data: str, options: dict[str, Any], cure: str
) -> None:
    with pytest.raises(PolicyError, match=f"frozen=true computes what is seen once; it needs {cure}"):
        policy_stage(family="cogact", data=[data], frozen=True, **options, **BOTH)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_of_frames_that_is_none_is_refused(data: str, share: float) -> None:
    with pytest.raises(PolicyError, match=r"must be in \(0, 1\]"):
        policy_stage(family="cogact", data=[data], noised=share, **BOTH)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One episode of press_order."""
    folder = tmp_path_factory.mktemp("demos") / "order"
    words = ["suite=lab_memory", "policy=expert", "cluster=inline", "collect.trials=1", f"collect.dir={folder}"]
    words += ["collect.tasks=[press_order]", "collect.cameras=[front]"]
    assert collect(compose_collect(words), Console(), ["memvla", "collect", *words]) == 0
    return str(folder)


def test_a_frame_is_asked_for_its_cue_before_memory_and_for_the_next_place_after(ordered: str) -> None:
    """Entries are detached: a second light is stored where it shines only if that frame itself must tell it."""
    asked: dict[str, Tensor] = {}

    def listen(name: str, head: Any) -> None:
        loss = head.loss
        head.loss = lambda tokens, batch, goals: (asked.update({name: goals}), loss(tokens, batch, goals))[1]

    stage = policy_stage(family="memoryvla", data=[ordered], every=4, longest=48, goal_weight=0.3, seen_weight=0.1)
    module: Any = stage.module
    for name in ("goal", "goal_now", "goal_seen"):
        listen(name, getattr(module, name))
    batch = stage.draw(0, 0, 1)
    module(batch)
    assert batch.goals is not None
    assert torch.equal(asked["goal"], batch.goals)
    assert torch.equal(asked["goal_seen"], batch.goals)
    told = asked["goal_now"]
    assert not torch.equal(told, batch.goals)
    grounding: Any = grounding_stage(data=[ordered], state=False, frames=200).module
    listen("grounding", grounding.goal)
    single = grounding_stage(data=[ordered], state=False, frames=200).draw(0, 0, 1)
    grounding(single)
    assert single.goals is not None
    assert not torch.equal(asked["grounding"], single.goals)


def test_waypoints_are_told_on_the_grid_of_the_grounding(data: str, tmp_path: Path) -> None:
    first = grounding_stage(data=[data], frames=8, **BOTH)
    mine = first._maker.waypoints
    assert mine is not None
    wide = Waypoints(mine.low - 0.1, mine.high + 0.2, mine.bins)
    first._maker.tell_on(wide)
    folder = str(saved(updated(first), tmp_path / "grounding"))
    stages: list[Any] = [
        grounding_stage(data=[data], frames=8, start=folder, **BOTH),
        policy_stage(family="cogact", data=[data], goal_weight=0.3, grounding=folder, **BOTH),
    ]
    for stage in stages:
        assert np.array_equal(stage._maker.waypoints.low, wide.low)
        assert np.array_equal(stage._maker.waypoints.high, wide.high)
    given: Any = first.module
    assert torch.equal(stages[0].module.goal.chunk.weight, given.goal.chunk.weight)
    assert torch.equal(stages[1].module.goal.chunk.weight, given.goal.chunk.weight)
    first._maker.waypoints = Waypoints(mine.low + 0.1, mine.high, mine.bins)
    narrow = str(saved(first, tmp_path / "narrow"))
    with pytest.raises(DemoError, match=r"\d+% of the places .* train the grounding on these"):
        policy_stage(family="cogact", data=[data], goal_weight=0.3, grounding=narrow, **BOTH)


def test_calls_may_lie_further_apart_in_training_than_when_acting(data: str) -> None:
    acts = {"expert": {"execute": 2}}
    stage = policy_stage(family="memoryvla", data=[data], model=acts, every=4, **BOTH)
    trained: Any = stage.module
    assert trained.config.expert.execute == 2
    for piece in stage._sampler.draw(0, 0, 1)[0]:
        assert (np.diff(piece.frames) == 4).all()


@pytest.fixture(scope="module")
def firsts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """First frames alone of the same tasks in other scenes."""
    folder = tmp_path_factory.mktemp("demos") / "first"
    words = ["suite=lab_smoke", "policy=expert", "cluster=inline", "collect.trials=3", f"collect.dir={folder}"]
    words = [*words, "collect.first_frame=true", "protocol.scene_seed=4000000"]
    assert collect(compose_collect(words), Console(quiet=True), ["memvla", "collect", *words]) == 0
    return str(folder)


def test_a_grounding_learns_from_first_frames(data: str, firsts: str) -> None:
    stage = grounding_stage(data=[data, firsts], frames=16, **BOTH)
    names = set(stage._sampler.groups)
    assert {name for name in names if name.endswith("/first")} == {f"{n}/first" for n in names if "/" not in n}
    batch = stage.draw(0, 0, 1)
    beginnings = batch.chunks.isnan().any(2).any(1)
    assert 0 < int(beginnings.sum()) < len(beginnings)
    assert not batch.chunks[beginnings][:, 0].isnan().any()
    assert torch.isfinite(stage.module(batch)["loss"])
    chance = updated(stage).module.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in chance.values())


@pytest.mark.parametrize("family", ["cogact", "memoryvla"])
def test_a_policy_learns_from_first_frames_beside_whole_episodes(data: str, firsts: str, family: str) -> None:
    given: Any = {"family": family, "unnorm_key": "lab", "goal_weight": 0.3, **BOTH}
    stage, plain = policy_stage(data=[data, firsts], firsts=5, **given), policy_stage(data=[data], **given)
    batch, alone = stage.draw(3, 0, 1), plain.draw(3, 0, 1)
    assert alone.firsts is None
    assert batch.firsts is not None
    assert batch.firsts.chunks[:, 1:].isnan().all(), "what is not recorded is not known"
    assert torch.equal(batch.chunks, alone.chunks), "neither pieces nor statistics depend on them"
    assert torch.equal(batch.inputs.pictures, alone.inputs.pictures)
    shares = [stage.draw(3, rank, 2).firsts for rank in range(2)]
    assert sorted(len(share.place) for share in shares if share) == [2, 3]
    losses, before = stage.module(batch), plain.module(alone)
    assert set(losses) - set(before) == {"goal_first"}
    torch.testing.assert_close(losses["action"], before["action"])  # the networks are drawn from the same seed
    told = sum(part for name, part in losses.items() if name.startswith("goal"))
    torch.testing.assert_close(losses["loss"].detach(), losses["action"] + 0.3 * told)
    places = [batch.shown, batch.firsts.shown]
    assert all(place is not None and not place[..., [0, -1]].eq(1).any() for place in places), "one grid around both"
    stage.module(replace(batch, weight=torch.zeros_like(batch.weight)))["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in stage.module.network.vlm.llm_backbone.parameters())


def test_first_frames_are_asked_for_by_number(data: str, firsts: str) -> None:
    given: Any = {"family": "cogact", "unnorm_key": "lab", **BOTH}
    with pytest.raises(DemoError, match=r"first frames alone .*say how many an update"):
        policy_stage(data=[data, firsts], goal_weight=0.3, **given)
    with pytest.raises(DemoError, match="firsts=5: none of the data"):
        policy_stage(data=[data], goal_weight=0.3, firsts=5, **given)
    with pytest.raises(PolicyError, match="firsts needs goal_weight"):
        policy_stage(data=[data, firsts], firsts=5, **given)
    with pytest.raises(PolicyError, match=r"no actions to take statistics of.* unnorm_key=lab"):
        policy_stage(family="cogact", data=[data, firsts], firsts=5, goal_weight=0.3, **BOTH)


def test_foresight_learns_from_videos_and_is_saved_as_a_grounding(data: str, tmp_path: Path) -> None:
    grounding = saved(updated(grounding_stage(data=[data], frames=8, **BOTH)), tmp_path / "grounding")
    options = preset("lab", "memoryvla_pp").imagination
    assert options is not None
    save_world(tmp_path / "world", WorldModel(options), lab_tokenizer(), 4)
    given = {"data": [data], "videos": [data], "world": str(tmp_path / "world"), "grounding": str(grounding), **BOTH}
    stage = foresight_stage(frames=8, **given)
    before = stage.module(stage.draw(0, 0, 1))
    updated(stage, 25)
    after = stage.module(stage.draw(0, 0, 1))
    assert after["future"] < before["future"]
    folder = saved(stage, tmp_path / "foresight")
    policy: Any = policy_stage(family="memoryvla", data=[data], grounding=str(folder), goal_weight=0.3, **BOTH).module
    mine: Any = stage.module
    for name, tensor in mine.grounding.vlm.state_dict().items():
        assert torch.equal(tensor, policy.network.vlm.state_dict()[name])


def test_dreams_are_what_the_world_model_imagines_from_each_frame(data: str, tmp_path: Path) -> None:
    options = preset("lab", "memoryvla_pp").imagination
    assert options is not None
    save_world(tmp_path / "world", WorldModel(options), lab_tokenizer(), 4)
    given = {"family": "memoryvla_pp", "data": [data], "world": str(tmp_path / "world"), "seed": 3, **BOTH}
    stage = policy_stage(dreams=1, **given)
    batch = stage.draw(5, 0, 1)
    assert batch.maps is not None
    assert batch.inputs.noise is None
    pieces, _ = stage._sampler.draw(5, 0, 1)
    world = stage.module.network.imagination.world  # type: ignore[union-attr]
    row = 0
    for piece in pieces:
        length = len(stage._maker.demos[piece.demo])
        shape = (length, *world.noise_shape)  # type: ignore[misc]
        noise = np.random.default_rng((3, piece.demo, 0)).standard_normal(shape, dtype=np.float32)
        some = torch.from_numpy(noise)[torch.from_numpy(piece.frames)]
        rows = slice(row, row := row + len(piece.frames))
        ids = batch.inputs.world_ids[rows]  # type: ignore[index]
        expected = world.imagine(batch.inputs.pictures[rows, 0], ids, some)  # type: ignore[operator]
        for level, right in zip(batch.maps, expected, strict=True):
            torch.testing.assert_close(level[rows], right, rtol=2e-3, atol=2e-3)
    assert torch.isfinite(stage.module(batch)["loss"])
    with pytest.raises(PolicyError, match="do not go together"):
        policy_stage(dreams=1, augment=True, **given)


def test_a_future_token_tells_of_its_own_patch(data: str) -> None:
    head = FutureHead(preset("lab", "memoryvla"), frames=2, grid=8)
    head.mix = torch.nn.Identity()  # type: ignore[assignment] # each token for itself
    tokens = torch.zeros(1, 16, 96)
    empty = head(tokens)
    tokens[0, 6] = 1.0  # second row, third column of 4 x 4
    changed_at = (head(tokens) - empty).abs().amax((0, 1, 2)) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(changed_at, expected)


def test_a_grounding_of_another_shape_is_refused(data: str, tmp_path: Path) -> None:
    grounding = saved(grounding_stage(data=[data], frames=8, **BOTH), tmp_path / "grounding")
    with pytest.raises(PolicyError, match="does not fit"):
        policy_stage(family="cogact", data=[data], goal_weight=0.3, grounding=str(grounding), cameras=["front"])
    with pytest.raises(PolicyError, match=r"grounding\.safetensors cannot be read"):
        policy_stage(family="cogact", data=[data], grounding=str(tmp_path), **BOTH)


def test_memoryvla_starts_from_a_cogact_policy_and_keeps_its_fresh_memory(data: str, tmp_path: Path) -> None:
    base = updated(policy_stage(family="cogact", data=[data], **BOTH))
    folder = saved(base, tmp_path / "base")
    config = changed(preset("lab", "memoryvla"), {"views": 2, "state": 8})
    network = MemoryVLANetwork(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    begin_from(network, folder, "memoryvla")
    given: Any = base.module
    for name, tensor in network.state_dict().items():
        expected = given.network.state_dict().get(name, before[name])
        assert torch.equal(tensor, expected), name
    with pytest.raises(PolicyError, match="does not fit"):
        begin_from(CogACTNetwork(preset("lab", "cogact")), folder, "cogact")


def test_memoryvla_pp_starts_from_a_memoryvla_policy_and_keeps_its_fresh_imagination(data: str, tmp_path: Path) -> None:
    base: Any = updated(policy_stage(family="memoryvla", data=[data], **BOTH))
    network = MemoryVLANetwork(changed(preset("lab", "memoryvla_pp"), {"views": 2, "state": 8}))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    begin_from(network, saved(base, tmp_path / "base"), "memoryvla_pp")
    given = base.module.network.state_dict()
    assert {name.split(".")[0] for name in before if name not in given} == {"imagination"}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, given.get(name, before[name])), name


def test_a_training_that_goes_on_keeps_its_goal_heads_and_their_grid(data: str, firsts: str, tmp_path: Path) -> None:
    given: Any = {"data": [data, firsts], "firsts": 4, "unnorm_key": "lab", **BOTH}
    goals: Any = {"goal_weight": 0.3, "seen_weight": 0.1, **given}
    base: Any = updated(policy_stage(family="memoryvla", goal_bins=9, **goals))
    folder = saved(base, tmp_path / "base")
    on: Any = policy_stage(family="memoryvla", start=str(folder), goal_bins=9, **goals)
    for name, tensor in base.module.state_dict().items():
        assert torch.equal(tensor, on.module.state_dict()[name]), name
    assert any(name.startswith("goal_seen.") for name in on.module.state_dict())
    grid = base._maker.waypoints
    for maker in (on._maker, on._firsts.maker):
        assert np.array_equal(maker.waypoints.low, grid.low)
        assert np.array_equal(maker.waypoints.high, grid.high)
        assert maker.waypoints.bins == 9
    with pytest.raises(PolicyError, match=r"goal of heads\.safetensors does not fit"):
        policy_stage(family="memoryvla", start=str(folder), **goals)
    (folder / HEADS).write_bytes(b"torn")
    with pytest.raises(PolicyError, match=r"heads\.safetensors cannot be read"):
        policy_stage(family="memoryvla", start=str(folder), goal_bins=9, **goals)


def test_memory_can_begin_anew_where_all_else_goes_on(data: str, tmp_path: Path) -> None:
    base: Any = updated(policy_stage(family="memoryvla", data=[data], **BOTH))
    folder = str(saved(base, tmp_path / "base"))
    module: Any = policy_stage(family="memoryvla", data=[data], start=folder, fresh_memory=True, seed=3, **BOTH).module
    torch.manual_seed(3)
    drawn = MemoryVLANetwork(changed(preset("lab", "memoryvla"), {"views": 2, "state": 8})).state_dict()
    given = base.module.network.state_dict()
    banks = [name for name in given if "mem_bank" in name]
    assert {name.split(".")[1] for name in banks} == {"cog_mem_bank", "per_mem_bank"}
    for name, tensor in module.network.state_dict().items():
        assert torch.equal(tensor, (drawn if name in banks else given)[name]), name
    with pytest.raises(PolicyError, match="name it, start=DIR"):
        policy_stage(family="memoryvla", data=[data], fresh_memory=True, **BOTH)
    with pytest.raises(PolicyError, match="cogact has no memory banks"):
        policy_stage(family="cogact", data=[data], start=folder, fresh_memory=True, **BOTH)


def test_what_a_model_of_the_same_family_has_lost_is_not_made_up() -> None:
    own = MemoryVLANetwork(preset("lab", "memoryvla_pp")).state_dict()
    for part in ("imagination", "memory", "action_model"):
        lost = next(name for name in own if name.startswith(f"{part}."))
        assert fresh(own, {name: tensor for name, tensor in own.items() if name != lost}) == {}


def test_a_stream_remembers_its_episode_from_its_beginning(data: str) -> None:
    stage = policy_stage(family="memoryvla", data=[data], sampler="stream", pieces=2, longest=7, **BOTH)
    for update in range(12):
        batch = stage.draw(update, 0, 1)
        assert float(batch.weight.sum()) == batch.frames == 14
        assert (batch.inputs.times[batch.place % batch.grid[1] == 0] == 0).all()  # every piece begins with its episode
    assert torch.isfinite(stage.module(batch)["loss"])


def test_quiet_frames_teach_nothing() -> None:
    mixture = Mixture((30, 12), ("a", "a"))
    pieces = StreamSampler(mixture, 1, 5, seed=0).draw(3, 0, 1)[0]
    whole = [piece.with_past() for piece in pieces]  # type: ignore[attr-defined]
    assert [len(p.frames) - p.quiet for p in whole] == [len(p.frames) for p in pieces]
    for piece, stretch in zip(whole, pieces, strict=True):
        assert np.array_equal(piece.frames[piece.quiet :], stretch.frames)


def test_data_that_do_not_go_together_are_refused(data: str, tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="no RLDS dataset"):
        policy_stage(family="cogact", data=[str(tmp_path)])
    with pytest.raises(DemoError, match="name the demonstrations"):
        policy_stage(family="cogact", data=[])
    with pytest.raises(DemoError, match="no camera top"):
        policy_stage(family="cogact", data=[data], cameras=["top"])
    with pytest.raises(PolicyError, match="world=DIR"):
        policy_stage(family="memoryvla_pp", data=[data])
    with pytest.raises(PolicyError, match="sampler must be one of"):
        policy_stage(family="cogact", data=[data], sampler="frames")
    with pytest.raises(PolicyError, match="must be at least 1"):
        policy_stage(family="cogact", data=[data], every=-1)


def asked(which: EpisodeId, call: int) -> ActRequest:
    """A made-up call with the eight numbers of the lab's proprioception."""
    made = request(which, call)
    state = np.resize(made.observation.state, 8) * np.float32(0.1)  # type: ignore[arg-type]
    return replace(made, observation=replace(made.observation, state=state))


@pytest.mark.parametrize("name", [name for name in CONTROLS if name != "imagination"])
def test_a_control_acts_otherwise_than_the_policy_it_is_made_of(data: str, tmp_path: Path, name: str) -> None:
    stage = updated(policy_stage(family="memoryvla", data=[data], **BOTH), 4)
    folder = str(saved(stage, tmp_path / "policy"))

    def play(policy: Any) -> list[Any]:
        said = []
        for trials in ((0, 3), (6, 9)):  # two at a time, one pair after the other
            which = [episode(trial) for trial in trials]
            start(policy, which)
            said += [reply.actions for call in range(3) for reply in policy.act([asked(e, call) for e in which])]
            policy.end(which)
        return said

    context = PolicyContext(suite="toy", env=LAB.env, gives_state=True)
    true, wrong = (
        play(p) for p in (memoryvla(context, checkpoint=folder), control(context, control=name, checkpoint=folder))
    )
    assert np.array_equal(true[0], wrong[0])  # the very first call has nothing to remember
    assert any(not np.array_equal(a, b) for a, b in zip(true, wrong, strict=True))


def test_cogact_has_no_controls(data: str, tmp_path: Path) -> None:
    folder = saved(policy_stage(family="cogact", data=[data], **BOTH), tmp_path / "policy")
    assert cogact(LAB, checkpoint=str(folder)).spec.stateful is False
    with pytest.raises(PolicyError):
        control(LAB, control="emptied", checkpoint=str(folder))
