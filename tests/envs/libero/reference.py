"""Upstream as the reference evaluation runs it, slowly and serially: what our adapter is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from envs.libero.adapter import SETTLE, SETTLE_STEPS
from envs.libero.upstream import libero, task_files


class Reference:
    """One task in upstream's environment: hard resets, every observable after every step, seeded once (with 0)."""

    def __init__(self, suite: str, task: str, *, pictures: bool) -> None:
        self.files = task_files(suite, task)
        wrapper = libero().env_wrapper
        make = wrapper.OffScreenRenderEnv if pictures else wrapper.ControlEnv
        options = {} if pictures else {"use_camera_obs": False, "has_offscreen_renderer": False}
        self.env = make(bddl_file_name=str(self.files.problem), camera_heights=256, camera_widths=256, **options)
        self.env.seed(0)
        self.trial = 0

    def next_episode(self) -> dict[str, Any]:
        """The next trial's first observation, settle steps included."""
        self._own_context()
        self.env.env.reset()  # not the wrapper's: it hides every error
        self.env.set_init_state(self.state_of_trial())
        self.trial += 1
        for _ in range(SETTLE_STEPS):
            observation = self.step(SETTLE)[0]
        return observation

    def state_of_trial(self) -> Any:
        """The initial state of the next trial."""
        return self.files.states[self.trial]

    def step(self, action: Any) -> tuple[dict[str, Any], bool]:
        self._own_context()
        observation, _, done, _ = self.env.step(list(action))
        return observation, bool(done)

    @property
    def model(self) -> Any:
        return self.env.sim.model._model

    @property
    def data(self) -> Any:
        return self.env.sim.data._data

    def close(self) -> None:
        self._own_context()
        self.env.close()

    def _own_context(self) -> None:
        """Its renderer draws and frees in whatever OpenGL context is current: make that its own."""
        if self.env.sim._render_context_offscreen is not None:
            self.env.sim._render_context_offscreen.gl_ctx.make_current()


def state_of(data: Any) -> npt.NDArray[np.float64]:
    """Time, positions, velocities, controls, solver's start."""
    return np.concatenate([[data.time], data.qpos, data.qvel, data.ctrl, data.qacc_warmstart])


def model_arrays(model: Any) -> dict[str, npt.NDArray[Any]]:
    """Every array of a compiled model, by name."""
    found = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def random_actions(count: int, seed: int = 1) -> npt.NDArray[np.float32]:
    """Actions that move the arm, open and close the gripper and touch things: float32 [count, 7]."""
    random = np.random.default_rng(seed)
    drift = np.repeat(random.uniform(-1, 1, (count // 10 + 1, 7)), 10, axis=0)[:count]
    drift[:, 2] -= 0.3
    return np.clip(drift + random.uniform(-0.3, 0.3, (count, 7)), -1, 1).astype(np.float32)
