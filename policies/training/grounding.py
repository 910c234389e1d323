"""The grounding stage: the vision-language part learns from single frames where the hand acts next.

It stands in, at `lab` size, for the pre-training of language model and towers that this family of policies takes for
granted: all policies that are to be compared start from the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policies.training.batches import BatchMaker, PolicyBatch
from policies.training.data import read_data
from policies.training.losses import Grounding
from policies.training.policy_stage import numbers_of, scale_state, shaped
from policies.training.starts import GROUNDING, read_grounding, save_with_grid
from policies.training.windows import FrameSampler
from policies.vla.language import Prompter, lab_tokenizer
from policies.vla.model import VLM


class GroundingStage:
    """See `grounding_stage`."""

    def __init__(self, grounding: Grounding, maker: BatchMaker, sampler: FrameSampler, frames: int) -> None:
        self.module: nn.Module = grounding
        self.grounding, self.config, self.cameras = grounding, grounding.vlm.config, maker.cameras
        layers: Any = grounding.vlm.llm_backbone.model.layers
        self.blocks: tuple[nn.Module, ...] = (*layers,)
        self.frames = frames
        self._maker, self._sampler = maker, sampler

    def draw(self, update: int, rank: int, world: int) -> PolicyBatch:
        """See `policies.training.stage.Stage`."""
        mine, frames = self._sampler.draw(update, rank, world)
        return self._maker.batch(mine, frames)

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write the vision-language part and the head, for `grounding=` of the policy stage."""
        folder.mkdir(parents=True, exist_ok=True)
        save_with_grid(folder / GROUNDING, state, self._maker.waypoints)


def grounding_stage(
    *,
    data: Sequence[str],
    cameras: Sequence[str] = (),
    state: bool = True,
    size: str = "lab",
    model: Mapping[str, Any] | None = None,
    start: str | None = None,
    frames: int = 64,
    goal_bins: int = 24,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> GroundingStage:
    """Teach the vision-language part where the hand acts next.

    data: folders of RLDS datasets with proprioception, first frames alone (`collect.first_frame`) among them: their
    tasks are drawn as tasks of their own, `TASK/first`; cameras, state, size, model: as for the policy stage, and the
    same there; start: folder of a grounding stage to go on from; frames: of a batch; weights: of tasks. Raises
    PolicyError or DemoError for data that are of no use.
    """
    found = read_data(data, cameras=cameras or None, unnorm_key="all")
    seen = tuple(cameras) or tuple(found.demos[0].pictures)[:1]
    labelled = [demo for demo in found.demos if demo.actions is not None]
    numbers = numbers_of(labelled) if state else 0
    config = shaped("cogact", size, len(seen), numbers, model, None)
    maker = BatchMaker(
        labelled,
        config,
        seen,
        Prompter(lab_tokenizer(), config.language),
        found.of,
        repeats=1,
        waypoint_bins=goal_bins,
    )
    torch.manual_seed(seed)
    grounding = Grounding(VLM(config), goal_bins)
    if numbers:
        scale_state(grounding.vlm, maker)
    if start is not None:
        maker.tell_on(read_grounding(Path(start), grounding.vlm, [grounding.goal]))
    lengths = [len(demo) for demo in labelled]
    groups = [f"{demo.task}/first" if demo.beginning else demo.task for demo in labelled]
    return GroundingStage(grounding, maker, FrameSampler(lengths, groups, frames, seed, weights), frames)
