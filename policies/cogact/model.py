"""CogACT's network: the vision-language part and an action expert that reads the cognition token alone."""

from __future__ import annotations

from torch import Tensor, nn

from policies.vla.config import ModelConfig
from policies.vla.dit import ActionModel
from policies.vla.model import VLM, Inputs, expert_of


class CogACTNetwork(nn.Module):
    """Groups of the released checkpoints: `vision_backbone`, `projector`, `llm_backbone` (in `vlm`), `action_model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vlm = VLM(config)
        self.action_model = ActionModel(expert_of(config, perception=False))

    def forward(self, inputs: Inputs) -> tuple[Tensor, None]:
        """What conditions the action expert: (cognition token [B, 1, width], no perceptual tokens)."""
        cognition, _ = self.vlm(inputs)
        return cognition, None
