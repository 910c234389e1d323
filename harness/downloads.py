"""One file from the web, whole and checked: resumed where it was cut, bounded in size, never half in place."""

from __future__ import annotations

import hashlib
import http
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 18
TIMEOUT_S = 60.0
"""Seconds without a single byte after which a connection counts as lost."""
TRIES = 5
"""Connections in a row that may bring nothing new before the download is given up."""
PAUSE_S = 0.2
"""Seconds before the next connection; twice as long after each that brought nothing."""
SPARE = 64 * 2**20
"""Bytes of the disk that are left alone."""

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the size of the file (0: the server does not say)."""


class DownloadError(RuntimeError):
    """The file could not be brought. The message names the address, what was found and what was expected."""


class Unreachable(DownloadError):
    """Nothing, or not everything, came from the server: the network's fault or the server's, not the file's."""


@dataclass(frozen=True)
class Wanted:
    """A file to download. size: in bytes, exactly (0: unknown, then `most` bounds it); sha256: `""` if unknown."""

    url: str
    size: int = 0
    most: int = 2**30
    sha256: str = ""


@dataclass
class _Part:
    """The part that is there, and what the server said of the whole: enough to tell whether it is still the same."""

    path: Path
    validator: str = ""
    total: int = 0

    @property
    def note(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def have(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def recall(self, wanted: Wanted) -> None:
        """Take up an earlier part, if it can be continued: of the same address, and with a way to tell that what
        follows belongs to it (the server's own mark, or our checksum)."""
        try:
            known = json.loads(self.note.read_text())
        except (OSError, ValueError):
            known = {}
        if known.get("url") == wanted.url and (known.get("validator") or wanted.sha256):
            self.validator, self.total = str(known["validator"]), int(known["total"])
        else:
            self.drop()

    def begin(self, wanted: Wanted, validator: str, total: int) -> None:
        """Start from nothing."""
        self.validator, self.total = validator, total
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps({"url": wanted.url, "validator": validator, "total": total}))

    def drop(self) -> None:
        self.validator, self.total = "", 0
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(wanted: Wanted, to: Path, progress: Progress = lambda done, total: None) -> str:
    """Bring the file to `to` and return its SHA-256. What an earlier call brought before it was cut is continued.

    The part is kept beside `to` (NAME.part) until it is whole and right; then it is moved into place. Raises
    Unreachable where the server cannot be reached or breaks off again and again, and DownloadError for an answer that
    is not the file: too large, of another size, with another checksum (its part is deleted), or no room for it.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = _Part(to.with_name(to.name + ".part"))
    part.recall(wanted)
    best, fruitless = part.have, 0
    while True:
        try:
            _continue(wanted, part, progress)
        except (OSError, http.client.HTTPException) as error:
            trouble = _refused(wanted, error) or error
            if isinstance(trouble, DownloadError):
                raise trouble from error
            if getattr(error, "code", 0) == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.drop()  # it is not a part of what lies there now
            best, fruitless = max(best, part.have), 0 if part.have > best else fruitless + 1
            if fruitless >= TRIES or not best:
                raise Unreachable(f"cannot bring {wanted.url}: {_words(error)}{_kept(part)}") from error
            time.sleep(PAUSE_S * 2**fruitless)
        else:
            break
    found = sha256_of(part.path)
    if wanted.sha256 and found != wanted.sha256:
        part.drop()
        raise DownloadError(
            f"{wanted.url} is not the file it should be: its SHA-256 is {found}, {wanted.sha256} was expected. It was "
            "deleted; repeat the command, and if that does not help, the file was replaced at its place"
        )
    os.replace(part.path, to)
    part.note.unlink(missing_ok=True)
    return found


def _continue(wanted: Wanted, part: _Part, progress: Progress) -> None:
    """One connection: read on from where the part ends. Returns once the file is whole."""
    if part.have and part.have == (part.total or wanted.size):
        return
    headers = {"User-Agent": "memvla-bench", "Accept-Encoding": "identity"}
    if part.have:
        headers["Range"] = f"bytes={part.have}-"
        if part.validator:
            headers["If-Range"] = part.validator
    request = urllib.request.Request(wanted.url, headers=headers)
    with _opener().open(request, timeout=TIMEOUT_S) as answer:
        if not _carries_on(answer, part):
            part.begin(wanted, _validator(answer), _length(answer))
        total = part.total or wanted.size
        _check_size(wanted, total, part)
        with part.path.open("ab") as file:
            _copy(wanted, answer, file, total, progress)
    if part.have < part.total:
        raise http.client.IncompleteRead(b"", part.total - part.have)
    _check_size(wanted, part.have, part)


def _carries_on(answer: Any, part: _Part) -> bool:
    """Whether the answer begins where the part ends and belongs to the same file."""
    if answer.status != http.client.PARTIAL_CONTENT:
        return False
    said = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if said is None or int(said[1]) != part.have or (part.total and said[2] not in ("*", str(part.total))):
        part.drop()
        raise http.client.HTTPException("the server answered with another part of the file than was asked for")
    return True


def _copy(wanted: Wanted, answer: Any, file: IO[bytes], total: int, progress: Progress) -> None:
    done = file.tell()
    most = total or wanted.most
    progress(done, total)
    while block := answer.read1(BLOCK):  # what has come, so that nothing of it is lost when the line breaks
        done += len(block)
        if done > most:
            raise DownloadError(f"{wanted.url} is larger than {most} bytes, which is more than was expected of it")
        file.write(block)
        progress(done, total)


def _check_size(wanted: Wanted, found: int, part: _Part) -> None:
    """Raise DownloadError for a size that is not the file's, and where the disk has no room for the rest."""
    if wanted.size and found and found != wanted.size:
        part.drop()
        raise DownloadError(f"{wanted.url} has {found} bytes, {wanted.size} were expected")
    if found > wanted.most and not wanted.size:
        part.drop()
        raise DownloadError(f"{wanted.url} has {found} bytes, at most {wanted.most} were expected")
    need_room(part.path.parent, found - part.have)


def need_room(folder: Path, size: int) -> None:
    """Raise DownloadError where the disk of `folder` has no room for `size` more bytes."""
    free = shutil.disk_usage(folder).free
    if size + SPARE > free:
        raise DownloadError(
            f"the disk of {folder} has {free / 2**30:.1f} GiB free, {size / 2**30:.1f} GiB are needed; make room, or "
            "choose another place with MEMVLA_HOME=FOLDER"
        )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects as usual, but never from an encrypted address to one that is not."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and urllib.parse.urlsplit(newurl).scheme != "https":
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not encrypted: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SafeRedirects())


def _validator(answer: Any) -> str:
    """What tells this version of the file from another, fit for If-Range: a strong ETag, else the date."""
    tag = str(answer.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(answer.headers.get("Last-Modified", ""))


def _length(answer: Any) -> int:
    text = str(answer.headers.get("Content-Length", ""))
    return int(text) if text.isdecimal() else 0


def _refused(wanted: Wanted, error: BaseException) -> DownloadError | None:
    """The error as one that another try would not mend, or None."""
    reason = getattr(error, "reason", None)
    if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in (408, 416, 429):
        return Unreachable(f"cannot bring {wanted.url}: the server answers {error.code} {error.reason}")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Unreachable(f"cannot bring {wanted.url}: its certificate is not valid ({reason.verify_message})")
    return None


def _words(error: BaseException) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection broke off, {error.expected} bytes short"
    if isinstance(error, TimeoutError):
        return f"the server fell silent for {TIMEOUT_S:.0f} s"
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _kept(part: _Part) -> str:
    return f" ({part.have / 2**20:.1f} MiB are kept and continued next time)" if part.have else ""


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
