"""Skills with things that move freely: pick, put, drag. Each returns whether it did what it says."""

from __future__ import annotations

import numpy as np

from policies.expert.libero.arm import Arm, Moves
from policies.expert.libero.grasp import HAND, TIP, facing_down, search, yaw_of
from policies.expert.libero.scene import UP, Array, Scene

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
        yield from arm.go(arm.hand.position + 0.05 * UP, arm.hand.rotation, within=0.01)
        return False
    grasp = grasps[min(tries * 3, len(grasps) - 1)]
    arm.note(f"grasp {name} at {grasp.position.round(3)}, score {grasp.score:.2f}, {len(grasps)} found")
    above = grasp.position + 0.06 * UP
    rotation = arm.lean(above, grasp.rotation)
    yield from arm.travel(above, rotation)
    yield from arm.go(grasp.position, rotation, within=0.003, speed=0.5)
    yield from arm.grip(True, 14)
    start = arm.scene.pose(name).position[2]
    yield from _draw_out(arm, bodies, rotation)
    yield from arm.go(arm.hand.position + 0.06 * UP, rotation, within=0.012, speed=0.6)
    risen = arm.scene.pose(name).position[2] - start
    arm.note(f"risen {risen:.3f}, fingers {arm.scene.opening:.4f} apart")
    return bool(risen > 0.02)


def _draw_out(arm: Arm, bodies: list[int], rotation: Array) -> Moves:
    """Move what is held aside, a little off the ground, where something hangs over it (an open drawer)."""
    scene = arm.scene
    held = scene.points(bodies)
    middle, bottom = held[:, :2].mean(axis=0), held[:, 2].min()
    radius = float(np.linalg.norm(held[:, :2] - middle, axis=1).max()) + 0.005
    others = scene.obstacles(middle, radius + 0.2, bodies)
    others = others[others[:, 2] > bottom + 0.03]

    def blocked(spot: Array) -> bool:
        return bool((np.linalg.norm(others[:, :2] - spot, axis=1) < radius).any())

    if not blocked(middle):
        return True
    ways = [np.array([np.cos(a), np.sin(a)]) for a in np.arange(16) * np.pi / 8]
    low = others[others[:, 2] < held[:, 2].max() + 0.05]
    for far in np.arange(0.02, 0.2, 0.02):
        for way in ways:
            path = middle + np.outer(np.arange(0.0, far, 0.02), way)
            hit = np.linalg.norm(low[None, :, :2] - path[:, None], axis=2) < radius - 0.005 if len(low) else np.zeros(1)
            if not blocked(middle + far * way) and not hit.any():
                arm.note(f"drawn out by {(far * way).round(2)}")
                aside = arm.hand.position + np.array([*(far * way), 0.04])
                return (yield from arm.go(aside, rotation, within=0.01, speed=0.6))
    return False


def put(arm: Arm, name: str, place: str) -> Moves:
    """Carry a held object over a place, lower it until the goal holds or it stands on something, and let go."""
    scene = arm.scene
    bodies = tuple(scene.bodies(name))
    hang = arm.hand.position[2] - scene.points(bodies)[:, 2].min()
    spot = free_spot(scene, name, place)
    turned = _turn_free(arm, name, place, spot)
    level = facing_down(yaw_of(arm.hand.rotation) + turned)
    above = spot + _turn(turned) @ (arm.hand.position - scene.pose(name).position)[:2]
    top = scene.highest_between(above, above, bodies, 0.05)
    over = np.array([*above, top + hang + 0.03])
    rotation = arm.lean(over, level)
    yield from arm.travel(over, rotation, carrying=bodies, drop=hang)
    if not (yield from _lower(arm, name, place, spot, rotation)):
        return False
    arm.note(f"put {name} at {arm.scene.pose(name).position.round(3)}")
    yield from arm.grip(False, 8)
    yield from arm.go(arm.hand.position + 0.1 * UP, rotation, within=0.02)
    return True


