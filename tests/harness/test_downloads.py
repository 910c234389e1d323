"""Downloads against a real server on this machine: resumed, bounded, checked, never half in place."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from harness import downloads
from harness.downloads import DownloadError, Unreachable, Wanted, download
from tests.harness.site import CONTENT, SHA256, Site, site

__all__ = ["site"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_its_progress_is_told(site: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = download(Wanted(site.url, size=len(CONTENT), sha256=SHA256), tmp_path / "f", lambda *x: told.append(x))
    assert found == SHA256
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert names(tmp_path) == ["f"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("sized", [True, False])
def test_a_broken_connection_is_taken_up_where_it_broke(site: Site, tmp_path: Path, sized: bool) -> None:
    site.sized, site.cut = sized, [200_000, 300_000]
    download(Wanted(site.url), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=200000-", "bytes=500000-"]


def test_a_stopped_download_is_continued_by_the_next_command(site: Site, tmp_path: Path) -> None:
    site.cut = [400_000] + [0] * 20
    with pytest.raises(Unreachable, match=r"broke off, 300000 bytes short .*MiB are kept"):
        download(Wanted(site.url), tmp_path / "f")
    assert names(tmp_path) == ["f.part", "f.part.json"]
    site.cut, site.asked = [], []
    assert download(Wanted(site.url), tmp_path / "f") == SHA256
    assert site.asked == ["bytes=400000-"]
    assert names(tmp_path) == ["f"]


def test_a_file_that_changed_meanwhile_is_begun_anew(site: Site, tmp_path: Path) -> None:
    site.cut = [400_000] + [0] * 20
    with pytest.raises(Unreachable):
        download(Wanted(site.url), tmp_path / "f")
    site.cut, site.content, site.etag = [], CONTENT[::-1], '"v2"'
    assert download(Wanted(site.url), tmp_path / "f") == hashlib.sha256(CONTENT[::-1]).hexdigest()


def test_a_part_that_nothing_ties_to_the_file_is_not_continued(site: Site, tmp_path: Path) -> None:
    """No mark of the server's, no checksum of ours: it could be of another version."""
    site.etag, site.cut = "", [400_000] + [0] * 20
    with pytest.raises(Unreachable):
        download(Wanted(site.url), tmp_path / "f")
    site.cut, site.asked = [], []
    download(Wanted(site.url), tmp_path / "f")
    assert site.asked == [""]


def test_a_server_that_knows_no_ranges_sends_the_file_anew(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cut = False, [400_000]
    download(Wanted(site.url, sha256=SHA256), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=400000-"]


def test_a_part_longer_than_the_file_is_begun_anew(site: Site, tmp_path: Path) -> None:
    site.cut = [650_000] + [0] * 20
    with pytest.raises(Unreachable):
        download(Wanted(site.url), tmp_path / "f")
    site.cut, site.content = [], CONTENT[:1000]  # under the same mark
    download(Wanted(site.url), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT[:1000]


def test_another_range_than_was_asked_for_is_not_appended(site: Site, tmp_path: Path) -> None:
    site.cut, site.shift = [400_000], 10
    download(Wanted(site.url), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=400000-", ""]


def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"its SHA-256 is {SHA256}, {'0' * 64} was expected"):
        download(Wanted(site.url, sha256="0" * 64), tmp_path / "f")
    assert names(tmp_path) == []


@pytest.mark.parametrize("sized", [True, False])
def test_a_file_of_another_size_is_refused(site: Site, tmp_path: Path, sized: bool) -> None:
    site.sized = sized
    with pytest.raises(DownloadError, match="700000 bytes, 700001 were expected"):
        download(Wanted(site.url, size=len(CONTENT) + 1), tmp_path / "f")
    with pytest.raises(DownloadError, match=r"1000|larger than 1000 bytes"):
        download(Wanted(site.url, most=1000), tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_no_room_on_the_disk_is_said_before_it_is_full(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "SPARE", 2**62)
    with pytest.raises(DownloadError, match=r"GiB free, .* are needed; make room.*MEMVLA_HOME"):
        download(Wanted(site.url), tmp_path / "f")


def test_what_cannot_be_reached_is_said_at_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        download(Wanted("http://127.0.0.1:9/file"), tmp_path / "f")
    with pytest.raises(Unreachable, match="cannot bring"):
        download(Wanted("https://no-such-host.invalid/file"), tmp_path / "f")
    site.status = 404
    with pytest.raises(Unreachable, match="404 Not Found"):
        download(Wanted(site.url), tmp_path / "f")
    assert len(site.asked) == 1


def test_redirects_are_followed_but_never_out_of_encryption(site: Site, tmp_path: Path) -> None:
    site.to = site.url.replace("/file", "/real")
    assert download(Wanted(site.url), tmp_path / "f") == SHA256
    asked = downloads.urllib.request.Request("https://a.example/f")
    with pytest.raises(DownloadError, match="not encrypted"):
        downloads._SafeRedirects().redirect_request(asked, None, 302, "", {}, "http://a.example/f")
