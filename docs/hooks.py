"""Pages made from the package itself when the site is built, so that they cannot go out of date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files
from rich.text import Text


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages of the reference."""
    for path, text in (
        ("reference/cli.md", commands()),
        ("reference/policies.md", policies()),
        ("reference/suites.md", suites()),
    ):
        files.append(File.generated(config, path, content=text))
    return files


def commands() -> str:
    """Every verb of `memvla` with its help and its options."""
    from harness.cli import app

    parts = ["# Command line\n", "Everything `memvla --help` says, verb by verb.\n"]
    for name, command in _leaves("memvla", typer.main.get_command(app)):
        parts.append(f"## {name}\n\n```text\n{Text.from_markup(command.help or '').plain.strip()}\n```\n")
        rows = [(_usage(one), getattr(one, "help", None) or "") for one in command.params if one.name != "help"]
        if rows:
            lines = [f"| `{usage}` | {Text.from_markup(said).plain} |" for usage, said in rows]
            parts.append("\n".join(["| | |", "|---|---|", *lines, ""]))
    return "\n".join(parts)


def _leaves(name: str, command: Any) -> list[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return [(name, command)]
    return [leaf for verb, one in inner.items() for leaf in _leaves(f"{name} {verb}", one)]


def _usage(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar or option.name.upper()).replace("|", "\\|")
    return " / ".join([*option.opts, *option.secondary_opts])


def policies() -> str:
    """The YAML of every policy: its options, their defaults, their meaning."""
    import policies

    parts = ["# Policies and their options\n", "On the command line each is `policy.NAME=VALUE`.\n"]
    files = sorted(Path(policies.__file__).parent.glob("*.yaml"))
    return "\n".join([*parts, *(f"## {path.stem}\n\n```yaml\n{path.read_text().strip()}\n```\n" for path in files)])


def suites() -> str:
    """Every suite with what its protocol says."""
    from suites.protocol import load_suite, suite_names

    head = [
        "# Suites\n",
        "| suite | title | tasks | trials | steps | success | memory scope | source |",
        "|---" * 8 + "|",
    ]
    lines = []
    for suite in map(load_suite, suite_names()):
        steps = sorted({suite.max_steps(task.name) for task in suite.tasks})
        span = str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"
        rules = suite.protocol
        cells = (len(suite.tasks), rules.trials, span, rules.success, rules.memory_scope, suite.source)
        lines.append(f"| `{suite.name}` | {suite.title} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*head, *lines, ""])
