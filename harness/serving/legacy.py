"""Drop-in HTTP endpoints for existing clients: MemoryVLA's and Dexbotic's `/process_frame`, CogACT's `/api/inference`.

The originals keep one memory for the whole server. Here the nameless endpoints keep one too, held by one client at
a time; clients that name themselves (`/as/NAME/process_frame`, or the header X-Memvla-Session) have one each. Headers
X-Memvla-Episode, -Seed, -Call and -Step, which the originals ignore, name what is sent and are echoed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile, WebSocket
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile as StarletteUpload

from envs.spec import EpisodeId, Floats, Image
from harness.serving import frames
from harness.serving.metrics import say
from harness.serving.own import decoded, peer, served
from harness.serving.sessions import ServingError, Session
from harness.serving.settings import ServeSettings
from policies.vla.images import square_crops

if TYPE_CHECKING:
    from harness.serving.app import Served

CROPPED_SIDE = 224
"""Of the pictures that the official MemoryVLA server hands to its model."""
QUESTION = re.compile(r"\s*What action should the robot take to (?P<text>.*?)\??\s*", re.DOTALL)
"""Dexbotic's clients send the whole question; our policies are given the instruction alone."""
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
STATES = "proprioception as a JSON list of numbers; ignored where the policy reads none, as the original does"
FIRST = {"True": True, "False": False, "true": True, "false": False}


def router(settings: ServeSettings) -> APIRouter:
    made = APIRouter(tags=["compatible"])
    flavours: dict[str, Callable[..., Any]] = {"memoryvla": memoryvla, "dexbotic": dexbotic}
    for before in ("", "/as/{name}"):
        shown = before == ""
        made.post(f"{before}/process_frame", include_in_schema=shown)(flavours[settings.process_frame])
        made.post(f"{before}/memoryvla/process_frame", include_in_schema=False)(memoryvla)
        made.post(f"{before}/dexbotic/process_frame", include_in_schema=shown)(dexbotic)
        made.post(f"{before}/api/inference", include_in_schema=shown)(cogact)
    return made


async def memoryvla(
    request: Request,
    response: Response,
    image: Annotated[UploadFile, File(description="any format Pillow opens")],
    text: Annotated[str, Form(description="the bare instruction")],
    episode_first_frame: Annotated[str, Form(description="True empties the memory, False keeps it")],
    image_wrist: Annotated[UploadFile | None, File()] = None,
    states: Annotated[UploadFile | None, File(description=STATES)] = None,
) -> dict[str, str]:
    """MemoryVLA's server: `response` is one action as numbers joined by spaces, or several joined by `;`."""
    uploads = [image] if image_wrist is None else [image, image_wrist]
    chunk = await _answer(request, response, "memoryvla", uploads, states, text, _first(episode_first_frame))
    return {"response": ";".join(" ".join(map(str, action)) for action in chunk.tolist())}


async def dexbotic(
    request: Request,
    response: Response,
    image: Annotated[list[UploadFile], File(description="one or more pictures, in the order of the policy's cameras")],
    text: Annotated[str, Form(description="the instruction, or the whole question Dexbotic's clients send")],
    episode_first_frame: Annotated[str, Form(description="True empties the memory, False keeps it")],
    states: Annotated[UploadFile | None, File(description=STATES)] = None,
) -> dict[str, list[list[float]]]:
    """Dexbotic's server: `response` is the chunk, a list of actions."""
    asked = QUESTION.fullmatch(text)
    bare = asked["text"] if asked else text
    chunk = await _answer(request, response, "dexbotic", image, states, bare, _first(episode_first_frame))
    return {"response": chunk.tolist()}


