"""The perceptual compressors: MemoryVLA's, a channel gate between two 1x1 convolutions, and MemoryVLA+'s."""

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
        maps = _maps(features, views)
        hidden = torch.relu(self.reduce(maps))
        return _tokens(self.expand(hidden * self.excite(hidden)), len(features))


class GateFirstCompressor(nn.Module):
    """Projected vision features [B, V * P, C] -> perceptual tokens [B, V * P, width]: MemoryVLA+'s order, gate first.

    Inner widths: the gate squeezes C by 16; the two 1x1 convolutions go by C / 2. Names as in Dexbotic's checkpoints.
    Dexbotic runs it for one view only; several are compressed each on its own, as MemoryVLA's later code does.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        squeezed, inner = max(1, channels // 16), max(1, channels // 2)
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )
        self.reduce = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1))

    def forward(self, features: Tensor, views: int = 1) -> Tensor:
        """features [B, V * P, C], view after view."""
        maps = _maps(features, views)
        return _tokens(self.reduce(maps * self.excite(maps)), len(features))


def _maps(features: Tensor, views: int) -> Tensor:
    """Tokens [B, V * P, C] of each view as a map [B * V, C, P, 1]: 1x1 convolutions do not mind the shape."""
    if features.shape[1] % views:
        raise ValueError(f"{features.shape[1]} vision tokens are not {views} views of one size")
    each = features.shape[1] // views
    return features.reshape(-1, each, features.shape[2]).transpose(1, 2)[..., None]


def _tokens(maps: Tensor, batch: int) -> Tensor:
    """The inverse: maps [B * V, C, P, 1] as tokens [B, V * P, C]."""
    return maps[..., 0].transpose(1, 2).reshape(batch, -1, maps.shape[1])
