"""A learned policy behind the engine's contract: sessions, batching, noise by episode and call, chunks or ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from envs.spec import EpisodeId, Floats
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    OutOfMemory,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
    noise_seed,
)
from policies.cogact.ensemble import AdaptiveEnsemble
from policies.vla.config import ModelConfig, one_of
from policies.vla.conventions import Convention
from policies.vla.diffusion import denoise, predict
from policies.vla.dit import DiT
from policies.vla.images import check_pictures, pictures
from policies.vla.language import PLACE, Prompter, WorldPrompter
from policies.vla.model import Inputs, sampling_of
from policies.vla.statistics import GRIPPER, ActionStatistics, settle, unnormalise


@dataclass(frozen=True)
class Serving:
    """How a policy serves, apart from its weights.

    batching: `exact` (a request's actions are the same bits whoever shares the batch) or `fast` (one run for all, equal
    within rounding); exact_rows: how exactness is got. 1: every request runs alone. N: runs of N rows, always padded
    to N and to a text length in steps of 32, which is exact where this machine's kernels treat all rows alike; that
    is tried out before the first such run, and an error where it does not hold. max_batch: most requests in one run
    (fast); compile: run vision, language and denoising through torch.compile, in static shapes (with CUDA graphs on a
    GPU): rows are padded to `exact_rows`, or in fast mode to the next power of two, and text in steps of 32; the first
    call of a shape takes its time, and last bits differ from those without. slots: most live episodes; execute: actions
    carried out per call (None: as trained); ensemble: chunks averaged by the adaptive ensemble, one action a call (0:
    off); alpha: of the ensemble.
    """

    batching: str = "exact"
    exact_rows: int = 1
    max_batch: int = 16
    slots: int = 256
    execute: int | None = None
    ensemble: int = 0
    alpha: float = 0.1
    compile: bool = False

    def __post_init__(self) -> None:
        one_of("policy.batching", self.batching, ("exact", "fast"))
        for name in ("exact_rows", "max_batch", "slots"):
            if getattr(self, name) < 1:
                raise PolicyError(f"policy.{name} must be 1 or more, was {getattr(self, name)}")


Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Loaded(Generic[Network]):
    """A network with all that is needed to act: see `policies.vla.checkpoint` and `policies.vla.build`.

    cameras: pictures it takes, in this order; memory_scope: what it was trained for (None: either).
    """

    network: Network
    config: ModelConfig
    prompter: Prompter
    statistics: ActionStatistics
    convention: Convention
    cameras: tuple[str, ...]
    memory_scope: str | None = None
    world_prompter: WorldPrompter | None = None


@dataclass
class Session:
    """One live episode. ids, world_ids: its instruction for the policy and for the world model (if there is one);
    asked: policy calls so far; remembered: those that its memory was told of since it was last emptied; silent: calls
    since the last of these."""

    start: EpisodeStart
    slot: int
    ids: list[int]
    world_ids: list[int] | None
    asked: int = 0
    remembered: int = 0
    silent: int = 0
    ensemble: AdaptiveEnsemble | None = None


@dataclass(frozen=True)
class Row:
    """One request, checked and prepared: what a batch is made of.

    slot: of its memory; seed: of this call; noise: what its chunk starts from, float32 [T, A]; dream: what its world
    model starts from.
    """

    slot: int
    ids: list[int]
    world_ids: list[int] | None
    pictures: npt.NDArray[np.uint8]
    state: Floats | None
    time: float
    noise: Floats
    dream: Floats | None
    seed: int = 0


TEXT_STEP = 32
"""Text is padded to multiples of this many tokens where shapes must not depend on the batch."""

COMPILER: Any = "inductor"
"""What torch.compile hands its graphs to; on a CPU it needs a C++ compiler on the machine."""

PROBE_CALLS = 3
"""Calls in a row that a trial of exactness compares, so that memories of several ages are met."""


class VLAPolicy(Policy, Generic[Network]):
    """What CogACT, MemoryVLA and MemoryVLA++ have in common; a family fills in `condition` and `forget`."""

    def __init__(self, name: str, loaded: Loaded[Network], serving: Serving) -> None:
        self.loaded, self.serving = loaded, serving
        self.network: Network = loaded.network.eval().requires_grad_(False)
        self._device = next(self.network.parameters()).device
        self._sessions: EpisodeStates[Session] = EpisodeStates()
        self._padded = serving.compile or (serving.batching == "exact" and serving.exact_rows > 1)
        padding = self._most_rows() if self._padded and self._most_rows() > 1 else 0
        self._scratch = list(range(padding))  # memories of rows that only fill a batch
        self._free = list(range(padding, padding + serving.slots))[::-1]
        self._proved: set[int] = set()
        expert = loaded.config.expert
        try:
            self._sampling = sampling_of(loaded.config)
        except ValueError as error:
            raise PolicyError(str(error)) from error
        net: DiT = self.network.action_model.net  # type: ignore[assignment, union-attr]
        self._see: Any = net.see
        self._guess: Any = partial(predict, net)
        if serving.compile:
            self._compile()
        if serving.ensemble > expert.chunk:
            raise PolicyError(f"policy.ensemble {serving.ensemble} is longer than the chunk of {expert.chunk} actions")
        self.spec = PolicySpec(
            name=name,
            action=loaded.convention.action,
            cameras=loaded.cameras,
            chunk=1 if serving.ensemble else expert.chunk,
            execute=1 if serving.ensemble else serving.execute or expert.execute,
            stateful=bool(serving.ensemble) or self.remembers,
            memory_scope=loaded.memory_scope,
            slots=serving.slots,
            uses_state=loaded.config.state > 0,
        )

    def _compile(self) -> None:
        """Compile what costs the time and has static shapes: the vision-language part and a step of denoising.

        Memory stays as it is: it writes into the stores, and tensors that change in place keep CUDA graphs from being
        made. So does the world model, whose features are taken by hooks.
        """
        options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": COMPILER}
        if self._device.type == "cuda":
            options["mode"] = "reduce-overhead"  # CUDA graphs
        # One graph a shape: a limit meant for shapes that never end would quietly turn compilation off.
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 256)
        self.network.vlm.compile(**options)  # type: ignore[union-attr]
        self._see, self._guess = (torch.compile(part, **options) for part in (self._see, self._guess))

    # ------------------------------------------------------------------ what a family fills in

    remembers = False
    """Whether the family keeps memory."""

    def condition(self, inputs: Inputs, slots: list[int]) -> tuple[Tensor, Tensor | None]:
        """Cognition token [B, 1, D] and perceptual tokens [B, P, d] (or None) of a batch."""
        raise NotImplementedError

    def forget(self, slots: list[int]) -> None:
        """Empty the memories at these slots."""

    def undo(self, slots: list[int]) -> Callable[[], None]:
        """What brings the memories at these slots back to what they are now."""
        return lambda: None

    def memory_per_episode(self) -> int:
        """Bytes of device memory one live episode takes."""
        return 0

    def dream_shape(self) -> tuple[int, ...]:
        """Shape of the world model's starting noise for one request; () where there is no world model."""
        return ()

    # ------------------------------------------------------------------ the contract

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        if len(episodes) > len(self._free):
            raise PolicyError(
                f"all {self.serving.slots} slots of this policy are taken by live episodes; end some first, or raise "
                "policy.slots"
            )
        ready = [(start, *self._read(start.instruction)) for start in episodes]
        opened: list[EpisodeId] = []
        try:
            for start, ids, world_ids in ready:
                session = Session(start, self._free[-1], ids, world_ids, ensemble=self._new_ensemble())
                self._sessions.open(start.episode, session)
                self.forget([self._free.pop()])
                opened.append(start.episode)
        except PolicyError:
            self.end(opened)
            raise

    def _read(self, instruction: str) -> tuple[list[int], list[int] | None]:
        """An instruction's ids for the policy, and for the world model if there is one."""
        world = self.loaded.world_prompter
        return self.loaded.prompter.ids(instruction), world.ids(instruction) if world else None

    def _new_ensemble(self) -> AdaptiveEnsemble | None:
        return AdaptiveEnsemble(self.serving.ensemble, self.serving.alpha) if self.serving.ensemble else None

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            session = self._sessions.pop(episode, None)
            if session is not None:
                self.forget([session.slot])
                self._free.append(session.slot)

    def live(self) -> int:
        return len(self._sessions)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        session = self._sessions.of(episode)
        session.ids, session.world_ids = self._read(instruction)
        session.ensemble = self._new_ensemble()
        if not keep_memory:
            self.forget([session.slot])
            session.remembered = session.silent = 0

    @torch.inference_mode()
    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        sessions = [self._due(request) for request in requests]
        if len({id(session) for session in sessions}) != len(sessions):
            raise PolicyError("one episode asked twice in one batch: its memory would lose one of the frames")
        rows = [self._row(session, request) for session, request in zip(sessions, requests, strict=True)]
        undo: Callable[[], None] | None = None
        try:
            undo = self.undo([row.slot for row in rows])
            silent = [session.slot for session in sessions if session.silent]
            unsaid = self.undo(silent) if silent else None
            chunks = self._padded_runs(rows) if self._padded else self._plain_runs(rows)
            if unsaid is not None:
                unsaid()
        except (MemoryError, torch.OutOfMemoryError) as error:
            if undo is not None:
                undo()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemory(f"out of memory with {len(rows)} episodes in one call: {error}") from error
        return [self._reply(*each) for each in zip(requests, sessions, chunks, strict=True)]

    # ------------------------------------------------------------------ one batch

    def _due(self, request: ActRequest) -> Session:
        """The session of a request that comes in its turn."""
        session = self._sessions.of(request.episode)
        if session.asked and request.call != session.asked:
            raise PolicyError(
                f"episode {request.episode}: call {request.call} came where call {session.asked} was due: a call was "
                "lost or repeated"
            )
        return session

    def check(self, request: ActRequest) -> None:
        self._due(request)
        self._proprioception(request)
        check_pictures(request.observation, self.loaded.cameras, self.loaded.config.vision)

    def _proprioception(self, request: ActRequest) -> Floats | None:
        """The numbers of proprioception that the policy reads, float32 [D]; None if it reads none."""
        wanted, seen = self.loaded.config.state, request.observation.state
        if not wanted:
            return None
        if seen is None or seen.shape != (wanted,):
            found = "none" if seen is None else list(seen.shape)
            raise PolicyError(f"this policy reads {wanted} numbers of proprioception, the observation has {found}")
        return np.asarray(seen, dtype=np.float32)

    def _row(self, session: Session, request: ActRequest) -> Row:
        """Check one request's observation and prepare it; changes nothing."""
        config, seen = self.loaded.config, request.observation
        state = self._proprioception(request)
        seed = noise_seed(session.start.seed, request.episode, request.call)
        noise, dream = self._draw(np.random.default_rng(seed))
        return Row(
            slot=session.slot,
            ids=session.ids,
            world_ids=session.world_ids,
            pictures=pictures(seen, self.loaded.cameras, config.vision),
            state=state,
            time=float(request.step if config.memory.time == "step" else session.remembered),
            noise=noise,
            dream=dream,
            seed=seed,
        )

    def _draw(self, generator: np.random.Generator) -> tuple[Floats, Floats | None]:
        """All noise of one policy call."""
        config, dream = self.loaded.config, self.dream_shape()
        noise = generator.standard_normal((config.expert.chunk, config.action), dtype=np.float32)
        return noise, generator.standard_normal(dream, dtype=np.float32) if dream else None

    def _plain_runs(self, rows: list[Row]) -> list[Floats]:
        size = 1 if self.serving.batching == "exact" else self.serving.max_batch
        return [chunk for begin in range(0, len(rows), size) for chunk in self._run(rows[begin : begin + size])]

    def _most_rows(self) -> int:
        """Most rows of one run."""
        return self.serving.exact_rows if self.serving.batching == "exact" else self.serving.max_batch

    def _padded_runs(self, rows: list[Row]) -> list[Floats]:
        """Runs of static shapes: rows of like text length, padded with copies of the first. In exact mode always to
        `exact_rows`; in fast mode, which promises no bits, to the next power of two."""
        most, exact = self._most_rows(), self.serving.batching == "exact"
        found: dict[int, Floats] = {}
        texts = [-(-len(row.ids) // TEXT_STEP) * TEXT_STEP for row in rows]
        for text in sorted(set(texts)):
            if exact and most > 1:
                self._prove(text)
            chosen = [i for i, length in enumerate(texts) if length == text]
            for begin in range(0, len(chosen), most):
                part = chosen[begin : begin + most]
                size = most if exact else min(most, 1 << (len(part) - 1).bit_length())
                padding = [replace(rows[part[0]], slot=slot) for slot in self._scratch[: size - len(part)]]
                found.update(zip(part, self._run([*(rows[i] for i in part), *padding], text), strict=False))
        return [found[i] for i in range(len(rows))]

    def _prove(self, text: int) -> None:
        """Try out, once for a text length, that a row gets the same bits at every place and beside any others."""
        if text in self._proved:
            return
        size, first = self.serving.exact_rows, list[Floats]()
        for place in range(size):
            self.forget(self._scratch)
            for call in range(PROBE_CALLS):
                seeds = [0 if i == place else 1 + place * size + i for i in range(size)]
                found = self._run([self._made_up(text, i, seed, call) for i, seed in enumerate(seeds)], text)[place]
                if place == 0:
                    first.append(found)
                elif not np.array_equal(found, first[call]):
                    raise PolicyError(
                        f"policy.exact_rows={size} is not exact on this machine: a request's rounding depends on its "
                        "place in the batch; use policy.exact_rows=1"
                    )
        self._proved.add(text)

    def _made_up(self, text: int, slot: int, seed: int, call: int) -> Row:
        """A request for `_prove`."""
        config, generator = self.loaded.config, np.random.default_rng([seed, call])
        length = int(generator.integers(max(2, text - TEXT_STEP + 1), text + 1))
        noise, dream = self._draw(generator)
        side = config.vision.image
        world = config.imagination
        ids: list[int] = generator.integers(0, config.language.vocabulary, length).tolist()
        if config.language.marked:
            ids[0] = PLACE
        return Row(
            slot=slot,
            ids=ids,
            world_ids=generator.integers(0, world.text_vocabulary, world.text_tokens).tolist() if world else None,
            pictures=generator.integers(0, 256, (config.views, side, side, 3), dtype=np.uint8),
            state=generator.standard_normal(config.state, dtype=np.float32) if config.state else None,
            time=float(call),
            noise=noise,
            dream=dream,
            seed=seed * PROBE_CALLS + call,
        )

    def _run(self, rows: list[Row], text: int = 0) -> list[Floats]:
        """Raw chunks float32 [T, A] of a batch, its text padded to `text` tokens or more; writes its memories."""
        if self.serving.compile:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        condition, perception = self.condition(self._inputs(rows, text), [row.slot for row in rows])
        noise = self._tensor(np.stack([row.noise for row in rows]))
        raw = denoise(self._see, self._guess, noise, condition, perception, self._sampling)
        return list(raw.float().cpu().numpy())

    def _inputs(self, rows: list[Row], text: int) -> Inputs:
        ids, lengths = self.loaded.prompter.batch([row.ids for row in rows], text)
        states = [row.state for row in rows if row.state is not None]
        worlds = [row.world_ids for row in rows if row.world_ids is not None]
        dreams = [row.dream for row in rows if row.dream is not None]
        return Inputs(
            pictures=self._tensor(np.stack([row.pictures for row in rows])),
            ids=ids.to(self._device),
            lengths=lengths.to(self._device),
            state=self._tensor(np.stack(states)) if states else None,
            times=torch.tensor([row.time for row in rows], dtype=torch.float64, device=self._device),
            world_ids=torch.tensor(worlds, device=self._device) if worlds else None,
            noise=self._tensor(np.stack(dreams)) if dreams else None,
            seeds=[row.seed for row in rows] if self.loaded.config.memory.drop_at_test else None,
        )

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _reply(self, request: ActRequest, session: Session, raw: Floats) -> ActReply:
        convention, statistics = self.loaded.convention, self.loaded.statistics
        session.asked = request.call + 1
        session.remembered += session.silent == 0
        session.silent = (session.silent + 1) % self.loaded.config.memory.every
        actions = unnormalise(settle(raw, binary=convention.binary, mask=statistics.mask), statistics)
        if session.ensemble is not None:
            actions = session.ensemble(actions)[None].astype(np.float64)
            if convention.binary:  # a mean of gripper commands is decided again
                actions[:, GRIPPER] = actions[:, GRIPPER] > 0.5
        return ActReply(request.episode, request.step, actions.astype(np.float32))


def cameras_of(context: PolicyContext, asked: Sequence[str] | None, views: int | None = None) -> tuple[str, ...]:
    """The cameras a policy is to see: those asked for, else the main one. Raises PolicyError for one there is not."""
    offered = [camera.name for camera in context.env.cameras]
    chosen = tuple(asked) if asked else tuple(offered[: views or 1])
    missing = [name for name in chosen if name not in offered]
    if missing:
        raise PolicyError(f"no camera {', '.join(missing)} in {context.suite}; there are {', '.join(offered)}")
    if views is not None and len(chosen) != views:
        raise PolicyError(f"this checkpoint sees {views} cameras, {len(chosen)} were named: {', '.join(chosen)}")
    return chosen
