"""Pictures by ray casting: MuJoCo's own ray intersections, shaded from the surface normals it returns.

No OpenGL, no Vulkan, no threads. Everything after the intersections is elementwise float64 arithmetic in a fixed order
(no matrix products, whose sums depend on the machine's linear algebra), so a picture depends on the scene alone.
"""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from envs.lab.parts import FLOOR
from envs.spec import Image

LIGHT = (-0.3, -0.5, 0.8124038404635961)
"""Unit vector towards the light."""
AMBIENT, DIFFUSE = 0.50, 0.50
SHADOW_RADIUS = 0.025
"""Radius of the disc under the tip of the hand, metres: where it would land. Height can be read from it."""
SHADOW = 0.40
"""Brightness inside that disc."""
VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], dtype=np.uint8)


class RayCamera:
    """One camera of a model, drawn by ray casting as uint8 [size, size, 3]."""

    def __init__(self, model: Any, data: Any, name: str, size: int) -> None:
        self._model, self._data, self._size = model, data, size
        self._id = model.camera(name).id
        half = math.tan(math.radians(float(model.cam_fovy[self._id])) / 2)
        middle = (np.arange(size) + 0.5) / size * 2.0 - 1.0
        right, up = (grid.ravel() for grid in np.meshgrid(middle * half, -middle * half))
        length = np.sqrt(right * right + up * up + 1.0)
        self._rays = right / length, up / length, -1.0 / length
        count = size * size
        self._vec = np.empty((count, 3))
        self._geom = np.empty(count, dtype=np.int32)
        self._distance = np.empty(count)
        self._normal = np.empty((count, 3))

    def draw(self) -> Image:
        """The picture of the data's present positions (kinematics must be up to date)."""
        position = self._data.cam_xpos[self._id].copy()
        m = self._data.cam_xmat[self._id].tolist()
        across, up, back = self._rays
        for axis in range(3):
            self._vec[:, axis] = across * m[3 * axis] + up * m[3 * axis + 1] + back * m[3 * axis + 2]
        mujoco.mj_multiRay(
            self._model,
            self._data,
            position,
            self._vec.reshape(-1),
            VISIBLE_GROUPS,
            True,
            -1,
            self._geom,
            self._distance,
            self._normal.reshape(-1),
            self._size * self._size,
            mujoco.mjMAXVAL,
        )
        return self._shade(position.tolist())

    def _shade(self, eye: list[float]) -> Image:
        hit = self._geom >= 0
        normal, vec, distance = self._normal, self._vec, self._distance
        facing = normal[:, 0] * LIGHT[0] + normal[:, 1] * LIGHT[1] + normal[:, 2] * LIGHT[2]
        light = AMBIENT + DIFFUSE * np.maximum(facing, 0.0)
        light[self._shadowed(eye, vec, distance)] *= SHADOW
        light[~hit] = 1.0
        colours = np.vstack([self._model.geom_rgba[:, :3].astype(np.float64), FLOOR])  # a miss (-1) finds the last row
        shown = colours[self._geom] * light[:, None]
        picture: Image = (np.minimum(shown, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return picture.reshape(self._size, self._size, 3)

    def _shadowed(
        self, eye: list[float], vec: npt.NDArray[np.float64], distance: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """Points straight below the tip of the hand, bool [N]."""
        x, y, z = self._data.qpos[0:3].tolist()
        dx = eye[0] + vec[:, 0] * distance - x
        dy = eye[1] + vec[:, 1] * distance - y
        below = eye[2] + vec[:, 2] * distance < z - 0.004
        found: npt.NDArray[np.bool_] = (dx * dx + dy * dy < SHADOW_RADIUS**2) & below
        return found


class GLCamera:
    """The same view through OpenGL, for pretty videos; its pixels depend on the machine's driver."""

    def __init__(self, model: Any, data: Any, name: str, size: int) -> None:
        self._data, self._name = data, name
        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # whatever the GL stack of this machine raises
            raise RuntimeError(
                f"renderer=gl cannot open an OpenGL context ({error}); set MUJOCO_GL=egl or osmesa and install that "
                "library, or use renderer=ray, which needs none"
            ) from error

    def draw(self) -> Image:
        self._renderer.update_scene(self._data, camera=self._name)
        picture: Image = self._renderer.render().copy()
        return picture
