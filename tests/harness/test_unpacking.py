"""Archives that mean harm, or are damaged, are refused; honest ones are unpacked as they are."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from harness.downloads import DownloadError
from harness.unpacking import UnpackError, unpack


def pack(folder: Path, **files: str) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def take(archive: Path, to: Path, keep: str = "", most_bytes: int = 10**6, most_files: int = 100) -> dict[str, str]:
    to.mkdir()
    unpack(archive, to, keep=keep, most_bytes=most_bytes, most_files=most_files)
    return {str(p.relative_to(to)): p.read_text() for p in sorted(to.rglob("*")) if p.is_file()}


def test_what_is_kept_is_unpacked_below_the_folder_and_nothing_else(tmp_path: Path) -> None:
    archive = pack(tmp_path, top__data__a="1", top__data__deep__b="2", top__code="3", data__c="4")
    assert take(archive, tmp_path / "x", "*/data") == {"a": "1", "deep/b": "2"}
    assert take(archive, tmp_path / "y", "top") == {"data/a": "1", "data/deep/b": "2", "code": "3"}
    assert len(take(archive, tmp_path / "z")) == 4
    with pytest.raises(UnpackError, match=r"2 folders that '\*' fits"):
        take(archive, tmp_path / "u", "*")
    with pytest.raises(UnpackError, match="no file below 'elsewhere'"):
        take(archive, tmp_path / "v", "elsewhere")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a\\..\\x", "a\0b"])
def test_a_member_that_would_leave_the_folder_refuses_the_archive(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("good", "1")
        member = zipfile.ZipInfo("x")
        member.filename = member.orig_filename = name
        archive.writestr(member, "2")
    with pytest.raises(UnpackError, match="would leave its folder"):
        take(path, tmp_path / "x")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.zip", "x"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_special_file_refuses_the_archive(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("data/link")
        member.external_attr = (kind | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
        archive.writestr("other/file", "1")
    with pytest.raises(UnpackError, match="a link or a special file"):
        take(path, tmp_path / "x", "data")
    assert take(path, tmp_path / "y", "other") == {"file": "1"}


def test_an_archive_that_swells_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    archive = pack(tmp_path, bomb="0" * 5_000_000)
    assert archive.stat().st_size < 10_000
    with pytest.raises(UnpackError, match="5000000 bytes, at most 1000000"):
        take(archive, tmp_path / "x")
    many = pack(tmp_path, **{f"f{k}": "" for k in range(101)})
    with pytest.raises(UnpackError, match="101 files, at most 100"):
        take(many, tmp_path / "y")
    assert list((tmp_path / "x").iterdir()) == list((tmp_path / "y").iterdir()) == []


def test_a_member_that_is_larger_than_the_table_says_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path, bomb="0" * 5_000_000)
    data = bytearray(archive.read_bytes())
    true, lie = (5_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    assert data.count(true) == 2
    archive.write_bytes(data.replace(true, lie))
    with pytest.raises(UnpackError, match="damaged"):
        take(archive, tmp_path / "x")
    assert sum(path.stat().st_size for path in (tmp_path / "x").iterdir()) <= 1000


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_two_members_in_one_place_refuse_the_archive(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, pytest.MonkeyPatch.context():
        for name in names:
            member = zipfile.ZipInfo(name)
            archive.NameToInfo.pop(name, None)
            archive.writestr(member, name)
    with pytest.raises(UnpackError, match="twice, or as a file and a folder"):
        take(path, tmp_path / "x")


def test_a_damaged_or_encrypted_archive_is_an_error(tmp_path: Path) -> None:
    archive = pack(tmp_path, a="1" * 1000)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnpackError, match="damaged"):
        take(archive, tmp_path / "x")
    spoilt = bytearray(whole)
    spoilt[whole.index(b"PK\x01\x02") + 16] ^= 0xFF  # the checksum
    archive.write_bytes(spoilt)
    with pytest.raises(UnpackError, match="damaged"):
        take(archive, tmp_path / "y")
    locked = bytearray(whole)
    locked[whole.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(locked)
    with pytest.raises(UnpackError, match="encrypted"):
        take(archive, tmp_path / "z")


def test_no_room_on_the_disk_is_said_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.downloads.SPARE", 2**62)
    with pytest.raises(DownloadError, match="GiB free"):
        take(pack(tmp_path, a="1"), tmp_path / "x")
