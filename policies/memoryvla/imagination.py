"""Imagination of MemoryVLA++: a frozen video diffusion model whose inner features of the coming frames guide action.

The world model is Stable Video Diffusion (UNet and VAE of diffusers), conditioned on the present picture and, in place
of its image embedding, on the CLIP-encoded instruction. It follows VPP (Hu et al. 2025), as the MemoryVLA++ paper says
its own does. The weights were not public when this was written; what the paper leaves open is chosen as follows and
each choice is a config key: features of the UNet's first three up blocks join in one map at the second's resolution;
16 queries a frame in two layers; the gate is one linear map.

Shapes: B requests, F frames of the world model, K of them used, Nz positions of a frame's map, Nq queries a frame,
d width of the perceptual tokens.
"""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from policies.memoryvla.memory import GateFusion, RetrievalBlock
from policies.vla.config import ImaginationOptions
from policies.vla.sinusoid import sinusoid

# diffusers' constructors carry no types.
UNet: Any = diffusers.UNetSpatioTemporalConditionModel
VAE: Any = diffusers.AutoencoderKLTemporalDecoder
Scheduler: Any = diffusers.EulerDiscreteScheduler

LATENT = 4
"""Channels of a latent picture."""

MOTION_BUCKET = 127
"""SVD's amount of motion, as VPP sets it."""

LEVELS = 3
"""Up blocks whose features are used; the UNet's last ones are never run for features."""


