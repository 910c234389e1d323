"""Policies behind servers, through the whole harness: the records must equal those of the policy in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from envs.spec import EpisodeId, Observation
from harness import run as running_command
from harness.cluster import PolicyConfig
from harness.config import compose_run, load_policy_file, policy_files
from harness.plan import context_of
from harness.serving.app import build_app
from harness.serving.background import running
from harness.serving.settings import ServeSettings
from policies.base import ActRequest, EpisodeStart, Policy, PolicyError
from policies.remote.policy import remote
from reports.episode import EpisodeRecord
from reports.manifest import read
from reports.records import FILE_NAME, RecordStore
from reports.summary import load, notes
from suites.protocol import load_suite

SUITE = load_suite("lab_smoke")
WORDS = ["run.trials=1", "run.videos=0", "cluster=inline"]
SMOKE = ["suite=lab_smoke"]
TRAINED = ["suite=lab_memory", "run.tasks=[remember_colour_3,shell_game]"]
SHORT = ["protocol.max_steps=16", "run.attempts=1", "run.max_void=1.0"]


def make(name: str, **options: Any) -> Policy:
    data = {**load_policy_file(policy_files()[name]), **options}
    target = data.pop("target")
    return PolicyConfig(name, target, {k: v for k, v in data.items() if k not in ("name", "title")}).build(
        context_of(SUITE)
    )


def evaluate(folder: Path, *more: str, words: Sequence[str] = SMOKE) -> list[EpisodeRecord]:
    """What `memvla run` records."""
    config = compose_run([*WORDS, *SHORT, f"run.dir={folder}", *words, *more])
    ended = running_command.run(config, Console(quiet=True), ["memvla", "run"])
    with RecordStore(ended.folders[0] / FILE_NAME) as store:
        return sorted(store.attempts(), key=lambda record: record.scene)


def did(records: list[EpisodeRecord]) -> list[tuple[str, str, int, str]]:
    return [(str(r.scene), r.outcome, r.steps, r.action_digest) for r in records]


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., str]]:
    with ExitStack() as stack:

        def begin(policy: str, options: dict[str, Any] | None = None, **settings: Any) -> str:
            app = build_app(make(policy, **(options or {})), SUITE, ServeSettings(**settings))
            return stack.enter_context(running(app))

        yield begin


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, str, int, str]]]:
    """Records of the policies in this process."""
    found = {}
    for name in ("memoryvla", "cogact"):
        records = evaluate(tmp_path_factory.mktemp(name), f"policy={name}")
        assert all(record.outcome != "void" for record in records)
        found[name] = did(records)
    return found


@pytest.fixture(scope="module")
def memoryvla(serve) -> str:
    """A server of ours whose HTTP answers hold as many actions as the policy carries out."""
    return str(serve("memoryvla", window=4))


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("memvla", []),
        ("memoryvla", ["policy.chunk=4"]),
        ("dexbotic", ["policy.chunk=4"]),
        ("openpi", ["policy.chunk=8", "policy.execute=4"]),
        ("vla_eval", []),
    ],
)
def test_a_served_policy_does_in_the_harness_what_it_does_in_process(
    memoryvla: str, truth, tmp_path: Path, protocol: str, words: list[str]
) -> None:
    path = {"dexbotic": "/dexbotic", "openpi": "/openpi", "vla_eval": "/vla_eval"}.get(protocol, "")
    records = evaluate(
        tmp_path, "policy=remote", f"policy.protocol={protocol}", f"policy.url={memoryvla}{path}", *words
    )
    assert did(records) == truth["memoryvla"], [record.cause for record in records]


def test_a_served_cogact_does_in_the_harness_what_it_does_in_process(serve, truth, tmp_path: Path) -> None:
    url = serve("cogact", window=4)
    records = evaluate(tmp_path, "policy=remote", "policy.protocol=cogact", f"policy.url={url}", "policy.chunk=4")
    assert did(records) == truth["cogact"], [record.cause for record in records]
    assert read(tmp_path / "remote").suites[0].policy.get("note") is None, "our server keeps clients apart"


@pytest.fixture(scope="module")
def shipped() -> Iterator[tuple[str, int, list[tuple[str, str, int, str]]]]:
    """A server with the trained policy, which sees two cameras and reads proprioception; how many of its actions are
    carried out a call; its records without a server."""
    suite = load_suite("lab_memory")
    built = compose_run([*TRAINED, "policy=memoryvla_lab"]).policies[0].build(context_of(suite))
    with running(build_app(built, suite, ServeSettings(window=4))) as url, TemporaryDirectory() as folder:
        yield url, built.spec.execute, did(evaluate(Path(folder), "policy=memoryvla_lab", words=TRAINED))


@pytest.mark.parametrize(
    ("protocol", "path", "chunk"),
    [
        ("memvla", "", 8),
        ("memoryvla", "", 4),
        ("dexbotic", "/dexbotic", 4),
        ("cogact", "", 4),
        ("openpi", "/openpi", 8),
        ("vla_eval", "/vla_eval", 1),
    ],
)
def test_a_trained_policy_of_two_cameras_and_proprioception_is_driven_by_every_client(
    shipped, tmp_path: Path, protocol: str, path: str, chunk: int
) -> None:
    url, execute, truth = shipped
    told = [f"policy.protocol={protocol}", f"policy.url={url}{path}", f"policy.chunk={chunk}", "policy.state=true"]
    told += [] if protocol == "vla_eval" else [f"policy.execute={execute}"]
    records = evaluate(tmp_path, "policy=remote", *told, "policy.cameras=[front,wrist]", words=TRAINED)
    assert did(records) == truth, [record.cause for record in records]


@pytest.mark.parametrize("protocol", ["memvla", "openpi", "vla_eval"])
def test_a_lost_connection_is_final_for_its_episode_also_where_a_server_listens_again(protocol: str) -> None:
    episode = EpisodeId(SUITE.name, "press_by_colour", 0)
    image = np.zeros((64, 64, 3), np.uint8)
    requests = [ActRequest(episode, n, Observation({"front": image}, None, "press", 4 * n)) for n in (0, 1)]
    path = "" if protocol == "memvla" else f"/{protocol}"
    with running(build_app(make("random"), SUITE, ServeSettings())) as url:
        policy = remote(context_of(SUITE), protocol=protocol, url=url + path)
        policy.start([EpisodeStart(episode, 0, "press")])
        assert policy.act([requests[0]])[0].step == 0
    with running(build_app(make("random"), SUITE, ServeSettings()), port=int(url.rpartition(":")[2])):
        for _ in range(2):
            with pytest.raises(PolicyError, match="memory of this episode"):
                policy.act([requests[1]])
        policy.end([episode])
        assert policy.live() == 0
        policy.start([EpisodeStart(episode, 0, "press")])
        assert policy.act([requests[0]])[0].step == 0
        policy.close()


class Flask(BaseHTTPRequestHandler):
    """A server as MemoryVLA's: one memory, HTTP/1.0, no word about itself. It fails from the fifth frame on."""

    live = 0
    most = 0
    frames = 0
    lock = threading.Lock()

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.lock:
            Flask.frames += 1
            first = b"True" in body.split(b'name="episode_first_frame"')[1][:20]
            if first:
                Flask.live += 1
        if Flask.frames > 5:
            self.connection.close()
            return
        answer = b'{"response": "0.1 0.0 0.0 0.0 0.0 0.0 1"}'
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *parts: Any) -> None:
        pass


