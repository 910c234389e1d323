"""CalvinUpstreamEnv: CALVIN's chains on the original simulator. See `envs.calvin_upstream.make`."""

from __future__ import annotations

from pathlib import Path

from envs.calvin.adapter import CalvinEnv
from envs.calvin.world import World
from envs.calvin_upstream.world import UpstreamWorld


class CalvinUpstreamEnv(CalvinEnv):
    """As `CalvinEnv`; `source` is the checkout whose code moves the world. One in a process: some of the original's
    calls name no client."""

    source: Path

    def build(self, assets: Path, scene: str) -> World:
        return UpstreamWorld(assets, scene, self.source)
