"""Statistics of episodes. SciPy and statsmodels do the arithmetic; this module says which of it is meant.

It loads SciPy, so only reporting imports it. All intervals are two-sided at 95 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from envs.spec import SceneId

CONFIDENCE = 0.95
RESAMPLES = 9999
_BATCH = 2_000_000  # numbers held at once while resampling


@dataclass(frozen=True)
class Interval:
    """Both ends of a 95 % confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """`successes` of `n` scored episodes. `value` and Wilson's `interval` are None when nothing was scored."""

    successes: int
    n: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Mean:
    """The mean of `n` numbers. `interval`: bootstrap (BCa); None below two numbers or when all are equal."""

    n: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same scenes of one suite.

    both, only_a, only_b, neither: scenes by who succeeded; unmatched: scenes both scored whose scene hashes differ,
    left out; p_value: exact McNemar test of equal success rates; difference: rate of `a` less rate of `b`; interval:
    Tango's score interval for it. All three are None without scenes.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    unmatched: int
    p_value: float | None
    difference: float | None
    interval: Interval | None

    @property
    def n(self) -> int:
        """Scenes compared."""
        return self.both + self.only_a + self.only_b + self.neither


def success_rate(outcomes: Iterable[bool]) -> Rate:
    """The success rate with Wilson's score interval (statsmodels `proportion_confint`)."""
    values = [bool(outcome) for outcome in outcomes]
    successes, n = sum(values), len(values)
    if n == 0:
        return Rate(0, 0, None, None)
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    value = successes / n
    # none and all lie on the end of their intervals, which rounding may miss by 1e-19
    return Rate(successes, n, value, Interval(max(0.0, min(float(low), value)), min(1.0, max(float(high), value))))


def task_mean(rates: Sequence[Rate]) -> float | None:
    """The mean of the tasks' success rates: each task weighs the same, as the benchmarks' papers average.

    None when a task has no scored episode: the mean of the others would be another number.
    """
    values = [rate.value for rate in rates if rate.value is not None]
    if not values or len(values) < len(rates):
        return None
    return float(np.mean(values))


def mean(values: Iterable[float], *, interval: bool = True) -> Mean:
    """The mean with a BCa bootstrap interval (scipy.stats.bootstrap), the same on every call."""
    data = np.asarray(list(values), dtype=np.float64)
    if len(data) == 0:
        return Mean(0, None, None)
    value = float(data.mean())
    if not interval or len(data) < 2 or bool((data == data[0]).all()):
        return Mean(len(data), value, None)
    return Mean(len(data), value, _bootstrap(data))


def compare(a: Mapping[SceneId, tuple[bool, str]], b: Mapping[SceneId, tuple[bool, str]]) -> Comparison:
    """Compare two policies on the scenes both have scored. Scene -> (success, scene hash).

    Only scenes with equal hashes count: another scene under the same name is no pair.
    """
    shared = sorted(set(a) & set(b))
    pairs = [(a[scene][0], b[scene][0]) for scene in shared if a[scene][1] == b[scene][1]]
    unmatched = len(shared) - len(pairs)
    if not pairs:
        return Comparison(0, 0, 0, 0, unmatched, None, None, None)
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    p_value = float(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue)
    n = len(pairs)
    difference = (only_a - only_b) / n
    return Comparison(both, only_a, only_b, neither, unmatched, p_value, difference, tango(n, only_a, only_b))


@lru_cache(maxsize=65536)
def tango(n: int, only_a: int, only_b: int) -> Interval:
    """The score interval for the difference of two rates on the same `n` scenes.

    Tango (1998), Statistics in Medicine 17:891-908; neither SciPy nor statsmodels has an interval for paired rates.
    Raises ValueError for counts that do not fit.
    """
    if n < 1 or only_a < 0 or only_b < 0 or only_a + only_b > n:
        raise ValueError(f"{only_a} and {only_b} of {n} scenes cannot be decided differently")
    z2 = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) ** 2
    found = (only_a - only_b) / n

    def beyond(difference: float) -> float:
        """Above 0 where a difference is refused: the squared score less the bound of its square."""
        share = 2 * n - only_a + only_b
        linear = share * difference - only_a - only_b
        root = np.sqrt(max(linear**2 + 8 * n * only_b * difference * (1 - difference), 0.0))
        rarer = (root - linear) / (4 * n)  # restricted estimate of the rate of `only_b`
        variance = max(2 * rarer + difference * (1 - difference), 0.0)
        return float((n * (found - difference)) ** 2 - z2 * n * variance)

    near = 1e-9  # the found value itself solves the equation where no scene is decided differently
    low = -1.0 if only_b == n else optimize.brentq(beyond, -1.0, found - near)
    high = 1.0 if only_a == n else optimize.brentq(beyond, found + near, 1.0)
    return Interval(float(low), float(high))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several tests (statsmodels `multipletests`); None, where there was no test, is no test."""
    tested = [p for p in p_values if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else ())
    return [None if p is None else float(next(corrected)) for p in p_values]


def success_by_step(steps: Iterable[int], n: int, limit: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """The share of `n` episodes that had succeeded by each step 0..limit: (steps [S], share [S]).

    steps: the step of each success. Means something only where an episode ends at its first success.
    """
    if n < 1:
        raise ValueError("the share of no episodes is no number")
    taken = np.fromiter(steps, dtype=np.int64)
    grid = np.arange(max(limit, int(taken.max(initial=0))) + 1)
    return grid, np.searchsorted(np.sort(taken), grid, side="right") / n


def _bootstrap(data: npt.NDArray[np.float64]) -> Interval | None:
    found = stats.bootstrap(
        (data,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BATCH // len(data)),
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),  # a report says the same on every call
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return Interval(low, high) if np.isfinite([low, high]).all() else None
