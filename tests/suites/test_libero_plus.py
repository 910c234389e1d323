"""LIBERO-Plus as data: 10,030 tasks without its simulator, the published counts, and what a machine cannot cover."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from envs.libero_plus import SUITES, assets, variants
from harness.config import compose_run
from harness.runs import tasks_of
from suites.protocol import SuiteError, load_suite
from suites.published import paper_table

COUNTS = {
    "libero_plus_spatial": (258, 350, 376, 390, 351, 385, 292),
    "libero_plus_object": (248, 398, 396, 354, 422, 403, 297),
    "libero_plus_goal": (281, 409, 408, 410, 379, 425, 279),
    "libero_plus_10": (289, 393, 419, 383, 449, 312, 274),
}
"""Variants by dimension in the benchmark's own classification."""
DIMENSIONS = (
    *("background_textures", "robot_initial_states", "camera_viewpoints", "language_instructions"),
    *("sensor_noise", "objects_layout", "light_conditions"),
)


@pytest.fixture(autouse=True)
def _no_own_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.delenv(assets.VARIABLE, raising=False)
    variants.difficulties.cache_clear()


@pytest.mark.parametrize("name", COUNTS)
def test_dimensions_have_the_benchmarks_own_counts(name: str) -> None:
    found = Counter(task.tags["dimension"] for task in load_suite(name).tasks)
    assert tuple(found[each] for each in DIMENSIONS) == COUNTS[name]


def test_all_four_together_are_10030_and_6983_run_on_liberos_assets() -> None:
    suite = load_suite("libero_plus")
    names = [task.name for task in suite.tasks]
    assert len(set(names)) == 10030 == sum(len(load_suite(each).tasks) for each in COUNTS)
    beyond = suite.not_covered(names)
    assert len(names) - len(beyond) == 6983
    assert all(assets.VARIABLE in reason for reason in beyond.values())
    assert {suite.task(name).tags["assets"] for name in beyond} == {"archive"}


def test_the_published_average_has_the_weights_of_these_suites() -> None:
    counts = Counter(task.tags["dimension"] for task in load_suite("libero_plus").tasks)
    for name in ("libero_plus/zero_shot", "libero_plus/sft"):
        table = paper_table(name)
        average = table.cell("Average")
        parts = [table.cell(title) for title in average.parts]
        assert average.weights == tuple(counts[cell.tags["dimension"]] for cell in parts)


def test_step_limits_are_those_of_liberos_suites_and_instructions_are_clean() -> None:
    for name, own in SUITES.items():
        if len(own) == 1:
            limit = load_suite(own[0]).protocol.max_steps
            assert {load_suite(name).max_steps(task.name) for task in load_suite(name).tasks} == {limit}
    words = {task.instruction for suite in SUITES["libero_plus"] for task in load_suite(suite).tasks}
    clean = {task.instruction for task in load_suite("libero_plus").tasks if task.instruction}
    assert clean <= words


def test_dimension_and_sample_choose_tasks_of_a_run(tmp_path: Path) -> None:
    suite = load_suite("libero_plus_goal")

    def chosen(*words: str) -> list[str]:
        rules = compose_run([f"run.dir={tmp_path}", "suite=libero_plus_goal", "policy=random", *words]).settings.run
        return tasks_of(suite, rules)

    assert len(chosen("run.tags=[dimension:sensor_noise]")) == 379
    both = chosen("run.tags=[dimension:sensor_noise,dimension:objects_layout,assets:base]")
    assert len(both) == 379 + 185
    some = chosen("run.tags=[dimension:sensor_noise,dimension:objects_layout,assets:base]", "run.sample=47")
    assert len(set(some)) == 47
    assert set(some) < set(both)
    assert len({suite.task(name).tags["base"] for name in some}) == 10, "spread over the ten tasks"
    with pytest.raises(SuiteError, match=r"did you mean .*dimension:sensor_noise"):
        chosen("run.tags=[dimension:sensor_noize]")


def test_difficulty_is_a_filter_where_the_benchmarks_classification_lies_and_no_part_of_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file as the benchmark has it; the suite is read anew, as another process would."""
    plain = load_suite("libero_plus_goal")
    folder = tmp_path / "assets" / "libero_plus"
    folder.mkdir(parents=True)
    listed = [{"name": task.name, "difficulty_level": k % 5 + 1} for k, task in enumerate(plain.tasks)]
    listed[0]["difficulty_level"] = None  # as 121 of this suite's are
    (folder / assets.CLASSIFICATION).write_text(json.dumps({"libero_goal": listed}))
    variants.difficulties.cache_clear()
    monkeypatch.setenv(assets.VARIABLE, str(folder))  # as a worker is told
    assert assets.find_assets() is None, "the classification alone is no archive, and no mistake"
    copy = tmp_path / "libero_plus_goal.yaml"
    copy.write_text((Path(__file__).parents[2] / "suites" / "libero_plus_goal.yaml").read_text())
    from suites.protocol import _parse

    suite = _parse(copy)
    assert suite.fingerprint() == plain.fingerprint()
    assert Counter(task.marks.get("difficulty") for task in suite.tasks)["3"] == len(listed[2::5])
    assert suite.tasks[0].marks == {}
    variants.difficulties.cache_clear()


def test_a_folder_that_is_named_and_is_not_the_archive_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
    suite = load_suite("libero_plus_10")
    with pytest.raises(SuiteError, match=r"not in .*scenes/tabletop250.*named by MEMVLA_LIBERO_PLUS_ASSETS"):
        suite.not_covered([suite.tasks[0].name])
    for name in assets.NEEDED:
        (tmp_path / "assets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "assets" / name).touch()
    assert suite.not_covered([task.name for task in suite.tasks]) == {}
    assert assets.find_assets(str(tmp_path / "assets")) == tmp_path
