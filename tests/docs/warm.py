"""`memvla` without its start-up, ten seconds of imports: a process that has made them, and forks for every command.

    python -m tests.docs.warm SOCKET

A command runs in a process of its own, with the folder, variables, input and outputs of the shell that gave it.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from typing import NoReturn

IMPORTS = (
    "tensorflow_datasets",
    "torch.utils.tensorboard",
    "harness.check",
    "harness.cli",
    "harness.collect",
    "harness.run",
    "harness.training",
    "policies.training.entries",
    "policies.training.foresight",
    "policies.training.grounding",
    "policies.training.policy_stage",
    "reports.report",
)
MOST = 1 << 20
"""Bytes of a request."""


def serve(path: str) -> None:
    """Carry out what is asked for at this socket, one command at a time, until killed or left alone by its parent."""
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()  # whoever asks already waits
        for name in IMPORTS:
            importlib.import_module(name)
        listening.settimeout(5)
        while os.getppid() == parent:
            try:
                connection = listening.accept()[0]
            except TimeoutError:
                continue
            with connection:
                told, streams, _, _ = socket.recv_fds(connection, MOST, 3)
                told += connection.makefile("rb").read()
                child = os.fork()
                if child == 0:
                    carry_out(json.loads(told), streams)
                for stream in streams:
                    os.close(stream)
                ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                connection.sendall(bytes([ended & 255]))


def carry_out(told: dict[str, object], streams: list[int]) -> NoReturn:
    """Be the command: what it prints, and its exit code, are its own."""
    from harness.cli import main

    code = 1
    try:
        for stream, number in zip(streams, (0, 1, 2), strict=True):
            os.dup2(stream, number)
        os.environ.clear()
        os.environ.update(told["variables"])  # type: ignore[call-overload]
        sys.path[1:1] = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
        os.chdir(str(told["folder"]))
        sys.argv = list(told["words"])  # type: ignore[call-overload]
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ask(path: str, words: list[str]) -> int:
    """Have a command carried out; its exit code."""
    told = {"words": words, "folder": os.getcwd(), "variables": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        data = json.dumps(told).encode()
        connection.sendall(data[socket.send_fds(connection, [data], [0, 1, 2]) :])
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    serve(sys.argv[1])