def _turn(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _turn_free(arm: Arm, name: str, place: str, spot: Array) -> float:
    """How far to turn what is held so that the hand, wide as it is, strikes nothing beside the place."""
    scene = arm.scene
    bodies = scene.bodies(name)
    hang = arm.hand.position[2] - scene.points(bodies)[:, 2].min()
    offset = (arm.hand.position - scene.pose(name).position)[:2]
    others = scene.obstacles(np.array([*spot, 0.0]), 0.3, bodies)
    others = others[others[:, 2] > scene.pose(place).position[2] + hang + HAND[2] - TIP]
    yaw, ahead = yaw_of(arm.hand.rotation), yaw_of(arm.home)
    for turn in (0.0, 0.4, -0.4, 0.8, -0.8, 1.2, -1.2, np.pi / 2, -np.pi / 2):
        if abs(np.angle(np.exp(1j * (yaw + turn - ahead)))) > 1.9:
            continue  # out of the wrist's range
        beside = np.abs((others[:, :2] - spot - _turn(turn) @ offset) @ facing_down(yaw + turn)[:2, :2])
        if not (beside < [HAND[0] + 0.01, HAND[1] + 0.01]).all(axis=1).any():
            return float(turn)
    return 0.0


def _lower(arm: Arm, name: str, place: str, spot: Array, rotation: Array) -> Moves:
    lowest, stuck = arm.hand.position[2], 0
    for _ in range(70):
        scene = arm.scene
        now = scene.pose(name).position
        if np.linalg.norm(now - arm.hand.position) > LOST:
            arm.note(f"lost {name}")
            return False
        if stuck > 2 and scene.holds(name, place):
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
    """Where in a place to put an object, [2]: its middle, or, in a region that others stand in or over, beside them."""
    middle = scene.pose(place).position
    if scene.is_object(place):
        return middle[:2]
    thing = scene.points(scene.bodies(name))
    radius = float(np.ptp(thing[:, :2], axis=0).min()) / 2 + 0.01
    drawer = scene.drawer(place)
    if drawer is None:
        besides = [body for fixture in scene.fixtures() for body in scene.bodies(fixture)]
        low, high = middle[2] - 0.02, middle[2] + 0.15
    else:  # what is above an open drawer: those above it, and their handles
        besides, low, high = [drawer.body], middle[2] + 0.035, middle[2] + 0.3
    others = scene.obstacles(middle, 0.25, [*scene.bodies(name), *besides])
    others = others[(others[:, 2] > low) & (others[:, 2] < high)]
    if not len(others):
        return middle[:2]
    reach = np.maximum(scene.region_size(place)[:2] - 0.015, 0.0)
    steps = np.linspace(-1, 1, 9)
    spots = middle[:2] + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) * reach
    room = np.linalg.norm(spots[:, None] - others[None, :, :2], axis=2).min(axis=1)
    far = np.linalg.norm(spots - middle[:2], axis=1)
    return np.asarray(spots[np.argmax(np.minimum(room, radius) * 10 - far)])


def drag(arm: Arm, name: str, place: str) -> Moves:
    """Move a flat object over the table to a region: the closed fingers press on it, inside its rim, and drag."""
    scene = arm.scene
    here, there = scene.pose(name).position, scene.pose(place).position
    thing = scene.points(scene.bodies(name))
    inside = np.linalg.norm(thing[:, :2] - here[:2], axis=1) < 0.03
    rise = float(thing[inside, 2].max()) - here[2] + TIP  # of the gripper's point over the object's, when it touches
    arm.closed = True
    way = (there - here)[:2] / max(float(np.linalg.norm((there - here)[:2])), 1e-6)
    start = here + np.array([*(0.02 * way), rise])
    rotation = facing_down(yaw_of(arm.home))
    arm.note(f"drag {name} from {start.round(3)}")
    yield from arm.travel(start + 0.03 * UP, rotation)
    yield from arm.go(start, rotation, within=0.006, speed=0.4, steps=20)
    for _ in range(140):
        if arm.scene.holds(name, place):
            return True
        here = arm.scene.pose(name).position
        if np.linalg.norm(arm.hand.position[:2] - here[:2]) > 0.09:
            return False
        way = (arm.scene.pose(place).position - here)[:2]
        way *= min(1.0, 0.03 / max(float(np.linalg.norm(way)), 1e-6))
        down = here[2] + rise - 0.02 - arm.hand.position[2]
        yield arm.toward(arm.hand.position + np.array([*way, down]), rotation)
    return False
