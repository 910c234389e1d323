"""The 1000 chains of five tasks, and the start of each.

`chains()` reads them from the file shipped beside this module; `generate()` makes them from the published rule
(mees/calvin, evaluation/multistep_sequences.py; under a minute), and the two are equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import pi
from pathlib import Path

import numpy as np
import numpy.typing as npt

from envs.calvin.layout import START_ROBOT
from envs.calvin.tasks import BY_NAME, TASKS, State

FILE = Path(__file__).parent / "chains.json"
SHA256 = "604957a8a2d3102941b278df07df4950bc41f340ed959077b20467d5f692318a"
"""Of the shipped file: JSON [[state, [5 names]], ...] without blanks, keys of a state in the order of `CHOICES`."""

LENGTH = 5
COUNT = 1000
CHOICES: dict[str, tuple[str | int, ...]] = {
    "led": (0, 1),
    "lightbulb": (0, 1),
    "slider": ("right", "left"),
    "drawer": ("closed", "open"),
    "red_block": ("table", "slider_right", "slider_left"),
    "blue_block": ("table", "slider_right", "slider_left"),
    "pink_block": ("table", "slider_right", "slider_left"),
    "grasped": (0,),
}

_ON_SHELF = {
    "slider_left": (-2.40851662e-01, 9.24044687e-02, 4.60990009e-01),
    "slider_right": (7.03416330e-02, 9.24044687e-02, 4.60990009e-01),
}
_ON_TABLE = ((5.00000896e-02, -1.20000177e-01, 4.59990009e-01), (2.29995412e-01, -1.19995140e-01, 4.59990010e-01))


@dataclass(frozen=True)
class Chain:
    """A symbolic start and five tasks to be done one after the other without a reset."""

    state: State
    tasks: tuple[str, ...]


@lru_cache(maxsize=1)
def chains() -> tuple[Chain, ...]:
    """The 1000 evaluation chains in evaluation order. Raises RuntimeError when the shipped file was changed."""
    data = FILE.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise RuntimeError(f"{FILE.name} is not the published list: its SHA-256 is {found}, not {SHA256}; reinstall")
    return tuple(Chain(state, tuple(names)) for state, names in json.loads(data))


# ---------------------------------------------------------------------- the published rule


def initial_states() -> list[dict[str, str | int]]:
    """The 192 symbolic starts: one or two blocks on the table, no two on one side of the shelf."""
    every = (dict(zip(CHOICES, values, strict=True)) for values in product(*CHOICES.values()))
    return [state for state in every if _is_start(list(state.values()))]


def _is_start(values: list[str | int]) -> bool:
    shelf = max(values.count("slider_right"), values.count("slider_left"))
    return values.count("table") in (1, 2) and shelf < 2


def is_valid(state: State, names: Sequence[str]) -> bool:
    """Whether the tasks can follow each other from `state`, each leading to exactly one state, no category twice."""
    if len({BY_NAME[name].category for name in names}) < len(names):
        return False
    for name in names:
        after = BY_NAME[name].successors(state)
        if len(after) != 1:
            return False
        state = after[0]
    return True


def draw_chains(state: State, index: int, count: int) -> list[tuple[str, ...]]:
    """The first `count` valid chains that NumPy's legacy generator draws for state number `index`."""
    random = np.random.RandomState(index)
    found: list[tuple[str, ...]] = []
    while len(found) < count:
        drawn = random.permutation(len(TASKS))[:LENGTH].tolist()  # what RandomState.choice without replacement does
        if not TASKS[drawn[0]].successors(state):  # most draws end here
            continue
        names = tuple(TASKS[k].name for k in drawn)
        if is_valid(state, names):
            found.append(names)
    return found


def generate(count: int = COUNT) -> list[Chain]:
    """The evaluation chains from the published rule. Takes under a minute for 1000."""
    states = initial_states()
    shares = [len(part) for part in np.array_split(np.arange(count), len(states))]
    made = [
        Chain(state, names)
        for index, (state, share) in enumerate(zip(states, shares, strict=True))
        for names in draw_chains(state, index, share)
    ]
    np.random.RandomState(0).shuffle(made)  # type: ignore[arg-type] # any list, the stubs say arrays
    return made


def canonical(made: Sequence[Chain]) -> bytes:
    """Chains as the shipped file holds them."""
    return json.dumps([[chain.state, chain.tasks] for chain in made], separators=(",", ":")).encode("ascii")


# ---------------------------------------------------------------------- from a symbolic state to a start


def text_hash(text: str) -> int:
    """The 32-bit number upstream's hash library gives for a text: FNV-1 over its UTF-16-LE bytes, started from 0 (not
    from the usual offset basis), multiply by 0x01000193, then exclusive or."""
    value = 0
    for byte in text.encode("utf-16-le"):
        value = (value * 0x01000193) % 2**32 ^ byte
    return value


def start_seed(state: State) -> int:
    """The seed of a symbolic state: the hash of the text of its values, so the order of its keys counts."""
    ordered = {key: state[key] for key in CHOICES}
    return text_hash(str(ordered.values()))


def start_of(state: State) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """robot_obs [15] and scene_obs [24] a chain from this state starts with, blocks as red, blue, pink (mees/calvin,
    evaluation/utils.py). In scenes A and C, whose blocks have another order, colours come to swapped places: so
    they do in the benchmark."""
    random = np.random.RandomState(start_seed(state))
    spots = list(_ON_TABLE)
    random.shuffle(spots)
    scene = np.zeros(24)
    scene[0] = 0.28 if state["slider"] == "left" else 0.0
    scene[1] = 0.22 if state["drawer"] == "open" else 0.0
    scene[3] = 0.088 if state["lightbulb"] == 1 else 0.0
    scene[4], scene[5] = state["lightbulb"], state["led"]
    spot_of = {"red": 0, "blue": 1 if state["red_block"] == "table" else 0, "pink": 1}
    for k, (colour, spot) in enumerate(spot_of.items()):
        place = str(state[f"{colour}_block"])
        scene[6 + 6 * k : 9 + 6 * k] = _ON_SHELF.get(place, spots[spot])
        scene[11 + 6 * k] = random.uniform(pi / 2 - pi / 8, pi / 2 + pi / 8)
    return np.array(START_ROBOT), scene
