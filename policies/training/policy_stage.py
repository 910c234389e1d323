"""The policy stage: vision-language part, memory, integration and action expert; the world model stays frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from policies.base import PolicyError
from policies.cogact.model import CogACTNetwork
from policies.memoryvla.model import MemoryVLANetwork
from policies.training.augmentation import Augmentation
from policies.training.batches import BatchMaker, PolicyBatch
from policies.training.data import Data, read_data
from policies.training.demos import Demo, DemoError
from policies.training.dreams import Dreams
from policies.training.losses import PolicyTraining
from policies.training.sampling import GroupSampler, Mixture, StreamPiece, StreamSampler
from policies.training.sights import Sights
from policies.training.starts import HEADS, prepare, save_with_grid
from policies.training.windows import CallSampler, FrameSampler, Piece
from policies.training.world_files import read_world
from policies.vla.checkpoint import save_checkpoint
from policies.vla.config import ModelConfig, changed, one_of, preset
from policies.vla.diffusion import DROP
from policies.vla.language import Prompter, WorldPrompter, lab_tokenizer, read_tokenizer
from policies.vla.model import VLM

NETWORKS: dict[str, type[nn.Module]] = {
    "cogact": CogACTNetwork,
    "memoryvla": MemoryVLANetwork,
    "memoryvla_plus": MemoryVLANetwork,
    "memoryvla_pp": MemoryVLANetwork,
}


class Sampler(Protocol):
    """Decides which frames an update sees."""

    def draw(self, update: int, rank: int, world: int) -> tuple[list[Piece], float]:
        """The pieces of process `rank` of `world`, and the number its summed losses are divided by."""


@dataclass(frozen=True)
class Firsts:
    """First frames alone, drawn beside the pieces of whole episodes."""

    maker: BatchMaker
    sampler: FrameSampler

    def draw(self, update: int, rank: int, world: int) -> PolicyBatch:
        """See `policies.training.stage.Stage`."""
        return self.maker.batch(*self.sampler.draw(update, rank, world))


class PolicyStage:
    """A policy network, its demonstrations and its losses as a stage; see `policy_stage`."""

    def __init__(
        self,
        training: PolicyTraining,
        data: Data,
        maker: BatchMaker,
        sampler: Sampler,
        *,
        tokenizer: Any,
        card: str,
        half: bool = False,
        dreams: Dreams | None = None,
        firsts: Firsts | None = None,
        sights: Sights | None = None,
    ) -> None:
        self.module: nn.Module = training
        self._training, self._data, self._maker, self._sampler = training, data, maker, sampler
        self._tokenizer, self._card, self._half = tokenizer, card, half
        self._dreams, self._firsts, self._sights = dreams, firsts, sights
        vlm: Any = training.network.vlm
        self.blocks: tuple[nn.Module, ...] = (*vlm.llm_backbone.model.layers,)
        self.frames = round(sum(sampler.draw(update, 0, 1)[1] for update in range(20)) / 20)

    def draw(self, update: int, rank: int, world: int) -> PolicyBatch:
        """See `policies.training.stage.Stage`."""
        pieces, frames = self._sampler.draw(update, rank, world)
        pieces = [p.with_past() if isinstance(p, StreamPiece) else p for p in pieces]
        cognition = vision = None
        if self._sights is not None:
            pieces, sight = self._sights.of(pieces)
            cognition, vision = sight.cognition, sight.vision
        maps = self._dreams.maps(pieces) if self._dreams else None
        batch = self._maker.batch(pieces, frames, maps, cognition, vision)
        return replace(batch, firsts=self._firsts.draw(update, rank, world)) if self._firsts else batch

    def save(self, folder: Path, state: dict[str, Tensor]) -> None:
        """Write a policy in our own format, and beside it the goal heads, which training alone needs."""
        config = self._training.config
        with torch.device("meta"):
            network = NETWORKS[config.family](config)
        inner = {name.removeprefix("network."): t for name, t in state.items() if name.startswith("network.")}
        network.load_state_dict(inner, strict=True, assign=True)
        save_checkpoint(
            folder,
            network,
            config,
            statistics=self._data.statistics,
            tokenizer=self._tokenizer,
            action=self._data.action,
            cameras=self._maker.cameras,
            card=self._card,
            half=self._half,
        )
        heads = {name: tensor for name, tensor in state.items() if not name.startswith("network.")}
        if heads:
            save_with_grid(folder / HEADS, heads, self._maker.waypoints)


def policy_stage(
    *,
    family: str,
    data: Sequence[str],
    size: str = "lab",
    cameras: Sequence[str] = (),
    state: bool = False,
    model: Mapping[str, Any] | None = None,
    start: str | None = None,
    fresh_memory: bool = False,
    grounding: str | None = None,
    frozen: bool = False,
    world: str | None = None,
    tokenizer: str | None = None,
    unnorm_key: str | None = None,
    sampler: str = "calls",
    every: int = 0,
    pieces: int = 4,
    longest: int = 16,
    weights: Mapping[str, float] | None = None,
    noised: float = 1.0,
    repeats: int = 4,
    drop: float = DROP,
    noisier: bool = False,
    goal_weight: float = 0.0,
    seen_weight: float = 0.0,
    imagined_weight: float = 0.0,
    goal_bins: int = 24,
    augment: bool = False,
    card: str = "",
    half: bool = False,
    dreams: int = 0,
    firsts: int = 0,
    seed: int = 0,
) -> PolicyStage:
    """Train a policy on demonstrations.

    family: `cogact`, `memoryvla`, `memoryvla_plus` or `memoryvla_pp`; data: folders of RLDS datasets; size: preset to
    begin with (`lab`, `7b`); cameras: views the policy sees, in order (none: the first of the data); state: it reads
    proprioception; model: changes of the preset by group (`memory: {length: 32}`); start: a policy to start from, ours
    or a released one, of the same family or of one that it builds on (CogACT, MemoryVLA); fresh_memory: but for its
    memory banks, which begin anew (attention that has become sharp on one thing to remember has little gradient left
    that would lead to another); grounding: folder of a grounding stage to start from, whose vision-language part and
    goal heads replace those of `start`, or of a recall stage, whose bank then becomes the cognitive one; frozen: the
    vision-language part stays as it is, and what it sees of a demonstration is computed once; world: folder of the
    world model (memoryvla_pp); unnorm_key: one name for the statistics of all data (none: each dataset its own).
    sampler: `calls` (whole episodes at the frames of policy calls), `group` or `stream` (section 4.3 of the paper's
    training); every: steps between the calls of `calls` (0: as many as lie between two that are remembered); pieces:
    episodes a batch (`stream`: streams side by side); longest: most frames of each; weights: of tasks (`calls`) or
    datasets; noised: share of a piece's frames whose chunks the action expert learns from (it costs most where it is
    small: more episodes an update, and fewer frames of each, show it more goals in the same time); repeats: noisings of
    each of these; drop: share of dropped conditions; noisier: draw noisier diffusion steps more often;
    goal_weight, seen_weight, imagined_weight, goal_bins: of the losses on where the hand acts next, told by the
    cognition token, by the perceptual tokens and by the imagined ones; augment: pictures are cropped and recoloured
    at random; half: weights are saved in float16; dreams: what the world model imagines from every frame is computed
    once, from so many noises (0: anew in every update); firsts: first frames alone (`collect.first_frame`) an update,
    beside the pieces, so that what a cue looks like is not forgotten for the few that whole episodes show.

    Raises PolicyError or DemoError for options and data that do not go together.
    """
    if frozen:
        require_frozen(sampler, augment=augment, firsts=firsts)
    found = read_data(data, cameras=cameras or None, unnorm_key=unnorm_key)
    seen = tuple(cameras) or tuple(found.demos[0].pictures)[:1]
    labelled = [demo for demo in found.demos if demo.actions is not None and not demo.beginning]
    beginnings = [demo for demo in found.demos if demo.beginning]
    require_firsts(firsts, beginnings, goal_weight, unnorm_key)
    if not 0 < noised <= 1:
        raise PolicyError(f"noised, the share of frames the action expert learns from, must be in (0, 1], was {noised}")
    config = shaped(family, size, len(seen), numbers_of(labelled) if state else 0, model, world)
    words = read_tokenizer(Path(tokenizer)) if tokenizer else lab_tokenizer()
    told = world_prompter(world)
    torch.manual_seed(seed)
    network: Any = NETWORKS[family](config)
    made = partial(
        BatchMaker,
        config=config,
        cameras=seen,
        prompter=Prompter(words, config.language),
        statistics=found.of,
        waypoint_bins=goal_bins if goal_weight or seen_weight or imagined_weight else 0,
        augment=Augmentation() if augment else None,
    )
    maker = made(
        labelled,
        noised=noised,
        repeats=repeats,
        drop=drop,
        noisier=noisier,
        world_prompter=told,
        dream_shape=network.imagination.world.noise_shape if told and not dreams else (),
    )
    training = PolicyTraining(
        network,
        config,
        goal_weight=goal_weight,
        seen_weight=seen_weight,
        imagined_weight=imagined_weight,
        bins=goal_bins,
    )
    if state:
        scale_state(network.vlm, maker)
    if frozen:
        network.vlm.requires_grad_(False)
    learned = prepare(training, maker, start=start, fresh_memory=fresh_memory, grounding=grounding, world=world)
    kept = Dreams(network.imagination.world, maker, dreams, seed) if dreams and world else None
    between = every or config.expert.execute * config.memory.every
    chosen = sampler_of(sampler, labelled, between, pieces, longest, seed, weights)
    alone = firsts_of(made(beginnings, repeats=1), maker, firsts, seed, learned) if beginnings else None
    known = Sights(network.vlm, maker, between, longest) if frozen else None
    return PolicyStage(
        training, found, maker, chosen, tokenizer=words, card=card, half=half, dreams=kept, firsts=alone, sights=known
    )


def require_firsts(firsts: int, beginnings: Sequence[Demo], goal_weight: float, unnorm_key: str | None) -> None:
    """Raises DemoError where first frames alone are given and not asked for, or the other way round; PolicyError where
    nothing would learn from them, or nothing says how actions are normalised that they do not have."""
    if beginnings and not firsts:
        names = ", ".join(sorted({demo.task for demo in beginnings}))
        raise DemoError(
            f"the data hold first frames alone (collect.first_frame, of {names}); a policy stage takes them beside "
            "whole episodes: say how many an update, as in firsts=16"
        )
    if firsts and not beginnings:
        raise DemoError(f"firsts={firsts}: none of the data are first frames alone (collect.first_frame)")
    if firsts and not goal_weight:
        raise PolicyError("firsts needs goal_weight: from first frames only where they lead is learned")
    if firsts and unnorm_key is None:
        raise PolicyError(
            "first frames alone have no actions to take statistics of: give all data one name for theirs, "
            "as in unnorm_key=lab"
        )


def require_frozen(sampler: str, *, augment: bool, firsts: int) -> None:
    """Raises PolicyError for options that do not go with tokens computed once."""
    against = {
        "sampler=calls, whose episodes are always called at the same frames": sampler != "calls",
        "augment=false: its pictures are never the same": augment,
        "firsts=0: only the vision-language part learns from first frames": firsts > 0,
    }
    for cure, wrong in against.items():
        if wrong:
            raise PolicyError(f"frozen=true computes what is seen once; it needs {cure}")


def firsts_of(maker: BatchMaker, pieces: BatchMaker, frames: int, seed: int, learned: bool) -> Firsts:
    """So many first frames an update, their tasks drawn evenly, told on the same grid as the pieces': the one that
    goal heads have learned, or else a grid around both."""
    if maker.waypoints is None or pieces.waypoints is None:
        raise ValueError("first frames are for goal heads, which tell waypoints")
    if not learned:
        pieces.tell_on(pieces.waypoints.joined(maker.waypoints))
    maker.tell_on(pieces.waypoints)
    lengths, tasks = [len(demo) for demo in maker.demos], [demo.task for demo in maker.demos]
    return Firsts(maker, FrameSampler(lengths, tasks, frames, seed + 1))


def sampler_of(
    name: str,
    demos: Sequence[Demo],
    every: int,
    pieces: int,
    longest: int,
    seed: int,
    weights: Mapping[str, float] | None,
) -> Sampler:
    """`calls`, `group` or `stream`; see `policy_stage`. weights: of tasks for `calls`, of datasets for the others."""
    one_of("sampler", name, ("calls", "group", "stream"))
    if every < 1:
        raise PolicyError(f"every, the steps between two calls, must be at least 1, was {every}")
    if name == "calls":
        lengths, tasks = [len(demo) for demo in demos], [demo.task for demo in demos]
        return CallSampler(lengths, tasks, every, pieces, longest, seed, dict(weights) if weights else None)
    mixture = Mixture.of(demos, weights)
    if name == "group":
        return GroupSampler(mixture, pieces, seed, longest)
    return StreamSampler(mixture, pieces, longest, seed)


def numbers_of(demos: Sequence[Demo]) -> int:
    """How many numbers of proprioception the demonstrations have. Raises DemoError where they have none."""
    if not demos or demos[0].state is None:
        raise DemoError("these demonstrations have no proprioception: state=false, or record them with it")
    return int(demos[0].state.shape[1])


def shaped(
    family: str, size: str, views: int, state: int, model: Mapping[str, Any] | None, world: str | None
) -> ModelConfig:
    """The model that is trained: a preset, its changes, and the shape of the world model in `world`."""
    if family not in NETWORKS:
        raise PolicyError(f"family must be one of {', '.join(NETWORKS)}, was {family!r}")
    config = replace(preset(size, family), views=views, state=state)
    if (world is not None) != (family == "memoryvla_pp"):
        raise PolicyError("world=DIR, a trained world model, belongs to family=memoryvla_pp and to nothing else")
    if world is not None:
        config = replace(config, imagination=read_world(Path(world)).options)
    return changed(config, dict(model or {}), "model")


def world_prompter(world: str | None) -> WorldPrompter | None:
    """Instructions to the ids of the world model in this folder."""
    return None if world is None else read_world(Path(world)).prompter()


@torch.no_grad()
def scale_state(vlm: VLM, maker: BatchMaker) -> None:
    """Draw the map of proprioception so that its numbers count alike at the start, whatever their units: with the
    weights 0.3 / std, and the bias that takes their mean away. Nothing changes when acting."""
    mean, std = (torch.from_numpy(x) for x in maker.state_scale())
    embedder = vlm.state_embedder
    embedder.weight.copy_(torch.randn_like(embedder.weight) * 0.3 / std)
    embedder.bias.copy_(-embedder.weight @ mean)
