"""A real browser without a window, for the tests of pages: Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE = 120.0  # seconds until a browser that does not answer is given up


def browser() -> str | None:
    """The browser named by MEMVLA_BROWSER, else the first that is installed, else None."""
    return os.environ.get("MEMVLA_BROWSER") or next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Tab:
    """A page that is open. complaints: whatever the browser logged; fetched: every address it asked for."""

    socket: ClientConnection
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    _count: int = 0
    _loaded: bool = False

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of one command of the DevTools protocol; events that come before it are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        self.socket.send(json.dumps(message | ({"sessionId": self.session} if self.session else {})))
        while True:
            answer = json.loads(self.socket.recv(timeout=PATIENCE))
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            self._event(answer)

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it, videos included, is there."""
        self._loaded = False
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not self._loaded:
            self._event(json.loads(self.socket.recv(timeout=PATIENCE)))
        self.ask("Promise.all([...document.querySelectorAll('video')].map(v => v.readyState >= 1 || v.error || "
                 "new Promise(r => { v.onloadedmetadata = v.onerror = r; v.load() })))")  # fmt: skip

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, promises awaited."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _event(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Log.entryAdded":
            self.complaints.append(f"{told['entry']['level']}: {told['entry']['text']}")
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(told)[:300])
        elif method == "Network.requestWillBeSent":
            self.fetched.append(told["request"]["url"])
        elif method == "Page.loadEventFired":
            self._loaded = True


@contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """An empty tab of a new browser, which is ended on leaving. profile: an empty folder."""
    found = browser()
    assert found is not None
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    words += ["--disable-dev-shm-usage", "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen([found, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(profile, process), max_size=None) as socket:
            made = Tab(socket)
            target = made.call("Target.createTarget", url="about:blank")["targetId"]
            made.session = made.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for part in ("Page", "Runtime", "Log", "Network"):
                made.call(f"{part}.enable")
            yield made
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens: it writes port and path into a file of its profile."""
    file, until = profile / "DevToolsActivePort", time.monotonic() + PATIENCE
    while not file.exists() or len(file.read_text().splitlines()) < 2:
        assert process.poll() is None, f"the browser ended with {process.returncode}"
        assert time.monotonic() < until, "the browser does not say where it listens"
        time.sleep(0.05)
    port, path = file.read_text().splitlines()[:2]
    return f"ws://127.0.0.1:{port}{path}"
