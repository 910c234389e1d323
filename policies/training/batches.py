"""A batch of policy training as tensors, made from pieces of demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from envs.spec import Floats
from policies.training.demos import Demo, DemoError
from policies.training.windows import (
    Piece,
    chunk_at,
    next_waypoints,
    normalised,
    shown_waypoints,
    still_action,
    two_hot,
)
from policies.vla.config import ModelConfig
from policies.vla.diffusion import DROP, STEPS
from policies.vla.images import prepare
from policies.vla.language import Prompter, WorldPrompter
from policies.vla.model import Inputs
from policies.vla.statistics import ActionStatistics

Augment = Callable[[np.ndarray[Any, Any], np.random.Generator], np.ndarray[Any, Any]]
"""Changes the pictures uint8 [V, H, W, 3] of one frame."""


@dataclass(frozen=True)
class PolicyBatch:
    """N frames of E pieces, none longer than T.

    inputs: as at test; place int64 [N]: of frame n in the grid [E, T], e * T + t; grid: (E, T); chunks float32 [N, C,
    A], normalised; weight float32 [N]: 0 for frames that only fill the memory, else 1; noised int64 [M]: the frames
    whose chunks are noised; stands float32 [M]: for how many frames of its piece each of them stands; noise float32
    [R * M, C, A], step int64 [R * M] and drop bool [R * M]: of the R noisings of each, first all of them once, then
    again; goals float32 [N, 3, bins] or None: where the hand acts next; shown, the same of `shown_waypoints`: where the
    frame's cue leads, be it now or later; frames: what summed losses are divided by; maps: features of the world model,
    if they were computed before; firsts: first frames alone, beside the pieces; seen, vision: cognition tokens [N, 1,
    D] and vision tokens [N, V * P, channels], if they were computed before: `inputs` then has no pictures but those
    that a world model imagines from.
    """

    inputs: Inputs
    place: Tensor
    grid: tuple[int, int]
    chunks: Tensor
    weight: Tensor
    noised: Tensor
    stands: Tensor
    noise: Tensor
    step: Tensor
    drop: Tensor
    goals: Tensor | None
    shown: Tensor | None
    frames: float
    maps: list[Tensor] | None = None
    firsts: PolicyBatch | None = None
    seen: Tensor | None = None
    vision: Tensor | None = None

    def to(self, device: torch.device) -> PolicyBatch:
        """The same batch on another device."""
        return replace(self, **{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, list):
        return [_moved(each, device) for each in value]
    if isinstance(value, PolicyBatch):
        return value.to(device)
    if isinstance(value, Inputs):
        return replace(value, **{f.name: _moved(getattr(value, f.name), device) for f in fields(value)})
    return value


@dataclass(frozen=True)
class Waypoints:
    """The grid on which the next waypoint is told: `bins` levels between low [3] and high [3], metres."""

    low: Floats
    high: Floats
    bins: int

    @classmethod
    def around(cls, found: Sequence[Floats], bins: int) -> Waypoints:
        """Wide enough for all these waypoints [T, 3], with a margin of a tenth."""
        every = np.concatenate(found)
        low, high = every.min(0), every.max(0)
        margin = 0.05 * (high - low) + 0.01
        return cls((low - margin).astype(np.float32), (high + margin).astype(np.float32), bins)

    def joined(self, other: Waypoints) -> Waypoints:
        """Wide enough for both."""
        return replace(self, low=np.minimum(self.low, other.low), high=np.maximum(self.high, other.high))

    def beyond(self, found: Sequence[Floats]) -> float:
        """The share of these waypoints [T, 3] that lie beyond the grid; they are told as its edge."""
        every = np.concatenate(found)
        return float(((every < self.low) | (every > self.high)).any(1).mean())


class BatchMaker:
    """Demonstrations, prepared once: batches are then cut from them.

    statistics: of a demonstration's dataset; noised: share of a piece's frames whose chunks are noised, drawn anew for
    every piece; repeats: noisings of each of these; drop: share of them whose condition is dropped for classifier-free
    guidance; noisier: noisier diffusion steps are drawn more often, in proportion to their number (else all alike): a
    small network then learns far sooner to heed what conditions it; waypoint_bins: levels on which the next waypoint is
    told (0: it is not); dream_shape: of the noise a world model starts from for one frame (empty: none is drawn).
    Raises DemoError for a demonstration the network cannot be trained on.
    """

    def __init__(
        self,
        demos: Sequence[Demo],
        config: ModelConfig,
        cameras: tuple[str, ...],
        prompter: Prompter,
        statistics: Callable[[Demo], ActionStatistics],
        *,
        repeats: int,
        noised: float = 1.0,
        drop: float = DROP,
        noisier: bool = False,
        waypoint_bins: int = 0,
        world_prompter: WorldPrompter | None = None,
        dream_shape: tuple[int, ...] = (),
        augment: Augment | None = None,
    ) -> None:
        self.config, self.cameras, self.demos = config, cameras, demos
        self._noised, self._repeats, self._drop, self._noisier = noised, repeats, drop, noisier
        self._augment, self._dream_shape = augment, dream_shape
        # The crop at test keeps the middle of what random crops keep in training: the one stands for the other.
        self._vision = replace(config.vision, centre_crop=False) if augment else config.vision
        self._actions = [normalised(demo, statistics(demo)) for demo in demos]
        self._still = [still_action(statistics(demo)) for demo in demos]
        self._ids = [prompter.ids(demo.instruction) for demo in demos]
        self._world_ids = [world_prompter.ids(demo.instruction) for demo in demos] if world_prompter else None
        self._prompter = prompter
        self._states = [self._state(demo) for demo in demos] if config.state else None
        self._goals = [next_waypoints(demo) for demo in demos] if waypoint_bins else []
        self._shown = [shown_waypoints(demo) for demo in demos] if waypoint_bins else []
        places = [*self._goals, *self._shown]
        self.waypoints = Waypoints.around(places, waypoint_bins) if places else None
        for demo in demos:
            self._check(demo)

    def tell_on(self, grid: Waypoints) -> None:
        """Tell waypoints on this grid, on which a head has learned to tell them. Raises DemoError where more than
        one in a hundred lies beyond it."""
        places = [*self._goals, *self._shown]
        beyond = grid.beyond(places) if places else 0.0
        if beyond > 0.01:
            ends = " to ".join(str([round(float(x), 3) for x in end]) for end in (grid.low, grid.high))
            raise DemoError(
                f"{beyond:.0%} of the places where the hand acts in these demonstrations lie beyond those that the "
                f"grounding has seen (x, y, z from {ends} m): train the grounding on these demonstrations too"
            )
        self.waypoints = grid

    def _check(self, demo: Demo) -> None:
        missing = [name for name in self.cameras if name not in demo.pictures]
        if missing:
            raise DemoError(f"{demo}: it lacks camera {', '.join(missing)}; it has {', '.join(demo.pictures)}")

    def _state(self, demo: Demo) -> Floats:
        if demo.state is None or demo.state.shape[1] != self.config.state:
            found = "none" if demo.state is None else str(demo.state.shape[1])
            raise DemoError(f"{demo}: it has {found} numbers of proprioception, the model reads {self.config.state}")
        return demo.state

    @property
    def augmented(self) -> bool:
        """Whether pictures are changed at random."""
        return self._augment is not None

    def film(self, demo: int) -> np.ndarray[Any, Any]:
        """What a world model sees of a demonstration: its first view, uint8 [T, image, image, 3]."""
        return self._views(demo, self.cameras[0], np.arange(len(self.demos[demo])))

    def world_ids(self, demo: int) -> list[int]:
        """Its instruction in the world model's ids."""
        if self._world_ids is None:
            raise DemoError("no world model's ids were asked for")
        return self._world_ids[demo]

    def state_scale(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the proprioception over all frames, float32 [D] each."""
        if self._states is None:
            raise DemoError("this model reads no proprioception")
        rows = np.concatenate(self._states)
        return rows.mean(0), rows.std(0) + 1e-4

    def batch(
        self,
        pieces: Sequence[Piece],
        frames: float,
        maps: list[Tensor] | None = None,
        seen: Tensor | None = None,
        vision: Tensor | None = None,
    ) -> PolicyBatch:
        """The batch of these pieces; frames, maps, seen, vision: see `PolicyBatch`."""
        longest = max(len(piece.frames) for piece in pieces)
        rows = [(e, t, p.demo, int(frame)) for e, p in enumerate(pieces) for t, frame in enumerate(p.frames)]
        chosen = [self._choose(piece) for piece in pieces]
        drawn = [self._draw(piece, len(some)) for piece, some in zip(pieces, chosen, strict=True)]
        starts = np.cumsum([0, *(len(piece.frames) for piece in pieces)])
        counts = np.array([len(some) for some in chosen])
        return PolicyBatch(
            inputs=self._inputs(pieces, rows, pictures=seen is None or bool(self._dream_shape)),
            place=torch.tensor([e * longest + t for e, t, _, _ in rows]),
            grid=(len(pieces), longest),
            chunks=self._tensor([self._chunk(d, frame) for _, _, d, frame in rows]),
            weight=torch.tensor([float(t >= pieces[e].quiet) for e, t, _, _ in rows]),
            noised=torch.from_numpy(np.concatenate([at + some for at, some in zip(starts, chosen, strict=False)])),
            stands=torch.from_numpy(np.repeat(np.diff(starts) / counts, counts).astype(np.float32)),
            noise=torch.from_numpy(np.concatenate([n for n, _, _ in drawn], axis=1)).flatten(0, 1),
            step=torch.from_numpy(np.concatenate([s for _, s, _ in drawn], axis=1)).flatten(),
            drop=torch.from_numpy(np.concatenate([d for _, _, d in drawn], axis=1)).flatten(),
            goals=self._on_grid(self._goals, rows),
            shown=self._on_grid(self._shown, rows),
            frames=frames,
            maps=maps,
            seen=seen,
            vision=vision,
        )

    def _choose(self, piece: Piece) -> npt.NDArray[np.int64]:
        """Which of its frames are noised, rising."""
        length = len(piece.frames)
        count = max(round(self._noised * length), 1)
        rng = np.random.default_rng((*piece.seed, 5))
        return np.sort(rng.choice(length, count, replace=False))

    def _draw(self, piece: Piece, frames: int) -> tuple[Floats, Any, Any]:
        """Noise [R, frames, C, A], steps [R, frames] and dropped conditions [R, frames] of one piece."""
        rng, count = piece.generator(), (self._repeats, frames)
        size = (*count, self.config.expert.chunk, self.config.action)
        noise = rng.standard_normal(size, dtype=np.float32)
        share = rng.random(count)
        steps = (STEPS * (np.sqrt(share) if self._noisier else share)).astype(np.int64)
        return noise, steps, rng.random(count) < self._drop

    def _chunk(self, demo: int, frame: int) -> Floats:
        length, beginning = self.config.expert.chunk, self.demos[demo].beginning
        found = chunk_at(self._actions[demo], frame, length, self._still[demo])
        if beginning:  # what came after was not recorded
            found[len(self._actions[demo]) - frame :] = np.nan
        astray = self.demos[demo].off_course
        # Labels of states that follow from random motion do not follow from each other: they are no plan.
        if astray is not None and astray[frame : frame + length - 1].any():
            found = np.full_like(found, np.nan)
        return found

    def _on_grid(self, places: list[Floats], rows: list[tuple[int, int, int, int]]) -> Tensor | None:
        if self.waypoints is None or not places:
            return None
        found = np.stack([places[d][frame] for _, _, d, frame in rows])
        return torch.from_numpy(two_hot(found, self.waypoints.low, self.waypoints.high, self.waypoints.bins))

    def _inputs(self, pieces: Sequence[Piece], rows: list[tuple[int, int, int, int]], *, pictures: bool) -> Inputs:
        ids, lengths = self._prompter.batch([self._ids[d] for _, _, d, _ in rows])
        states = [self._states[d][frame] for _, _, d, frame in rows] if self._states else None
        worlds = [self._world_ids[d] for _, _, d, _ in rows] if self._world_ids else None
        return Inputs(
            pictures=torch.from_numpy(self._pictures(pieces)) if pictures else torch.empty(0, dtype=torch.uint8),
            ids=ids,
            lengths=lengths,
            state=None if states is None else self._tensor(states),
            times=torch.from_numpy(np.concatenate([piece.times for piece in pieces])),
            world_ids=None if worlds is None else torch.tensor(worlds),
            noise=self._dreams(pieces) if self._dream_shape else None,
        )

    def _dreams(self, pieces: Sequence[Piece]) -> Tensor:
        found = []
        for piece in pieces:
            rng = np.random.default_rng((*piece.seed, 3))
            found.append(rng.standard_normal((len(piece.frames), *self._dream_shape), dtype=np.float32))
        return torch.from_numpy(np.concatenate(found))

    def _pictures(self, pieces: Sequence[Piece]) -> np.ndarray[Any, Any]:
        found: list[np.ndarray[Any, Any]] = []
        for piece in pieces:
            rng = np.random.default_rng((*piece.seed, 2))
            views = np.stack([self._views(piece.demo, name, piece.frames) for name in self.cameras], axis=1)
            found.extend(views if self._augment is None else (self._augment(each, rng) for each in views))
        return np.stack(found)

    def _views(self, demo: int, camera: str, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """These frames, decoded at once (a call costs eight times as much as a picture), [T, image, image, 3]."""
        return np.stack(
            [prepare(picture, camera, self._vision) for picture in self.demos[demo].pictures[camera][frames]]
        )

    @staticmethod
    def _tensor(rows: list[Floats]) -> Tensor:
        return torch.from_numpy(np.stack(rows))
