"""The rules of the tasks, the experts that prove them, and the control that proves the memory tasks need memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from envs.lab.env import LabEnv
from envs.lab.parts import COLOUR_NAMES
from policies.expert.lab import LabScript, moves
from suites.protocol import load_suite
from tests.envs.lab.helpers import GENERAL, MEMORY, TASKS, play

SLOW = {"count_blocks": 4, "pick_place_by_colour": 8, "stack": 8}


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_solves_it_within_the_step_limit(env: LabEnv, task: str) -> None:
    limits = {
        t.name: load_suite(s).max_steps(t.name) for s in ("lab_general", "lab_memory") for t in load_suite(s).tasks
    }
    for trial in range(1000, 1000 + SLOW.get(task, 12)):
        played = play(env, task, trial, limit=limits.get(task, 120))
        assert played.success, trial
        assert played.metrics["score"] == 1.0
        assert played.metrics["wrong_choices"] == 0


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_recovers_when_it_is_shaken(env: LabEnv, task: str) -> None:
    trials = range(2000, 2000 + SLOW.get(task, 10))
    solved = [play(env, task, trial, shake=0.1).success for trial in trials]
    assert sum(solved) >= len(solved) - 1


@pytest.mark.parametrize("task", GENERAL)
def test_a_general_task_needs_no_memory(env: LabEnv, task: str) -> None:
    assert all(play(env, task, trial, memory=False, limit=150).success for trial in range(6))


@pytest.mark.parametrize(
    ("task", "trials", "chance"),
    [
        ("remember_colour_3", 60, 1 / 3),
        ("remember_colour_3_shuffled", 60, 1 / 3),
        ("remember_colour_5", 60, 1 / 5),
        ("remember_colour_9", 60, 1 / 9),
        ("press_order", 12, 1 / 6),
        ("press_order_marked", 60, 1 / 6),
        ("shell_game", 60, 1 / 3),
        ("count_blocks", 4, 1 / 5),
    ],
)
def test_without_memory_a_memory_task_is_chance(env: LabEnv, task: str, trials: int, chance: float) -> None:
    """Three standard errors above chance at most."""
    solved = sum(play(env, task, trial, memory=False, limit=200).success for trial in range(trials))
    assert solved / trials <= chance + 3 * np.sqrt(chance * (1 - chance) / trials)
    assert solved < trials


def other_colours(env: LabEnv, task: str, trial: int) -> str:
    """The instruction with its colours put for others that are on the table too."""
    env.reset(seed=0, options={"task": task, "trial": trial})
    seen = env.privileged()
    there = next(seen[key] for key in ("button_colours", "block_colours", "handle_colours") if key in seen)
    names = [COLOUR_NAMES[int(number)] for number in there]
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    return re.sub("|".join(names), lambda found: following[found.group()], env.instruction())


@pytest.mark.parametrize("task", GENERAL)
def test_the_wrong_colour_ends_the_episode_as_a_wrong_choice(env: LabEnv, task: str) -> None:
    for trial in range(5):
        played = play(env, task, trial, instruction=other_colours(env, task, trial), limit=150)
        assert not played.success
        assert played.metrics["wrong_choices"] == 1
        assert played.metrics["right_choices"] == 0
        assert played.metrics["score"] <= 0.6


def test_press_order_scores_thirty_a_press_and_ten_for_all(env: LabEnv) -> None:
    env.reset(seed=0, options={"task": "press_order", "trial": 0})
    script = LabScript("press_order", env.instruction(), env.env_spec)
    scores = set()
    for step in range(240):
        result = env.step_chunk(script.act(env.privileged(), step))
        scores.add(round(env.metrics()["score"], 6))
        if result.terminated:
            break
    assert scores == {0.0, 0.3, 0.6, 1.0}


def test_press_order_marked_shows_the_presses_and_no_order(env: LabEnv) -> None:
    """What was pressed turns green, the moment it counts; all else is as in press_order."""
    env.reset(seed=0, options={"task": "press_order_marked", "trial": 0})
    script = LabScript("press_order_marked", env.instruction(), env.env_spec)
    for step in range(240):
        pressed = env.trial.order[: env.trial.right_choices]  # type: ignore[attr-defined]
        colours = [COLOUR_NAMES[int(number)] for number in env.privileged()["button_colours"]]
        assert colours == ["green" if i in pressed else "blue" for i in range(3)]
        result = env.step_chunk(script.act(env.privileged(), step))
        if result.terminated:
            break
    assert result.success


def test_a_cue_is_the_place_of_what_is_shown_and_nothing_else(env: LabEnv) -> None:
    """Of the lamp's colour while it shines, of the button that shines; nothing between, afterwards or elsewhere."""
    env.reset(seed=0, options={"task": "remember_colour_5", "trial": 3})
    while not (seen := env.privileged())["lamp"][0] < 0:
        named = list(seen["button_colours"]).index(seen["lamp"][0])
        assert np.array_equal(seen["cue"][:2], seen["buttons"][named, :2])
        env.step_chunk(np.zeros((1, 7)))
    assert np.isnan(seen["cue"]).all()
    env.reset(seed=0, options={"task": "press_order", "trial": 3})
    shown = []
    while env.trial.locked():
        seen = env.privileged()
        if not seen["lit"].any():
            assert np.isnan(seen["cue"]).all()
        else:
            shown.append(int(seen["lit"].argmax()))
            assert np.array_equal(seen["cue"][:2], seen["buttons"][shown[-1], :2])
            assert 0 < seen["cue"][2] < seen["buttons"][shown[-1], 2]
        env.step_chunk(np.zeros((1, 7)))
    assert list(dict.fromkeys(shown)) == env.trial.order  # type: ignore[attr-defined]
    assert np.isnan(env.privileged()["cue"]).all()
    env.reset(seed=0, options={"task": "press_by_colour", "trial": 3})
    assert np.isnan(env.privileged()["cue"]).all()


