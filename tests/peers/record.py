"""Writes what the real packages send, for the tests that run without them:

VLA_EVAL_PYTHON tests/peers/record.py vla_eval; OPENPI_PYTHON tests/peers/record.py openpi
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pictures import answer, picture

FILE = Path(__file__).parents[1] / "policies" / "remote" / "recorded.json"
TEXT = "push the button"


def vla_eval() -> dict[str, bytes]:
    from vla_eval.model_servers.base import SessionContext  # noqa: F401 - the package is whole
    from vla_eval.protocol.messages import Message, MessageType, make_hello_payload, pack_message
    from vla_eval.specs import GRIPPER_CLOSE_NEG, POSITION_DELTA, ROTATION_EULER

    specs = {"position": POSITION_DELTA, "rotation": ROTATION_EULER, "gripper": GRIPPER_CLOSE_NEG}
    about = make_hello_payload(
        model_server="X", capabilities={}, action_spec={k: v.to_dict() for k, v in specs.items()}
    )
    task = {"task": {"name": "made_up", "suite": "lab_smoke", "episode_idx": 0}}

    def seen(step: int) -> dict[str, Any]:
        return {"images": {"agentview": picture(0, step, np.zeros(7))}, "task_description": TEXT}

    kinds = MessageType
    messages = {
        "client_hello": Message(kinds.HELLO, make_hello_payload(), 1),
        "client_start": Message(kinds.EPISODE_START, task, 2),
        "client_observation_0": Message(kinds.OBSERVATION, seen(0), 3),
        "client_observation_1": Message(kinds.OBSERVATION, seen(1), 4),
        "client_end": Message(kinds.EPISODE_END, {"metrics": {}}, 5),
        "server_hello": Message(kinds.HELLO, about, 1),
        "server_action": Message(kinds.ACTION, {"actions": answer([picture(0, 0, np.zeros(7))])[0]}, 3),
        "server_error": Message(kinds.ERROR, {"error": "observation_failed: ValueError: no"}, 4),
    }
    return {name: pack_message(message) for name, message in messages.items()}


def openpi() -> dict[str, bytes]:
    from openpi_client import msgpack_numpy

    seen = {"observation/image": picture(0, 0, np.zeros(7)), "prompt": TEXT, "observation/state": np.arange(3.0)}
    answered = {"actions": answer([seen["observation/image"]]).astype(np.float64), "server_timing": {"infer_ms": 1.5}}
    messages = {"server_metadata": {"name": "demo"}, "client_observation": seen, "server_actions": answered}
    return {name: msgpack_numpy.Packer().pack(message) for name, message in messages.items()}


if __name__ == "__main__":
    which = sys.argv[1]
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    packed = {"vla_eval": vla_eval, "openpi": openpi}[which]()
    name = {"vla_eval": "vla-eval", "openpi": "openpi-client"}[which]
    coded = {key: base64.b64encode(value).decode() for key, value in packed.items()}
    known[which] = {"package": f"{name} {importlib.metadata.version(name)}", **coded}
    FILE.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
