"""Who gets in, and how much: token, foreign web pages, request size, rate. One ASGI layer before everything else."""

from __future__ import annotations

import hmac
import ipaddress
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from harness.serving.metrics import Metrics
from harness.serving.settings import is_loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = ("/healthz", "/readyz", "/health")
"""Say nothing but whether the server is well, and need no token."""
MOST_PEERS = 10_000
WS_POLICY_VIOLATION = 1008


class Guard:
    """Lets through what may come in.

    token: clients must show it ("": none is asked for; the server then listens on loopback only, and requests of web
    pages and of foreign host names are refused, else any page in a browser on this machine could drive the robot).
    rate: requests a second from one address (0: any number).
    """

    def __init__(self, app: App, *, token: str, max_bytes: int, rate: float, metrics: Metrics) -> None:
        self._app, self._token, self._max_bytes = app, token.encode(), max_bytes
        self._rate, self._metrics = rate, metrics
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await self._refuse(scope, receive, send, *refusal)
        elif scope["type"] == "http":
            await self._app(scope, self._counted(receive), send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Status and reason why this request is not let in, or None."""
        if not self._under_rate(str((scope.get("client") or ["?"])[0])):
            return 429, f"more than {self._rate:g} requests a second from one address"
        if scope["path"] in OPEN_PATHS:
            return None
        if self._token:
            if not self._shown(headers):
                return 401, "a token is needed: send the header `Authorization: Bearer TOKEN`"
        elif not _own_name(headers.get(b"host", b"localhost")):
            return 403, "this server answers under names of this machine only; set a token for anything else"
        origin = headers.get(b"origin")
        if origin is not None and _site(origin) != headers.get(b"host", b"").decode("latin-1").lower():
            return 403, "requests of another site's web pages are not answered"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            return 413, f"the request is larger than {self._max_bytes} bytes"
        return None

    def _shown(self, headers: dict[bytes, bytes]) -> bool:
        """Whether the right token came along, as `Bearer` or, as openpi's client sends it, `Api-Key`."""
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        same = hmac.compare_digest(given.strip(), self._token)
        return same and kind.lower() in (b"bearer", b"api-key")

    def _under_rate(self, peer: str) -> bool:
        """A bucket of tokens for each address: `rate` a second, twice as many at once."""
        if not self._rate:
            return True
        now = time.monotonic()
        left, then = self._buckets.pop(peer, (2 * self._rate, now))
        left = min(2 * self._rate, left + (now - then) * self._rate)
        self._buckets[peer] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MOST_PEERS:
            self._buckets.popitem(last=False)
        return left >= 1

    def _counted(self, receive: Receive) -> Receive:
        """`receive` that stops a body which is longer than it said."""
        seen = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                raise TooLarge(self._max_bytes)
            return message

        return counted

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, status: int, reason: str) -> None:
        self._metrics.refused.labels(str(status)).inc()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": WS_POLICY_VIOLATION, "reason": reason[:120]})
            return
        headers = [(b"content-type", b"application/json")]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status == 429:
            headers.append((b"retry-after", b"1"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"error": reason}).encode()})


class TooLarge(Exception):
    """A request body that outgrew its limit while it was read."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request is larger than {limit} bytes")


def _own_name(host: bytes) -> bool:
    """Whether a Host header names this machine."""
    name = urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    return is_loopback(name) or _unspecified(name)


def _unspecified(name: str) -> bool:
    """0.0.0.0, which clients of openpi and others use for this machine."""
    try:
        return ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _site(origin: bytes) -> str:
    return urlsplit(origin.decode("latin-1")).netloc.lower()
