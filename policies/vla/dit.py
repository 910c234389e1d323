"""The diffusion action expert: a transformer over one conditioning token and the actions of a chunk.

Names and shapes are those of the released CogACT and MemoryVLA checkpoints (group `action_model`). With a perceptual
width every block also attends to perceptual tokens (MemoryVLA); without, it is CogACT's.

Shapes: B requests, T actions a chunk, A numbers an action, h hidden width, P perceptual tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.vla.sinusoid import sinusoid

SIZES = {"DiT-S": (6, 384, 4), "DiT-B": (12, 768, 12), "DiT-L": (24, 1024, 16)}
"""Released sizes: depth, hidden width, heads."""

STEP_CODE = 256
"""Width of the sinusoid of the diffusion step."""


@dataclass(frozen=True)
class DiTConfig:
    """chunk: T; action: A; condition: width of the cognition token; perception: width of the perceptual tokens (0:
    none, CogACT). depth, hidden, heads: see `SIZES` for the released ones."""

    depth: int
    hidden: int
    heads: int
    chunk: int
    condition: int
    perception: int = 0
    action: int = 7

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise ValueError(f"dit.hidden {self.hidden} is not a multiple of dit.heads {self.heads}")

    @classmethod
    def of_size(cls, size: str, **others: int) -> DiTConfig:
        """A released size by name."""
        if size not in SIZES:
            raise ValueError(f"dit size must be one of {', '.join(SIZES)}, was {size!r}")
        depth, hidden, heads = SIZES[size]
        return cls(depth=depth, hidden=hidden, heads=heads, **others)


class Embedder(nn.Module):
    """One linear map under the name the checkpoints use."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out


class ConditionEmbedder(Embedder):
    """The cognition token's map, with the learned vector that stands for no condition."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden)
        self.uncondition = nn.Parameter(torch.empty(1, width))


class StepEmbedder(nn.Module):
    """Diffusion steps [B] -> [B, h]."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(STEP_CODE, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, step: Tensor) -> Tensor:
        weight = next(self.mlp.parameters())
        out: Tensor = self.mlp(sinusoid(step, STEP_CODE).to(weight.dtype))
        return out


