"""The one sinusoidal code of the family: for diffusion steps and for memory timesteps."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoid(values: Tensor, width: int) -> Tensor:
    """Code of scalars [B] -> float32 [B, width]: half cosines, then half sines (an odd width ends with a zero).

    Frequencies exp(-ln(10000) i / half). Always float32, whatever the dtype of the weights: released models do so, and
    a bfloat16 code could not tell step 257 from 258.
    """
    half = width // 2
    exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32, device=values.device) / half
    # float32 exponentials differ in the last bit between processors, so it is taken in float64 and rounded.
    angles = values.to(torch.float32)[:, None] * exponents.double().exp().float()
    code = torch.cat([angles.cos(), angles.sin()], dim=-1)
    if width % 2:
        code = torch.cat([code, torch.zeros_like(code[:, :1])], dim=-1)
    return code
