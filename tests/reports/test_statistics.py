from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from envs.spec import SceneId
from reports.statistics import (
    RESAMPLES,
    Comparison,
    compare,
    holm,
    mean,
    success_by_step,
    success_rate,
    tango,
    task_mean,
)

Outcomes = dict[SceneId, tuple[bool, str]]


def outcomes(successes: int, n: int) -> list[bool]:
    return [i < successes for i in range(n)]


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[Outcomes, Outcomes]:
    """Two policies' outcomes with these counts."""
    kinds = [(True, True)] * both + [(True, False)] * only_a + [(False, True)] * only_b + [(False, False)] * neither
    scenes = [SceneId("lab", "press", i) for i in range(len(kinds))]
    a = {s: (kind[0], f"h{s.trial}") for s, kind in zip(scenes, kinds, strict=True)}
    b = {s: (kind[1], f"h{s.trial}") for s, kind in zip(scenes, kinds, strict=True)}
    return a, b


# ---------------------------------------------------------------------- rates


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3 (score, no continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(successes: int, n: int, low: float, high: float) -> None:
    rate = success_rate(outcomes(successes, n))
    assert rate.interval is not None
    assert (round(rate.interval.low, 4), round(rate.interval.high, 4)) == (low, high)
    assert rate.value == successes / n


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=60, deadline=None)
def test_wilson_intervals_agree_with_scipy(counts: tuple[int, int]) -> None:
    rate = success_rate(outcomes(*counts))
    other = stats.binomtest(*counts).proportion_ci(0.95, method="wilson")
    assert rate.interval is not None
    assert rate.interval.low == pytest.approx(other.low, abs=1e-9)
    assert rate.interval.high == pytest.approx(other.high, abs=1e-9)
    assert 0 <= rate.interval.low <= rate.successes / rate.n <= rate.interval.high <= 1


@pytest.mark.parametrize("true_rate", [0.05, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n", [20, 50, 200])
def test_wilson_intervals_hold_the_true_rate_about_95_times_in_100(true_rate: float, n: int) -> None:
    drawn = np.random.default_rng(7).binomial(n, true_rate, size=20_000)
    intervals = [success_rate(outcomes(k, n)).interval for k in range(n + 1)]
    held = np.array([i is not None and i.low <= true_rate <= i.high for i in intervals])
    assert 0.92 <= held[drawn].mean() <= 0.98


@pytest.mark.parametrize("n", [20, 50, 200])
def test_wilson_intervals_hold_rates_of_any_size_93_to_97_times_in_100(n: int) -> None:
    rng = np.random.default_rng(8)
    true = rng.uniform(0.01, 0.99, size=10_000)  # at one rate alone the steps of the counts show
    drawn = rng.binomial(n, true)
    intervals = [success_rate(outcomes(k, n)).interval for k in range(n + 1)]
    ends = np.array([(i.low, i.high) for i in intervals if i is not None])[drawn]
    assert 0.93 <= np.mean((ends[:, 0] <= true) & (true <= ends[:, 1])) <= 0.97


def test_nothing_scored_is_no_rate_and_not_zero() -> None:
    rate = success_rate([])
    assert (rate.n, rate.value, rate.interval) == (0, None, None)
    assert success_rate([False]).value == 0.0


def test_the_task_mean_weighs_tasks_alike() -> None:
    rates = [success_rate(outcomes(9, 10)), success_rate(outcomes(0, 2))]
    assert task_mean(rates) == pytest.approx(0.45)  # not 9/12
    assert task_mean([*rates, success_rate([])]) is None
    assert task_mean([]) is None


# ---------------------------------------------------------------------- means


def test_a_bootstrap_interval_is_close_to_students_for_normal_numbers() -> None:
    data = np.random.default_rng(3).normal(60, 12, size=400)
    found = mean(data)
    expected = stats.t.interval(0.95, len(data) - 1, loc=data.mean(), scale=stats.sem(data))
    assert found.value == pytest.approx(data.mean())
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("kind", ["chains", "steps"])
def test_bootstrap_intervals_hold_the_true_mean_93_to_97_times_in_100(kind: str) -> None:
    rng = np.random.default_rng(11)
    law = -np.diff([1, 0.956, 0.902, 0.857, 0.817, 0.761, 0])  # of the lengths of the published CALVIN chains
    shape = (10_000, 60)
    drawn = rng.choice(6, p=law, size=shape).astype(float) if kind == "chains" else rng.gamma(4, 20, size=shape)
    true = law @ np.arange(6) if kind == "chains" else 80.0

    def many(rows: npt.NDArray[np.float64], resamples: int) -> npt.NDArray[np.float64]:
        found = stats.bootstrap(
            (rows,), np.mean, axis=-1, n_resamples=resamples, method="BCa", rng=np.random.default_rng(0)
        )
        return np.stack([found.confidence_interval.low, found.confidence_interval.high])

    one = mean(drawn[0])
    assert one.interval is not None
    assert many(drawn[:1], RESAMPLES)[:, 0] == pytest.approx((one.interval.low, one.interval.high))  # the same, at once
    varied = drawn[(drawn != drawn[:, :1]).any(axis=1)]  # no interval is claimed for equal numbers
    low, high = np.concatenate([many(rows, 499) for rows in np.array_split(varied, 40)], axis=1)
    assert 0.93 <= np.sum((low <= true) & (true <= high)) / len(drawn) <= 0.97


def test_the_same_numbers_give_the_same_interval() -> None:
    data = [1.0, 5.0, 2.0, 8.0, 8.5]
    assert mean(data) == mean(data)


def test_no_interval_is_claimed_where_there_is_none() -> None:
    assert mean([]).value is None
    assert mean([4.0]) == mean([4.0])
    assert mean([4.0]).interval is None
    assert mean([4.0] * 50).interval is None
    assert mean([1.0, 2.0], interval=False).interval is None


def test_many_numbers_fit_into_memory() -> None:
    found = mean(np.random.default_rng(0).integers(0, 2, size=20_000))
    assert found.interval is not None
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(20_000), rel=0.1)


# ---------------------------------------------------------------------- two policies


def test_mcnemar_is_the_exact_binomial_test_on_the_scenes_decided_differently() -> None:
    # Agresti, Categorical Data Analysis (2002), table 10.1: 794, 150, 86, 570
    found = compare(*pair(794, 150, 86, 570))
    assert found.n == 1600
    assert found.p_value == pytest.approx(stats.binomtest(86, 236, 0.5).pvalue, rel=1e-9)
    assert found.p_value == pytest.approx(3.7e-5, rel=0.02)
    assert found.difference == pytest.approx((944 - 880) / 1600)


def test_the_paired_interval_is_close_to_walds_for_many_scenes() -> None:
    b, c, n = 150, 86, 1600
    found = compare(*pair(794, b, c, 570))
    half = 1.96 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    assert found.interval is not None
    assert found.interval.low == pytest.approx((b - c) / n - half, abs=0.002)
    assert found.interval.high == pytest.approx((b - c) / n + half, abs=0.002)


def test_no_scene_decided_differently_is_no_evidence_and_the_interval_says_how_little_is_known() -> None:
    found = compare(*pair(5, 0, 0, 5))
    assert (found.p_value, found.difference) == (1.0, 0.0)
    assert found.interval is not None
    z2 = stats.norm.ppf(0.975) ** 2
    assert found.interval.high == pytest.approx(z2 / (10 + z2))  # Tango's equation solved by hand for no difference
    assert found.interval.low == pytest.approx(-found.interval.high)


@pytest.mark.parametrize(
    ("n", "only_a", "only_b", "low", "high"),
    # Fagerland, Lydersen, Laake (2014), Statistics in Medicine 33:2850-2875: airway hyper-responsiveness (Bentur 2009)
    [(21, 1, 7, -0.517, -0.026)],
)
def test_paired_intervals_are_the_published_ones(n: int, only_a: int, only_b: int, low: float, high: float) -> None:
    found = tango(n, only_a, only_b)
    assert (round(found.low, 3), round(found.high, 3)) == (low, high)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_paired_intervals_hold_the_found_value_and_turn_with_the_policies(counts: tuple[int, int], part: float) -> None:
    n, only_a = counts
    only_b = int(part * (n - only_a))
    found, turned = tango(n, only_a, only_b), tango(n, only_b, only_a)
    assert -1 <= found.low <= (only_a - only_b) / n <= found.high <= 1
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-8)


