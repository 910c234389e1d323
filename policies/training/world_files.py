"""A trained world model as a folder: what it is, what it was told in words, and its weights.

`world.json` (its shape, and how many steps lie between the frames it imagines), `tokenizer.json`, `world.safetensors`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import CLIPTextModel

from policies.base import PolicyError
from policies.memoryvla.imagination import VAE, UNet, WorldModel
from policies.vla.config import ImaginationOptions, from_data, to_data
from policies.vla.language import WorldPrompter, read_tokenizer

CONFIG, WEIGHTS, TOKENIZER = "world.json", "world.safetensors", "tokenizer.json"

FORMAT = 1
"""Of the folder; raised whenever an older reader would read it wrongly."""


@dataclass(frozen=True)
class WorldFolder:
    """What a folder says besides the weights. stride: control steps between two imagined frames (and between the
    present one and the first)."""

    options: ImaginationOptions
    stride: int
    tokenizer: Tokenizer

    def prompter(self) -> WorldPrompter:
        """Instructions to the ids of this world model's text encoder."""
        return WorldPrompter(self.tokenizer, self.options.text_tokens, self.options.text_vocabulary)


def save_world(folder: Path, world: WorldModel, tokenizer: Tokenizer, stride: int, *, half: bool = False) -> None:
    """Write a world model. half: weights in float16, half as large; they are float32 again when they are read."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in world.state_dict().items()}
    if half and not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
        raise PolicyError(f"the weights for {folder} do not fit float16: save them in float32")
    save_file(state, str(folder / WEIGHTS))
    tokenizer.save(str(folder / TOKENIZER))
    config = {"format": FORMAT, "stride": stride, "options": to_data(world.options)}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def read_world(folder: Path) -> WorldFolder:
    """What a folder written by `save_world` says. Raises PolicyError where it is none."""
    path = folder / CONFIG
    if not path.is_file():
        raise PolicyError(f"no world model at {folder}: it has no {CONFIG}; `memvla train` with its world-model stage")
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        made, stride, options = data["format"], data["stride"], data["options"]
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"{path} is not the config of a world model: {error!r}") from error
    if made != FORMAT:
        raise PolicyError(f"{path} has format {made}, this version reads {FORMAT}: train the world model again")
    options = from_data(ImaginationOptions, options, str(path))
    return WorldFolder(options, int(stride), read_tokenizer(folder / TOKENIZER))


def load_world(folder: Path) -> WorldModel:
    """The world model of a folder, float32, on the CPU, frozen. Raises PolicyError where file and config disagree."""
    world = WorldModel(read_world(folder).options)
    path = folder / WEIGHTS
    try:
        state: dict[str, Tensor] = load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"the weights {path} cannot be read: {error}") from error
    wanted = world.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or [n for n, t in wanted.items() if t.shape != state[n].shape]
    if wrong:
        raise PolicyError(f"{path} does not fit {CONFIG} beside it: {len(wrong)} tensors differ, first {wrong[0]}")
    world.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return world


def load_svd(folder: Path, clip: Path, options: ImaginationOptions | None = None) -> tuple[WorldModel, Tokenizer]:
    """Stable Video Diffusion as published (a diffusers folder with `unet` and `vae`; VPP's adapted ones are alike) with
    the CLIP text encoder of another folder in place of its image encoder, and that folder's tokenizer.

    options: the shape it must have (None: SVD's). Raises PolicyError where a part is missing or of another shape.
    """
    world = _empty(options or ImaginationOptions())
    try:
        world.unet = UNet.from_pretrained(folder, subfolder="unet", local_files_only=True)
        world.vae = VAE.from_pretrained(folder, subfolder="vae", local_files_only=True)
        world.text = CLIPTextModel.from_pretrained(clip, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise PolicyError(
            f"{folder} (unet, vae) and {clip} (CLIP's text encoder) are no such parts: {error}"
        ) from error
    wanted = {name: tensor.shape for name, tensor in _empty(world.options).state_dict().items()}
    found = {name: tensor.shape for name, tensor in world.state_dict().items()}
    wrong = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if wrong:
        raise PolicyError(
            f"{folder} with {clip} has another shape than imagination's options: {len(wrong)} tensors differ, first "
            f"{wrong[0]}: {found.get(wrong[0])}, wanted {wanted.get(wrong[0])}"
        )
    world.fill_groups()
    world.requires_grad_(False)
    return world.eval(), read_tokenizer(clip / TOKENIZER)


def _empty(options: ImaginationOptions) -> WorldModel:
    with torch.device("meta"):
        return WorldModel(options)
