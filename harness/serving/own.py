"""The server's own protocol, under /v1: sessions over HTTP (JSON, multipart or msgpack), or one per WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from envs.spec import EpisodeId, Floats, Image
from harness.serving import frames
from harness.serving.sessions import MAX_TEXT, ServingError, Session
from harness.serving.settings import ServeSettings
from policies.remote import codec

if TYPE_CHECKING:
    from harness.serving.app import Served

MSGPACK = "application/msgpack"
CLOSED_BADLY = 1008
DECODE_APART = 65_536
"""Encoded pictures above this many bytes are decoded in a thread, so that other sessions are not held up."""


class Episode(BaseModel):
    """The client's name for its episode. Sampling noise depends on (seed, suite, task, trial, call) alone."""

    model_config = ConfigDict(extra="forbid")
    suite: Annotated[str, Field(max_length=200, description="default: the suite the policy was built for")] = ""
    task: Annotated[str, Field(max_length=200)] = "live"
    trial: Annotated[int, Field(ge=0, lt=2**31)] = 0
    attempt: Annotated[int, Field(ge=0, lt=2**31)] = 1


class Begin(BaseModel):
    """A new session."""

    model_config = ConfigDict(extra="forbid")
    instruction: str = Field(max_length=MAX_TEXT)
    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="of the noise; default: the server's")] = None
    episode: Episode = Episode()


class Begun(BaseModel):
    """A session that lives. idle_s: seconds of silence after which it ends."""

    session: str
    episode: Episode
    idle_s: float


class Switch(BaseModel):
    """Another sentence is in force. keep_memory false: forget as at the beginning."""

    model_config = ConfigDict(extra="forbid")
    instruction: str = Field(max_length=MAX_TEXT)
    keep_memory: bool = True


class Actions(BaseModel):
    """The answer to one frame. actions: [T, A] in the convention `/v1/policy` tells; carry out the first `execute`."""

    session: str
    episode: Episode
    call: int
    step: int
    actions: list[list[float]]
    execute: int


ACT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["call", "step"],
                    "properties": {
                        "call": {"type": "integer", "description": "0, 1, 2 ... within the session"},
                        "step": {"type": "integer", "description": "control steps taken before this frame"},
                        "first": {"type": "boolean", "description": "the first frame, though its call may not be 0"},
                        "instruction": {"type": "string", "description": "only where it changed"},
                        "state": {"type": "string", "description": "proprioception, a JSON list of numbers"},
                        "CAMERA": {"type": "string", "format": "binary", "description": "one file per camera"},
                    },
                }
            },
            MSGPACK: {
                "schema": {
                    "type": "object",
                    "description": "{call, step, images: {camera: array or encoded bytes}, state?, "
                    "instruction?, first?}; "
                    "arrays as {__ndarray__: true, data, dtype, shape}",
                }
            },
        },
    }
}


def router(settings: ServeSettings) -> APIRouter:
    made = APIRouter(prefix="/v1", tags=["memvla"])
    made.get("/policy")(policy)
    made.post("/sessions", status_code=201)(begin)
    made.get("/sessions/{id}")(look)
    made.post("/sessions/{id}/act", response_model=Actions, openapi_extra=ACT_BODY)(act)
    made.post("/sessions/{id}/instruction", status_code=204)(switch)
    made.delete("/sessions/{id}", status_code=204)(end)
    made.websocket("/session")(socket)
    return made


def served(request: Request | WebSocket) -> Served:
    """What this server serves."""
    found: Served = request.app.state.served
    return found


def peer(request: Request | WebSocket) -> str:
    """The client's address."""
    return request.client.host if request.client else "?"


# ---------------------------------------------------------------------- HTTP


async def policy(request: Request) -> dict[str, Any]:
    """What is served: action convention, cameras, chunk, proprioception, slots."""
    return served(request).about


async def begin(request: Request, body: Begin) -> Begun:
    """Begin a session: one episode, with an empty memory. Waits for a slot; 503 with Retry-After if none comes."""
    return _begun(served(request), await _begin(request, body))


async def look(request: Request, id: str) -> dict[str, int]:
    """How far a session is."""
    session = served(request).sessions.get(id)
    return {"calls": session.calls, "step": session.step}


async def act(request: Request, id: str, accept: Annotated[str, Header()] = "") -> Any:
    """One frame in, one action chunk out. 409 for a frame that is out of order: nothing is then done with it."""
    here = served(request)
    session = here.sessions.get(id)
    fields, files = await _body(request)
    images = await _images(files, here.settings.max_pixels)
    chunk = await here.sessions.act(session, images=images, **_frame(fields))
    reply = _reply(here, session, chunk)
    if MSGPACK in accept:
        return Response(codec.pack(reply), media_type=MSGPACK)
    return {**reply, "actions": chunk.tolist()}


async def switch(request: Request, id: str, body: Switch) -> None:
    """Tell a session that another instruction is in force."""
    here = served(request)
    await here.sessions.switch(here.sessions.get(id), body.instruction, keep_memory=body.keep_memory)


async def end(request: Request, id: str) -> None:
    """End a session and free its memory."""
    here = served(request)
    await here.sessions.end(here.sessions.get(id), "asked")


# ---------------------------------------------------------------------- WebSocket


