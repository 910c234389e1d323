"""Runtimes: what their workers are told, and what was changed in them at the user's wish."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.assets import Archive, Assets
from envs.runtime import Runtime
from harness import worker
from harness.runtimes import CHANGES, RuntimeNotReady, environment_of, folder_of, quicken

ASSETS = Assets("made", "made-up files", (Archive("https://x.example/a.zip", needed=("a",)),), ("MADE_ASSETS",))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.delenv("MADE_ASSETS", raising=False)


def test_workers_are_told_the_folder_of_assets_the_user_named_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(assets=(ASSETS,))
    assert "MADE_ASSETS" not in environment_of(runtime)
    monkeypatch.setenv("MADE_ASSETS", str(tmp_path / "mine"))
    assert environment_of(runtime)["MADE_ASSETS"] == str(tmp_path / "mine")


def test_what_was_changed_in_a_runtime_is_reported_by_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime("made", fast_first_frame=lambda folder: f"32 samples in {folder.name}")
    folder_of(runtime).mkdir(parents=True)
    said: list[str] = []
    quicken(runtime, said.append)
    assert said == ["  first picture made quick: 32 samples in made"]
    assert "fast_first_frame" not in worker.versions()
    monkeypatch.setattr("sys.prefix", str(folder_of(runtime)))
    assert worker.versions()["fast_first_frame"] == "32 samples in made"


def test_a_runtime_that_cannot_be_made_quick_is_left_as_it_is() -> None:
    def fail(folder: Path) -> str:
        raise RuntimeError("another library")

    runtime = Runtime("made", fast_first_frame=fail)
    folder_of(runtime).mkdir(parents=True)
    with pytest.raises(RuntimeNotReady, match="'made' is left as it is: another library"):
        quicken(runtime)
    assert not (folder_of(runtime) / CHANGES).exists()
    said: list[str] = []
    quicken(Runtime(), said.append)
    assert said == ["this runtime has no slow first picture to make quick"]
