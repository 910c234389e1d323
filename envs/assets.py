"""Files that a benchmark needs and no package index has: declared as data, looked for, named when they are missing.

An adapter declares them in its `Runtime`; `memvla setup` brings them (harness/assets.py), `memvla doctor` shows them,
and the adapter asks `require` for the folder. Standard library only: this runs in every Python environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

STAND_INS = "STANDINS.json"
"""Beside assets (or one folder above): says which of them are not the benchmark's own. A mapping with a list
`standins` of mappings with `path` and `what`."""


class AssetsMissing(RuntimeError):
    """A benchmark's files are not where they should be. The message names the folder, the first missing file, the
    command that brings them."""


@dataclass(frozen=True)
class Archive:
    """One ZIP archive at its official place, and what of it goes where; or one file as it is, if `url` names no ZIP.

    url: names one version for ever where the host has such names. needed: files, relative to `into`, without which it
    counts as missing. into: folder, below the assets' own, that is the archive's alone. keep: folder inside the archive
    whose contents are taken; `*` stands for any one name (`*/data`). sha256, size: of the archive; empty where they
    are not published, or where the host makes the archive anew each time (then the first download's are remembered).
    contents: `digest_of` the unpacked folder, for archives without a fixed checksum. most_bytes, most_files: what it
    may hold, unpacked.
    """

    url: str
    needed: tuple[str, ...]
    into: str = ""
    keep: str = ""
    sha256: str = ""
    size: int = 0
    contents: str = ""
    most_bytes: int = 2**30
    most_files: int = 20_000

    @property
    def packed(self) -> bool:
        """Whether it is an archive to unpack."""
        return self.url.endswith(".zip")


@dataclass(frozen=True)
class Assets:
    """Everything of one benchmark that lies in one folder.

    name: of that folder below MEMVLA_HOME/assets, and what `memvla setup NAME` is told; title: in words; archives: what
    fills the folder; variables: environment variables that name another folder, the first one passed on to workers;
    option: the word that names another folder to the adapter and to `memvla setup` (`assets`, `sources`); inner: a
    folder that may stand between the named folder and the files; within: other assets, and the folder among them where
    these lie as well: looked at while nobody named or filled another; optional: in words, the tasks that need it where
    the others run without it (empty: all need it); stand_ins: SHA-256 of files known not to be the benchmark's own ->
    what they are.
    """

    name: str
    title: str
    archives: tuple[Archive, ...]
    variables: tuple[str, ...]
    option: str = "assets"
    inner: str = ""
    within: tuple[Assets, str] | None = None
    optional: str = ""
    stand_ins: Mapping[str, str] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[str, ...]:
        """All files that must be there, relative to the folder."""
        return tuple(str(Path(archive.into) / name) for archive in self.archives for name in archive.needed)

    def only(self, *archives: Archive) -> Assets:
        """The same place with some of its archives, for tasks that need no more."""
        return replace(self, archives=archives)


def home() -> Path:
    """Where runtimes and downloaded assets live: MEMVLA_HOME, or ~/.memvla."""
    return Path(os.environ.get("MEMVLA_HOME") or Path.home() / ".memvla")


def own_folder(assets: Assets) -> Path:
    """Where `memvla setup` puts them."""
    return home() / "assets" / assets.name


def named_by(assets: Assets, folder: str = "") -> str:
    """What names the folder: the option, a variable, or `""` for our own place."""
    if folder:
        return f"{assets.option}={folder}"
    return next((name for name in assets.variables if os.environ.get(name)), "")


def place(assets: Assets, folder: str = "") -> Path:
    """The folder in which the files are looked for: `folder`, else what a variable names, else our own place (or that
    within other assets). It need not exist."""
    name = named_by(assets, folder)
    if assets.within and not name and not own_folder(assets).exists():
        others, inside = assets.within
        if (place(others) / inside).is_dir():
            return place(others) / inside
    chosen = Path(folder or os.environ.get(name, "") or own_folder(assets)).expanduser().resolve()
    inner = chosen / assets.inner
    return inner if assets.inner and inner.is_dir() else chosen


def missing(assets: Assets, folder: Path) -> list[str]:
    """The needed files that are not in `folder`."""
    return [name for name in assets.needed if not (folder / name).is_file()]


def require(assets: Assets, folder: str = "") -> Path:
    """The folder that holds the files, all of them. Raises AssetsMissing."""
    found = place(assets, folder)
    lacking = missing(assets, found)
    if lacking:
        raise AssetsMissing(f"{what_is_missing(assets, found, lacking)}; {cure(assets, folder)}")
    return found


def what_is_missing(assets: Assets, folder: Path, lacking: list[str]) -> str:
    """In words: which assets, where, how many files, the first."""
    count = f"{len(lacking)} of {len(assets.needed)} files are missing, the first is {lacking[0]}"
    return f"{assets.title}: not in {folder} ({count})"


def cure(assets: Assets, folder: str = "") -> str:
    """What brings the files, in words."""
    name, command = named_by(assets, folder), f"memvla setup {assets.name}"
    if name:
        return f"the folder is named by {name}: complete it, or leave that out and bring the files with: {command}"
    option = f"{command} {assets.option}=DIR"
    return f"bring them with: {command} (from a folder you have: {option}, or {assets.variables[0]}=DIR)"


def stand_ins(assets: Assets, folder: Path) -> dict[str, str]:
    """Files below `folder` that are not the benchmark's own -> what they are instead. A score obtained with them is not
    comparable with published ones."""
    known = digests(assets, folder).items() if assets.stand_ins else ()
    found = {name: assets.stand_ins[digest] for name, digest in known if digest in assets.stand_ins}
    for path, what in _listed(folder):
        parts = Path(path).parts
        tails = (str(Path(*parts[k:])) for k in range(len(parts)))
        inside = next((tail for tail in tails if (folder / tail).is_file()), None)
        if inside is not None:
            found[inside] = what
    return found


def _listed(folder: Path) -> Iterator[tuple[str, str]]:
    for file in (folder / STAND_INS, folder.parent / STAND_INS):
        if file.is_file():
            data = json.loads(file.read_text())
            yield from ((str(entry["path"]), str(entry.get("what", ""))) for entry in data.get("standins", ()))


def digests(assets: Assets, folder: Path) -> dict[str, str]:
    """SHA-256 of each needed file that is there, by name."""
    return {name: _sha256(folder / name) for name in assets.needed if (folder / name).is_file()}


def digest_of(folder: Path) -> str:
    """SHA-256 over a line `ID  NAME` for each file below `folder`, in the order of their names. The id is Git's own for
    such contents, so that the digest of a commit is known without its files (of `git ls-tree -r`)."""
    whole = hashlib.sha256()
    for name in sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{_git_id(folder / name)}  {name}\n".encode())
    return whole.hexdigest()


def _git_id(path: Path) -> str:
    with path.open("rb") as file:
        found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
