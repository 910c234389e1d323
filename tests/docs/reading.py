"""Commands in the documentation: where they stand, and whether one of them could be given at all."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "examples/README.md", *sorted((ROOT / "docs").rglob("*.md"))]

NEEDS = ("cluster", "gpu", "install")
"""What a block may need that no test has: `<!-- needs: gpu -->` in the line before it. It is checked, word by word."""

SIMULATORS = ("calvin", "libero", "libero_plus", "mikasa", "simpler")
"""`<!-- runs: libero -->`: where that simulator is set up (`make test-sims`), shortened."""

RUNS = ("background", "here", "shortened", *SIMULATORS)
"""`<!-- runs: background -->`: it goes on while the rest of the page runs; `here`: in the folder of the page;
`shortened`: with fewer trials, updates or steps, see `tests.docs.shortening`."""

FENCE = re.compile(r"^```(\w*)\s*$")
MARK = re.compile(r"^<!-- (needs|runs): (\S+) -->$")
COMMAND = re.compile(r"^(memvla|make|pip|python|curl|ray|kubectl|sbatch|vla-eval|export) ")


@dataclass(frozen=True)
class Block:
    """A fenced block. mark: (`needs` or `runs`, which), or None where it is run as it stands."""

    page: Path
    line: int
    language: str
    mark: tuple[str, str] | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    opened: tuple[int, str] | None = None
    inside: list[str] = []
    before = ""
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, inside = (number, fence[1]), []
        elif opened is not None and line.rstrip() == "```":
            found = MARK.match(before)
            yield Block(page, *opened, (found[1], found[2]) if found else None, "\n".join(inside))
            opened, before = None, ""
        elif opened is not None:
            inside.append(line)
        elif line.strip():
            before = line.strip()
    assert opened is None, f"{page}:{opened} is never closed"


def stray(page: Path) -> list[str]:
    """Lines outside of `sh`, `bash` and `yaml` blocks that look like commands: no test would see them."""
    seen = {
        block.line + offset
        for block in blocks(page)
        if block.language in ("sh", "bash", "yaml")
        for offset in range(len(block.text.splitlines()) + 2)
    }
    lines = enumerate(page.read_text().splitlines(), start=1)
    return [f"{page.name}:{n}: {line}" for n, line in lines if n not in seen and COMMAND.match(line.strip())]


def commands(text: str) -> list[list[str]]:
    """The commands of a block as lists of words: continued lines joined, comments and assignments dropped."""
    found = []
    variables: dict[str, str] = {}
    for line in text.replace("\\\n", " ").splitlines():
        for variable, value in variables.items():
            line = line.replace(f"${variable} ", f"{value} ")
        words = shlex.split(line, comments=True)
        if words and words[-1] == "&":
            words.pop()
        while words and (given := re.match(r"^([A-Za-z_]+)=(.*)", words[0])):
            variables[given[1]] = given[2]
            words = words[1:]
        if words:
            found.append(words)
    return found


def spoken(page: Path) -> list[list[str]]:
    """The `memvla` commands inside sentences and tables, those with placeholders left out."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    found = [shlex.split(words) for words in re.findall(r"`(memvla [a-z][^`]*)`", prose)]
    return [words for words in found if not any(re.search(r"[A-Z]{3,}|\.\.\.|…|--help", word) for word in words)]


# ---------------------------------------------------------------------- could it be given?


def validate(words: list[str]) -> None:
    """Raise for a command that could not be given: unknown verb, option, key, policy, suite, task, target or file."""
    program = words[0]
    if program == "memvla":
        _memvla(words[1:])
    elif program == "make":
        for target in (word for word in words[1:] if "=" not in word):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), (
                f"no target {target} in the Makefile"
            )
    elif program == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), f"there is no {words[1]}"
    else:
        known = ("pip", "ray", "kubectl", "sbatch", "vla-eval", "curl", "export", "cd", ".", "python", "echo")
        assert program.rpartition("/")[2] in known, f"{program}: what is this?"
        if program == "kubectl" and "--" in words:
            validate(words[words.index("--") + 1 :])


def _memvla(words: list[str]) -> None:
    from harness.cli import app

    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        assert rest, "a verb is missing"
        assert rest[0] in command.commands, f"memvla has no verb {rest[0]}"
        command = command.commands[rest.pop(0)]
    if not rest or rest == ["--help"]:  # a verb that is spoken of
        return
    given = command.make_context(command.name, list(rest)).params
    listed: list[Any] = [value for value in given.values() if isinstance(value, (list, tuple))]
    named = [given["name"]] if given.get("name") else list(listed[0]) if listed else []
    if words[0] in CHECKS:
        CHECKS[words[0]](named)


def _run(words: list[str]) -> None:
    from harness.config import compose_run

    compose_run(words)


def _collect(words: list[str]) -> None:
    from harness.collect import compose_collect

    compose_collect(words)


def _train(words: list[str]) -> None:
    from policies.training.recipes import compose

    compose(words)


def _serve(words: list[str]) -> None:
    from harness.serving.settings import compose_serve

    compose_serve(words)


def _robot(words: list[str]) -> None:
    from harness.robot import compose_robot

    mine = [word for word in words if not word.startswith("station.")]  # of a station that is not ours
    compose_robot(["station=envs.real.simulated" if word.startswith("station=") else word for word in mine])


def _check(words: list[str]) -> None:
    from suites.protocol import load_suite

    if any(word.startswith("policy=") for word in words):
        _run(words if any(word.startswith("suite=") for word in words) else [*words, "suite=lab_general"])
    else:
        load_suite(words[0].removeprefix("suite="))


def _suites(words: list[str]) -> None:
    from suites.protocol import load_suite

    for word in words:
        load_suite(word)


def _setup(words: list[str]) -> None:
    from harness.setup import suite_called

    for word in words:
        if "=" not in word:
            suite_called(word)


def _table(words: list[str]) -> None:
    from suites.published import paper_table

    for word in words:
        paper_table(word)


CHECKS = {
    "run": _run, "collect": _collect, "train": _train, "serve": _serve, "robot": _robot, "check": _check,
    "setup": _setup, "suites": _suites, "table": _table,
}  # fmt: skip


def workflow_commands(path: Path) -> list[list[str]]:
    """The commands a GitHub Actions file runs."""
    jobs = yaml.safe_load(path.read_text())["jobs"]
    return [words for job in jobs.values() for step in job["steps"] for words in commands(step.get("run", ""))]
