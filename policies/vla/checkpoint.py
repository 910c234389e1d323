"""Released checkpoints (CogACT, MemoryVLA) by their own names, and our own format.

A released file is `torch.save({"model": {group: {name: tensor}}})`. It is read with `weights_only=True`, so nothing in
it is executed. Every key must find its place: one that is missing, extra or of another shape is an error that lists it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from envs.spec import ActionSpec, Gripper, Rotation
from policies.base import PolicyError
from policies.vla.config import ModelConfig, from_data, preset, to_data
from policies.vla.dit import SIZES
from policies.vla.statistics import ActionStatistics, read_statistics

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


def read_groups(path: Path) -> dict[str, State]:
    """The groups of a `.pt` in the family's layout, or of the only one below `path`/checkpoints. Raises PolicyError
    where it is not one; runs nothing that is in the file."""
    path = _only_weights(path)
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise PolicyError(f"checkpoint {path} cannot be read as weights: {error}") from error
    groups = data.get("model") if isinstance(data, dict) else None
    if not isinstance(groups, dict) or not all(
        isinstance(g, dict) and all(isinstance(t, Tensor) for t in g.values()) for g in groups.values()
    ):
        raise PolicyError(
            f"checkpoint {path} has no `model` with one dict of tensors per module: not a released layout"
        )
    if "ema_diffusion" in groups:
        raise PolicyError(f"checkpoint {path} holds an averaged action model (ema_diffusion), which is not supported")
    missing = [name for name in ("projector", "llm_backbone") if name not in groups]
    if missing:
        raise PolicyError(f"checkpoint {path} lacks {', '.join(missing)}; it has {', '.join(groups)}")
    return groups


def read_released(path: Path) -> dict[str, State]:
    """The groups of a released policy; see `read_groups`."""
    groups = read_groups(path)
    if "action_model" not in groups:
        raise PolicyError(f"checkpoint {path} lacks action_model; it has {', '.join(groups)}")
    return groups


def _only_weights(path: Path) -> Path:
    """`path`, or the only `.pt` in the run folder it is."""
    if path.is_dir():
        weights = sorted((path / "checkpoints").glob("*.pt"))
        if len(weights) != 1:
            raise PolicyError(
                f"checkpoint {path}: neither {CONFIG} with {WEIGHTS} nor exactly one checkpoints/*.pt "
                f"(found {len(weights)})"
            )
        path = weights[0]
    if path.suffix != ".pt" or not path.is_file():
        raise PolicyError(f"no checkpoint at {path}: expected a folder in our format, or a released .pt")
    return path


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


# ---------------------------------------------------------------------- checkpoints as a whole

FORMAT = "memvla-policy-1"
CONFIG, WEIGHTS, STATISTICS, TOKENIZER, CARD = (
    "config.json",
    "model.safetensors",
    "dataset_statistics.json",
    "tokenizer.json",
    "README.md",
)


@dataclass(frozen=True)
class Checkpoint:
    """Everything of a checkpoint but its weights, which `state` reads.

    action: the convention it was trained for where the file says so (our format), else None; cameras: those it was
    trained with, in order, where known; layout: `own`, `released` (the meaning of its actions goes by the key of its
    statistics) or `dexbotic` (nothing in it says what its actions mean).
    """

    config: ModelConfig
    statistics: Mapping[str, ActionStatistics]
    tokenizer: Path
    state: Callable[[], State]
    action: ActionSpec | None = None
    cameras: tuple[str, ...] | None = None
    memory_scope: str | None = None
    layout: str = "released"


BASES: dict[str, Callable[[str], ModelConfig]] = {"prism-dinosiglip-224px+7b": partial(preset, "7b")}
"""Sizes of a released checkpoint's towers and language model, which its file does not say, by its `base_vlm`."""


def of_suite(path: Path, suite: str) -> Path:
    """The checkpoint at `path` for a suite: the folder of the suite's name in it, where it holds one checkpoint a suite
    (released policies often come so), else `path` itself. Raises PolicyError where it holds others only."""
    if (path / suite / CONFIG).is_file():
        return path / suite
    others = sorted(config.parent.name for config in path.glob(f"*/{CONFIG}"))
    if others and not (path / CONFIG).is_file():
        raise PolicyError(
            f"checkpoint {path} has nothing for suite {suite}; it has weights for {', '.join(others)} "
            f"(to take one of them all the same: policy.checkpoint={path / others[0]})"
        )
    return path


def read_checkpoint(path: Path, family: str) -> Checkpoint:
    """A folder in our format, a released `.pt` (or its run folder), or a Dexbotic folder (MemoryVLA+). Raises
    PolicyError for another family's, and for files that are not as they must be."""
    try:
        return _read_any(path, family)
    except PolicyError:
        raise
    except Exception as error:  # whatever the parts of a damaged or foreign file lead to
        raise PolicyError(f"checkpoint {path} cannot be used: {type(error).__name__}: {error}") from error


