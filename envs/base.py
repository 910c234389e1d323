"""VLAEnv: the one interface every simulator stands behind.

An adapter subclasses it and fills in the hooks at the end of the class (`load`, `advance`, `draw` ...); addressing of
scenes, chunks, frames on demand, hashing and the Gymnasium interface are written once, here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from envs.spec import Advance, EnvSpec, Floats, Image, Observation, StepResult


class SceneError(RuntimeError):
    """A scene could not be set up; the message names the scene and the cause."""


class VLAEnv(gymnasium.Env[dict[str, Any], npt.NDArray[np.float32]]):
    """A simulator with one robot, addressed by (task, trial), drawing only what is asked for.

    `reset(seed, options={"task": name, "trial": k})` is the only way to a scene. The same pair and seed give the same
    `scene_hash()` whatever ran before. There is no automatic reset.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as Gymnasium declares it
    render_mode = "rgb_array"

    def __init__(self, env_spec: EnvSpec) -> None:
        self.env_spec = env_spec
        self._cameras = tuple(camera.name for camera in env_spec.cameras)
        self._privileged = False
        self._step = 0
        self._hash = ""
        self._ready = False
        self._observation: Observation | None = None
        limit = np.inf if env_spec.action.limit is None else env_spec.action.limit
        bound = np.full(env_spec.action.dim, limit, dtype=np.float32)
        grip = env_spec.action.gripper
        low, high = -bound, bound.copy()
        low[-1], high[-1] = min(grip.open, grip.closed), max(grip.open, grip.closed)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self._spaces: dict[tuple[str, ...], gymnasium.spaces.Dict] = {}
        self.observation_space = self._space()

    # ------------------------------------------------------------------ what the engine calls

    def select(self, cameras: Sequence[str] | None = None, *, privileged: bool = False) -> None:
        """Choose what observations carry from now on: these cameras (None: all), and simulator state or not.

        Raises KeyError for a camera the environment does not have, ValueError where there is no privileged state.
        """
        names = tuple(c.name for c in self.env_spec.cameras) if cameras is None else tuple(cameras)
        for name in names:
            self.env_spec.camera(name)
        if privileged and not self.env_spec.privileged:
            raise ValueError(f"{self.env_spec.benchmark} offers no privileged state")
        self._cameras, self._privileged = names, privileged
        self._observation = None
        self.observation_space = self._space()

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set up the scene (task, trial) and return its first observation.

        seed: the protocol's scene seed (0 when None). options: `task` (str) and `trial` (int >= 0). Raises SceneError
        when the scene cannot be set up.
        """
        options = dict(options or {})
        unknown = set(options) - {"task", "trial"}
        if unknown or "task" not in options:
            raise SceneError(f"reset needs options={{'task': name, 'trial': k}}, was given {sorted(options)}")
        task, trial = str(options["task"]), int(options.get("trial", 0))
        if trial < 0:
            raise SceneError(f"trial must be 0 or more, was {trial}")
        self._ready = False
        self._step, self._observation = 0, None
        super().reset(seed=seed)
        self.load(task, trial, 0 if seed is None else seed)
        self._hash = _digest(self.scene())
        self._ready = True
        return self.observe().as_dict(), {"scene_hash": self._hash, "task": task, "trial": trial}

    def step_chunk(
        self,
        actions: npt.ArrayLike,
        *,
        stop_on_done: bool = True,
        every_frame: bool = False,
        film_every: int = 0,
    ) -> StepResult:
        """Take the steps of one action chunk [T, A] (or fewer), drawing only what is asked for.

        stop_on_done: stop at the first step after which the success rule holds. A terminated episode and a changed
        instruction always stop it. every_frame: keep the observation after every step. film_every: keep the main
        camera's picture every so many steps (0: never).
        """
        self._need_scene()
        chunk = np.asarray(actions, dtype=np.float32)
        if chunk.ndim != 2 or chunk.shape[1] != self.env_spec.action.dim or len(chunk) == 0:
            raise ValueError(f"actions must be [T, {self.env_spec.action.dim}] with T >= 1, got {list(chunk.shape)}")
        frames: list[tuple[int, Image]] = []
        observations: list[Observation] = []
        success_once = False
        for taken, action in enumerate(chunk, start=1):
            did = self.advance(action)
            self._step += 1
            self._observation = None
            success_once = success_once or did.success
            if film_every and self._step % film_every == 0:
                frames.append((self._step, self.draw(self.env_spec.cameras[0].name)))
            stop = did.terminated or did.instruction_changed or (stop_on_done and did.success)
            if stop or taken == len(chunk):
                break
            if every_frame:
                observations.append(self.observe())
        return StepResult(
            steps=taken,
            success=did.success,
            success_once=success_once,
            terminated=did.terminated,
            instruction_changed=did.instruction_changed,
            frames=frames,
            observations=observations,
        )

    def observe(self) -> Observation:
        """The present observation; drawn at most once per step."""
        self._need_scene()
        if self._observation is None:
            self._observation = Observation(
                images={name: self.draw(name) for name in self._cameras},
                state=self.state(),
                instruction=self.instruction(),
                step=self._step,
                privileged=self.privileged() if self._privileged else None,
            )
        return self._observation

    def scene_hash(self) -> str:
        """Hex digest of everything that makes the start of this episode what it is."""
        self._need_scene()
        return self._hash

    def state_hash(self) -> str:
        """The same digest of the present state: two episodes that agree in it have gone the same way."""
        self._need_scene()
        return _digest(self.scene())

    # ------------------------------------------------------------------ Gymnasium

    def step(self, action: npt.NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step in Gymnasium's form; reward 1 while the success rule holds. Never truncates."""
        result = self.step_chunk(np.asarray(action)[None])
        info = {"success": result.success, "instruction_changed": result.instruction_changed, **self.metrics()}
        done = result.success or result.terminated
        return self.observe().as_dict(), float(result.success), done, False, info

    def render(self) -> Image:
        """The main camera's picture, uint8 [H, W, 3]."""
        self._need_scene()
        name = self.env_spec.cameras[0].name
        known = self._observation.images if self._observation else {}
        return known[name] if name in known else self.draw(name)

    def _space(self) -> gymnasium.spaces.Dict:
        """Kept, since every episode selects again and Gymnasium spends milliseconds on a space of texts."""
        if self._cameras not in self._spaces:
            self._spaces[self._cameras] = self._new_space()
        return self._spaces[self._cameras]

    def _new_space(self) -> gymnasium.spaces.Dict:
        spaces = gymnasium.spaces
        cameras: dict[str, gymnasium.Space[Any]] = {
            name: spaces.Box(0, 255, (c.height, c.width, 3), np.uint8)
            for name, c in ((n, self.env_spec.camera(n)) for n in self._cameras)
        }
        found: dict[str, gymnasium.Space[Any]] = {
            "images": spaces.Dict(cameras),
            "instruction": spaces.Text(1000, charset=frozenset(map(chr, range(32, 0x2100)))),
        }
        if self.env_spec.state:
            found["state"] = spaces.Box(-np.inf, np.inf, (len(self.env_spec.state),), np.float32)
        return spaces.Dict(found)

    def _need_scene(self) -> None:
        if not self._ready:
            raise RuntimeError("no scene: call reset(seed=..., options={'task': ..., 'trial': ...}) first")

    # ------------------------------------------------------------------ what an adapter fills in

    def load(self, task: str, trial: int, seed: int) -> None:
        """Put the simulator at the start of (task, trial), settle steps included. Raises SceneError."""
        raise NotImplementedError

    def advance(self, action: Floats) -> Advance:
        """Take one control step with `action`, float32 [A] in the units of `env_spec.action`; draw nothing."""
        raise NotImplementedError

    def draw(self, camera: str) -> Image:
        """The picture of `camera` now, a fresh contiguous uint8 [H, W, 3]. Must not change the simulation."""
        raise NotImplementedError

    def instruction(self) -> str:
        """The sentence in force."""
        raise NotImplementedError

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Named parts that make the present state what it is: positions, velocities and every model field that a
        reset may choose (fixture poses, sizes, colours, lights, textures), and hidden task variables."""
        raise NotImplementedError

    def state(self) -> Floats | None:
        """Proprioception, float32 [len(env_spec.state)], or None."""
        return None

    def privileged(self) -> dict[str, npt.NDArray[Any]]:
        """Simulator state for experts: what a perfect observer of the *present* would know, nothing of the past."""
        raise NotImplementedError

    def judged(self, success: bool) -> bool:
        """Called once at the end of an episode: whether it succeeded, where the simulator's own rule found `success`.
        Only where a person decides does this differ. It may raise: the attempt is then void."""
        return success

    def interrupted(self) -> None:
        """The episode was broken off by a fault elsewhere: bring to rest whatever moves."""

    def metrics(self) -> dict[str, float]:
        """Numbers about the episode so far, for the record: `score` in [0, 1], choices, subtask lengths ..."""
        return {}


def _digest(parts: Iterable[tuple[str, npt.ArrayLike | str]]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, so that equal numbers in other places do not look equal."""
    digest = hashlib.sha256()
    for name, value in parts:
        if isinstance(value, str):
            digest.update(f"{name}|str|{value}\n".encode())
            continue
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"scene part {name!r} is not numeric")
        digest.update(f"{name}|{array.dtype.str}|{array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
