"""What a policy network learns from: the same computation as acting, and losses that do not depend on how many share
the work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.cogact.model import CogACTNetwork
from policies.memoryvla.model import MemoryVLANetwork
from policies.training.batches import BatchMaker, PolicyBatch
from policies.training.demos import Demo
from policies.training.losses import PolicyTraining
from policies.training.windows import CallSampler, share
from policies.vla.config import ModelConfig, changed, preset
from policies.vla.language import Prompter, WorldPrompter, lab_tokenizer
from policies.vla.model import Inputs
from policies.vla.statistics import ActionStatistics
from tests.policies.training.lab_demos import lab_demo

DEMOS = [("press_by_colour", 0), ("remember_colour_3", 0), ("press_by_colour", 1)]


def config_of(family: str, **memory: Any) -> ModelConfig:
    return changed(replace(preset("lab", family), views=2, state=8), {"memory": memory})


def network_of(config: ModelConfig) -> Any:
    torch.manual_seed(0)
    network = (CogACTNetwork if config.family == "cogact" else MemoryVLANetwork)(config)
    with torch.no_grad():  # weights that start at zero would hide what flows through them
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def batch_of(
    config: ModelConfig,
    *,
    rank: int = 0,
    world: int = 1,
    bins: int = 12,
    demos: list[Demo] | None = None,
    noised: float = 1.0,
) -> PolicyBatch:
    demos = demos or [lab_demo(*each) for each in DEMOS]
    tokenizer = lab_tokenizer()
    dreams = config.imagination
    maker = BatchMaker(
        demos,
        config,
        ("front", "wrist"),
        Prompter(tokenizer, config.language),
        lambda demo: ActionStatistics.unit(7),
        noised=noised,
        repeats=3,
        waypoint_bins=bins,
        world_prompter=WorldPrompter(tokenizer, dreams.text_tokens, dreams.text_vocabulary) if dreams else None,
        dream_shape=(dreams.frames, 4, dreams.grid, dreams.grid) if dreams else (),
    )
    sampler = CallSampler([len(d) for d in demos], [str(i) for i in range(3)], 4, 4, 12, 1)
    return maker.batch(*share(sampler.plan(0), rank, world))


def row(inputs: Inputs, n: int) -> Inputs:
    """One frame of a batch, as one policy call."""
    parts = {name: getattr(inputs, name) for name in inputs.__dataclass_fields__}
    return Inputs(**{name: None if part is None else part[n : n + 1] for name, part in parts.items()})


@pytest.mark.parametrize(
    ("family", "memory"),
    [
        ("cogact", {}),
        ("memoryvla", {}),
        ("memoryvla", {"length": 3}),  # merges happen
        ("memoryvla", {"write": "fused", "length": 4}),
        ("memoryvla_pp", {}),
    ],
)
def test_what_conditions_the_action_in_training_is_what_conditions_it_when_acting(
    family: str, memory: dict[str, Any]
) -> None:
    config = config_of(family, **memory)
    network = network_of(config).eval()
    batch = batch_of(config)
    training = PolicyTraining(network, config).eval()
    with torch.no_grad():
        seen, vision = network.vlm(batch.inputs)
        cognition, perception, _ = training._remember(seen, vision, batch)
        stores = network.memory.new_stores(batch.grid[0]) if family != "cogact" else {}
        for n, place in enumerate(batch.place.tolist()):
            slot = torch.tensor([place // batch.grid[1]])
            alone = network(row(batch.inputs, n), *(() if family == "cogact" else (stores, slot)))
            assert torch.allclose(cognition[n : n + 1], alone[0], atol=5e-4)
            if perception is not None:
                assert torch.allclose(perception[n : n + 1], alone[1], atol=5e-4)
    assert len(batch.place) == sum(batch.inputs.times == 0) + sum(batch.inputs.times > 0)


@pytest.mark.parametrize("noised", [1.0, 0.3])
@pytest.mark.parametrize("family", ["cogact", "memoryvla"])
def test_the_mean_loss_of_the_shares_is_the_loss_of_the_batch(family: str, noised: float) -> None:
    config = config_of(family)
    training = PolicyTraining(network_of(config), config, goal_weight=0.3, bins=12).eval()
    with torch.no_grad():
        whole = training(batch_of(config, noised=noised))
        parts = [training(batch_of(config, rank=rank, world=2, noised=noised)) for rank in range(2)]
    for name, loss in whole.items():
        assert float(sum(part[name] for part in parts) / 2) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize("family", ["cogact", "memoryvla", "memoryvla_pp"])
def test_frames_that_are_noised_stand_for_those_of_their_piece_that_are_not(family: str) -> None:
    config = config_of(family)
    training = PolicyTraining(network_of(config), config).eval()
    batch = batch_of(config, noised=0.3)
    pieces = batch.place[batch.noised] // batch.grid[1]
    lengths = torch.bincount(batch.place // batch.grid[1])
    assert torch.allclose(torch.bincount(pieces, weights=batch.stands), lengths.float())
    assert 0 < len(batch.noised) < len(batch.place) / 2

    def spread(values: torch.Tensor) -> torch.Tensor:  # to all frames, where the others count for nothing
        whole = values.new_zeros((3, len(batch.place), *values.shape[1:]))
        whole[:, batch.noised] = values.reshape(3, -1, *values.shape[1:])
        return whole.flatten(0, 1)

    whole = replace(
        batch,
        noised=torch.arange(len(batch.place)),
        stands=torch.zeros(len(batch.place)).index_copy(0, batch.noised, batch.stands),
        noise=spread(batch.noise),
        step=spread(batch.step),
        drop=spread(batch.drop),
    )
    with torch.no_grad():
        assert float(training(batch)["action"]) == pytest.approx(float(training(whole)["action"]), rel=1e-5)


def test_a_frame_off_course_says_where_the_hand_acts_next_but_its_labels_are_no_plan() -> None:
    config = config_of("memoryvla")
    training = PolicyTraining(network_of(config), config, goal_weight=1.0, bins=12)

    def losses(off_course: bool, labels: float) -> tuple[dict[str, float], PolicyBatch]:
        demos = []
        for demo in (lab_demo(*each) for each in DEMOS):
            astray = np.arange(len(demo)) < 10
            actions = np.array(demo.actions)
            actions[astray, :6] += labels
            demos.append(replace(demo, actions=actions, off_course=astray if off_course else None))
        batch = batch_of(config, demos=demos)
        return {name: float(loss.detach()) for name, loss in training(batch).items()}, batch

    (before, batch), (after, _) = losses(True, 0.0), losses(True, 0.3)
    assert before == after
    assert losses(False, 0.0)[0] != losses(False, 0.3)[0]
    assert losses(False, 0.0)[0]["goal"] != before["goal"]  # which has no chunk of these frames to tell
    known = batch.chunks.isfinite().all(-1).all(-1)
    frames = torch.arange(len(known))[~known]
    assert 0 < len(frames) < len(known)
    assert batch.goals is not None
    assert bool((batch.goals[frames].sum(-1) - 1).abs().max() < 1e-5)


def test_gradient_reaches_every_trained_weight_and_none_of_the_world_model() -> None:
    config = config_of("memoryvla_pp")
    training = PolicyTraining(network_of(config), config, goal_weight=0.3, bins=12)
    training(batch_of(config))["loss"].backward()
    without = [n for n, p in training.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = [n for n, p in training.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(n.startswith("network.imagination.world.") for n in frozen)


def test_the_loss_on_what_was_imagined_teaches_imagination_alone() -> None:
    config = config_of("memoryvla_pp")
    training = PolicyTraining(network_of(config), config, imagined_weight=0.5, bins=12)
    parts = training(batch_of(config))
    assert float(parts["loss"]) == pytest.approx(float(parts["action"] + 0.5 * parts["goal_imagined"]))
    assert training.goal_imagined is not None
    batch = batch_of(config)
    imagined = training.network.imagination.condense(training._maps(batch, batch.noised)).flatten(1, 2)
    training.goal_imagined.loss(imagined, batch, batch.goals).backward()
    reached = {n.split(".")[1] for n, p in training.named_parameters() if p.grad is not None and "network." in n}
    assert reached == {"imagination"}


@pytest.mark.parametrize("family", ["cogact", "memoryvla"])
def test_who_imagines_nothing_has_no_loss_on_it(family: str) -> None:
    config = config_of(family)
    training = PolicyTraining(network_of(config), config, imagined_weight=0.5, bins=12)
    assert set(training(batch_of(config))) == {"loss", "action"}


def test_a_few_updates_on_one_batch_lower_its_loss() -> None:
    config = config_of("memoryvla")
    training = PolicyTraining(network_of(config), config, goal_weight=0.3, bins=12)
    optimiser = torch.optim.AdamW(training.parameters(), 1e-3)
    batch = batch_of(config)
    losses = []
    for _ in range(12):
        loss = training(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert np.isfinite(losses).all()
