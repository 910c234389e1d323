"""Brings the files that benchmarks need from their official places: downloaded, checked, unpacked, put in place."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from envs.assets import (
    Archive,
    Assets,
    cure,
    digest_of,
    digests,
    missing,
    named_by,
    own_folder,
    place,
    require,
    stand_ins,
    what_is_missing,
)
from harness.downloads import Progress, Unreachable, Wanted, download, sha256_of
from harness.unpacking import unpack
from suites.protocol import Suite

Say = Callable[[str], None]
Show = Callable[[str], Progress]
"""Begins the display of one long piece of work, named in words; what it returns is told the progress."""


class AssetError(RuntimeError):
    """Assets could not be brought or put in place. The message says what is wrong and the cure."""


def bring(assets: Assets, say: Say, show: Show, chosen: str = "") -> None:
    """See to it that the assets are there; does nothing where they are complete.

    chosen: the user's own folder, which is then linked to from our place, or the archive itself as a file (where there
    is only one). Raises AssetError, DownloadError or UnpackError; what was there before is then as it was.
    """
    if chosen and Path(chosen).expanduser().is_dir():
        _link(assets, Path(chosen).expanduser().resolve(), say)
        return
    folder = place(assets)
    lacking = missing(assets, folder)
    if not lacking:
        say(f"{assets.title}: complete in {folder}{said_of_stand_ins(assets, folder)}")
        return
    if named_by(assets):
        raise AssetError(f"{what_is_missing(assets, folder, lacking)}; {cure(assets)}")
    if chosen and len(assets.archives) > 1:
        raise AssetError(f"{assets.option}={chosen} is no folder; give the one that holds the files")
    with _alone(assets):
        for archive in assets.archives:
            if any(not (folder / archive.into / name).is_file() for name in archive.needed):
                _bring_one(assets, archive, say, show, chosen)


def _bring_one(assets: Assets, archive: Archive, say: Say, show: Show, chosen: str) -> None:
    own = own_folder(assets)
    if own.is_symlink():  # to a folder that was named once and is not complete any more
        raise AssetError(
            f"{own} leads to {own.resolve()}, which is not complete: complete it, or remove the link {own}"
        )
    known = _Receipts(assets)
    if chosen:
        file = Path(chosen).expanduser()
        if not file.is_file():
            raise AssetError(f"{assets.option}={chosen}: there is no such file or folder")
        size, sha256 = file.stat().st_size, sha256_of(file)
        if archive.sha256 and sha256 != archive.sha256:
            raise AssetError(f"{file} has SHA-256 {sha256}; that of {archive.url} is {archive.sha256}")
    else:
        file = own.parent / "downloads" / f"{assets.name}-{Path(archive.url).name}"
        say(f"{assets.title}: from {archive.url}")
        wanted = Wanted(archive.url, size=archive.size, most=archive.most_bytes, sha256=archive.sha256)
        try:
            sha256 = download(wanted, file, show(Path(archive.url).name))
        except Unreachable as error:
            raise Unreachable(_elsewhere(assets, archive, str(error))) from error
        size = file.stat().st_size
    known.check(archive, sha256)
    contents = _unpack_into_place(archive, file, own / archive.into, say, show)
    known.note(archive, sha256, size, contents)
    if not chosen:
        file.unlink()
    fixed = archive.sha256 or archive.contents
    how = "its checksum is the known one" if fixed else f"its SHA-256 is remembered as {sha256[:16]}… (first download)"
    say(f"{assets.title}: in {own / archive.into}; {how}{said_of_stand_ins(assets, own)}")


def _unpack_into_place(archive: Archive, file: Path, target: Path, say: Say, show: Show) -> str:
    """Unpack beside the target, check, then move into place at once. Returns the digest of what was unpacked, if the
    archive has one to compare with."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        if archive.packed:
            limits = {"most_bytes": archive.most_bytes, "most_files": archive.most_files}
            unpack(file, staged, keep=archive.keep, progress=show(f"unpacking {target.name}"), **limits)
        else:
            shutil.copyfile(file, staged / archive.needed[0])
        lacking = [name for name in archive.needed if not (staged / name).is_file()]
        if lacking:
            raise AssetError(f"{archive.url} does not hold {lacking[0]}: it is another version than was expected")
        contents = digest_of(staged) if archive.contents else ""
        if contents != archive.contents:
            raise AssetError(f"{archive.url}: its contents have digest {contents}, {archive.contents} was expected")
        staged.chmod(0o755)
        _publish(staged, target, say)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return contents


def _publish(staged: Path, target: Path, say: Say) -> None:
    """Move the folder into place; whatever stands there (it is not complete) is moved aside, never deleted."""
    if target.exists() and not any(target.iterdir()):
        target.rmdir()
    if target.exists():
        aside = next(
            path for k in range(1, 10_000) if not (path := target.with_name(f"{target.name}.before-{k}")).exists()
        )
        target.rename(aside)
        say(f"{target} was not complete; it is kept as {aside}")
    staged.rename(target)


