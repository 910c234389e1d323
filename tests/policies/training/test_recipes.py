"""Every recipe that is shipped can be composed, and the model it asks for can be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from policies.training.options import train_options
from policies.training.policy_stage import NETWORKS, policy_stage
from policies.training.recipes import compose, stages_of
from policies.training.world import WorldTraining
from policies.vla.config import ModelConfig, changed, from_data, preset

FOLDER = Path(__file__).parents[3] / "policies" / "training" / "recipes"
RECIPES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
SECTIONS = [(name, stage) for name, data in RECIPES.items() for stage in stages_of(data)]
POLICIES = [(n, s) for n, s in SECTIONS if RECIPES[n][s]["target"].endswith(policy_stage.__name__)]
PAPERS = [(n, s) for n, s in POLICIES if RECIPES[n][s].get("size") == "7b"]


def shape(section: dict[str, Any]) -> ModelConfig:
    """The model of a policy section."""
    base = preset(section.get("size", "lab"), section["family"])
    return changed(base, section.get("model") or {}, "model")


@pytest.mark.parametrize(("name", "stage"), SECTIONS)
def test_a_recipe_composes(name: str, stage: str) -> None:
    recipe = compose([f"recipe={name}", f"stage={stage}", "train.dir=somewhere"])
    assert recipe.train == train_options({**(RECIPES[name][stage].get("train") or {}), "dir": "somewhere"})
    assert RECIPES[name]["title"]


@pytest.mark.parametrize(("name", "stage"), POLICIES)
def test_a_recipes_model_can_be_built(name: str, stage: str) -> None:
    config = shape(RECIPES[name][stage])
    with torch.device("meta"):
        network = NETWORKS[config.family](config)
    billions = sum(weight.numel() for weight in network.parameters()) / 1e9
    assert (billions > 7) == (RECIPES[name][stage].get("size") == "7b")


@pytest.mark.parametrize(("name", "stage"), PAPERS)
def test_a_papers_recipe_has_the_papers_figures(name: str, stage: str) -> None:
    """Specification, 4.2: one batch, one rate, one sampler for each kind of data, eight GPUs."""
    section = RECIPES[name][stage]
    train = train_options({**section["train"], "dir": "x"})
    assert (train.lr, train.schedule, train.warmup, train.clip) == (2e-5, "constant", 0, 1.0)
    assert (train.weight_decay, train.ema, train.processes, section["drop"]) == (0.0, 0.0, 8, 0.1)
    assert section["pieces"] * section["longest"] == 256
    assert section["pieces"] % train.processes == 0
    assert section["repeats"] == (8 if section["family"] == "cogact" else 4)
    assert section["sampler"] == ("stream" if name.startswith(("bridge", "fractal")) else "group")


STEPS = {
    ("libero_memoryvla", "spatial"): 20_000,
    ("libero_memoryvla", "object"): 20_000,
    ("libero_memoryvla", "goal"): 20_000,
    ("libero_memoryvla", "long"): 40_000,
    ("libero_memoryvla_pp", "world_model"): 40_000,
    ("libero_memoryvla_pp", "policy"): 60_000,
    ("libero_memoryvla_pp", "policy_long90"): 30_000,
    ("bridge_memoryvla", "policy"): 50_000,
    ("bridge_memoryvla_pp", "world_model"): 40_000,
    ("bridge_memoryvla_pp", "policy"): 50_000,
    ("fractal_memoryvla", "policy"): 80_000,
    ("mikasa_memoryvla", "policy"): 20_000,
    ("mikasa_memoryvla_pp", "world_model"): 20_000,
    ("mikasa_memoryvla_pp", "policy"): 20_000,
    ("calvin_memoryvla_pp", "policy"): 60_000,
    ("libero_plus_memoryvla_pp", "world_model"): 40_000,
    ("libero_plus_memoryvla_pp", "zero_shot"): 60_000,
    ("libero_plus_memoryvla_pp", "sft"): 60_000,
}
"""Specification, 4.1."""


def test_the_papers_numbers_of_updates() -> None:
    assert {key: RECIPES[key[0]][key[1]]["train"]["updates"] for key in STEPS} == STEPS


@pytest.mark.parametrize(("name", "stage"), [key for key in STEPS if key[1] == "world_model"])
def test_a_world_models_options_are_known(name: str, stage: str) -> None:
    known = set(vars(WorldTraining()))
    section = {key: value for key, value in RECIPES[name][stage].items() if key in known}
    assert from_data(WorldTraining, section, "world model").batch == 48
    assert set(RECIPES[name][stage]) - known == {"target", "train", "phase", "data", "start", "clip"}
