"""The application: sessions over one policy, every protocol's endpoints, health, metrics, and errors without traces."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from envs.conversions import Converter, converter
from envs.spec import ActionSpec
from harness.config import ConfigError
from harness.plan import context_of, match
from harness.serving import legacy, own, sockets
from harness.serving.engine import Engine
from harness.serving.guard import Guard, TooLarge
from harness.serving.metrics import Metrics, say
from harness.serving.page import docs_page
from harness.serving.sessions import ServingError, Sessions
from harness.serving.settings import ServeConfig, ServeSettings, token_of
from policies.base import Policy, PolicySpec
from suites.protocol import Suite

ABOUT = """
One policy, many robots: a session is one episode with a memory of its own, and calls of several sessions are batched.

`/v1` is this server's own protocol; the others are drop-in for clients that exist. See docs/serving.md.
"""


@dataclass(frozen=True)
class Served:
    """What endpoints work with, as `app.state.served`.

    about: what `/v1/policy` tells; action: the suite's own convention, and convert: into it; camera_names: a client's
    name for a picture -> ours.
    """

    sessions: Sessions
    settings: ServeSettings
    about: dict[str, Any]
    action: ActionSpec
    convert: Converter
    camera_names: dict[str, str]

    @property
    def spec(self) -> PolicySpec:
        return self.sessions.engine.spec


def build_app(policy: Policy, suite: Suite, settings: ServeSettings) -> FastAPI:
    """The application that serves `policy`, built for `suite`. Raises ConfigError for one that cannot be served."""
    _servable(policy.spec, suite, settings)
    engine = Engine(policy, max_batch=settings.max_batch, call_s=settings.call_s, wait_s=settings.wait_s)
    metrics = Metrics(engine.host)
    sessions = Sessions(engine, settings, suite.name, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await engine.open()
        sessions.watch()
        yield
        await sessions.close()
        await engine.close()

    app = FastAPI(
        title=f"memvla: {policy.spec.name}", description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.served = Served(
        sessions=sessions,
        settings=settings,
        about=about(policy.spec, suite, settings),
        action=suite.env_spec.action,
        convert=converter(policy.spec.action, suite.env_spec.action),
        camera_names=_camera_names(policy.spec, settings),
    )
    app.state.desk = legacy.Desk()
    max_bytes = int(settings.max_request_mb * 2**20)
    app.add_middleware(Guard, token=token_of(settings), max_bytes=max_bytes, rate=settings.rate, metrics=metrics)
    _health(app)
    for room in (own, legacy, sockets):
        app.include_router(room.router(settings))
    _errors(app)
    _docs(app)
    return app


def build(config: ServeConfig) -> FastAPI:
    """The application of a composed configuration; builds the policy. Raises the policy's own errors."""
    return build_app(config.policy.build(context_of(config.suite)), config.suite, config.serve)


def _camera_names(spec: PolicySpec, settings: ServeSettings) -> dict[str, str]:
    pairs = [pair.partition(":") for pair in settings.cameras.split(",") if pair.strip()]
    names = {theirs.strip(): ours.strip() for theirs, _, ours in pairs}
    for ours in names.values():
        if ours not in spec.cameras:
            raise ConfigError(
                f"serve.cameras={settings.cameras}: the policy sees no camera {ours!r}; it sees "
                f"{', '.join(spec.cameras) or 'none'} (write THEIRS:OURS)"
            )
    return names


def _servable(spec: PolicySpec, suite: Suite, settings: ServeSettings) -> None:
    match(spec, suite)
    if settings.window is not None and settings.window > spec.chunk:
        raise ConfigError(f"serve.window={settings.window}: policy {spec.name} answers with {spec.chunk} actions")
    if spec.privileged:
        raise ConfigError(f"policy {spec.name} reads simulator state, which no robot has; it cannot be served")
    if spec.needs_every_frame:
        raise ConfigError(
            f"policy {spec.name} must see every frame between its calls, which these protocols do not carry"
        )


def about(spec: PolicySpec, suite: Suite, settings: ServeSettings) -> dict[str, Any]:
    """What a client must know of the policy, in JSON's terms."""
    env = suite.env_spec
    return {
        "server": "memvla",
        "policy": spec.name,
        "suite": suite.name,
        "action": asdict(spec.action),
        "action_dim": spec.action.dim,
        "chunk": spec.chunk,
        "execute": spec.execute,
        "cameras": [asdict(env.camera(name)) for name in spec.cameras],
        "state": list(env.state) if spec.uses_state else [],
        "stateful": spec.stateful,
        "memory_scope": spec.memory_scope,
        "slots": spec.slots or settings.sessions,
        "idle_s": settings.idle_s,
    }


def _health(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    @app.get("/health", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz(response: Response) -> dict[str, str]:
        """The policy is loaded and no call of it hangs; 503 otherwise."""
        if app.state.served.sessions.engine.hung():
            response.status_code = 503
            return {"status": "a policy call hangs"}
        return {"status": "ready"}

    @app.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Prometheus figures."""
        return Response(generate_latest(app.state.served.sessions.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _docs(app: FastAPI) -> None:
    words = {"/v1/session": own.socket, "/openpi": sockets.openpi, "/vla_eval": sockets.vla_eval}
    page = docs_page(app, app.state.served.about, {path: str(call.__doc__) for path, call in words.items()})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        """What can be asked of this server."""
        return HTMLResponse(page)


def _errors(app: FastAPI) -> None:
    """Every error as `{"error": one sentence}`; what went wrong inside is for the log alone."""

    def answer(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
        app.state.served.sessions.metrics.refused.labels(str(status)).inc()
        return JSONResponse({"error": message}, status, headers)

    async def serving(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServingError)
        say("refused", level=logging.WARNING, path=_route(request), status=error.status, cause=str(error))
        wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return answer(error.status, str(error), wait)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(400, "; ".join(map(_cause, error.errors()[:5]))[:500])

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(error.status_code, str(error.detail)[:500])

    async def large(request: Request, error: Exception) -> Response:
        return answer(413, str(error))

    async def unexpected(request: Request, error: Exception) -> Response:
        logging.getLogger("memvla.serve").error("internal error", exc_info=error)
        return answer(500, "internal error; see the server's log")

    app.add_exception_handler(ServingError, serving)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(TooLarge, large)
    app.add_exception_handler(Exception, unexpected)


def _cause(wrong: Mapping[str, Any]) -> str:
    """A validation error in a client's words: which field, and what of it."""
    said = str(wrong["msg"]).removeprefix("Value error, ")
    said = "must be a file, not text (curl: -F NAME=@FILE)" if said.startswith("Expected UploadFile") else said
    return f"{'.'.join(str(part) for part in wrong['loc'][1:])}: {said}"


def _route(request: Request) -> str:
    """The path without what stands for its placeholders: a session's id is a key and stays out of logs."""
    return str(getattr(request.scope.get("route"), "path", "?"))
