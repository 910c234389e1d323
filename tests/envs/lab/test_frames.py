"""Pictures: the same everywhere, without effect, and silent about what must be remembered."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from envs.lab import make
from envs.lab.env import LabEnv
from envs.lab.parts import COLOUR_NAMES, COLOURS
from tests.envs.lab.helpers import MEMORY, PLAIN_PROCESSOR, TASKS, fresh_process, play, run_until_free

FRAMES = """
import hashlib, numpy as np
from envs.lab import make
env = make()
for task in {tasks!r}:
    env.reset(seed=0, options={{"task": task, "trial": 2}})
    for _ in range(4):
        env.step_chunk(np.full((5, 7), 0.3, dtype=np.float32))
    print(hashlib.sha256(env.draw("front").tobytes() + env.draw("wrist").tobytes()).hexdigest())
"""


def both(env: LabEnv) -> bytes:
    return env.draw("front").tobytes() + env.draw("wrist").tobytes()


@pytest.mark.parametrize("task", TASKS)
def test_drawing_does_not_change_the_episode(env: LabEnv, task: str) -> None:
    assert play(env, task, 5, draw=True, limit=60).digest == play(env, task, 5, limit=60).digest


def test_frames_are_identical_across_processes_histories_and_processors(env: LabEnv) -> None:
    ours = []
    for task in TASKS:
        play(env, task, 9, draw=True, limit=30)
        env.reset(seed=0, options={"task": task, "trial": 2})
        for _ in range(4):
            env.step_chunk(np.full((5, 7), 0.3, dtype=np.float32))
        ours.append(hashlib.sha256(both(env)).hexdigest())
    assert fresh_process(FRAMES.format(tasks=TASKS)).split() == ours
    assert fresh_process(FRAMES.format(tasks=TASKS), PLAIN_PROCESSOR).split() == ours


def test_a_frame_has_the_shape_and_kind_the_spec_says() -> None:
    env = make(size=40)
    observation, _ = env.reset(seed=0, options={"task": "stack", "trial": 0})
    for camera in ("front", "wrist"):
        picture = observation["images"][camera]
        assert (picture.shape, picture.dtype, picture.flags["C_CONTIGUOUS"]) == ((40, 40, 3), np.uint8, True)


def coloured(picture: np.ndarray, name: str) -> int:
    """Pixels of the hue of a named colour, lit or shaded."""
    want = np.array(COLOURS[name])
    rgb = picture.reshape(-1, 3) / 255.0
    bright = rgb.max(axis=1, keepdims=True)
    close = np.abs(rgb / np.maximum(bright, 1e-9) - want / want.max()).max(axis=1) < 0.03
    return int((close & (bright[:, 0] > 0.2)).sum())


def test_the_lamp_is_seen_while_it_shines_and_not_after(env: LabEnv) -> None:
    env.reset(seed=0, options={"task": "remember_colour_3", "trial": 0})
    name = COLOUR_NAMES[env.trial.shown]  # type: ignore[attr-defined]
    shining = coloured(env.draw("front"), name)
    run_until_free(env)
    assert shining - coloured(env.draw("front"), name) > 40


def test_the_ball_is_seen_first_and_not_after_it_is_covered(env: LabEnv) -> None:
    for trial in range(5):
        env.reset(seed=0, options={"task": "shell_game", "trial": trial})
        assert coloured(env.draw("front"), "red") > 8
        run_until_free(env)
        assert coloured(env.draw("front"), "red") == coloured(env.draw("wrist"), "red") == 0
        assert np.isnan(env.privileged()["ball"]).all()


def test_the_disc_below_the_hand_shows_where_it_would_land(env: LabEnv) -> None:
    """It moves in the picture when the hand moves sideways, and stays when the hand only rises."""

    def disc() -> np.ndarray:
        dark = env.draw("front").max(axis=2)[25:].astype(int) < 60  # table rows only: the hand is above them
        return np.argwhere(dark).mean(axis=0)

    env.reset(seed=0, options={"task": "open_drawer", "trial": 0})
    start = disc()
    env.step_chunk(np.tile(np.array([0, 0, 1, 0, 0, 0, -1], dtype=np.float32), (3, 1)))
    risen = disc()
    env.step_chunk(np.tile(np.array([1, 0, 0, 0, 0, 0, -1], dtype=np.float32), (5, 1)))
    aside = disc()
    assert np.abs(risen - start).max() < 0.7
    assert aside[1] - risen[1] > 5


def change_the_secret(env: LabEnv, task: str) -> None:
    """Make another answer the right one, as if the trial had drawn it."""
    trial = env.trial
    if task.startswith("remember"):
        trial.goal = (trial.goal + 1) % trial.buttons.count  # type: ignore[attr-defined]
        trial.shown = int(trial.buttons.colours[trial.goal])  # type: ignore[attr-defined]
        env.world.paint("lamp", COLOURS[COLOUR_NAMES[trial.shown]])  # type: ignore[attr-defined]
    elif task.startswith("press_order"):
        trial.order = trial.order[::-1]  # type: ignore[attr-defined]
    elif task == "shell_game":
        trial.goal = (trial.goal + 1) % 3  # type: ignore[attr-defined]
        trial._arrange(0)  # type: ignore[attr-defined]
    else:
        trial.put_in += 1  # type: ignore[attr-defined]
        trial.to_press = not trial.to_press  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", MEMORY)
def test_the_present_frame_says_nothing_of_what_must_be_remembered(env: LabEnv, task: str) -> None:
    """When the hand is free, pictures, state, instruction and privileged state are the same for another answer; but for
    `due`, a label of demonstrations (no expert steers by it: test_tasks.py)."""
    found = []
    for other in (False, True):
        env.reset(seed=0, options={"task": task, "trial": 6})
        if other:
            change_the_secret(env, task)
        run_until_free(env)
        seen = {name: value.tobytes() for name, value in env.privileged().items() if name != "due"}
        found.append((both(env), env.state().tobytes(), env.instruction(), seen))
    assert found[0] == found[1]


@pytest.mark.parametrize("task", [task for task in MEMORY if task != "count_blocks"])
def test_the_hand_cannot_move_until_a_chunk_after_the_cue(env: LabEnv, task: str) -> None:
    env.reset(seed=0, options={"task": task, "trial": 1})
    start = env.state()
    steps, still, longest = 0, 0, 0
    while env.trial.locked():
        before = both(env)
        env.step_chunk(np.ones((1, 7), dtype=np.float32))
        steps += 1
        still = still + 1 if both(env) == before else 0
        longest = max(longest, still)
        assert np.abs(env.state()[:6] - start[:6]).max() < 1e-6
    assert steps > 15
    assert longest >= 8  # nothing changes in the picture any more while the hand is still held
    env.step_chunk(np.ones((2, 7), dtype=np.float32))
    assert np.abs(env.state()[:3] - start[:3]).max() > 0.01


@pytest.mark.filterwarnings("ignore::Warning")  # of the OpenGL stack, where there is none
def test_gl_draws_or_says_what_is_missing() -> None:
    env = make(renderer="gl")
    env.select([])
    env.reset(seed=0, options={"task": "stack", "trial": 0})
    try:
        picture = env.draw("front")
    except RuntimeError as error:
        said = str(error)
    else:
        said = "it draws, so renderer=ray is a choice"
        assert picture.shape == (64, 64, 3)
        assert picture.std() > 5
    assert "renderer=ray" in said
