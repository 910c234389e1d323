"""MemoryVLA with its memory or its imagination put wrong on purpose: the controls of a comparison.

A gain of memory is memory's only if it goes when memory is emptied, and it must turn into a loss where memories of
several episodes mix. `memvla check` fails all of these, as it should.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from envs.spec import EpisodeId
from policies.base import ActReply, ActRequest, PolicyContext, PolicyError
from policies.memoryvla.model import MemoryVLANetwork, slot_tensor
from policies.memoryvla.policy import MemoryVLAPolicy
from policies.vla.build import build
from policies.vla.checkpoint import of_suite, read_own
from policies.vla.config import one_of
from policies.vla.model import Inputs
from policies.vla.policy import Loaded, Serving

CONTROLS = {
    "emptied": "memory is emptied before every call",
    "kept": "memory is not emptied between the episodes that follow each other",
    "shared": "episodes that are live together share one memory",
    "imagination": "what is imagined belongs to the episode before",
}


class ControlPolicy(MemoryVLAPolicy):
    """One of `CONTROLS`. Made for runs with one policy host: what goes wrong depends on what ran before."""

    def __init__(self, control: str, name: str, loaded: Loaded[MemoryVLANetwork], serving: Serving) -> None:
        one_of("policy.control", control, tuple(CONTROLS))
        if control == "imagination" and loaded.network.imagination is None:
            raise PolicyError("policy.control=imagination needs a checkpoint of memoryvla_pp")
        self._control = control
        self._seen: dict[int, list[Tensor]] = {}
        self._before: list[Tensor] = []
        super().__init__(name, loaded, serving)

    def forget(self, slots: list[int]) -> None:
        if self._control == "kept" and self._stores["cognitive"].slots > max(slots):
            return
        if self._control == "shared" and self.live() > 1:
            return
        super().forget([0] if self._control == "shared" else slots)

    def undo(self, slots: list[int]) -> Callable[[], None]:
        return super().undo([0] if self._control == "shared" else slots)

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        if self._control == "shared":  # one after the other, since all write into one memory
            return [super(ControlPolicy, self).act([request])[0] for request in requests]
        return super().act(requests)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            session = self._sessions.get(episode)
            if session is not None and session.slot in self._seen:
                self._before = self._seen.pop(session.slot)
        super().end(episodes)

    def condition(self, inputs: Inputs, slots: list[int]) -> tuple[Tensor, Tensor | None]:
        if self._control == "emptied":
            super().forget(slots)
        elif self._control == "shared":
            return super().condition(inputs, [0])
        elif self._control == "imagination":
            return self._imagine_wrongly(inputs, slots)
        return super().condition(inputs, slots)

    def _imagine_wrongly(self, inputs: Inputs, slots: list[int]) -> tuple[Tensor, Tensor | None]:
        """As the network's own forward, with the picture that the episode before showed at the same call."""
        network = self.network
        cognition, vision = network.vlm(inputs)
        where = slot_tensor(slots, self._device)
        cognition, perception = network.memory(cognition, vision, inputs.times, self._stores, where)
        pictures = torch.stack([self._other(slot, inputs.pictures[n, 0]) for n, slot in enumerate(slots)])
        imagination: Any = network.imagination
        return cognition, imagination(perception, pictures, inputs.world_ids, inputs.noise)

    def _other(self, slot: int, picture: Tensor) -> Tensor:
        seen = self._seen.setdefault(slot, [])
        seen.append(picture)
        if not self._before:
            return torch.zeros_like(picture)
        return self._before[min(len(seen), len(self._before)) - 1]


def control(context: PolicyContext, *, control: str, **options: Any) -> ControlPolicy:
    """A control for a suite. control: one of `CONTROLS`; checkpoint: of memoryvla or memoryvla_pp; other options: the
    keys of memoryvla.yaml."""
    if not options.get("checkpoint"):
        raise PolicyError("a control is made of a trained policy: name it with policy.checkpoint=DIR")
    family = read_own(of_suite(Path(str(options["checkpoint"])), context.suite)).config.family
    return ControlPolicy(control, *build(context, MemoryVLANetwork, family, options))
