"""The perceptual compressor of MemoryVLA: a channel gate between two 1x1 convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PerceptualCompressor(nn.Module):
    """Fused vision features [B, V * P, channels] -> perceptual tokens [B, V * P, width].

    Each of the V views is compressed on its own (the gate averages over its P patches). Released sizes: 2176 channels,
    width 256. The inner width is twice the outer one, and the gate squeezes it by 16.
    """

    def __init__(self, channels: int, width: int, inner: int | None = None) -> None:
        super().__init__()
        inner = inner or 2 * width
        squeezed = max(1, inner // 16)
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inner, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, inner, 1),
            nn.Sigmoid(),
        )
        self.expand = nn.Conv2d(inner, width, 1, bias=False)

    def forward(self, features: Tensor, views: int = 1) -> Tensor:
        """features [B, V * P, channels], view after view."""
        if features.shape[1] % views:
            raise ValueError(f"{features.shape[1]} vision tokens are not {views} views of one size")
        each = features.shape[1] // views
        maps = features.reshape(-1, each, features.shape[2]).transpose(1, 2)[..., None]
        hidden = torch.relu(self.reduce(maps))
        out: Tensor = self.expand(hidden * self.excite(hidden))
        return out[..., 0].transpose(1, 2).reshape(len(features), views * each, -1)
