"""Messages between workers and policy hosts: a small msgpack header and raw bytes. No pickle, no copies of frames.

A NumPy array travels as dtype + shape + bytes, since a pickle made by NumPy 2 cannot be read by NumPy 1.26. Small
arrays lie in the header; large ones (frames) follow as message parts of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from envs.spec import EpisodeId, Observation
from policies.base import ActReply, ActRequest, EpisodeStart

INLINE_BYTES = 1024
_INLINE, _PART = 1, 2


class WireError(ValueError):
    """A message that is not well formed."""


def pack(message: Any) -> list[Any]:
    """Message parts [header, array, array ...] of builtins, tuples as lists, and NumPy arrays."""
    parts: list[Any] = [b""]

    def encode(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise WireError("arrays of objects do not travel")
            data = np.ascontiguousarray(value)
            head = (value.dtype.str, value.shape)
            if data.nbytes <= INLINE_BYTES:
                return msgpack.ExtType(_INLINE, msgpack.packb((*head, data.tobytes())))
            parts.append(data.reshape(-1).view(np.uint8).data)
            return msgpack.ExtType(_PART, msgpack.packb((*head, len(parts) - 1)))
        if isinstance(value, np.generic):
            return value.item()
        raise WireError(f"a {type(value).__name__} does not travel")

    parts[0] = msgpack.packb(message, default=encode)
    return parts


def unpack(parts: Sequence[Any]) -> Any:
    """The inverse of `pack`. Arrays are read-only views of the message. Raises WireError."""

    def decode(code: int, data: bytes) -> Any:
        dtype, shape, where = msgpack.unpackb(data)
        kind = np.dtype(dtype)
        if kind.hasobject or code not in (_INLINE, _PART):
            raise WireError(f"unknown or forbidden array form {code} {dtype}")
        raw = where if code == _INLINE else parts[where]
        return np.frombuffer(raw, dtype=kind).reshape(shape)

    try:
        return msgpack.unpackb(parts[0], ext_hook=decode, strict_map_key=False)
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"malformed message: {type(error).__name__}: {error}") from error


def episode_to_wire(episode: EpisodeId) -> list[Any]:
    return [episode.suite, episode.task, episode.trial, episode.attempt]


def episode_from_wire(data: Sequence[Any]) -> EpisodeId:
    suite, task, trial, attempt = data
    return EpisodeId(str(suite), str(task), int(trial), int(attempt))


def start_to_wire(start: EpisodeStart) -> dict[str, Any]:
    return {"episode": episode_to_wire(start.episode), "seed": start.seed, "instruction": start.instruction}


def start_from_wire(data: Mapping[str, Any]) -> EpisodeStart:
    return EpisodeStart(episode_from_wire(data["episode"]), int(data["seed"]), str(data["instruction"]))


def request_to_wire(request: ActRequest) -> dict[str, Any]:
    return {
        "episode": episode_to_wire(request.episode),
        "call": request.call,
        "observation": asdict_shallow(request.observation),
        "between": [asdict_shallow(observation) for observation in request.between],
    }


def request_from_wire(data: Mapping[str, Any]) -> ActRequest:
    return ActRequest(
        episode_from_wire(data["episode"]),
        int(data["call"]),
        Observation(**data["observation"]),
        tuple(Observation(**observation) for observation in data["between"]),
    )


def reply_to_wire(reply: ActReply) -> dict[str, Any]:
    return {
        "episode": episode_to_wire(reply.episode),
        "step": reply.step,
        "actions": np.asarray(reply.actions, dtype=np.float32),
        "info": dict(reply.info),
    }


def reply_from_wire(data: Mapping[str, Any]) -> ActReply:
    return ActReply(episode_from_wire(data["episode"]), int(data["step"]), data["actions"], data["info"])


def asdict_shallow(observation: Observation) -> dict[str, Any]:
    """`dataclasses.asdict` without its deep copies of the pictures."""
    return {
        "images": dict(observation.images),
        "state": observation.state,
        "instruction": observation.instruction,
        "step": observation.step,
        "privileged": None if observation.privileged is None else dict(observation.privileged),
    }