def test_what_is_due_in_the_shell_game_is_the_cup_over_the_ball_until_the_hand_is_free(env: LabEnv) -> None:
    env.reset(seed=0, options={"task": "shell_game", "trial": 3})
    places = []
    while env.trial.locked():
        seen = env.privileged()
        places.append(seen["due"])
        assert np.array_equal(seen["due"][:2], seen["cups"][env.trial.goal, :2])  # type: ignore[attr-defined]
        if np.isfinite(seen["ball"]).all():
            assert np.array_equal(seen["due"][:2], seen["ball"][:2])
        env.step_chunk(np.zeros((1, 7)))
    assert np.linalg.norm(np.ptp(places, axis=0)) > 0.1, "this ball moves"
    assert np.isnan(env.privileged()["due"]).all()
    env.reset(seed=0, options={"task": "press_by_colour", "trial": 3})
    assert np.isnan(env.privileged()["due"]).all()


@pytest.mark.parametrize("task", ["remember_colour_5", "press_order", "press_order_marked"])
def test_what_is_due_is_the_button_whose_turn_it_is(env: LabEnv, task: str) -> None:
    env.reset(seed=0, options={"task": task, "trial": 3})
    trial: Any = env.trial
    script, step = LabScript(task, env.instruction(), env.env_spec), 0
    due: list[int] = []
    while True:
        seen = env.privileged()
        turn = trial.goal if task == "remember_colour_5" else trial.order[trial.right_choices]
        assert np.array_equal(seen["due"][:2], seen["buttons"][turn, :2])
        due.append(turn)
        if env.step_chunk(script.act(seen, step)).terminated:
            break
        step += 1
    assert len(set(due)) == (1 if task == "remember_colour_5" else 3)


@pytest.mark.parametrize("task", [task for task in MEMORY if task != "count_blocks"])
def test_no_expert_steers_by_the_labels(env: LabEnv, task: str) -> None:
    env.reset(seed=0, options={"task": task, "trial": 3})
    script = LabScript(task, env.instruction(), env.env_spec)
    for step in range(240):
        seen = {name: value for name, value in env.privileged().items() if name not in ("cue", "due")}
        result = env.step_chunk(script.act(seen, step))
        if result.terminated:
            break
    assert result.success