def _link(assets: Assets, chosen: Path, say: Say) -> None:
    """Make our own place lead to the user's folder."""
    found = chosen / assets.inner if assets.inner and (chosen / assets.inner).is_dir() else chosen
    lacking = missing(assets, found)
    if lacking:
        raise AssetError(
            f"{what_is_missing(assets, found, lacking)}; give the folder that holds them, or leave {assets.option}=DIR "
            f"out and have them brought from {assets.archives[0].url}"
        )
    own = own_folder(assets)
    if own.exists() and not own.is_symlink():
        raise AssetError(
            f"{own} is there already and no link: remove it, or name your folder with {assets.variables[0]}"
        )
    own.parent.mkdir(parents=True, exist_ok=True)
    fresh = own.with_name(f".{own.name}-{os.getpid()}")
    fresh.symlink_to(chosen)
    os.replace(fresh, own)
    say(f"{assets.title}: {own} leads to {chosen}{said_of_stand_ins(assets, found)}")
    by = named_by(assets)
    if by:
        say(f"the variable {by} is set and wins over it: {os.environ[by]}")


def said_of_stand_ins(assets: Assets, folder: Path) -> str:
    """What must be said beside such assets: that some are not the benchmark's own; else nothing."""
    found = stand_ins(assets, folder)
    return f"; {len(found)} of its files are STAND-INS: scores with them are marked" if found else ""


def _elsewhere(assets: Assets, archive: Archive, trouble: str) -> str:
    """An error with what to do where the official place is out of reach."""
    command = f"memvla setup {assets.name} {assets.option}="
    file = f", or the archive, brought here by other means: {command}FILE.zip" if len(assets.archives) == 1 else ""
    only = f" Needed by {assets.optional} only." if assets.optional else ""
    return (
        f"{trouble}. That is the official place of {assets.title}.{only} If you have the files, give their folder: "
        f"{command}DIR (or {assets.variables[0]}=DIR){file}"
    )


class _Receipts:
    """What was downloaded, from where and when, in `NAME.json` beside the assets: so that a file without a published
    checksum is at least the same one each time."""

    def __init__(self, assets: Assets) -> None:
        self._path = own_folder(assets).with_name(f"{assets.name}.json")

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise AssetError(f"{self._path} is damaged ({error}); remove it") from error
        return dict(found)

    def check(self, archive: Archive, sha256: str) -> None:
        """Raise AssetError where the same address gave another file before, and nothing else says which is right."""
        before = self._read().get(archive.url)
        if before and not archive.sha256 and not archive.contents and before["sha256"] != sha256:
            raise AssetError(
                f"{archive.url} gives another file than on {before['date']}: its SHA-256 is {sha256}, was "
                f"{before['sha256']}. If the new one is to be trusted, remove {self._path} and repeat"
            )

    def note(self, archive: Archive, sha256: str, size: int, contents: str) -> None:
        date = datetime.now(UTC).isoformat(timespec="seconds")
        entry = {"sha256": sha256, "size": size, "contents": contents, "date": date}
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({**self._read(), archive.url: entry}, indent=1))
        os.replace(fresh, self._path)


@contextmanager
def _alone(assets: Assets) -> Iterator[None]:
    """While this lasts, no other process brings the same assets. Raises AssetError where one does."""
    path = own_folder(assets).with_name(f".{assets.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AssetError(f"another memvla setup is bringing {assets.title}; wait for it") from error
        yield


def state(assets: Assets) -> tuple[str, str, bool]:
    """For `memvla doctor`: (state in a few words, folder and what names it or the cure, whether they are there)."""
    folder = place(assets)
    by = named_by(assets)
    where = f"{folder} ({by})" if by else str(folder)
    lacking = missing(assets, folder)
    if lacking:
        some = "incomplete" if len(lacking) < len(assets.needed) else "missing"
        return f"{some} ({lacking[0]})", cure(assets), False
    if stand_ins(assets, folder):
        return "there, with STAND-INS", where, True
    return "there", where, True


def require_assets(suite: Suite) -> None:
    """Raise AssetsMissing where files that every task of the suite needs are not there."""
    for assets in suite.runtime.assets:
        if not assets.optional:
            require(assets, _named_in(suite, assets))


def record(suite: Suite) -> dict[str, dict[str, Any]]:
    """What the manifest of a run keeps of the suite's assets, by name: the needed files that are there -> SHA-256, and
    stand-ins among all files -> what they are. Assets of which nothing is there are left out."""
    found = {}
    for assets in suite.runtime.assets:
        folder = place(assets, _named_in(suite, assets))
        files = digests(assets, folder)
        if files:
            found[assets.name] = {"files": files, "stand_ins": stand_ins(assets, folder)}
    return found


def _named_in(suite: Suite, assets: Assets) -> str:
    return str(suite.env.get(assets.option, ""))
