"""MemoryVLA's, Dexbotic's and CogACT's servers: a POST for each frame, and no episode but its first frame.

Protocols: MemoryVLA's deploy server, Dexbotic's, and CogACT's scripts/deploy.py.
"""

from __future__ import annotations

import json
from typing import Any

import httpx

from envs.spec import Floats
from policies.base import ActRequest, EpisodeStart, PolicyError
from policies.remote.line import Line, chunk_of
from policies.remote.options import ENDPOINTS, Options

QUESTION = "What action should the robot take to {instruction}?"
"""What Dexbotic's server wants the client to ask."""


class HttpLine(Line):
    """One episode. seat: a name of this client's own, under which a server of ours keeps its memory."""

    def __init__(
        self, options: Options, cameras: tuple[str, ...], start: EpisodeStart, client: httpx.Client, seat: str
    ) -> None:
        super().__init__(options, cameras, start)
        self._client, self._seat = client, seat
        self._first = True
        self._address = options.address(ENDPOINTS[options.protocol], socket=False)

    def act(self, request: ActRequest) -> Floats:
        here = {"X-Memvla-Session": self._seat, "X-Memvla-Step": str(request.step)}
        if not self._first:
            here["X-Memvla-Call"] = str(request.call)
        answer = self._client.post(self._address, headers=self.marks() | here, **self._form(request))
        self._first = False
        if answer.status_code != 200:
            raise PolicyError(f"the server at {self._address} answered {answer.status_code}: {_error(answer)}")
        told = answer.headers.get("X-Memvla-Step")
        if told is not None and told != str(request.step):
            raise PolicyError(f"asked for step {request.step}, the server answered for step {told}")
        return self._chunk(answer)

    def instruction_changed(self, instruction: str, *, keep_memory: bool) -> None:
        self._first = self._first or not keep_memory

    def _form(self, request: ActRequest) -> dict[str, Any]:
        """The request's form, as each server wants it."""
        pictures = [(f"{name}.{self.options.encoding}", self.encoded(request, name)) for name in self.cameras]
        state = request.observation.state
        numbers = None if state is None else state.tolist()
        if self.options.protocol == "cogact":
            told = {"task_description": self.instruction, "episode_first_frame": self._first}
            data = json.dumps(told if numbers is None else told | {"state": numbers}).encode()
            return {"files": [*(("images", picture) for picture in pictures), ("json", ("request.json", data))]}
        dexbotic = self.options.protocol == "dexbotic"
        text = QUESTION.format(instruction=self.instruction) if dexbotic else self.instruction
        fields = ("image", "image") if dexbotic else ("image", "image_wrist")
        named = fields + fields[1:] * len(pictures)
        files = list(zip(named, pictures, strict=False))
        if numbers is not None:
            files.append(("states", ("states.json", json.dumps(numbers).encode())))
        return {"data": {"text": text, "episode_first_frame": str(self._first)}, "files": files}

    def _chunk(self, answer: httpx.Response) -> Floats:
        try:
            told = answer.json()
            if self.options.protocol != "cogact":
                told = told["response"]
            if isinstance(told, str):
                told = [[float(number) for number in action.split()] for action in told.split(";")]
        except (ValueError, KeyError, TypeError) as error:
            raise PolicyError(
                f"the server at {self._address} answered what cannot be read: {answer.text[:120]!r}"
            ) from error
        return chunk_of(told)


def _error(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.text[:120] or "nothing"
