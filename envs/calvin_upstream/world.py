"""The original's world behind the interface of ours: it moves, we look."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from envs.calvin.bullet import Bullet
from envs.calvin.table import Table
from envs.calvin.world import Array, World
from envs.calvin_upstream.source import build


class UpstreamTable(Table):
    """The original's play table: its lamps, button and switch are asked what they know."""

    def __init__(self, bullet: Bullet, scene: Any) -> None:
        self._bullet, self._upstream = bullet, scene
        self.body = scene.fixed_objects[0].uid
        joints = [bullet.getJointInfo(self.body, k) for k in range(bullet.getNumJoints(self.body))]
        self.links = {joint[12].decode(): k for k, joint in enumerate(joints)} | {"base_link": -1}
        self._joints = {joint[1].decode(): k for k, joint in enumerate(joints)}

    def observation(self) -> tuple[float, float, float, float, float, float]:
        slider, drawer, button, switch, bulb, led = (float(number) for number in self._upstream.get_obs()[:6])
        return slider, drawer, button, switch, bulb, led

    def hidden(self) -> list[float]:
        (button,), (switch,) = self._upstream.buttons, self._upstream.switches
        lamps = [float(light.get_state()) for light in self._upstream.lights]
        return [*lamps, float(button.state.value), float(button.prev_is_pressed), float(switch.state.value)]


class UpstreamWorld(World):
    """One PlayTableSimEnv of the original. Its numbers are its own; nothing of our physics runs."""

    def __init__(self, assets: Path, scene: str, source: Path) -> None:
        self._assets, self._scene = assets, scene
        with redirect_stdout(io.StringIO()):
            self._env = build(source, assets, scene)
        self.bullet = Bullet(self._env.cid)
        self.gripper = 1

    def close(self) -> None:
        """Free the world."""
        env = self._env
        if env.ownsPhysicsClient:
            self.bullet.close()
            env.ownsPhysicsClient = False  # its destructor would close a client that may be another's by then
            env.p._client = -1

    def reset(self, robot: Array, scene: Array) -> None:
        if robot.shape != (15,) or scene.shape != (24,):
            raise ValueError(f"a start is robot_obs [15] and scene_obs [24], got {robot.shape} and {scene.shape}")
        self._load()
        self._env.reset(robot_obs=robot, scene_obs=scene)
        self._read()

    def _load(self) -> None:
        """As in a fresh process: the original's reset would leave contacts and gripper as the last episode had them."""
        env = self._env
        env.seed(0)
        env.scene.np_random = env.np_random
        env.robot.gripper_action = 1
        env.load()
        bullet = self.bullet
        self.robot = env.robot.robot_uid
        self.blocks = {block.name.removeprefix("block_"): block.uid for block in env.scene.movable_objects}
        self.table = UpstreamTable(bullet, env.scene)
        links = [bullet.getJointInfo(self.robot, k)[12].decode() for k in range(bullet.getNumJoints(self.robot))]
        self._camera = links.index("gripper_cam")

    def step(self, action: npt.NDArray[np.floating]) -> None:
        told = np.array(action)
        told[6] = 1 if told[6] > 0 else -1
        self._env.step(told)
        self._read()

    def step_to(self, action: npt.NDArray[np.floating]) -> None:
        self._env.step((action[:3], action[3:6], 1 if action[6] > 0 else -1))
        self._read()

    def _read(self) -> None:
        robot = self._env.robot
        self.gripper = int(robot.gripper_action)
        self.target_position, self.target_euler = np.array(robot.target_pos), np.array(robot.target_orn)

    def robot_obs(self) -> Array:
        found: Array = self._env.get_state_obs()["robot_obs"]
        return found

    def scene_obs(self) -> Array:
        found: Array = self._env.get_state_obs()["scene_obs"]
        return found
