"""Noise and damaged files against everything that reads what others wrote: no crash, no hang, no traceback for a user.

    python benchmarks/fuzz.py [--inputs 100000] [--targets server,records,...] [--seed 0] [--seconds 3000]

A target may answer, or raise the one kind of error whose message was written for users; anything else is a finding and
is printed with its input's number (`--targets NAME --seed S --only N` runs that input alone). An input that takes more
than 30 seconds hangs. Files are damaged as disks and strangers do it: bytes flipped, parts cut, doubled, zeroed, put
from elsewhere, JSON values replaced. Ends by itself after --seconds. Exit code 1: something was found, or not all ran.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from fuzz_noise import WORDS, atom, changed, damaged, noise, one_spoilt, spoil_file

from harness.cli import is_mistake

HANG_S = 30
Target = Callable[[random.Random], None]


class Finding(Exception):
    """Something that must not happen."""


@contextmanager
def only_mistakes() -> Iterator[None]:
    """Errors that were written for users are right answers."""
    try:
        yield
    except Exception as error:
        if not is_mistake(error):
            raise


# ---------------------------------------------------------------------- what is fuzzed: one function makes each target


def wire_target(room: Path) -> Target:
    """Messages between workers and policy hosts."""
    from envs.spec import EpisodeId, Observation
    from harness import wire
    from policies.base import ActRequest

    seen = Observation({"top": np.ones((8, 8, 3), np.uint8)}, np.zeros(3, np.float32), "go", 7)
    request = wire.request_to_wire(ActRequest(EpisodeId("s", "t", 1), 0, seen, (seen,)))
    whole = [bytes(part) for part in wire.pack({"host": "h", "number": 1, "op": "act", "request": request})]

    def once(rng: random.Random) -> None:
        parts = [damaged(part, rng) if rng.random() < 0.6 else part for part in whole][: rng.randrange(1, 5)]
        if rng.random() < 0.3:
            parts = [packed(noise(rng))]
        with suppress(wire.WireError):
            wire.unpack(parts)

    return once


def packed(message: Any) -> bytes:
    try:
        return bytes(msgpack.packb(message))
    except (ValueError, OverflowError):
        return b"\xc1"


def host_target(room: Path) -> Target:
    """The policy host behind its socket: every message is answered, and it lives on."""
    import zmq

    from harness import wire
    from harness.batching import PolicyHost
    from harness.plan import context_of
    from policies.baselines import RandomPolicy
    from suites.protocol import load_suite

    host = PolicyHost(RandomPolicy(context_of(load_suite("lab_smoke"))), max_batch=4)
    link = host.serve_in_thread(f"ipc://{room}/socket")
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(link.address)

    def once(rng: random.Random) -> None:
        message = noise(rng)
        if isinstance(message, dict):
            message |= {"host": link.incarnation, "number": rng.randrange(9)}
            message["op"] = rng.choice(["start", "act", "end", "instruction", "what"])
            for name in ("start", "request", "episode"):
                message.setdefault(name, rng.choice([noise(rng), ["s", "t", 1, 1], {"episode": ["s", "t", 1, 1]}]))
        socket.send_multipart([packed(message), *(rng.randbytes(9) for _ in range(rng.randrange(2)))])
        if not socket.poll(HANG_S * 1000):
            raise Finding("the host did not answer")
        wire.unpack(socket.recv_multipart())

    return once


def codec_target(room: Path) -> Target:
    """msgpack of other programs' clients."""
    from policies.remote import codec

    good = codec.pack({"image": np.zeros((4, 4, 3), np.uint8), "state": np.zeros(3), "prompt": "go"})

    def once(rng: random.Random) -> None:
        with suppress(codec.CodecError):
            codec.unpack(packed(noise(rng)) if rng.random() < 0.6 else damaged(good, rng))

    return once


