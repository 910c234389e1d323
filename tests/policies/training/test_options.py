"""Options, schedules, recipes and their words: what is wrong is said with what is meant."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from policies.base import PolicyError
from policies.training.options import FREE, TrainingError, TrainOptions, fixed, train_options
from policies.training.recipes import compose, read_recipe, recipe_files
from policies.training.schedule import average_decay, learning_rate

WORDS = ("recipe=finder", "train.dir=somewhere")


def test_a_constant_rate_is_constant_and_a_warm_up_rises_to_it() -> None:
    options = TrainOptions(lr=2e-5)
    assert {learning_rate(options, update) for update in range(0, 20000, 100)} == {2e-5}
    warm = TrainOptions(lr=1.0, warmup=4)
    assert [learning_rate(warm, update) for update in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_cosine_falls_as_torchs_does() -> None:
    options = TrainOptions(lr=0.1, schedule="cosine", updates=50, lr_final=0.1)
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50, eta_min=0.01)
    for update in range(50):
        assert learning_rate(options, update) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        theirs.step()
    assert learning_rate(options, 50) == pytest.approx(0.01)


def test_a_constant_rate_falls_linearly_over_its_last_share() -> None:
    options = TrainOptions(lr=1.0, updates=20, cooldown=0.2, lr_final=0.5)
    rates = [learning_rate(options, update) for update in range(22)]
    assert rates == pytest.approx([1.0] * 17 + [0.875, 0.75, 0.625, 0.5, 0.5])


def test_an_average_forgets_the_start_at_first_and_reaches_its_decay() -> None:
    options = TrainOptions(ema=0.998)
    assert average_decay(options, 0) == 0.1
    assert average_decay(options, 10**6) == 0.998
    # What is left of the starting weights after the first thousand updates is nothing.
    assert math.prod(average_decay(options, update) for update in range(1000)) < 1e-3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"lrr": 1.0}, r"unknown train key 'lrr'; did you mean lr"),
        ({"evaluate": {"evry": 3}}, r"unknown train\.evaluate key 'evry'; did you mean every"),
        ({"evaluate": {"every": 3}}, r"name the suites, train\.evaluate\.suite"),
        ({"schedule": "linear"}, "must be one of constant, cosine"),
        ({"cooldown": 300}, r"train\.cooldown is a share of the updates, 0 \.\.\. 1, was 300"),
        ({"schedule": "cosine", "cooldown": 0.2}, r"train\.cooldown belongs to schedule=constant"),
        ({"updates": 0}, r"train\.updates must be 1 or more, was 0"),
        ({"updates": "many"}, r"train\.updates must be of type int"),
        ({"lr": 0}, r"train\.lr must be above 0"),
        ({"ema": 1.0}, r"train\.ema is a decay in \[0, 1\)"),
        ({"betas": [0.9]}, r"train\.betas are two numbers"),
        ({"processes": 8, "shard_over": 3}, r"shard_over=3 must divide train\.processes=8"),
    ],
)
def test_a_wrong_option_is_refused_with_what_would_be_right(data: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        train_options(data)


def test_free_options_are_options_and_every_other_one_is_kept_fixed() -> None:
    known = set(vars(TrainOptions()))
    assert set(FREE) < known
    kept = {name.removeprefix("train.") for name in fixed({"train": {}})}
    assert kept == known - set(FREE)


def test_words_change_the_recipe_and_nothing_else() -> None:
    plain, changed = compose(WORDS), compose([*WORDS, "train.lr=0.5", "batch=4", "train.evaluate.trials=3"])
    assert (changed.train.lr, changed.train.evaluate.trials, changed.options) == (0.5, 3, {"batch": 4})
    assert changed.train.updates == plain.train.updates == 12
    assert plain.options == {"batch": 8}
    assert read_recipe("finder")["finder"]["batch"] == 8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.dir=x"], "name a recipe: recipe=NAME; there are: .*finder"),
        (["recipe=findr", "train.dir=x"], "unknown recipe 'findr'; did you mean finder"),
        (["recipe=finder"], r"train\.dir=DIR"),
        ([*WORDS, "stage=policy"], "unknown stage 'policy'; there are: finder"),
        ([*WORDS, "bach=3"], "unknown option 'bach'; did you mean batch"),
        ([*WORDS, "nonsense"], "'nonsense' is not of the form key=value"),
        ([*WORDS, "batch=1,2"], r"lists are written key=\[a,b\]"),
        ([*WORDS, "batch.size=2"], "batch is 8, it has no keys below it"),
        (["recipe=nowhere.yaml", "train.dir=x"], r"recipe nowhere\.yaml cannot be read"),
    ],
)
def test_a_wrong_word_is_refused_with_what_would_be_right(words: list[str], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        compose(words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title: nothing", "has no stage"),
        ("policy: {train: {}}", "section 'policy' needs `target: module:callable`"),
        ("policy: {target: 'no_such_module:stage'}", "there is no module no_such_module"),
        ("policy: {target: 'extra_stages:NoStage'}", "extra_stages has no NoStage"),
        (
            "one: {target: 'extra_stages:FinderStage'}\ntwo: {target: 'extra_stages:FinderStage'}",
            "stage=one or stage=two",
        ),
    ],
)
def test_a_wrong_recipe_file_is_refused_with_its_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(TrainingError, match=said):
        compose([f"recipe={path}", "train.dir=x"])


def test_an_option_the_stage_cannot_do_without_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("policy: {target: 'policies.training.policy_stage:policy_stage', family: cogact}")
    with pytest.raises(TrainingError, match=r"this stage also needs data=\.\.\."):
        compose([f"recipe={path}", "train.dir=x"])


def test_recipes_of_other_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("policy: {target: 'extra_stages:FinderStage'}")
    monkeypatch.setenv("MEMVLA_RECIPES", str(tmp_path))
    assert "mine" in recipe_files()
    assert "finder" not in recipe_files()
