"""Released checkpoints (CogACT, MemoryVLA) by their own names, and our own format.

A released file is `torch.save({"model": {group: {name: tensor}}})`. It is read with `weights_only=True`, so nothing in
it is executed. Every key must find its place: one that is missing, extra or of another shape is an error that lists it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from policies.base import PolicyError

State = dict[str, Tensor]

UNUSED = {
    "vision_backbone": re.compile(r"siglip_featurizer\.attn_pool\."),
    "llm_backbone": re.compile(r"llm\.lm_head\.weight$"),
    "action_model": re.compile(r"net\.history_embedder\."),
}
"""Released tensors that play no part in acting: SigLIP's pooling, the language head, CogACT's dead embedder."""

_TIMM_DINO = (
    (r"cls_token$", "embeddings.cls_token"),
    (r"reg_token$", "embeddings.register_tokens"),
    (r"patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layer.\1.norm\2."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layer.\1.attention.o_proj."),
    (r"blocks\.(\d+)\.ls([12])\.gamma$", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layer.\1.mlp."),
    (r"norm\.", "layernorm."),
)
_TIMM_SIGLIP = (
    (r"patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (r"blocks\.(\d+)\.mlp\.", r"encoder.layers.\1.mlp."),
    (r"norm\.", "post_layernorm."),
)


def translate_towers(state: Mapping[str, Tensor]) -> State:
    """The group `vision_backbone`: timm's names to those of `FusedTowers`."""
    found: State = {}
    for name, tensor in state.items():
        tower, _, inner = name.partition("_featurizer.")
        if tower == "dino" and inner:
            found.update((f"dino.{k}", v) for k, v in _dino(inner, tensor))
        elif tower == "siglip" and inner:
            found.update((f"siglip.{k}", v) for k, v in _siglip(inner, tensor))
        else:
            found[name] = tensor
    return found


def _dino(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name == "pos_embed":
        # timm keeps positions of patches only; the other model adds one to the class token as well, here zero.
        yield "embeddings.position_embeddings", torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        yield "embeddings.mask_token", torch.zeros_like(tensor[:, 0])
    elif match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
        yield from _split(tensor, f"encoder.layer.{match[1]}.attention.{{}}_proj.{match[2]}")
    else:
        yield _renamed(name, _TIMM_DINO), tensor


def _siglip(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name == "pos_embed":
        yield "embeddings.position_embedding.weight", tensor[0]
    elif match := re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
        yield from _split(tensor, f"encoder.layers.{match[1]}.self_attn.{{}}_proj.{match[2]}")
    else:
        yield _renamed(name, _TIMM_SIGLIP), tensor


def _split(tensor: Tensor, name: str) -> Iterator[tuple[str, Tensor]]:
    for letter, part in zip("qkv", tensor.chunk(3), strict=True):
        yield name.format(letter), part


def _renamed(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, target in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", target, name)
    return name


def translate(groups: Mapping[str, Mapping[str, Tensor]]) -> State:
    """Released groups to one state dict under our names, tensors without a part in acting left out."""
    found: State = {}
    for group, state in groups.items():
        unused = UNUSED.get(group)
        kept = {k: v for k, v in state.items() if not (unused and unused.match(k))}
        if group == "vision_backbone":
            kept = translate_towers(kept)
        elif group == "llm_backbone":
            kept = {k.removeprefix("llm."): v for k, v in kept.items()}
        room = {"vision_backbone": "vlm.", "projector": "vlm.", "llm_backbone": "vlm.", "action_model": ""}
        prefix = f"{room.get(group, 'memory.')}{group}."
        found.update((prefix + name, tensor) for name, tensor in kept.items())
    return found


def read_released(path: Path) -> dict[str, State]:
    """The groups of a released `.pt`. Raises PolicyError where it is not one; runs nothing that is in the file."""
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise PolicyError(f"checkpoint {path} cannot be read as weights: {error}") from error
    groups = data.get("model") if isinstance(data, dict) else None
    if not isinstance(groups, dict) or not all(isinstance(g, dict) for g in groups.values()):
        raise PolicyError(
            f"checkpoint {path} has no `model` with one dict of tensors per module: not a released layout"
        )
    if "ema_diffusion" in groups:
        raise PolicyError(f"checkpoint {path} holds an averaged action model (ema_diffusion), which is not supported")
    missing = [name for name in ("projector", "llm_backbone", "action_model") if name not in groups]
    if missing:
        raise PolicyError(f"checkpoint {path} lacks {', '.join(missing)}; it has {', '.join(groups)}")
    return groups


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict whose names and shapes must be exactly the network's. Raises PolicyError listing all that is
    missing, extra, mis-shaped or not a finite number."""
    own = network.state_dict()
    problems = [f"missing: {name} {list(own[name].shape)}" for name in own if name not in state]
    problems += [f"extra: {name} {list(state[name].shape)}" for name in state if name not in own]
    for name in own.keys() & state.keys():
        if own[name].shape != state[name].shape:
            problems.append(f"shape of {name}: {list(state[name].shape)}, expected {list(own[name].shape)}")
        elif state[name].is_floating_point() and not bool(torch.isfinite(state[name]).all()):
            problems.append(f"not a number: {name} holds NaN or infinity")
    if problems:
        shown = "\n  ".join(sorted(problems)[:40])
        rest = f"\n  ... and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise PolicyError(f"{where} does not fit this model ({len(problems)} problems):\n  {shown}{rest}")
    network.load_state_dict(dict(state), strict=True)
