"""Action conventions in the words of vla-eval 0.8.0 (vla_eval/specs.py)."""

from __future__ import annotations

ROTATIONS = {
    "euler_xyz": "euler_xyz",
    "axis_angle": "axis_angle",
    "quaternion_xyzw": "quaternion_xyzw",
    "rot6d": "rot6d_columns",
}
"""Our rotation -> theirs. Their rot6d is interleaved, ours holds two columns one after the other: not the same."""

GRIPPERS = {(-1.0, 1.0): "binary_close_positive", (1.0, -1.0): "binary_close_negative", (0.0, 1.0): "binary_close_01"}
"""(value that opens, value that closes) -> theirs."""
