"""What is known of SimplerEnv without a simulator: suites, back ends, files, the robot's description."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from envs.assets import STAND_INS, AssetsMissing, missing, place, require
from envs.base import SceneError
from envs.simpler import CHOICE, RUNTIME, SHADER, describe, not_covered, sapien2, settle
from envs.simpler.assets import (
    BRIDGE,
    DATASET,
    MODELS,
    ROBOT,
    SIMULATOR,
    SOURCES,
    VARIABLE,
    digest,
    maniskill3_files,
    marks,
    need_original,
)
from envs.simpler.bridge import TASKS
from envs.simpler.fractal import SETTINGS, variants
from envs.simpler.gripper import StickyGripper
from envs.simpler.robot import APART, INSIDE, description
from envs.simpler.setups import build_of, reset_of
from harness.plan import context_of, scenes
from policies.expert import ExpertPolicy
from policies.expert.simpler import SimplerScript
from reports.manifest import plan_of
from suites.protocol import SuiteError, load_suite
from suites.published import paper_table

# ------------------------------------------------------------------ back ends


def set_up(home: Path) -> None:
    """The original, by what it is known by: a runtime that is complete, sources that are there."""
    folder = home / "runtimes" / "simpler_env"
    fill(home / "assets" / SOURCES.name, *SOURCES.needed)
    folder.mkdir(parents=True)
    (folder / "memvla-runtime.json").write_text("{}")


def fill(folder: Path, *names: str) -> Path:
    """The folder with files of these names, each of different contents."""
    for path in (folder / name for name in names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    return folder


def test_a_suite_takes_the_original_where_it_is_set_up_and_the_fingerprint_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.delenv(CHOICE, raising=False)
    without = load_suite("simpler_bridge")
    assert (without.env["backend"], without.runtime.name) == ("maniskill3", "maniskill")
    set_up(tmp_path)
    original = load_suite("simpler_bridge")
    assert (original.env["backend"], original.runtime.name) == ("simpler_env", "simpler_env")
    assert original.fingerprint() != without.fingerprint()
    monkeypatch.setenv(CHOICE, "maniskill3")
    assert load_suite("simpler_bridge") == without
    monkeypatch.delenv(CHOICE)
    (tmp_path / "assets" / SOURCES.name / SOURCES.needed[0]).unlink()
    assert load_suite("simpler_bridge") == without


def test_a_run_made_elsewhere_is_judged_by_the_back_end_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.setenv(CHOICE, "simpler_env")
    there = load_suite("simpler_bridge")
    monkeypatch.delenv(CHOICE)
    assert load_suite("simpler_bridge").fingerprint() != there.fingerprint()
    assert load_suite("simpler_bridge", like=there.env).fingerprint() == there.fingerprint()


def test_a_back_end_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "isaac")
    with pytest.raises(SuiteError, match="maniskill3, simpler_env, was 'isaac'"):
        load_suite("simpler_bridge")
    with pytest.raises(ValueError, match="cpu, gpu"):
        describe(backend="maniskill3", renderer="vulkan")


def test_the_back_end_named_in_the_options_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "simpler_env")
    assert settle(suite="bridge", backend="maniskill3") == {"suite": "bridge", "backend": "maniskill3"}
    assert RUNTIME(suite="bridge", backend="maniskill3").name == "maniskill"


# ------------------------------------------------------------------ suite


def test_suite_and_adapter_name_the_same_tasks_and_sentences() -> None:
    suite = load_suite("simpler_bridge")
    assert {task.name: task.instruction for task in suite.tasks} == {k: v.instruction for k, v in TASKS.items()}
    rules = suite.protocol
    assert (rules.trials, rules.success, rules.stop_on_success, rules.max_steps) == (24, "at_end", False, 120)


# ------------------------------------------------------------------ files


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nobody names a folder, and nothing was set up; the home."""
    for name in {*BRIDGE.variables, *MODELS.variables, *SOURCES.variables, CHOICE}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_missing_model_is_named_with_the_command_that_brings_it(nothing: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetsMissing, match=r"first is data/tasks.*memvla setup simpler .*assets=DIR"):
        require(BRIDGE)
    with pytest.raises(AssetsMissing, match=r"memvla setup simpler_env \(.*sources=DIR"):
        require(SOURCES)
    ms3 = fill(tmp_path / "mine" / "ms3", *BRIDGE.needed)
    assert require(BRIDGE, str(tmp_path / "mine")) == ms3
    (ms3 / ROBOT).unlink()
    with pytest.raises(AssetsMissing, match=r"wx250s\.urdf"):
        require(BRIDGE, str(tmp_path / "mine"))


