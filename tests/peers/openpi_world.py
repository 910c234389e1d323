"""Runs inside openpi-client's own environment: its real client against a server, or a server made with its codec."""

from __future__ import annotations

import sys

import numpy as np
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from pictures import answer, picture
from websockets.sync.server import serve


def drive(url: str) -> None:
    """Two episodes with openpi's client, a connection each; prints every action of every chunk as hex."""
    for trial in (0, 1):
        client, last = WebsocketClientPolicy(url), np.zeros(7)
        for step in (0, 4, 8):
            found = client.infer({"observation/image": picture(trial, step, last), "prompt": "push the button"})
            last = found["actions"][3]
            print(np.asarray(found["actions"], "<f4").tobytes().hex())
        client._ws.close()


def host(port: int) -> None:
    """A policy without memory behind openpi's protocol."""

    def talk(connection) -> None:
        connection.send(msgpack_numpy.packb({"name": "demo"}))
        for message in connection:
            seen = msgpack_numpy.unpackb(message)
            connection.send(msgpack_numpy.packb({"actions": answer([seen["observation/image"]])}))

    with serve(talk, "127.0.0.1", port, compression=None, max_size=None) as server:
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "drive":
        drive(sys.argv[2])
    else:
        host(int(sys.argv[2]))
