"""What a policy's training starts from: an earlier policy, a grounding, a world model, and the files of goal heads."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from policies.base import PolicyError
from policies.memoryvla.memory import MemoryBank, MemoryConfig
from policies.memoryvla.model import MemoryVLANetwork
from policies.training.batches import BatchMaker, Waypoints
from policies.training.losses import GoalHead, PolicyTraining
from policies.training.world_files import load_world
from policies.vla.checkpoint import CONFIG, WEIGHTS, fill, read_groups, read_own, translate

GROUNDING = "grounding.safetensors"
HEADS = "heads.safetensors"
"""Beside a trained policy: the goal heads it was trained with, for a training that goes on from it."""
GRID = "grid"
"""In those two: the lowest and the highest level of the goal heads' grid, float32 [2, 3], metres."""
MEMORY = "memory"
"""In what a recall stage has written: the configuration of its bank, as JSON, among the file's metadata."""


def prepare(
    training: PolicyTraining,
    maker: BatchMaker,
    *,
    start: str | None,
    fresh_memory: bool,
    grounding: str | None,
    world: str | None,
) -> bool:
    """Fill the network with what was trained before; each is an error where it does not fit. True where goal heads
    were among it, and with them the grid on which they tell waypoints."""
    network: Any = training.network
    grid = None
    if start is not None:
        begin_from(network, Path(start), training.config.family, fresh_memory=fresh_memory)
    elif fresh_memory:
        raise PolicyError("fresh_memory=true is for a training that goes on from another: name it, start=DIR")
    if grounding is not None:
        bank = network.memory.cog_mem_bank if isinstance(network, MemoryVLANetwork) else None
        grid = read_grounding(Path(grounding), network.vlm, [training.goal, training.goal_now], bank)
    elif start is not None:
        grid = read_heads(Path(start), training)
    if grid is not None:
        maker.tell_on(grid)
    if world is not None:
        network.imagination.world.load_state_dict(load_world(Path(world)).state_dict())
    return grid is not None


def begin_from(network: nn.Module, path: Path, family: str, *, fresh_memory: bool = False) -> None:
    """Start from a policy of the same family, or of one that it builds on: MemoryVLA++ from MemoryVLA, both from
    CogACT, all from the vision-language model alone (`openvla-7b-prismatic`). What these do not have keeps its fresh
    weights, and so do the memory banks under `fresh_memory`. Raises PolicyError listing what does not fit."""
    own = network.state_dict()
    if path.is_dir() and (path / CONFIG).is_file() and (path / WEIGHTS).is_file():
        given = read_own(path).state()
    else:
        given = translate(read_groups(path))
    banks = {name: tensor for name, tensor in own.items() if fresh_memory and re.match(BANKS, name)}
    if fresh_memory and not banks:
        raise PolicyError(f"fresh_memory=true: {family} has no memory banks that could begin anew")
    fill(network, {**given, **fresh(own, given), **banks}, f"start {path} for {family}")


def fresh(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a network's own weights those that the model it starts from cannot have."""
    has = next((part for part in LACKS if any(name.startswith(f"{part}.") for name in given)), "vlm")
    return {name: tensor for name, tensor in own.items() if name not in given and re.match(LACKS[has], name)}


BANKS = r"memory\.(cog|per)_mem_bank\."
COGACT_LACKS = r"memory\.|imagination\.|action_model\.net\.(per_token_embedder\.|blocks\.\d+\.(per_attn|norm3)\.)"
LACKS = {
    "imagination": r"(?!)",  # MemoryVLA++ lacks nothing
    "memory": r"imagination\.",  # MemoryVLA
    "action_model": COGACT_LACKS,
    "vlm": rf"{COGACT_LACKS}|action_model\.",
}
"""What the models this family builds on lack, by the most telling part that each of them has."""


def save_with_grid(
    path: Path, weights: Mapping[str, Tensor], waypoints: Waypoints | None, memory: MemoryConfig | None = None
) -> None:
    """Write weights, goal heads among them, with the grid on which those tell waypoints; memory: of the bank among
    them. Raises ValueError without a grid."""
    if waypoints is None:
        raise ValueError("goal heads tell waypoints")
    grid = torch.from_numpy(np.stack([waypoints.low, waypoints.high]))
    said = None if memory is None else {MEMORY: json.dumps(dataclasses.asdict(memory))}
    save_file({**{name: tensor.contiguous() for name, tensor in weights.items()}, GRID: grid}, path, said)


def load_with_grid(path: Path, what: str) -> tuple[dict[str, Tensor], Waypoints]:
    """What `save_with_grid` has written. Raises PolicyError where it cannot be read or has no grid."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise PolicyError(f"{what}: {path.name} cannot be read: {error}") from error
    if GRID not in state:
        raise PolicyError(f"{what}: {path.name} has no {GRID}, the grid of its waypoints: train it again")
    low, high = (row.numpy() for row in state.pop(GRID))
    bins = next((tensor.shape[0] // 3 for name, tensor in state.items() if name.endswith(".net.2.bias")), 0)
    return state, Waypoints(low, high, bins)


def read_heads(folder: Path, training: PolicyTraining) -> Waypoints | None:
    """Fill the goal heads that a policy was trained with, as far as this training has them too, from beside its
    weights. The grid on which they tell waypoints, or None where there are none."""
    mine = {name: head for name, head in training.named_children() if isinstance(head, GoalHead)}
    if not mine or not (folder / HEADS).is_file():
        return None
    state, grid = load_with_grid(folder / HEADS, f"start {folder}")
    for name, head in mine.items():
        inner = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        if inner:
            fill(head, inner, f"start {folder}: {name} of {HEADS}")
    return grid


def read_grounding(
    folder: Path, vlm: nn.Module, goals: Sequence[nn.Module | None], bank: MemoryBank | None = None
) -> Waypoints:
    """Fill the vision-language part, and the goal heads there are, from the folder of a grounding or of a recall stage;
    of the latter also `bank` and the first of the heads, which is asked after memory. The grid on which those heads
    tell waypoints."""
    state, grid = load_with_grid(folder / GROUNDING, f"grounding {folder}")
    parts = [("vlm.", vlm), *(("goal.", goal) for goal in goals if goal is not None)]
    if bank is not None and any(name.startswith("bank.") for name in state):
        require_memory(folder, bank.config)
        parts += [("bank.", bank), *(("recalled.", goal) for goal in goals[:1] if goal is not None)]
    for prefix, part in parts:
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        fill(part, inner, f"grounding {folder}")
    return grid


def require_memory(folder: Path, wanted: MemoryConfig) -> None:
    """Raise PolicyError unless the bank in a recall stage's folder has learned with this configuration: the shapes of
    its weights would not show that it stored something else."""
    with safe_open(folder / GROUNDING, "pt") as file:
        found = json.loads((file.metadata() or {}).get(MEMORY, "{}"))
    asked = dataclasses.asdict(wanted)
    other = [f"{name}: {found.get(name)} there, {asked[name]} here" for name in asked if found.get(name) != asked[name]]
    if other:
        raise PolicyError(f"grounding {folder}: its memory bank has learned with other options ({'; '.join(other)})")
