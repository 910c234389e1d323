from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from reports.verdicts import (
    AGREES,
    DIFFERS,
    UNDECIDED,
    Part,
    against_length,
    against_mean,
    against_rate,
    chain_lengths,
    mean_of,
)


def test_a_rate_is_tested_by_fisher_and_its_difference_is_newcombes() -> None:
    # Newcombe (1998), Statistics in Medicine 17:873-890, table II, example (a), method 10: 56/70 and 48/80
    found = against_rate(56, 70, 0.6, 80)
    assert found.interval is not None
    assert (round(found.interval.low, 4), round(found.interval.high, 4)) == (0.0524, 0.3339)
    assert found.p_value == pytest.approx(stats.fisher_exact(np.array([[56, 14], [48, 32]])).pvalue)
    assert (found.word, found.more) == (DIFFERS, 0)


def test_without_published_trials_the_printed_value_is_taken_as_exact() -> None:
    found = against_rate(43, 50, 0.9, None)
    assert found.p_value == pytest.approx(stats.binomtest(43, 50, 0.9).pvalue)
    assert found.difference == pytest.approx(-0.04)


def test_few_episodes_are_undecided_and_never_agree() -> None:
    found = against_rate(9, 10, 0.9, 500)
    assert found.word == UNDECIDED
    assert found.more is not None
    assert found.more > 0


def test_the_episodes_said_to_decide_do_decide_and_fewer_do_not() -> None:
    found = against_rate(45, 50, 0.93, 500)
    assert found.word == UNDECIDED
    assert found.more is not None
    n = 50 + found.more
    assert against_rate(round(0.9 * n), n, 0.93, 500).word != UNDECIDED
    fewer = 50 + found.more // 2
    assert against_rate(round(0.9 * fewer), fewer, 0.93, 500).word == UNDECIDED


def test_a_published_number_of_24_trials_cannot_be_decided_by_more_of_ours() -> None:
    assert against_rate(18, 24, 20 / 24, 24).more is None


def test_agreement_needs_the_90_percent_interval_inside_the_margin() -> None:
    found = against_rate(480, 500, 0.96, 500)
    low, high = confint_proportions_2indep(480, 500, 480, 500, compare="diff", method="newcomb", alpha=0.1)
    assert max(-low, high) < 0.05
    assert found.word == AGREES
    assert against_rate(480, 500, 0.96, 500, margin=0.01).word == UNDECIDED


def test_equal_policies_are_said_to_differ_at_most_5_times_in_100() -> None:
    drawn = np.random.default_rng(1).binomial([20, 40], 0.7, size=(10_000, 2))
    cases = {(int(k), int(m)) for k, m in drawn}
    p_values = {(k, m): stats.fisher_exact(np.array([[k, 20 - k], [m, 40 - m]])).pvalue for k, m in cases}
    assert against_rate(14, 20, 30 / 40, 40).p_value == pytest.approx(p_values[14, 30])
    assert np.mean([p_values[int(k), int(m)] < 0.05 for k, m in drawn]) <= 0.05


def test_a_mean_of_one_rate_is_that_rate() -> None:
    found = against_mean([Part(80, 100, 1.0)], [Part(60, 100, 1.0)], 0.6)
    alone = against_rate(80, 100, 0.6, 100)
    assert found.interval is not None
    assert alone.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((alone.interval.low, alone.interval.high))
    assert found.word == alone.word == DIFFERS


def test_the_p_value_of_a_mean_is_the_level_at_which_its_interval_reaches_zero() -> None:
    ours, theirs = [Part(18, 24, 0.5), Part(11, 24, 0.5)], [Part(21, 24, -0.5), Part(16, 24, -0.5)]
    found = against_mean(ours, [Part(21, 24, 0.5), Part(16, 24, 0.5)], 0.77)
    assert 0 < found.p_value < 1
    assert mean_of([*ours, *theirs], found.p_value).high == pytest.approx(0, abs=1e-9)


def test_a_mean_weighs_its_parts() -> None:
    parts = [Part(10, 10, 0.25), Part(0, 90, 0.75)]
    assert against_mean(parts, [], 0.25).difference == pytest.approx(0.0)  # not 10/100


@pytest.mark.parametrize("rates", [(0.9, 0.8, 0.95, 1.0), (0.5, 0.2, 0.7, 0.05), (0.75, 0.75, 0.4, 0.9)])
def test_the_interval_of_a_mean_holds_the_truth_93_to_97_times_in_100(rates: tuple[float, ...]) -> None:
    drawn = np.random.default_rng(4).binomial(24, rates, size=(10_000, len(rates)))
    limits = np.array([[*proportion_confint(k, 24, method="wilson")] for k in range(25)])
    below = np.sqrt((((drawn / 24 - limits[drawn, 0]) / 4) ** 2).sum(axis=1))
    above = np.sqrt((((limits[drawn, 1] - drawn / 24) / 4) ** 2).sum(axis=1))
    centre = drawn.mean(axis=1) / 24
    first = mean_of([Part(int(k), 24, 0.25) for k in drawn[0]])  # the arrays above are the function, many at once
    assert (first.low, first.high) == pytest.approx((centre[0] - below[0], centre[0] + above[0]))
    held = (centre - below <= np.mean(rates)) & (np.mean(rates) <= centre + above)
    assert 0.93 <= held.mean() <= 0.97


def test_published_chains_can_be_laid_out_again() -> None:
    lengths = chain_lengths([0.956, 0.902, 0.857, 0.817, 0.761], 1000)
    assert len(lengths) == 1000
    assert np.mean(lengths) == pytest.approx(4.293)  # the published 4.29
    assert np.mean([length >= 3 for length in lengths]) == pytest.approx(0.857)


def test_lengths_differ_agree_or_are_undecided() -> None:
    theirs = chain_lengths([0.956, 0.902, 0.857, 0.817, 0.761], 1000)
    worse = chain_lengths([0.8, 0.6, 0.4, 0.2, 0.1], 1000)
    assert against_length(worse, 4.29, theirs, 0.25).word == DIFFERS
    assert against_length(theirs, 4.29, theirs, 0.25).word == AGREES
    few = against_length(theirs[::20], 4.29, theirs, 0.25)
    assert few.word == UNDECIDED
    assert few.more is not None
    assert against_length([5.0], 4.29, theirs, 0.25).word == UNDECIDED
