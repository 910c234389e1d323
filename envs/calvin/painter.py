"""Painter: the two pictures of CALVIN, drawn when asked for (mees/calvin_env, camera/)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from envs.calvin import layout
from envs.calvin.world import World
from envs.spec import EnvSpec, Image


class Painter:
    """Draws the world as it stands, with PyBullet's software renderer or through EGL. The world is not changed."""

    def __init__(self, world: World, env_spec: EnvSpec, renderer: str) -> None:
        self._world, self._spec = world, env_spec
        bullet = world.bullet
        if renderer == "egl":
            _load_egl(world)
        self._renderer = bullet.ER_BULLET_HARDWARE_OPENGL if renderer == "egl" else bullet.ER_TINY_RENDERER

    def draw(self, camera: str) -> Image:
        """The picture of `camera`, uint8 [H, W, 3]."""
        spec = self._spec.camera(camera)
        field, near, far = layout.LENSES[camera]
        bullet = self._world.bullet
        width, height, pixels, _, _ = bullet.getCameraImage(
            width=spec.width,
            height=spec.height,
            viewMatrix=self._view(camera),
            projectionMatrix=bullet.computeProjectionMatrixFOV(fov=field, aspect=1, nearVal=near, farVal=far),
            renderer=self._renderer,
            flags=bullet.ER_NO_SEGMENTATION_MASK,
        )
        image = np.reshape(np.asarray(pixels, dtype=np.uint8), (height, width, 4))
        return np.ascontiguousarray(image[:, :, :3])

    def _view(self, camera: str) -> Any:
        bullet = self._world.bullet
        if camera == "static":
            return bullet.computeViewMatrix(**layout.STATIC_CAMERA)
        position, quaternion = self._world.camera_pose()
        axes = np.array(bullet.getMatrixFromQuaternion(quaternion)).reshape(3, 3)
        return bullet.computeViewMatrix(position, position + axes[:, 1], -axes[:, 2])


def _load_egl(world: World) -> None:
    found = importlib.util.find_spec("eglRenderer")
    file = str(Path(found.origin)) if found and found.origin else "eglRendererPlugin"
    plugin = world.bullet.loadPlugin(file, "_eglRendererPlugin")
    if plugin < 0:
        raise RuntimeError("PyBullet's EGL renderer did not start: is libEGL there? Else take env.renderer=tiny")
