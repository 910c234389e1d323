"""The world-model stage: what it regresses, what it draws, what each phase trains."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.base import PolicyError
from policies.memoryvla.imagination import WorldModel
from policies.training.demos import Demo
from policies.training.world import (
    SIGMA_MAX,
    AutoencoderStage,
    Futures,
    VideoStage,
    WorldTraining,
    apart,
    standardise,
    world_stage,
)
from policies.training.world_files import load_world, read_world
from policies.vla.config import LAB_IMAGINATION, ImaginationOptions
from policies.vla.language import lab_tokenizer

TINY = replace(
    LAB_IMAGINATION, size=16, latent=(32, 32, 32), channels=(32, 32, 32), heads=(1, 1, 1), frames=2, horizon=2
)


def video(task: str = "roll", trial: int = 0, frames: int = 12) -> Demo:
    """A bright square that goes right at one pixel a frame, on a grey ground of its own."""
    rng = np.random.default_rng(trial)
    pictures = np.full((frames, 16, 16, 3), 60 + rng.integers(60), dtype=np.uint8)
    top = int(rng.integers(0, 12))
    for t in range(frames):
        pictures[t, top : top + 4, t : t + 4] = (250, 40, 40)
    return Demo("lab", task, trial, f"watch the {task}", {"front": pictures}, None, None)


DEMOS = tuple(video(task, trial) for task in ("roll", "stand") for trial in range(3))


@lru_cache(maxsize=2)
def trained_nowhere(options: ImaginationOptions = TINY) -> WorldModel:
    torch.manual_seed(0)
    return WorldModel(options)


def stage(kind: type[Any], demos: Sequence[Demo] = DEMOS, **how: Any) -> Any:
    torch.manual_seed(0)
    return kind(WorldModel(TINY), demos, WorldTraining(**{"batch": 4, "stride": 2, **how}), lab_tokenizer())


def test_training_and_sampling_share_one_preconditioning() -> None:
    """At every noise level of the schedule, what training calls the clean latents is what the sampler goes by."""
    world = trained_nowhere()
    generator = torch.Generator().manual_seed(1)
    given = torch.randn(1, 4, 4, 4, generator=generator)
    words = world.read(torch.ones(1, 20, dtype=torch.int64))
    for i in (0, 7, 19):
        scheduler = world._scheduler(torch.device("cpu"))  # anew: it counts its steps
        x = torch.randn(1, 2, 4, 4, 4, generator=generator) * scheduler.sigmas[i]
        step = scheduler.timesteps[i]
        told = torch.cat([scheduler.scale_model_input(x, step), given[:, None].expand(-1, 2, -1, -1, -1)], 2)
        with torch.no_grad():
            velocity = world.unet(told, step, words, world._about(1, x)).sample
            expected = scheduler.step(velocity, step, x).pred_original_sample
            found = world.clean(x, scheduler.sigmas[i : i + 1].float(), given, words)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_one_step_of_sampling_is_what_training_regresses_at_pure_noise() -> None:
    world = trained_nowhere()
    picture = torch.from_numpy(DEMOS[0].pictures["front"][:1])
    ids = torch.ones(1, 20, dtype=torch.int64)
    noise = torch.randn(1, *world.noise_shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        given = world.encode(picture, world.dtype)
        expected = world.clean(noise * SIGMA_MAX, torch.tensor([SIGMA_MAX]), given, world.read(ids))
    torch.testing.assert_close(world.sample(picture, ids, noise, steps=1), expected, rtol=1e-4, atol=1e-3)


def test_a_whole_sampling_ends_in_pictures() -> None:
    world = trained_nowhere()
    picture = torch.from_numpy(DEMOS[0].pictures["front"][:1])
    noise = torch.randn(1, *world.noise_shape, generator=torch.Generator().manual_seed(2))
    ids = torch.ones(1, 20, dtype=torch.int64)
    few, whole = (world.sample(picture, ids, noise, steps) for steps in (1, None))
    assert torch.isfinite(whole).all()
    assert float((few - whole).abs().max()) > 1e-3
    with torch.no_grad():
        shown = world.decode(whole)
    assert (shown.dtype, tuple(shown.shape)) == (torch.uint8, (1, 2, 16, 16, 3))


@pytest.mark.parametrize("kind", [AutoencoderStage, VideoStage])
def test_the_shares_of_a_batch_are_the_batch_and_their_losses_average_to_its_loss(kind: type[Any]) -> None:
    made = stage(kind)
    whole, parts = made.draw(3, 0, 1), [made.draw(3, rank, 2) for rank in range(2)]
    for together, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(together, torch.cat(shares))
    with torch.no_grad():
        loss = made.module(whole)["loss"]
        mean = sum(made.module(part)["loss"] for part in parts) / 2
    torch.testing.assert_close(loss, mean, rtol=1e-4, atol=1e-5)
    with pytest.raises(PolicyError, match="batch of 4 cannot be split over 3"):
        made.draw(0, 0, 3)


@pytest.mark.parametrize("kind", [AutoencoderStage, VideoStage])
def test_a_batch_depends_on_seed_and_update_alone(kind: type[Any]) -> None:
    one, same, other = stage(kind), stage(kind), stage(kind, seed=1)
    one.draw(0, 0, 1)
    batches = [made.draw(5, 0, 1) for made in (one, same, other)] + [one.draw(6, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(batches[0], batches[1], strict=True))
    for unlike in batches[2:]:
        assert not torch.equal(batches[0][-1], unlike[-1])
        assert not torch.equal(batches[0][0], unlike[0])


def test_a_clip_is_the_present_and_the_strided_future_and_stands_still_behind_the_end() -> None:
    made = stage(VideoStage, batch=32)
    batch: Futures = made.draw(0, 0, 1)
    place = batch.frames[..., 0].eq(250).any(2).int().argmax(-1)  # column of the square: the frame's number
    start = place[:, :1]
    assert torch.equal(place, (start + 2 * torch.arange(3)).clamp(max=11))
    assert len(start.unique()) > 5
    assert int(start.max()) < 11


def test_noise_levels_are_pure_noise_or_log_normal_as_told() -> None:
    sigma = torch.cat([stage(VideoStage, batch=512, pure=0.5).draw(0, 0, 1).sigma])
    pure = sigma == SIGMA_MAX
    assert 0.4 < float(pure.float().mean()) < 0.6
    log = sigma[~pure].log()
    assert float(log.mean()) == pytest.approx(0.7, abs=0.3)
    assert float(log.std()) == pytest.approx(1.6, abs=0.3)


def test_weights_say_which_tasks_are_drawn() -> None:
    texts = stage(VideoStage, weights={"stand": 0.0}).draw(0, 0, 1).ids
    assert len(texts.unique(dim=0)) == 1
    with pytest.raises(PolicyError, match="no demonstration of jump"):
        stage(VideoStage, weights={"jump": 1.0})


def test_each_phase_trains_its_own_part() -> None:
    def trained(module: torch.nn.Module) -> set[str]:
        return {name.split(".")[1] for name, p in module.named_parameters() if p.requires_grad}

    assert trained(stage(AutoencoderStage).module) == {"vae"}
    assert trained(stage(VideoStage).module) == {"unet"}
    assert trained(stage(VideoStage, words=True).module) == {"unet", "text"}


def test_cached_latents_change_no_loss() -> None:
    plain, cached = stage(VideoStage), stage(VideoStage, cache=True)
    with torch.no_grad():
        a, b = (made.module(made.draw(0, 0, 1))["loss"] for made in (plain, cached))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_withheld_words_say_nothing() -> None:
    made = stage(VideoStage)
    batch: Futures = made.draw(0, 0, 1)
    losses = []
    for heard in (0.0, 1.0):
        for ids in (batch.ids, batch.ids.flip(1)):
            with torch.no_grad():
                losses.append(float(made.module(batch._replace(ids=ids, heard=torch.full((4,), heard)))["loss"]))
    assert losses[0] == losses[1]
    assert losses[2] != losses[3]


def test_scaling_latents_to_unit_variance_changes_no_picture() -> None:
    torch.manual_seed(0)
    world = WorldModel(TINY)
    pictures = torch.from_numpy(np.concatenate([demo.pictures["front"] for demo in DEMOS]))
    with torch.no_grad():
        before, spread = world.decode(world.latents(pictures)[None]), world.vae.encode(world.pixels(pictures))
        scale = standardise(world, pictures)
        after, wider = world.decode(world.latents(pictures)[None]), world.vae.encode(world.pixels(pictures))
    assert float(world.latents(pictures).detach().std()) == pytest.approx(1.0, abs=1e-3)
    assert int((before.int() - after.int()).abs().max()) <= 1
    torch.testing.assert_close(wider.latent_dist.std, spread.latent_dist.std * scale, rtol=1e-3, atol=1e-6)


def train(made: Any, updates: int) -> list[float]:
    optimiser = torch.optim.AdamW([p for p in made.module.parameters() if p.requires_grad], 2e-3)
    losses = []
    for update in range(updates):
        loss = made.module(made.draw(update, 0, 1))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def test_both_phases_learn_and_hand_over_in_folders(tmp_path: Path) -> None:
    """The autoencoder's folder starts the video phase; after some updates it foresees more than standing still."""
    first = world_stage(DEMOS, TINY, phase="autoencoder", batch=8, stride=2)
    losses = train(first, 40)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    first.save(tmp_path / "a", first.module.state_dict())
    second = world_stage(DEMOS, phase="video", start=tmp_path / "a", batch=8, stride=2, words=True, cache=True)
    losses = train(second, 40)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    second.save(tmp_path / "b", second.module.state_dict())
    found = load_world(tmp_path / "b")
    assert read_world(tmp_path / "b").stride == 2
    batch = second.draw(99, 0, 1)
    with torch.no_grad():
        wanted = second.module(batch)["loss"]
        second.module.world.load_state_dict(found.state_dict())
        torch.testing.assert_close(second.module(batch)["loss"], wanted)


