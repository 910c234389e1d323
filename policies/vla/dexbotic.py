"""MemoryVLA+ checkpoints as Dexbotic writes them: a `from_pretrained` folder of model type `dexbotic_memvla`.

Names, shapes and meanings are those of Dexbotic (github.com/Dexmal/dexbotic, revision 9bed670: memvla_arch.py,
dexbotic_arch.py, conversation.py, base_exp.py). No released MemoryVLA+ file could be opened here: sizes of the language
model come from the folder's own config.json, whose keys were seen in Dexmal/simpler-db-cogact, and a name that does not
fit is an error that lists it. Not in the files, so to be named or left: what the actions mean (`policy.trained_on`),
how many are executed a call, and that SimplerEnv's client shrinks pictures to 224 pixels before they are sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from policies.base import PolicyError
from policies.vla.checkpoint import CONFIG, TOKENIZER, Checkpoint, State
from policies.vla.config import ModelConfig, TowerConfig, VisionConfig, preset
from policies.vla.dit import SIZES
from policies.vla.statistics import ActionStatistics

MODEL_TYPE = "dexbotic_memvla"
FAMILY = "memoryvla_plus"
STATISTICS = "norm_stats.json"

CLIP_TOWERS = {
    "openai/clip-vit-large-patch14-336": VisionConfig("clip", image=336, patch=14),
    "openai/clip-vit-large-patch14": VisionConfig("clip", image=224, patch=14),
    "openai/clip-vit-base-patch16": VisionConfig("clip", image=224, patch=16, clip=TowerConfig(768, 12, 12, 3072)),
}
"""Sizes of the vision towers a config may name, which its file does not say."""

UNUSED = re.compile(r"lm_head\.weight$|model\.mm_vision_tower\.(.*\.)?position_ids$")
"""Tensors without a part in acting: the language head, and a buffer of older libraries."""

_NAMES = (
    (r"model\.mm_vision_tower\.vision_tower\.(vision_model\.)?", "vlm.vision_backbone.vision_tower."),
    (r"model\.mm_projector\.", "vlm.projector.projector."),
    (r"model\.llm\.", "vlm.llm_backbone.model."),
    (r"model\.per_compr\.", "memory.per_compr."),
    (r"model\.per_cog_mem_bank\.timestep_embedders\.(per|cog)\.", r"memory.\1_mem_bank.timestep_encoder."),
    (r"model\.per_cog_mem_bank\.gate_fusion_blocks\.(per|cog)\.", r"memory.\1_mem_bank.gate_fusion_blocks."),
    # Their feed-forward net has dropout between its maps, ours counts the maps alone.
    (
        r"model\.per_cog_mem_bank\.retrieval_blocks\.(per|cog)\.(\d+)\.ffn\.3\.",
        r"memory.\1_mem_bank.retrieval_blocks.\2.ffn.2.",
    ),
    (r"model\.per_cog_mem_bank\.retrieval_blocks\.(per|cog)\.", r"memory.\1_mem_bank.retrieval_blocks."),
    (r"model\.action_head\.net\.", "action_model.net."),
)
"""Dexbotic's names and ours, the first rule that fits."""

SETTINGS = {
    "mem_length": "length",
    "retrieval_layers": "layers",
    "use_timestep_pe": "time_encoding",
    "fusion_type": "fusion",
    "consolidate_type": "consolidation",
    "update_fused": "write",
}
"""Names of memory's settings in the config, and ours."""

SIZE_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "rms_norm_eps",
    "mm_vision_tower",
    "action_model_type",
    "action_dim",
    "chunk_size",
    "per_token_size",
)


def is_dexbotic(folder: Path) -> bool:
    """Whether this folder is a Dexbotic MemoryVLA+ checkpoint, by its config."""
    try:
        data = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and data.get("model_type") == MODEL_TYPE


def read_dexbotic(folder: Path) -> Checkpoint:
    """The checkpoint in this folder. Raises PolicyError for what is missing or not supported."""
    files = _weight_files(folder)
    return Checkpoint(
        config=config_of(json.loads((folder / CONFIG).read_text()), folder),
        statistics=read_norm_stats(folder),
        tokenizer=folder / TOKENIZER,
        state=lambda: translate_dexbotic(_read(files)),
        layout="dexbotic",
    )


