"""The packed list against the benchmark's own, and what every variant says of itself."""

from __future__ import annotations

import runpy
from collections import Counter

import numpy as np
import pytest

from envs.base import SceneError
from envs.libero import instruction
from envs.libero_plus import SUITES, upstream, variants
from suites.protocol import load_suite

LIBERO = SUITES["libero_plus"]


@pytest.mark.parametrize("suite", LIBERO)
def test_names_are_the_benchmarks_own_in_its_order(suite: str) -> None:
    known = runpy.run_path(str(upstream.folder() / "benchmark" / "libero_suite_task_map.py"))["libero_task_map"]
    assert [variant.name for variant in variants.of_suites((suite,))] == known[suite]


def test_every_problem_and_every_file_of_states_is_there() -> None:
    states = upstream.folder() / "init_files"
    for variant in variants.of_suites(LIBERO):
        assert upstream.problem_file(variant).is_file(), variant.name
        assert (states / variant.states).is_file(), variant.name


def test_states_are_read_without_torch_and_equal_liberos_where_nothing_moved() -> None:
    """Fifty states of a base task, as the wheels of LIBERO hold them; one where objects moved."""
    from envs.libero.upstream import task_files

    plain = next(v for v in variants.of_suites(("libero_goal",)) if v.base == "turn_on_the_stove" and v.noise)
    assert np.array_equal(upstream.states(plain), task_files("libero_goal", "turn_on_the_stove").states)
    moved = next(v for v in variants.of_suites(("libero_goal",)) if v.kind == "layout")
    assert len(upstream.states(moved)) == 1


def test_a_file_that_holds_more_than_numbers_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    import os
    import pickle
    import zipfile

    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("false",)

    variant = next(v for v in variants.of_suites(("libero_goal",)) if v.noise)
    target = tmp_path / "init_files" / variant.states
    target.parent.mkdir(parents=True)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Harm()))
    monkeypatch.setattr(upstream, "folder", lambda: tmp_path)
    with pytest.raises(SceneError, match=r"expected nothing but an array"):
        upstream.states(variant)


def test_language_variants_have_their_own_sentence_and_no_other_has_the_perturbations_words() -> None:
    """Five of each suite: a rewritten sentence, never a word of the variant's name."""
    for suite in LIBERO:
        found = [variant for variant in variants.of_suites((suite,)) if variant.kind == "language"][::90]
        for variant in found:
            words = upstream.sentence(upstream.problem_file(variant))
            assert words != instruction(variant.base)
            assert "initstate" not in words
            assert len(words.split()) > 2
    for task in load_suite("libero_plus").tasks:
        assert not any(word in task.instruction.split() for word in ("view", "initstate", "noise", "sample1", "add"))


def test_what_each_dimension_changes_is_in_the_options_of_the_simulation() -> None:
    kinds = Counter(variant.kind for variant in variants.of_suites(LIBERO))
    assert kinds == {
        "noise": 1601, "camera": 1599, "robot": 1550, "language": 1537, "light": 1142, "add": 829, "layout": 696,
        "table": 613, "tb": 463,
    }  # fmt: skip
