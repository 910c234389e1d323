"""Messages keep arrays bit for bit, carry no objects, and bad ones are errors."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from envs.spec import EpisodeId, Observation
from harness import wire
from policies.base import ActReply, ActRequest, EpisodeStart

ARRAYS = hnp.arrays(
    st.sampled_from(["u1", "f4", "f8", "i8", "?"]), hnp.array_shapes(min_dims=0, max_dims=4, max_side=40)
)


@given(ARRAYS)
def test_arrays_travel_bit_for_bit(array: np.ndarray) -> None:
    back = wire.unpack([bytes(part) for part in wire.pack({"a": array})])["a"]
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_junk_is_a_wire_error_or_plain_data(parts: list[bytes]) -> None:
    with contextlib.suppress(wire.WireError):
        wire.unpack(parts)


def test_frames_are_not_copied_into_the_header() -> None:
    frame = np.zeros((256, 256, 3), np.uint8)
    header, part = wire.pack({"frame": frame})
    assert len(header) < 100
    assert len(part) == frame.nbytes


@pytest.mark.parametrize("value", [np.array([object()]), object(), {1, 2}])
def test_objects_do_not_travel(value: object) -> None:
    with pytest.raises(wire.WireError):
        wire.pack({"a": value})


def test_requests_replies_and_starts_come_back_equal() -> None:
    episode = EpisodeId("s", "a task", 3, 2)
    seen = Observation({"top": np.ones((64, 64, 3), np.uint8)}, None, "go", 7, {"pose": np.arange(3.0)})
    request = ActRequest(episode, 2, seen, (seen,))
    back = wire.request_from_wire(wire.unpack(wire.pack(wire.request_to_wire(request))))
    assert (back.episode, back.call, back.step, len(back.between)) == (episode, 2, 7, 1)
    np.testing.assert_array_equal(back.observation.images["top"], seen.images["top"])
    assert back.observation.privileged is not None
    np.testing.assert_array_equal(back.observation.privileged["pose"], np.arange(3.0))
    reply = ActReply(episode, 7, np.full((4, 7), 0.5, np.float32), {"note": 1})
    other = wire.reply_from_wire(wire.unpack(wire.pack(wire.reply_to_wire(reply))))
    assert (other.episode, other.step, dict(other.info)) == (episode, 7, {"note": 1})
    np.testing.assert_array_equal(other.actions, reply.actions)
    start = EpisodeStart(episode, 9, "go")
    assert wire.start_from_wire(wire.unpack(wire.pack(wire.start_to_wire(start)))) == start
