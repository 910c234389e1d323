"""Denoising of action chunks: squared-cosine schedule, DDIM, classifier-free guidance, the training loss.

diffusers' DDIMScheduler is not used: for step counts that do not divide 100 it visits other steps than the released
models do, and its float32 running products put it 20 times further from the official float64 results than the
coefficients here (1.2e-6 against 6e-8), which are float64 rounded to float32 once, as in the released code. A test
keeps both reasons.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policies.vla.dit import DiT, Seen

STEPS = 100
"""Diffusion steps of training."""

DROP = 0.1
"""Probability with which training replaces the condition by the learned vector that stands for none."""


def cosine_betas(steps: int = STEPS) -> npt.NDArray[np.float64]:
    """Squared-cosine schedule (Nichol and Dhariwal 2021): float64 [steps], capped at 0.999."""

    def level(i: int) -> float:
        return math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.array([min(1 - level(i + 1) / level(i), 0.999) for i in range(steps)])


@lru_cache(maxsize=8)
def alphas_cumprod(steps: int = STEPS) -> npt.NDArray[np.float64]:
    """Share of signal left after each step (alpha-bar), float64 [steps]."""
    bar: npt.NDArray[np.float64] = np.cumprod(1.0 - cosine_betas(steps)).astype(np.float64)
    return bar


def ddim_steps(count: int) -> list[int]:
    """The `count` steps a sampler visits, rising: 0, s, 2 s ... with the smallest stride s that gives that many.

    Raises ValueError for a count no stride gives, listing those that work.
    """
    for stride in range(1, STEPS + 1):
        if len(range(0, STEPS, stride)) == count:
            return list(range(0, STEPS, stride))
    valid = sorted({len(range(0, STEPS, stride)) for stride in range(1, STEPS + 1)})
    raise ValueError(f"ddim_steps must be one of {', '.join(map(str, valid))}, was {count}")


@dataclass(frozen=True)
class DDIMStep:
    """One denoising step. x0 = recip * x - recipm1 * noise; then x = x0 * keep + noise * renoise."""

    step: int
    recip: float
    recipm1: float
    keep: float
    renoise: float


@lru_cache(maxsize=8)
def ddim_schedule(count: int) -> tuple[DDIMStep, ...]:
    """The denoising steps in the order they are taken (the noisiest first), eta 0."""
    steps = ddim_steps(count)
    # The schedule over the visited steps is built like the full one, from its betas: the same rounding.
    alphas = alphas_cumprod()[steps]
    ratios = alphas / np.append(1.0, alphas[:-1])
    bar = np.cumprod(1.0 - (1.0 - ratios))
    before = np.append(1.0, bar[:-1]).astype(np.float32)
    recip = np.sqrt(1.0 / bar).astype(np.float32)
    recipm1 = np.sqrt(1.0 / bar - 1.0).astype(np.float32)
    keep, renoise = np.sqrt(before), np.sqrt(np.float32(1.0) - before)
    rows = zip(steps, recip, recipm1, keep, renoise, strict=True)
    return tuple(DDIMStep(s, float(a), float(b), float(c), float(d)) for s, a, b, c, d in rows)[::-1]


@dataclass(frozen=True)
class Sampling:
    """How chunks are drawn. steps: DDIM steps; guidance: scale s of eps = eps_u + s (eps_c - eps_u); 1 or less: off."""

    steps: int = 10
    guidance: float = 1.5

    def __post_init__(self) -> None:
        ddim_steps(self.steps)


def predict(net: DiT, x: Tensor, step: Tensor, condition: Tensor, seen: Seen | None, guidance: float) -> Tensor:
    """Predicted noise [B, T, A] in x [B, T, A] at `step` [B], guided where guidance exceeds 1.

    Both halves of a guided batch have the same noise and see the same perceptual tokens.
    """
    if guidance <= 1.0:
        alone: Tensor = net(x, step, condition, seen)
        return alone
    nothing = net.z_embedder.uncondition.to(condition.dtype).expand_as(condition[:, 0])[:, None]
    both = net(torch.cat([x, x]), torch.cat([step, step]), torch.cat([condition, nothing]), seen)
    return guide(both, guidance)


def guide(both: Tensor, guidance: float) -> Tensor:
    """Guided noise [B, T, A] from predictions [2 B, T, A], conditioned half first."""
    conditioned, free = both.chunk(2)
    return free + guidance * (conditioned - free)


def sample(
    net: DiT,
    noise: Tensor,
    condition: Tensor,
    perception: Tensor | None = None,
    sampling: Sampling = Sampling(),
    trace: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Tensor:
    """Normalised action chunks [B, T, A], not clipped, from noise [B, T, A].

    condition [B, 1, width]; perception [B, P, d] (MemoryVLA). The arithmetic between network calls is at least
    float32. `trace` collects (x after the step, predicted clean chunk, guided noise) of every step.
    """
    return denoise(net.see, partial(predict, net), noise, condition, perception, sampling, trace)


def denoise(
    see: Callable[[Tensor | None], Seen | None],
    guess: Callable[[Tensor, Tensor, Tensor, Seen | None, float], Tensor],
    noise: Tensor,
    condition: Tensor,
    perception: Tensor | None,
    sampling: Sampling,
    trace: list[tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Tensor:
    """`sample` with the network's two parts as functions (compiled ones, for instance): `see` and `predict`."""
    seen = see(perception)
    x = noise.to(torch.promote_types(noise.dtype, torch.float32))
    for at in ddim_schedule(sampling.steps):
        step = torch.full((len(x),), at.step, device=x.device)
        eps = guess(x.to(condition.dtype), step, condition, seen, sampling.guidance).to(x.dtype)
        clean = at.recip * x - at.recipm1 * eps
        implied = (at.recip * x - clean) / at.recipm1
        x = clean * at.keep + at.renoise * implied
        if trace is not None:
            trace.append((x, clean, eps))
    return x


def add_noise(clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """The chunk [B, T, A] after `step` [B] steps of noising."""
    bar = alphas_cumprod()
    keep = torch.from_numpy(np.sqrt(bar).astype(np.float32)).to(clean.device)[step, None, None]
    share = torch.from_numpy(np.sqrt(1.0 - bar).astype(np.float32)).to(clean.device)[step, None, None]
    return keep * clean + share * noise


def drop_condition(net: DiT, condition: Tensor, drop: Tensor) -> Tensor:
    """condition [B, 1, width] with the rows of `drop`, bool [B], replaced by the learned vector for none."""
    return torch.where(drop[:, None, None], net.z_embedder.uncondition[None].to(condition.dtype), condition)


def diffusion_loss(
    net: DiT,
    clean: Tensor,
    condition: Tensor,
    perception: Tensor | None,
    *,
    noise: Tensor,
    step: Tensor,
    drop: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the predicted noise over all numbers of clean chunks [B, T, A].

    noise [B, T, A] and step [B] are drawn by the caller, as is `drop`, bool [B]: rows whose condition is dropped.
    """
    if drop is not None:
        condition = drop_condition(net, condition, drop)
    noisy = add_noise(clean, noise, step).to(condition.dtype)
    predicted = net(noisy, step, condition, net.see(perception))
    loss: Tensor = ((predicted - noise) ** 2).mean()
    return loss
