"""Pictures on demand: MuJoCo's renderer, set as robosuite sets it, on a second set of data.

The simulation is not touched: what is drawn is laid out in data of the painter's own, from the positions that the
simulation kept for the observation (see `simulation.Sample`). One OpenGL context serves a process; what depends on the
model (textures, meshes) is sent to it when the model changes. Several painters may share it, but robosuite's own
offscreen renderer beside them may not: it frees its textures in whatever context is current.
"""

from __future__ import annotations

import atexit
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.libero.simulation import Sample
from envs.libero.upstream import mujoco
from envs.spec import Image

MAX_GEOMS = 1000
"""Geoms in a picture, as robosuite has it."""


class Painter:
    """Draws one compiled model."""

    _context: Any = None

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """size: pixels. Raises RuntimeError when there is no OpenGL to draw with."""
        if Painter._context is None:
            try:
                Painter._context = mujoco.GLContext(640, 480)
            except Exception as error:
                raise RuntimeError(
                    f"nothing to draw with: {type(error).__name__}: {error}; `memvla doctor` names what is missing"
                ) from error
            atexit.register(Painter._context.free)  # left to the interpreter's end, it complains
        Painter._context.make_current()
        self._model, self._size = model, size
        if size > min(model.vis.global_.offwidth, model.vis.global_.offheight):
            model.vis.global_.offwidth = max(size, model.vis.global_.offwidth)
            model.vis.global_.offheight = max(size, model.vis.global_.offheight)
        self._data = mujoco.MjData(model)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        self._look = mujoco.MjvOption()
        self._look.geomgroup[0], self._look.geomgroup[1] = 0, 1  # not the collision hulls
        self._hand = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawer)

    def draw(self, sample: Sample, camera: str) -> Image:
        """The picture of a model camera, uint8 [size, size, 3], turned by 180 degrees as policies are trained on it.

        The renderer hands rows bottom first, so the turn leaves the picture upright but mirrored left to right.
        """
        model, data = self._model, self._data
        Painter._context.make_current()
        now = model.site_rgba.copy()
        model.site_rgba[:] = sample.site_rgba
        try:
            data.qpos[:] = sample.drawn_from
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_camlight(model, data)
            self._camera.fixedcamid = model.camera(camera).id
            everything = mujoco.mjtCatBit.mjCAT_ALL
            mujoco.mjv_updateScene(model, data, self._look, self._hand, self._camera, everything, self._scene)
        finally:
            model.site_rgba[:] = now
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawer)
        view = mujoco.MjrRect(0, 0, self._size, self._size)
        mujoco.mjr_render(view, self._scene, self._drawer)
        raw: npt.NDArray[np.uint8] = np.empty((self._size, self._size, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(raw, None, view, self._drawer)
        return np.ascontiguousarray(raw[::-1, ::-1])

    def close(self) -> None:
        """Free what the model takes in the OpenGL context, which stays for the next model."""
        Painter._context.make_current()
        self._drawer.free()
        del self._drawer, self._scene, self._data, self._model