def test_press_order_ends_at_the_first_press_out_of_order(env: LabEnv) -> None:
    env.reset(seed=0, options={"task": "press_order", "trial": 0})
    script = LabScript("press_order", env.instruction(), env.env_spec)
    for step in range(240):
        seen = env.privileged()
        seen["lit"] = seen["lit"][[1, 2, 0]]  # the expert is shown another order
        result = env.step_chunk(script.act(seen, step))
        if result.terminated:
            break
    assert result.terminated
    assert not result.success
    assert env.metrics()["wrong_choices"] == 1


def count_with(env: LabEnv, trial: int, goal: int) -> dict[str, float]:
    """The metrics after an expert who counts to `goal` played."""
    env.reset(seed=0, options={"task": "count_blocks", "trial": trial})
    words = re.sub("two|three", {2: "two", 3: "three", 4: "four"}[goal], env.instruction())
    return play(env, "count_blocks", trial, instruction=words).metrics


def test_counting_wrongly_is_a_wrong_choice(env: LabEnv) -> None:
    for trial in range(3):
        env.reset(seed=0, options={"task": "count_blocks", "trial": trial})
        goal = env.trial.goal  # type: ignore[attr-defined]
        for told in {2, 3, 4} - {goal}:
            metrics = count_with(env, trial, told)
            assert metrics["wrong_choices"] == 1
            assert metrics["right_choices"] == min(told, goal) - 1
            assert metrics["score"] < 0.9


def test_a_second_block_without_a_press_is_a_wrong_choice(env: LabEnv) -> None:
    played = play(env, "count_blocks", 0, memory=False)
    assert not played.success
    assert (played.metrics["right_choices"], played.metrics["wrong_choices"]) == (0, 1)


def test_there_are_always_as_many_blocks_to_be_seen(env: LabEnv) -> None:
    env.reset(seed=0, options={"task": "count_blocks", "trial": 0})
    script = LabScript("count_blocks", env.instruction(), env.env_spec)
    for step in range(300):
        result = env.step_chunk(script.act(env.privileged(), step))
        blocks = env.privileged()["blocks"]
        assert blocks.shape == (4, 4)
        assert (blocks[:, 2] > 0.0).all()
        if result.terminated:
            break
    assert result.success


def test_things_are_grasped_by_friction_not_by_glue(env: LabEnv) -> None:
    """A block that is held falls when the fingers open, wherever that is."""
    env.reset(seed=0, options={"task": "stack", "trial": 2})
    script = LabScript("stack", env.instruction(), env.env_spec)
    blocks = env.trial.blocks  # type: ignore[attr-defined]
    for step in range(60):
        env.step_chunk(script.act(env.privileged(), step))
        held = max(range(3), key=lambda i: blocks.place(i)[2])
        if blocks.place(held)[2] > 0.09:
            break
    env.step_chunk(np.tile(np.array([0, 0, 0, 0, 0, 0, -1], dtype=np.float32), (20, 1)))
    assert blocks.place(held)[2] > 0.085
    env.step_chunk(np.tile(np.array([0, 0, 0, 0, 0, 0, 1], dtype=np.float32), (15, 1)), stop_on_done=False)
    assert blocks.place(held)[2] < 0.06


@pytest.mark.parametrize("task", TASKS)
def test_privileged_state_is_numbers_only_and_the_same_shape_all_along(env: LabEnv, task: str) -> None:
    env.reset(seed=0, options={"task": task, "trial": 0})
    first = env.privileged()
    env.step_chunk(np.zeros((30, 7), dtype=np.float32))
    later = env.privileged()
    assert {k: (v.shape, v.dtype.kind) for k, v in first.items()} == {k: (v.shape, "f") for k, v in later.items()}


def test_instructions_come_in_several_phrasings(env: LabEnv) -> None:
    for task in TASKS:
        said = set()
        for trial in range(40):
            env.reset(seed=0, options={"task": task, "trial": trial})
            said.add(re.sub("|".join((*COLOUR_NAMES, "two", "three")), "_", env.instruction()))
        assert len(said) == 4, task


def test_envs_and_experts_number_the_colours_alike() -> None:
    assert moves.COLOURS == COLOUR_NAMES


def test_an_unknown_task_has_no_expert_and_says_which_there_are(env: LabEnv) -> None:
    with pytest.raises(KeyError, match="press_by_colour"):
        LabScript("press_by_color", "press the red button", env.env_spec)
