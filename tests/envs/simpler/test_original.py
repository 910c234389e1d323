"""The original back end: its protocol against upstream's scripts, its scenes, its action convention, its expert."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from envs.assets import place
from envs.base import VLAEnv
from envs.simpler import make
from envs.simpler.assets import MODELS, PROTOCOL, SOURCES
from envs.simpler.fractal import SETTINGS, Variant, variants
from envs.simpler.original import OriginalSimpler
from policies.expert.simpler import SimplerScript

Pose = npt.NDArray[np.float64]
STILL = np.array([[0, 0, 0, 0, 0, 0, 1]], dtype=np.float32)


@pytest.fixture(scope="module")
def google() -> Iterator[VLAEnv]:
    """The Google robot. Its drawers are drawn without ray tracing, which needs an NVIDIA GPU."""
    env = make(suite="fractal", setting="vm", backend="simpler_env", shader="ibl")
    env.select((), privileged=True)
    yield env
    env.close()


def reset(env: VLAEnv, task: str, trial: int = 0) -> str:
    env.reset(seed=0, options={"task": task, "trial": trial})
    return env.scene_hash()


def play(env: VLAEnv, task: str, *, hook: bool = True) -> bool:
    """Whether the expert's success holds at the last step; hook: else its fingers never go behind the front."""
    reset(env, task)
    script, success = SimplerScript(task, env.instruction(), env.env_spec), False
    for step in range(113):
        action = script.act(env.privileged(), step)
        if not hook:
            action[:, 2] = np.maximum(action[:, 2], 0.0)
        success = env.step_chunk(action, stop_on_done=False).success
    return success


# ------------------------------------------------------------------ protocol

SCRIPTS = {
    "vm": [f"rt1_{task}_visual_matching.sh" for task in ("pick_coke_can", "move_near", "drawer", "put_in_drawer")],
    "va": [f"rt1_{task}_variant_agg.sh" for task in ("pick_coke_can", "move_near", "drawer", "put_in_drawer")],
}


def calls_of(script: str, folder: Path) -> Iterator[dict[str, list[str]]]:
    """What upstream's script calls its evaluation with: it is run, with a `python` that only notes its words."""
    note = folder / "calls"
    note.write_text("")
    (folder / "python").write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {shlex.quote(str(note))}\n")
    (folder / "python").chmod(0o755)
    scripts = place(SOURCES) / PROTOCOL / "scripts"
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", str(scripts / script)], env={"PATH": path}, cwd=folder, check=True, capture_output=True)
    for line in note.read_text().splitlines():
        words: dict[str, list[str]] = {}
        for word in line.split():
            if word.startswith("--"):
                words[word] = []
            elif words:
                words[next(reversed(words))].append(word)
        yield words


def places(x: list[str], y: list[str]) -> tuple[tuple[float, float], ...]:
    spans = [np.linspace(float(first), float(last), int(count)) for first, last, count in (x, y)]
    return tuple((round(float(a), 6), round(float(b), 6)) for a, b in itertools.product(*spans))


def said(words: dict[str, list[str]]) -> tuple[Any, ...]:
    build = dict(word.split("=") for word in words.get("--additional-env-build-kwargs", []))
    traced = build.pop("shader_dir", "") == "rt" or "--enable-raytracing" in words
    x, y = (words.get(f"--obj-init-{k}") or words.get(f"--obj-init-{k}-range") or [] for k in "xy")
    objects = places(x, y) if x else ()
    turn = [float(word) for word in words["--robot-init-rot-rpy-range"]]
    assert (words["--robot-init-rot-quat-center"], turn[:6]) == (["0", "0", "0", "1"], [0, 0, 1, 0, 0, 1])
    assert (words["--control-freq"], words["--sim-freq"]) == (["3"], ["513"])
    return (
        words["--env-name"][0],
        words["--scene-name"][0],
        Path(words.get("--rgb-overlay-path", [""])[0]).stem,
        tuple(sorted(build.items())),
        traced,
        int(words["--max-episode-steps"][0]),
        places(words["--robot-init-x"], words["--robot-init-y"]),
        round(turn[6], 6),
        () if objects == ((0.0, 0.0),) else objects,
        int(words.get("--obj-episode-range", ["0", "0"])[1]),
    )


