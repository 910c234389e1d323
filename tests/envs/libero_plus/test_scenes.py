"""One variant of each dimension that LIBERO's assets allow, reset in the real simulator."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from envs.base import SceneError, VLAEnv
from envs.libero_plus import assets, make, upstream, variants

pytestmark = pytest.mark.timeout(900)  # every variant compiles its scene

STOVE = "turn_on_the_stove"
STILL = "view_0_0_100_0_0_initstate"
CAMERA = next(v.name for v in variants.of_suites(("libero_goal",)) if v.kind == "camera" and v.base == STOVE)
ROBOT = next(v.name for v in variants.of_suites(("libero_goal",)) if v.kind == "robot" and v.base == STOVE)
LAYOUT = next(v.name for v in variants.of_suites(("libero_goal",)) if v.kind == "layout" and v.base == STOVE)
LANGUAGE = next(v.name for v in variants.of_suites(("libero_goal",)) if v.kind == "language" and v.base == STOVE)
NOISE = [v.name for v in variants.of_suites(("libero_goal",)) if v.kind == "noise" and v.base == STOVE]
BACKGROUND = next(v for v in variants.of_suites(("libero_goal",)) if v.kind == "table" and v.base == STOVE)


@pytest.fixture(scope="module")
def env() -> Iterator[VLAEnv]:
    made = make(suite="libero_plus_goal")
    yield made
    made.close()


def reset(env: VLAEnv, name: str, trial: int = 0) -> str:
    env.select(())
    env.reset(seed=0, options={"task": name, "trial": trial})
    return env.scene_hash()


def test_each_dimension_is_a_scene_of_its_own_and_says_the_clean_sentence(env: VLAEnv) -> None:
    names = [CAMERA, ROBOT, LAYOUT, LANGUAGE, *NOISE[:2]]
    found = {name: reset(env, name) for name in names}
    assert len(set(found.values())) == len(names), "the hash must hold the perturbation, also of noise and words"
    assert {name: reset(env, name) for name in reversed(names)} == found
    for name in names:
        reset(env, name)
        said = env.observe().instruction
        assert (said == "turn on the stove") == (name != LANGUAGE), said


def test_the_perturbed_arm_is_still_on_its_way_to_its_rest_pose_after_the_settle_steps(env: VLAEnv) -> None:
    """The initial state overwrites the pose; what is left of the perturbation is the controller's pull."""
    reset(env, NOISE[0])
    plain = env.observe().state
    reset(env, ROBOT)
    first = env.observe().state
    assert plain is not None
    assert first is not None
    assert not np.allclose(first[:3], plain[:3], atol=1e-3)


def test_noise_is_on_agentview_alone_new_at_every_step_and_the_same_when_drawn_again(env: VLAEnv) -> None:
    fog = next(name for name in NOISE if 31 <= variants.of_name(name).noise <= 40)
    blur = next(name for name in NOISE if 1 <= variants.of_name(name).noise <= 10)
    reset(env, fog)
    first, wrist = env.draw("agentview"), env.draw("wrist")
    assert np.array_equal(env.draw("agentview"), first)
    reset(env, blur)
    assert np.array_equal(env.draw("wrist"), wrist)
    assert not np.array_equal(env.draw("agentview"), first)
    reset(env, fog)
    assert np.array_equal(env.draw("agentview"), first)
    env.step_chunk(np.array([[0, 0, 0, 0, 0, 0, -1]], dtype=np.float32))
    later = env.draw("agentview")
    assert np.abs(later.astype(float) - first).mean() > 0.5, "another step, another fog"


def test_variants_beyond_liberos_assets_name_the_archive(env: VLAEnv) -> None:
    with pytest.raises(SceneError, match=r"not covered.*memvla setup libero_plus.*MEMVLA_LIBERO_PLUS_ASSETS"):
        reset(env, BACKGROUND.name)
    with pytest.raises(SceneError, match="did you mean"):
        reset(env, NOISE[0] + "9")
    with pytest.raises(SceneError, match=r"no trial 1"):
        reset(env, LAYOUT, trial=1)


def test_the_files_looked_for_are_those_that_variants_are_built_from() -> None:
    """Each of the three stands in the code of a class that a variant's problem file names."""
    code = upstream.folder() / "envs"
    tabletop = (code / "problems" / "libero_tabletop_manipulation.py").read_text()
    objects = (code / "objects" / "custom_objects.py").read_text()
    base = "open_the_middle_drawer_of_the_cabinet"
    named = {
        BACKGROUND.name: ("FabricString001_DISP_4K", tabletop),
        f"{base}_light_1": ("tabletop_light_sync_modified_187", tabletop),
        f"{STOVE}_add_1": ("box_of_shampoo__1", objects),
    }
    for (name, (word, text)), needed in zip(named.items(), assets.NEEDED, strict=True):
        assert word in upstream.problem_file(variants.of_name(name)).read_text(), name
        assert needed in text, needed


def test_with_its_own_assets_a_background_is_built_and_nothing_else_changes(env: VLAEnv, tmp_path: Path) -> None:
    """A folder as the archive would leave it, made from LIBERO's scene with another texture on its table; its copies of
    LIBERO's files are spoiled, to show that LIBERO's own are taken."""
    own = tmp_path / "own"
    scenes = upstream._base() / "assets" / "scenes"
    plain = (scenes / "libero_tabletop_base_style.xml").read_text()
    for name in assets.NEEDED:
        (own / "assets" / name).parent.mkdir(parents=True, exist_ok=True)
        (own / "assets" / name).write_text(
            plain.replace("martin_novak_wood_table.png", "smooth_light_gray_plaster.png")
        )
    # Its scenes lie one folder deeper than LIBERO's, so they find their textures in another place.
    (own / "assets" / "scenes" / "textures").symlink_to(scenes.parent / "textures", target_is_directory=True)
    (own / "assets" / "scenes" / "libero_tabletop_base_style.xml").write_text("spoiled")
    before = reset(env, NOISE[0])
    with_own = make(suite="libero_plus_goal", assets=str(own))
    try:
        assert reset(with_own, NOISE[0]) == before
        other = reset(with_own, BACKGROUND.name)
        assert other != before
        assert with_own.observe().instruction == "turn on the stove"
    finally:
        with_own.close()
        shutil.rmtree(own)
