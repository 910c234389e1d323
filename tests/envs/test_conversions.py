"""Action conventions: exact conversions by round trip, and no conversion where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation as SpatialRotation

from envs.conversions import ConventionError, convert_gripper, converter, from_matrix, to_matrix
from envs.spec import ActionSpec, Gripper, Rotation

METRES = ActionSpec("base", False, 1.0, Rotation.EULER_XYZ, 1.0, Gripper(1.0, 0.0, binary=False), limit=None)
LIBERO = ActionSpec("base", False, 0.05, Rotation.AXIS_ANGLE, 0.5, Gripper(-1.0, 1.0), limit=1.0)

ANGLES = hnp.arrays("f8", (4, 3), elements=st.floats(-1.2, 1.2))


@given(ANGLES, st.sampled_from(list(Rotation)))
def test_every_rotation_representation_returns_from_a_round_trip(angles: np.ndarray, kind: Rotation) -> None:
    matrices = to_matrix(angles, Rotation.EULER_XYZ)
    there = from_matrix(matrices, kind)
    assert there.shape == (4, kind.size)
    np.testing.assert_allclose(to_matrix(there, kind), matrices, atol=1e-12)


def test_euler_angles_turn_about_the_fixed_axes_x_then_y_then_z() -> None:
    x, y, z = 0.3, -0.7, 1.1
    about = [SpatialRotation.from_rotvec(v).as_matrix() for v in ([x, 0, 0], [0, y, 0], [0, 0, z])]
    np.testing.assert_allclose(to_matrix(np.array([[x, y, z]]), Rotation.EULER_XYZ)[0], about[2] @ about[1] @ about[0])


def test_metres_and_radians_become_controller_units() -> None:
    chunk = np.array([[0.01, -0.02, 0.005, 0.0, 0.0, 0.25, 1.0], [0.2, 0, 0, 0, 0, 0, 0.2]])
    np.testing.assert_allclose(
        converter(METRES, LIBERO)(chunk),
        [[0.2, -0.4, 0.1, 0.0, 0.0, 0.5, -1.0], [1.0, 0, 0, 0, 0, 0, 1.0]],
        atol=1e-6,
    )


@given(hnp.arrays("f8", (3, 7), elements=st.floats(-0.04, 0.04)))
def test_actions_return_from_a_round_trip_of_conventions(chunk: np.ndarray) -> None:
    chunk[:, 6] = chunk[:, 6] > 0
    there = converter(METRES, LIBERO)(chunk)
    back = converter(replace(LIBERO, limit=None), replace(METRES, gripper=Gripper(1.0, 0.0)))(there)
    np.testing.assert_allclose(back, chunk, atol=1e-6)


@pytest.mark.parametrize(
    ("value", "source", "target", "expected"),
    [
        (1.0, Gripper(1.0, 0.0), Gripper(-1.0, 1.0), -1.0),
        (0.0, Gripper(1.0, 0.0), Gripper(-1.0, 1.0), 1.0),
        (0.5, Gripper(1.0, 0.0), Gripper(1.0, -1.0), 1.0),
        (0.49, Gripper(1.0, 0.0), Gripper(1.0, -1.0), -1.0),
        (0.25, Gripper(1.0, 0.0, binary=False), Gripper(-1.0, 1.0, binary=False), 0.5),
    ],
)
def test_gripper_conventions(value: float, source: Gripper, target: Gripper, expected: float) -> None:
    assert convert_gripper(np.array([value]), source, target)[0] == expected


@pytest.mark.parametrize("change", [{"frame": "tool"}, {"absolute": True}, {"hz": 5.0}])
def test_a_pair_without_a_conversion_is_an_error_that_shows_both_sides(change: dict[str, object]) -> None:
    with pytest.raises(ConventionError, match=r"policy: .*\n.*environment: "):
        converter(replace(METRES, **change), replace(LIBERO, hz=20.0))


def test_converting_leaves_the_policy_s_own_array_alone() -> None:
    chunk = np.full((2, 7), 3.0, np.float32)
    converter(LIBERO, LIBERO)(chunk)
    assert (chunk == 3.0).all()
