"""A ZIP archive from elsewhere, unpacked so that it can do no harm: nothing outside its folder, no links, bounded."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from harness.downloads import need_room

BLOCK = 1 << 18
ENCRYPTED = 0x1


class UnpackError(RuntimeError):
    """The archive is damaged, or holds what it must not. The message names the archive and the member."""


def unpack(
    archive: Path,
    to: Path,
    *,
    keep: str = "",
    most_bytes: int,
    most_files: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Unpack into the empty folder `to`; returns the number of files.

    keep: the folder inside the archive whose contents are taken, `*` for any one name (`*/data`); the rest is left out.
    progress: called with the files done and their number. Raises UnpackError for a member that would leave `to`, a
    link or special file, an encrypted or damaged member, two members of one name, more than `most_files` files or
    `most_bytes` bytes, and where nothing is kept; DownloadError where the disk has no room.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            members = dict(_members(archive, source, keep))
            if not members:
                raise UnpackError(f"{archive.name} holds no file below {keep or 'its top'!r}")
            if len(members) > most_files:
                raise UnpackError(f"{archive.name} holds {len(members)} files, at most {most_files} were expected")
            size = sum(member.file_size for member in members.values())
            if size > most_bytes:
                raise UnpackError(f"{archive.name} unpacks to {size} bytes, at most {most_bytes} were expected")
            need_room(to, size)
            for count, (name, member) in enumerate(members.items(), start=1):
                _write(source, member, to / name)
                progress(count, len(members))
            return len(members)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UnpackError(f"{archive.name} is damaged: {error}") from error


def _members(archive: Path, source: zipfile.ZipFile, keep: str) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    """The files to keep by their place below the target, each checked; folders are made as they are needed."""
    wanted = PurePosixPath(keep).parts
    tops: set[tuple[str, ...]] = set()
    names: set[str] = set()
    folders: set[str] = set()
    for member in source.infolist():
        parts = _safe_parts(archive, member)
        top, rest = parts[: len(wanted)], parts[len(wanted) :]
        if member.is_dir() or not rest or not all(w in ("*", t) for w, t in zip(wanted, top, strict=True)):
            continue
        _check_plain(archive, member)
        tops.add(top)
        name = str(PurePosixPath(*rest))
        above = {str(parent) for parent in PurePosixPath(name).parents}
        if name in names or name in folders or above & names:
            raise UnpackError(f"{archive.name} holds {member.filename!r} twice, or as a file and a folder")
        if len(tops) > 1:
            raise UnpackError(f"{archive.name} holds {len(tops)} folders that {keep!r} fits, expected one")
        names.add(name)
        folders |= above
        yield name, member


def _safe_parts(archive: Path, member: zipfile.ZipInfo) -> tuple[str, ...]:
    """The member's path in parts. Raises UnpackError for one that leads out of the archive's folder."""
    name = member.orig_filename  # `filename` ends at a NUL and has its backslashes turned on some systems
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or any(sign in name for sign in ("\\", "\0")):
        raise UnpackError(f"{archive.name} holds {name!r}, which would leave its folder: not unpacked")
    return parts


def _check_plain(archive: Path, member: zipfile.ZipInfo) -> None:
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise UnpackError(f"{archive.name} holds {member.filename!r}, a link or a special file: not unpacked")
    if member.flag_bits & ENCRYPTED:
        raise UnpackError(f"{archive.name} holds {member.filename!r}, which is encrypted: not unpacked")


def _write(source: zipfile.ZipFile, member: zipfile.ZipInfo, to: Path) -> None:
    """Write one file, never more of it than the archive's table says. zipfile checks its checksum at the end."""
    to.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with source.open(member) as content, to.open("xb") as file:
        while block := content.read(BLOCK):
            written += len(block)
            if written > member.file_size:
                raise UnpackError(f"{member.filename!r} is larger than its archive says")
            file.write(block)
    if written != member.file_size:
        raise UnpackError(f"{member.filename!r} has {written} bytes, its archive says {member.file_size}")