async def cogact(
    request: Request,
    response: Response,
    images: Annotated[list[UploadFile], File(description="the pictures, in the order of the policy's cameras")],
    told_in: Annotated[
        UploadFile, File(alias="json", description='{"task_description", "episode_first_frame", "state"}')
    ],
) -> Any:
    """CogACT's server: a bare list, the action. `episode_first_frame` is this server's addition, and must be there for
    a policy that remembers; a memoryless one begins anew where the description changes, as the original does. `state`
    is another one, for a policy that reads proprioception."""
    told = _described(await told_in.read())
    chunk = await _answer(request, response, "cogact", images, told.state, told.text, told.first)
    found = chunk.tolist()
    return JSONResponse(found[0] if len(found) == 1 else found, headers=dict(response.headers))


@dataclass(frozen=True)
class Described:
    """CogACT's JSON. first, state: None if the client does not say."""

    text: str
    first: bool | None
    state: Any


def _described(data: bytes) -> Described:
    try:
        told = json.loads(data)
        text, first = told["task_description"], told.get("episode_first_frame")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ServingError(400, "`json` must be an object with `task_description`") from error
    if not isinstance(text, str) or not (first is None or isinstance(first, bool)):
        raise ServingError(400, "`task_description` must be text, `episode_first_frame` true or false")
    return Described(text, first, told.get("state"))


def _first(word: str) -> bool:
    if word not in FIRST:
        raise ServingError(400, f"episode_first_frame must be True or False, was {word[:20]!r}")
    return FIRST[word]


# ---------------------------------------------------------------------- one memory per name


class Desk:
    """Which session a nameless or self-named client holds."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], str] = {}

    def session(self, here: Served, key: tuple[str, str]) -> Session | None:
        """The live session behind a name; None where there is none, or none any more."""
        id = self._held.get(key)
        if id is None:
            return None
        try:
            return here.sessions.get(id)
        except ServingError:
            return None

    def keep(self, here: Served, key: tuple[str, str], session: Session) -> None:
        """Note who holds it; names whose sessions are gone are forgotten."""
        self._held = {known: id for known, id in self._held.items() if self.session(here, known) is not None}
        self._held[key] = session.id


async def _answer(
    request: Request,
    response: Response,
    flavour: str,
    uploads: Sequence[UploadFile],
    states: Any,
    text: str,
    first: bool | None,
) -> Floats:
    """The actions [window, A] for one frame of a client that names its episode by nothing but its first frame."""
    here, told = served(request), Told.of(request)
    try:
        images, state = await _pictures(here, uploads), await _state(here, states)
    except ServingError:
        # A first frame ends the episode before it, also when it is refused itself: no later frame may fall into that.
        if first:
            await _let_go(here, request, told)
        raise
    session = await _session(here, request, told, flavour, text.strip(), first)
    window = here.settings.window or (here.spec.chunk if flavour == "dexbotic" else 1)
    step = told.step
    if step is None:
        step = 0 if session.calls == 0 else session.step + window
    text = text.strip()
    chunk = await here.sessions.act(session, images=images, state=state, call=told.call, step=step, instruction=text)
    response.headers["X-Memvla-Call"] = str(session.calls - 1)
    response.headers["X-Memvla-Step"] = str(session.step)
    if told.episode:
        response.headers["X-Memvla-Episode"] = told.episode
    return chunk[:window]


async def _session(here: Served, request: Request, told: Told, flavour: str, text: str, first: bool | None) -> Session:
    """The session this frame belongs to, begun where the client says so. Raises ServingError 409 or 503."""
    desk: Desk = request.app.state.desk
    client = peer(request)
    key = (told.name, client if told.name else "")
    held = desk.session(here, key)
    if held is not None and held.peer != client:
        raise ServingError(
            409,
            "an episode of another client is live here; name your own (/as/NAME before the path, or the header "
            "X-Memvla-Session), or wait until that one is over",
        )
    if first is None and not here.spec.stateful:
        first = held is None or held.instruction != text
    if not first and held is None:
        note_missing(here, client)
    if held is not None and not first:
        if held.instruction != text:
            note_changed(here, held)
        return held
    if held is not None:
        await here.sessions.end(held, "restarted")
    begun = await here.sessions.begin(text, protocol=flavour, peer=client, seed=told.seed, label=told.label)
    desk.keep(here, key, begun)
    return begun


async def _let_go(here: Served, request: Request, told: Told) -> None:
    """End the episode this client holds, if it holds one."""
    client = peer(request)
    held = request.app.state.desk.session(here, (told.name, client if told.name else ""))
    if held is not None and held.peer == client:
        await here.sessions.end(held, "restarted")


def note_missing(here: Served, client: str) -> None:
    """A frame of an episode that was never begun: an error, or a warning by the server's settings."""
    if here.settings.missing_start == "error":
        raise ServingError(
            409,
            "no episode is live here: send episode_first_frame=True with the first frame of each (one that was silent "
            f"for {here.settings.idle_s:g} s is over, and its memory gone)",
        )
    say("frame without an episode: one is begun with an empty memory", level=logging.WARNING, peer=client)


