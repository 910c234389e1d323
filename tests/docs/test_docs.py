"""Every command in the documentation runs, or where it needs what a test has not, could be given as it stands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from harness.nightly import read
from tests.docs.reading import (
    NEEDS,
    PAGES,
    ROOT,
    RUNS,
    Block,
    blocks,
    commands,
    spoken,
    stray,
    validate,
    workflow_commands,
)

EXAMPLES = ROOT / "docs" / "examples"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that a test runs for real."""
    return [b for b in blocks(page) if b.language == "sh" and (b.mark is None or b.mark[0] == "runs")]


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new shell: nothing of one's own is named."""
    for variable in ("MEMVLA_POLICIES", "MEMVLA_SUITES", "PYTHONPATH"):
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_command_escapes_the_test(page: Path) -> None:
    assert stray(page) == []
    for block in blocks(page):
        assert block.mark is None or block.mark[1] in {"needs": NEEDS, "runs": RUNS}[block.mark[0]], str(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_could_be_given(page: Path) -> None:
    for block in blocks(page):
        # What runs for real needs no check here, and may name what only its own shell knows.
        if block.language in ("sh", "bash") and block.mark is not None and block.mark[0] == "needs":
            for words in commands(block.text):
                if words[0] in ("memvla", "make", "python") or block.language == "sh":
                    validate_at(block, words)
    for words in spoken(page):
        validate(words)


def validate_at(block: Block, words: list[str]) -> None:
    try:
        validate(words)
    except BaseException as error:
        raise AssertionError(f"{block}: {' '.join(words)}\n{type(error).__name__}: {error}") from error


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name)
def test_every_other_command_runs(page: Path, tmp_path: Path) -> None:
    port = free_port()
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "front.png")
    script = tmp_path / "page.sh"
    script.write_text(as_script(page, port))
    surroundings = {
        **os.environ,
        "DOCS": str(ROOT / "docs"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["bash", str(script)]
    ended = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, timeout=1100)
    assert ended.returncode == 0, f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


def as_script(page: Path, port: int) -> str:
    """The page as one shell session. Port 8000 becomes a free one; what runs in the background is waited for."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    for block in runnable(page):
        lines.append(f"echo '--- {block}'")
        text = block.text.replace("8000", str(port))
        if block.mark == ("runs", "here"):
            lines.append(f"cd {page.parent}")
        if block.mark == ("runs", "background"):
            ready = f"curl -sf localhost:{port}/readyz >/dev/null"
            lines += [
                f"{text} > served.txt 2>&1 &",
                f"for _ in $(seq 600); do {ready} && break; sleep 0.5; done",
                ready,
            ]
        else:
            lines.append(text)
    return "\n".join(lines) + "\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.language == "python" for b in blocks(p))], ids=name)
def test_every_python_example_runs(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            command = [sys.executable, "-c", block.text]
            ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
            assert ended.returncode == 0, f"{block}\n{ended.stderr}"
            assert "success" in ended.stdout


def test_the_ready_workflow_runs_commands_that_exist() -> None:
    found = workflow_commands(EXAMPLES / "github_nightly.yml")
    memvla = [["memvla", *words[1:]] for words in found if words[0].endswith("memvla")]
    assert memvla, "it runs memvla"
    for words in [*memvla, *(words for words in found if words[0] == "make")]:
        validate(words)
    assert (ROOT / memvla[0][-1]).is_file()
    assert read(EXAMPLES / "nightly.yaml").budget_minutes == 240


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_yaml_in_the_documentation_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and "--8<--" not in block.text:
            assert yaml.safe_load(block.text), str(block)


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    surroundings = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr, ended.stderr
    page = (tmp_path / "site" / "reference" / "cli" / "index.html").read_text()
    for verb in ("run", "robot", "new env", "nightly"):
        assert f"memvla {verb}" in page
