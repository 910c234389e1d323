"""Skills with what is built in: knobs, drawers, doors."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from policies.expert.libero.arm import Arm, Moves
from policies.expert.libero.grasp import HAND, TIP, facing_down, pointing, search, yaw_of
from policies.expert.libero.scene import UP, Array, Joint, Scene


def turn(arm: Arm, name: str, on: bool, tries: int) -> Moves:
    """Turn a knob: hold it from above and turn the gripper about its axis."""
    arm.closed = False
    joint = arm.scene.joint(name)
    knob = arm.scene.points([joint.body])
    middle = (knob.min(axis=0) + knob.max(axis=0)) / 2
    others = arm.scene.obstacles(middle, 0.25, [joint.body])
    grasps = search(knob, others, float(knob[:, 2].min()), arm.home, arm.scene.base)
    if not grasps:
        arm.note(f"no grasp of the knob of {name}")
        yield arm.stay()
        return False
    grasp = grasps[min(tries * 3, len(grasps) - 1)]
    arm.note(f"knob at {grasp.position.round(3)}, score {grasp.score:.2f}")
    yield from arm.travel(grasp.position + 0.06 * UP, grasp.rotation)
    yield from arm.go(grasp.position, grasp.rotation, within=0.003, speed=0.5)
    yield from arm.grip(True, 14)
    sign = 1.0 if on else -1.0
    for _ in range(40):
        joint = arm.scene.joint(name)
        if (on and joint.position > 0.7) or (not on and joint.position < joint.low + 0.002):
            break
        spin = Rotation.from_rotvec(0.3 * sign * joint.axis).as_matrix()
        wanted = joint.anchor + spin @ (arm.hand.position - joint.anchor)
        yield arm.toward(wanted, spin @ arm.hand.rotation)
    arm.note(f"knob at {arm.scene.joint(name).position:.2f}")
    yield from arm.grip(False, 8)
    yield from arm.go(arm.hand.position + 0.1 * UP, arm.hand.rotation, within=0.02)
    return True


def outward(joint: Joint) -> Array:
    """The direction in which a slide opens."""
    return joint.axis * (np.sign(joint.low + joint.high) or 1.0)


def handle(scene: Scene, joint: Joint) -> Array:
    """The middle of a drawer's handle: its box that stands out most, [3]."""
    boxes = scene.boxes[scene.boxes[:, 0] == joint.body]
    return np.asarray(boxes[np.argmax(boxes[:, 1:4] @ outward(joint)), 1:4])


def open_drawer(arm: Arm, name: str) -> Moves:
    """Take the handle between the fingers, above and below it, and pull."""
    arm.closed = False
    joint = arm.scene.joint(name)
    out = outward(joint)
    bar = handle(arm.scene, joint)
    level = bar[2] - arm.scene.table(bar) > HAND[0]  # room for half the hand under a level gripper
    rotation = pointing(out, 1.5 if level else 0.6, arm.home, across=True)
    point = rotation[:, 2]
    arm.note(f"handle of {name} at {bar.round(3)}")
    yield from arm.travel(bar - 0.09 * point + (0.08 * out if level else 0.0), rotation)
    yield from arm.go(bar - 0.09 * point, rotation, within=0.01)
    yield from arm.go(bar + 0.006 * point, rotation, within=0.004, speed=0.4)
    yield from arm.grip(True, 14)
    for _ in range(60):
        joint = arm.scene.joint(name)
        bar = handle(arm.scene, joint)
        if abs(joint.position) > 0.152 or np.linalg.norm(bar - arm.hand.position) > 0.04:
            break
        yield arm.toward(bar + 0.05 * out, rotation)
    arm.note(f"drawer at {arm.scene.joint(name).position:.3f}")
    yield from arm.grip(False, 8)
    yield from arm.go(arm.hand.position - 0.07 * point, rotation, within=0.02)
    yield from arm.retire()
    return abs(arm.scene.joint(name).position) > 0.1


def close_drawer(arm: Arm, name: str) -> Moves:
    """Push a drawer's handle in, with the closed fingers leaning back from the cabinet."""
    joint = arm.scene.joint(name)
    out = outward(joint)
    bar = handle(arm.scene, joint)
    rotation = pointing(out, 0.6, arm.home, across=False)
    arm.closed = True
    start = bar + 0.07 * out + TIP * UP
    arm.note(f"close {name} from {start.round(3)}")
    yield from arm.travel(start, rotation)
    for _ in range(80):
        if arm.scene.holds(name):
            break
        bar = handle(arm.scene, arm.scene.joint(name))
        apart = float((arm.hand.position - bar) @ out)
        wanted = bar + (apart - 0.05) * out + 0.006 * UP
        yield arm.toward(wanted, rotation)
    arm.note(f"drawer at {arm.scene.joint(name).position:.4f}")
    yield from arm.go(arm.hand.position + 0.08 * out, rotation, within=0.02)
    return True


def close_door(arm: Arm, name: str) -> Moves:
    """Push a hinged door shut, at its outer edge near its top, along its arc."""
    arm.closed = True
    edge, way = _edge(arm.scene, name)
    rotation = facing_down(yaw_of(arm.home))
    arm.note(f"door of {name} at {arm.scene.joint(name).position:.2f}")
    yield from arm.travel(edge - 0.09 * way, rotation)
    for _ in range(140):
        if arm.scene.holds(name):
            break
        edge, way = _edge(arm.scene, name)
        yield arm.toward(edge + 0.03 * way, rotation, speed=0.8)
    arm.note(f"door at {arm.scene.joint(name).position:.3f}")
    return True


def _edge(scene: Scene, name: str) -> tuple[Array, Array]:
    """Where to push a door [3], and the way it closes there, a horizontal unit vector [3]."""
    joint = scene.joint(name)
    door = scene.points([joint.body], 0.01)
    far = np.linalg.norm((door - joint.anchor)[:, :2], axis=1)
    edge = door[far > far.max() - 0.06].mean(axis=0)
    edge[2] = door[:, 2].max() - 0.03 + TIP
    way = np.cross(joint.axis, edge - joint.anchor) * (-np.sign(joint.low + joint.high) or 1.0)
    way[2] = 0.0
    return edge, way / np.linalg.norm(way)
