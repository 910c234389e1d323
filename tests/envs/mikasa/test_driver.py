"""What `memvla setup` finds out about the machine, and what is said when something is not there. No simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.assets import AssetsMissing, require
from envs.mikasa import describe, driver, not_covered
from envs.mikasa.assets import ASSETS, BULB

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_CODENAME=bookworm\n'
STANZAS = """\
Types: deb
URIs: http://other.example/repo
Suites: nodistro
Components: main

Types: deb
# a remark
URIs: http://mirror.example/debian http://second.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/key.gpg
"""


def etc(folder: Path, release: str, **sources: str) -> Path:
    """A folder like /etc; sources: contents of files in apt's folder, by name with _ for a dot."""
    (folder / "apt" / "sources.list.d").mkdir(parents=True)
    (folder / "os-release").write_text(release)
    for name, text in sources.items():
        where = folder / "apt" / (name.replace("_", ".") if name == "sources_list" else f"sources.list.d/{name}")
        where.write_text(text)
    return folder


def test_the_mirror_is_the_one_the_machine_already_uses(tmp_path: Path) -> None:
    found = driver._debian_entry(etc(tmp_path / "a", DEBIAN, debian=STANZAS))
    assert found == ("bookworm", "http://mirror.example/debian", "/usr/share/keyrings/key.gpg")
    lines = (
        "deb http://x.example/sec bookworm-security main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://m.example/d bookworm main contrib\n"
    )
    assert driver._debian_entry(etc(tmp_path / "b", DEBIAN, sources_list=lines)) == (
        "bookworm",
        "http://m.example/d",
        "/k.gpg",
    )


def test_a_machine_without_a_debian_mirror_is_told_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert driver._debian_entry(etc(tmp_path / "a", DEBIAN.replace("ID=debian", "ID=fedora"), debian=STANZAS)) is None
    assert driver._debian_entry(etc(tmp_path / "b", DEBIAN)) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="Mesa 23 or later"):
        driver._unpack_backport(tmp_path / "vulkan")


def test_a_driver_the_user_named_wins_over_the_one_setup_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    for name in driver.VARIABLES:
        monkeypatch.setenv(name, "")
    assert driver.use_driver() == ""
    own = driver.manifest_in(tmp_path)
    own.parent.mkdir()
    own.write_text("{}")
    assert driver.use_driver() == str(own)
    for name in driver.VARIABLES:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(driver.VARIABLES[1], "/mine.json")
    assert driver.use_driver() == "/mine.json"


def test_a_missing_mug_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MS_ASSET_DIR", raising=False)
    monkeypatch.delenv("MEMVLA_MIKASA_ASSETS", raising=False)
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    with pytest.raises(AssetsMissing, match=r"info_pick_v0\.json\); bring.*memvla setup mikasa .*MEMVLA_MIKASA_ASSETS"):
        require(ASSETS)
    monkeypatch.setenv("MS_ASSET_DIR", str(tmp_path))
    with pytest.raises(AssetsMissing, match="named by MS_ASSET_DIR"):
        require(ASSETS)


def test_tasks_whose_files_are_not_here_are_not_covered_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ASSETS.variables:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    names = ["shell_game_touch", "remember_color_3", "ShellGamePush", "TimedTransferEasy", "SeqOfColors3"]
    found = not_covered(names)
    assert list(found) == ["shell_game_touch", "ShellGamePush", "TimedTransferEasy"]
    assert "needs low_poly_light_bulb.glb; bring them with: memvla setup mikasa" in found["TimedTransferEasy"]
    bulb = tmp_path / "assets" / "mikasa" / BULB.into / BULB.needed[0]
    bulb.parent.mkdir(parents=True)
    bulb.touch()
    assert list(not_covered(names)) == ["shell_game_touch", "ShellGamePush"]


def test_an_option_value_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="cpu, gpu"):
        describe(renderer="vulkan")
    with pytest.raises(ValueError, match="16 to 2048"):
        describe(size=8)