def config_of(data: Mapping[str, Any], where: object) -> ModelConfig:
    """Our config for Dexbotic's. Raises PolicyError naming the keys that are missing or have no meaning here."""
    missing = [name for name in (*SIZE_KEYS, *SETTINGS) if data.get(name) is None]
    if missing:
        raise PolicyError(f"checkpoint {where}: {CONFIG} lacks {', '.join(missing)}")
    expected = {"mm_projector_type": "mlp2x_gelu", "chat_template": "dexbotic"}
    for name, value in expected.items():
        if data.get(name, value) != value:
            raise PolicyError(f"checkpoint {where}: {name} is {data[name]!r}, only {value!r} is known")
    if data["mm_vision_tower"] not in CLIP_TOWERS:
        raise PolicyError(
            f"checkpoint {where}: mm_vision_tower is {data['mm_vision_tower']!r}; known are {', '.join(CLIP_TOWERS)}"
        )
    if data["action_model_type"] not in SIZES:
        raise PolicyError(
            f"checkpoint {where}: action_model_type is {data['action_model_type']!r}; known are {', '.join(SIZES)}"
        )
    base = preset("7b", FAMILY)
    depth, hidden, heads = SIZES[data["action_model_type"]]
    chunk = int(data["chunk_size"])
    return replace(
        base,
        vision=replace(CLIP_TOWERS[data["mm_vision_tower"]], resize=_resize(data, where), projector="mlp2x_gelu"),
        language=replace(
            base.language,
            vocabulary=int(data["vocab_size"]),
            width=int(data["hidden_size"]),
            layers=int(data["num_hidden_layers"]),
            heads=int(data["num_attention_heads"]),
            key_heads=int(data["num_key_value_heads"]),
            mlp=int(data["intermediate_size"]),
            norm_eps=float(data["rms_norm_eps"]),
            rope=_rope(data, where),
        ),
        expert=replace(
            base.expert,
            depth=depth,
            hidden=hidden,
            heads=heads,
            chunk=chunk,
            execute=min(base.expert.execute, chunk),
        ),
        perception=int(data["per_token_size"]),
        memory=replace(base.memory, **_memory(data)),
        action=int(data["action_dim"]),
    )


def _resize(data: Mapping[str, Any], where: object) -> str:
    """How pictures get square. Anything but `pad` would go through CLIP's crop, which is not written here."""
    if data.get("image_aspect_ratio", "pad") != "pad":
        raise PolicyError(
            f"checkpoint {where}: image_aspect_ratio is {data['image_aspect_ratio']!r}, only 'pad' is known"
        )
    return "pad"


def _rope(data: Mapping[str, Any], where: object) -> float:
    """Base of the rotary positions: a key of its own, or (newer libraries) one of `rope_parameters`."""
    found = data.get("rope_theta") or (data.get("rope_parameters") or {}).get("rope_theta")
    if found is None or data.get("rope_scaling") or data.get("use_sliding_window"):
        raise PolicyError(
            f"checkpoint {where}: {CONFIG} must have a rope_theta, no rope_scaling and no sliding window; it has "
            f"{found!r}, {data.get('rope_scaling')!r} and {data.get('use_sliding_window')!r}"
        )
    return float(found)


def _memory(data: Mapping[str, Any]) -> dict[str, Any]:
    values = {ours: data[theirs] for theirs, ours in SETTINGS.items()}
    values["consolidation"] = {"tome": "merge"}.get(values["consolidation"], values["consolidation"])
    values["write"] = "fused" if values["write"] else "raw"
    return values


def translate_dexbotic(state: Mapping[str, Tensor]) -> State:
    """Dexbotic's names to ours; tensors without a part in acting are left out, unknown names stay (and are refused)."""
    found: State = {}
    for name, tensor in state.items():
        if UNUSED.match(name):
            continue
        for pattern, target in _NAMES:
            if re.match(pattern, name):
                name = re.sub(f"^{pattern}", target, name)
                break
        found[name] = tensor
    return found


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights: one, or the shards of an index; safetensors before pickles."""
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / index).is_file():
            try:
                names = sorted(set(json.loads((folder / index).read_text())["weight_map"].values()))
            except (ValueError, KeyError, AttributeError) as error:
                raise PolicyError(f"checkpoint {folder}: {index} cannot be used: {error}") from error
            absent = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
            if absent:
                raise PolicyError(f"checkpoint {folder}: {index} names files that are not there: {', '.join(absent)}")
            return [folder / name for name in names]
    raise PolicyError(f"checkpoint {folder} has no weights: neither model.safetensors nor pytorch_model.bin, or shards")


def _read(files: list[Path]) -> State:
    """All tensors of these files; pickles are read as weights only, nothing in them is executed."""
    found: State = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                part = load_file(file)
            else:
                part = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:
            raise PolicyError(f"weights {file} cannot be read: {error}") from error
        found.update(part)
    return found


def read_norm_stats(folder: Path) -> dict[str, ActionStatistics]:
    """Statistics by key (`default`, and those of single datasets) from `norm_stats.json` in the folder or its parent.

    `min` and `max` count for every number, the gripper included; they hold the 1st and 99th percentile or the true
    extremes, whichever training wrote. One number stands for all dimensions.
    """
    for path in (folder / STATISTICS, folder.parent / STATISTICS):
        if path.is_file():
            break
    else:
        raise PolicyError(f"no {STATISTICS} in {folder} or its parent: without it actions have no scale")
    try:
        data = json.loads(path.read_text())
        entries = data.get("norm_stats", data)
        plain = {key: entry.get("default", entry) for key, entry in entries.items()}
        return {
            key: _statistics(entry, key, path) for key, entry in plain.items() if "min" in entry or key == "default"
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PolicyError(f"statistics {path}: {type(error).__name__}: {error}") from error


def _statistics(entry: Mapping[str, Any], key: str, path: Path) -> ActionStatistics:
    missing = [name for name in ("min", "max") if name not in entry]
    if missing:
        raise PolicyError(f"statistics {path}, {key!r}: lacks {', '.join(missing)}; it has {', '.join(entry)}")
    low, high = (np.asarray(entry[name], dtype=np.float64) for name in ("min", "max"))
    low, high = (np.broadcast_to(x, (7,)) if x.ndim == 0 else x for x in (low, high))
    return ActionStatistics.of({"q01": low.tolist(), "q99": high.tolist(), "mask": [True] * low.size}, key)
