"""Which frames an update sees, and what is to be learnt from each."""

from __future__ import annotations

import numpy as np
import pytest

from policies.training.demos import Demo, DemoError
from policies.training.windows import (
    CallSampler,
    chunk_at,
    next_waypoints,
    normalised,
    share,
    still_action,
    two_hot,
    waypoints_of,
)
from policies.vla.statistics import ActionStatistics, settle, unnormalise
from tests.policies.training.lab_demos import lab_demo

LENGTHS = [9, 30, 55, 3, 41, 70]
GROUPS = ["a", "a", "a", "a", "a", "b"]


def sampler(**changes: object) -> CallSampler:
    given = {"lengths": LENGTHS, "groups": GROUPS, "every": 4, "pieces": 6, "longest": 10, "seed": 3, **changes}
    return CallSampler(**given)  # type: ignore[arg-type]


def test_frames_are_those_of_policy_calls_from_the_start_of_an_episode() -> None:
    for update in range(50):
        for piece in sampler().plan(update):
            assert 0 <= piece.frames[0] < 4
            assert (np.diff(piece.frames) == 4).all()
            assert piece.frames[-1] < LENGTHS[piece.demo]
            assert len(piece.frames) == 10 or piece.frames[-1] + 4 >= LENGTHS[piece.demo]
            assert piece.times.tolist() == list(range(len(piece.frames)))


def test_a_batch_depends_on_seed_and_update_and_on_nothing_before() -> None:
    def plan(seed: int, update: int) -> list[tuple[int, list[int], float]]:
        pieces = sampler(seed=seed).plan(update)
        return [(p.demo, p.frames.tolist(), float(p.generator().random())) for p in pieces]

    once = [plan(3, update) for update in range(5)]
    assert [plan(3, update) for update in reversed(range(5))][::-1] == once
    assert once[0] != once[1]
    assert plan(4, 0) != once[0]


def test_tasks_are_drawn_evenly_however_many_demonstrations_they_have_and_by_weight_if_told() -> None:
    def counts(**changes: object) -> float:
        drawn = [GROUPS[piece.demo] for update in range(200) for piece in sampler(**changes).plan(update)]
        return drawn.count("b") / len(drawn)

    assert counts() == pytest.approx(0.5, abs=0.05)
    assert counts(weights={"a": 3.0, "b": 1.0}) == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_shares_of_processes_are_the_batch_and_their_mean_loss_is_its(world: int) -> None:
    pieces = sampler().plan(0)
    parts = [share(pieces, rank, world) for rank in range(world)]
    assert sorted(id(p) for mine, _ in parts for p in mine) == sorted(map(id, pieces))
    losses = {id(piece): np.random.default_rng(piece.demo).random(len(piece.frames)) for piece in pieces}
    mean = np.mean([sum(losses[id(p)].sum() for p in mine) / frames for mine, frames in parts])
    assert mean == pytest.approx(np.concatenate(list(losses.values())).mean())


def test_more_processes_than_pieces_are_refused() -> None:
    with pytest.raises(DemoError, match="raise pieces"):
        share(sampler(pieces=2).plan(0), 2, 3)


STATISTICS = ActionStatistics(
    np.array([-1.0, -0.5, -1, -1, -1, 0, 0]), np.array([1.0, 1.5, 1, 1, 1, 0, 1]), np.array([True] * 6 + [False])
)


def test_a_chunk_past_the_end_stands_still_and_keeps_the_gripper() -> None:
    actions = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    actions[-1, 6] = 1
    still = still_action(STATISTICS)
    found = chunk_at(actions, 3, 4, still)
    assert (found[:2] == actions[3:]).all()
    assert (found[2:, 6] == 1).all()
    motion = unnormalise(settle(found[2:].copy()), STATISTICS)[:, :6]
    assert np.abs(motion).max() < 1e-6  # no motion at all, although the normalised number is not 0
    assert still[1] == pytest.approx(-0.5)
    assert (chunk_at(actions, 0, 4, still) == actions[:4]).all()


def test_actions_without_labels_of_another_size_or_not_finite_are_refused() -> None:
    demo = lab_demo("press_by_colour", 0)
    parts = {name: getattr(demo, name) for name in demo.__dataclass_fields__}
    broken = demo.actions.copy()  # type: ignore[union-attr]
    broken[1, 1] = np.nan
    for actions, word in ((None, "without actions"), (demo.actions[:, :6], "6 numbers"), (broken, "NaN")):  # type: ignore[index]
        with pytest.raises(DemoError, match=word):
            normalised(Demo(**{**parts, "actions": actions}), STATISTICS)


def test_the_next_waypoint_of_a_press_is_the_button_from_its_first_frame_on() -> None:
    demo = lab_demo("press_by_colour", 1)
    assert demo.state is not None
    assert np.allclose(next_waypoints(demo), demo.state[-1, :3])
    assert demo.state[-1, 2] < 0.03


def test_the_next_waypoint_of_a_grasp_is_the_block_then_the_place_it_is_let_go() -> None:
    demo = lab_demo("pick_place_by_colour", 0)
    assert demo.state is not None
    assert demo.actions is not None
    closing = int(np.flatnonzero(np.diff(demo.actions[:, 6]) < 0)[-1]) + 1
    found = next_waypoints(demo)
    assert np.allclose(found[closing], demo.state[closing, :3])
    assert np.allclose(found[-1], demo.state[-1, :3])
    assert not np.allclose(found[closing + 1], found[closing])


def test_a_dip_of_random_motion_is_no_press() -> None:
    state, actions = np.zeros((40, 8), dtype=np.float32), np.zeros((40, 7), dtype=np.float32)
    state[:, 0] = np.arange(40)
    state[:, 2] = 0.2
    state[[10, 25], 2] = 0.05  # driven there; then by the demonstrator
    off_course = np.arange(40) < 15
    assert waypoints_of(state, actions)[:, 0].tolist() == [10] * 11 + [25] * 15 + [39] * 14
    assert waypoints_of(state, actions, off_course)[:, 0].tolist() == [25] * 26 + [39] * 14


def test_two_hot_weights_have_the_value_as_their_mean() -> None:
    low, high = np.array([-1.0, 0.0], dtype=np.float32), np.array([1.0, 2.0], dtype=np.float32)
    values = np.random.default_rng(0).uniform(0, 1, (50, 2)).astype(np.float32)
    weights = two_hot(values, low, high, 7)
    levels = np.linspace(low, high, 7).T
    assert np.allclose(weights.sum(-1), 1, atol=1e-6)
    assert ((weights > 0).sum(-1) <= 2).all()
    assert np.allclose((weights * levels).sum(-1), values, atol=1e-5)
    assert two_hot(np.array([[9.0, -9.0]], dtype=np.float32), low, high, 7)[0, :, [6, 0]].diagonal().tolist() == [1, 1]