def picture_target(room: Path) -> Target:
    """Encoded pictures from clients."""
    from PIL import Image

    from harness.serving.frames import FORMATS, numbers, picture, raw_picture
    from harness.serving.sessions import ServingError

    good = []
    for kind in FORMATS:
        buffer = io.BytesIO()
        Image.effect_noise((24, 24), 80).convert("RGB").save(buffer, kind)
        good.append(buffer.getvalue())

    def once(rng: random.Random) -> None:
        with suppress(ServingError):
            picture(damaged(rng.choice(good), rng), max_pixels=100_000)
        with suppress(ServingError):
            rng.choice([raw_picture, lambda value, **_: numbers(value)])(noise(rng), max_pixels=100_000)

    return once


def server_target(room: Path) -> Target:
    """Every path and method of the deployment server that its own schema names, HTTP and WebSocket."""
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    from harness.plan import context_of
    from harness.serving.app import build_app
    from harness.serving.settings import ServeSettings
    from policies.baselines import RandomPolicy
    from policies.remote import codec
    from suites.protocol import load_suite

    lab = load_suite("lab_smoke")
    settings = ServeSettings(max_request_mb=0.5, rate=0)
    client = TestClient(build_app(RandomPolicy(context_of(lab), cameras=True), lab, settings), "http://127.0.0.1")
    client.__enter__()
    routes = [
        (path, method)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
        if path not in ("/metrics",)
    ]
    sessions: list[str] = []
    kinds = ("application/json", "application/msgpack", "text/plain", "application/x-www-form-urlencoded", "")
    picture = {"front": np.zeros((64, 64, 3), np.uint8), "wrist": np.zeros((64, 64, 3), np.uint8)}

    def body(rng: random.Random) -> bytes:
        message = {"call": 0, "step": 0, "images": picture, "instruction": "go"} if rng.random() < 0.5 else noise(rng)
        if isinstance(message, dict) and rng.random() < 0.8:
            message = {**message, rng.choice(WORDS): noise(rng)}
        how = rng.random()
        if how < 0.5:
            with suppress(Exception):
                return damaged(codec.pack(message), rng) if rng.random() < 0.3 else codec.pack(message)
        return json.dumps(message, default=str).encode() if how < 0.8 else rng.randbytes(rng.randrange(200))

    def over_http(rng: random.Random) -> None:
        path, method = rng.choice(routes)
        name = rng.choice([*sessions[-3:], "x", "%00", "..%2f..", "é" * 50, "a" * 5000])
        for part in ("session", "name", "episode", "episode_id", "id"):
            path = path.replace("{" + part + "}", name)
        given: dict[str, Any] = {"headers": {"content-type": rng.choice(kinds)}, "content": body(rng)}
        if rng.random() < 0.3:
            text = {rng.choice(WORDS): str(atom(rng)) for _ in range(3)}
            given = {"data": text, "files": {rng.choice(WORDS): rng.randbytes(60) for _ in range(rng.randrange(3))}}
        answer = client.request(method.upper(), path, **given)
        if answer.status_code >= 500 and answer.status_code != 503:
            raise Finding(f"{method} {path[:80]}: {answer.status_code} {answer.text[:200]}")
        if "Traceback" in answer.text:
            raise Finding(f"{method} {path[:80]}: a traceback")
        with suppress(Exception):
            sessions.append(answer.json()["session"])
        while len(sessions) > 8:
            client.delete(f"/v1/sessions/{sessions.pop(0)}")

    def over_websocket(rng: random.Random) -> None:
        path = rng.choice(["/v1/session", "/openpi", "/vla_eval"])
        with suppress(WebSocketDisconnect), client.websocket_connect(path) as line:
            if path == "/openpi":
                line.receive_bytes()
            for _ in range(rng.randrange(1, 4)):
                message = body(rng)
                if rng.random() < 0.2:
                    line.send_text(message.decode("latin-1"))
                else:
                    line.send_bytes(message)

    def once(rng: random.Random) -> None:
        (over_websocket if rng.random() < 0.1 else over_http)(rng)
        if rng.random() < 0.01 and client.get("/readyz").status_code != 200:
            raise Finding("the server is not ready any more")

    return once