def note_changed(here: Served, session: Session) -> None:
    """Another instruction without a new episode: an error, or a warning by the server's settings."""
    if here.settings.text_change == "error":
        raise ServingError(
            409,
            "the instruction changed inside an episode; begin a new one with its first frame, or repeat the old text",
        )
    say("instruction changed inside an episode; its memory is kept", level=logging.WARNING, session=session.mark)


@dataclass(frozen=True)
class Told:
    """What a client of ours says in headers."""

    name: str = ""
    episode: str = ""
    label: EpisodeId | None = None
    seed: int | None = None
    call: int | None = None
    step: int | None = None

    @staticmethod
    def of(request: Request | WebSocket) -> Told:
        name = str(request.path_params.get("name") or request.headers.get("x-memvla-session", ""))
        if name and not NAME.fullmatch(name):
            raise ServingError(400, "a session's name has 1 to 64 letters, digits, '_', '.' or '-'")
        episode = request.headers.get("x-memvla-episode", "")
        numbers = {key: _whole(request.headers.get(f"x-memvla-{key}"), key) for key in ("seed", "call", "step")}
        return Told(name=name, episode=episode, label=label_of(episode), **numbers)


def label_of(text: str) -> EpisodeId | None:
    """`["suite", "task", trial, attempt]` in JSON; None for nothing."""
    if not text:
        return None
    try:
        suite, task, trial, attempt = json.loads(text)
        if len(text) > 600 or not isinstance(suite, str) or not isinstance(task, str):
            raise ValueError
        return EpisodeId(suite, task, int(trial), int(attempt))
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise ServingError(400, 'X-Memvla-Episode must be ["suite", "task", trial, attempt] in JSON') from error


def _whole(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ServingError(400, f"X-Memvla-{name.capitalize()} must be a whole number")
    return int(text)


async def _pictures(here: Served, uploads: Sequence[UploadFile]) -> dict[str, Image]:
    """The uploads as the policy's cameras, in their order. Raises ServingError 400 for another number of them."""
    names = here.spec.cameras
    if len(uploads) < len(names):
        raise ServingError(400, f"this policy sees {len(names)} pictures ({', '.join(names)}), {len(uploads)} came")
    found = {}
    for name, upload in zip(names, uploads, strict=False):
        picture = await decoded(await upload.read(), here.settings.max_pixels, name)
        found[name] = square_crops(picture, CROPPED_SIDE) if here.settings.crops else picture
    return found


async def _state(here: Served, sent: Any) -> Floats | None:
    """Proprioception, from an upload or as it stood in the JSON; None where the policy reads none, whatever came.

    Raises ServingError 400.
    """
    if not here.spec.uses_state:
        return None
    try:
        told = json.loads(await sent.read()) if isinstance(sent, StarletteUpload) else sent
    except (ValueError, RecursionError) as error:
        raise ServingError(400, "`states` must hold a JSON list of numbers") from error
    if told is None:
        raise ServingError(
            400,
            "this policy reads proprioception: send the file `states` with a JSON list of numbers (CogACT's clients: "
            "`state` in the JSON)",
        )
    return frames.numbers(told)
