"""A policy saved by LeRobot, in a process of its own under LeRobot's Python."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs.spec import EpisodeId, Floats
from policies.base import (
    ActReply,
    ActRequest,
    EpisodeStart,
    EpisodeStates,
    Policy,
    PolicyContext,
    PolicyError,
    PolicySpec,
    noise_seed,
)
from policies.lerobot import process
from policies.vla.conventions import convention_of

VARIABLE = "MEMVLA_LEROBOT_PYTHON"
PICTURES, STATE = "observation.images.", "observation.state"


def lerobot(
    context: PolicyContext,
    *,
    path: str | None = None,
    python: str | None = None,
    cameras: Mapping[str, str] | None = None,
    convention: str = "env",
    device: str = "auto",
    timeout: float = 300.0,
) -> Policy:
    """The policy in folder `path`; options as in policies/lerobot.yaml. Raises PolicyError naming what does not fit."""
    if not path:
        raise PolicyError("name the policy's folder: policy.path=DIR, as LeRobot's save_pretrained leaves it")
    folder = Path(path).expanduser().resolve()
    config = _config(folder)
    action = context.env.action if convention == "env" else convention_of(convention, context).action
    dim = (_features(config, "output_features").get("action") or {}).get("shape", [0])[0]
    if dim != action.dim:
        raise PolicyError(
            f"{folder}: its actions have {dim} numbers, those of {context.suite} in the convention {convention!r} have "
            f"{action.dim}"
        )
    views = _views(_features(config, "input_features"), context, cameras)
    wants_state = _wants_state(_features(config, "input_features"), context, folder)
    chunk = _chunk(config)
    spec = PolicySpec(
        name="lerobot",
        action=action,
        cameras=tuple(views),
        chunk=chunk,
        execute=chunk,
        stateful=True,
        uses_state=wants_state,
        note=f"a LeRobot policy of type {config.get('type')}, run by LeRobot's own Python",
    )
    return LeRobotPolicy(spec, Peer(_python(python), folder, device, timeout), views)


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise PolicyError(f"{folder} holds no LeRobot policy: config.json: {error}") from None
    if not isinstance(found, dict) or "type" not in found:
        raise PolicyError(f"{folder}/config.json is not of a LeRobot policy: it names no `type`")
    return found


def _features(config: Mapping[str, Any], which: str) -> dict[str, Any]:
    return dict(config.get(which) or {})


def _views(features: Mapping[str, Any], context: PolicyContext, cameras: Mapping[str, str] | None) -> dict[str, str]:
    """Our camera -> the policy's feature. Raises PolicyError where they do not match, in name or size."""
    wanted = [name for name, about in features.items() if about.get("type") == "VISUAL"]
    offered = [camera.name for camera in context.env.cameras]
    if cameras:
        views = {ours: theirs if theirs in wanted else f"{PICTURES}{theirs}" for ours, theirs in cameras.items()}
    elif len(wanted) == 1 and wanted[0].removeprefix(PICTURES) not in offered:
        views = {offered[0]: wanted[0]}
    else:
        views = {name.removeprefix(PICTURES): name for name in wanted}
    if sorted(views.values()) != sorted(wanted) or any(name not in offered for name in views):
        raise PolicyError(
            f"the policy wants {', '.join(wanted) or 'no picture'}, {context.suite} offers {', '.join(offered)}: "
            "say which is which with policy.cameras={OURS: THEIRS}"
        )
    for ours, theirs in views.items():
        camera, shape = context.env.camera(ours), list(features[theirs]["shape"])
        if shape != [3, camera.height, camera.width]:
            raise PolicyError(
                f"the policy was made for {theirs} of {shape}, camera {ours} of {context.suite} gives "
                f"{[3, camera.height, camera.width]}"
            )
    return views