def config_target(room: Path) -> Target:
    """Words of `memvla run`, `collect` and `serve`, composed."""
    from harness.collect import compose_collect
    from harness.config import compose_run
    from harness.serving.settings import compose_serve

    keys = (
        *(
            "run.trials",
            "run.tasks",
            "run.dir",
            "run.seed",
            "cluster",
            "cluster.workers",
            "limits.step",
            "policy.memory",
        ),
        *(
            "protocol.execute",
            "policy.name",
            "+x",
            "~run",
            "++run.seed",
            "hydra.run.dir",
            "run",
            "a.b",
            "",
            "policy.target",
        ),
    )
    collect = ("collect.dir", "collect.trials", "collect.tasks", "collect.noise", "collect.what", "learner", "run.seed")
    serve = ("serve.port", "serve.host", "serve.rate", "serve.token", "serve", "policy.memory", "serve.a.b", "policy")
    values = (
        *("1", "-1", "null", "[a,b]", "[", "{a:1}", "${oc.env:HOME}", "${run.seed}", "'", "a\nb", "\\", "1e400", "inf"),
        *("${oc.decode:1}", "!!python/object/apply:os.system [ls]", "é", "x" * 3000, "[" * 300, "true", ""),
    )

    def once(rng: random.Random) -> None:
        compose, own = rng.choice([(compose_run, keys), (compose_collect, collect), (compose_serve, serve)])
        words = [f"{rng.choice(own)}={rng.choice([*values, str(atom(rng))])}" for _ in range(rng.randrange(1, 4))]
        noisy = rng.random() < 0.1
        base = [f"suite={atom(rng)}", f"policy={atom(rng)}"] if noisy else ["suite=lab_smoke", "policy=expert"]
        with only_mistakes():
            compose([*base, *words])

    return once


def suite_target(room: Path) -> Target:
    """Suite files."""
    import yaml

    import suites.protocol as protocol

    good = (Path(protocol.__file__).parent / "lab_smoke.yaml").read_text()
    data = yaml.safe_load(good)
    (room / "suites").mkdir()
    path = room / "suites" / "lab_fuzz.yaml"

    def once(rng: random.Random) -> None:
        other = changed({**data, "name": "lab_fuzz"}, rng)
        text = (
            json.dumps(other).encode()
            if rng.random() < 0.7
            else damaged(good.replace("lab_smoke", "lab_fuzz").encode(), rng)
        )
        path.write_bytes(text)
        protocol._parse.cache_clear()
        with only_mistakes():
            suite = protocol.load_suite("lab_fuzz")
            suite.fingerprint()
            suite.env_spec  # noqa: B018 - it reads the rest of the file

    os.environ["MEMVLA_SUITES"] = str(room / "suites")
    return once


def record_target(room: Path) -> Target:
    """Record files, read as every report does, and repaired."""
    from reports.records import FILE_NAME, EpisodeRecord, RecordStore
    from reports.repair import repair

    path = room / FILE_NAME
    (room / "manifest.json").write_text("{}")
    with RecordStore(path, create=True) as store:
        for trial in range(40):
            hashes = {"scene_hash": f"{trial:064x}", "action_digest": f"{trial:064x}"}
            store.add(
                EpisodeRecord("s", "t", trial, 1, "failure", 3, 1, False, False, metrics={"score": 0.5}, **hashes)
            )
        whole = store.attempts()
    good = path.read_bytes()

    def once(rng: random.Random) -> None:
        path.write_bytes(damaged(good, rng))
        if rng.random() < 0.1:
            Path(f"{path}-wal").write_bytes(rng.randbytes(rng.randrange(5000)))
        with only_mistakes(), RecordStore(path) as store:
            if any(record not in whole for record in store.attempts()):
                raise Finding("a record that was never written")
        if rng.random() < 0.1:
            repair(room)
            with RecordStore(path) as store:
                if any(record not in whole for record in store.attempts()):
                    raise Finding("a repaired record that was never written")
        for side in room.glob(f"{FILE_NAME}?*"):
            side.unlink()

    return once


