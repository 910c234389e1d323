"""Python environments of the packages that tests meet for real, built as `memvla setup` does, once.

Skipped, saying why, only where they cannot be installed (no package index within reach).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envs.runtime import Runtime
from harness import runtimes

PEERS = Path(__file__).parent

UNLOADED = """

if not _has_ops():
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


def without_cuda(folder: Path, say: Callable[[str], None]) -> None:
    """Let torchvision be imported beside the CPU build of torch.

    Package indices hold torchvision for CUDA alone. Its compiled operators cannot be loaded without CUDA; it bears that
    but for two names, which it expects to be declared. Nothing tested here calls them.
    """
    for file in folder.glob("lib/python3*/site-packages/torchvision/extension.py"):
        file.write_text(file.read_text() + UNLOADED)
        say("  torchvision's compiled operators are declared, not loaded")


VLA_EVAL = Runtime(name="peer-vla-eval", requirements=PEERS / "vla_eval.txt", probe="import vla_eval")
OPENPI = Runtime(name="peer-openpi", requirements=PEERS / "openpi.txt", probe="import openpi_client")
LEROBOT = Runtime(
    name="peer-lerobot",
    requirements=PEERS / "lerobot.txt",
    probe="import lerobot.policies.factory, lerobot.policies.act.modeling_act",
    prepare=without_cuda,
)


def python_with(runtime: Runtime) -> str:
    """The Python of an environment."""
    try:
        runtimes.build(runtime, lambda line: None)
    except runtimes.RuntimeNotReady as error:
        pytest.skip(f"{runtime.name} cannot be installed here: {error}")
    return str(runtimes.python_of(runtime))
