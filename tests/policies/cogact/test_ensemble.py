"""The adaptive ensemble against the official one."""

from __future__ import annotations

import numpy as np
import pytest

from policies.cogact.ensemble import AdaptiveEnsemble
from tests.policies.vla.reference import vectors

META = vectors("ensemble").meta


@pytest.mark.parametrize("horizon", META["horizons"])
@pytest.mark.parametrize("case", list(META["cases"]))
def test_the_ensemble_gives_the_official_actions(case: str, horizon: int) -> None:
    ref = vectors("ensemble")
    options = META["cases"][case]
    ensemble = AdaptiveEnsemble(horizon, options["alpha"])
    found = []
    for call, chunk in enumerate(ref[f"in__{case}__chunks"]):
        if call in options.get("reset_before", []):
            ensemble.clear()
        found.append(ensemble(chunk))
    expected = ref[f"out__{case}__H{horizon}"]
    assert np.stack(found).dtype == expected.dtype
    assert np.allclose(np.stack(found), expected, rtol=0, atol=1e-12 if expected.dtype == np.float64 else 1e-6)


def test_a_chunk_shorter_than_the_horizon_is_an_error() -> None:
    ensemble = AdaptiveEnsemble(4)
    for _ in range(3):
        ensemble(np.ones((3, 7)))
    with pytest.raises(ValueError, match="too short"):
        ensemble(np.ones((3, 7)))


def test_the_ensemble_holds_no_more_chunks_than_its_horizon() -> None:
    ensemble = AdaptiveEnsemble(2)
    for _ in range(100):
        ensemble(np.ones((16, 7)))
    assert len(ensemble.chunks) == 2