def manifest_target(room: Path) -> Target:
    """Manifests."""
    from reports import manifest as manifests
    from suites.protocol import load_suite

    suite = load_suite("lab_smoke")
    plans = [manifests.plan_of(suite, [task.name for task in suite.tasks], 2)]
    options = {"policy": "expert", "policy_config": {"target": "a:b"}, "suites": plans, "seed": 0, "privileged": False}
    manifests.collect(run="fuzz", config={"run": {"seed": 0}}, **options).write(room)
    path = room / manifests.FILE_NAME
    good = path.read_bytes()

    def once(rng: random.Random) -> None:
        spoil_file(path, good, rng)
        with only_mistakes():
            manifests.read(room)

    return once


def checkpoint_target(room: Path) -> Target:
    """Checkpoints in our format and in the released layout, with the files beside them."""
    import torch

    from harness.plan import context_of
    from policies.memoryvla.policy import memoryvla
    from policies.vla import checkpoint
    from policies.vla.config import preset
    from suites.protocol import load_suite

    policy = memoryvla(context_of(load_suite("lab_smoke")), threads=1)
    statistics = {"toy": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}}}
    checkpoint.save_checkpoint(
        room / "own",
        policy.network,
        policy.loaded.config,
        statistics=statistics,
        tokenizer=policy.loaded.prompter.tokenizer,
        action=policy.spec.action,
        cameras=policy.spec.cameras,
    )
    # Few weights: what is fuzzed is their reading. The network itself is filled by names and shapes, all or nothing.
    few = dict(list(policy.network.state_dict().items())[:6])
    checkpoint.save_file(
        {name: tensor.contiguous() for name, tensor in few.items()}, room / "own" / "model.safetensors"
    )
    checkpoint.BASES["fuzz"] = lambda family: preset("lab", family)
    names = ("projector", "llm_backbone", "vision_backbone", "per_mem_bank", "action_model")
    groups: dict[str, Any] = {name: {"a.weight": torch.zeros(4, 4)} for name in names}
    groups["action_model"] = {
        "net.x_embedder.linear.weight": torch.zeros(8, 7),
        "net.blocks.0.x": torch.zeros(2),
        "net.positional_embedding": torch.zeros(5, 8),
    }
    (room / "released" / "checkpoints").mkdir(parents=True)
    torch.save({"model": groups}, room / "released" / "checkpoints" / "step.pt")
    memory = {"mem_length": 3, "retrieval_layers": 1, "use_timestep_pe": True, "fusion_type": "gate"}
    settings = {"vla": {"base_vlm": "fuzz"}, **memory, "consolidate_type": "tome", "update_fused": False}
    (room / "released" / "config.json").write_text(json.dumps(settings))
    for name in ("dataset_statistics.json", "tokenizer.json"):
        shutil.copy(room / "own" / name, room / "released" / name)
    context = context_of(load_suite("lab_smoke"))

    def once(rng: random.Random) -> None:
        folder = room / rng.choice(["own", "released"])
        with one_spoilt(folder, rng), only_mistakes():
            found = checkpoint.read_checkpoint(folder, "memoryvla")
            found.state()
            if rng.random() < 0.05:
                memoryvla(context, checkpoint=str(folder), threads=1)

    return once


def episode_target(room: Path) -> Target:
    """Recorded episodes."""
    from policies.training.demos import DemoError
    from policies.training.episodes import read_episode, write_episode

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "extras"))
    from rlds_making import recorded

    path = write_episode(recorded(0), room)
    good = path.read_bytes()

    def once(rng: random.Random) -> None:
        path.write_bytes(damaged(good, rng))
        with suppress(DemoError):
            read_episode(path)

    return once


