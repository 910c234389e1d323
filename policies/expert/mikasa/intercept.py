"""The expert that turns a rolling ball towards a target."""

from __future__ import annotations

from policies.expert.mikasa.recall import Action, Seen, stay


class Intercept:
    """Get behind the ball, on the side away from the target, and push it over."""

    def act(self, seen: Seen) -> Action:
        return stay(grip=-1.0)