async def socket(websocket: WebSocket) -> None:
    """One session per connection: msgpack maps {op: begin|act|instruction|end, ...} with the fields of the HTTP calls.

    The session ends with the connection. An error answers {error, status} and ends neither, unless the memory is lost.
    """
    await websocket.accept()
    here = served(websocket)
    session: Session | None = None
    reason = "disconnected"
    try:
        while True:
            try:
                message = codec.unpack(await websocket.receive_bytes())
                op = message.get("op") if isinstance(message, dict) else None
                if op == "begin":
                    if session is not None:
                        raise ServingError(409, "this connection has a session already; end it first")
                    fields = {key: value for key, value in message.items() if key != "op"}
                    session = await _begin(websocket, Begin.model_validate(fields))
                    answer = _begun(here, session).model_dump()
                elif session is None:
                    raise ServingError(409, "begin a session first: {op: 'begin', instruction: ...}")
                elif op == "act":
                    here.sessions.get(session.id)
                    images = await _images(message.get("images"), here.settings.max_pixels)
                    chunk = await here.sessions.act(session, images=images, **_frame(message))
                    answer = _reply(here, session, chunk)
                elif op == "instruction":
                    body = Switch.model_validate({k: v for k, v in message.items() if k != "op"})
                    await here.sessions.switch(session, body.instruction, keep_memory=body.keep_memory)
                    answer = {}
                elif op == "end":
                    await here.sessions.end(session, "asked")
                    session, answer = None, {}
                else:
                    raise ServingError(400, f"unknown operation {str(op)[:40]!r}; begin, act, instruction or end")
            except ServingError as error:
                answer = _refused(here, error.status, str(error), error.retry_after)
            except (codec.CodecError, KeyError, ValueError) as error:
                # Includes pydantic's errors, whose text names fields, and a text frame where bytes were due.
                answer = _refused(here, 400, " ".join(str(error).split())[:300], None)
            await websocket.send_bytes(codec.pack(answer))
    except (WebSocketDisconnect, RuntimeError):
        pass
    finally:
        if session is not None:
            await here.sessions.end(session, reason)


def _refused(here: Served, status: int, message: str, retry_after: int | None) -> dict[str, Any]:
    here.sessions.metrics.refused.labels(str(status)).inc()
    wait = {} if retry_after is None else {"retry_after": retry_after}
    return {"error": message, "status": status, **wait}


# ---------------------------------------------------------------------- parts


async def _begin(request: Request | WebSocket, body: Begin) -> Session:
    here = served(request)
    named = body.episode
    label = EpisodeId(named.suite or here.sessions.suite, named.task, named.trial, named.attempt)
    return await here.sessions.begin(
        body.instruction, protocol="memvla", peer=peer(request), seed=body.seed, label=label
    )


def _begun(here: Served, session: Session) -> Begun:
    return Begun(session=session.id, episode=_episode(session), idle_s=here.settings.idle_s)


def _episode(session: Session) -> Episode:
    name = session.label
    return Episode(suite=name.suite, task=name.task, trial=name.trial, attempt=name.attempt)


def _reply(here: Served, session: Session, chunk: Floats) -> dict[str, Any]:
    return {
        "session": session.id,
        "episode": _episode(session).model_dump(),
        "call": session.calls - 1,
        "step": session.step,
        "actions": chunk,
        "execute": here.spec.execute,
    }


async def _body(request: Request) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """(fields, pictures by camera) of an act request, in whichever form it came."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == MSGPACK:
        try:
            message = codec.unpack(await request.body())
        except codec.CodecError as error:
            raise ServingError(400, str(error)) from error
        if not isinstance(message, dict):
            raise ServingError(400, "the message must be a map")
        return message, message.get("images") or {}
    if kind == "multipart/form-data":
        form = await request.form(max_files=8, max_fields=16)
        files = {name: await value.read() for name, value in form.items() if isinstance(value, UploadFile)}
        texts: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str)}
        if "state" in texts:
            texts["state"] = _json(texts["state"])
        return texts, files
    raise ServingError(415, f"send {MSGPACK} or multipart/form-data, not {kind[:60] or 'nothing'}")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ServingError(400, "`state` must be a JSON list of numbers") from error


async def _images(given: Any, max_pixels: int) -> dict[str, Image]:
    """Pictures by camera name, decoded."""
    if not isinstance(given, Mapping) or len(given) > 8:
        raise ServingError(400, "`images` must be a map of at most 8 pictures by camera name")
    return {str(name): await decoded(value, max_pixels, str(name)[:40]) for name, value in given.items()}


async def decoded(value: Any, max_pixels: int, name: str) -> Image:
    """One picture, raw or encoded; large ones are decoded in a thread."""
    if isinstance(value, bytes) and len(value) > DECODE_APART:
        return await asyncio.to_thread(frames.picture, value, max_pixels=max_pixels, name=name)
    return frames.raw_picture(value, max_pixels=max_pixels, name=name)


def _frame(fields: Mapping[str, Any]) -> dict[str, Any]:
    """call, step, state and instruction of an act request. Raises ServingError 400."""
    found: dict[str, Any] = {}
    for name in ("call", "step"):
        if name not in fields:
            raise ServingError(400, f"`{name}` is missing: without it a lost or repeated frame could not be seen")
        found[name] = _count(fields[name], name)
    if fields.get("state") is not None:
        found["state"] = frames.numbers(fields["state"])
    if fields.get("instruction") is not None:
        found["instruction"] = str(fields["instruction"]).strip()
    if fields.get("first") is not None:
        found["first"] = fields["first"] is True or fields["first"] == "true"
    return found


def _count(value: Any, name: str) -> int:
    digits = value if isinstance(value, str) else ""
    if digits.isascii() and digits.isdigit() and len(digits) < 12:
        return int(digits)
    if isinstance(value, np.ndarray) and value.shape == () and value.dtype.kind in "iu":
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ServingError(400, f"`{name}` must be a whole number, 0 or more")