class SelfAttention(nn.Module):
    """Attention of all tokens to all, queries, keys and values from one fused map."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        fused: Tensor = self.qkv(x)
        q, k, v = fused.reshape(*x.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        found = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class PerceptionAttention(nn.Module):
    """Cross-attention to the perceptual tokens, under the parameter names of `nn.MultiheadAttention`.

    Keys and values are computed apart, once for all denoising steps and both halves of a guided batch: they depend on
    neither.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden, hidden))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * hidden))
        self.out_proj = nn.Linear(hidden, hidden)

    def _heads(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [B, P, h] -> keys and values [B, heads, P, h / heads]."""
        hidden = tokens.shape[-1]
        both = functional.linear(tokens, self.in_proj_weight[hidden:], self.in_proj_bias[hidden:])
        keys, values = both.chunk(2, dim=-1)
        return self._heads(keys), self._heads(values)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """x [R * B, T, h] with keys and values of B: the R copies of a request share them."""
        rows, steps, hidden = x.shape
        copies = rows // len(keys)
        q = functional.linear(x, self.in_proj_weight[:hidden], self.in_proj_bias[:hidden])
        q = q.reshape(copies, len(keys), steps, hidden).transpose(0, 1).reshape(len(keys), copies * steps, hidden)
        found = functional.scaled_dot_product_attention(self._heads(q), keys, values).transpose(1, 2).flatten(2)
        found = found.reshape(len(keys), copies, steps, hidden).transpose(0, 1).reshape(rows, steps, hidden)
        out: Tensor = self.out_proj(found)
        return out


class Mlp(nn.Module):
    """Feed-forward net with the tanh form of GELU."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden, 4 * hidden)
        self.fc2 = nn.Linear(4 * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """x += SelfAttn(LN(x)); x += PerceptionAttn(LN3(x)) where there is one; x += MLP(LN(x))."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden, elementwise_affine=False, eps=1e-6)
        self.attn = SelfAttention(config.hidden, config.heads)
        self.norm2 = nn.LayerNorm(config.hidden, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(config.hidden)
        self.per_attn: PerceptionAttention | None = None
        if config.perception:
            self.norm3 = nn.LayerNorm(config.hidden, eps=1e-6)
            self.per_attn = PerceptionAttention(config.hidden, config.heads)

    def forward(self, x: Tensor, seen: tuple[Tensor, Tensor] | None) -> Tensor:
        x = x + self.attn(self.norm1(x))
        if self.per_attn is not None and seen is not None:
            x = x + self.per_attn(self.norm3(x), *seen)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Head(nn.Module):
    """Normalisation without weights, then one linear map to actions."""

    def __init__(self, hidden: int, action: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(hidden, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(hidden, action)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm_final(x))
        return out


Seen = list[tuple[Tensor, Tensor]]
"""Keys and values of the perceptual tokens for every block."""


class DiT(nn.Module):
    """Predicts the noise in an action chunk from the noisy chunk, the step, the cognition token and what is seen."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.x_embedder = Embedder(config.action, config.hidden)
        self.t_embedder = StepEmbedder(config.hidden)
        self.z_embedder = ConditionEmbedder(config.condition, config.hidden)
        if config.perception:
            self.per_token_embedder = Embedder(config.perception, config.hidden)
        self.positional_embedding = nn.Parameter(torch.randn(config.chunk + 1, config.hidden) * config.hidden**-0.5)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = Head(config.hidden, config.action)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As published. The perception attention starts silent: its input map is zero while its output map is not, so
        that gradient still reaches it (were both zero it would never learn)."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            if isinstance(module, PerceptionAttention):
                nn.init.zeros_(module.in_proj_weight)
                nn.init.zeros_(module.in_proj_bias)
        embedders = [self.x_embedder.linear, self.z_embedder.linear, *self.t_embedder.mlp]
        if self.config.perception:
            embedders.append(self.per_token_embedder.linear)
        for module in embedders:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.normal_(self.z_embedder.uncondition, std=0.02)
        nn.init.zeros_(self.final_layer.linear.weight)

    def see(self, perception: Tensor | None) -> Seen | None:
        """Keys and values of perceptual tokens [B, P, d] for every block; None for CogACT's expert."""
        if not self.config.perception:
            return None
        if perception is None:
            raise ValueError("this action expert attends to perceptual tokens and was given none")
        tokens = self.per_token_embedder(perception)
        return [block.per_attn.keys_values(tokens) for block in self.blocks]  # type: ignore[union-attr, operator]

    def forward(self, x: Tensor, step: Tensor, condition: Tensor, seen: Seen | None = None) -> Tensor:
        """Predicted noise [B, T, A].

        x [B, T, A]; step [B] (of the 100); condition [B, 1, width]; seen: of `see`, for B or (guided) B / 2 requests.
        """
        out: Tensor = self.final_layer(self.hidden_states(x, step, condition, seen)[-1])
        return out[:, 1:]

    def hidden_states(self, x: Tensor, step: Tensor, condition: Tensor, seen: Seen | None) -> list[Tensor]:
        """Output of every block, [B, 1 + T, h], the conditioning token first."""
        first = self.t_embedder(step)[:, None] + self.z_embedder(condition)
        hidden = torch.cat([first, self.x_embedder(x)], dim=1) + self.positional_embedding
        found = []
        for i, block in enumerate(self.blocks):
            hidden = block(hidden, None if seen is None else seen[i])
            found.append(hidden)
        return found


class ActionModel(nn.Module):
    """The group `action_model` of the checkpoints: the network under the name `net`."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.net = DiT(config)
