"""The scripted expert of CALVIN: real motion of the arm through the benchmark's relative actions."""

from __future__ import annotations

from policies.expert.calvin.script import CalvinScript

__all__ = ["CalvinScript"]
