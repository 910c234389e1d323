"""The deployment server, really started on a loopback port, over real policies with random weights and lab pictures."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

import httpx
import numpy as np
import pytest
from extra_policies import Faulty, Remembering
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from envs.spec import EpisodeId, Floats, Observation
from harness.cluster import PolicyConfig
from harness.config import ConfigError, load_policy_file, policy_files
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.settings import ServeSettings, compose_serve
from policies.base import ActRequest, EpisodeStart, Policy
from policies.remote import codec
from policies.vla.images import square_crops
from suites.protocol import SuiteError, load_suite

SUITE = load_suite("lab_memory")
CALLS = 3
Frames = list[Observation]


@pytest.fixture(scope="module")
def tracks() -> list[Frames]:
    """What a camera sees in eight lab episodes: real pictures, a few steps apart."""
    env = SUITE.module.make(**SUITE.env)
    found = []
    for trial in range(8):
        env.reset(seed=0, options={"task": SUITE.tasks[trial % len(SUITE.tasks)].name, "trial": trial})
        frames = [env.observe()]
        moves = np.random.default_rng(trial).uniform(-1, 1, (CALLS, 4, 7))
        for chunk in moves[1:]:
            env.step_chunk(chunk, stop_on_done=False)
            frames.append(env.observe())
        found.append(frames)
    env.close()
    return found


def make(name: str, **options: Any) -> Policy:
    data = {**load_policy_file(policy_files()[name]), **options}
    return PolicyConfig(name, data.pop("target"), {k: v for k, v in data.items() if k not in ("name", "title")}).build(
        context_of(SUITE)
    )


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    """Starts servers; servers with the same words are shared."""
    with ExitStack() as stack:
        known: dict[str, str] = {}

        def begin(policy: str = "memoryvla", *, options: dict[str, Any] | None = None, **settings: Any) -> str:
            key = repr((policy, options, settings))
            if key not in known or settings:
                app = build_app(make(policy, **(options or {})), SUITE, ServeSettings(**settings))
                known[key] = stack.enter_context(running(app))
            return known[key]

        yield begin


@lru_cache
def known(name: str) -> Policy:
    """The policy that says what is right."""
    return make(name)


def in_process(name: str, frames: Frames, *, seed: int = 0, trial: int = 0) -> list[Floats]:
    """What the policy itself answers to these frames."""
    policy, episode = known(name), EpisodeId(SUITE.name, "live", trial)
    policy.start([EpisodeStart(episode, seed, frames[0].instruction)])
    found = []
    for call, seen in enumerate(frames):
        reply = policy.act([ActRequest(episode, call, Observation(seen.images, None, seen.instruction, seen.step))])[0]
        found.append(reply.actions)
    policy.end([episode])
    return found


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def begin(client: httpx.Client, instruction: str, **more: Any) -> str:
    answer = client.post("/v1/sessions", json={"instruction": instruction, **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session"])


def act(client: httpx.Client, session: str, seen: Observation, call: int) -> httpx.Response:
    fields = {"call": str(call), "step": str(seen.step)}
    return client.post(f"/v1/sessions/{session}/act", data=fields, files={"front": png(seen.images["front"])})


def frame(client: httpx.Client, path: str, seen: Observation, first: bool, **headers: str) -> httpx.Response:
    data = {"text": seen.instruction, "episode_first_frame": str(first)}
    return client.post(path, data=data, files={"image": png(seen.images["front"])}, headers=headers)


@pytest.mark.parametrize("name", ["memoryvla", "cogact"])
def test_a_session_answers_as_the_policy_itself_bit_for_bit(serve, tracks: list[Frames], name: str) -> None:
    with httpx.Client(base_url=serve(name), timeout=60) as client:
        session = begin(client, tracks[0][0].instruction, seed=7)
        for call, expected in enumerate(in_process(name, tracks[0], seed=7)):
            answer = act(client, session, tracks[0][call], call).json()
            assert (answer["call"], answer["step"]) == (call, tracks[0][call].step)
            np.testing.assert_array_equal(np.array(answer["actions"], np.float32), expected)
        assert client.delete(f"/v1/sessions/{session}").status_code == 204
        assert client.get(f"/v1/sessions/{session}").status_code == 410


def test_two_interleaved_sessions_give_what_each_gives_alone(serve, tracks: list[Frames]) -> None:
    with httpx.Client(base_url=serve(), timeout=60) as client:
        sessions = [begin(client, track[0].instruction, episode={"trial": i}) for i, track in enumerate(tracks[:2])]
        got: list[list[Any]] = [[], []]
        for call in range(CALLS):
            for which in (0, 1):
                got[which].append(act(client, sessions[which], tracks[which][call], call).json()["actions"])
        for which in (0, 1):
            alone = in_process("memoryvla", tracks[which], trial=which)
            np.testing.assert_array_equal(np.array(got[which], np.float32), np.stack(alone))
        assert client.get("/v1/policy").json()["stateful"] is True


def drive(url: str, track: Frames, barrier: threading.Barrier | None = None, trial: int = 0) -> list[Floats]:
    """One episode over the WebSocket, with raw frames."""
    answers = []
    with connect(url.replace("http", "ws") + "/v1/session", compression=None, max_size=None) as line:

        def ask(**message: Any) -> dict[str, Any]:
            line.send(codec.pack(message))
            answer: dict[str, Any] = codec.unpack(line.recv())  # type: ignore[arg-type]
            assert "error" not in answer, answer
            return answer

        ask(op="begin", instruction=track[0].instruction, episode={"trial": trial})
        for call, seen in enumerate(track):
            if barrier is not None:
                barrier.wait(30)
            answers.append(ask(op="act", call=call, step=seen.step, images=dict(seen.images))["actions"])
        ask(op="end")
    return answers


def test_eight_websocket_clients_at_once_are_batched_and_get_what_each_gets_alone(serve, tracks: list[Frames]) -> None:
    url = serve("memoryvla", seed=0)
    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: drive(url, tracks[i], barrier, i), range(8)))
    for trial, answers in enumerate(got):
        alone = in_process("memoryvla", tracks[trial], trial=trial)
        np.testing.assert_array_equal(np.stack(answers), np.stack(alone))
    figures = httpx.get(url + "/metrics").text
    calls = float(figures.split("memvla_batch_size_count ")[1].split("\n")[0])
    assert calls < 8 * CALLS, "nothing was ever batched"
    assert "memvla_sessions_live 0.0" in figures


def test_memoryvla_clients_are_served_as_documented(serve, tracks: list[Frames]) -> None:
    expected = in_process("memoryvla", tracks[0])
    with httpx.Client(base_url=serve("memoryvla", window=2), timeout=60) as client:
        for call, seen in enumerate(tracks[0]):
            answer = frame(client, "/process_frame", seen, call == 0)
            assert list(answer.json()) == ["response"]
            actions = [[float(n) for n in one.split(" ")] for one in answer.json()["response"].split(";")]
            np.testing.assert_array_equal(np.array(actions, np.float32), expected[call][:2])
        missing = client.post("/process_frame", data={"text": "press", "episode_first_frame": "False"})
        assert missing.status_code == 400
        assert "image" in missing.json()["error"]
    with httpx.Client(base_url=serve(), timeout=60) as client:
        one = frame(client, "/as/one/process_frame", tracks[0][0], True).json()["response"]
        assert ";" not in one
        assert len(one.split(" ")) == 7


def test_dexbotic_and_cogact_clients_are_served_as_documented(serve, tracks: list[Frames]) -> None:
    seen, expected = tracks[0][0], in_process("memoryvla", tracks[0])
    with httpx.Client(base_url=serve(), timeout=60) as client:
        data = {"text": f"What action should the robot take to {seen.instruction}?", "episode_first_frame": "True"}
        answer = client.post("/as/d/dexbotic/process_frame", data=data, files={"image": png(seen.images["front"])})
        np.testing.assert_array_equal(np.array(answer.json()["response"], np.float32), expected[0])
    expected = in_process("cogact", tracks[0])
    told = json.dumps({"task_description": seen.instruction}).encode()
    with httpx.Client(base_url=serve("cogact"), timeout=60) as client:
        files = {"images": png(seen.images["front"]), "json": told}
        answer = client.post("/api/inference", files=files)
        np.testing.assert_array_equal(np.array(answer.json(), np.float32), expected[0][0])


def test_the_official_crops_are_made_where_asked_for(serve, tracks: list[Frames]) -> None:
    wide = np.concatenate([tracks[0][0].images["front"], tracks[1][0].images["front"]], axis=1)
    options = {"vision": {"resize": "naive"}}
    with httpx.Client(base_url=serve("cogact", options=options, crops=True), timeout=60) as client:
        seen = Observation({"front": wide}, None, "press", 0)
        answer = frame(client, "/process_frame", seen, True).json()["response"]
    policy = make("cogact", **options)
    episode = EpisodeId(SUITE.name, "live", 0)
    policy.start([EpisodeStart(episode, 0, "press")])
    found = []
    for image in (square_crops(wide, 224), wide):
        request = ActRequest(episode, len(found), Observation({"front": image}, None, "press", 0))
        found.append(policy.act([request])[0].actions[0])
    np.testing.assert_array_equal(np.array(answer.split(" "), np.float32), found[0])
    assert not np.array_equal(found[0], found[1])


def test_a_frame_out_of_order_is_refused_and_harms_nothing(serve, tracks: list[Frames]) -> None:
    expected = in_process("memoryvla", tracks[0])
    with httpx.Client(base_url=serve(), timeout=60) as client:
        session = begin(client, tracks[0][0].instruction)
        act(client, session, tracks[0][0], 0)
        for wrong in (0, 2):
            assert act(client, session, tracks[0][1], wrong).status_code == 409
        late = client.post(
            f"/v1/sessions/{session}/act",
            data={"call": 1, "step": 0},
            files={"front": png(tracks[0][1].images["front"])},
        )
        assert late.status_code == 409
        small = client.post(
            f"/v1/sessions/{session}/act",
            data={"call": 1, "step": 4},
            files={"front": png(tracks[0][1].images["front"][:32])},
        )
        assert small.status_code == 400
        assert "64x64" in small.json()["error"]
        answer = act(client, session, tracks[0][1], 1).json()
        np.testing.assert_array_equal(np.array(answer["actions"], np.float32), expected[1])


def test_a_client_that_forgets_to_begin_gets_an_error_or_a_warning_but_never_an_old_memory(
    serve, tracks: list[Frames], caplog: pytest.LogCaptureFixture
) -> None:
    with httpx.Client(base_url=serve("memoryvla", idle_s=0.5), timeout=60) as client:
        assert frame(client, "/process_frame", tracks[0][1], False).status_code == 409
        assert frame(client, "/process_frame", tracks[0][0], True).status_code == 200
        deadline = time.monotonic() + 20
        while "memvla_sessions_live 0.0" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        forgotten = frame(client, "/process_frame", tracks[0][1], False)
        assert forgotten.status_code == 409
        assert "episode_first_frame" in forgotten.json()["error"]
    with httpx.Client(base_url=serve("memoryvla", missing_start="warn"), timeout=60) as client:
        answer = frame(client, "/process_frame", tracks[0][0], False).json()["response"]
        first = in_process("memoryvla", tracks[0])[0][0]
        np.testing.assert_array_equal(np.array(answer.split(" "), np.float32), first)
    assert "frame without an episode" in caplog.text


def test_a_first_frame_empties_the_memory_even_when_it_is_refused_itself(serve, tracks: list[Frames]) -> None:
    with httpx.Client(base_url=serve(), timeout=60) as client:
        frame(client, "/as/again/process_frame", tracks[0][0], True)
        frame(client, "/as/again/process_frame", tracks[0][1], False)
        again = frame(client, "/as/again/process_frame", tracks[0][0], True).json()["response"]
        np.testing.assert_array_equal(np.array(again.split(" "), np.float32), in_process("memoryvla", tracks[0])[0][0])
        data = {"text": "press", "episode_first_frame": "True"}
        assert client.post("/as/again/process_frame", data=data, files={"image": b"junk"}).status_code == 400
        assert frame(client, "/as/again/process_frame", tracks[0][1], False).status_code == 409


@pytest.mark.parametrize(
    ("states", "says"),
    [
        (None, "send the file `states`"),
        (b"junk", "must hold a JSON list of numbers"),
        (b"null", "send the file `states`"),
        (b"[1, 2, 3]", "reads 8 numbers of proprioception"),
        (b"[1, 2, 3, 4, 5, 6, 7, NaN]", "NaN"),
        ("[1, 2, 3, 4, 5, 6, 7, 8]", "states: must be a file"),
    ],
)
def test_proprioception_that_is_missing_or_wrong_is_one_clear_error(
    serve, tracks: list[Frames], states: bytes | str | None, says: str
) -> None:
    shown = {f"image{wrist}": png(tracks[0][0].images[name]) for wrist, name in (("", "front"), ("_wrist", "wrist"))}
    told: dict[str, str] = {"text": "press", "episode_first_frame": "True"}
    if isinstance(states, str):
        told["states"] = states
    elif states is not None:
        shown["states"] = states
    with httpx.Client(base_url=serve("memoryvla_lab"), timeout=60) as client:
        answer = client.post("/process_frame", data=told, files=shown)
    assert answer.status_code == 400
    assert says in answer.json()["error"], answer.text


def test_an_instruction_that_changes_inside_an_episode_is_told_or_refused(
    serve, tracks: list[Frames], caplog: pytest.LogCaptureFixture
) -> None:
    other = Observation(tracks[0][1].images, None, "push the puck", 4)
    with httpx.Client(base_url=serve("memoryvla", text_change="error"), timeout=60) as client:
        frame(client, "/process_frame", tracks[0][0], True)
        assert frame(client, "/process_frame", other, False).status_code == 409
    with httpx.Client(base_url=serve(), timeout=60) as client:
        frame(client, "/as/t/process_frame", tracks[0][0], True)
        assert frame(client, "/as/t/process_frame", other, False).status_code == 200
    assert "instruction changed inside an episode" in caplog.text


def test_more_sessions_than_slots_wait_or_get_503_and_none_is_evicted(serve, tracks: list[Frames]) -> None:
    expected = in_process("memoryvla", tracks[0])
    url = serve("memoryvla", options={"slots": 1}, waiting=1, wait_s=1.0)
    with httpx.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(2) as pool:
        held = begin(client, tracks[0][0].instruction)
        act(client, held, tracks[0][0], 0)
        refused = client.post("/v1/sessions", json={"instruction": "press"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        waits = pool.submit(begin, client, "press")
        while "memvla_sessions_waiting 1.0" not in client.get("/metrics").text:
            time.sleep(0.01)
        at_once = client.post("/v1/sessions", json={"instruction": "press"})
        assert at_once.status_code == 503, "the queue has room for one"
        answer = act(client, held, tracks[0][1], 1).json()
        np.testing.assert_array_equal(np.array(answer["actions"], np.float32), expected[1])
        client.delete(f"/v1/sessions/{held}")
        assert client.get(f"/v1/sessions/{waits.result(30)}").json()["calls"] == 0


def test_a_connection_that_is_lost_frees_its_slot(serve, tracks: list[Frames]) -> None:
    url = serve("memoryvla", options={"slots": 1}, wait_s=20.0)
    with connect(url.replace("http", "ws") + "/v1/session", compression=None) as line:
        line.send(codec.pack({"op": "begin", "instruction": "press"}))
        line.recv()
        line.socket.shutdown(socket.SHUT_RDWR)
    with httpx.Client(base_url=url, timeout=60) as client:
        begin(client, "press")


def test_a_call_that_fails_ends_its_session_and_the_client_sees_no_trace() -> None:
    suite = load_suite("point")
    app = build_app(Faulty(context_of(suite), how="raise", trial=1), suite, ServeSettings())
    message = {"images": {"top": np.zeros((32, 32, 3), np.uint8)}, "state": np.zeros(3, np.float32)}
    with running(app) as url, httpx.Client(base_url=url, timeout=60) as client:
        session = begin(client, "reach", episode={"trial": 1})
        codes = []
        for call in range(20):
            packed = codec.pack({"call": call, "step": 4 * call, **message})
            answer = client.post(
                f"/v1/sessions/{session}/act", content=packed, headers={"content-type": "application/msgpack"}
            )
            codes.append(answer.status_code)
            if answer.status_code != 200:
                break
        assert codes[-1] == 500
        assert "Traceback" not in answer.text
        assert "line " not in answer.text
        assert client.get(f"/v1/sessions/{session}").status_code == 410


def test_policies_that_need_what_no_client_sends_are_refused() -> None:
    with pytest.raises(ConfigError, match="simulator state"):
        build_app(make("expert"), SUITE, ServeSettings())


def test_settings_name_the_nearest_key_and_refuse_what_does_not_hold() -> None:
    words = ["policy=cogact", "suite=lab_memory"]
    assert compose_serve([*words, "serve.port=0", "policy.slots=3"]).policy.options["slots"] == 3
    for word, hint in (
        ("serve.prot=1", "serve.port"),
        ("policy.slotz=3", "policy.slots"),
        ("port=1", "serve.port"),
        ("serve.port=eleven", "port"),
        ("serve.process_frame=other", "memoryvla or dexbotic"),
        ("serve.idle_s=0", "above 0"),
    ):
        with pytest.raises(ConfigError, match=hint):
            compose_serve([*words, word])
    with pytest.raises(ConfigError, match="name a suite"):
        compose_serve(["policy=cogact"])


def test_a_suite_of_real_robots_is_served_for_the_station_that_is_named() -> None:
    words = ["policy=cogact", "suite=real_general"]
    served = compose_serve([*words, "station=envs.real.simulated", "station.size=32"]).suite.env_spec
    assert [(camera.name, camera.height) for camera in served.cameras] == [("front", 32), ("wrist", 32)]
    with pytest.raises(SuiteError, match="cannot import the station 'no_such_arm'"):
        compose_serve([*words, "station=no_such_arm"])


def test_an_openpi_client_that_sends_text_is_told_so_and_parted_from() -> None:
    suite = load_suite("point")
    app = build_app(Remembering(context_of(suite)), suite, ServeSettings())
    with running(app) as url, connect(url.replace("http", "ws") + "/openpi") as line:
        line.recv()
        line.send("text")
        assert "binary" in str(line.recv())
        with pytest.raises(ConnectionClosed):
            line.recv()
