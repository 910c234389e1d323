"""`memvla serve` as a user starts it: a process, its address on stdout, JSON lines on stderr, a clean end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from rich.console import Console

from harness.config import ConfigError
from harness.serve import serve

WORDS = [sys.executable, "-m", "harness.cli", "serve", "policy=random", "suite=lab_smoke"]


def test_it_starts_answers_and_stops_when_told() -> None:
    process = subprocess.Popen([*WORDS, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        assert found is not None
        url = found[0]
        assert httpx.get(f"{url}/readyz", timeout=60).json() == {"status": "ready"}
        assert httpx.get(f"{url}/v1/policy", timeout=60).json()["policy"] == "random"
        page = httpx.get(f"{url}/docs", timeout=60).text
        assert "/process_frame" in page
        assert not re.search(r"(src|href)=.https?:", page), "the page fetches nothing from elsewhere"
        assert "/v1/sessions/{id}/act" in httpx.get(f"{url}/openapi.json", timeout=60).json()["paths"]
        assert httpx.post(f"{url}/v1/sessions", json={"instruction": "x"}, timeout=60).status_code == 201
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    events = [json.loads(line)["event"] for line in errors.splitlines() if line.startswith("{")]
    assert events[0] == "session begun"
    assert "session ended" in events, "live sessions are ended at the end"


def test_an_address_that_is_taken_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"cannot listen at 127.0.0.1:{port}"):
            serve(["policy=random", "suite=lab_smoke", f"serve.port={port}"], Console(quiet=True))
