"""The list of chains and the start of each: plain numbers, no simulator."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import numpy as np
import pytest

from envs.calvin import chains as module
from envs.calvin.chains import (
    CHOICES,
    Chain,
    canonical,
    chains,
    draw_chains,
    initial_states,
    is_valid,
    start_of,
    start_seed,
    text_hash,
)
from envs.calvin.tasks import TASKS

SCENES_SHA256 = "1a25eaf9bb3f57459937b95423f2a673e277945064e5c09c9c7cb97b3ff87150"
NAMES_SHA256 = "755e7a7ba72bd69bec1d91cc2803a78bbfc9179d4172ed87556a95a88dd45c2e"
"""Of the lists that the original code makes."""


def test_the_shipped_chains_are_the_published_ones() -> None:
    names = json.dumps([chain.tasks for chain in chains()], separators=(",", ":"))
    assert hashlib.sha256(names.encode()).hexdigest() == NAMES_SHA256
    assert hashlib.sha256(canonical(chains())).hexdigest() == module.SHA256
    assert [list(chain.state) for chain in chains()] == [list(CHOICES)] * 1000


def test_the_published_rule_makes_the_shipped_chains_of_three_states() -> None:
    """Of all 192 in test_generation.py, which takes a minute."""
    states = initial_states()
    for index, share in ((0, 6), (77, 5), (191, 5)):
        shipped = {chain.tasks for chain in chains() if chain.state == states[index]}
        assert set(draw_chains(states[index], index, share)) == shipped
        assert len(shipped) == share


def test_the_starts_are_those_of_the_original_to_the_last_bit() -> None:
    starts = np.array([start_of(chain.state)[1] for chain in chains()], dtype="<f8")
    assert starts.shape == (1000, 24)
    assert hashlib.sha256(starts.tobytes()).hexdigest() == SCENES_SHA256


def test_the_seed_is_fnv_1_over_utf_16_from_zero() -> None:
    assert text_hash("hello world") == 3799943344
    assert [start_seed(chain.state) for chain in chains()[:3]] == [2138410836, 2685153213, 4009425464]


def test_the_seed_does_not_depend_on_the_order_a_state_is_written_in() -> None:
    state = chains()[0].state
    assert start_seed(dict(sorted(state.items()))) == start_seed(state)


def test_there_are_192_symbolic_starts() -> None:
    states = initial_states()
    assert len(states) == 192
    for state in states:
        places = [state[f"{colour}_block"] for colour in ("red", "blue", "pink")]
        assert places.count("table") in (1, 2)
        assert max(Counter(place for place in places if place != "table").values()) == 1


def test_a_chain_needs_exactly_one_way_at_each_step_and_no_category_twice() -> None:
    state = {**chains()[0].state, "drawer": "closed", "red_block": "table", "blue_block": "table", "led": 0}
    assert is_valid(state, ["open_drawer", "turn_on_led"])
    assert not is_valid(state, ["close_drawer"])
    assert not is_valid(state, ["open_drawer", "close_drawer"])
    assert not is_valid(state, ["turn_on_led", "turn_off_lightbulb"])
    # with red in the hand, blue and pink on the table, two blocks could be stacked upon
    assert not is_valid({**state, "pink_block": "table"}, ["lift_red_block_table", "stack_block"])


def test_every_task_has_a_sentence_and_occurs_in_the_chains() -> None:
    assert len({task.sentence for task in TASKS}) == len(TASKS) == 34
    counts = Counter(name for chain in chains() for name in chain.tasks)
    assert set(counts) == {task.name for task in TASKS}
    assert (counts["place_in_slider"], counts["open_drawer"], counts["lift_pink_block_drawer"]) == (398, 379, 17)


def test_drawing_more_chains_only_adds_to_the_first_ones() -> None:
    state = initial_states()[5]
    assert draw_chains(state, 5, 3) == draw_chains(state, 5, 6)[:3]


def test_a_changed_list_of_chains_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    changed = Path(str(tmp_path)) / "chains.json"
    changed.write_bytes(canonical([Chain(chains()[0].state, chains()[1].tasks), *chains()[1:]]))
    monkeypatch.setattr(module, "FILE", changed)
    with pytest.raises(RuntimeError, match="not the published list"):
        chains.__wrapped__()
