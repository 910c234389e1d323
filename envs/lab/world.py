"""One compiled lab scene and its state: what tasks place, paint, move and read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt

from envs.lab.hand import Hand
from envs.lab.parts import HAND, LOCKED, Colour, Parts, lab_xml

Vector = npt.NDArray[np.float64]

STILL = np.array([1.0, 0.0, 0.0, 0.0])


class World:
    """MuJoCo model and data of one set of parts, compiled once and brought back to the same start at every reset.

    A trial may change: qpos and qvel, mocap poses, controls, geom colours, and nothing else; `start` covers all of it.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.xml = lab_xml(parts)
        self.model: Any = mujoco.MjModel.from_xml_string(self.xml)
        self.data: Any = mujoco.MjData(self.model)
        self.hand = Hand(self.data, parts.hand_step)
        self._rgba = self.model.geom_rgba.copy()
        self._locked = False
        self._addresses: dict[tuple[str, str], int] = {}

    # ------------------------------------------------------------------ setting up a trial

    def reset(self) -> None:
        """Back to the compiled start: nothing of earlier trials is left, in the data or in the model."""
        mujoco.mj_resetData(self.model, self.data)
        self.model.geom_rgba[:] = self._rgba
        self._locked = False
        self.hand.start((0.0, 0.0, 0.2))

    def put(self, body: str, xyz: Sequence[float], yaw: float = 0.0) -> None:
        """Stand fixture `body` (mocap) at xyz, turned by yaw; also during an episode (a scripted mover)."""
        slot = self._address("mocap", body)
        self.data.mocap_pos[slot] = xyz
        self.data.mocap_quat[slot] = _turned(yaw)

    def lay(self, joint: str, xyz: Sequence[float], yaw: float = 0.0) -> None:
        """Lay the loose thing with free joint `joint` at xyz, turned by yaw, at rest."""
        at, v = self._address("qpos", joint), self._address("qvel", joint)
        self.data.qpos[at : at + 3] = xyz
        self.data.qpos[at + 3 : at + 7] = _turned(yaw)
        self.data.qvel[v : v + 6] = 0.0

    def paint(self, geom: str, colour: Colour) -> None:
        """Give a geom a colour, also during an episode (a lamp)."""
        self.model.geom_rgba[self._address("geom", geom), :3] = colour

    def unpaint(self, geom: str) -> None:
        """Give a geom back the colour it was made with (a lamp that goes out)."""
        at = self._address("geom", geom)
        self.model.geom_rgba[at] = self._rgba[at]

    def show_clutch(self, locked: bool) -> None:
        """Paint the palm: amber while commands are ignored."""
        if locked != self._locked:
            self._locked = locked
            self.paint("palm", LOCKED if locked else HAND)

    def settle(self, steps: int) -> None:
        """Let loose things come to rest for so many control steps with the hand held, then stop the clock."""
        mujoco.mj_step(self.model, self.data, steps * self.parts.substeps)
        self.data.qvel[:] = 0.0
        self.data.qacc_warmstart[:] = 0.0
        self.data.time = 0.0

    def ready(self) -> None:
        """Bring everything derived up to date."""
        mujoco.mj_forward(self.model, self.data)

    # ------------------------------------------------------------------ one control step

    def step(self) -> None:
        """One control step: the hand's joint targets run evenly to their goal, the fingers' are there at once.

        Kinematics are brought up to date at its end, so drawing changes nothing.
        """
        model, data, substeps = self.model, self.data, self.parts.substeps
        ctrl = data.ctrl[0:8]
        goal = np.array(self.hand.goal())
        stride = (goal - ctrl) / substeps
        stride[6:] = 0.0
        ctrl[6:] = goal[6:]
        for _ in range(substeps):
            ctrl += stride
            mujoco.mj_step(model, data)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)

    # ------------------------------------------------------------------ reading

    def place(self, joint: str) -> Vector:
        """Position of the loose thing with free joint `joint`, metres, [3]."""
        at = self._address("qpos", joint)
        found: Vector = self.data.qpos[at : at + 3].copy()
        return found

    def pose(self, joint: str) -> Vector:
        """Position and quaternion (w, x, y, z) of the loose thing with free joint `joint`, [7]."""
        at = self._address("qpos", joint)
        found: Vector = self.data.qpos[at : at + 7].copy()
        return found

    def velocity(self, joint: str) -> Vector:
        """Linear (m/s, world) and angular (rad/s, own frame) velocity of a free joint, [6]."""
        at = self._address("qvel", joint)
        found: Vector = self.data.qvel[at : at + 6].copy()
        return found

    def slide(self, joint: str) -> float:
        """Value of a one-number joint: metres or radians."""
        return float(self.data.qpos[self._address("qpos", joint)])

    def stand(self, body: str) -> Vector:
        """Where fixture `body` (mocap) stands, metres, [3]."""
        found: Vector = self.data.mocap_pos[self._address("mocap", body)].copy()
        return found

    def touching(self, one: str, other: str) -> bool:
        """Whether two geoms are in contact now."""
        pair = {self._address("geom", one), self._address("geom", other)}
        return any({int(a), int(b)} == pair for a, b in self.data.contact.geom)

    def parts_of_scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """Everything a trial may choose, and the scene it was chosen in, for the hash."""
        data = self.data
        yield "xml", self.xml
        for name in ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qacc_warmstart"):
            yield name, getattr(data, name).copy()
        yield "time", np.array(data.time)
        yield "geom_rgba", self.model.geom_rgba.copy()
        yield "hand_target", self.hand.target()

    def _address(self, kind: str, name: str) -> int:
        """Where the numbers of a named thing start; looked up once."""
        found = self._addresses.get((kind, name))
        if found is None:
            found = self._addresses[kind, name] = self._look_up(kind, name)
        return found

    def _look_up(self, kind: str, name: str) -> int:
        model = self.model
        if kind == "mocap":
            slot = int(model.body_mocapid[model.body(name).id])
            if slot < 0:
                raise KeyError(f"body {name!r} is no fixture (mocap body) of this scene")
            return slot
        if kind == "geom":
            return int(model.geom(name).id)
        joint = model.joint(name).id
        return int(model.jnt_qposadr[joint] if kind == "qpos" else model.jnt_dofadr[joint])


def _turned(yaw: float) -> Vector:
    """Quaternion (w, x, y, z) of a turn about the vertical, to 12 decimals: the last bit of a sine is the machine's."""
    return STILL if yaw == 0.0 else np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]).round(12)
