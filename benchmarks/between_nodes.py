"""Does it pay to compress frames that cross from one node to another? Real frames, through an encrypted connection.

    PYTHONPATH=. PYTHON_OF_THE_RUNTIME benchmarks/between_nodes.py --draw SUITE FRAMES.npz   # in the simulator's Python
    python benchmarks/between_nodes.py FRAMES.npz [FRAMES.npz ...]

A call carries one frame of each camera of the suite to a host in another process, over TCP on this machine with CURVE
keys as between nodes, and gets 300 bytes back. Each way of packing the frames is timed whole: compressing, sending with
encryption, decompressing. Loopback has no limit to speak of, so a network adds the bytes over its rate: from the two
follows the rate below which compressing is the faster way.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing as mp
import time
import zlib
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import zmq

Codec = tuple[Callable[[Any], Any], Callable[[Any, int], Any]]
"""Compress; decompress, given the size to come."""


def codecs() -> dict[str, Codec]:
    """By name; pyarrow brings those beyond the standard library."""
    import pyarrow as pa

    lz4, zstd = pa.Codec("lz4_raw"), pa.Codec("zstd", compression_level=1)
    return {
        "as they are": (lambda data: data, lambda data, size: data),
        "lz4": (lambda data: lz4.compress(data), lambda data, size: lz4.decompress(data, size)),
        "zstd 1": (lambda data: zstd.compress(data), lambda data, size: zstd.decompress(data, size)),
        "zlib 1": (lambda data: zlib.compress(data, 1), lambda data, size: zlib.decompress(data)),
    }


def draw(suite: str, path: str) -> None:
    """Write `calls`, uint8 [N, cameras * height * width * 3]: what a policy sees every 8 steps of random motion."""
    from suites.protocol import load_suite

    found = load_suite(suite)
    env, rng, calls = importlib.import_module(found.adapter).make(**found.env), np.random.default_rng(0), []
    space = env.action_space
    low, high = np.maximum(space.low, -1.0), np.minimum(space.high, 1.0)
    for task in found.tasks[:4]:
        for trial in range(2):
            env.reset(seed=0, options={"task": task.name, "trial": trial})
            for _ in range(8):
                calls.append(np.concatenate([image.reshape(-1) for image in env.observe().images.values()]))
                env.step_chunk(rng.uniform(low, high, (8, len(low))).astype(np.float32))
    np.savez(path, calls=np.stack(calls))
    print(f"{path}: {len(calls)} calls of {calls[0].nbytes / 1000:.0f} kB")


def host(keys: tuple[bytes, bytes], pipe: Any) -> None:
    """Answer each [codec, size, data] once the frames are there as NumPy arrays."""
    socket, known = zmq.Context.instance().socket(zmq.REP), codecs()
    socket.curve_publickey, socket.curve_secretkey = keys
    socket.curve_server = True
    pipe.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    while True:
        name, size, data = (part.buffer for part in socket.recv_multipart(copy=False))
        if bytes(name) == b"stop":
            break
        frames = np.frombuffer(known[bytes(name).decode()][1](data, int(bytes(size))), np.uint8)
        socket.send(bytes([frames[0]]) + bytes(299))
    socket.send(b"")
    socket.close()


def measure(path: str, ask: Callable[[str, int, Any], bytes]) -> None:
    """Print a line for each codec. They take turns at each call, so that other work on the machine meets all alike."""
    calls, known = np.load(path, allow_pickle=False)["calls"], codecs()
    size = calls.shape[1]
    times: dict[str, list[float]] = {name: [] for name in known}
    sizes: dict[str, list[int]] = {name: [] for name in known}
    for turn in range(4):
        for call in calls:
            for name, (compress, _) in known.items():
                begun = time.perf_counter()
                data = compress(call.data)
                ask(name, size, data)
                if turn:  # the first turn warms up
                    times[name].append(time.perf_counter() - begun)
                    sizes[name].append(len(data))
    print(f"{path}: {size / 1000:.0f} kB a call, {len(calls)} calls")
    plain = median(times["as they are"])
    for name in known:
        took, left = median(times[name]), float(np.mean(sizes[name]))
        line = f"    {name:12} {100 * left / size:5.1f} % of the bytes, {1000 * took:6.2f} ms"
        if name != "as they are":
            rate = 8 * (size - left) / (took - plain) / 1e6 if took > plain else np.inf
            line += f", faster below {rate:6.0f} Mbit/s" if np.isfinite(rate) else ", faster on any network"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", metavar="SUITE", help="draw frames of this suite and write them to the file")
    parser.add_argument("files", nargs="+", metavar="FRAMES.npz")
    given = parser.parse_args()
    if given.draw:
        draw(given.draw, given.files[0])
        return
    public, secret = zmq.curve_keypair()
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    peer = context.Process(target=host, args=((public, secret), theirs))
    peer.start()
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.curve_serverkey = public
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.connect(f"tcp://127.0.0.1:{ours.recv()}")

    def ask(name: str, size: int, data: Any) -> bytes:
        socket.send_multipart([name.encode(), b"%d" % size, data], copy=False)
        return socket.recv()

    for path in given.files:
        measure(path, ask)
    ask("stop", 0, b"")
    peer.join()


if __name__ == "__main__":
    main()