def rlds_target(room: Path) -> Target:
    """RLDS datasets: their records and the files that describe them."""
    from policies.training.demos import DemoError
    from policies.training.rlds import read_demos
    from policies.training.rlds_writing import Finished, append

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "extras"))
    from rlds_making import recorded

    append(room / "demos", [Finished(recorded(i, steps=3), True, f"hash-{i}") for i in range(2)], {})

    def once(rng: random.Random) -> None:
        with one_spoilt(room / "demos", rng), suppress(DemoError):
            list(read_demos(room / "demos", threads=1))

    return once


TARGETS: dict[str, tuple[Callable[[Path], Target], float]] = {
    "wire": (wire_target, 0.3),
    "host": (host_target, 0.15),
    "codec": (codec_target, 0.25),
    "picture": (picture_target, 0.06),
    "server": (server_target, 0.06),
    "config": (config_target, 0.0025),
    "suite": (suite_target, 0.03),
    "records": (record_target, 0.04),
    "manifest": (manifest_target, 0.0555),
    "checkpoint": (checkpoint_target, 0.01),
    "episode": (episode_target, 0.0405),
    "rlds": (rlds_target, 0.0015),
}
"""Name -> what makes the target, and its share of the inputs: what is slow gets fewer."""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--inputs", type=int, default=100_000)
    words.add_argument("--targets", default=",".join(TARGETS))
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", type=int, default=None)
    words.add_argument("--seconds", type=float, default=3000.0)
    given = words.parse_args()
    chosen = given.targets.split(",")
    share = sum(TARGETS[name][1] for name in chosen)
    until = time.monotonic() + given.seconds
    found = ran = wanted = 0
    logging.disable()
    print(f"{'target':12} {'inputs':>8} {'findings':>9} {'seconds':>8} {'ms at most':>11}", flush=True)
    for name in chosen:
        many = max(1, round(given.inputs * TARGETS[name][1] / share))
        wanted += many
        with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as room:
            begun = time.monotonic()
            did, bad, longest = fuzz(name, Path(room), many, given, until)
            print(f"{name:12} {did:8d} {bad:9d} {time.monotonic() - begun:8.1f} {1000 * longest:11.1f}", flush=True)
        found, ran = found + bad, ran + did
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{ran} inputs, {found} findings; at most {peak:.0f} MiB resident")
    if ran < wanted and given.only is None:
        print(f"stopped after {given.seconds:g} s: {ran} of {wanted} inputs")
        return 1
    return 1 if found else 0


def fuzz(name: str, room: Path, many: int, given: argparse.Namespace, until: float) -> tuple[int, int, float]:
    """(inputs run, findings, seconds of the longest one)."""
    target = TARGETS[name][0](room)
    signal.signal(signal.SIGALRM, _hangs)
    bad, longest = 0, 0.0
    known: set[str] = set()
    numbers = range(many) if given.only is None else [given.only]
    for did, number in enumerate(numbers):
        if time.monotonic() > until:
            return did, bad, longest
        begun = time.monotonic()
        signal.alarm(HANG_S)
        try:
            target(random.Random(f"{given.seed}/{name}/{number}"))
        except Exception as error:
            bad += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            key = f"{type(error).__name__} {where.filename}:{where.lineno}"
            if key not in known and len(known) < 20:
                known.add(key)
                print(f"  {name} {number}: {type(error).__name__}: {str(error)[:300]}")
                print("    " + "    ".join(traceback.format_exc(limit=-6).splitlines(keepends=True)))
        finally:
            signal.alarm(0)
        longest = max(longest, time.monotonic() - begun)
    return len(numbers), bad, longest


def _hangs(*_: object) -> None:
    raise Finding(f"no answer within {HANG_S} s")


if __name__ == "__main__":
    sys.exit(main())
