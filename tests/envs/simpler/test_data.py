"""What is known of SimplerEnv without a simulator: suites, back ends, files, the robot's description."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from envs.simpler import CHOICE, RUNTIME, describe, settle
from envs.simpler.assets import (
    DATASET,
    ROBOT,
    AssetsMissing,
    chosen_folder,
    digest,
    maniskill3_files,
    maniskill3_folder,
    stand_ins,
)
from envs.simpler.robot import APART, INSIDE, description
from envs.simpler.tasks import TASKS
from suites.protocol import SuiteError, load_suite

# ------------------------------------------------------------------ back ends


def set_up(home: Path, runtime: str) -> None:
    folder = home / "runtimes" / runtime
    folder.mkdir(parents=True)
    (folder / "memvla-runtime.json").write_text("{}")


def test_a_suite_takes_the_original_where_it_is_set_up_and_the_fingerprint_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.delenv(CHOICE, raising=False)
    without = load_suite("simpler_bridge")
    assert (without.env["backend"], without.runtime.name) == ("maniskill3", "maniskill")
    set_up(tmp_path, "simpler_env")
    original = load_suite("simpler_bridge")
    assert (original.env["backend"], original.runtime.name) == ("simpler_env", "simpler_env")
    assert original.fingerprint() != without.fingerprint()
    monkeypatch.setenv(CHOICE, "maniskill3")
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


def folder_with(root: Path, task: str) -> Path:
    """A folder with the files of one task, each of different contents."""
    found, ms3 = TASKS[task], root / "ms3"
    names = [f"custom/models/{model}/collision.obj" for model in found.models]
    names += ["custom/info_bridge_custom_v0.json", f"stages/{found.stage}.glb", f"real_inpainting/{found.overlay}.png"]
    for path in [ms3 / ROBOT, *(ms3 / DATASET / name for name in names)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    return ms3


def test_a_missing_model_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMVLA_SIMPLER_ASSETS", str(tmp_path))
    ms3 = maniskill3_folder()
    assert ms3 == chosen_folder() / "ms3"
    task = TASKS["carrot_on_plate"]
    with pytest.raises(AssetsMissing, match=r"download_asset bridge_v2_real2sim widowx250s.*MEMVLA_SIMPLER_ASSETS"):
        maniskill3_files(ms3, task)
    folder_with(tmp_path, "carrot_on_plate")
    files = maniskill3_files(ms3, task)
    assert len(files) == 6
    files[-1].unlink()
    with pytest.raises(AssetsMissing, match=files[-1].name):
        maniskill3_files(ms3, task)


def test_other_models_are_another_scene(tmp_path: Path) -> None:
    digests = set()
    for copy in ("a", "b"):
        ms3 = folder_with(tmp_path / copy, "stack_cube")
        digests.add(digest(maniskill3_files(ms3, TASKS["stack_cube"])))
    assert len(digests) == 2


def test_stand_ins_are_those_that_the_list_above_the_files_names(tmp_path: Path) -> None:
    root = tmp_path / "simpler"
    files = maniskill3_files(folder_with(root, "eggplant_in_basket"), TASKS["eggplant_in_basket"])
    assert stand_ins(files) == set()
    stage = next(file for file in files if file.parent.name == "stages")
    other = tmp_path / "again" / "simpler"
    (other).mkdir(parents=True)
    listed = [{"path": f"simpler/{stage.relative_to(root)}"}, {"path": "simpler/ms3/somewhere/else.glb"}]
    (other / "STANDINS.json").write_text(json.dumps({"standins": listed}))
    again = maniskill3_files(folder_with(other, "eggplant_in_basket"), TASKS["eggplant_in_basket"])
    assert stand_ins(again) == {"table"}


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
