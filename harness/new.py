"""`memvla new`: the beginnings of a benchmark, a policy or a suite of one's own, which pass the gates as written."""

from __future__ import annotations

import importlib.util
import keyword
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

SKELETONS = Path(__file__).parent / "skeletons"

Name = Annotated[str, typer.Argument(help="What it is called: lower-case letters, digits and _.", show_default=False)]
Into = Annotated[Path, typer.Option("--into", help="The folder of your own policies and benchmarks.")]


def register(app: typer.Typer, out: Console) -> None:
    """Add the verb `new` with its three kinds."""
    group = typer.Typer(
        help="Write the beginnings of a benchmark (env), a policy or a suite of your own.", no_args_is_help=True
    )
    app.add_typer(group, name="new")

    @group.command()
    def env(name: Name, into: Into = Path()) -> None:
        """A benchmark in one file, with a scripted expert, and its suite."""
        files = {f"{name}_env.py": "env.py.j2", f"suite_files/{name}.yaml": "env.yaml.j2"}
        _tell(write(name, files, into), f"memvla check suite={name}", into, out)

    @group.command()
    def policy(name: Name, into: Into = Path()) -> None:
        """A policy in one file that remembers within each episode, and its options."""
        files = {f"{name}_policy.py": "policy.py.j2", f"policy_files/{name}.yaml": "policy.yaml.j2"}
        _tell(write(name, files, into), f"memvla check policy={name}", into, out)

    @group.command()
    def suite(
        name: Name,
        like: Annotated[str, typer.Option("--like", help="The suite whose tasks and protocol it begins with.")],
        into: Into = Path(),
    ) -> None:
        """A suite over a benchmark that exists: a copy of another one's tasks and protocol, to be changed."""
        _tell([write_suite(name, like, into)], f"memvla check suite={name}", into, out)


def write(name: str, files: dict[str, str], into: Path) -> list[Path]:
    """Write skeletons (target -> template) for this name. Raises ConfigError, with nothing written."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    _check_name(name)
    pages = Environment(loader=FileSystemLoader(SKELETONS), keep_trailing_newline=True, undefined=StrictUndefined)
    title = "".join(part.capitalize() for part in name.split("_"))
    for target in files:
        _check_free(name, into / target)
    return [
        _put(into / target, pages.get_template(template).render(name=name, title=title))
        for target, template in files.items()
    ]


def write_suite(name: str, like: str, into: Path) -> Path:
    """A suite that begins as a copy of another. Raises ConfigError, or SuiteError for an unknown `like`."""
    from suites.protocol import load_suite

    _check_name(name)
    path = into / f"suite_files/{name}.yaml"
    _check_free(name, path)
    data = asdict(load_suite(like))
    data |= {"name": name, "version": 1, "title": f"{data['title']} (a copy; say what is different)"}
    data["tasks"] = [{key: value for key, value in task.items() if value} for task in data["tasks"]]
    data["protocol"] = {key: value for key, value in data["protocol"].items() if value is not None}
    data = {key: value for key, value in data.items() if value or key in ("env", "version")}
    head = f"# Began as a copy of {like}. Raise the version whenever a number may change.\n"
    return _put(path, head + yaml.safe_dump(data, sort_keys=False, width=110, default_flow_style=None))


def _check_name(name: str) -> None:
    from harness.config import ConfigError

    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower() or name.startswith("_"):
        raise ConfigError(f"{name!r} cannot name a Python module: use lower-case letters, digits and _, a letter first")


def _check_free(name: str, path: Path) -> None:
    from harness.config import ConfigError, policy_files
    from suites.protocol import suite_names

    if path.exists():
        raise ConfigError(f"{path} exists already, and nothing is overwritten; choose another name, or --into FOLDER")
    kind = path.parent.name
    if (kind == "suite_files" and name in suite_names()) or (kind == "policy_files" and name in policy_files()):
        raise ConfigError(f"there is a {kind.removesuffix('_files')} called {name!r} already; choose another name")
    if path.suffix == ".py" and importlib.util.find_spec(path.stem) is not None:
        raise ConfigError(f"a Python module {path.stem!r} exists already; choose another name")


def _put(path: Path, text: str) -> Path:
    from harness.config import ConfigError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; choose another folder with --into"
        ) from None
    return path


def _tell(written: list[Path], check: str, into: Path, out: Console) -> None:
    folder = into.resolve()
    where = f"PYTHONPATH={folder} MEMVLA_SUITES={folder}/suite_files MEMVLA_POLICIES={folder}/policy_files"
    lines = [f"wrote {path}" for path in written]
    lines += ["", "Say where it is, and check it:", "", f"  export {where}", f"  {check}"]
    out.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
