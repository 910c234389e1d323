"""WebSocket endpoints for clients that exist: openpi's policy client, and vla-eval as a benchmark harness.

Both take actions as the environment understands them, so actions are converted to the suite's own convention here.
Sources: openpi-client 0.1.2 (websocket_client_policy.py); vla-eval 0.8.0 (protocol/messages.py, connection.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from envs.spec import ActionSpec, EpisodeId, Floats, Image, Rotation
from harness.serving import frames
from harness.serving.legacy import Told, note_changed, note_missing
from harness.serving.metrics import say
from harness.serving.own import decoded, peer, served
from harness.serving.sessions import ServingError, Session
from harness.serving.settings import ServeSettings
from policies.remote import codec
from policies.remote.words import GRIPPERS, ROTATIONS

if TYPE_CHECKING:
    from harness.serving.app import Served

INTERNAL_ERROR = 1011
PROTOCOL_VERSION = 1
OPENPI_IMAGES = ("observation/image", "observation/wrist_image")
"""What openpi's examples call the first and the second camera."""


def router(settings: ServeSettings) -> APIRouter:
    made = APIRouter()
    made.websocket("/openpi")(openpi)
    made.websocket("/vla_eval")(vla_eval)
    made.websocket("/")({"openpi": openpi, "vla_eval": vla_eval}[settings.root_socket])
    return made


@dataclass
class Line:
    """One connection and the episode it is in."""

    websocket: WebSocket
    here: Served
    told: Told
    protocol: str
    session: Session | None = None
    label: EpisodeId | None = None
    instruction: str = ""
    buffer: list[Floats] = field(default_factory=list)
    frames: int = 0

    async def begin(self, text: str) -> Session:
        """Begin an episode, ending the one before."""
        await self.end("restarted")
        self.buffer, self.frames = [], 0
        self.session = await self.here.sessions.begin(
            text, protocol=self.protocol, peer=peer(self.websocket), seed=self.told.seed, label=self.label
        )
        return self.session

    async def end(self, reason: str) -> None:
        if self.session is not None:
            await self.here.sessions.end(self.session, reason)
            self.session = None

    async def act(self, session: Session, message: Mapping[str, Any], text: str, step: int) -> Floats:
        """The chunk [T, A] in the suite's own convention."""
        here = self.here
        images = await _pictures(here, message)
        state = message.get("observation/state", message.get("state", message.get("states")))
        numbers = frames.numbers(state) if here.spec.uses_state and state is not None else None
        chunk = await here.sessions.act(session, images=images, state=numbers, step=step, instruction=text)
        return here.convert(chunk)


# ---------------------------------------------------------------------- openpi


async def openpi(websocket: WebSocket) -> None:
    """The server says what it is; then each observation (a map) is answered with `{actions, server_timing}`.

    The protocol knows no episodes. For a policy that remembers, an observation says `reset: true` when it is the first
    of one and `reset: false` otherwise; or the settings say that a connection is an episode. An error is a text
    message, after which the connection is closed.
    """
    await websocket.accept()
    line = Line(websocket, served(websocket), Told(), "openpi")
    try:
        line.told = Told.of(websocket)
        line.label = line.told.label
        await websocket.send_bytes(codec.pack(line.here.about, byte_keys=True))
        while True:
            begun = time.perf_counter()
            message = codec.unpack(await websocket.receive_bytes())
            if not isinstance(message, dict):
                raise ServingError(400, "an observation must be a map")
            chunk = await _infer(line, message)
            timing = {"infer_ms": 1000 * (time.perf_counter() - begun)}
            await websocket.send_bytes(codec.pack({"actions": chunk, "server_timing": timing}, byte_keys=True))
    except (ServingError, codec.CodecError, KeyError) as error:
        text = str(error) if not isinstance(error, KeyError) else "observations travel as binary messages"
        line.here.sessions.metrics.refused.labels(str(getattr(error, "status", 400))).inc()
        say("refused", level=logging.WARNING, path="/openpi", cause=text)
        await _part(websocket, text)
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        await line.end("disconnected")


