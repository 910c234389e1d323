"""Where assets are looked for, what is said when they are missing, and how stand-ins are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from envs.assets import Archive, Assets, AssetsMissing, digest_of, digests, place, require, stand_ins
from suites.protocol import load_suite, suite_names

MADE = Assets(
    name="made",
    title="the made-up files",
    archives=(Archive("https://x.example/a.zip", needed=("one.txt", "two.txt"), into="deep/er"),),
    variables=("MADE_ASSETS", "MADE_OTHER"),
    inner="data",
)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path / "home"))
    for name in MADE.variables:
        monkeypatch.delenv(name, raising=False)


def fill(folder: Path, **texts: str) -> Path:
    (folder / "deep" / "er").mkdir(parents=True)
    for name, text in {"one": "1", "two": "2", **texts}.items():
        (folder / "deep" / "er" / f"{name}.txt").write_text(text)
    return folder


def test_the_option_wins_over_the_variables_and_these_over_our_own_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert place(MADE) == tmp_path / "home" / "assets" / "made"
    monkeypatch.setenv("MADE_OTHER", str(tmp_path / "other"))
    assert place(MADE) == tmp_path / "other"
    monkeypatch.setenv("MADE_ASSETS", str(tmp_path / "first"))
    assert place(MADE) == tmp_path / "first"
    assert place(MADE, str(tmp_path / "named")) == tmp_path / "named"


def test_a_folder_that_holds_the_inner_one_will_do(tmp_path: Path) -> None:
    fill(tmp_path / "data")
    assert require(MADE, str(tmp_path)) == tmp_path / "data" == require(MADE, str(tmp_path / "data"))


def test_a_missing_file_is_named_with_its_folder_and_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssetsMissing, match=r"home/assets/made \(2 of 2.*deep/er/one\.txt\); .*memvla setup made"):
        require(MADE)
    folder = fill(tmp_path / "mine")
    (folder / "deep" / "er" / "two.txt").unlink()
    monkeypatch.setenv("MADE_ASSETS", str(folder))
    with pytest.raises(AssetsMissing, match=r"1 of 2.*two\.txt.*named by MADE_ASSETS: complete it"):
        require(MADE)


def test_other_bytes_are_other_assets(tmp_path: Path) -> None:
    one, same, other = (fill(tmp_path / name, two=text) for name, text in (("a", "2"), ("b", "2"), ("c", "3")))
    assert digests(MADE, one) == digests(MADE, same) != digests(MADE, other)
    assert digest_of(one) == digest_of(same) != digest_of(other)
    (other / "deep" / "er" / "one.txt").unlink()
    assert list(digests(MADE, other)) == ["deep/er/two.txt"]


def test_stand_ins_are_known_by_their_list_beside_or_above_and_by_their_bytes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "place" / "mine")
    assert stand_ins(MADE, folder) == {}
    text = json.dumps({"standins": [{"path": "mine/deep/er/one.txt", "what": "a box"}, {"path": "elsewhere/x"}]})
    (folder.parent / "STANDINS.json").write_text(text)
    assert stand_ins(MADE, folder) == {"deep/er/one.txt": "a box"}
    (folder.parent / "STANDINS.json").unlink()
    two = "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
    known = Assets("made", "", MADE.archives, MADE.variables, stand_ins={two: "a sphere"})
    assert stand_ins(known, folder) == {"deep/er/two.txt": "a sphere"}


def test_every_archive_that_is_declared_is_encrypted_on_its_way_and_known_or_remembered() -> None:
    for suite in map(load_suite, suite_names()):
        for assets in suite.runtime.assets:
            assert assets.variables
            for archive in assets.archives:
                assert archive.url.startswith("https://")
                assert archive.needed
                assert not archive.sha256 or len(archive.sha256) == 64