def test_one_variable_names_the_files_of_both_back_ends(
    nothing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for inner, assets in (("ms2", MODELS), ("ms3", BRIDGE)):
        fill(tmp_path / inner, *assets.needed)
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        assert require(assets) == tmp_path / inner
        monkeypatch.setenv(VARIABLE, str(tmp_path / inner))  # what a worker is told
        assert require(assets) == tmp_path / inner


def test_the_originals_models_lie_among_its_sources_unless_others_are_named(nothing: Path, tmp_path: Path) -> None:
    assert place(MODELS) == nothing / "assets" / MODELS.name
    inside = fill(nothing / "assets" / SOURCES.name / SIMULATOR / "data", *MODELS.needed)
    assert require(MODELS) == inside
    own = fill(nothing / "assets" / MODELS.name, *MODELS.needed)
    assert require(MODELS) == own
    assert require(MODELS, str(fill(tmp_path / "mine", *MODELS.needed))) == tmp_path / "mine"


def test_tasks_whose_stage_is_not_there_are_not_covered(nothing: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "ms2", *MODELS.needed)
    options = {"suite": "fractal", "setting": "va", "backend": "simpler_env", "assets": str(folder)}
    found = not_covered(["coke_can_standing_base", "coke_can_standing_background_1"], **options)
    assert list(found) == ["coke_can_standing_background_1"]
    assert "needs google_pick_coke_can_1_v4_alt_background.glb; the folder is named by assets=" in found.popitem()[1]
    assert not_covered(TASKS, suite="bridge", backend="simpler_env", assets=str(folder)) == {}
    assert not_covered(TASKS, suite="bridge", backend="maniskill3") == {}
    with pytest.raises(AssetsMissing, match=r"apple.*memvla setup simpler_models"):
        need_original(folder, ["custom/models/apple/textured.dae"])


def test_every_file_of_a_bridge_task_is_among_those_that_setup_brings(tmp_path: Path) -> None:
    folder = fill(tmp_path / "ms3", *BRIDGE.needed)
    for task in TASKS.values():
        files = maniskill3_files(folder, task)
        assert len(files) == 4 + len(task.models)
        assert not missing(BRIDGE, folder)


def test_other_models_are_another_scene(tmp_path: Path) -> None:
    folders = [fill(tmp_path / name, *BRIDGE.needed) for name in ("a", "b")]
    assert len({digest(maniskill3_files(folder, TASKS["stack_cube"])) for folder in folders}) == 2


def test_stand_ins_are_marked_by_what_they_stand_in_for(tmp_path: Path) -> None:
    folder = fill(tmp_path / "simpler" / "ms3", *BRIDGE.needed)
    sink, table = (maniskill3_files(folder, TASKS[name]) for name in ("eggplant_in_basket", "carrot_on_plate"))
    assert marks(BRIDGE, folder, sink) == {}
    listed = ["stages/bridge_table_1_v2.glb", "custom/models/eggplant/collision.obj", "somewhere/else.glb"]
    entries = [{"path": f"simpler/ms3/{DATASET}/{name}", "what": "made"} for name in listed]
    (tmp_path / "simpler" / STAND_INS).write_text(json.dumps({"standins": entries}))
    assert marks(BRIDGE, folder, sink) == {"stand_in_eggplant": 1.0, "stand_in_table": 1.0}
    assert marks(BRIDGE, folder, table) == {}


ORIGINAL = f"""<robot name="wx250s">
  <link name="{INSIDE}"><visual/><collision/></link>
  <link name="left_finger_link"><visual/><collision/></link>
  <joint name="right_finger" type="prismatic"><mimic joint="left_finger"/></joint>
</robot>"""


def test_the_originals_robot_is_given_what_maniskill_3s_has(tmp_path: Path) -> None:
    urdf = tmp_path / "wx250s.urdf"
    urdf.write_text(ORIGINAL)
    (tmp_path / "meshes").mkdir()
    right = description(urdf)
    assert right != urdf
    assert (right.parent / "meshes").is_dir()
    root = ET.parse(right).getroot()
    assert root.findall(".//mimic") == []
    bodies = {str(link.get("name")): len(link.findall("collision")) for link in root.iter("link")}
    assert bodies == {INSIDE: 0, "left_finger_link": 1}
    pairs = ET.parse(right.with_suffix(".srdf")).getroot().findall("disable_collisions")
    assert tuple((pair.get("link1"), pair.get("link2")) for pair in pairs) == APART
    assert urdf.read_text() == ORIGINAL


def test_a_robot_that_comes_with_its_srdf_is_left_as_it_is(tmp_path: Path) -> None:
    urdf = tmp_path / "wx250s.urdf"
    urdf.write_text(ORIGINAL)
    urdf.with_suffix(".srdf").write_text("<robot/>")
    assert description(urdf) == urdf


# ------------------------------------------------------------------ fractal


COUNTS = {
    "vm": {"coke_can": (12, 300), "move_near": (4, 240), "open_close_drawer": (216, 216), "put_in_drawer": (12, 108)},
    "va": {"coke_can": (33, 825), "move_near": (10, 600), "open_close_drawer": (42, 378), "put_in_drawer": (7, 189)},
}
"""Variants and trials of each task: 336 and 2,856 in all."""
LIMITS = {"coke_can": 80, "move_near": 80, "open_close_drawer": 113, "put_in_drawer": 200}


@pytest.mark.parametrize("setting", SETTINGS)
def test_variants_trials_and_limits_are_the_protocols(setting: str) -> None:
    found = variants(setting).values()
    for task, (number, trials) in COUNTS[setting].items():
        own = [each for each in found if each.task == task]
        assert (len(own), sum(each.trials for each in own)) == (number, trials)
        assert {each.max_steps for each in own} == {LIMITS[task]}
        assert len({each.trials for each in own}) == 1  # so that a mean over trials is the mean over variants
    assert len({each.name for each in found}) == len(found)
    built = {(e.env_id, e.scene, e.overlay, e.robots, e.yaw, repr(sorted(e.build.items()))) for e in found}
    assert len(built) == len(found)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_suite_plans_every_trial_and_names_the_published_rows(setting: str) -> None:
    suite = load_suite(f"simpler_fractal_{setting}")
    assert [task.name for task in suite.tasks] == list(variants(setting))
    planned = scenes(suite, suite.protocol.trials)
    assert len(planned) == sum(trials for _, trials in COUNTS[setting].values())
    assert len(scenes(suite, 5, [suite.tasks[0].name])) == 5
    assert plan_of(suite, [task.name for task in suite.tasks], 60).planned == len(planned)
    table = paper_table("memoryvla/fractal")
    wanted = {cell.task for cell in table.cells if cell.suite == suite.name}
    assert wanted == {task.tags["published"] for task in suite.tasks}
    assert (suite.protocol.success, suite.protocol.stop_on_success) == ("at_end", False)


def test_trials_go_through_places_as_upstreams_loops_do() -> None:
    """Robot x, robot y, then object x, object y: the last runs fastest."""
    can = variants("vm")["coke_can_horizontal_plain"]
    assert [can.place(k)[1] for k in (0, 1, 5, 24)] == [
        pytest.approx(place) for place in ((-0.35, -0.02), (-0.35, 0.09), (-0.2925, -0.02), (-0.12, 0.42))
    ]
    put = variants("va")["put_in_drawer_base"]
    assert [put.place(k)[0][1] for k in (0, 8, 9, 26)] == pytest.approx([-0.2, -0.2, 0.0, 0.2])
    assert variants("va")["move_near_base"].place(59) == ((0.35, 0.21), None, 59)
    with pytest.raises(SceneError, match="25 scenes"):
        can.place(25)


def test_the_robot_faces_the_counter_turned_by_its_yaw() -> None:
    """Half a turn about the vertical, as upstream's quaternion (w, x, y, z)."""
    options = reset_of("fractal", "vm", "coke_can_standing_plain", 0)
    assert np.abs(options["robot_init_options"]["init_rot_quat"]) == pytest.approx([0, 0, 0, 1], abs=1e-12)
    near = reset_of("fractal", "va", "move_near_base", 7)
    w, x, y, z = near["robot_init_options"]["init_rot_quat"]
    heading = Rotation.from_quat([x, y, z, w]).as_matrix()[:, 0]
    assert heading == pytest.approx([-np.cos(0.09), np.sin(0.09), 0.0])
    assert near["obj_init_options"] == {"episode_id": 7}


def test_drawers_are_ray_traced_unless_the_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHADER, raising=False)
    traced = load_suite("simpler_fractal_vm")
    assert traced.env["shader"] == "rt"
    monkeypatch.setenv(SHADER, "ibl")
    plain = load_suite("simpler_fractal_vm")
    assert plain.env["shader"] == "ibl"
    assert plain.fingerprint() != traced.fingerprint()
    drawer = build_of("fractal", "vm", "open_top_drawer_plain_a0", "ibl", Path("/assets"))
    assert drawer.keywords["shader_dir"] == "ibl"
    assert "shader_dir" not in build_of("fractal", "vm", "coke_can_standing_plain", "ibl", Path("/assets")).keywords


