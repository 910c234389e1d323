"""The networks of MemoryVLA, MemoryVLA+ and MemoryVLA++: one class, its parts switched by config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.memoryvla.memory import MemoryBank, MemoryConfig, MemoryStore
from policies.vla.compressor import GateFirstCompressor, PerceptualCompressor
from policies.vla.config import ModelConfig
from policies.vla.dit import ActionModel
from policies.vla.model import VLM, Inputs, expert_of

Stores = Mapping[str, MemoryStore]
"""Memories of all live episodes by stream: `cognitive`, `perceptual`."""


def memory_config(config: ModelConfig, stream: str) -> MemoryConfig:
    """One stream's memory."""
    options = config.memory
    size = (1, config.language.width) if stream == "cognitive" else (config.picture_tokens, config.perception)
    return MemoryConfig(
        tokens=size[0],
        width=size[1],
        length=options.length,
        layers=options.layers,
        heads=options.heads,
        fusion=options.fusion,
        consolidation=options.consolidation,
        write=options.write,
        time_encoding=options.time_encoding,
        time_width=options.time_width,
        merged_time=options.merged_time,
        when_empty=options.when_empty,
        similarity=options.similarity,
        dropout=options.dropout,
        drop_at_test=options.drop_at_test,
    )


class Memory(nn.Module):
    """Compressor and banks, under the names of the released checkpoints' groups."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        kind = PerceptualCompressor if config.compress == "vision" else GateFirstCompressor
        self.per_compr = kind(config.compressed, config.perception)
        self.cog_mem_bank = self.per_mem_bank = None
        if config.memory.streams != "perceptual":
            self.cog_mem_bank = MemoryBank(memory_config(config, "cognitive"))
        if config.memory.streams != "cognitive":
            self.per_mem_bank = MemoryBank(memory_config(config, "perceptual"))

    @property
    def banks(self) -> dict[str, MemoryBank]:
        """The banks there are, by stream."""
        both = {"cognitive": self.cog_mem_bank, "perceptual": self.per_mem_bank}
        return {name: bank for name, bank in both.items() if bank is not None}

    def new_stores(self, slots: int) -> dict[str, MemoryStore]:
        """Empty memories for so many episodes."""
        return {name: bank.new_store(slots) for name, bank in self.banks.items()}

    def forward(
        self,
        cognition: Tensor,
        vision: Tensor,
        times: Tensor,
        stores: Stores,
        slots: Tensor,
        seeds: list[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Memory-augmented (cognition token [B, 1, D], perceptual tokens [B, V * P, d]) of one frame each.

        vision [B, V * P, channels] as the VLM gives them to the compressor; slots int64 [B] of the episodes' memories,
        all different.
        """
        tokens = {"cognitive": cognition, "perceptual": self.per_compr(vision, self.config.views)}
        for i, (name, bank) in enumerate(self.banks.items()):
            own = None if seeds is None else [seed + i for seed in seeds]
            tokens[name] = bank(tokens[name], times, stores[name], slots, own)
        return tokens["cognitive"], tokens["perceptual"]


class MemoryVLANetwork(nn.Module):
    """Vision-language part, memory, imagination (MemoryVLA++ only) and the action expert."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vlm = VLM(config)
        self.memory = Memory(config)
        self.imagination = None
        if config.imagination is not None:
            from policies.memoryvla.imagination import Imagination  # diffusers is slow to import

            self.imagination = Imagination(config.imagination, config.perception)
        self.action_model = ActionModel(expert_of(config, perception=True))

    def forward(self, inputs: Inputs, stores: Stores, slots: Tensor) -> tuple[Tensor, Tensor]:
        """What conditions the action expert: cognition token [B, 1, D] and perceptual tokens [B, V * P, d]. Writes
        the frames into the memories at `slots`: what is remembered is what was seen, never what was imagined. Only the
        first view is imagined."""
        cognition, vision = self.vlm(inputs)
        cognition, perception = self.memory(cognition, vision, inputs.times, stores, slots, inputs.seeds)
        if self.imagination is not None:
            if inputs.world_ids is None or inputs.noise is None:
                raise ValueError("imagination needs the instruction in the world model's ids, and noise to start from")
            perception = self.imagination(perception, inputs.pictures[:, 0], inputs.world_ids, inputs.noise)
        return cognition, perception


def slot_tensor(slots: list[int], device: torch.device) -> Tensor:
    """Slots as the banks take them. Raises ValueError when one is named twice: an entry would be lost."""
    if len(set(slots)) != len(slots):
        raise ValueError(f"slots must be different in one call, were {slots}")
    return torch.tensor(slots, dtype=torch.int64, device=device)
