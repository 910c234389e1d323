"""Upstream as its own evaluation runs it, slowly: what our adapter is compared with."""

from __future__ import annotations

import importlib
from typing import Any

from envs.libero_plus import upstream, variants
from tests.envs.libero.reference import Reference


class PlusReference(Reference):
    """One variant in upstream's environment, which reads the perturbation off the name of its problem file."""

    def __init__(self, name: str, *, pictures: bool) -> None:
        variant = variants.of_name(name)
        upstream.use_assets(None)
        wrapper = importlib.import_module(f"{upstream.PACKAGE}.envs.env_wrapper")
        make = wrapper.OffScreenRenderEnv if pictures else wrapper.ControlEnv
        options: dict[str, Any] = {} if pictures else {"use_camera_obs": False, "has_offscreen_renderer": False}
        named = upstream.problem_file(variant).with_name(f"{name}.bddl")
        self.states = upstream.states(variant)
        self.env = make(bddl_file_name=str(named), camera_heights=256, camera_widths=256, **options)
        self.env.seed(0)
        self.trial = 0

    def state_of_trial(self) -> Any:
        return self.states[self.trial]
