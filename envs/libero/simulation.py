"""One LIBERO problem as a simulation that restarts warm and steps fast, bit for bit as upstream would.

What upstream does in one control step of 50 ms, 25 times: forward, controller (which calls forward again), step,
update of every observable. Here: the first half of MuJoCo's step, controller, the second half; the same numbers come
out, since the halves compute what the two forward calls computed (proven by tests/envs/libero/test_fidelity.py, as is
everything said below). What upstream reports as the observation of a control step is not its end, though: robosuite's
observables are sampled on their own 20 Hz clock, which two forced updates at the reset put out of step with the control
loop, so they show the state one or two substeps before the end. `SamplingClock` follows that clock, and `Simulation`
keeps what it would have seen.
"""

from __future__ import annotations

import gc
import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.base import SceneError
from envs.libero.upstream import Doubles, libero, mujoco

SUBSTEPS = 25
"""MuJoCo steps of 2 ms in one control step of 50 ms."""
PLACEMENT_TRIES = 8
"""How often upstream's random placement of objects may fail before that is an error (upstream: for ever)."""
CHOSEN = ("body_pos", "body_quat", "site_rgba")
"""Model fields that a reset or an episode writes; a test holds that there are no others."""


class SamplingClock:
    """When robosuite's observables (20 Hz, no delay) take a new sample, in the same floating-point arithmetic."""

    PERIOD = 1.0 / 20
    SUBSTEP = 0.002

    def __init__(self) -> None:
        """As it stands after a reset and the setting of an initial state: two forced updates."""
        self.since = 2 * self.SUBSTEP
        self.sampled = True

    def tick(self) -> bool:
        """One substep has passed; whether a sample is taken now."""
        self.since += self.SUBSTEP
        due = not self.sampled and self.since <= self.PERIOD
        self.sampled = self.sampled or due
        if self.since >= self.PERIOD:
            due = due or not self.sampled
            self.since %= self.PERIOD
            self.sampled = False
        return due


@dataclass(frozen=True)
class Sample:
    """What the observables saw: the gripper's position [3], quaternion xyzw [4] and finger joints [2], and what a
    picture of that moment is drawn from (positions [nq] and site colours [nsite, 4])."""

    position: Doubles
    quaternion: Doubles
    fingers: Doubles
    drawn_from: Doubles
    site_rgba: npt.NDArray[np.float32]


