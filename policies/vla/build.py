"""From a policy's options to a network that can act: presets, checkpoints, overrides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from policies.base import PolicyContext, PolicyError
from policies.vla.checkpoint import Checkpoint, fill, of_suite, read_checkpoint
from policies.vla.config import ModelConfig, changed, preset, unknown
from policies.vla.conventions import convention_of, dexbotic_convention
from policies.vla.dit import DiT, PerceptionAttention
from policies.vla.language import Prompter, WorldPrompter, lab_tokenizer, read_tokenizer
from policies.vla.policy import Loaded, Serving, cameras_of
from policies.vla.statistics import GRIPPER, ActionStatistics, choose_statistics

Network = TypeVar("Network", bound=nn.Module)

SERVING = ("batching", "exact_rows", "max_batch", "slots", "execute", "ensemble", "alpha", "compile")
MODEL = ("vision", "expert", "memory", "imagination")
OTHERS = (
    "preset",
    "checkpoint",
    "tokenizer",
    "world_tokenizer",
    "unnorm_key",
    "cameras",
    "state",
    "device",
    "dtype",
    "seed",
    "threads",
    "name",
)
PLUS = ("trained_on",)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def build(
    context: PolicyContext, make: Callable[[ModelConfig], Network], family: str, options: Mapping[str, Any]
) -> tuple[str, Loaded[Network], Serving]:
    """(name, network ready to act, how it serves). Raises PolicyError naming the option that is wrong."""
    known = [*SERVING, *MODEL, *OTHERS, *(PLUS if family == "memoryvla_plus" else ())]
    for option in options:
        if option not in known:
            raise PolicyError(unknown(f"option of {family}", option, known))
    given = {key: value for key, value in options.items() if value is not None}
    serving = Serving(**{key: given[key] for key in SERVING if key in given})
    if given.get("threads"):
        torch.set_num_threads(int(given["threads"]))  # sums are split by threads: another number, other last bits
    if given.get("checkpoint"):
        loaded = _from_checkpoint(context, make, family, given)
    else:
        loaded = _untrained(context, make, family, given)
    return str(given.get("name", family)), loaded, serving


def _untrained(
    context: PolicyContext, make: Callable[[ModelConfig], Network], family: str, given: Mapping[str, Any]
) -> Loaded[Network]:
    """Random weights, the same for the same seed. They serve to test, to measure and to start training from."""
    cameras = cameras_of(context, given.get("cameras"))
    size = str(given.get("preset", "lab"))
    config = _overridden(replace(preset(size, family), views=len(cameras)), given)
    if given.get("state"):
        config = replace(config, state=len(context.env.state))
    prompter = Prompter(_tokenizer(given, size), config.language)
    world_prompter = _world_prompter(given, config, prompter)
    device, dtype = _place(given)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(given.get("seed", 0)))
        network = _made(make, config, device, dtype)
        _enliven(network)
    return Loaded(
        network=network,
        config=config,
        prompter=prompter,
        statistics=ActionStatistics.unit(config.action),
        convention=convention_of(None, context),
        cameras=cameras,
        world_prompter=world_prompter,
    )


def _from_checkpoint(
    context: PolicyContext, make: Callable[[ModelConfig], Network], family: str, given: Mapping[str, Any]
) -> Loaded[Network]:
    path = of_suite(Path(str(given["checkpoint"])), context.suite)
    found: Checkpoint = read_checkpoint(path, family)
    config = _overridden(found.config, given)
    # Whatever can be refused is refused before 30 GB of weights are read.
    key = given.get("unnorm_key")
    statistics = choose_statistics(found.statistics, key)
    if found.layout == "dexbotic":
        convention = dexbotic_convention(given.get("trained_on"), context)
    else:
        convention = convention_of(key or next(iter(found.statistics)), context)
    if family == "memoryvla_plus" and statistics.mask[GRIPPER]:
        convention = replace(convention, binary=False)  # its gripper was scaled with the rest: no 0 or 1
    cameras = cameras_of(context, given.get("cameras") or found.cameras, config.views)
    tokenizer = found.tokenizer if "tokenizer" not in given else Path(str(given["tokenizer"]))
    prompter = Prompter(read_tokenizer(tokenizer), config.language)
    world_prompter = _world_prompter(given, config, prompter)
    device, dtype = _place(given)
    network = _made(make, config, device, dtype)
    fill(network, found.state(), f"checkpoint {path}")
    return Loaded(
        network=network,
        config=config,
        prompter=prompter,
        statistics=statistics,
        convention=convention if found.action is None else replace(convention, action=found.action),
        cameras=cameras,
        world_prompter=world_prompter,
        memory_scope=found.memory_scope,
    )


def _overridden(config: ModelConfig, given: Mapping[str, Any]) -> ModelConfig:
    return changed(config, {key: given[key] for key in MODEL if key in given}, "policy")


def _made(
    make: Callable[[ModelConfig], Network], config: ModelConfig, device: torch.device, dtype: torch.dtype
) -> Network:
    """The network on its device in its dtype from the start: 7 billion float32 weights are made nowhere in between."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return make(config)
    except ValueError as error:
        raise PolicyError(str(error)) from error
    finally:
        torch.set_default_dtype(before)


def _place(given: Mapping[str, Any]) -> tuple[torch.device, torch.dtype]:
    wanted = str(given.get("device", "auto"))
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    name = str(given.get("dtype", "float32"))
    if name not in DTYPES:
        raise PolicyError(unknown("policy.dtype", name, list(DTYPES)))
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PolicyError(f"policy.device={wanted} cannot be used here: {error}") from error
    return device, DTYPES[name]


def _tokenizer(given: Mapping[str, Any], size: str) -> Any:
    if given.get("tokenizer"):
        return read_tokenizer(Path(str(given["tokenizer"])))
    if size == "lab":
        return lab_tokenizer()
    raise PolicyError(
        "preset 7b reads the tokenizer of LLaMA-2 (MemoryVLA+: of Qwen2.5): name its tokenizer.json with "
        "policy.tokenizer=FILE"
    )


def _world_prompter(given: Mapping[str, Any], config: ModelConfig, prompter: Prompter) -> WorldPrompter | None:
    """The world model's own tokenizer where it is named, else the policy's (the `lab` preset shares one)."""
    if config.imagination is None:
        return None
    named = given.get("world_tokenizer")
    tokenizer = read_tokenizer(Path(str(named))) if named else prompter.tokenizer
    if not named and config.imagination.text_vocabulary != config.language.vocabulary:
        raise PolicyError(
            "the world model reads CLIP's tokenizer: name its tokenizer.json with policy.world_tokenizer=FILE"
        )
    return WorldPrompter(tokenizer, config.imagination.text_tokens, config.imagination.text_vocabulary)


@torch.no_grad()
def _enliven(network: nn.Module) -> None:
    """Give an untrained policy answers that depend on all it sees and remembers.

    The weights that start at zero are drawn, else it would answer the same to everything; and the head is made the
    transpose of the action embedding, so that the predicted noise roughly follows the chunk, else sampling runs off to
    the limits and clipping hides every difference. No test of such a policy could fail.
    """
    for module in network.modules():
        if isinstance(module, PerceptionAttention):
            nn.init.xavier_uniform_(module.in_proj_weight)
        if isinstance(module, DiT):
            embedding = module.x_embedder.linear.weight
            nn.init.normal_(embedding)
            module.final_layer.linear.weight.copy_(embedding.T * module.config.action**0.5 / module.config.hidden)
