"""A page of the documentation as a session of one shell, and what that shell finds around it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.config import compose_run
from harness.plan import context_of
from tests.docs.reading import PAGES, ROOT, SIMULATORS, Block, blocks, commands

SHORTENING = Path(__file__).with_name("shortening.py")
STATIONS = Path(__file__).with_name("stations")
CHECKPOINTS = ("DIR", "FILE.pt", "NAME.pt")
"""Names that stand for a checkpoint of the reader's."""
THEIRS = "2345"
"""The port of a MemoryVLA server that is somebody else's; ours stands in for it."""


def documented(simulator: str, folder: Path) -> None:
    """Run every block that is marked with this simulator, each in a shell and a folder of its own, equal ones once."""
    marked = [block for page in PAGES for block in blocks(page) if block.mark == ("runs", simulator)]
    for number, block in enumerate({block.text: block for block in marked}.values()):
        place = folder / str(number)
        place.mkdir()
        arrange(place, [block])
        carry_out(as_script([block]), place)


def arrange(folder: Path, wanted: Iterable[Block]) -> None:
    """What pages take for granted: the folders of a clone, a picture, and the checkpoints that they name."""
    for name in ("benchmarks", "envs", "harness", "policies", "reports", "suites"):
        (folder / name).symlink_to(ROOT / name)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "front.png")
    for block in wanted:
        for words in commands(block.text):
            given = dict(word.partition("=")[::2] for word in words)
            path = folder / given.get("policy.checkpoint", "")
            if path.name in CHECKPOINTS and not path.exists():
                save_untrained(path, given["policy"], given["suite"].partition(",")[0])


def save_untrained(path: Path, policy: str, suite: str) -> None:
    """A checkpoint in our format: random weights at `lab` size, with the 16 actions an answer of released ones."""
    from policies.vla.checkpoint import save_checkpoint

    words = [f"suite={'lab_smoke' if suite.startswith('real') else suite}", f"policy={policy}"]
    config = compose_run([*words, "policy.vision.resize=naive", "policy.expert.chunk=16"])
    made: Any = config.policies[0].build(context_of(config.suites[0]))
    save_checkpoint(
        path,
        made.network,
        made.loaded.config,
        statistics={"none": {"action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}}},
        tokenizer=made.loaded.prompter.tokenizer,
        action=made.spec.action,
        cameras=made.spec.cameras,
        memory_scope=config.suites[0].protocol.memory_scope,
    )


def carry_out(script: str, folder: Path, warm: str = "") -> None:
    """Run a script in a folder; fails with the end of what it said. warm: socket of `tests.docs.warm`."""
    (folder / "page.sh").write_text(script)
    surroundings = {
        **os.environ,
        "DOCS": str(ROOT / "docs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(STATIONS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "SHORTENED": f"{sys.executable} {SHORTENING} {warm or '-'}",
    }
    command = ["bash", str(folder / "page.sh")]
    ended = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, timeout=1700)
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


def as_script(wanted: Iterable[Block]) -> str:
    """Blocks in order, as one shell session, in which port 8000 is a free one."""
    port = free_port()
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in wanted:
        how = block.mark[1] if block.mark else ""
        lines.append(f"echo '--- {block}'")
        text = block.text.replace("8000", str(port))
        if how == "here":
            lines.append(f"cd {block.page.parent}")
        if how == "background":
            lines += background(text, port)
        elif how in ("shortened", *SIMULATORS):
            lines += shortened(text)
        else:
            lines.append(text)
    return "\n".join(lines) + "\n"


def background(command: str, port: int) -> list[str]:
    """Start a server and wait until it is ready."""
    ready = f"curl -sf localhost:{port}/readyz >/dev/null"
    return [f"{command} > served.txt 2>&1 &", f"for _ in $(seq 1200); do {ready} && break; sleep 0.5; done", ready]


def shortened(text: str) -> list[str]:
    """The block, its commands passed through `tests.docs.shortening`."""
    before: list[str] = []
    if THEIRS in text:
        port = free_port()
        text = text.replace(THEIRS, str(port))
        serve = "memvla serve policy=memoryvla policy.vision.resize=naive suite=libero_object serve.window=8"
        before = background(f"{serve} --protocol memoryvla --port {port}", port)
    through = [f'{program}() {{ $SHORTENED {program} "$@"; }}' for program in ("memvla", "python")]
    return [*before, *through, text, "unset -f memvla python"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
