"""Our numbers against published ones: does ours agree, differ, or can nobody tell yet, and what would decide it.

Three tests, by what is known. One rate: Fisher's exact test where the published trials are known, else the exact
binomial test against the printed value; the interval of the difference is Newcombe's (statsmodels), or Wilson's less
the printed value. A mean of rates: the same square-and-add interval, and as p value the level at which it just
reaches zero. A mean length: the z test for the p value and the bootstrap (SciPy) for the interval, two-sample where
the published chains can be laid out again.

Agreement is not the absence of a difference: it is claimed only where the 90 % interval of the difference lies within
the margin (two one-sided tests at 5 %; Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from reports.statistics import RESAMPLES, Interval

ALPHA = 0.05
MARGIN = 0.05
"""Differences of rates up to this are no difference worth the name: 5 points."""

MOST_MORE = 1_000_000

AGREES, DIFFERS, UNDECIDED = "agrees", "differs", "undecided"


@dataclass(frozen=True)
class Verdict:
    """What a comparison with a published value says.

    difference: ours less the published one; interval: its 95 % interval; p_value: of no difference; more: episodes to
    add until the verdict is no longer `undecided`, should our rate stay as it is: 0 when decided, None when no number
    of ours can decide it, since the published number rests on too few trials.
    """

    word: str
    difference: float
    interval: Interval | None
    p_value: float
    more: int | None


@dataclass(frozen=True)
class Part:
    """One rate within a sum of rates: successes of n (one or more), and its weight."""

    successes: int
    n: int
    weight: float


def against_rate(successes: int, n: int, value: float, trials: int | None, margin: float = MARGIN) -> Verdict:
    """Our `successes` of `n` against a published rate (0 to 1) of `trials` episodes, None if unknown."""

    def judge(k: int, m: int) -> tuple[str, Interval, float]:
        narrow, wide = (_rate_interval(k, m, value, trials, alpha) for alpha in (2 * ALPHA, ALPHA))
        p_value = _rate_p(k, m, value, trials)
        return _word(p_value, narrow, margin), wide, p_value

    word, interval, p_value = judge(successes, n)
    more = 0 if word != UNDECIDED else _search(lambda m: judge(round(successes / n * m), m)[0], n)
    return Verdict(word, successes / n - value, interval, p_value, more)


def _rate_p(k: int, n: int, value: float, trials: int | None) -> float:
    if trials is None:
        return float(stats.binomtest(k, n, value).pvalue)
    known = round(value * trials)
    return float(stats.fisher_exact(np.array([[k, n - k], [known, trials - known]])).pvalue)


def _rate_interval(k: int, n: int, value: float, trials: int | None, alpha: float) -> Interval:
    if trials is None:
        low, high = proportion_confint(k, n, alpha=alpha, method="wilson")
        return Interval(float(low) - value, float(high) - value)
    known = round(value * trials)
    low, high = confint_proportions_2indep(k, n, known, trials, compare="diff", method="newcomb", alpha=alpha)
    return Interval(float(low), float(high))


def against_mean(ours: Sequence[Part], theirs: Sequence[Part], value: float, margin: float = MARGIN) -> Verdict:
    """A weighted mean of our rates against a published mean. theirs: its parts, or none to take `value` as exact."""
    published = tuple(Part(part.successes, part.n, -part.weight) for part in theirs)
    offset = 0.0 if theirs else -value

    def judge(scale: float) -> tuple[str, Interval, float]:
        parts = tuple(Part(round(p.successes * scale), round(p.n * scale), p.weight) for p in ours) + published
        narrow, wide = (_moved(mean_of(parts, alpha), offset) for alpha in (2 * ALPHA, ALPHA))
        p_value = _touching(lambda alpha: _moved(mean_of(parts, alpha), offset))
        return _word(p_value, narrow, margin), wide, p_value

    word, interval, p_value = judge(1.0)
    n = sum(part.n for part in ours)
    more = 0 if word != UNDECIDED else _search(lambda m: judge(m / n)[0], n)
    return Verdict(word, _centre(ours) - value, interval, p_value, more)


def mean_of(parts: Sequence[Part], alpha: float = ALPHA) -> Interval:
    """The interval of a weighted sum of rates at confidence 1 - alpha: Wilson's limits of each, squared and added.

    Newcombe's way for a difference of two, carried to any sum: Zou and Donner (2008), Statistics in Medicine
    27:1693-1702. SciPy and statsmodels have it for two rates only.
    """
    below = above = 0.0
    for part in parts:
        rate = part.successes / part.n
        low, high = proportion_confint(part.successes, part.n, alpha=alpha, method="wilson")
        down, up = rate - float(low), float(high) - rate
        down, up = (down, up) if part.weight > 0 else (up, down)
        below += (part.weight * down) ** 2
        above += (part.weight * up) ** 2
    return Interval(_centre(parts) - below**0.5, _centre(parts) + above**0.5)


def _centre(parts: Sequence[Part]) -> float:
    return sum(part.weight * part.successes / part.n for part in parts)


def _moved(interval: Interval, by: float) -> Interval:
    return Interval(interval.low + by, interval.high + by)


def _touching(interval: Callable[[float], Interval]) -> float:
    """The p value of no difference: the level at which the interval just reaches zero."""

    def reach(alpha: float) -> float:
        found = interval(alpha)
        return min(-found.low, found.high)  # above 0 while zero lies inside

    least, most = 1e-12, 1.0 - 1e-9
    if reach(least) <= 0:
        return least
    return 1.0 if reach(most) >= 0 else float(optimize.brentq(reach, least, most))


def against_length(ours: Sequence[float], value: float, theirs: Sequence[float] | None, margin: float) -> Verdict:
    """The mean of our chain lengths against a published mean. theirs: the published lengths chain by chain."""
    data = np.asarray(ours, dtype=np.float64)
    other = None if theirs is None else np.asarray(theirs, dtype=np.float64)

    def judge(n: int) -> tuple[str, Interval | None, float]:
        spread = float(data.var(ddof=1)) / n if len(data) > 1 else float("nan")
        spread += 0.0 if other is None else float(other.var(ddof=1)) / len(other)
        error, gap = float(np.sqrt(spread)), float(data.mean()) - value
        if not error > 0:
            return UNDECIDED, None, float("nan")
        p_value = 2 * float(stats.norm.sf(abs(gap) / error))
        reach = float(stats.norm.ppf(1 - ALPHA)) * error
        return _word(p_value, Interval(gap - reach, gap + reach), margin), None, p_value

    word, _, p_value = judge(len(data))
    more = 0 if word != UNDECIDED else _search(lambda m: judge(m)[0], len(data))
    return Verdict(word, float(data.mean()) - value, _length_interval(data, value, other), p_value, more)


def _length_interval(
    data: npt.NDArray[np.float64], value: float, other: npt.NDArray[np.float64] | None
) -> Interval | None:
    if len(data) < 2 or bool((data == data[0]).all()):
        return None
    samples = (data,) if other is None else (data, other)

    def gap(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64] | None = None, axis: int = -1) -> Any:
        return a.mean(axis=axis) - (value if b is None else b.mean(axis=axis))

    bootstrap: Any = stats.bootstrap  # its type depends on the number of samples
    rng = np.random.default_rng(0)
    found = bootstrap(samples, gap, n_resamples=RESAMPLES, batch=200, method="percentile", rng=rng).confidence_interval
    return Interval(float(found.low), float(found.high))


def chain_lengths(rates: Sequence[float], trials: int) -> list[float]:
    """The lengths of `trials` chains of which the shares `rates` did 1, 2, 3 ... subtasks in a row or more."""
    reached = [trials, *(round(rate * trials) for rate in rates), 0]
    return [float(k) for k in range(len(rates) + 1) for _ in range(reached[k] - reached[k + 1])]


def _word(p_value: float, narrow: Interval, margin: float) -> str:
    if p_value < ALPHA:
        return DIFFERS
    return AGREES if -margin < narrow.low and narrow.high < margin else UNDECIDED


def _search(word: Callable[[int], str], n: int) -> int | None:
    """The fewest episodes beyond `n` at which the verdict is decided, to 1 %; None beyond `MOST_MORE`."""
    low, high = n, n
    while word(high) == UNDECIDED:
        low, high = high, 2 * high
        if high - n > MOST_MORE:
            return None
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if word(middle) == UNDECIDED else (low, middle)
    return high - n