def _wants_state(features: Mapping[str, Any], context: PolicyContext, folder: Path) -> bool:
    if STATE not in features:
        return False
    size, offered = features[STATE]["shape"][0], len(context.env.state)
    if size != offered:
        raise PolicyError(f"{folder}: it wants {size} numbers of proprioception, {context.suite} offers {offered}")
    return True


def _chunk(config: Mapping[str, Any]) -> int:
    """Actions an answer may hold: all that LeRobot carries out unseen; 1 where it looks at every step."""
    looks = config.get("n_obs_steps", 1) != 1 or config.get("temporal_ensemble_coeff") is not None
    return 1 if looks else int(config.get("n_action_steps") or 1)


def _python(named: str | None) -> str:
    chosen = named or os.environ.get(VARIABLE) or sys.executable
    if not Path(chosen).is_file():
        raise PolicyError(f"there is no Python at {chosen} (policy.python, or the variable {VARIABLE})")
    return chosen


class LeRobotPolicy(Policy):
    """One LeRobot process, with a state of its own for each live episode. views: our camera -> the policy's feature."""

    def __init__(self, spec: PolicySpec, peer: Peer, views: Mapping[str, str]) -> None:
        self.spec = spec
        self.peer, self.views = peer, dict(views)
        self._starts: EpisodeStates[EpisodeStart] = EpisodeStates()
        peer.ask({"do": "load"})

    def start(self, episodes: Sequence[EpisodeStart]) -> None:
        for start in episodes:
            self._starts.open(start.episode, start)
            self.peer.ask({"do": "start", "episode": str(start.episode)})

    def act(self, requests: Sequence[ActRequest]) -> list[ActReply]:
        return [ActReply(request.episode, request.step, self._actions(request)) for request in requests]

    def _actions(self, request: ActRequest) -> Floats:
        start, seen = self._starts.of(request.episode), request.observation
        arrays: dict[str, Any] = {theirs: seen.images[ours] for ours, theirs in self.views.items()}
        if self.spec.uses_state:
            if seen.state is None:
                raise PolicyError("the policy needs proprioception and was given none")
            arrays[STATE] = seen.state
        asked = {"episode": str(request.episode), "steps": self.spec.chunk, "text": seen.instruction}
        seed = noise_seed(start.seed, request.episode, request.call)
        return np.array(self.peer.ask({"do": "act", "seed": seed, **asked}, arrays)["actions"], dtype=np.float32)

    def instruction_changed(self, episode: EpisodeId, instruction: str, *, keep_memory: bool) -> None:
        # LeRobot keeps planned actions and what was seen together: the first must go, so both do.
        self._starts.of(episode)
        self.peer.ask({"do": "start", "episode": str(episode)})

    def end(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            if self._starts.pop(episode, None) is not None:
                self.peer.ask({"do": "end", "episode": str(episode)})

    def live(self) -> int:
        return len(self._starts)

    def close(self) -> None:
        self.peer.close()


class Peer:
    """The process at the other end of a socket pair. It dies with us, and we say so when it does."""

    def __init__(self, python: str, folder: Path, device: str, timeout: float) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        command = [python, str(Path(process.__file__)), str(folder), device, str(theirs.fileno())]
        surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env={**surroundings, "HF_HUB_OFFLINE": "1"}
        )
        theirs.close()
        self._socket, self._stream = ours, ours.makefile("rwb")

    def ask(self, head: dict[str, Any], arrays: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a message and return the arrays of its answer. Raises PolicyError."""
        try:
            process.send(self._stream, head, arrays)
            answer, found = process.receive(self._stream)
        except (OSError, EOFError) as error:
            raise PolicyError(
                f"LeRobot's process is gone ({type(error).__name__}: {error}); is lerobot installed there? "
                f"Name its Python with policy.python or {VARIABLE}"
            ) from error
        if not answer["ok"]:
            raise PolicyError(f"LeRobot: {answer['error']}")
        return found

    def close(self) -> None:
        """End the process."""
        self._stream.close()
        self._socket.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