class WorldModel(nn.Module):
    """Features of the frames to come, from one picture and one sentence. Frozen: its training is a stage of its own."""

    def __init__(self, options: ImaginationOptions) -> None:
        super().__init__()
        self.options = options
        levels = len(options.channels)
        attends = levels - 1  # the deepest level has no attention
        self.unet: Any = UNet(
            sample_size=options.grid,
            in_channels=2 * LATENT,
            out_channels=LATENT,
            down_block_types=("CrossAttnDownBlockSpatioTemporal",) * attends + ("DownBlockSpatioTemporal",),
            up_block_types=("UpBlockSpatioTemporal",) + ("CrossAttnUpBlockSpatioTemporal",) * attends,
            block_out_channels=options.channels,
            layers_per_block=options.blocks,
            cross_attention_dim=options.cross,
            num_attention_heads=options.heads,
            num_frames=options.frames,
        )
        self.vae: Any = VAE(
            down_block_types=("DownEncoderBlock2D",) * len(options.latent),
            block_out_channels=options.latent,
            layers_per_block=options.blocks,
            latent_channels=LATENT,
            sample_size=options.size,
        )
        self.text: Any = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=options.text_vocabulary,
                hidden_size=options.text_width,
                intermediate_size=4 * options.text_width,
                num_hidden_layers=options.text_layers,
                num_attention_heads=options.text_heads,
                max_position_embeddings=77,
                bos_token_id=options.text_vocabulary - 2,
                eos_token_id=options.text_vocabulary - 1,
            )
        )
        self.fill_groups()
        self.requires_grad_(False)
        self.eval()

    def fill_groups(self) -> None:
        """Give every group norm at least four channels a group, as in SVD. diffusers fixes 32 groups: at 32 channels
        that is one channel each, and such a norm forgets how strong a channel is in a picture."""
        for norm in self.modules():
            if isinstance(norm, nn.GroupNorm):
                norm.num_groups = min(norm.num_groups, max(norm.num_channels // 4, 1))

    def train(self, mode: bool = True) -> WorldModel:
        """Stays in evaluation mode: it is frozen while the policy trains."""
        super().train(False)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        found: torch.dtype = self.unet.conv_in.weight.dtype
        return found

    @property
    def scale(self) -> float:
        """What latents are multiplied with before they are denoised (SVD's constant; the condition is not)."""
        return float(self.vae.config.scaling_factor)

    @property
    def noise_shape(self) -> tuple[int, int, int, int]:
        """Of the noise one request starts from."""
        return (self.options.frames, LATENT, self.options.grid, self.options.grid)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the feature maps `imagine` returns."""
        return tuple(self.options.channels[::-1][:LEVELS])

    @torch.no_grad()
    def imagine(self, picture: Tensor, ids: Tensor, noise: Tensor) -> list[Tensor]:
        """Feature maps of the last step that is run: [B, F, channels, side, side] for each of the first up blocks.

        picture uint8 [B, H, W, 3]; ids int64 [B, text_tokens]; noise [B, F, 4, grid, grid]. All `steps` but the last
        denoise; the last only gives features.
        """
        scheduler = self._scheduler(noise.device)
        given = self.encode(picture, self.dtype)
        words = self.read(ids)
        last = self.options.steps - 1
        x = self._denoise(noise, given, words, scheduler, last)
        step = scheduler.timesteps[last]
        return self._features(_told(scheduler.scale_model_input(x, step), given), step, words)

    @torch.no_grad()
    def sample(self, picture: Tensor, ids: Tensor, noise: Tensor, steps: int | None = None) -> Tensor:
        """The frames to come as latents [B, F, 4, grid, grid], as `decode` takes them; arguments as for `imagine`.

        steps: how many of the schedule's steps (None: all of it). After fewer, the last step's estimate of the clean
        latents: after one, from pure noise, that is the mean over all futures.
        """
        scheduler = self._scheduler(noise.device)
        count = self.options.schedule if steps is None else steps
        given, words = self.encode(picture, self.dtype), self.read(ids)
        x = self._denoise(noise, given, words, scheduler, count - 1)
        sigma = scheduler.sigmas[count - 1].to(x)
        return self.clean(x, sigma.expand(len(x)), given, words)

    def _denoise(self, noise: Tensor, given: Tensor, words: Tensor, scheduler: Any, count: int) -> Tensor:
        """The first so many steps of the schedule, from pure noise."""
        x: Tensor = noise.to(self.dtype) * scheduler.init_noise_sigma
        for step in scheduler.timesteps[:count]:
            told = _told(scheduler.scale_model_input(x, step), given)
            velocity = self.unet(told, step, words, self._about(len(x), x), return_dict=False)[0]
            x = scheduler.step(velocity, step, x).prev_sample
        return x

    def clean(self, noisy: Tensor, sigma: Tensor, given: Tensor, words: Tensor) -> Tensor:
        """The clean latents [B, F, 4, grid, grid] estimated from noisy ones, under EDM's preconditioning for velocity
        prediction (Karras et al. 2022; Blattmann et al. 2023, appendix D): what training regresses.

        noisy = clean + sigma * noise; sigma [B]; given: `encode`'s latent [B, 4, grid, grid]; words: `read`'s.
        """
        s = sigma[:, None, None, None, None]
        norm = (s**2 + 1).sqrt()
        told = _told(noisy / norm, given)
        velocity: Tensor = self.unet(told, 0.25 * sigma.log(), words, self._about(len(told), told), return_dict=False)[
            0
        ]
        return noisy / norm**2 - velocity * (s / norm)

    def _features(self, told: Tensor, step: Tensor, words: Tensor) -> list[Tensor]:
        """Outputs of the first up blocks. The trunk is the UNet itself, weights and code, without what comes after."""
        trunk = copy.copy(self.unet)
        trunk._modules = dict(self.unet._modules)
        trunk.up_blocks = nn.ModuleList(list(self.unet.up_blocks)[:LEVELS])
        trunk.conv_norm_out = trunk.conv_act = trunk.conv_out = nn.Identity()
        found: list[Tensor] = []
        handles = [
            block.register_forward_hook(lambda _m, _i, out: found.append(out.unflatten(0, told.shape[:2])))
            for block in trunk.up_blocks
        ]
        try:
            trunk(told, step, words, self._about(len(told), told), return_dict=False)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def encode(self, picture: Tensor, dtype: torch.dtype) -> Tensor:
        """The present picture as SVD's condition: the mode of its latent, not scaled, [B, 4, grid, grid]."""
        latent: Tensor = self.vae.encode(self.pixels(picture).to(dtype)).latent_dist.mode()
        return latent

    def pixels(self, picture: Tensor) -> Tensor:
        """Pictures uint8 [B, H, W, 3] as the VAE takes them: -1 ... 1 [B, 3, size, size]."""
        pixels: Tensor = picture.permute(0, 3, 1, 2).float() / 127.5 - 1
        size = (self.options.size, self.options.size)
        if pixels.shape[-2:] != size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        return pixels

    def latents(self, picture: Tensor) -> Tensor:
        """Pictures as the UNet denoises them: `encode`'s latents scaled to about unit variance, [B, 4, grid, grid]."""
        return self.scale * self.encode(picture, self.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents [B, F, 4, grid, grid] as pictures uint8 [B, F, size, size, 3]; each frame for itself."""
        shape = latents.shape[:2]
        pixels = self.vae.decode(latents.flatten(0, 1) / self.scale, num_frames=1).sample
        shown = ((pixels.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        found: Tensor = shown.permute(0, 2, 3, 1).reshape(*shape, *pixels.shape[-2:], 3)
        return found

    def read(self, ids: Tensor) -> Tensor:
        """The instruction [B, S, cross]: last hidden states of the text encoder, repeated on channels to the UNet's
        width (VPP's way to stand in for SVD's image embedding)."""
        hidden: Tensor = self.text(input_ids=ids).last_hidden_state
        return hidden.repeat(1, 1, self.options.cross // self.options.text_width)

    def _about(self, batch: int, like: Tensor) -> Tensor:
        """SVD's added ids: frames a second, motion, noise on the condition (none)."""
        return like.new_tensor([self.options.fps, MOTION_BUCKET, 0.0]).expand(batch, -1)

    def _scheduler(self, device: torch.device) -> Any:
        """SVD's own: Karras sigmas from 700 to 0.002, velocity prediction. Made anew: its step counter is state."""
        scheduler: Any = Scheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        )
        scheduler.set_timesteps(self.options.schedule, device=device)
        return scheduler


def _told(noisy: Tensor, given: Tensor) -> Tensor:
    """What the UNet is told: noisy latents [B, F, 4, grid, grid] and the condition [B, 4, grid, grid] by every one."""
    return torch.cat([noisy, given[:, None].expand(-1, noisy.shape[1], -1, -1, -1)], dim=2)


class FeaturePyramid(nn.Module):
    """The maps of all levels as one at the second's resolution: 1x1 to d, coarser added up-sampled, finer pooled, 3x3.
    With a learned embedding of the imagined step, and where `encodes` a fixed code of the position."""

    def __init__(self, widths: tuple[int, ...], width: int, horizon: int, *, encodes: bool = False) -> None:
        super().__init__()
        self.encodes = encodes
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in widths)
        self.smooth = nn.Conv2d(width, width, 3, padding=1)
        self.steps = nn.Parameter(torch.randn(horizon, 1, width) * 0.02)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """maps [B, F, channels, side, side], coarse to fine -> [B, K, Nz, d]."""
        horizon = len(self.steps)
        size = maps[1].shape[-1]
        joined: list[Tensor] = []
        for lateral, level in zip(self.lateral, maps, strict=True):
            each: Tensor = lateral(level[:, :horizon].flatten(0, 1))
            if each.shape[-1] < size:
                each = functional.interpolate(each, (size, size), mode="nearest")
            elif each.shape[-1] > size:
                each = functional.adaptive_avg_pool2d(each, size)
            joined.append(each)
        tokens: Tensor = self.smooth(torch.stack(joined).sum(0)).flatten(2).transpose(1, 2)
        if self.encodes:
            tokens = tokens + position_code(size, tokens.shape[-1], tokens.device).to(tokens.dtype)
        return tokens.reshape(len(maps[0]), horizon, *tokens.shape[1:]) + self.steps


def position_code(side: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids of row and column [side * side, width], half of the channels each. Without it attention over a map
    knows what is imagined, and where only as far as the world model's features themselves tell."""
    line = sinusoid(torch.arange(side, device=device), width // 2)
    return torch.cat([line.repeat_interleave(side, 0), line.repeat(side, 1)], dim=1)


class FormerLayer(nn.Module):
    """Queries attend to their own step's map, then over the steps, then a feed-forward net; normed before each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.space_norm, self.map_norm, self.time_norm = (nn.LayerNorm(width) for _ in range(3))
        self.space = nn.MultiheadAttention(width, heads, batch_first=True)
        self.time = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, queries: Tensor, maps: Tensor) -> Tensor:
        """queries [B, K, Nq, d], maps [B, K, Nz, d] -> [B, K, Nq, d]."""
        batch, horizon, count, width = queries.shape
        x = queries.flatten(0, 1)
        seen = self.map_norm(maps.flatten(0, 1))
        x = x + self.space(self.space_norm(x), seen, seen, need_weights=False)[0]
        x = x.reshape(batch, horizon, count, width).transpose(1, 2).flatten(0, 1)
        over = self.time_norm(x)
        x = x + self.time(over, over, over, need_weights=False)[0]
        out: Tensor = x + self.ffn(x)
        return out.reshape(batch, count, horizon, width).transpose(1, 2)


class Imagination(nn.Module):
    """World model, pyramid, imagination former and the memory-guided integration into the perceptual tokens."""

    def __init__(self, options: ImaginationOptions, width: int) -> None:
        super().__init__()
        self.options = options
        self.world = WorldModel(options)
        self.pyramid = FeaturePyramid(self.world.widths, width, options.horizon, encodes=options.position_encoding)
        self.queries = nn.Parameter(torch.randn(options.horizon, options.queries, width) * 0.02)
        self.former = nn.ModuleList(FormerLayer(width, options.former_heads) for _ in range(options.layers))
        self.former_norm = nn.LayerNorm(width)
        self.guided = RetrievalBlock(width, heads=1)
        if options.integration == "gate":
            self.gate = GateFusion(width)
            with torch.no_grad():
                self.gate.proj.bias.add_(options.keep_bias)

    def forward(self, perception: Tensor, picture: Tensor, ids: Tensor, noise: Tensor) -> Tensor:
        """Perceptual tokens after memory [B, P, d] -> with imagination [B, P, d]. See `WorldModel.imagine`."""
        return self.integrate(perception, self.condense(self.world.imagine(picture, ids, noise)))

    def condense(self, maps: list[Tensor]) -> Tensor:
        """The world model's maps -> imagined tokens [B, K, Nq, d]."""
        weight = self.queries
        tokens = self.pyramid([level.to(weight.dtype) for level in maps])
        queries = weight[None].expand(len(tokens), -1, -1, -1)
        for layer in self.former:
            queries = layer(queries, tokens)
        out: Tensor = self.former_norm(queries)
        return out

    def integrate(self, perception: Tensor, imagined: Tensor) -> Tensor:
        """What memory knows asks what imagination shows: h = block(p, z); then g * p + (1 - g) * h, or p + h."""
        flat = imagined.flatten(1, 2)
        visible = torch.ones(1, 1, flat.shape[1], dtype=torch.bool, device=flat.device)
        guided: Tensor = self.guided(perception, flat, flat, visible)
        if self.options.integration == "add":
            return perception + guided
        out: Tensor = self.gate(perception, guided)
        return out
