"""Stage 1: the world model learns from videos what the coming frames will look like. No actions are used.

Two phases. `autoencoder`: pictures to latents and back; for the lab, where no trained VAE exists (Stable Video
Diffusion's is given, and frozen). `video`: the UNet regresses the clean latents of the coming frames from noised ones,
the present frame and the instruction, as SVD and VPP train theirs (EDM preconditioning, velocity weighting).

A policy takes its imagination from one denoising step out of pure noise. There the best answer is the mean over all
futures, a plain regression, and of the log-normal noise levels SVD trains on almost none lie there. So a share of the
examples is trained exactly there (`pure`), and latents that differ from the present frame's weigh more (`emphasis`):
most of a video stands still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from policies.base import PolicyError
from policies.memoryvla.imagination import LATENT, WorldModel
from policies.training.demos import Demo, Pictures
from policies.training.stage import Stage
from policies.training.world_files import load_svd, load_world, read_world, save_world
from policies.training.world_report import write_report
from policies.vla.config import ImaginationOptions, one_of
from policies.vla.language import WorldPrompter, lab_tokenizer

SIGMA_MAX = 700.0
"""The noise level of pure noise: where SVD's schedule starts."""

CHANGE = 0.1
"""Squared change of a latent (of unit variance) that counts as half changed."""

ENCODED = 64
"""Pictures encoded at once."""


@dataclass(frozen=True)
class WorldTraining:
    """How a world model is trained; both phases.

    camera: the one that is imagined (empty: the demonstrations' first); batch: clips an update (in the autoencoder
    phase pairs of frames); stride: control steps between imagined frames; weights: task -> how often one of its
    demonstrations is drawn against the others (default 1); emphasis: weight of what moves against what stands;
    pure: share of examples at pure noise; noise: mean and deviation of ln sigma of the others; silence: share of
    examples without words; kl: weight of the autoencoder's divergence from a unit Gaussian; words: train the text
    encoder too (the lab's starts from nothing; CLIP's is given); cache: encode all frames once, at the start; half:
    save in float16; held_out: demonstrations, evenly spread, that neither phase is trained on: the video phase writes
    `quality.json` and `strip.png` of them beside its weights (0: none).
    """

    camera: str = ""
    batch: int = 16
    seed: int = 0
    stride: int = 1
    weights: Mapping[str, float] | None = None
    emphasis: float = 11.0
    pure: float = 0.6
    noise: tuple[float, float] = (0.7, 1.6)
    silence: float = 0.05
    kl: float = 1e-6
    words: bool = False
    cache: bool = False
    half: bool = False
    held_out: int = 0


def world_stage(
    demos: Sequence[Demo],
    options: ImaginationOptions | None = None,
    *,
    phase: str,
    start: Path | None = None,
    clip: Path | None = None,
    tokenizer: Tokenizer | None = None,
    **training: Any,
) -> Stage:
    """The stage of one phase, `autoencoder` or `video`.

    options: the model's shape (None: that of `start`); start: folder of a world model to go on from, ours or a Stable
    Video Diffusion with its text encoder in `clip` (the video phase needs one: it does not train the autoencoder);
    tokenizer: None takes that of `start`, or the lab's; training: the fields of `WorldTraining`. Raises PolicyError for
    a start of another shape and for demonstrations of no use.
    """
    one_of("phase", phase, ("autoencoder", "video"))
    how = WorldTraining(**training)
    if start is not None:
        world, found = opened(start, clip, options)
        tokenizer = tokenizer or found
    elif options is not None and phase == "autoencoder":
        torch.manual_seed(how.seed)
        world = WorldModel(options)
    else:
        raise PolicyError("the world model's video phase starts from a trained autoencoder: name its folder (start)")
    tokenizer = tokenizer or lab_tokenizer()
    demos, held = apart(demos, how.held_out)
    if phase == "autoencoder":
        return AutoencoderStage(world, demos, how, tokenizer)
    return VideoStage(world, demos, how, tokenizer, held)


