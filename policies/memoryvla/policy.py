"""MemoryVLA and its kin as a policy of the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from policies.base import PolicyContext
from policies.memoryvla.model import MemoryVLANetwork, slot_tensor
from policies.vla.build import build
from policies.vla.model import Inputs
from policies.vla.policy import Loaded, Serving, VLAPolicy


class MemoryVLAPolicy(VLAPolicy[MemoryVLANetwork]):
    """MemoryVLA. The banks of all live episodes are one tensor with a slot each; slots are made as they are needed."""

    remembers = True

    def __init__(self, name: str, loaded: Loaded[MemoryVLANetwork], serving: Serving) -> None:
        super().__init__(name, loaded, serving)
        self._stores = self.network.memory.new_stores(1)

    def condition(self, inputs: Inputs, slots: list[int]) -> tuple[Tensor, Tensor | None]:
        found: tuple[Tensor, Tensor] = self.network(inputs, self._stores, slot_tensor(slots, self._device))
        return found

    def forget(self, slots: list[int]) -> None:
        where = slot_tensor(slots, self._device)
        most = self.serving.slots + len(self._scratch)
        for store in self._stores.values():
            while store.slots <= max(slots):
                store.grow(min(2 * store.slots, most))
            store.clear(where)

    def undo(self, slots: list[int]) -> Callable[[], None]:
        where = slot_tensor(slots, self._device)
        kept = [(store, store.copy(where)) for store in self._stores.values()]

        def bring_back() -> None:
            for store, parts in kept:
                store.put(where, parts)

        return bring_back

    def memory_per_episode(self) -> int:
        return sum(store.bytes_per_slot() for store in self._stores.values())

    def dream_shape(self) -> tuple[int, ...]:
        imagination = self.network.imagination
        return () if imagination is None else imagination.world.noise_shape


def memoryvla(context: PolicyContext, **options: Any) -> MemoryVLAPolicy:
    """MemoryVLA for a suite. options: the keys of memoryvla.yaml."""
    return MemoryVLAPolicy(*build(context, MemoryVLANetwork, "memoryvla", options))


def memoryvla_plus(context: PolicyContext, **options: Any) -> MemoryVLAPolicy:
    """MemoryVLA+ (Dexbotic) for a suite: Qwen2.5 and CLIP. options: the keys of memoryvla_plus.yaml."""
    return MemoryVLAPolicy(*build(context, MemoryVLANetwork, "memoryvla_plus", options))


def memoryvla_pp(context: PolicyContext, **options: Any) -> MemoryVLAPolicy:
    """MemoryVLA++ for a suite: memory and imagination. options: the keys of memoryvla_pp.yaml."""
    return MemoryVLAPolicy(*build(context, MemoryVLANetwork, "memoryvla_pp", options))