def ours(variant: Variant) -> tuple[Any, ...]:
    rounded = [tuple((round(a, 6), round(b, 6)) for a, b in spots) for spots in (variant.robots, variant.objects)]
    build = tuple(sorted((name, str(value)) for name, value in variant.build.items()))
    named = (variant.env_id, variant.scene, variant.overlay, build, variant.traced, variant.max_steps)
    return (*named, rounded[0], variant.yaw, rounded[1], variant.layouts)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_variants_are_those_that_upstreams_scripts_evaluate(setting: str, tmp_path: Path) -> None:
    upstream = {said(words) for script in SCRIPTS[setting] for words in calls_of(script, tmp_path)}
    assert {ours(variant) for variant in variants(setting).values()} == upstream
    assert len(upstream) == {"vm": 244, "va": 92}[setting]


# ------------------------------------------------------------------ scenes, pictures, conventions


@pytest.mark.timeout(600)
def test_a_scene_of_the_google_robot_has_one_hash_in_any_order(google: VLAEnv) -> None:
    scenes = [("coke_can_standing_plain", 0), ("coke_can_standing_plain", 24), ("open_top_drawer_plain_b1", 0)]
    forward = [reset(google, *scene) for scene in scenes]
    google.step_chunk(np.repeat(STILL, 3, axis=0), stop_on_done=False)
    assert [reset(google, *scene) for scene in reversed(scenes)] == forward[::-1]
    assert len(set(forward)) == len(scenes)


@pytest.mark.timeout(900)
def test_the_google_robot_stands_before_the_real_picture(google: VLAEnv) -> None:
    google.select(None, privileged=True)
    try:
        reset(google, "coke_can_standing_plain", 12)
        seen = google.observe().images["overhead"].astype(np.int16)
    finally:
        google.select((), privileged=True)
    with Image.open(place(MODELS) / "real_inpainting" / "google_coke_can_real_eval_1.png") as picture:
        real = np.asarray(picture.convert("RGB").resize((640, 512), Image.Resampling.BILINEAR), dtype=np.int16)
    assert seen.shape == (512, 640, 3)
    differs = np.abs(seen - real).max(axis=2) > 24
    assert 0.02 < differs.mean() < 0.5
    red = (seen[..., 0] - seen[..., 1:].max(axis=2) > 60) & differs
    assert red.sum() > 200  # the can, which is not in the picture


@pytest.mark.timeout(600)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_actions_move_and_turn_the_measured_pose_as_the_action_spec_says(google: OriginalSimpler, axis: int) -> None:
    """By so many metres or radians is the arm sent from where the tool is; it goes a part of that in one step."""
    for part, size in ((0, 0.04), (3, 0.2)):
        reset(google, "coke_can_standing_plain", 0)
        action = STILL.copy()
        action[0, part + axis] = size
        for _ in range(2):
            before = google.privileged()["tool"]
            google.step_chunk(action)
            aim = google._env.agent.controller.controllers["arm"]._target_pose
            sent = difference(before, np.array([*aim.p, *aim.q]))
            assert sent == pytest.approx(action[0, :6], abs=1e-3)
        moved = difference(before, google.privileged()["tool"])
        assert 0.1 * size < moved[part + axis] < size


def difference(before: Pose, after: Pose) -> Pose:
    """The change of place (m) and the turn (rad, about the base's axes) between two poses xyz, wxyz."""
    turns = [Rotation.from_quat(np.roll(pose[3:], -1)) for pose in (before, after)]
    return np.array([*(after - before)[:3], *(turns[1] * turns[0].inv()).as_rotvec()])


# ------------------------------------------------------------------ success, the positive control


@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["open_top_drawer_plain_a0", "open_middle_drawer_plain_b1"])
def test_the_expert_opens_the_drawer_and_it_stays_open(google: VLAEnv, task: str) -> None:
    assert play(google, task)
    assert google.privileged()["drawer"][0] > 0.15


@pytest.mark.timeout(900)
def test_without_hooking_its_front_the_drawer_stays_shut(google: VLAEnv) -> None:
    """The same script with fingers that never go down."""
    assert not play(google, "open_top_drawer_plain_a0", hook=False)
    assert google.privileged()["drawer"][0] < 0.01
