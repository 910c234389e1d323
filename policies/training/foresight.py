"""The control of imagination: the vision-language part itself learns from videos what the coming frames look like.

MemoryVLA++ sees more than MemoryVLA does: its world model has watched videos. A memory-only policy whose encoder has
watched the same ones, for as many updates, tells whether a gain is imagination's or the data's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.memoryvla.imagination import LATENT
from policies.training.batches import BatchMaker, PolicyBatch
from policies.training.demos import Demo, DemoError
from policies.training.grounding import GroundingStage, grounding_stage
from policies.training.losses import Grounding
from policies.training.rlds import read_demos
from policies.training.windows import FrameSampler
from policies.training.world import CHANGE, encoded
from policies.training.world_files import load_world, read_world
from policies.vla.config import ModelConfig
from policies.vla.language import Prompter, lab_tokenizer
from policies.vla.statistics import ActionStatistics


@dataclass(frozen=True)
class ForesightBatch:
    """labelled: frames that say where the hand acts next; videos: frames without labels; futures [N, 1 + K, 4, g, g]:
    latents of these and of the K frames to come, scaled to about unit variance."""

    labelled: PolicyBatch
    videos: PolicyBatch
    futures: Tensor

    def to(self, device: torch.device) -> ForesightBatch:
        """The same batch on another device."""
        return ForesightBatch(self.labelled.to(device), self.videos.to(device), self.futures.to(device))


class FutureHead(nn.Module):
    """Vision tokens of the first view [N, P, d] -> how the latents change up to each of the K coming frames,
    [N, K, 4, g, g]: every token tells of its own patch, having seen the others'."""

    def __init__(self, config: ModelConfig, frames: int, grid: int) -> None:
        super().__init__()
        width, self.side = config.vision.channels, config.vision.image // config.vision.patch
        if grid % self.side:
            raise DemoError(f"a latent picture of {grid} x {grid} cannot be parted among {self.side} x {self.side}")
        self.frames, self.patch = frames, grid // self.side
        self.mix = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(width, frames * LATENT * self.patch**2)

    def forward(self, tokens: Tensor) -> Tensor:
        told = self.out(self.mix(tokens))
        parts = told.reshape(-1, self.side, self.side, self.frames, LATENT, self.patch, self.patch)
        placed: Tensor = parts.permute(0, 3, 4, 1, 5, 2, 6)
        grid = self.side * self.patch
        return placed.reshape(len(tokens), self.frames, LATENT, grid, grid)


class Foresight(nn.Module):
    """Where the hand acts next from labelled frames, and what comes next from videos."""

    def __init__(self, grounding: Grounding, frames: int, grid: int, emphasis: float) -> None:
        super().__init__()
        self.grounding, self._emphasis = grounding, emphasis
        self.future = FutureHead(grounding.vlm.config, frames, grid)

    def forward(self, batch: ForesightBatch) -> dict[str, Tensor]:
        """`loss`, the sum of `goal` and `future`: squared error of the latents, what moves weighing more, as the world
        model is trained."""
        goal = self.grounding(batch.labelled)["loss"]
        _, vision = self.grounding.vlm(batch.videos.inputs)
        change = batch.futures[:, 1:] - batch.futures[:, :1]
        error = (self.future(vision[:, : self.future.side**2]) - change).pow(2).mean(2)
        moved = change.pow(2).mean(2)
        weight = 1 + (self._emphasis - 1) * moved / (moved + CHANGE)
        future = (weight * error).mean((1, 2, 3)).sum() / batch.videos.frames
        return {"loss": goal + future, "goal": goal.detach(), "future": future.detach()}


class ForesightStage:
    """See `foresight_stage`."""

    def __init__(
        self,
        inner: GroundingStage,
        module: Foresight,
        maker: BatchMaker,
        sampler: FrameSampler,
        latents: list[Tensor],
        stride: int,
    ) -> None:
        self.module: nn.Module = module
        self.blocks, self.frames = inner.blocks, 2 * inner.frames
        self._inner, self._maker, self._sampler = inner, maker, sampler
        self._latents, self._ahead = latents, np.arange(module.future.frames + 1) * stride

    def draw(self, update: int, rank: int, world: int) -> ForesightBatch:
        """See `policies.training.stage.Stage`."""
        pieces, frames = self._sampler.draw(update, rank, world)
        futures = [self._future(piece.demo, int(piece.frames[0])) for piece in pieces]
        videos = self._maker.batch(pieces, frames)
        return ForesightBatch(self._inner.draw(update, rank, world), videos, torch.stack(futures))

    def _future(self, demo: int, frame: int) -> Tensor:
        video = self._latents[demo]
        return video[torch.from_numpy(np.minimum(frame + self._ahead, len(video) - 1))]

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write what the grounding stage writes: the head that foresees stays behind."""
        inner = {name.removeprefix("grounding."): t for name, t in state.items() if name.startswith("grounding.")}
        self._inner.save(folder, inner)


def foresight_stage(
    *,
    data: Sequence[str],
    videos: Sequence[str],
    world: str,
    grounding: str,
    cameras: Sequence[str] = (),
    state: bool = True,
    size: str = "lab",
    model: Mapping[str, Any] | None = None,
    frames: int = 32,
    goal_bins: int = 24,
    emphasis: float = 11.0,
    seed: int = 0,
) -> ForesightStage:
    """Teach a grounded vision-language part what the coming frames look like, on the videos of a world model.

    data, cameras, state, size, model, goal_bins: as for the grounding stage, whose labels are kept in mind; videos:
    folders of RLDS datasets, with or without actions; world: the world model whose autoencoder says what is foreseen,
    and whose stride and number of frames how far; grounding: where it starts; frames: of each kind in a batch;
    emphasis: weight of what moves against what stands. Raises PolicyError or DemoError for what does not fit.
    """
    inner = grounding_stage(
        data=data,
        cameras=cameras,
        state=state,
        size=size,
        model=model,
        start=grounding,
        frames=frames,
        goal_bins=goal_bins,
        seed=seed,
    )
    config, seen = inner.config, inner.cameras
    shown = [demo for folder in videos for demo in read_demos(Path(folder), cameras=seen)]
    demos = [unlabelled(demo, config.action) for demo in shown]
    unit = ActionStatistics.unit(config.action)
    maker = BatchMaker(demos, config, seen, Prompter(lab_tokenizer(), config.language), lambda _: unit, repeats=1)
    about, teacher = read_world(Path(world)), load_world(Path(world))
    latents = [teacher.scale * video for video in encoded(teacher, demos, seen[0])]
    torch.manual_seed(seed)
    module = Foresight(inner.grounding, about.options.frames, about.options.grid, emphasis)
    sampler = FrameSampler([len(demo) for demo in demos], [demo.task for demo in demos], frames, seed + 1)
    return ForesightStage(inner, module, maker, sampler, latents, about.stride)


def unlabelled(demo: Demo, numbers: int) -> Demo:
    """The same video under actions that say nothing: batches hold some, and this stage looks at none."""
    return replace(demo, actions=np.zeros((len(demo), numbers), dtype=np.float32))
