"""Every command in the documentation runs: as it stands, shortened (`tests.docs.shortening`), or, where it needs a
simulator, in `make test-sims`. What installs things or needs a cluster or a GPU (`CHECKED`) is checked word by word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.nightly import read
from tests.docs.reading import (
    NEEDS,
    PAGES,
    ROOT,
    RUNS,
    SIMULATORS,
    Block,
    blocks,
    commands,
    spoken,
    stray,
    validate,
    workflow_commands,
)
from tests.docs.running import arrange, as_script, carry_out
from tests.docs.shortening import QUICK, RULES, fits, shortened

CHECKED = {"cluster": 4, "gpu": 1, "install": 10}
"""Blocks that are only checked, by what they need."""
EXAMPLES = ROOT / "docs" / "examples"


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path) -> list[Block]:
    """The blocks of a page that a test runs for real."""
    elsewhere = {("runs", simulator) for simulator in SIMULATORS}
    return [
        b
        for b in blocks(page)
        if b.language == "sh" and (b.mark is None or (b.mark[0] == "runs" and b.mark not in elsewhere))
    ]


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
        if block.language in ("sh", "bash") and block.mark is not None and block.mark[1] in (*NEEDS, *SIMULATORS):
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


@pytest.fixture(scope="module")
def warm() -> Iterator[str]:
    """Where `tests.docs.warm` listens."""
    with tempfile.TemporaryDirectory(prefix="warm-") as folder:
        path = Path(folder) / "socket"
        command = [sys.executable, "-m", "tests.docs.warm", str(path)]
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.1)
            yield str(path)
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=name)
def test_every_command_runs(page: Path, tmp_path: Path, warm: str) -> None:
    arrange(tmp_path, runnable(page))
    carry_out(as_script(runnable(page)), tmp_path, warm)


def test_few_blocks_are_only_checked_and_every_simulator_runs_its_own() -> None:
    marks = Counter(block.mark for page in PAGES for block in blocks(page) if block.language in ("sh", "bash"))
    checked = {mark[1]: many for mark, many in marks.items() if mark and mark[0] == "needs"}
    assert checked == CHECKED
    for simulator in SIMULATORS:
        assert marks["runs", simulator], f"no command on {simulator}"
        text = (ROOT / "tests" / "sims" / f"test_{simulator}.py").read_text()
        assert f'documented("{simulator}", ' in text, f"nothing runs the commands on {simulator}"


def test_shortening_replaces_words_and_leaves_all_others() -> None:
    words = ["memvla", "run", "suite=lab_memory", "policy=cogact_lab", "run.trials=200", "run.tasks=[press_order]"]
    assert shortened(words) == [*words[:4], words[5], *QUICK]
    assert shortened(["memvla", "train", "--help"]) == ["memvla", "train", "--help"]
    assert shortened(["memvla", "suites"]) == ["memvla", "suites"]


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES])
def test_no_rule_shortens_what_no_page_says(rule: str) -> None:
    marks = [("runs", how) for how in ("shortened", *SIMULATORS)]
    texts = [block.text for page in PAGES for block in blocks(page) if block.mark in marks]
    assert any(fits(words, rule) for text in texts for words in commands(text))


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