async def _infer(line: Line, message: Mapping[str, Any]) -> Floats:
    here = line.here
    text = message.get("prompt")
    if not isinstance(text, str):
        raise ServingError(400, "`prompt` is missing")
    text, first = text.strip(), message.get("reset")
    alone = here.settings.connection_is_episode or line.told.label is not None
    if first is None and (alone or not here.spec.stateful):
        first = line.session is None
    if first is None:
        if here.settings.missing_start == "error":
            raise ServingError(
                409,
                "this policy remembers, so it must be told where episodes begin: send `reset` (true with the first "
                "observation, else false), or serve with serve.connection_is_episode=true",
            )
        say("an observation does not say whether an episode begins", level=logging.WARNING, peer=peer(line.websocket))
    if not first and line.session is None and first is not None:
        note_missing(here, peer(line.websocket))
    if first or line.session is None:
        session = await line.begin(text)
    else:
        session = here.sessions.get(line.session.id)
        if session.instruction != text:
            note_changed(here, session)
    step = _step(message.get("step"), session.step + here.spec.execute if session.calls else 0)
    return await line.act(session, message, text, step)


async def _part(websocket: WebSocket, text: str) -> None:
    try:
        await websocket.send_text(text)
        await websocket.close(INTERNAL_ERROR, "see the message before")
    except (WebSocketDisconnect, RuntimeError):
        pass  # gone already


# ---------------------------------------------------------------------- vla-eval


async def vla_eval(websocket: WebSocket) -> None:
    """vla-eval's model-server protocol: hello, episode_start, observation -> action, episode_end.

    One action for each observation; the policy is called for every `execute`-th, and sees the frames it is called for.
    An observation outside an episode, as after a lost connection, is an error.
    """
    await websocket.accept()
    line = Line(websocket, served(websocket), Told(), "vla_eval")
    try:
        while True:
            sequence = 0
            try:
                message = codec.unpack(await websocket.receive_bytes())
                if not isinstance(message, dict) or not isinstance(message.get("payload"), dict):
                    raise ServingError(400, "a message must have type, payload, seq and timestamp")
                sequence = _step(message.get("seq"), 0)
                kind, payload = await _respond(line, message.get("type"), message["payload"])
            except (ServingError, codec.CodecError, KeyError) as error:
                line.here.sessions.metrics.refused.labels(str(getattr(error, "status", 400))).inc()
                kind, payload = "error", {"error": " ".join(str(error).split())[:500]}
                say("refused", level=logging.WARNING, path="/vla_eval", cause=payload["error"])
            if kind:
                answer = {"type": kind, "payload": payload, "seq": sequence, "timestamp": time.time()}
                await websocket.send_bytes(codec.pack(answer))
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        await line.end("disconnected")


