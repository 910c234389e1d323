"""What the deployment server withstands: strangers, greed, malformed messages, and clients of one another."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import msgpack
import numpy as np
import pytest
from extra_policies import Remembering
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from harness.config import ConfigError
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.metrics import JsonLines
from harness.serving.settings import ServeSettings, compose_serve, token_of
from policies.base import Policy
from policies.baselines import RandomPolicy
from policies.remote import codec
from suites.protocol import load_suite

LAB = load_suite("lab_smoke")
TOKEN = "0123456789abcdef0123456789abcdef"


def random_policy() -> Policy:
    return RandomPolicy(context_of(LAB), cameras=True)


def png(height: int = 64, width: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def huge_png(side: int) -> bytes:
    """A few bytes that claim to be a picture of side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(build_app(random_policy(), LAB, ServeSettings(max_request_mb=0.5, rate=0))) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as found:
        yield found


def alive(client: httpx.Client) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}


def test_other_machines_need_a_token() -> None:
    with pytest.raises(ConfigError, match=r"MEMVLA_SERVE_TOKEN"):
        compose_serve(["policy=random", "suite=lab_smoke", "serve.host=0.0.0.0"])
    with pytest.raises(ConfigError, match="16 or more"):
        token_of(ServeSettings(token="short"))


def test_a_token_is_asked_for_everywhere_but_for_health() -> None:
    app = build_app(random_policy(), LAB, ServeSettings(token=TOKEN))
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        assert client.get("/healthz").status_code == 200
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
            for path in ("/v1/policy", "/metrics", "/docs", "/openapi.json"):
                assert client.get(path, headers=wrong).status_code == 401
            with pytest.raises(InvalidStatus), connect(url.replace("http", "ws") + "/openpi", additional_headers=wrong):
                pass
        for right in (f"Bearer {TOKEN}", f"Api-Key {TOKEN}"):
            assert client.get("/v1/policy", headers={"Authorization": right}).status_code == 200
            with connect(url.replace("http", "ws") + "/openpi", additional_headers={"Authorization": right}) as line:
                assert codec.unpack(line.recv())["server"] == "memvla"  # type: ignore[arg-type]


def test_web_pages_and_foreign_names_cannot_reach_a_server_without_token(url: str, client: httpx.Client) -> None:
    assert (
        client.post("/v1/sessions", json={"instruction": "x"}, headers={"Origin": "http://evil.example"}).status_code
        == 403
    )
    assert client.get("/v1/policy", headers={"Host": "evil.example"}).status_code == 403
    with pytest.raises(InvalidStatus), connect(url.replace("http", "ws") + "/openpi", origin="http://evil.example"):  # type: ignore[arg-type]
        pass
    assert client.get("/v1/policy", headers={"Origin": url}).status_code == 200


def test_large_requests_and_pictures_are_refused_before_they_are_read(client: httpx.Client) -> None:
    session = client.post("/v1/sessions", json={"instruction": "x"}).json()["session"]
    large = client.post(f"/v1/sessions/{session}/act", content=b"x" * 600_000)
    assert large.status_code == 413

    def unending() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    chunked = client.post(
        f"/v1/sessions/{session}/act", content=unending(), headers={"content-type": "application/msgpack"}
    )
    assert chunked.status_code == 413
    for side in (3000, 60_000):
        form = {"call": "0", "step": "0"}
        files = {"front": huge_png(side), "wrist": png()}
        bomb = client.post(f"/v1/sessions/{session}/act", data=form, files=files)
        assert bomb.status_code in (400, 413), bomb.text
    alive(client)


def test_a_client_that_asks_too_often_is_slowed_down() -> None:
    app = build_app(random_policy(), LAB, ServeSettings(rate=5))
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        codes = [client.get("/healthz").status_code for _ in range(40)]
    assert 200 in codes
    assert 429 in codes


def test_nobody_reads_or_resets_another_clients_memory(url: str, client: httpx.Client) -> None:
    data = {"text": "press", "episode_first_frame": "True"}
    files = {"image": ("a.png", png()), "image_wrist": ("b.png", png())}
    assert client.post("/process_frame", data=data, files=files).status_code == 200
    assert client.post("/as/robot/process_frame", data=data, files=files).status_code == 200
    other = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=url, timeout=30, transport=other) as stranger:
        for first in ("True", "False"):
            taken = stranger.post("/process_frame", data={**data, "episode_first_frame": first}, files=files)
            assert taken.status_code == 409
        follow = stranger.post("/as/robot/process_frame", data={**data, "episode_first_frame": "False"}, files=files)
        assert follow.status_code == 409, "the same name from elsewhere is another session"
    again = client.post("/process_frame", data={**data, "episode_first_frame": "False"}, files=files)
    assert again.status_code == 200
    ids = [client.post("/v1/sessions", json={"instruction": "x"}).json()["session"] for _ in range(20)]
    assert len(set(ids)) == 20
    assert min(map(len, ids)) >= 32
    for id in ids:
        client.delete(f"/v1/sessions/{id}")


def test_session_ids_and_traces_stay_out_of_logs_and_a_line_is_one_json_object(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "memvla.serve")
    session = client.post("/v1/sessions", json={"instruction": "two\nlines", "episode": {"task": "a\nb"}}).json()[
        "session"
    ]
    assert (
        client.post(f"/v1/sessions/{session}/act", data={"call": "7", "step": "0"}, files={"front": png()}).status_code
        >= 400
    )
    assert caplog.records
    for record in caplog.records:
        line = JsonLines().format(record)
        assert "\n" not in line
        assert session not in line
        assert json.loads(line)["event"]


