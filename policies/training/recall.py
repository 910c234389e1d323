"""The recall stage: a memory bank learns to tell, from what a grounded vision-language part has seen, where the hand
acts next.

That part stays as it is, so each frame's cognition token is computed once, and an update of two dozen whole episodes
costs a fraction of what the policy stage takes for two. What is to be remembered is learned here in minutes; the policy
stage goes on with it, together with all else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policies.memoryvla.memory import MemoryBank
from policies.memoryvla.model import memory_config
from policies.training.batches import BatchMaker, PolicyBatch
from policies.training.data import read_data
from policies.training.losses import Recall
from policies.training.policy_stage import numbers_of, shaped
from policies.training.sights import Sights
from policies.training.starts import GROUNDING, read_grounding, save_with_grid
from policies.training.windows import CallSampler
from policies.vla.language import Prompter, lab_tokenizer
from policies.vla.model import VLM


class RecallStage:
    """See `recall_stage`."""

    def __init__(self, recall: Recall, maker: BatchMaker, sampler: CallSampler) -> None:
        self.module: nn.Module = recall
        self.recall = recall
        self.blocks: tuple[nn.Module, ...] = ()
        self._maker, self._sampler = maker, sampler
        self._sights = Sights(recall.vlm, maker, sampler.every, sampler.longest)
        self.frames = round(sum(sampler.draw(update, 0, 1)[1] for update in range(20)) / 20)

    def draw(self, update: int, rank: int, world: int) -> PolicyBatch:
        """See `policies.training.stage.Stage`."""
        pieces, frames = self._sampler.draw(update, rank, world)
        settled, seen = self._sights.of(pieces)
        return self._maker.batch(settled, frames, seen=seen.cognition)

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write what the grounding has, the bank and its head, for `grounding=` of the policy stage."""
        folder.mkdir(parents=True, exist_ok=True)
        save_with_grid(folder / GROUNDING, state, self._maker.waypoints, self.recall.bank.config)


def recall_stage(
    *,
    data: Sequence[str],
    start: str,
    cameras: Sequence[str] = (),
    state: bool = True,
    size: str = "lab",
    model: Mapping[str, Any] | None = None,
    every: int = 4,
    pieces: int = 24,
    longest: int = 48,
    goal_bins: int = 24,
    weights: Mapping[str, float] | None = None,
    seed: int = 0,
) -> RecallStage:
    """Teach a cognitive memory bank what to keep and what to look for.

    data: folders of RLDS datasets, whole episodes; start: folder of the grounding stage whose vision-language part has
    seen them (it is not trained here) and whose bank begins anew, or of this stage, to go on with its bank; cameras,
    state, size, model: as for the policy stage, and the same there; every: steps between two calls; pieces: episodes a
    batch; longest: most calls of each; weights: of tasks. Raises PolicyError or DemoError for data that are of no use.
    """
    found = read_data(data, cameras=cameras or None, unnorm_key="all")
    seen = tuple(cameras) or tuple(found.demos[0].pictures)[:1]
    labelled = [demo for demo in found.demos if demo.actions is not None and not demo.beginning]
    config = shaped("memoryvla", size, len(seen), numbers_of(labelled) if state else 0, model, None)
    prompter = Prompter(lab_tokenizer(), config.language)
    maker = BatchMaker(labelled, config, seen, prompter, found.of, repeats=1, waypoint_bins=goal_bins)
    torch.manual_seed(seed)
    recall = Recall(VLM(config), MemoryBank(memory_config(config, "cognitive")), goal_bins)
    maker.tell_on(read_grounding(Path(start), recall.vlm, [recall.recalled, recall.goal], recall.bank))
    lengths, tasks = [len(demo) for demo in labelled], [demo.task for demo in labelled]
    sampler = CallSampler(lengths, tasks, every, pieces, longest, seed, dict(weights) if weights else None)
    return RecallStage(recall, maker, sampler)
