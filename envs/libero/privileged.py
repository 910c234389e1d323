"""What a perfect observer of the present would know, for scripted experts: poses, shapes, joints, goal.

Names are in the keys, numbers in the arrays (all float64, metres, radians, world frame, matrices row by row):

    gripper               [14]   position of the point between the fingertips 3, rotation matrix 9 (first axis: along
                                 which the fingers close, third: out of the hand), finger joints 2
    joints                [7]    the arm's joint angles
    boxes                 [N, 16] collision boxes of everything but the robot: body number, centre 3, rotation 9, half
                                 sizes 3 (shapes that are no boxes by their bounding box)
    object/<name>         [8]    movable object: body number, position 3, quaternion wxyz 4
    fixture/<name>        [8]    immovable one (its parts are bodies of their own)
    bodies/<name>         [k]    the body numbers an object or fixture consists of
    joint/<body>          [9]    hinge or slide of a fixture's part: kind (2 slide, 3 hinge), position, its axis 3 and
                                 anchor 3, body number
    range/<body>          [2]    its limits
    region/<name>         [15]   a named place: position 3, rotation 9, half sizes 3
    goal/<k>/<predicate>/<names...>  [1]  the k-th part of the goal, 1 where it holds now
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.libero.simulation import Simulation
from envs.libero.upstream import mujoco

BOX = int(mujoco.mjtGeom.mjGEOM_BOX)


class Onlooker:
    """Reads the privileged state of one compiled scene; what never changes is looked up once."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._model, self._data, self._env = simulation.model, simulation.data, simulation.env

    def look(self) -> dict[str, npt.NDArray[Any]]:
        """The state now."""
        data, robot = self._data, self._simulation.robot
        site = robot.eef_site_id
        fingers = data.qpos[robot._ref_gripper_joint_pos_indexes]
        seen: dict[str, npt.NDArray[Any]] = {
            "gripper": np.concatenate([data.site_xpos[site], data.site_xmat[site], fingers]),
            "base": data.body(robot.robot_model.root_body).xpos.copy(),
            "joints": data.qpos[robot._ref_joint_pos_indexes].copy(),
            "boxes": self._boxes(),
        }
        for kind, things in (("object", self._env.objects_dict), ("fixture", self._env.fixtures_dict)):
            for name in things:
                body = self._env.obj_body_id[name]
                seen[f"{kind}/{name}"] = np.concatenate([[body], data.xpos[body], data.xquat[body]])
                seen[f"bodies/{name}"] = self._bodies[name]
        for joint, body, part in self._joints:
            place = self._model.jnt_qposadr[joint]
            slide_or_hinge, position = float(self._model.jnt_type[joint]), float(data.qpos[place])
            seen[f"joint/{part}"] = np.array([slide_or_hinge, position, *data.xaxis[joint], *data.xanchor[joint], body])
            seen[f"range/{part}"] = self._model.jnt_range[joint].copy()
        for name, region in self._regions.items():
            size = np.asarray(self._env.object_sites_dict[name].size, dtype=np.float64)
            seen[f"region/{name}"] = np.concatenate([data.site_xpos[region], data.site_xmat[region], size])
        for k, atom in enumerate(self._env.parsed_problem["goal_state"]):
            seen["/".join(["goal", str(k), *atom])] = np.array([float(self._env._eval_predicate(atom))])
        return seen

    def _boxes(self) -> npt.NDArray[np.float64]:
        geoms, body, offset, half = self._shapes
        rotation = self._data.geom_xmat[geoms]
        centre = self._data.geom_xpos[geoms] + np.einsum("nij,nj->ni", rotation.reshape(-1, 3, 3), offset)
        return np.concatenate([body[:, None], centre, rotation, half], axis=1)

    @cached_property
    def _shapes(self) -> tuple[Any, Any, Any, Any]:
        """Geoms that collide and are not the robot's: their numbers, bodies, box centres in the geom, half sizes."""
        model = self._model
        solid = (model.geom_contype > 0) | (model.geom_conaffinity > 0)
        names = [model.body(body).name for body in range(model.nbody)]
        own = np.array([name.startswith(("robot0", "gripper0", "mount0")) for name in names])
        flat = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)
        geoms = np.flatnonzero(solid & ~own[model.geom_bodyid] & ~flat)
        box = (model.geom_type[geoms] == BOX)[:, None]
        offset = np.where(box, 0.0, model.geom_aabb[geoms, :3])
        half = np.where(box, model.geom_size[geoms], model.geom_aabb[geoms, 3:])
        return geoms, model.geom_bodyid[geoms].astype(np.float64), offset, half

    @cached_property
    def _bodies(self) -> dict[str, npt.NDArray[Any]]:
        model = self._model
        found: dict[str, npt.NDArray[Any]] = {}
        for name in [*self._env.objects_dict, *self._env.fixtures_dict]:
            inside = {self._env.obj_body_id[name]}
            for body in range(model.nbody):  # parents come before their children
                if int(model.body_parentid[body]) in inside:
                    inside.add(body)
            found[name] = np.array(sorted(inside), dtype=np.float64)
        return found

    @cached_property
    def _joints(self) -> list[tuple[int, int, str]]:
        model = self._model
        parts = {int(body) for name in self._env.fixtures_dict for body in self._bodies[name]}
        found = [(joint, int(model.jnt_bodyid[joint])) for joint in range(model.njnt)]
        return [(joint, body, model.body(body).name) for joint, body in found if body in parts]

    @cached_property
    def _regions(self) -> dict[str, int]:
        return {name: self._model.site(name).id for name in self._env.object_sites_dict}
