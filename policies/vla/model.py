"""The vision-language part all families share: pictures and a sentence to vision tokens and one cognition token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.vla.config import ExpertConfig, ModelConfig
from policies.vla.diffusion import Sampling
from policies.vla.dit import DiTConfig
from policies.vla.language import PLACE, Language
from policies.vla.vision import Projector, vision_of


@dataclass(frozen=True)
class Inputs:
    """What a batch of policy calls looks like to a network.

    pictures uint8 [B, V, image, image, 3]; ids int64 [B, S] of a `Prompter`, padded on the right, of which lengths [B]
    count; state
    float32 [B, D] or None; times float64 [B]: the timestep memory entries will carry. For a world model: world_ids
    int64 [B, S], the instruction in its own ids; noise float32 [B, ...], what it starts from. seeds [B]: of what memory
    drops under `memory.drop_at_test`.
    """

    pictures: Tensor
    ids: Tensor
    lengths: Tensor
    state: Tensor | None
    times: Tensor
    world_ids: Tensor | None = None
    noise: Tensor | None = None
    seeds: list[int] | None = None


class VLM(nn.Module):
    """Vision towers, projector and language model, under the names of the released checkpoints' groups."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.language.width
        self.vision_backbone = vision_of(config.vision, width)
        self.projector = Projector(config.vision.channels, width, config.vision.projector)
        self.llm_backbone = Language(config.language)
        if config.state:
            self.state_embedder = nn.Linear(config.state, width)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """(cognition token [B, 1, width], vision tokens [B, V * P, channels] for the perceptual compressor: those
        before the projector or, where `compress` is `projected`, those after it)."""
        text = self.llm_backbone.embed(inputs.ids)
        vision = self.look(inputs.pictures, self._words(text, inputs))
        prefix = self.projector(vision)
        if self.config.compress == "projected":
            vision = prefix
        if self.config.state:
            if inputs.state is None:
                raise ValueError("this model reads proprioception and was given none")
            prefix = self._with_state(prefix, inputs.state)
        return self.llm_backbone(text, inputs.lengths, prefix, self._place(inputs.ids)), vision

    def look(self, pictures: Tensor, words: Tensor) -> Tensor:
        """Vision tokens [B, V * P, channels], view after view, every view through the same weights."""
        views = pictures.shape[1]
        tokens: Tensor = self.vision_backbone(pictures.flatten(0, 1), words.repeat_interleave(views, 0))
        return tokens.reshape(len(pictures), views * tokens.shape[1], -1)

    def _place(self, ids: Tensor) -> Tensor | None:
        """Where the prompt has the pictures, int64 [B]; None: after the first token. Found in the ids themselves, so
        that whoever makes inputs cannot put them elsewhere."""
        return (ids == PLACE).int().argmax(1) if self.config.language.marked else None

    def _with_state(self, prefix: Tensor, state: Tensor) -> Tensor:
        return torch.cat([prefix, self.state_embedder(state.to(prefix.dtype))[:, None]], dim=1)

    def _words(self, text: Tensor, inputs: Inputs) -> Tensor:
        """Mean embedding of the text without its padding (and the pictures' place), [B, width]."""
        lengths = inputs.lengths
        counts = torch.arange(text.shape[1], device=text.device)[None] < lengths[:, None]
        if self.config.language.marked:
            counts, lengths = counts & (inputs.ids != PLACE), lengths - 1
        return (text * counts[..., None]).sum(1) / lengths[:, None].to(text.dtype)


def expert_of(config: ModelConfig, perception: bool) -> DiTConfig:
    """The action expert a config asks for, with or without attention to perceptual tokens."""
    expert: ExpertConfig = config.expert
    return DiTConfig(
        depth=expert.depth,
        hidden=expert.hidden,
        heads=expert.heads,
        chunk=expert.chunk,
        condition=config.language.width,
        perception=config.perception if perception else 0,
        action=config.action,
    )


def sampling_of(config: ModelConfig) -> Sampling:
    """How chunks are drawn."""
    return Sampling(config.expert.steps, config.expert.guidance)
