"""The 34 tasks: sentence, category, and what each needs and leaves behind in the symbolic world of the chains.

Names, their order, categories, conditions and effects: mees/calvin, evaluation/multistep_sequences.py; sentences: the
validation annotations, conf/annotations/new_playtable_validation.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

from envs.calvin.layout import COLOURS

State = Mapping[str, str | int]
"""The symbolic world: led, lightbulb, slider, drawer, red_block, blue_block, pink_block, grasped (in this order)."""

Change = tuple[dict[str, tuple[str | int, ...]], dict[str, str | int]]
"""What must hold (key -> allowed values), and what holds afterwards."""


@dataclass(frozen=True)
class Task:
    """One of the 34. category: a chain has no two tasks of the same one; changes: the ways in which it can happen."""

    name: str
    sentence: str
    category: int
    changes: tuple[Change, ...]

    def successors(self, state: State) -> list[State]:
        """The states it may lead to from `state`; empty where it cannot be done."""
        return [
            {**state, **effect}
            for condition, effect in self.changes
            if all(state[key] in allowed for key, allowed in condition.items())
        ]


def _free(**condition: str | int | tuple[str | int, ...]) -> dict[str, tuple[str | int, ...]]:
    """A condition under which the hand is empty."""
    allowed = {key: value if isinstance(value, tuple) else (value,) for key, value in condition.items()}
    return {**allowed, "grasped": (0,)}


def _holding(block: str, **condition: str | int) -> dict[str, tuple[str | int, ...]]:
    return {f"{block}_block": ("grasped",), **{key: (value,) for key, value in condition.items()}, "grasped": (1,)}


def _lifted(block: str) -> dict[str, str | int]:
    return {f"{block}_block": "grasped", "grasped": 1}


def _placed(block: str, place: str) -> dict[str, str | int]:
    return {f"{block}_block": place, "grasped": 0}


def _on_table() -> Iterator[Task]:
    for verb, sentence in (
        ("rotate", "take the {} block and rotate it to the {}"),
        ("push", "go push the {} block {}"),
    ):
        for block in COLOURS:
            for side in ("right", "left"):
                change: Change = (_free(**{f"{block}_block": "table"}), {f"{block}_block": "table"})
                yield Task(f"{verb}_{block}_block_{side}", sentence.format(block, side), 1, (change,))


def _doors() -> Iterator[Task]:
    for side, other in (("left", "right"), ("right", "left")):
        sentence = f"push the sliding door to the {side} side"
        yield Task(f"move_slider_{side}", sentence, 2, ((_free(slider=other), {"slider": side}),))
    for verb, how, before, after in (("open", "pull", "closed", "open"), ("close", "push", "open", "closed")):
        sentence = f"{how} the handle to {verb} the drawer"
        yield Task(f"{verb}_drawer", sentence, 3, ((_free(drawer=before), {"drawer": after}),))


def _lifts() -> Iterator[Task]:
    for block in COLOURS:
        key = f"{block}_block"
        table: Change = (_free(**{key: "table"}), _lifted(block))
        yield Task(f"lift_{key}_table", f"grasp and lift the {block} block", 4, (table,))
        # a block on one side of the shelf can be reached while the door stands on the other
        behind: tuple[Change, ...] = tuple(
            (_free(**{key: f"slider_{side}", "slider": door}), _lifted(block))
            for side, door in (("left", "right"), ("right", "left"))
        )
        yield Task(f"lift_{key}_slider", f"lift the {block} block from the sliding cabinet", 5, behind)
        drawer: Change = (_free(**{key: "drawer", "drawer": "open"}), _lifted(block))
        yield Task(f"lift_{key}_drawer", f"Take the {block} block from the drawer", 6, (drawer,))


def _places() -> Iterator[Task]:
    slider: tuple[Change, ...] = tuple(
        (_holding(block, slider=side), _placed(block, f"slider_{side}"))
        for block in COLOURS
        for side in ("right", "left")
    )
    yield Task("place_in_slider", "store the grasped block in the sliding cabinet", 7, slider)
    drawer: tuple[Change, ...] = tuple((_holding(block, drawer="open"), _placed(block, "drawer")) for block in COLOURS)
    yield Task("place_in_drawer", "store the grasped block in the drawer", 7, drawer)
    stack: tuple[Change, ...] = tuple(
        (
            _holding(top, **{f"{bottom}_block": "table"}),
            {f"{top}_block": "stacked_top", f"{bottom}_block": "stacked_bottom", "grasped": 0},
        )
        for top, bottom in permutations(COLOURS, 2)
    )
    yield Task("stack_block", "stack the grasped block", 10, stack)
    unstack: tuple[Change, ...] = tuple(
        (
            _free(**{f"{top}_block": "stacked_top", f"{bottom}_block": "stacked_bottom"}),
            {f"{top}_block": "table", f"{bottom}_block": "table"},
        )
        for top, bottom in permutations(COLOURS, 2)
    )
    yield Task("unstack_block", "remove the stacked block", 11, unstack)


def _lamps() -> Iterator[Task]:
    for lamp, sentence in (
        ("lightbulb", "use the switch to turn {} the light bulb"),
        ("led", "press the button to turn {} the led light"),
    ):
        for word, before in (("on", 0), ("off", 1)):
            change: Change = (_free(**{lamp: before}), {lamp: 1 - before})
            yield Task(f"turn_{word}_{lamp}", sentence.format(word), 8, (change,))


def _push_in() -> Iterator[Task]:
    away = ("slider_right", "slider_left")
    changes: tuple[Change, ...] = tuple(
        (
            _free(
                **{f"{block}_block": "table", "drawer": "open"},
                **{f"{other}_block": away for other in COLOURS if other != block},
            ),
            _placed(block, "drawer"),
        )
        for block in COLOURS
    )
    yield Task("push_into_drawer", "slide the block that it falls into the drawer", 9, changes)


TASKS: tuple[Task, ...] = (*_on_table(), *_doors(), *_lifts(), *_places(), *_lamps(), *_push_in())
"""In the order in which the published rule numbers them; the chains depend on it."""

BY_NAME: dict[str, Task] = {task.name: task for task in TASKS}
