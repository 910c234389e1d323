"""The four Bridge tasks by name: what each back end calls them, and what an asset folder must hold for them."""

from __future__ import annotations

from dataclasses import dataclass

from envs.base import SceneError

SCENES = 24
"""Layouts of each task: the protocol's episodes 0 to 23."""


@dataclass(frozen=True)
class BridgeTask:
    """One task. maniskill3, original: its environment in each back end; instruction: the sentence of both; stage: the
    table's mesh; overlay: the real picture drawn behind robot and objects; source is to be brought to target; models:
    all objects; base: where the robot stands (m, x and y in the world); sink: the set-up at the sink."""

    maniskill3: str
    original: str
    instruction: str
    source: str
    target: str
    models: tuple[str, ...]
    stage: str = "bridge_table_1_v1"
    overlay: str = "bridge_real_eval_1"
    base: tuple[float, float] = (0.147, 0.028)
    sink: bool = False


TASKS = {
    "spoon_on_towel": BridgeTask(
        maniskill3="PutSpoonOnTableClothInScene-v1",
        original="PutSpoonOnTableClothInScene-v0",
        instruction="put the spoon on the towel",
        source="bridge_spoon_generated_modified",
        target="table_cloth_generated_shorter",
        models=("bridge_spoon_generated_modified", "table_cloth_generated_shorter"),
    ),
    "carrot_on_plate": BridgeTask(
        maniskill3="PutCarrotOnPlateInScene-v1",
        original="PutCarrotOnPlateInScene-v0",
        instruction="put carrot on plate",
        source="bridge_carrot_generated_modified",
        target="bridge_plate_objaverse_larger",
        models=("bridge_carrot_generated_modified", "bridge_plate_objaverse_larger"),
    ),
    "stack_cube": BridgeTask(
        maniskill3="StackGreenCubeOnYellowCubeBakedTexInScene-v1",
        original="StackGreenCubeOnYellowCubeBakedTexInScene-v0",
        instruction="stack the green block on the yellow block",
        source="baked_green_cube_3cm",
        target="baked_yellow_cube_3cm",
        models=("baked_green_cube_3cm", "baked_yellow_cube_3cm"),
    ),
    "eggplant_in_basket": BridgeTask(
        maniskill3="PutEggplantInBasketScene-v1",
        original="PutEggplantInBasketScene-v0",
        instruction="put eggplant into yellow basket",
        source="eggplant",
        target="dummy_sink_target_plane",
        models=("eggplant", "dummy_sink_target_plane", "sink"),
        stage="bridge_table_1_v2",
        overlay="bridge_sink",
        base=(0.127, 0.06),
        sink=True,
    ),
}


def facts(task: str) -> BridgeTask:
    """The task of that name. Raises SceneError naming those there are."""
    if task not in TASKS:
        raise SceneError(f"SimplerEnv-Bridge has no task {task!r}; there are {', '.join(TASKS)}")
    return TASKS[task]


def check_trial(task: str, trial: int) -> None:
    """Raise SceneError for a trial beyond the layouts there are."""
    if trial >= SCENES:
        raise SceneError(f"{task} has {SCENES} scenes, trials 0 to {SCENES - 1}; was asked for trial {trial}")
