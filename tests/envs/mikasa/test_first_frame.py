"""SAPIEN with fewer samples in its look-up table draws MIKASA-Robo's pictures to the last bit as the untouched one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envs.mikasa.first_frame import FEW, OFFICIAL, NotKnown, find, quicken, samples

ROOT = Path(__file__).resolve().parents[3]
SCENES = [
    *(("remember_color_9", step) for step in (0, 12)),
    *(("shell_game_touch", step) for step in (0, 8)),
    ("intercept_medium", 3),
    *((task, 2) for task in ("BunchOfColors7", "ChainOfColors3", "SeqOfColors5", "FindImposterShapeAndColor5x3")),
    *((task, 2) for task in ("InterceptGrabFast", "RememberShape9", "RememberShapeAndColor5x3", "RotateStrictPos")),
    *((task, 2) for task in ("ShellGameShuffleTouch", "TakeItBack")),
]
"""Tasks of all families without a lamp, and the step at which both cameras are drawn."""
DRAW = """
import hashlib, numpy as np, sapien
from envs.mikasa import make
env = make()
print("from", sapien.__file__)
for task, steps in {scenes}:
    env.select(())
    env.reset(seed=0, options=dict(task=task, trial=1))
    if steps:
        actions = np.random.default_rng(0).uniform(-1, 1, (steps, 7)).astype(np.float32)
        env.step_chunk(actions, stop_on_done=False)
    env.select(None)
    for camera, image in env.observe().images.items():
        assert image.std() > 3
        print("picture", task, steps, camera, hashlib.sha256(image.tobytes()).hexdigest())
"""


def environment() -> Path:
    """The Python environment these tests run in."""
    return Path(sys.prefix)


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of SAPIEN with fewer samples; the runtime's own is not touched."""
    folder = tmp_path_factory.mktemp("fast")
    (packages,) = {path.parent.parent for path in environment().rglob("sapien/__init__.py")}
    for name in ("sapien", "sapien.libs"):
        shutil.copytree(packages / name, folder / name, copy_function=os.link)
    library = next(folder.glob("sapien.libs/libsvulkan2.so"))
    original = library.with_name(library.name + ".orig")
    data = (original if original.exists() else library).read_bytes()
    for path in (library, original):
        path.unlink(missing_ok=True)
    library.write_bytes(data)  # a file of its own, untouched whatever the runtime's is
    assert samples(folder) == OFFICIAL
    assert "32 samples instead of 1024" in quicken(folder)
    return folder


def draw(folder: Path | None) -> list[str]:
    path = os.pathsep.join([*([str(folder)] if folder else []), str(ROOT)])
    surroundings = {**os.environ, "PYTHONPATH": path}
    script = DRAW.format(scenes=SCENES)
    done = subprocess.run([sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    if folder:
        assert any(line.startswith(f"from {folder}") for line in lines)
    return [line for line in lines if line.startswith("picture")]


@pytest.mark.timeout(900)
def test_pictures_are_the_same_to_the_last_bit(changed: Path) -> None:
    if samples(environment()) != OFFICIAL:
        pytest.skip("this runtime has been made quick itself: there is nothing to compare with")
    assert draw(changed) == (expected := draw(None))
    assert len(set(expected)) == len(expected) == 2 * len(SCENES)


def test_only_the_four_constants_are_changed_and_repeating_changes_nothing(changed: Path) -> None:
    library = next(changed.glob("sapien.libs/libsvulkan2.so"))
    kept = library.with_name(library.name + ".orig")
    before, after = kept.read_bytes(), library.read_bytes()
    sites = find(before, OFFICIAL)
    assert sites == find(after, FEW)
    assert sorted(site.kind for site in sites) == ["float", "int", "uint", "uint"]
    inside = {site.offset + k for site in sites for k in range(4)}
    assert len(before) == len(after)
    assert {k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b} <= inside
    quicken(changed)
    assert library.read_bytes() == after
    assert kept.read_bytes() == before
    assert samples(changed) == FEW


def test_a_library_that_is_another_is_left_alone(changed: Path, tmp_path: Path) -> None:
    (tmp_path / "sapien.libs").mkdir()
    with pytest.raises(NotKnown, match="0 libraries"):
        quicken(tmp_path)
    library = tmp_path / "sapien.libs" / "libsvulkan2.so"
    data = bytearray(next(changed.glob("sapien.libs/*.orig")).read_bytes())
    site = find(bytes(data), OFFICIAL)[0]
    data[site.offset] ^= 1
    library.write_bytes(data)
    with pytest.raises(NotKnown, match="nothing was changed"):
        quicken(tmp_path)
    assert library.read_bytes() == bytes(data)
