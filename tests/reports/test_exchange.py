from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from envs.spec import SceneId
from reports.exchange import KAPPA, evidence, night_p_value, wealth

SCENES = [SceneId("lab", "press", i) for i in range(500)]


def nights(*outcomes: str) -> list[dict[SceneId, bool]]:
    return [{s: sign == "x" for s, sign in zip(SCENES, night, strict=False) if sign != " "} for night in outcomes]


def p_values(drawn: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """`night_p_value` for many histories at once: outcomes [R, N, S] give p values [R, N - 1], by convolution."""
    runs, count, scenes = drawn.shape
    totals = np.cumsum(drawn, axis=1)
    found = np.empty((runs, count - 1))
    for t in range(1, count):
        share = totals[:, t] / (t + 1)
        law = np.zeros((runs, scenes + 1))
        law[:, 0] = 1
        for s in range(scenes):
            q = share[:, s, None]
            law[:, 1:] = law[:, 1:] * (1 - q) + law[:, :-1] * q
            law[:, :1] *= 1 - q
        tail = np.cumsum(law, axis=1)
        found[:, t - 1] = tail[np.arange(runs), drawn[:, t].sum(axis=1)]
    return np.clip(found, 1e-12, 1)


def alarms(rates: npt.NDArray[np.float64], scenes: npt.NDArray[np.float64], runs: int) -> npt.NDArray[np.int64]:
    """The first night [R] whose wealth reaches 20, 0 for none. rates: factor on the scenes' rates by night, baseline
    first."""
    drawn = np.random.default_rng(3).random((runs, len(rates), len(scenes))) < rates[:, None] * scenes
    found = p_values(drawn)
    for r in range(3):  # the arrays above are the module's own function, many at once
        for t in range(1, min(4, len(rates))):
            one, _ = night_p_value(drawn[r, :t].sum(axis=0), np.full(len(scenes), t), drawn[r, t])
            assert one == pytest.approx(found[r, t - 1], rel=1e-6, abs=1e-10)
    above = np.array([wealth(each) for each in found]) >= 20
    return np.where(above.any(axis=1), above.argmax(axis=1) + 1, 0)


@pytest.mark.parametrize(("down", "up"), [(8, 2), (1, 0), (5, 5), (0, 4)])
def test_the_second_night_is_the_exact_one_sided_mcnemar_test(down: int, up: int) -> None:
    before, after = "x" * down + "." * up + "xx..", "." * down + "x" * up + "xx.."
    found = evidence(nights(before, after))
    assert found.p_values[0] == pytest.approx(stats.binom.cdf(up, up + down, 0.5))
    assert found.scenes == (up + down,)


def test_nights_that_are_all_alike_are_no_evidence() -> None:
    found = evidence(nights(*["xx.x..x" * 10] * 30))
    assert set(found.p_values) == {1.0}
    assert max(found.wealth) < 1
    assert found.first_above(20) is None


def test_getting_better_is_never_an_alarm() -> None:
    found = evidence(nights("." * 100, "x" * 100, "x" * 100))
    assert max(found.wealth) < 1


def test_a_lasting_drop_is_found_also_for_a_policy_without_noise() -> None:
    found = evidence(nights(*["x" * 40] * 10, *["x" * 36 + "." * 4] * 4))
    night = found.first_above(20)
    assert night is not None
    assert 9 <= night <= 11  # the ninth night after the baseline is the first bad one


def test_a_lucky_baseline_is_not_counted_again_every_night() -> None:
    rng = np.random.default_rng(0)
    lucky = np.ones(200, dtype=bool)
    outcomes = [lucky, *(rng.random((40, 200)) < 0.97)]
    made = [{s: bool(v) for s, v in zip(SCENES, night, strict=False)} for night in outcomes]
    against_baseline = np.prod(
        [KAPPA * stats.binom.cdf(0, max(1, (~n).sum()), 0.5) ** (KAPPA - 1) for n in outcomes[1:]]
    )
    assert against_baseline > 20  # what multiplying nightly tests against that night would have said
    assert max(evidence(made).wealth) < 20


def test_the_stake_is_fair_at_every_p_value_it_can_meet() -> None:
    grid = (np.arange(1_000_000) + 0.5) / 1_000_000
    assert np.mean(KAPPA * grid ** (KAPPA - 1)) <= 1.0


def test_p_values_of_no_change_are_not_too_small() -> None:
    rng = np.random.default_rng(2)
    rates = rng.beta(2, 1, 60)
    found = p_values(rng.random((10_000, 4, 60)) < rates)[:, -1]
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(found <= level) <= level + 3 * np.sqrt(level * (1 - level) / len(found))


@pytest.mark.parametrize("kind", ["mixed", "alike"])
def test_60_nights_of_looking_raise_a_false_alarm_at_most_5_times_in_100(kind: str) -> None:
    rng = np.random.default_rng(9)
    scenes = rng.beta(2, 1, 60) if kind == "mixed" else np.full(60, 0.5)
    found = alarms(np.ones(61), scenes, 1000)
    assert np.mean(found > 0) <= 0.05


@pytest.mark.parametrize("good", [1, 2, 6])
def test_a_drop_of_10_points_on_500_scenes_is_found_within_3_nights_9_times_in_10(good: int) -> None:
    scenes = np.random.default_rng(1).beta(1.6, 0.4, 500)  # 80 % on average, some scenes easy and some hard
    rates = np.concatenate([np.ones(good), np.full(3, 1 - 0.1 / scenes.mean())])
    found = alarms(rates, scenes, 300)
    assert np.mean(found >= good) >= 0.9


def test_scenes_that_are_missing_or_new_do_not_count() -> None:
    whole = evidence(nights("xxxx....", "...x...."))
    missing = evidence(nights("xxxx....", "...x....", "   x    "))
    assert missing.p_values[0] == whole.p_values[0]
    assert missing.p_values[1] == 1.0
    new = evidence([nights("xxxx")[0], nights("...xxxxx")[0]])
    assert new.scenes == (3,)


def test_without_a_baseline_there_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="baseline"):
        evidence([])
