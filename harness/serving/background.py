"""A server beside the program that starts it: for notebooks, benchmarks and tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

START_S = 60.0


def uvicorn_config(app: FastAPI, max_bytes: int, **more: Any) -> uvicorn.Config:
    """How every server of ours is run: no access log, no trust in forwarded addresses, messages bounded."""
    settings: dict[str, Any] = {"log_config": None, "access_log": False, "proxy_headers": False, "server_header": False}
    settings |= {"ws": "websockets-sansio", "ws_max_size": max_bytes, "ws_per_message_deflate": False}
    return uvicorn.Config(app, timeout_keep_alive=30, timeout_graceful_shutdown=10, **settings, **more)


@contextmanager
def running(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the application from a thread; yields its base URL. The policy is freed at the end."""
    listening = socket.create_server((host, port))
    max_bytes = int(app.state.served.settings.max_request_mb * 2**20)
    server = uvicorn.Server(uvicorn_config(app, max_bytes))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="memvla-serve", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    try:
        yield f"http://{host}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_S)
        listening.close()
