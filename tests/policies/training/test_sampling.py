"""`group` and `stream` sampling: what the released training does, as functions of (seed, update)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from policies.training.demos import DemoError
from policies.training.sampling import GroupSampler, Mixture, StreamPiece, StreamSampler

LENGTHS = (40, 7, 16, 25, 60)
DATASETS = ("a", "a", "a", "b", "b")
MIXTURE = Mixture(LENGTHS, DATASETS)


def test_a_group_is_frames_of_one_trajectory_in_order_without_repetition() -> None:
    pieces, frames = GroupSampler(MIXTURE, groups=200, seed=1).draw(0, 0, 1)
    assert frames == 200 * 16
    for piece in pieces:
        length = LENGTHS[piece.demo]
        assert len(piece.frames) == 16
        assert piece.frames.max() < length
        if length >= 16:
            assert (np.diff(piece.frames) > 0).all()
        else:
            np.testing.assert_array_equal(piece.frames, [*range(length), *[length - 1] * (16 - length)])
        np.testing.assert_array_equal(piece.times, piece.frames)


def test_groups_come_in_proportion_to_transitions_and_weights() -> None:
    for weights in ({}, {"b": 3.0}, {"a": 0.0}):
        sampler = GroupSampler(Mixture(LENGTHS, DATASETS, weights), groups=4000, seed=2)
        count = Counter(DATASETS[piece.demo] for piece in sampler.draw(0, 0, 1)[0])
        a, b = 63 * weights.get("a", 1.0), 85 * weights.get("b", 1.0)
        assert count["b"] / 4000 == pytest.approx(b / (a + b), abs=0.03)


SAMPLERS = (
    lambda seed: GroupSampler(MIXTURE, groups=4, seed=seed),
    lambda seed: StreamSampler(MIXTURE, streams=4, frames=32, seed=seed),
)


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_draw_depends_on_seed_and_update_alone(make: Callable[[int], GroupSampler | StreamSampler]) -> None:
    sampler = make(7)
    later = [str(sampler.draw(update, 1, 2)) for update in (9, 3, 5)]
    assert [str(make(7).draw(update, 1, 2)) for update in (9, 3, 5)] == later
    others = [make(8).draw(9, 1, 2), make(7).draw(8, 1, 2), make(7).draw(9, 0, 2)]
    assert all(str(other) != later[0] for other in others)


@pytest.mark.parametrize("make", SAMPLERS)
def test_processes_share_one_batch(make: Callable[[int], GroupSampler | StreamSampler]) -> None:
    whole, frames = make(3).draw(11, 0, 1)
    for world in (2, 4):
        parts = [make(3).draw(11, rank, world) for rank in range(world)]
        assert sorted(str(piece) for pieces, _ in parts for piece in pieces) == sorted(map(str, whole))
        assert [divisor for _, divisor in parts] == [frames / world] * world
    with pytest.raises(DemoError, match="cannot be shared evenly"):
        make(3).draw(11, 0, 3)


def test_a_stream_is_whole_trajectories_one_after_another() -> None:
    sampler = StreamSampler(MIXTURE, streams=1, frames=32, seed=3)
    total = sum(LENGTHS)
    updates = 3 * total // 32
    seen: dict[tuple[int, ...], list[int]] = {}
    order: list[tuple[int, ...]] = []
    demo_of: dict[tuple[int, ...], int] = {}
    for update in range(updates):
        pieces, frames = sampler.draw(update, 0, 1)
        assert sum(len(piece.frames) for piece in pieces) == frames == 32
        for piece in pieces:
            assert isinstance(piece, StreamPiece)
            assert piece.before == piece.frames[0], "memory holds what went by in earlier batches"
            if piece.episode not in seen:
                order.append(piece.episode)
            seen.setdefault(piece.episode, []).extend(piece.frames.tolist())
            demo_of[piece.episode] = piece.demo
    for episode in order[:-1]:
        assert seen[episode] == list(range(LENGTHS[demo_of[episode]]))
    for number in range(2):
        each = [demo_of[episode] for episode in order[number * 5 : number * 5 + 5]]
        assert sorted(each) == [0, 1, 2, 3, 4], "a pass goes over every trajectory once"
    assert [demo_of[e] for e in order[:5]] != [demo_of[e] for e in order[5:10]]


def test_weights_of_a_stream_are_times_a_pass_goes_over_a_dataset() -> None:
    sampler = StreamSampler(Mixture(LENGTHS, DATASETS, {"b": 2.5, "a": 0.5}), streams=1, frames=64, seed=4)
    frames = Counter[str]()
    for update in range(800):
        for piece in sampler.draw(update, 0, 1)[0]:
            frames[DATASETS[piece.demo]] += len(piece.frames)
    a, b = 0.5 * 63, 2.5 * 85
    assert frames["b"] / frames.total() == pytest.approx(b / (a + b), abs=0.02)


def test_mixtures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(DemoError, match="a weight is given for c, but the demonstrations are of a, b"):
        Mixture(LENGTHS, DATASETS, {"c": 1.0})
    with pytest.raises(DemoError, match="weights must be 0 or more"):
        Mixture(LENGTHS, DATASETS, {"a": -1.0})
    with pytest.raises(DemoError, match="all are 0"):
        Mixture(LENGTHS, DATASETS, {"a": 0.0, "b": 0.0})
    with pytest.raises(DemoError, match="process 2 of 2"):
        GroupSampler(MIXTURE, 2, 0).draw(0, 2, 2)
