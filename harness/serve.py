"""`memvla serve`: start the deployment server and keep it until it is told to stop."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, Optional

import typer
from rich.console import Console

HELP = """
Serve a policy to robots and to other harnesses: one session is one episode with a memory of its own.

[bold]memvla serve policy=memoryvla_lab suite=lab_memory[/]
[bold]memvla serve policy=memoryvla_pp suite=libero_spatial policy.checkpoint=DIR --port 2345[/]
[bold]memvla serve policy=cogact suite=libero_object --protocol vla_eval[/]

Words are key=value:
  [bold]policy[/], policy.OPTION       see memvla policies
  [bold]suite[/]                       whose cameras and actions the policy was built for; see memvla suites
  [bold]station[/], station.OPTION     of a suite of real robots: see memvla robot; only described, not connected to
  [bold]serve.host[/], .port, .token   127.0.0.1:8000; any other host needs a token (or MEMVLA_SERVE_TOKEN)
  [bold]serve.process_frame[/]         memoryvla or dexbotic: whose reply /process_frame gives
  [bold]serve.root_socket[/]           openpi or vla_eval: what a WebSocket at / speaks
  [bold]serve.window[/], .crops        actions in a compatible reply; MemoryVLA's crops before the policy
  [bold]serve.missing_start[/], .text_change   error or warn, where a client does not say that an episode begins
  [bold]serve.cameras[/], .connection_is_episode   THEIRS:OURS,... and episodes for openpi and vla_eval clients
  [bold]serve.seed[/]                  of the sampling noise, where a client names none
  [bold]serve.max_batch[/], .sessions, .waiting, .wait_s, .idle_s, .call_s   batching, capacity, patience
  [bold]serve.max_request_mb[/], .max_pixels, .rate   limits on what one client may send

Endpoints: /v1 (own), /process_frame, /dexbotic/process_frame, /api/inference, WebSockets /v1/session, /openpi and
/vla_eval; /healthz, /readyz, /metrics, and the API's description at /docs. The log is JSON on stderr.
"""


def register(app: typer.Typer, console: Console) -> None:
    """Add the verb `serve`."""

    @app.command("serve", help=HELP)
    def command(
        words: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
        port: Annotated[Optional[int], typer.Option(help="serve.port (0: a free one)")] = None,  # noqa: UP045
        host: Annotated[Optional[str], typer.Option(help="serve.host")] = None,  # noqa: UP045
        protocol: Annotated[
            Optional[Literal["memoryvla", "dexbotic", "openpi", "vla_eval"]],  # noqa: UP045
            typer.Option(help="what / or /process_frame speaks"),
        ] = None,
    ) -> None:
        which = "process_frame" if protocol in ("memoryvla", "dexbotic") else "root_socket"
        options = {"port": port, "host": host, which: protocol}
        serve([*words, *(f"serve.{key}={value}" for key, value in options.items() if value is not None)], console)


def serve(words: Sequence[str], console: Console) -> None:
    """Serve until SIGINT or SIGTERM. Raises ConfigError, SuiteError, PlanError or the policy's own PolicyError."""
    from harness.config import ConfigError

    try:
        import uvicorn

        from harness.serving.app import build
        from harness.serving.background import uvicorn_config
        from harness.serving.metrics import log_to_stderr
        from harness.serving.settings import compose_serve
    except ImportError as error:
        raise ConfigError(
            f"serving needs packages that are not installed ({error.name}): pip install 'memvla-bench[serve]'"
        ) from error
    config = compose_serve(words)
    listening = _bound(config.serve.host, config.serve.port)
    console.print(f"loading {config.policy.name} for {config.suite.name} …", highlight=False)
    app = build(config)
    log_to_stderr()
    host, port = listening.getsockname()[:2]
    server = uvicorn.Server(uvicorn_config(app, int(config.serve.max_request_mb * 2**20)))
    shown = f"[{host}]" if ":" in host else host
    listening.listen()  # whoever reads the address below may call at once
    console.print(f"serving on http://{shown}:{port} (API: http://{shown}:{port}/docs); Ctrl-C stops", highlight=False)
    sys.stdout.flush()
    server.run(sockets=[listening])


def _bound(host: str, port: int) -> socket.socket:
    """A socket at this address, taken before the minutes that loading may need. Raises ConfigError."""
    from harness.config import ConfigError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        raise ConfigError(
            f"cannot listen at {host}:{port}: {error.strerror or error}; choose another with serve.port or serve.host"
        ) from error
    return made