def _read_any(path: Path, family: str) -> Checkpoint:
    from policies.vla.dexbotic import FAMILY, is_dexbotic, read_dexbotic  # it builds upon this module

    if is_dexbotic(path):
        if family != FAMILY:
            raise PolicyError(f"checkpoint {path} is of family {FAMILY}; use policy={FAMILY}")
        return read_dexbotic(path)
    if (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        found = read_own(path)
        if found.config.family != family:
            raise PolicyError(f"checkpoint {path} is of family {found.config.family}; use policy={found.config.family}")
        return found
    return _read_released(_only_weights(path), family)


def _read_released(path: Path, family: str) -> Checkpoint:
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    groups = read_released(path)
    remembers = "per_mem_bank" in groups
    if family not in ("cogact", "memoryvla"):
        raise PolicyError(f"checkpoint {path} is a .pt in the layout of CogACT and MemoryVLA; {family} has another one")
    if remembers != (family == "memoryvla"):
        kind = "memoryvla" if remembers else "cogact"
        raise PolicyError(f"checkpoint {path} is of family {kind}; use policy={kind}")
    settings = _run_settings(run)
    base = settings.get("base_vlm")
    if base not in BASES:
        raise PolicyError(f"checkpoint {path}: base_vlm is {base!r}; known are {', '.join(BASES)}")
    return Checkpoint(
        config=_released_config(groups, settings, BASES[base](family)),
        statistics=read_statistics(run / STATISTICS),
        tokenizer=run / TOKENIZER,
        state=lambda: translate(groups),
    )


def _run_settings(run: Path) -> dict[str, Any]:
    """The training config beside a released checkpoint; its keys may lie under `vla`."""
    for name, read in (("config.json", json.loads), ("config.yaml", yaml.safe_load)):
        if (run / name).is_file():
            data = read((run / name).read_text())
            return {**data, **(data.get("vla") or {})} if isinstance(data, dict) else {}
    raise PolicyError(f"{run} has neither config.json nor config.yaml: the settings of its memory would be a guess")


def _released_config(groups: Mapping[str, State], settings: Mapping[str, Any], base: ModelConfig) -> ModelConfig:
    """Sizes from the tensors where they show, memory's settings from the training config."""
    action = groups["action_model"]
    hidden = action["net.x_embedder.linear.weight"].shape[0]
    heads = {h: n for _, h, n in SIZES.values()}.get(hidden, base.expert.heads)
    depth = 1 + max(int(m[1]) for k in action if (m := re.match(r"net\.blocks\.(\d+)\.", k)))
    chunk = action["net.positional_embedding"].shape[0] - 1
    expert = replace(base.expert, depth=depth, hidden=hidden, heads=heads, chunk=chunk)
    expert = replace(expert, execute=min(expert.execute, chunk))
    memory = base.memory
    if base.family == "memoryvla":
        missing = [name for name in MEMORY_SETTINGS if name not in settings]
        if missing:
            raise PolicyError(f"the training config lacks {', '.join(missing)}")
        words = {"tome": "merge", True: "fused", False: "raw"}
        values = {ours: settings[theirs] for theirs, ours in MEMORY_SETTINGS.items()}
        values["consolidation"] = words.get(values["consolidation"], values["consolidation"])
        values["write"] = words[bool(values["write"])]
        memory = replace(memory, **values)
    perception = int(settings.get("per_token_size", base.perception))
    return replace(base, expert=expert, memory=memory, perception=perception)


MEMORY_SETTINGS = {
    "mem_length": "length",
    "retrieval_layers": "layers",
    "use_timestep_pe": "time_encoding",
    "fusion_type": "fusion",
    "consolidate_type": "consolidation",
    "update_fused": "write",
}
"""Names of memory's settings in a released training config, and ours."""


def read_own(path: Path) -> Checkpoint:
    """A folder in our own format, of whatever family. Raises PolicyError where it cannot be used."""
    try:
        data = json.loads((path / CONFIG).read_text())
        if data.get("format") != FORMAT:
            raise PolicyError(f"format is {data.get('format')!r}, expected {FORMAT!r}")
        action = dict(data["action"])
        action["rotation"] = Rotation(action["rotation"])
        action["gripper"] = Gripper(**action["gripper"])
        return Checkpoint(
            config=from_data(ModelConfig, data["model"], "model"),
            statistics=read_statistics(path / STATISTICS),
            tokenizer=path / TOKENIZER,
            state=lambda: _read_weights(path / WEIGHTS),
            action=ActionSpec(**action),
            cameras=tuple(data["cameras"]),
            memory_scope=data.get("memory_scope"),
            layout="own",
        )
    except PolicyError as error:
        raise PolicyError(f"checkpoint {path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PolicyError(f"checkpoint {path}: {CONFIG} cannot be used: {type(error).__name__}: {error}") from error


def _read_weights(path: Path) -> State:
    try:
        return load_file(path)
    except Exception as error:
        raise PolicyError(f"weights {path} cannot be read: {error}") from error


def save_checkpoint(
    folder: Path,
    network: nn.Module,
    config: ModelConfig,
    *,
    statistics: Mapping[str, Mapping[str, Any]],
    tokenizer: Tokenizer,
    action: ActionSpec,
    cameras: tuple[str, ...],
    memory_scope: str | None = None,
    card: str = "",
    half: bool = False,
) -> None:
    """Write our own format: weights (safetensors), config, dataset statistics, tokenizer, model card.

    statistics: by dataset key, `{"action": {"q01": [...], "q99": [...], "mask": [...]}}` as released files have them.
    card: Markdown on what it was trained on and for. half: weights in float16, half as large; a policy that loads them
    computes in its own dtype all the same. Raises PolicyError where they do not fit it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "format": FORMAT,
        "model": to_data(config),
        "action": asdict(action),
        "cameras": list(cameras),
        "memory_scope": memory_scope,
    }
    (folder / CONFIG).write_text(json.dumps(about, indent=1))
    (folder / STATISTICS).write_text(json.dumps(statistics, indent=1))
    (folder / CARD).write_text(card or f"# {config.family}\n\nNo model card was written.\n")
    tokenizer.save(str(folder / TOKENIZER))
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    if half:
        state = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in state.values()):
            raise PolicyError(f"the weights for {folder} do not fit float16: save them in float32")
    save_file(state, folder / WEIGHTS)
