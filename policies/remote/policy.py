"""A policy that runs in somebody else's server, evaluated like any other."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from envs.spec import EpisodeId
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
)
from policies.remote.line import Line
from policies.remote.options import HTTP, Options, action_of, ask

AT_ONCE = 32
"""Most questions in flight, so that the server can batch them."""
STATEFUL = ("memoryvla", "dexbotic", "cogact", "vla_eval")


class ServerPolicy(Policy):
    """One line to the server for each live episode. A lost line fails its episode: nothing is reconnected, since the
    memory at the other end may be gone."""

    def __init__(self, spec: PolicySpec, options: Options) -> None:
        self.spec = spec
        self._options = options
        self._lines: EpisodeStates[Line] = EpisodeStates()
        self._seats: list[str] = []
        self._taken: dict[EpisodeId, str] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="remote-policy")
        self._client: Any = None

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        opened: list[EpisodeId] = []
        try:
            for start in episodes:
                if start.episode in self._lines:
                    raise PolicyError(f"episode {start.episode} was started twice without an end between")
                if self.spec.slots is not None and len(self._lines) >= self.spec.slots:
                    raise PolicyError(
                        f"the server at {self._options.url} holds {self.spec.slots} episodes at once, and all are taken"
                    )
                self._lines.open(start.episode, self._open(start))
                opened.append(start.episode)
        except BaseException:
            self.end(opened)
            raise

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        lines = [self._lines.of(request.episode) for request in requests]
        if len(requests) == 1:
            return [ActReply(requests[0].episode, requests[0].step, lines[0].ask(requests[0]))]
        chunks = list(self._pool.map(lambda pair: pair[0].ask(pair[1]), zip(lines, requests, strict=True)))
        return [ActReply(each.episode, each.step, chunk) for each, chunk in zip(requests, chunks, strict=True)]

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        self._lines.of(episode).switch(instruction, keep_memory=keep_memory)

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            line = self._lines.pop(episode, None)
            if line is not None:
                line.close()
            seat = self._taken.pop(episode, None)
            if seat is not None:
                self._seats.append(seat)

    def live(self) -> int:
        return len(self._lines)

    def close(self) -> None:
        self.end(list(self._lines))
        self._pool.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    def _open(self, start: EpisodeStart) -> Line:
        options, cameras = self._options, self.spec.cameras
        if options.protocol in HTTP:
            import httpx

            from policies.remote.http import HttpLine

            if self._client is None:
                limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
                self._client = httpx.Client(
                    timeout=options.timeout, headers=options.headers(), trust_env=False, limits=limits
                )
            # A seat is used again by the next episode, whose first frame empties it: no more of them than are live.
            seat = self._taken[start.episode] = self._seats.pop() if self._seats else secrets.token_hex(16)
            return HttpLine(options, cameras, start, self._client, seat)
        from policies.remote import sockets

        kinds: dict[str, type[sockets.SocketLine]] = {
            "openpi": sockets.OpenpiLine,
            "vla_eval": sockets.VlaEvalLine,
            "memvla": sockets.OwnLine,
        }
        kind: Any = kinds[options.protocol]
        line: Line = kind(options, cameras, start, self.spec.action)
        return line


def remote(context: PolicyContext, **given: Any) -> ServerPolicy:
    """A policy behind the server at policy.url, for a suite. given: the keys of remote.yaml. Asks the server who it is.

    Raises PolicyError where nothing answers, an option is missing, or the server cannot do what was asked.
    """
    try:
        import httpx  # noqa: F401 - said here once, instead of at the first episode
        import websockets  # noqa: F401
    except ImportError as error:
        raise PolicyError(f"remote policies need {error.name}: pip install 'memvla-bench[serve]'") from error
    given.pop("name", None)
    options = Options.of(given)
    about = ask(options)
    if options.protocol == "memvla" and about is None:
        raise PolicyError(f"the server at {options.url} does not speak protocol memvla (nothing at /v1/policy)")
    return ServerPolicy(_spec(context, options, about), options)


def _spec(context: PolicyContext, options: Options, about: Mapping[str, Any] | None) -> PolicySpec:
    chunk = _chunk(options, about)
    slots, note = _slots(options, about)
    own = options.protocol == "memvla" and about is not None
    told: Mapping[str, Any] = about if own and about is not None else {}
    cameras = options.camera_names(context)
    if options.cameras is None and own:
        cameras = tuple(camera["name"] for camera in told["cameras"])
    return PolicySpec(
        name="remote",
        action=action_of(options, about, context),
        cameras=cameras,
        chunk=chunk,
        execute=min(options.execute or int(told.get("execute", chunk)), chunk),
        stateful=bool(told["stateful"]) if own else options.protocol in STATEFUL,
        memory_scope=told.get("memory_scope"),
        uses_state=bool(told["state"]) if own else options.state,
        slots=slots,
        note=note,
    )


def _chunk(options: Options, about: Mapping[str, Any] | None) -> int:
    """Actions in one answer."""
    if options.protocol == "memvla" and about is not None:
        return int(about["chunk"])
    if options.chunk is not None:
        return options.chunk
    if options.protocol in ("dexbotic", "openpi"):
        if about is not None:
            return int(about["chunk"])
        raise PolicyError(f"say how many actions an answer of this {options.protocol} server has: policy.chunk=N")
    return 1


def _slots(options: Options, about: Mapping[str, Any] | None) -> tuple[int | None, str]:
    """Episodes the server can hold at once (None: any number), and what the report must say of it."""
    if about is not None and options.protocol in (*HTTP, "memvla"):
        return options.slots or int(about["slots"]), ""
    if options.protocol in HTTP:
        if options.slots not in (None, 1):
            raise PolicyError(
                f"policy.slots={options.slots}: a {options.protocol} server keeps one memory for all its clients; "
                "only `memvla serve` keeps them apart"
            )
        return 1, (
            f"served over {options.protocol}'s protocol by a server with one memory for all clients: episodes ran one "
            "at a time. Nothing tells whether another client used it meanwhile, or whether it was restarted."
        )
    if options.protocol == "openpi":
        return (
            options.slots,
            "served over openpi's protocol, which knows no episodes: taken for a policy without memory.",
        )
    return options.slots, ""
