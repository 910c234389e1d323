"""What vla-eval and openpi-client say, as the real packages write it (recorded.json, by tests/peers/record.py).

Our server understands their clients, our clients understand their servers. Needs neither package.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from envs.conversions import converter
from envs.spec import EpisodeId, Observation
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.settings import ServeSettings
from policies.base import ActRequest, EpisodeStart, PolicyError
from policies.baselines import RandomPolicy
from policies.remote import codec
from policies.remote.policy import remote
from suites.protocol import load_suite

sys.path.insert(0, str(Path(__file__).parents[2] / "peers"))
from pictures import answer, picture

SUITE = load_suite("lab_smoke")
TEXT = "push the button"
NAME = EpisodeId("lab_smoke", "made_up", 0)


def recorded(package: str) -> dict[str, bytes]:
    found = json.loads((Path(__file__).parent / "recorded.json").read_text())[package]
    return {name: base64.b64decode(text) for name, text in found.items() if name != "package"}


def request(call: int) -> ActRequest:
    return ActRequest(NAME, call, Observation({"front": picture(0, call, np.zeros(7))}, None, TEXT, call))


def test_pictures_and_arrays_of_both_packages_are_read() -> None:
    seen = codec.unpack(recorded("openpi")["client_observation"])
    np.testing.assert_array_equal(seen["observation/image"], picture(0, 0, np.zeros(7)))
    np.testing.assert_array_equal(seen["observation/state"], np.arange(3.0))
    sent = codec.unpack(recorded("vla_eval")["client_observation_0"])
    assert sent["payload"]["images"]["agentview"].startswith(b"\x89PNG")


def test_our_server_answers_vla_evals_client() -> None:
    words = recorded("vla_eval")
    policy = RandomPolicy(context_of(SUITE), chunk=4)
    policy.start([EpisodeStart(NAME, 0, TEXT)])
    expected = converter(policy.spec.action, SUITE.env_spec.action)(policy.act([request(0)])[0].actions)
    app = build_app(RandomPolicy(context_of(SUITE), chunk=4), SUITE, ServeSettings())
    with running(app) as url, connect(url.replace("http", "ws") + "/vla_eval", compression=None) as line:

        def ask(name: str) -> dict[str, Any]:
            line.send(words[name])
            found: dict[str, Any] = msgpack.unpackb(line.recv(timeout=30))  # type: ignore[arg-type]
            return found

        hello = ask("client_hello")
        assert (hello["type"], hello["seq"], hello["payload"]["protocol_version"]) == ("hello", 1, 1)
        assert hello["payload"]["action_spec"]["rotation"]["format"] == "euler_xyz"
        assert hello["payload"]["action_spec"]["gripper"]["format"] == "binary_close_negative"
        early = ask("client_observation_0")
        assert early["type"] == "error"
        assert "begin" in early["payload"]["error"] or "episode" in early["payload"]["error"]
        line.send(words["client_start"])
        for number in (0, 1):
            action = ask(f"client_observation_{number}")
            array = action["payload"]["actions"]
            assert (action["type"], action["seq"], array["__ndarray__"], array["dtype"]) == (
                "action",
                3 + number,
                True,
                "<f4",
            )
            np.testing.assert_array_equal(np.frombuffer(array["data"], "<f4"), expected[number])
        line.send(words["client_end"])
        assert ask("client_observation_1")["type"] == "error"


@contextmanager
def replaying(greeting: list[bytes], answers: list[bytes], silent: int = 0) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says what was recorded: `greeting` at once, then one of `answers` per message but for those that
    the protocol leaves without (`silent` after the first). Yields its address and what it hears."""
    heard: list[bytes] = []

    def talk(connection: ServerConnection) -> None:
        for data in greeting:
            connection.send(data)
        left, quiet = list(answers), silent
        for message in connection:
            heard.append(message)  # type: ignore[arg-type]
            if len(left) < len(answers) and quiet:
                quiet -= 1
            elif left:
                connection.send(left.pop(0))

    with serve(talk, "127.0.0.1", 0, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", heard


def test_our_client_understands_vla_evals_server() -> None:
    words = recorded("vla_eval")
    answers = [words["server_hello"], words["server_action"], words["server_error"]]
    with replaying([], answers, silent=1) as (url, heard):
        policy = remote(context_of(SUITE), protocol="vla_eval", url=url)
        policy.start([EpisodeStart(NAME, 7, TEXT)])
        reply = policy.act([request(0)])[0]
        np.testing.assert_array_equal(reply.actions, answer([picture(0, 0, np.zeros(7))])[:1])
        with pytest.raises(PolicyError, match="observation_failed"):
            policy.act([request(1)])
        with pytest.raises(PolicyError, match="observation_failed"):
            policy.act([request(1)])
        policy.close()
    said = [msgpack.unpackb(message) for message in heard[:3]]
    assert [message["type"] for message in said] == ["hello", "episode_start", "observation"]
    assert said[1]["payload"]["task"] == {"suite": "lab_smoke", "name": "made_up", "episode_idx": 0}
    assert said[2]["payload"]["task_description"] == TEXT


def test_a_vla_eval_server_with_another_convention_is_an_error() -> None:
    words = recorded("vla_eval")
    with replaying([], [words["server_hello"]]) as (url, _):
        policy = remote(context_of(SUITE), protocol="vla_eval", url=url, convention="libero_object_no_noops")
        with pytest.raises(PolicyError, match="rotation euler_xyz, taken here for axis_angle"):
            policy.start([EpisodeStart(NAME, 0, TEXT)])
        assert policy.live() == 0
        policy.close()


def test_our_client_understands_openpis_server_and_its_complaints() -> None:
    words = recorded("openpi")
    with replaying([words["server_metadata"]], [words["server_actions"]]) as (url, heard):
        policy = remote(context_of(SUITE), protocol="openpi", url=url, chunk=4)
        policy.start([EpisodeStart(NAME, 0, TEXT)])
        np.testing.assert_array_equal(policy.act([request(0)])[0].actions, answer([picture(0, 0, np.zeros(7))]))
        policy.close()
    said = msgpack.unpackb(heard[0], raw=False, strict_map_key=False)
    assert said["prompt"] == TEXT
    assert said["observation/image"][b"__ndarray__"] is True
    with replaying([words["server_metadata"]], ["Traceback ...\nValueError: no"]) as (url, _):  # type: ignore[list-item]
        policy = remote(context_of(SUITE), protocol="openpi", url=url, chunk=4)
        policy.start([EpisodeStart(NAME, 0, TEXT)])
        with pytest.raises(PolicyError, match="complains: ValueError: no"):
            policy.act([request(0)])
        policy.close()
