"""A plain memory, one episode and one frame at a time, lists and loops: what the batched bank must equal.

Written from the formulas of the papers alone; it shares no code with the bank but the names of its weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from policies.memoryvla.memory import MemoryBank, MemoryConfig


class PlainMemory:
    """The memory of one episode."""

    def __init__(self, bank: MemoryBank) -> None:
        self.config: MemoryConfig = bank.config
        self.weights: dict[str, Tensor] = {k: v.detach() for k, v in bank.state_dict().items()}
        self.entries: list[Tensor] = []
        self.times: list[float] = []

    def __call__(self, current: Tensor, time: float) -> Tensor:
        """Fused tokens [N, D] of the frame `current` [N, D]."""
        memory, times = list(self.entries), list(self.times)
        if not memory and self.config.when_empty == "attend":
            memory, times = [current], [time]
        retrieved = self._retrieve(current, memory, times) if memory else current
        fused = self._fuse(current, retrieved)
        self.entries.append(current if self.config.write == "raw" else fused)
        self.times.append(time)
        while len(self.entries) > self.config.length:
            self._shorten()
        return fused

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _code(self, time: float) -> Tensor:
        width = self.config.time_width or self.config.width // 4
        half = width // 2
        frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
        angles = torch.tensor(time, dtype=torch.float32) * frequencies
        code = torch.cat([torch.cos(angles), torch.sin(angles)])
        hidden = self._linear("timestep_encoder.mlp.0", code.to(self.weights["timestep_encoder.mlp.0.weight"].dtype))
        return self._linear("timestep_encoder.mlp.2", hidden * torch.sigmoid(hidden))

    def _retrieve(self, query: Tensor, memory: list[Tensor], times: list[float]) -> Tensor:
        values = torch.cat(memory)
        keys = values
        if self.config.time_encoding:
            keys = torch.cat([m + self._code(t) for m, t in zip(memory, times, strict=True)])
        for layer in range(self.config.layers):
            at = f"retrieval_blocks.{layer}"
            heads = []
            size = self.config.width // self.config.heads
            q, k, v = (self._linear(f"{at}.{n}_proj", x) for n, x in (("q", query), ("k", keys), ("v", values)))
            for head in range(self.config.heads):
                part = slice(head * size, (head + 1) * size)
                share = torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), dim=-1)
                heads.append(share @ v[:, part])
            hidden = self._norm(f"{at}.attn_norm", query + torch.cat(heads, -1))
            inner = self._linear(f"{at}.ffn.0", hidden)
            inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
            query = self._norm(f"{at}.ffn_norm", hidden + self._linear(f"{at}.ffn.2", inner))
        return query

    def _fuse(self, current: Tensor, retrieved: Tensor) -> Tensor:
        if self.config.fusion == "add":
            return (current + retrieved) / 2
        gate = torch.sigmoid(self._linear("gate_fusion_blocks.proj", torch.cat([current, retrieved], -1)))
        return gate * current + (1 - gate) * retrieved

    def _shorten(self) -> None:
        if self.config.consolidation == "fifo":
            del self.entries[0], self.times[0]
            return
        scores = []
        for a, b in zip(self.entries[:-1], self.entries[1:], strict=True):
            cosines = [torch.dot(x, y) / (x.norm() * y.norm()) for x, y in zip(a, b, strict=True)]
            scores.append(float(torch.stack(cosines).mean()))
        i = scores.index(max(scores))
        self.entries[i : i + 2] = [(self.entries[i] + self.entries[i + 1]) / 2]
        merged = self.times[i] if self.config.merged_time == "earlier" else (self.times[i] + self.times[i + 1]) / 2
        self.times[i : i + 2] = [merged]