@pytest.mark.parametrize(("n", "p_a", "p_b"), [(50, 0.15, 0.15), (100, 0.2, 0.1), (100, 0.05, 0.05), (500, 0.24, 0.14)])
def test_paired_intervals_hold_the_true_difference_93_to_97_times_in_100(n: int, p_a: float, p_b: float) -> None:
    drawn = np.random.default_rng(5).multinomial(n, [p_a, p_b, 1 - p_a - p_b], size=10_000)
    found = [tango(n, int(a), int(b)) for a, b, _ in drawn]  # equal counts are computed once
    held = np.mean([i.low <= p_a - p_b <= i.high for i in found])
    assert 0.93 <= held <= 0.97


def test_holm_is_the_step_down_of_the_definition() -> None:
    # by hand: 0.01 x 4, 0.013 x 3 (not below 0.04), 0.04 x 2, 0.2 x 1
    assert holm([0.2, 0.01, None, 0.04, 0.013]) == [0.2, 0.04, None, 0.08, pytest.approx(0.04)]
    assert holm([None]) == [None]


def test_only_scenes_with_equal_hashes_are_pairs() -> None:
    a, b = pair(3, 2, 0, 1)
    first, second = SceneId("lab", "press", 0), SceneId("lab", "press", 3)
    b[first] = (True, "another scene")
    del b[second]
    found = compare(a, b)
    assert found == Comparison(2, 1, 0, 1, 1, found.p_value, found.difference, found.interval)
    assert found.difference == pytest.approx(0.25)


def test_no_common_scene_is_no_comparison() -> None:
    found = compare({SceneId("lab", "a", 0): (True, "h")}, {SceneId("lab", "b", 0): (True, "h")})
    assert (found.n, found.p_value, found.difference) == (0, None, None)


# ---------------------------------------------------------------------- curves


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(0, 20))
@settings(deadline=None)
def test_success_by_step_counts_successes_so_far(steps: list[int], failures: int) -> None:
    n = len(steps) + failures
    if n == 0:
        with pytest.raises(ValueError, match="no episodes"):
            success_by_step(steps, n, 50)
        return
    grid, share = success_by_step(steps, n, 50)
    assert list(grid) == list(range(max([50, *steps]) + 1))
    assert list(share) == [sum(s <= step for s in steps) / n for step in grid]
