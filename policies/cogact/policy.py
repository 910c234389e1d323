"""CogACT as a policy of the engine."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from policies.base import PolicyContext
from policies.cogact.model import CogACTNetwork
from policies.vla.build import build
from policies.vla.model import Inputs
from policies.vla.policy import VLAPolicy


class CogACTPolicy(VLAPolicy[CogACTNetwork]):
    """No memory: what it does depends on the present frame alone (and, with the ensemble, on its last chunks)."""

    def condition(self, inputs: Inputs, slots: list[int]) -> tuple[Tensor, Tensor | None]:
        found: tuple[Tensor, Tensor | None] = self.network(inputs)
        return found


def cogact(context: PolicyContext, **options: Any) -> CogACTPolicy:
    """CogACT for a suite. options: the keys of cogact.yaml."""
    return CogACTPolicy(*build(context, CogACTNetwork, "cogact", options))
