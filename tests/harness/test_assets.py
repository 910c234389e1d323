"""`memvla setup` and assets: from a server on this machine into place, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from envs.assets import Archive, Assets, AssetsMissing, digest_of, require
from harness import assets as bringing
from harness import setup as setting_up
from harness.assets import AssetError, bring, record, require_assets, state
from harness.downloads import DownloadError, Unreachable
from harness.unpacking import UnpackError
from suites.protocol import Suite, SuiteError, load_suite
from tests.harness.site import Site, site

__all__ = ["site"]


def packed(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return buffer.getvalue()


class Said(list[str]):
    def __call__(self, line: str) -> None:
        self.append(line)

    def show(self, name: str) -> Any:
        self.append(f"show {name}")
        return lambda done, total: None


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def made(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assets:
    """Assets of one archive at the site, unknown there: no checksum."""
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MADE_ASSETS", raising=False)
    site.content = packed(top__data__a="1", top__data__b="2", top__code="3")
    archive = Archive(f"{site.url}.zip", needed=("a", "b"), keep="*/data")
    return Assets("made", "the made-up files", (archive,), ("MADE_ASSETS",))


def with_archive(made: Assets, **changes: Any) -> Assets:
    return replace(made, archives=(replace(made.archives[0], **changes),))


def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "assets" / "made"


def test_files_come_whole_once_and_nothing_else_is_left(made: Assets, site: Site, said: Said, tmp_path: Path) -> None:
    bring(made, said, said.show)
    assert digest_of(folder(tmp_path)) == digest_of(require(made))
    assert sorted(p.name for p in folder(tmp_path).iterdir()) == ["a", "b"]
    left = sorted(str(p.relative_to(tmp_path / "home")) for p in (tmp_path / "home").rglob("*"))
    assert left == [
        "assets",
        "assets/.made.lock",
        "assets/downloads",
        "assets/made",
        "assets/made.json",
        "assets/made/a",
        "assets/made/b",
    ]
    asked = len(site.asked)
    bring(made, said, said.show)
    assert len(site.asked) == asked
    assert said[-1] == f"the made-up files: complete in {folder(tmp_path)}"


def test_a_checksum_nobody_published_is_remembered_and_another_file_is_refused(
    made: Assets, site: Site, said: Said, tmp_path: Path
) -> None:
    bring(made, said, said.show)
    first = hashlib.sha256(site.content).hexdigest()
    assert any(f"remembered as {first[:16]}" in line for line in said)
    assert json.loads((tmp_path / "home/assets/made.json").read_text())[made.archives[0].url]["sha256"] == first
    (folder(tmp_path) / "a").unlink()
    site.content = packed(top__data__a="other", top__data__b="2")
    with pytest.raises(AssetError, match=rf"another file than on .*was {first}.*made\.json"):
        bring(made, said, said.show)
    (tmp_path / "home/assets/made.json").unlink()
    bring(made, said, said.show)
    assert (folder(tmp_path) / "a").read_text() == "other"


def test_known_contents_make_up_for_an_archive_without_a_checksum(
    made: Assets, site: Site, said: Said, tmp_path: Path
) -> None:
    bring(made, said, said.show)
    known = with_archive(made, contents=digest_of(folder(tmp_path)))
    (folder(tmp_path) / "a").unlink()
    site.content = packed(another__data__a="1", another__data__b="2")  # packed anew, the same inside
    bring(known, said, said.show)
    (folder(tmp_path) / "a").unlink()
    site.content = packed(top__data__a="1", top__data__b="altered")
    with pytest.raises(AssetError, match="its contents have digest"):
        bring(known, said, said.show)
    assert [p.name for p in folder(tmp_path).iterdir()] == ["b"]


def test_what_fails_leaves_everything_as_it_was(made: Assets, site: Site, said: Said, tmp_path: Path) -> None:
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "mine").write_text("x")
    good = site.content
    for wrong, error, words in (
        (with_archive(made, sha256="0" * 64), DownloadError, "SHA-256"),
        (with_archive(made, size=7), DownloadError, "7 were expected"),
        (with_archive(made, needed=("a", "c")), AssetError, "does not hold c"),
        (with_archive(made, most_bytes=1), DownloadError, "at most 1|larger than 1"),
        (with_archive(made, most_files=1), UnpackError, "2 files, at most 1"),
    ):
        with pytest.raises(error, match=words):
            bring(wrong, said, said.show)
    site.content = packed(**{"../evil": "1", "top__data__a": "1", "top__data__b": "2"})
    with pytest.raises(UnpackError, match="evil"):
        bring(made, said, said.show)
    assert [p.name for p in folder(tmp_path).iterdir()] == ["mine"]
    assert not list(tmp_path.rglob("evil"))
    site.content = good
    bring(made, said, said.show)
    assert (folder(tmp_path).with_name("made.before-1") / "mine").read_text() == "x"
    assert sorted(p.name for p in folder(tmp_path).iterdir()) == ["a", "b"]


def test_only_the_archive_that_is_missing_is_brought(made: Assets, site: Site, said: Said, tmp_path: Path) -> None:
    one, two = (replace(made.archives[0], into=into) for into in ("data/one", "data/two"))
    both = replace(made, archives=(one, two))
    bring(both, said, said.show)
    assert sorted(p.name for p in (folder(tmp_path) / "data").iterdir()) == ["one", "two"]
    (folder(tmp_path) / "data" / "two" / "b").unlink()
    site.asked.clear()
    bring(both, said, said.show)
    assert len(site.asked) == 1
    require(both)


def test_a_file_that_is_no_archive_is_put_in_place_as_it_is(
    made: Assets, site: Site, said: Said, tmp_path: Path
) -> None:
    sha256 = hashlib.sha256(site.content).hexdigest()
    plain = replace(made, archives=(Archive(site.url, needed=("bulb.glb",), into="deep", sha256=sha256),))
    bring(plain, said, said.show)
    assert (folder(tmp_path) / "deep" / "bulb.glb").read_bytes() == site.content


def test_an_official_place_out_of_reach_is_said_with_the_option_and_the_variable(
    made: Assets, site: Site, said: Said
) -> None:
    site.status = 403
    with pytest.raises(
        Unreachable,
        match=r"403 Forbidden.*official place.*memvla setup made assets=DIR.*MADE_ASSETS=DIR.*FILE\.zip",
    ):
        bring(made, said, said.show)


def test_a_folder_or_an_archive_of_the_users_own_will_do(made: Assets, site: Site, said: Said, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a").write_text("1")
    with pytest.raises(AssetError, match=r"1 of 2 files are missing, the first is b"):
        bring(made, said, said.show, str(mine))
    (mine / "b").write_text("2")
    (mine / "STANDINS.json").write_text(json.dumps({"standins": [{"path": "x/b", "what": "a box"}]}))
    bring(made, said, said.show, str(mine))
    assert "1 of its files are STAND-INS" in said[-1]
    assert require(made) == mine
    assert state(made)[0] == "there, with STAND-INS"
    (mine / "a").unlink()
    with pytest.raises(AssetError, match="complete it, or remove the link"):
        bring(made, said, said.show)
    folder(tmp_path).unlink()
    file = tmp_path / "by_hand.zip"
    file.write_bytes(site.content)
    with pytest.raises(AssetError, match=f"that of {made.archives[0].url} is 000"):
        bring(with_archive(made, sha256="0" * 64), said, said.show, str(file))
    bring(made, said, said.show, str(file))
    assert file.exists()
    assert site.asked == []
    require(made)
    (mine / "a").write_text("1")
    with pytest.raises(AssetError, match="already and no link"):
        bring(made, said, said.show, str(mine))


def test_a_folder_named_by_a_variable_is_never_written_to(
    made: Assets, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MADE_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="named by MADE_ASSETS: complete it"):
        bring(made, said, said.show)
    assert "MADE_ASSETS" in state(made)[1]


def test_two_at_once_do_not_get_in_each_others_way(made: Assets, said: Said) -> None:
    with bringing._alone(made), pytest.raises(AssetError, match="another memvla setup"):
        bring(made, said, said.show)


# ------------------------------------------------------------------ suites


@pytest.fixture
def suite(made: Assets, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """lab_smoke, with assets."""
    module = load_suite("lab_smoke").module
    monkeypatch.setattr(module, "RUNTIME", replace(module.RUNTIME, assets=(made,)))
    return load_suite("lab_smoke")


def console() -> Console:
    return Console(file=io.StringIO(), width=300)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_setup_brings_the_assets_of_a_suite_named_by_itself_or_by_its_benchmark(suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(AssetsMissing, match="memvla setup made"):
        require_assets(suite)
    assert record(suite) == {}
    shown = console()
    setting_up.setup(["lab_smoke"], shown, with_assets=False)
    assert not folder(tmp_path).exists()
    setting_up.setup(["made"], shown)
    require_assets(suite)
    assert sorted(record(suite)["made"]["files"]) == ["a", "b"]
    assert "nothing to build" in text(shown)


def test_assets_that_only_some_tasks_need_do_not_stop_a_setup_that_cannot_reach_them(
    suite: Suite, made: Assets, site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site.status = 404
    with pytest.raises(Unreachable):
        setting_up.setup(["lab_smoke"], console())
    some = replace(suite.module.RUNTIME, assets=(replace(made, optional="one task"),))
    monkeypatch.setattr(suite.module, "RUNTIME", some)
    shown = console()
    setting_up.setup(["lab_smoke"], shown)
    assert "not brought: needed by one task only" in text(shown)
    assert "404 Not Found" in text(shown)
    require_assets(suite)
    with pytest.raises(AssetError, match="no such file or folder"):
        setting_up.setup(["lab_smoke", f"assets={tmp_path / 'nowhere'}"], console())


def test_an_option_or_name_that_fits_nothing_is_an_error(suite: Suite) -> None:
    with pytest.raises(AssetError, match=r"sources=x must fit .*made \(assets=\)"):
        setting_up.setup(["lab_smoke", "sources=x"], console())
    with pytest.raises(SuiteError, match="needs the name of a suite"):
        setting_up.setup(["assets=x"], console())
    with pytest.raises(SuiteError, match="unknown suite 'lab_smok'"):
        setting_up.setup(["lab_smok"], console())


def test_assets_that_lie_within_others_come_with_them(made: Assets, site: Site, said: Said, tmp_path: Path) -> None:
    site.content = packed(top__code="3", top__data__a="1", top__data__b="2")
    whole = replace(made, name="whole", archives=(replace(made.archives[0], needed=("code",), keep="*"),))
    within = replace(made, within=(whole, "data"))
    for assets in (whole, within):
        bring(assets, said, said.show)
    assert require(within) == tmp_path / "home" / "assets" / "whole" / "data"
    assert not folder(tmp_path).exists()
    (require(within) / "b").unlink()
    bring(within, said, said.show)
    assert require(within) == folder(tmp_path)