def test_held_out_demonstrations_are_never_drawn_and_are_what_is_reported(tmp_path: Path) -> None:
    made = stage(AutoencoderStage)
    made.save(tmp_path / "a", made.module.state_dict())
    demos = [*DEMOS[:3], video("unseen", 7), *DEMOS[3:]]
    kept, held = apart(demos, 2)
    assert [demo.task for demo in held] == ["roll", "unseen"]
    assert len(kept) == 5
    second: Any = world_stage(demos, phase="video", start=tmp_path / "a", batch=64, stride=2, held_out=2)
    said = lab_tokenizer().encode("unseen", add_special_tokens=False).ids[0]
    assert not (second.draw(0, 0, 1).ids == said).any()
    second.save(tmp_path / "b", second.module.state_dict())
    found = json.loads((tmp_path / "b" / "quality.json").read_text())
    assert found["clips"] == 4
    assert 0 < found["first_psnr"] < 60
    assert (tmp_path / "b" / "strip.png").stat().st_size > 100
    with pytest.raises(PolicyError, match="held_out must be 0 to 6"):
        apart(demos, 7)


def test_the_video_phase_needs_an_autoencoder_of_its_own_shape(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="starts from a trained autoencoder"):
        world_stage(DEMOS, TINY, phase="video")
    made = stage(AutoencoderStage)
    made.save(tmp_path, made.module.state_dict())
    with pytest.raises(PolicyError, match="has the shape"):
        world_stage(DEMOS, replace(TINY, frames=3), phase="video", start=tmp_path)
    with pytest.raises(PolicyError, match="phase must be one of"):
        world_stage(DEMOS, TINY, phase="both")


def test_demonstrations_of_no_use_are_refused() -> None:
    with pytest.raises(PolicyError, match="at least one demonstration"):
        stage(VideoStage, ())
    with pytest.raises(PolicyError, match="has no camera 'wrist'; it has front"):
        stage(VideoStage, camera="wrist")


def test_the_stage_is_made_at_the_size_of_stable_video_diffusion() -> None:
    with torch.device("meta"):
        world = WorldModel(ImaginationOptions())
    how = WorldTraining(batch=4, stride=2, camera="front")
    made = VideoStage(world, DEMOS, how, lab_tokenizer())
    trained = sum(p.numel() for p in made.module.parameters() if p.requires_grad)
    assert trained == 1_524_623_082  # the UNet and nothing else
    batch = made.draw(0, 0, 4)
    assert batch.frames.shape == (1, 17, 16, 16, 3)
    assert batch.noise.shape == (1, 16, 4, 32, 32)
    assert sum(p.numel() for block in made.blocks for p in block.parameters()) / trained > 0.98