def test_a_server_with_one_memory_gets_one_episode_at_a_time_and_the_report_says_so(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flask)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        spec = remote(context_of(SUITE), protocol="memoryvla", url=url).spec
        assert spec.slots == 1
        with pytest.raises(PolicyError, match="one memory"):
            remote(context_of(SUITE), protocol="memoryvla", url=url, slots=4)
        records = evaluate(
            tmp_path, "policy=remote", "policy.protocol=memoryvla", f"policy.url={url}", "protocol.max_steps=5"
        )
    finally:
        server.shutdown()
    void, scored = sorted(records, key=lambda record: record.outcome != "void")
    assert (void.outcome, scored.outcome) == ("void", "failure")
    assert "connection" in void.cause
    assert "memory of this episode" in void.cause
    assert any("one memory for all clients" in note.text for note in notes(load([tmp_path])))


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"protocol": "memoryvlaa", "url": "http://x"}, "must be one of"),
        ({"protocol": "openpi", "url": "somewhere"}, "policy.url"),
        ({"protocol": "openpi", "url": "http://127.0.0.1:9", "chunk": 0}, "1 or more"),
        ({"protocol": "openpi", "url": "http://127.0.0.1:9"}, "no server answers"),
        ({"protocol": "openpi", "url": "http://127.0.0.1:9", "encoding": "gif"}, "png or jpeg"),
        ({"protocol": "openpi", "url": "http://127.0.0.1:9", "urll": "x"}, "there are: url"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(PolicyError, match=hint):
        remote(context_of(SUITE), **options)