@pytest.mark.parametrize(
    "name",
    [
        "[1]",
        '["a", "b", 1e400, 1]',
        f'["a", "b", {10**40}, 1]',
        '["a", "b", -1, 1]',
        "[" * 90,
        "null",
        '["a", {}, 1, 1]',
    ],
)
def test_an_episodes_name_that_makes_no_sense_is_refused(client: httpx.Client, name: str) -> None:
    data = {"text": "press", "episode_first_frame": "True"}
    files = {"image": ("a.png", png()), "image_wrist": ("b.png", png())}
    answer = client.post("/as/named/process_frame", data=data, files=files, headers={"X-Memvla-Episode": name})
    assert answer.status_code == 400, answer.text


def evil_arrays() -> list[Any]:
    good = {"data": b"\0" * 12, "dtype": "|u1", "shape": [2, 2, 3]}
    return [
        {"__ndarray__": True, **good, "dtype": "O"},
        {"__ndarray__": True, **good, "dtype": "V12"},
        {"__ndarray__": True, **good, "shape": [2**62, 4]},
        {"__ndarray__": True, **good, "shape": [-1, 12]},
        {"__ndarray__": True, **good, "shape": [2] * 40},
        {"__ndarray__": True, **good, "data": "text"},
        {"__ndarray__": True},
        {"__image__": True, "format": "png", "data": [1]},
        {"__npgeneric__": True, "dtype": "<f4", "data": "x"},
    ]


@pytest.mark.parametrize("evil", evil_arrays())
def test_arrays_that_lie_are_refused(client: httpx.Client, evil: Any) -> None:
    session = client.post("/v1/sessions", json={"instruction": "x"}).json()["session"]
    body = msgpack.packb({"call": 0, "step": 0, "images": {"front": evil, "wrist": evil}})
    answer = client.post(f"/v1/sessions/{session}/act", content=body, headers={"content-type": "application/msgpack"})
    assert answer.status_code == 400, answer.text
    client.delete(f"/v1/sessions/{session}")


def test_a_message_nested_without_end_is_refused(client: httpx.Client) -> None:
    session = client.post("/v1/sessions", json={"instruction": "x"}).json()["session"]
    headers = {"content-type": "application/msgpack"}
    for body in (b"\x91" * 100_000, b"\xdf\xff\xff\xff\xff", b"\xc1", b""):
        assert client.post(f"/v1/sessions/{session}/act", content=body, headers=headers).status_code == 400
    state = "[" * 100_000
    files = {"front": png(), "wrist": png()}
    deep = client.post(f"/v1/sessions/{session}/act", data={"call": "0", "step": "0", "state": state}, files=files)
    assert deep.status_code == 400
    alive(client)


NOISE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
KEYS = ["op", "call", "step", "images", "state", "instruction", "seed", "episode", "type", "payload", "seq", "prompt"]
FIELDS = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, NOISE))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=FIELDS | NOISE, path=st.sampled_from(["/v1/session", "/openpi", "/vla_eval"]))
def test_noise_on_a_websocket_is_answered_and_harms_nothing(url: str, message: Any, path: str) -> None:
    with connect(url.replace("http", "ws") + path, compression=None) as line:
        if path == "/openpi":
            line.recv()
        line.send(msgpack.packb(message))
        silent = isinstance(message, dict) and message.get("type") in ("episode_start", "episode_end", "error")
        if not silent:
            answer = line.recv(timeout=30)
            assert b"Traceback" not in (answer if isinstance(answer, bytes) else answer.encode())
    assert httpx.get(url + "/readyz").status_code == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), text=st.text(max_size=30), first=st.sampled_from(["True", "False", "", "1"]))
def test_noise_in_forms_is_answered_with_an_error_that_has_no_trace(
    url: str, data: bytes, text: str, first: str
) -> None:
    form = {"text": text, "episode_first_frame": first}
    answer = httpx.post(
        url + "/as/noise/process_frame", data=form, files={"image": data, "image_wrist": data}, timeout=30
    )
    assert answer.status_code in (400, 409, 413)
    assert list(answer.json()) == ["error"]
    assert "Traceback" not in answer.text


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300) | NOISE.map(lambda value: msgpack.packb(value)))
def test_the_codec_raises_its_own_error_or_none(data: bytes) -> None:
    with contextlib.suppress(codec.CodecError):
        codec.unpack(data)


def test_state_that_is_not_finite_is_refused() -> None:
    suite = load_suite("point")
    app = build_app(Remembering(context_of(suite)), suite, ServeSettings())
    with running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        session = client.post("/v1/sessions", json={"instruction": "x"}).json()["session"]
        for state in ([0.0, 1.0, float("nan")], [0.0, 1.0, 1e39], "text", []):
            body = codec.pack(
                {"call": 0, "step": 0, "images": {"top": np.zeros((32, 32, 3), np.uint8)}, "state": state}
            )
            answer = client.post(
                f"/v1/sessions/{session}/act", content=body, headers={"content-type": "application/msgpack"}
            )
            assert answer.status_code == 400
