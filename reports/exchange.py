"""Evidence that a policy got worse, which may be looked at every night.

The question is whether nothing has changed: for every scene, tonight's outcome is as likely as any earlier one's. If
so, the nights are exchangeable scene by scene, and given how often a scene was solved over all nights, each night is
as likely as any other to hold each success. Tonight's number of successes then follows a Poisson-binomial law, whose
lower tail is tonight's p value; on the second night this is the exact one-sided McNemar test. Such p values of
successive nights are independent and uniform (or larger), whatever the scenes' own rates: conformal testing of
exchangeability, Vovk, Nouretdinov, Gammerman (2003), ICML; Vovk, Gammerman, Shafer (2022), Algorithmic Learning in a
Random World, chapter 8.

Unlike a test of each night against one fixed baseline, this is not fooled by a baseline that was lucky: that luck would
count against every later night, and no number of repetitions would be evidence.

Every p value is a bet with the stake KAPPA p^(KAPPA - 1), whose mean under no change is at most 1 (Shafer, Shen,
Vereshchagin, Vovk 2011, Statistical Science 26:84-101). A change may come on any night, so money is kept back for each:
1/(s(s+1)) of it is first staked on night s. The wealth is a test supermartingale, and by Ville's inequality it reaches
1/alpha with probability at most alpha, however many nights one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from envs.spec import SceneId

KAPPA = 0.25
LEAST = 1e-12
"""Smaller p values are taken as this: the arithmetic of a tail is not exact below it."""


@dataclass(frozen=True)
class Evidence:
    """The nights since the baseline (which is not among them). p_values, wealth: one a night; scenes: informative
    scenes of each night, those not solved always or never so far."""

    p_values: tuple[float, ...]
    wealth: tuple[float, ...]
    scenes: tuple[int, ...]

    def first_above(self, bound: float) -> int | None:
        """The first night (0: the one after the baseline) on which the wealth reached `bound`, or None."""
        return next((night for night, value in enumerate(self.wealth) if value >= bound), None)


def night_p_value(solved: npt.ArrayLike, nights: npt.ArrayLike, tonight: npt.ArrayLike) -> tuple[float, int]:
    """(p value of tonight being no worse, informative scenes), over scenes [S].

    solved, nights: successes and attempts of each scene before tonight (nights 1 or more); tonight: success.
    """
    now = np.asarray(tonight, dtype=np.int64)
    total = np.asarray(solved, dtype=np.int64) + now
    share = total / (np.asarray(nights, dtype=np.int64) + 1)
    open_ = (share > 0) & (share < 1)
    if not open_.any():
        return 1.0, 0
    found = float(stats.poisson_binom(share[open_]).cdf(now[open_].sum()))
    return min(1.0, max(found, LEAST)), int(open_.sum())


def wealth(p_values: Iterable[float]) -> tuple[float, ...]:
    """The wealth after each night, 1 before the first."""
    found, staked = [], 0.0
    for night, p_value in enumerate(p_values, start=1):
        staked = (staked + 1 / (night * (night + 1))) * KAPPA * max(p_value, LEAST) ** (KAPPA - 1)
        found.append(staked + 1 / (night + 1))
    return tuple(found)


def evidence(nights: Sequence[Mapping[SceneId, bool]]) -> Evidence:
    """The evidence of the nights after the first, which is the baseline. Only scenes of the baseline count; a scene
    that is missing on a night says nothing about it."""
    if not nights:
        raise ValueError("there is no evidence without a baseline")
    solved = {scene: int(success) for scene, success in nights[0].items()}
    seen = dict.fromkeys(solved, 1)
    p_values, scenes = [], []
    for night in nights[1:]:
        here = [scene for scene in night if scene in solved]
        p_value, informative = night_p_value(
            [solved[s] for s in here], [seen[s] for s in here], [night[s] for s in here]
        )
        p_values.append(p_value)
        scenes.append(informative)
        for scene in here:
            solved[scene] += int(night[scene])
            seen[scene] += 1
    return Evidence(tuple(p_values), wealth(p_values), tuple(scenes))
