"""What `memvla setup` finds out about the machine. No simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.maniskill import driver

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
