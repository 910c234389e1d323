"""World: the play table, the blocks and the arm in PyBullet. Same numbers as the original simulator, to the last bit.

Everything here that looks arbitrary (what is loaded first, what is set twice) is an order of calls that the original
has and that its numbers depend on (mees/calvin_env).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from envs.calvin import layout
from envs.calvin.bullet import Bullet
from envs.calvin.snapshot import Block, Snapshot
from envs.calvin.table import Table

Array = npt.NDArray[np.float64]


class World:
    """One play table with its arm. `reset`, then `step` (or `step_to`); nothing is drawn here.

    Every reset loads the world anew: PyBullet keeps contacts and order of a used one, and trajectories then depend on
    what ran before.
    """

    def __init__(self, assets: Path, scene: str) -> None:
        self._assets, self._scene = assets, scene
        self.bullet = Bullet()
        self.gripper = 1

    def close(self) -> None:
        """Free the world."""
        self.bullet.close()

    # ------------------------------------------------------------------ set up

    def reset(self, robot: Array, scene: Array) -> None:
        """Stand the world at `robot_obs` [15] and `scene_obs` [24, blocks in the scene's own order]; see `robot_obs`
        and `scene_obs`. One simulation step is taken, as the original does."""
        if robot.shape != (15,) or scene.shape != (24,):
            raise ValueError(f"a start is robot_obs [15] and scene_obs [24], got {robot.shape} and {scene.shape}")
        self._load()
        self.table.reset(scene)
        for k, body in enumerate(self.blocks.values()):
            pose = scene[6 + 6 * k : 12 + 6 * k]
            orientation = self.bullet.getQuaternionFromEuler(pose[3:])
            self.bullet.resetBasePositionAndOrientation(body, pose[:3], orientation)
        self._place_arm(robot[7:14], float(robot[6]) / 2)
        self.bullet.stepSimulation()

    def _load(self) -> None:
        bullet = self.bullet
        bullet.resetSimulation()
        bullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
        bullet.setTimeStep(1.0 / layout.PHYSICS_HZ)
        bullet.resetSimulation()  # the original sets parameters first and clears the world after
        bullet.setGravity(0, 0, layout.GRAVITY)
        self._load_arm()
        self.blocks = self._load_blocks()
        self.table = Table(bullet, self._assets, self._scene)
        bullet.loadURDF(str(self._assets / "plane" / "plane.urdf"))
        self.gripper = 1

    def _load_blocks(self) -> dict[str, int]:
        # A reset moves them, yet PyBullet's order of contacts remembers where they were first; the original puts them
        # at random places drawn with seed 0.
        random, places = np.random.default_rng(0), layout.SURFACES[self._scene]
        blocks = {}
        for colour, size in layout.BLOCKS[self._scene]:
            low, high = places[random.choice(len(places))]
            position = random.uniform(low, high)
            euler = random.uniform((0, 0, -np.pi), (0, 0, np.pi))
            blocks[colour] = self.bullet.loadURDF(
                str(self._assets / "blocks" / f"block_{colour}_{size}.urdf"),
                position,
                self.bullet.getQuaternionFromEuler(euler),
                globalScaling=layout.SCALE,
            )
        return blocks

    def _load_arm(self) -> None:
        bullet = self.bullet
        upright = bullet.getQuaternionFromEuler((0, 0, 0))
        file = str(self._assets / layout.ROBOT_FILE)
        self.robot = bullet.loadURDF(file, layout.ROBOT_BASE, upright, useFixedBase=True)
        x, y, z = layout.ROBOT_BASE
        pedestal = bullet.createVisualShape(
            shapeType=bullet.GEOM_CYLINDER,
            rgbaColor=(1, 1, 1, 1),
            radius=0.13,
            length=z,
            visualFramePosition=(x - 0.05, y, z / 2),
        )
        bullet.createMultiBody(baseVisualShapeIndex=pedestal)
        gear = bullet.createConstraint(
            self.robot,
            layout.FINGERS[0],
            self.robot,
            layout.FINGERS[1],
            jointType=bullet.JOINT_GEAR,
            jointAxis=(1, 0, 0),
            parentFramePosition=(0, 0, 0),
            childFramePosition=(0, 0, 0),
        )
        bullet.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50)
        links = [bullet.getJointInfo(self.robot, k)[12].decode() for k in range(bullet.getNumJoints(self.robot))]
        self._camera = links.index("gripper_cam")
        self._freedoms = bullet.computeDofCount(self.robot)
        self._place_arm(layout.REST_JOINTS, layout.OPEN)

    def _place_arm(self, joints: Sequence[float] | Array, finger: float) -> None:
        bullet = self.bullet
        for joint, angle in zip(layout.ARM, joints, strict=True):
            bullet.resetJointState(self.robot, joint, angle)
            self._drive(joint, angle, layout.ARM_FORCE, layout.ARM_SPEED)
        for joint in layout.FINGERS:
            bullet.resetJointState(self.robot, joint, finger)
            self._drive(joint, finger, layout.GRIP_FORCE, layout.FINGER_SPEED)
        position, quaternion = bullet.getLinkState(self.robot, layout.TOOL)[:2]
        self.target_position = np.array(position)
        self.target_euler = np.array(bullet.getEulerFromQuaternion(quaternion))

    def _drive(self, joint: int, target: float, force: float, speed: float) -> None:
        self.bullet.setJointMotorControl2(
            bodyIndex=self.robot,
            jointIndex=joint,
            controlMode=self.bullet.POSITION_CONTROL,
            force=force,
            targetPosition=target,
            maxVelocity=speed,
        )

    # ------------------------------------------------------------------ motion

    def step(self, action: npt.NDArray[np.floating]) -> None:
        """One control step of 1/30 s with a relative action [7]. Its numbers are scaled in their own precision (as the
        original does with a policy's float32) and added to the target pose."""
        self.target_position += action[:3] * layout.POSITION_UNIT
        self.target_euler += action[3:6] * layout.ANGLE_UNIT
        self._go(self.target_position, self.target_euler, float(action[6]))

    def step_to(self, action: npt.NDArray[np.floating]) -> None:
        """One control step towards an absolute pose: position 3 (m), Euler angles 3 (rad), gripper. The target that
        relative actions add to stays as it is (as in the original)."""
        self._go(action[:3], action[3:6], float(action[6]))

    def _go(self, position: npt.NDArray[np.floating], euler: npt.NDArray[np.floating], gripper: float) -> None:
        bullet = self.bullet
        self.gripper = 1 if gripper > 0 else -1
        joints = bullet.calculateInverseKinematics(
            self.robot,
            layout.TOOL,
            position,
            bullet.getQuaternionFromEuler(euler),
            [-7] * self._freedoms,
            [7] * self._freedoms,
            [7] * self._freedoms,
            [*layout.REST_JOINTS, layout.OPEN, layout.OPEN],
        )
        within = np.clip(joints[:7], layout.JOINT_LOW, layout.JOINT_HIGH)
        for joint, angle in zip(layout.ARM, within, strict=True):
            self._drive(joint, angle, layout.ARM_FORCE, layout.ARM_SPEED)
        finger, force = (layout.OPEN, layout.OPEN_FORCE) if self.gripper == 1 else (layout.CLOSED, layout.GRIP_FORCE)
        for joint in layout.FINGERS:
            self._drive(joint, finger, force, layout.FINGER_SPEED)
        for _ in range(layout.SUBSTEPS):
            bullet.stepSimulation()
        self.table.step()

    # ------------------------------------------------------------------ what is to be seen

    def robot_obs(self) -> Array:
        """Tool position 3 (m), Euler angles 3 (rad), opening of gripper (m), joints 7 (rad), last gripper action."""
        bullet = self.bullet
        position, quaternion = bullet.getLinkState(self.robot, layout.TOOL)[:2]
        width = sum(bullet.getJointState(self.robot, joint)[0] for joint in layout.FINGERS)
        joints = [bullet.getJointState(self.robot, joint)[0] for joint in layout.ARM]
        return np.array([*position, *bullet.getEulerFromQuaternion(quaternion), width, *joints, self.gripper])

    def scene_obs(self) -> Array:
        """Slider (m), drawer (m), button, switch, lightbulb (0 or 1), led (0 or 1), then position 3 (m) and Euler
        angles 3 (rad) of each block in the scene's own order."""
        poses: list[float] = []
        for body in self.blocks.values():
            position, quaternion = self.bullet.getBasePositionAndOrientation(body)
            poses += [*position, *self.bullet.getEulerFromQuaternion(quaternion)]
        return np.array([*self.table.observation(), *poses])

    def snapshot(self) -> Snapshot:
        """What the rules of the tasks look at. Contacts are those of the last simulation step."""
        bullet = self.bullet

        def contacts(body: int) -> frozenset[tuple[int, int]]:
            return frozenset((contact[2], contact[4]) for contact in bullet.getContactPoints(bodyA=body))

        blocks = {}
        for colour, body in self.blocks.items():
            position, quaternion = bullet.getBasePositionAndOrientation(body)
            linear, angular = bullet.getBaseVelocity(body)
            blocks[colour] = Block(
                body, np.array(position), np.array(quaternion), np.array(linear), np.array(angular), contacts(body)
            )
        slider, drawer, _, _, bulb, led = self.table.observation()
        return Snapshot(
            robot=self.robot,
            table=self.table.body,
            links=self.table.links,
            robot_contacts=contacts(self.robot),
            blocks=blocks,
            slider=slider,
            drawer=drawer,
            lightbulb=int(bulb),
            led=int(led),
        )

    def half_size(self, colour: str) -> tuple[float, float, float]:
        """Half the edges of a block, metres: a long one along its own x."""
        length = layout.LENGTHS[dict(layout.BLOCKS[self._scene])[colour]]
        return length * layout.SCALE / 2, 0.05 * layout.SCALE / 2, 0.05 * layout.SCALE / 2

    def camera_pose(self) -> tuple[Array, tuple[float, ...]]:
        """Position (m) and quaternion xyzw of the gripper's camera."""
        position, quaternion = self.bullet.getLinkState(self.robot, self._camera)[:2]
        return np.array(position), quaternion

    def parts(self) -> Iterator[tuple[str, npt.ArrayLike | str]]:
        """Named numbers that make the present state what it is."""
        bullet = self.bullet
        for name, body in (("arm", self.robot), ("table", self.table.body)):
            states = bullet.getJointStates(body, list(range(bullet.getNumJoints(body))))
            yield f"{name} joints", np.array([state[:2] for state in states])
        for colour, body in self.blocks.items():
            position, quaternion = bullet.getBasePositionAndOrientation(body)
            linear, angular = bullet.getBaseVelocity(body)
            yield f"block {colour}", np.array([*position, *quaternion, *linear, *angular])
            yield f"size {colour}", dict(layout.BLOCKS[self._scene])[colour]
        yield "target", np.array([*self.target_position, *self.target_euler, self.gripper])
        yield "lamps", np.array(self.table.hidden())
        yield "scene", self._scene
