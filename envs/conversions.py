"""From a policy's action convention to an environment's, or an error before any simulator starts.

A wrong convention scores 0 % and looks like a bad policy, so a pair without an exact conversion is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation as SpatialRotation

from envs.spec import ActionSpec, Floats, Gripper, Rotation

Converter = Callable[[npt.ArrayLike], Floats]


class ConventionError(ValueError):
    """Two action conventions without a conversion between them; the message shows both sides."""


def converter(source: ActionSpec, target: ActionSpec) -> Converter:
    """A function from chunks [T, source.dim] to chunks [T, target.dim], float32.

    Units, rotation representation and gripper values are converted; motion is clipped to the target's limit, as its
    controller would. Raises ConventionError when frame, absolute/delta or control frequency differ.
    """
    if source == target:
        return _same(target)
    for name in ("frame", "absolute"):
        if getattr(source, name) != getattr(target, name):
            raise ConventionError(_both_sides(name, source, target))
    if source.hz is not None and target.hz is not None and source.hz != target.hz:
        raise ConventionError(_both_sides("hz", source, target))

    def convert(chunk: npt.ArrayLike) -> Floats:
        actions = np.asarray(chunk, dtype=np.float64)
        xyz = actions[:, :3] * (source.translation_unit / target.translation_unit)
        turn = _rotation(actions[:, 3:-1], source, target)
        grip = convert_gripper(actions[:, -1:], source.gripper, target.gripper)
        return _clip(np.concatenate([xyz, turn, grip], axis=1), target)

    return convert


def _same(spec: ActionSpec) -> Converter:
    return lambda chunk: _clip(np.array(chunk, dtype=np.float64), spec)


def _clip(actions: npt.NDArray[np.float64], spec: ActionSpec) -> Floats:
    if spec.limit is not None:
        actions[:, :-1] = np.clip(actions[:, :-1], -spec.limit, spec.limit)
    return actions.astype(np.float32)


def _rotation(turn: npt.NDArray[np.float64], source: ActionSpec, target: ActionSpec) -> npt.NDArray[np.float64]:
    if source.rotation == target.rotation:
        return turn * (source.rotation_unit / target.rotation_unit)
    matrices = to_matrix(turn * source.rotation_unit, source.rotation)
    return from_matrix(matrices, target.rotation) / target.rotation_unit


def to_matrix(turn: npt.NDArray[np.float64], kind: Rotation) -> npt.NDArray[np.float64]:
    """Rotation matrices [T, 3, 3] from `turn` [T, kind.size], angles in radians.

    Euler angles turn about the fixed x, then y, then z axis (static frame, `sxyz`). rot6d holds the first two columns
    (Zhou et al. 2019, On the Continuity of Rotation Representations, section 3.3) and is orthonormalised.
    """
    if kind is Rotation.EULER_XYZ:
        return np.asarray(SpatialRotation.from_euler("xyz", turn).as_matrix())
    if kind is Rotation.AXIS_ANGLE:
        return np.asarray(SpatialRotation.from_rotvec(turn).as_matrix())
    if kind is Rotation.QUATERNION_XYZW:
        return np.asarray(SpatialRotation.from_quat(turn).as_matrix())
    first = turn[:, :3] / np.linalg.norm(turn[:, :3], axis=1, keepdims=True)
    second = turn[:, 3:] - (first * turn[:, 3:]).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=2)


def from_matrix(matrices: npt.NDArray[np.float64], kind: Rotation) -> npt.NDArray[np.float64]:
    """The inverse of `to_matrix`: [T, 3, 3] -> [T, kind.size]."""
    if kind is Rotation.ROT6D:
        return np.concatenate([matrices[:, :, 0], matrices[:, :, 1]], axis=1)
    rotation = SpatialRotation.from_matrix(matrices)
    if kind is Rotation.EULER_XYZ:
        return np.asarray(rotation.as_euler("xyz"))
    if kind is Rotation.AXIS_ANGLE:
        return np.asarray(rotation.as_rotvec())
    return np.asarray(rotation.as_quat(canonical=True))


def convert_gripper(value: npt.NDArray[np.float64], source: Gripper, target: Gripper) -> npt.NDArray[np.float64]:
    """Gripper numbers of any shape from one convention to another; exactly half way counts as open."""
    opening = (value - source.closed) / (source.open - source.closed)
    if source.binary or target.binary:
        opening = (opening >= 0.5).astype(np.float64)
    return target.closed + opening * (target.open - target.closed)


def _both_sides(name: str, source: ActionSpec, target: ActionSpec) -> str:
    left, right = asdict(source), asdict(target)
    return (
        f"no conversion between action conventions: {name} is {left[name]!r} for the policy and {right[name]!r} for "
        f"the environment.\n  policy:      {left}\n  environment: {right}"
    )
