"""A real server on this machine that holds one file and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness import downloads

CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """A server of one file, and how it behaves. cut: bytes after which it breaks the connection, one for each answer
    (used up); sized: it says how long the file is. Then what it was asked: a Range header each."""

    url: str = ""
    content: bytes = CONTENT
    ranges: bool = True
    sized: bool = True
    etag: str = '"v1"'
    status: int = 200
    shift: int = 0
    to: str = ""
    cut: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            site.asked.append(wanted)
            if site.to and self.path.startswith("/file"):
                self.send_response(302)
                self.send_header("Location", site.to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if site.status != 200:
                self.send_error(site.status)
                return
            begin = 0
            same = self.headers.get("If-Range", site.etag) == site.etag
            if wanted and site.ranges and same:
                begin = int(wanted.removeprefix("bytes=").removesuffix("-")) + site.shift
                if begin >= len(site.content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(site.content) - 1}/{len(site.content)}")
            else:
                self.send_response(200)
            self._send(site.content[begin:])

        def _send(self, body: bytes) -> None:
            if site.etag:
                self.send_header("ETag", site.etag)
            if site.sized:
                self.send_header("Content-Length", str(len(body)))
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            part = body[: site.cut.pop(0)] if site.cut else body
            for k in range(0, len(part), 50_000):
                piece = part[k : k + 50_000]
                self.wfile.write(piece if site.sized else b"%x\r\n%s\r\n" % (len(piece), piece))
            if len(part) == len(body) and not site.sized:
                self.wfile.write(b"0\r\n\r\n")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(downloads, "PAUSE_S", 0.0)
    made = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(made))
    made.url = f"http://127.0.0.1:{server.server_port}/file"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