def test_the_google_robots_expert_knows_the_drawers_it_is_to_open_and_no_other_task() -> None:
    suite = load_suite("simpler_fractal_vm")
    expert = ExpertPolicy(context_of(suite))
    known = [task.name for task in suite.tasks if expert.knows(task.name)]
    assert len(known) == 3 * 4 * 9
    assert {" ".join(name.split("_")[:3:2]) for name in known} == {"open drawer"}
    with pytest.raises(KeyError, match=r"coke_can.*open_\*_drawer_\*"):
        SimplerScript("coke_can_standing_plain", "pick coke can", suite.env_spec)


# ------------------------------------------------------------------ the sticky gripper


def test_a_change_of_the_gripper_is_repeated_and_others_wait() -> None:
    grip = StickyGripper(10)
    assert [grip(1.0), grip(1.0)] == [0.0, 0.0]
    assert [grip(0.0) for _ in range(3)] == [1.0, 1.0, 1.0]  # closes
    assert [grip(1.0) for _ in range(7)] == [1.0] * 7  # not heeded before the tenth
    assert [grip(1.0) for _ in range(10)] == [-1.0] * 10  # now it is: measured against what was repeated
    assert grip(1.0) == 0.0


def test_a_fresh_episode_starts_with_a_gripper_that_remembers_nothing() -> None:
    grip = StickyGripper(4)
    before = grip.state
    grip(1.0)
    grip(0.0)
    assert grip.state != before
    grip.reset()
    assert grip.state == before
    assert grip(0.0) == 0.0  # the first number is no change


# ------------------------------------------------------------------ the library of the original


def test_the_library_is_changed_in_the_one_name_and_keeps_its_size(tmp_path: Path) -> None:
    library = tmp_path / "libsapien.so"
    data = b"before" + sapien2.WANTED + b"after"
    library.write_bytes(data)
    assert sapien2._ask_for_less(library)
    changed = library.read_bytes()
    assert len(changed) == len(data)
    assert changed.split(b"\0")[0] == b"beforeVK_KHR_external_semaphore"
    assert changed.endswith(b"after")
    assert not sapien2._ask_for_less(library)
