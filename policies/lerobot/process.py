"""The other side of `policies.lerobot.policy`: runs under LeRobot's Python, and imports nothing of ours.

    python process.py FOLDER DEVICE FD      FD: a connected socket, inherited

Each message is a line of JSON, then the bytes of its arrays. Every live episode has a policy object of its own that
shares the weights: what LeRobot keeps on the object (queues of actions and observations, ensembles) is the episode's.
"""

from __future__ import annotations

import copy
import json
import socket
import sys
from io import BufferedRWPair
from typing import Any

import numpy as np


def receive(stream: BufferedRWPair) -> tuple[dict[str, Any], dict[str, Any]]:
    """The next message: its header, and its arrays by name. Raises EOFError when the other side has gone."""
    line = stream.readline()
    if not line:
        raise EOFError("the other side has gone")
    head = json.loads(line)
    arrays = {}
    for name, dtype, shape in head.pop("arrays", []):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        data = stream.read(size)
        if len(data) != size:
            raise EOFError("the other side has gone in the middle of a message")
        arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return head, arrays


def send(stream: BufferedRWPair, head: dict[str, Any], arrays: dict[str, Any] | None = None) -> None:
    """Send a header with arrays."""
    parts = {name: np.ascontiguousarray(value) for name, value in (arrays or {}).items()}
    told = [(name, value.dtype.str, list(value.shape)) for name, value in parts.items()]
    stream.write(json.dumps({**head, "arrays": told}).encode() + b"\n")
    for value in parts.values():
        stream.write(value.tobytes())
    stream.flush()


class Served:
    """A LeRobot policy with the state of many episodes."""

    def __init__(self, folder: str, device: str) -> None:
        import torch
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        self._torch = torch
        torch.set_num_threads(1)  # another number gives other last bits
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        config = PreTrainedConfig.from_pretrained(folder)
        config.device = chosen
        self._policy = get_policy_class(config.type).from_pretrained(folder, config=config).eval()
        self._device = torch.device(chosen)
        moved = {"device_processor": {"device": chosen}}
        self._before, self._after = make_pre_post_processors(config, folder, preprocessor_overrides=moved)
        self._live: dict[str, Any] = {}

    def start(self, episode: str) -> None:
        self._live[episode] = self._fresh()

    def _fresh(self) -> Any:
        """The policy with nothing remembered; weights shared."""
        torch = self._torch
        made = copy.copy(self._policy)
        shared = ("_parameters", "_buffers", "_modules", "config")
        for name, value in vars(made).items():
            if name not in shared and not isinstance(value, torch.nn.Module) and not name.endswith("_hooks"):
                vars(made)[name] = copy.deepcopy(value)
        made.reset()
        return made

    def act(self, episode: str, seed: int, steps: int, text: str, arrays: dict[str, Any]) -> Any:
        """The next `steps` actions, float32 [steps, A]."""
        from lerobot.policies.utils import prepare_observation_for_inference

        policy, found = self._live[episode], []
        self._torch.manual_seed(seed)
        for _ in range(steps):  # the first one asks the network, the others come from LeRobot's own queue
            with self._torch.inference_mode():
                seen = prepare_observation_for_inference(dict(arrays), self._device, text, None)
                found.append(self._after(policy.select_action(self._before(seen))))
        return self._torch.cat(found).to("cpu", self._torch.float32).numpy()

    def end(self, episode: str) -> None:
        self._live.pop(episode, None)


def main(folder: str, device: str, descriptor: int) -> None:
    """Answer until the other side goes."""
    with socket.socket(fileno=descriptor) as line, line.makefile("rwb") as stream:
        served: Served | None = None
        while True:
            try:
                asked, arrays = receive(stream)
            except EOFError:
                return
            try:
                served = served or Served(folder, device)
                verb = asked.pop("do")
                answer = (
                    {} if verb == "load" else getattr(served, verb)(**asked, **({"arrays": arrays} if arrays else {}))
                )
                send(stream, {"ok": True}, {"actions": answer} if verb == "act" else None)
            except Exception as error:
                send(stream, {"ok": False, "error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