def apart(demos: Sequence[Demo], count: int) -> tuple[Sequence[Demo], Sequence[Demo]]:
    """(demonstrations to train on, those that are held out). Raises PolicyError where none would be left."""
    if not 0 <= count < max(len(demos), 1):
        raise PolicyError(f"held_out must be 0 to {len(demos) - 1}, fewer than the demonstrations, was {count}")
    if not count:
        return demos, ()
    held = {i * len(demos) // count for i in range(count)}
    return [d for i, d in enumerate(demos) if i not in held], [demos[i] for i in sorted(held)]


def opened(start: Path, clip: Path | None, options: ImaginationOptions | None) -> tuple[WorldModel, Tokenizer]:
    """The world model training starts from, and its tokenizer; see `world_stage`."""
    if clip is not None:
        return load_svd(start, clip, options)
    found = read_world(start)
    if options is not None and found.options != options:
        raise PolicyError(f"the world model {start} has the shape {found.options}, wanted was {options}")
    return load_world(start), found.tokenizer


class Clips:
    """Which frames of which demonstrations a batch is made of."""

    def __init__(self, demos: Sequence[Demo], how: WorldTraining) -> None:
        if not demos:
            raise PolicyError("a world model needs at least one demonstration")
        self.demos = demos
        self.camera = how.camera or next(iter(demos[0].pictures))
        for demo in demos:
            if self.camera not in demo.pictures:
                raise PolicyError(f"{demo} has no camera {self.camera!r}; it has {', '.join(demo.pictures)}")
        weights = how.weights or {}
        unknown = sorted(set(weights) - {demo.task for demo in demos})
        if unknown:
            raise PolicyError(f"no demonstration of {', '.join(unknown)}, which a weight was given for")
        chance = np.array([weights.get(demo.task, 1.0) for demo in demos])
        if not chance.sum() > 0 or chance.min() < 0:
            raise PolicyError("the weights of the demonstrations must be positive, and some above zero")
        self._up_to = np.cumsum(chance / chance.sum())
        self._how = how

    def draw(self, update: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], np.random.Generator]:
        """(demonstrations [batch], their present frames [batch], the generator for all else in this batch)."""
        rng = np.random.default_rng([self._how.seed, update])
        which = np.searchsorted(self._up_to, rng.random(self._how.batch), side="right")
        which = np.minimum(which, len(self.demos) - 1)
        lengths = np.array([len(self.demos[i]) for i in which])
        return which, rng.integers(0, np.maximum(lengths - 1, 1)), rng

    def pictures(self, demo: int, frames: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """uint8 [frames, H, W, 3]; behind the end the last frame stands still."""
        video = self.demos[demo].pictures[self.camera]
        found: npt.NDArray[np.uint8] = video[np.minimum(frames, len(video) - 1)]
        return found

    def part(self, rank: int, world: int) -> slice:
        """The rows of the batch that process `rank` of `world` gets."""
        batch = self._how.batch
        if batch % world:
            raise PolicyError(f"a batch of {batch} cannot be split over {world} processes: choose a multiple")
        return slice(rank * batch // world, (rank + 1) * batch // world)


# ---------------------------------------------------------------------- pictures to latents


class Pairs(NamedTuple):
    """Two frames each of some videos, uint8 [B, 2, H, W, 3], and the noise of their latents [B * 2, 4, grid, grid]."""

    pictures: Tensor
    noise: Tensor


class Autoencoding(nn.Module):
    """Loss of the autoencoder: mean absolute and squared error, what moves between the two frames weighing more."""

    def __init__(self, world: WorldModel, how: WorldTraining) -> None:
        super().__init__()
        self.world = world
        self._emphasis, self._kl = how.emphasis, how.kl
        world.vae.requires_grad_(True)

    def forward(self, batch: Pairs) -> dict[str, Tensor]:
        """`loss`; `reconstruction`: mean squared error of pixels in -1 ... 1; `kl`: mean divergence of a latent."""
        vae = self.world.vae
        wanted = self.world.pixels(batch.pictures.flatten(0, 1))
        found = vae.encode(wanted).latent_dist
        restored = vae.decode(found.mean + found.std * batch.noise, num_frames=1).sample
        weight = 1 + (self._emphasis - 1) * _moved(wanted)
        off = restored - wanted
        divergence = found.kl().mean() / batch.noise[0].numel()
        squared = off.pow(2)
        loss = (weight * (squared + 0.1 * off.abs())).mean() + self._kl * divergence
        return {"loss": loss, "reconstruction": squared.mean().detach(), "kl": divergence.detach()}


def _moved(pixels: Tensor) -> Tensor:
    """Where the two frames of each pair [B * 2, 3, H, W] differ, 0 ... 1 [B * 2, 1, H, W], one pixel further round."""
    pairs = pixels.reshape(-1, 2, *pixels.shape[1:])
    change = (pairs[:, 0] - pairs[:, 1]).abs().amax(1, keepdim=True)
    return functional.max_pool2d((change * 5).clamp(max=1), 3, 1, 1).repeat_interleave(2, 0)


class AutoencoderStage:
    """Trains the VAE. When it is saved, its latents are scaled to the variance the UNet expects."""

    def __init__(self, world: WorldModel, demos: Sequence[Demo], how: WorldTraining, tokenizer: Tokenizer) -> None:
        self._world, self._how, self._tokenizer = world, how, tokenizer
        self._clips = Clips(demos, how)
        self.module: nn.Module = Autoencoding(world, how)
        self.blocks: tuple[nn.Module, ...] = (world.vae.encoder, world.vae.decoder)
        self.frames = 2 * how.batch

    def draw(self, update: int, rank: int, world: int) -> Pairs:
        """See `policies.training.stage.Stage`."""
        which, when, rng = self._clips.draw(update)
        apart = rng.integers(1, 8 * self._how.stride + 1, len(which))
        part = self._clips.part(rank, world)
        rows = zip(which[part], when[part], apart[part], strict=True)
        pictures = np.stack([self._clips.pictures(i, np.array([t, t + gap])) for i, t, gap in rows])
        grid = self._world.options.grid
        noise = rng.standard_normal((len(which), 2, LATENT, grid, grid), dtype=np.float32)
        return Pairs(torch.from_numpy(pictures), torch.from_numpy(noise[part]).flatten(0, 1))

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write the world model, its latents scaled on frames drawn as for training."""
        world = _filled(self._world.options, state)
        frames = torch.cat([self.draw(update, 0, 1).pictures.flatten(0, 1) for update in range(16)])
        standardise(world, frames)
        save_world(folder, world, self._tokenizer, self._how.stride, half=self._how.half)


@torch.no_grad()
def standardise(world: WorldModel, pictures: Tensor) -> float:
    """Scale the VAE's latents so that those of pictures uint8 [N, H, W, 3] have unit variance once multiplied with its
    scaling factor, as SVD's have; the scale goes into the weights, and decoding is unchanged. Returns that scale."""
    mean = torch.cat([world.encode(some, world.dtype) for some in _some(pictures.numpy())])
    scale = 1 / (float(mean.std()) * world.scale)
    moments = world.vae.quant_conv  # mean and log-variance
    moments.weight[:LATENT] *= scale
    moments.bias[:LATENT] *= scale
    moments.bias[LATENT:] += 2 * float(np.log(scale))
    world.vae.decoder.conv_in.weight /= scale
    return scale


# ---------------------------------------------------------------------- the frames to come


class Futures(NamedTuple):
    """Clips: unscaled latents of the present and the F coming frames [B, 1 + F, 4, grid, grid], or their pictures uint8
    [B, 1 + F, H, W, 3]; ids int64 [B, text_tokens]; heard [B]: 0 where the words are withheld; sigma [B]; noise."""

    frames: Tensor
    ids: Tensor
    heard: Tensor
    sigma: Tensor
    noise: Tensor


class Denoising(nn.Module):
    """Loss of the UNet: squared error of the clean latents under the velocity weighting (sigma^2 + 1) / sigma^2."""

    def __init__(self, world: WorldModel, how: WorldTraining) -> None:
        super().__init__()
        self.world = world
        self._emphasis = how.emphasis
        world.unet.requires_grad_(True)
        world.text.requires_grad_(how.words)

    def forward(self, batch: Futures) -> dict[str, Tensor]:
        """`loss`; `unexplained`: squared error at pure noise as a share of that of a world that stands still."""
        world, sigma = self.world, batch.sigma
        frames = batch.frames
        if frames.dtype == torch.uint8:
            with torch.no_grad():
                latents = world.encode(frames.flatten(0, 1), world.dtype)
                frames = latents.reshape(*frames.shape[:2], *latents.shape[1:])
        given, clean = frames[:, 0], frames[:, 1:] * world.scale
        noisy = clean + sigma[:, None, None, None, None] * batch.noise
        words = world.read(batch.ids) * batch.heard[:, None, None]
        error = (world.clean(noisy, sigma, given, words) - clean).pow(2).mean(2)
        change = (clean - given[:, None] * world.scale).pow(2).mean(2)
        weight = 1 + (self._emphasis - 1) * change / (change + CHANGE)
        level = ((sigma**2 + 1) / sigma**2)[:, None, None, None]
        pure = (sigma >= SIGMA_MAX).to(error)[:, None, None, None]
        left = (error.detach() * pure).sum() / (change * pure).sum().clamp(min=1e-6)
        return {"loss": (weight * level * error).mean(), "unexplained": left}


class VideoStage:
    """Trains the UNet, and the text encoder where it is not given. held: demonstrations it is measured on."""

    def __init__(
        self,
        world: WorldModel,
        demos: Sequence[Demo],
        how: WorldTraining,
        tokenizer: Tokenizer,
        held: Sequence[Demo] = (),
    ) -> None:
        self._world, self._how, self._tokenizer, self._held = world, how, tokenizer, held
        self._clips = Clips(demos, how)
        options = world.options
        prompter = WorldPrompter(tokenizer, options.text_tokens, options.text_vocabulary)
        self._ids = {demo.instruction: prompter.ids(demo.instruction) for demo in demos}
        self.module: nn.Module = Denoising(world, how)
        unet = world.unet
        self.blocks: tuple[nn.Module, ...] = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
        self.frames = how.batch * (1 + options.frames)
        self.latents = encoded(world, demos, self._clips.camera) if how.cache else None

    def draw(self, update: int, rank: int, world: int) -> Futures:
        """See `policies.training.stage.Stage`."""
        how, clips = self._how, self._clips
        which, when, rng = clips.draw(update)
        part = clips.part(rank, world)
        count = len(which)
        ahead = np.arange(self._world.options.frames + 1) * how.stride
        frames = torch.stack([self._frames(i, t + ahead) for i, t in zip(which[part], when[part], strict=True)])
        mean, deviation = how.noise
        sigma = np.exp(mean + deviation * rng.standard_normal(count))
        sigma[rng.random(count) < how.pure] = SIGMA_MAX
        heard = rng.random(count) >= how.silence
        noise = rng.standard_normal((count, *self._world.noise_shape), dtype=np.float32)
        return Futures(
            frames=frames,
            ids=torch.tensor([self._ids[clips.demos[i].instruction] for i in which[part]]),
            heard=torch.from_numpy(heard[part].astype(np.float32)),
            sigma=torch.from_numpy(np.minimum(sigma, SIGMA_MAX)[part].astype(np.float32)),
            noise=torch.from_numpy(noise[part]),
        )

    def _frames(self, demo: int, frames: npt.NDArray[np.int64]) -> Tensor:
        if self.latents is None:
            return torch.from_numpy(self._clips.pictures(demo, frames))
        video = self.latents[demo]
        return video[torch.from_numpy(np.minimum(frames, len(video) - 1))]

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write the world model, and how good it is where demonstrations are held out."""
        world = _filled(self._world.options, state)
        save_world(folder, world, self._tokenizer, self._how.stride, half=self._how.half)
        if self._held:
            options = world.options
            prompter = WorldPrompter(self._tokenizer, options.text_tokens, options.text_vocabulary)
            write_report(folder, world, prompter, self._held, self._clips.camera, self._how.stride)


@torch.no_grad()
def encoded(world: WorldModel, demos: Sequence[Demo], camera: str) -> list[Tensor]:
    """Unscaled latents of every frame of every demonstration, [T, 4, grid, grid] each."""
    return [torch.cat([world.encode(some, world.dtype) for some in _some(demo.pictures[camera])]) for demo in demos]


def _some(pictures: Pictures) -> list[Tensor]:
    return [torch.from_numpy(pictures[at : at + ENCODED]) for at in range(0, len(pictures), ENCODED)]


def _filled(options: ImaginationOptions, state: dict[str, Tensor]) -> WorldModel:
    """A world model with the weights of a training module's state dict."""
    world = WorldModel(options)
    world.load_state_dict({name.removeprefix("world."): tensor for name, tensor in state.items()})
    return world
