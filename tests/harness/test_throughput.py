"""What a run will do: the model against what can be worked out by hand, and `memvla tune` for real."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.config import compose_run
from harness.throughput import Demand, Expected, Measured, Supply, best, expect, known


def measured(between_s: float, call_s: dict[int, float], *, on_cpu: float = 0.0, cores: int = 4) -> Measured:
    return Measured(Demand((between_s,), calls=10.0), Supply(call_s, on_cpu), cores)


@pytest.mark.parametrize(("workers", "per_s"), [(1, 10.0), (2, 20.0), (4, 40.0), (8, 40.0), (13, 40.0)])
def test_simulators_alone_scale_to_the_cores_and_no_further(workers: int, per_s: float) -> None:
    found = expect(measured(0.1, {1: 1e-6, 16: 1e-6}), workers, 16)
    assert found.per_hour == pytest.approx(3600 * per_s / 10, rel=0.01)


def test_a_policy_that_is_the_bound_does_its_batches_back_to_back() -> None:
    """64 sessions that are back at once, batches of 16 in 0.2 s: 80 calls' worth a second."""
    found = expect(measured(1e-6, {1: 0.1, 16: 0.2}, cores=64), 64, 16)
    assert found.per_hour == pytest.approx(3600 * 80 / 10, rel=0.02)
    assert found.batch == pytest.approx(16)
    assert found.busy == pytest.approx(1.0, abs=0.02)


def test_lock_step_sessions_share_one_call() -> None:
    """15 ms of simulator, 20 ms of policy whatever the batch: a cycle of 35 ms for each."""
    found = expect(measured(0.015, {1: 0.020, 16: 0.020}, cores=8), 8, 16)
    assert found.per_hour == pytest.approx(3600 * 8 / 0.035 / 10, rel=0.01)
    assert found.batch == pytest.approx(8)


def test_two_simulators_on_one_core_do_not_fall_into_step() -> None:
    """One computes while the other's call is in flight: else both would compute, then both wait."""
    computes = tuple(0.015 * share for share in (0.9, 0.95, 1.0, 1.05, 1.1))
    found = expect(Measured(Demand(computes, calls=1.0), Supply({1: 0.010, 16: 0.010}, 0.0), cores=1), 2, 16)
    assert found.per_hour * 0.015 / 3600 > 0.9


def test_a_policy_on_the_cpu_takes_its_part_of_the_cores() -> None:
    """One core: 10 ms of simulator and 10 ms of policy come one after another, however many workers there are."""
    alone = measured(0.010, {1: 0.010, 2: 0.020}, on_cpu=1.0, cores=1)
    rates = [expect(alone, workers, 16).per_hour for workers in (1, 2, 4)]
    assert rates == pytest.approx([3600 / 0.020 / 10] * 3, rel=0.02)
    gpu = measured(0.010, {1: 0.010, 2: 0.010}, on_cpu=0.0, cores=1)  # two compute in 20 ms, one call serves both
    assert expect(gpu, 2, 16).per_hour == pytest.approx(3600 * 2 / 0.030 / 10, rel=0.02)


def test_seconds_between_measured_sizes_lie_on_the_line() -> None:
    supply = Supply({1: 0.1, 4: 0.4, 8: 0.6}, 1.0)
    assert [supply.seconds(n) for n in (1, 2, 4, 6, 16)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 1.0])
    assert Supply({1: 0.1}, 1.0).seconds(5) == 0.1


def test_the_best_is_the_fewest_workers_that_come_near_the_top() -> None:
    curve = [Expected(workers, 16, rate, 1.0, 0.5) for workers, rate in ((1, 50.0), (2, 99.0), (4, 100.0), (8, 90.0))]
    assert best(curve).workers == 2


def test_tune_measures_and_a_dry_run_then_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = ["suite=lab_smoke", "policy=remembering", "run.trials=20"]
    before = CliRunner().invoke(app, ["run", *words, "--dry-run"])
    assert "memvla tune" in before.output
    done = CliRunner().invoke(app, ["tune", *words, "cluster=inline"])
    assert done.exit_code == 0, done.output
    assert "cluster.workers=" in done.output
    config = compose_run(words)
    found = known(config.suites[0], config.policies[0])
    assert found is not None
    assert set(found.supply.call_s) == {1, 2, 4, 8, 16}
    assert found.demand.calls > 1
    assert all(math.isfinite(each) and each > 0 for each in found.demand.between_s)
    after = CliRunner().invoke(app, ["run", *words, "--dry-run"])
    assert "as measured" in after.output
    (file,) = (tmp_path / "tuned").iterdir()
    file.write_text(json.dumps({"demand": 1}))
    assert known(config.suites[0], config.policies[0]) is None


def test_tune_through_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMVLA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["tune", "suite=lab_smoke", "policy=remembering"])
    assert done.exit_code == 0, done.output
    assert "policy calls an episode" in done.output
