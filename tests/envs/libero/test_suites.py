"""The five YAML files against the benchmark's own lists."""

from __future__ import annotations

import importlib

import pytest

from envs.libero import SUITES
from envs.libero.upstream import libero, task_names
from suites.protocol import load_suite

LIMITS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520, "libero_90": 400}


@pytest.mark.parametrize("name", SUITES)
def test_tasks_and_sentences_are_the_benchmarks_own_in_its_order(name: str) -> None:
    libero()
    benchmark = importlib.import_module("libero.libero.benchmark")
    suite = load_suite(name)
    assert [task.name for task in suite.tasks] == task_names(name)
    for task in suite.tasks:
        assert task.instruction == benchmark.task_maps[name][task.name].language


@pytest.mark.parametrize("name", SUITES)
def test_the_protocol_is_the_reference_evaluations(name: str) -> None:
    protocol = load_suite(name).protocol
    assert protocol.max_steps == LIMITS[name]
    assert (protocol.trials, protocol.scene_seed, protocol.success) == (50, 0, "once")


def test_there_are_130_tasks() -> None:
    assert sum(len(load_suite(name).tasks) for name in SUITES) == 130
