"""Skills with things that move freely: pick, put, push. Each returns whether it did what it says."""

from __future__ import annotations

import numpy as np

from policies.expert.libero.arm import Arm, Moves
from policies.expert.libero.grasp import TIP, facing_down, pointing, search, yaw_of
from policies.expert.libero.scene import Array, Scene

LOST = 0.2
"""An object held is within this distance of the gripper's point, metres."""


def pick(arm: Arm, name: str, tries: int) -> Moves:
    """Take hold of an object from above and lift it a little. With more tries behind it, other grasps are taken."""
    scene = arm.scene
    arm.closed = False
    bodies = scene.bodies(name)
    middle = scene.pose(name).position
    thing, others = scene.points(bodies), scene.obstacles(middle, 0.25, bodies)
    grasps = search(thing, others, scene.table(middle), arm.home, scene.base)
    if not grasps:
        arm.note(f"no grasp of {name}")
        yield from arm.go(arm.hand.position + [0, 0, 0.05], arm.hand.rotation, within=0.01)
        return False
    grasp = grasps[min(tries * 3, len(grasps) - 1)]
    arm.note(f"grasp {name} at {grasp.position.round(3)}, score {grasp.score:.2f}, {len(grasps)} found")
    above = grasp.position + [0, 0, 0.06]
    rotation = arm.lean(above, grasp.rotation)
    yield from arm.travel(above, rotation)
    yield from arm.go(grasp.position, rotation, within=0.003, speed=0.5)
    yield from arm.grip(True, 14)
    start = arm.scene.pose(name).position[2]
    yield from arm.go(arm.hand.position + [0, 0, 0.06], rotation, within=0.012, speed=0.6)
    risen = arm.scene.pose(name).position[2] - start
    arm.note(f"risen {risen:.3f}, fingers {arm.scene.opening:.4f} apart")
    return bool(risen > 0.02)


def put(arm: Arm, name: str, place: str) -> Moves:
    """Carry a held object over a place, lower it until the goal holds or it stands on something, and let go."""
    scene = arm.scene
    bodies = tuple(scene.bodies(name))
    level = facing_down(yaw_of(arm.hand.rotation))
    hang = arm.hand.position[2] - scene.points(bodies)[:, 2].min()
    spot = free_spot(scene, name, place)
    above = spot + (arm.hand.position - scene.pose(name).position)[:2]
    top = scene.highest_between(above, above, bodies, 0.05)
    over = np.array([*above, top + hang + 0.03])
    rotation = arm.lean(over, level)
    yield from arm.travel(over, rotation, carrying=bodies, drop=hang)
    if not (yield from _lower(arm, name, place, spot, rotation)):
        return False
    arm.note(f"put {name} at {arm.scene.pose(name).position.round(3)}")
    yield from arm.grip(False, 8)
    yield from arm.go(arm.hand.position + [0, 0, 0.1], rotation, within=0.02)
    return True


def _lower(arm: Arm, name: str, place: str, spot: Array, rotation: Array) -> Moves:
    lowest, stuck = arm.hand.position[2], 0
    for _ in range(70):
        scene = arm.scene
        now = scene.pose(name).position
        if np.linalg.norm(now - arm.hand.position) > LOST:
            arm.note(f"lost {name}")
            return False
        if any(goal.holds for goal in scene.goals if goal.names == (name, place)):
            return True
        if stuck == 5:
            yield from arm.bend()
        aside = spot - now[:2]
        effort = 1.0 + 0.4 * max(stuck - 2, 0)
        down = 0.02 if np.linalg.norm(aside) < 0.03 else 0.005
        yield arm.toward(arm.hand.position + effort * np.array([*aside, -down]), rotation)
        stuck = 0 if arm.hand.position[2] < lowest - 0.001 else stuck + 1
        lowest = min(lowest, arm.hand.position[2])
        if (stuck > 8 and np.linalg.norm(aside) < 0.015) or stuck > 16:
            return True
    return True


def free_spot(scene: Scene, name: str, place: str) -> Array:
    """Where in a place to put an object, [2]: its middle, or, in a region that others stand in, beside them."""
    middle = scene.pose(place).position
    if scene.is_object(place):
        return middle[:2]
    thing = scene.points(scene.bodies(name))
    radius = float(np.ptp(thing[:, :2], axis=0).min()) / 2 + 0.01
    fixed = [body for fixture in scene.fixtures() for body in scene.bodies(fixture)]
    others = scene.obstacles(middle, 0.25, [*scene.bodies(name), *fixed])
    others = others[(others[:, 2] > middle[2] - 0.02) & (others[:, 2] < middle[2] + 0.15)]
    if not len(others):
        return middle[:2]
    reach = np.maximum(scene.region_size(place)[:2] - 0.015, 0.0)
    steps = np.linspace(-1, 1, 9)
    spots = middle[:2] + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * reach
    room = np.linalg.norm(spots[:, None] - others[None, :, :2], axis=2).min(axis=1)
    far = np.linalg.norm(spots - middle[:2], axis=1)
    return np.asarray(spots[np.argmax(np.minimum(room, radius) * 10 - far)])


def push(arm: Arm, name: str, place: str) -> Moves:
    """Push a flat object over the table to a region, with the open fingers side by side behind it."""
    scene = arm.scene
    arm.closed = False
    bodies = scene.bodies(name)
    thing = scene.points(bodies)
    radius = float(np.ptp(thing[:, :2], axis=0).max()) / 2
    height = scene.table(scene.pose(name).position) + TIP + 0.006

    def behind(gap: float) -> tuple[Array, Array]:
        here, there = arm.scene.pose(name).position, arm.scene.pose(place).position
        way = (there - here)[:2] / max(float(np.linalg.norm((there - here)[:2])), 1e-6)
        return np.array([*(here[:2] - way * (radius + gap)), height]), way

    start, way = behind(0.02)
    rotation = pointing(np.array([*way, 0.0]), 0.45, arm.home, across=False)  # the hand leans over the object
    arm.note(f"push {name} from {start.round(3)}")
    yield from arm.travel(start, rotation)
    for _ in range(100):
        if any(goal.holds for goal in arm.scene.goals if goal.names == (name, place)):
            return True
        at, way = behind(0.012)
        yield arm.toward(at + 0.03 * np.array([*way, 0.0]), rotation, speed=0.6)
    return False
