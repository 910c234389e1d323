"""What is said when a file or an option of MIKASA-Robo is not there. No simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.assets import AssetsMissing, require
from envs.mikasa import describe, not_covered
from envs.mikasa.assets import ASSETS, BULB


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
