"""Vision: DINOv2 and SigLIP side by side or CLIP, through `transformers`, or a small stem to learn from scratch."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from policies.vla.config import TowerConfig, VisionConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Vision(nn.Module):
    """Pictures to tokens. Three kinds, chosen by `vision.kind`."""

    def forward(self, pictures: Tensor, words: Tensor) -> Tensor:
        """Tokens [B, P, channels] of pictures uint8 [B, image, image, 3]; words [B, d]: mean text embedding."""
        raise NotImplementedError


class FusedTowers(Vision):
    """Patch tokens of the second-to-last block of both towers, without its final norm, joined on channels: DINOv2
    first. At the released size 256 tokens of 2176 channels."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.skip = 1 + config.registers
        self.dino = _dino(config)
        self.siglip = _siglip(config)

    def forward(self, pictures: Tensor, words: Tensor) -> Tensor:
        scaled = _scaled(pictures, next(self.parameters()))
        mean, std = (scaled.new_tensor(x)[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
        return torch.cat([self.see_dino((scaled - mean) / std), self.see_siglip((scaled - 0.5) / 0.5)], dim=-1)

    def see_dino(self, pixels: Tensor) -> Tensor:
        """Patch tokens [B, P, width] of normalised pixels [B, 3, H, W]; the last block is never run."""
        tokens: Tensor = self.dino.embeddings(pixels)
        for block in self.dino.encoder.layer[:-1]:
            tokens = block(tokens)
        return tokens[:, self.skip :]

    def see_siglip(self, pixels: Tensor) -> Tensor:
        """Patch tokens [B, P, width] of normalised pixels [B, 3, H, W]; the last block is never run."""
        tokens: Tensor = self.siglip.embeddings(pixels)
        for block in self.siglip.encoder.layers[:-1]:
            tokens = block(tokens, None)
        return tokens


def _dino(config: VisionConfig) -> Any:
    tower: TowerConfig = config.dino
    return Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=tower.width,
            num_hidden_layers=tower.depth,
            num_attention_heads=tower.heads,
            mlp_ratio=tower.mlp // tower.width,
            image_size=config.image,
            patch_size=config.patch,
            num_register_tokens=config.registers,
            layer_norm_eps=1e-6,
        )
    )


def _siglip(config: VisionConfig) -> Any:
    tower: TowerConfig = config.siglip
    return SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=tower.width,
            intermediate_size=tower.mlp,
            num_hidden_layers=tower.depth,
            num_attention_heads=tower.heads,
            image_size=config.image,
            patch_size=config.patch,
            layer_norm_eps=1e-6,
            # timm 0.9.10, with which the released models were trained, uses the exact GELU here, not the tanh form.
            hidden_act="gelu",
            vision_use_head=False,
        )
    )


class ClipTower(Vision):
    """Patch tokens of CLIP's second-to-last block, without its final norm and without the class token (MemoryVLA+)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        tower = config.clip
        self.vision_tower: Any = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=tower.width,
                intermediate_size=tower.mlp,
                num_hidden_layers=tower.depth,
                num_attention_heads=tower.heads,
                image_size=config.image,
                patch_size=config.patch,
            )
        )

    def forward(self, pictures: Tensor, words: Tensor) -> Tensor:
        scaled = _scaled(pictures, next(self.parameters()))
        mean, std = (scaled.new_tensor(x)[:, None, None] for x in (CLIP_MEAN, CLIP_STD))
        return self.see((scaled - mean) / std)

    def see(self, pixels: Tensor) -> Tensor:
        """Patch tokens [B, P, width] of normalised pixels [B, 3, H, W]; the last block is never run."""
        tower = self.vision_tower
        tokens: Tensor = tower.pre_layrnorm(tower.embeddings(pixels))
        for block in tower.encoder.layers[:-1]:
            tokens = block(tokens, None)
        return tokens[:, 1:]


def _scaled(pictures: Tensor, like: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> [B, 3, H, W] in 0..1."""
    return (pictures.permute(0, 3, 1, 2).float() / 255).to(like.dtype)


class ConvStem(Vision):
    """Four convolutions; the first two hear the instruction as a scale and a shift of their channels.

    A small network binds words to colours and places far sooner this way than when text meets picture only later.
    """

    def __init__(self, config: VisionConfig, word_width: int) -> None:
        super().__init__()
        width, half = config.width, config.width // 2
        stride = config.patch // 4  # two more halvings follow
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, half, 2 * stride, stride, padding=stride // 2),
                nn.Conv2d(half, half, 3, 2, padding=1),
                nn.Conv2d(half, width, 3, 2, padding=1),
                nn.Conv2d(width, width, 3, 1, padding=1),
            ]
        )
        self.listens = nn.ModuleList(nn.Linear(word_width, 2 * half) for _ in range(2))
        self.places = nn.Parameter(torch.randn(1, config.tokens, width) * 0.02)
        for listen in self.listens:
            nn.init.zeros_(listen.bias)  # type: ignore[arg-type]

    def forward(self, pictures: Tensor, words: Tensor) -> Tensor:
        x = _scaled(pictures, self.places) * 2 - 1
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if i < len(self.listens):
                scale, shift = self.listens[i](words)[..., None, None].chunk(2, dim=1)
                x = x * (1 + scale) + shift
            if i < len(self.convs) - 1:
                x = functional.gelu(x)
        return x.flatten(2).transpose(1, 2) + self.places


def vision_of(config: VisionConfig, word_width: int) -> Vision:
    """The vision part a config asks for."""
    if config.kind == "conv":
        return ConvStem(config, word_width)
    return FusedTowers(config) if config.kind == "towers" else ClipTower(config)


class Projector(nn.Module):
    """Vision tokens to the language model's width: linear maps with GELU between. kind `fused`: three, the first four
    times wider ("fused-gelu-mlp"); `mlp2x_gelu`: two (MemoryVLA+)."""

    def __init__(self, channels: int, width: int, kind: str = "fused") -> None:
        super().__init__()
        sizes = [channels, 4 * channels, width, width] if kind == "fused" else [channels, width, width]
        maps = [nn.Linear(*pair) for pair in itertools.pairwise(sizes)]
        self.projector = nn.Sequential(*[part for map_ in maps for part in (nn.GELU(), map_)][1:])

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.projector(features)
        return out