async def _respond(line: Line, kind: Any, payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(type, payload) of the answer; an empty type for none."""
    if kind == "hello":
        return "hello", hello(line.here)
    if kind == "episode_start":
        await line.end("restarted")
        line.label, line.told = _named(line.here, payload)
        line.instruction, line.buffer, line.frames = "", [], 0
        return "", {}
    if kind == "episode_end":
        await line.end("asked")
        line.label = None
        return "", {}
    if kind == "observation":
        return "action", {"actions": await _next_action(line, payload)}
    if kind == "error":
        say("client error", level=logging.WARNING, cause=str(payload)[:300])
        return "", {}
    raise ServingError(400, f"unknown message type {str(kind)[:40]!r}")


async def _next_action(line: Line, payload: Mapping[str, Any]) -> Floats:
    here = line.here
    text = payload.get("task_description")
    if not isinstance(text, str) or not text.strip():
        raise ServingError(400, "`task_description` is missing")
    text = text.strip()
    if line.label is None:
        note_missing(here, peer(line.websocket))
        line.label = EpisodeId(here.sessions.suite, "live", 0)
    if line.session is None:
        if line.frames:
            raise ServingError(
                409, "the session of this episode has ended, and its memory with it; start a new episode"
            )
        await line.begin(text)
    assert line.session is not None
    session = here.sessions.get(line.session.id)
    if session.instruction != text:
        line.buffer = []  # a chunk dies with its instruction
    if not line.buffer:
        try:
            chunk = await line.act(session, payload, text, line.frames)
        except ServingError as error:
            if error.status >= 500:
                line.session = None
            raise
        line.buffer = list(chunk[: here.spec.execute])
    session.used = time.monotonic()
    line.frames += 1
    return line.buffer.pop(0)


def hello(here: Served) -> dict[str, Any]:
    """What the server says of itself, its actions included, in vla-eval's words."""
    wanted: dict[str, Any] = {}
    if here.spec.uses_state:
        wanted["send_state"] = True
    if len(here.spec.cameras) > 1:
        wanted["send_wrist_image"] = True
    observation = {"image": _dim("image", 0, "rgb_hwc_uint8"), "language": _dim("language", 0, "language")}
    if here.spec.uses_state:
        observation["state"] = _dim("state", 0, "raw")
    return {
        "harness_version": "memvla",
        "protocol_version": PROTOCOL_VERSION,
        "model_server": f"memvla:{here.spec.name}",
        "capabilities": {},
        "action_spec": action_words(here.action),
        "observation_spec": observation,
        **({"observation_params": wanted} if wanted else {}),
    }


def action_words(action: ActionSpec) -> dict[str, dict[str, Any]]:
    """An action convention in vla-eval's words (vla_eval/specs.py)."""
    gripper = GRIPPERS.get((action.gripper.open, action.gripper.closed), "raw")
    rotation: Rotation = action.rotation
    return {
        "position": _dim("position", 3, "absolute_xyz" if action.absolute else "delta_xyz"),
        "rotation": _dim("rotation", rotation.size, ROTATIONS[rotation.value]),
        "gripper": _dim("gripper", 1, gripper),
    }


def _dim(name: str, dims: int, form: str) -> dict[str, Any]:
    return {"name": name, "dims": dims, "format": form}


def _named(here: Served, payload: Mapping[str, Any]) -> tuple[EpisodeId, Told]:
    """The episode's name: from a client of ours in full, else from the task."""
    ours = payload.get("memvla")
    task = payload.get("task")
    try:
        if isinstance(ours, Mapping):
            suite, name, trial, attempt = ours["episode"]
            seed = int(ours["seed"])
            if not 0 <= seed < 2**63:
                raise ValueError
            return EpisodeId(str(suite)[:200], str(name)[:200], int(trial), int(attempt)), Told(seed=seed)
        found = task if isinstance(task, Mapping) else {}
        suite, name = str(found.get("suite", here.sessions.suite)), str(found.get("name", "live"))
        return EpisodeId(suite[:200], name[:200], int(found.get("episode_idx", 0))), Told()
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise ServingError(400, "the episode's name cannot be read") from error


# ---------------------------------------------------------------------- parts


async def _pictures(here: Served, message: Mapping[str, Any]) -> dict[str, Image]:
    """The policy's cameras among what was sent: by name, by the settings' mapping, or the only one there is."""
    sent = dict(message["images"]) if isinstance(message.get("images"), Mapping) else {}
    sent |= {str(key): value for key, value in message.items() if str(key).startswith("observation/")}
    renamed = {ours: theirs for theirs, ours in here.camera_names.items()}
    found: dict[str, Image] = {}
    for place, name in enumerate(here.spec.cameras):
        usual = OPENPI_IMAGES[place] if place < len(OPENPI_IMAGES) else ""
        key = next((key for key in (renamed.get(name, name), f"observation/{name}", usual) if key in sent), None)
        if key is None and len(sent) == len(here.spec.cameras) == 1:
            key = next(iter(sent))
        if key is None:
            raise ServingError(
                400,
                f"camera {name!r} was not sent; sent: {', '.join(map(str, sent))[:200] or 'none'}; say which is which "
                f"with serve.cameras=THEIRS:{name}",
            )
        found[name] = await decoded(sent[key], here.settings.max_pixels, str(key)[:60])
    return found


def _step(told: Any, counted: int) -> int:
    return told if isinstance(told, int) and not isinstance(told, bool) else counted