class Simulation:
    """The compiled scene of one bddl problem. Nothing is drawn here, and no OpenGL context is made."""

    def __init__(self, problem: Path, seed: int = 0) -> None:
        """Compile. `seed` fixes what construction draws at random, which the first `restart` replaces.

        Raises SceneError with the cause: upstream's own way of building an environment would retry for ever.
        """
        self.problem = problem
        try:
            with borrowed_generators():
                self.env = self._build(problem, seed)
        except SceneError:
            raise
        except Exception as error:
            raise SceneError(f"{problem.name} cannot be built: {type(error).__name__}: {error}") from error
        self.model: mujoco.MjModel = self.env.sim.model._model
        self.data: mujoco.MjData = self.env.sim.data._data
        self._compiled = {name: getattr(self.model, name).copy() for name in CHOSEN}
        self._initializers = list(self.env.object_property_initializers)
        self._generators: dict[int, list[Any]] = {}
        self.model_digest = _model_digest(self.model)
        self.robot = self.env.robots[0]
        if self.model.opt.timestep != SamplingClock.SUBSTEP or self.env.control_freq != 20:
            raise SceneError(f"{problem.name}: not a scene of 2 ms substeps controlled at 20 Hz")

    def upstream(self) -> ModuleType:
        """The package that knows the problems; a relative of LIBERO has its own."""
        return libero()

    def options(self) -> dict[str, Any]:
        """What its environments are told besides what is the same for all."""
        return {"robots": ["Panda"]}

    def _build(self, problem: Path, seed: int) -> Any:
        envs = self.upstream()
        import robosuite
        from robosuite.utils.errors import RandomizationError

        if not problem.is_file():
            raise SceneError(f"bddl file {problem} is missing")
        info = envs.env_wrapper.BDDLUtils.get_problem_info(str(problem))
        make = envs.TASK_MAPPING[info["problem_name"]]
        _seed_globals(seed)
        for _ in range(PLACEMENT_TRIES):
            try:
                return make(
                    str(problem),
                    **self.options(),
                    controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
                    initialization_noise=None,
                    use_camera_obs=False,
                    has_offscreen_renderer=False,
                    hard_reset=False,
                    ignore_done=True,
                )
            except RandomizationError:
                continue
        raise SceneError(f"{problem.name}: no valid placement of its objects in {PLACEMENT_TRIES} tries")

    # ------------------------------------------------------------------ starting

    def restart(self, state: Doubles, seed: int, ordinal: int) -> None:
        """Stand at an initial state [1 + nq + nv], with the fixtures of the `ordinal`-th reset after `seed`.

        The initial state does not hold the poses of fixtures (cabinet, stove ...): upstream draws them at every reset
        from NumPy's global generator, which the reference evaluation seeds once per task. So the fixtures of trial k
        are those of the k-th reset after seeding; they are drawn again here, whatever ran before.
        """
        expected = 1 + self.model.nq + self.model.nv
        if state.shape != (expected,):
            raise SceneError(f"{self.problem.name}: initial state has shape {list(state.shape)}, expected [{expected}]")
        try:
            with borrowed_generators():
                self._draw_scene(seed, ordinal)
        except SceneError:
            raise
        except Exception as error:
            raise SceneError(f"{self.problem.name} cannot be reset: {type(error).__name__}: {error}") from error
        env = self.env
        env.sim.forward()
        env.visualize(vis_settings=dict.fromkeys(env._visualizations, False))
        env.sim.set_state_from_flattened(state)
        env.sim.forward()
        env._check_success()
        env._post_process()
        self.clock = SamplingClock()
        self.sample = self._sample(self.data.qpos.copy())

    def _draw_scene(self, seed: int, ordinal: int) -> None:
        """Reset upstream's environment `ordinal` + 1 times, all but the last without dynamics."""
        states = self._generators.setdefault(seed, [])
        if not states:
            _seed_globals(seed)
            states.append(np.random.get_state())
        np.random.set_state(states[min(ordinal, len(states) - 1)])
        random.seed(seed)
        with self._forward_silenced():
            for k in range(len(states) - 1, ordinal):
                self._reset_upstream(k)
                states.append(np.random.get_state())
        self._reset_upstream(ordinal)

    def _reset_upstream(self, ordinal: int) -> None:
        """What upstream's hard reset does, without compiling again.

        That reset also lists the samplers of joint positions (open, turned on ...) once more each time, the new ones
        last, and runs them all: the numbers they draw move what is drawn after them.
        """
        from robosuite.utils.errors import RandomizationError

        env = self.env
        env.object_property_initializers = self._initializers * (ordinal + 2)
        for _ in range(PLACEMENT_TRIES):
            for name, value in self._compiled.items():
                getattr(self.model, name)[:] = value
            self.robot.gripper.current_action = np.zeros(self.robot.gripper.dof)
            env.sim.reset()
            try:
                env._reset_internal()
                return
            except RandomizationError:
                env.object_property_initializers = env.object_property_initializers + self._initializers
        raise SceneError(f"{self.problem.name}: no valid placement of its objects in {PLACEMENT_TRIES} tries")

    # ------------------------------------------------------------------ stepping

    def step(self, action: Sequence[float]) -> bool:
        """One control step (50 ms) with `action` [7]; whether the success rule holds after it."""
        model, data, env = self.model, self.data, self.env
        with self._forward_silenced():
            for substep in range(SUBSTEPS):
                mujoco.mj_step1(model, data)
                env._pre_action(action, substep == 0)
                due = self.clock.tick()
                before = data.qpos.copy() if due else None
                mujoco.mj_step2(model, data)
                if before is not None:
                    self.sample = self._sample(before)
        success = bool(env._check_success())
        env._post_process()
        return success

    def success(self) -> bool:
        """Whether the success rule holds now."""
        return bool(self.env._check_success())

    def _sample(self, drawn_from: Doubles) -> Sample:
        robot, data = self.robot, self.data
        body = self.model.body(robot.robot_model.eef_name).id
        w, x, y, z = data.xquat[body]
        return Sample(
            position=data.site_xpos[robot.eef_site_id].copy(),
            quaternion=np.array([x, y, z, w]),
            fingers=np.array([data.qpos[k] for k in robot._ref_gripper_joint_pos_indexes]),
            drawn_from=drawn_from,
            site_rgba=self.model.site_rgba.copy(),
        )

    @contextmanager
    def _forward_silenced(self) -> Iterator[None]:
        """The controller refreshes the simulation before it reads it; here it is fresh already."""
        self.env.sim.forward = lambda: None
        try:
            yield
        finally:
            del self.env.sim.forward

    # ------------------------------------------------------------------ looking

    def parts(self) -> Iterator[tuple[str, npt.ArrayLike | str]]:
        """Everything that fixes what happens from here on, for the scene hash."""
        data, controller = self.data, self.robot.controller
        yield "model", self.model_digest
        for name in CHOSEN:
            yield name, getattr(self.model, name)
        for name in ("qpos", "qvel", "act", "ctrl", "qacc_warmstart", "mocap_pos", "mocap_quat"):
            yield name, getattr(data, name)
        yield "time", np.float64(data.time)
        yield "gripper_command", self.robot.gripper.current_action
        yield "goal_position", controller.goal_pos
        yield "goal_rotation", controller.goal_ori
        yield "rest_joints", controller.initial_joint

    def close(self) -> None:
        """Free the model, its textures and meshes."""
        self.env.close()
        del self.model, self.data, self.env, self.robot
        gc.collect()


@contextmanager
def borrowed_generators() -> Iterator[None]:
    """The global generators, which upstream draws from, given back to whoever else uses them in this process."""
    kept, kept_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)


def _seed_globals(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)


def _model_digest(model: mujoco.MjModel) -> str:
    """SHA-256 of every array of a compiled model: meshes, textures, masses, lights, cameras, options. Where its files
    lie is not in it."""
    digest = hashlib.sha256()
    for owner, prefix in (
        (model, ""),
        (model.opt, "opt."),
        (model.vis.headlight, "headlight."),
        (model.vis.map, "map."),
    ):
        for name in sorted(dir(owner)):
            if name.startswith("_") or name in ("paths", "npaths", "nbuffer") or name.endswith("_pathadr"):
                continue  # where files lie, and the room that those names take, is the machine's and not the scene's
            value = getattr(owner, name)
            if isinstance(value, np.ndarray):
                digest.update(f"{prefix}{name}|{value.dtype.str}|{value.shape}\n".encode())
                digest.update(np.ascontiguousarray(value).data)
            elif isinstance(value, (bytes, int, float)):
                digest.update(f"{prefix}{name}|{value!r}\n".encode())
    return digest.hexdigest()
