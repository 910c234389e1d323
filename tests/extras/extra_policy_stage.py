"""The real policy stage on made-up demonstrations: what a team of processes is tried on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from envs.lab import ACTION
from policies.memoryvla.model import MemoryVLANetwork
from policies.training.batches import BatchMaker
from policies.training.data import Data
from policies.training.demos import Demo
from policies.training.losses import PolicyTraining
from policies.training.policy_stage import PolicyStage
from policies.training.windows import CallSampler
from policies.vla.config import preset
from policies.vla.language import Prompter, lab_tokenizer
from policies.vla.statistics import ActionStatistics

UNIT = {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mask": [True] * 6 + [False]}


def made_up(number: int) -> Demo:
    """Eight steps of noise under an instruction."""
    chance = np.random.default_rng(number)
    actions = chance.uniform(-1, 1, (8, 7)).astype(np.float32)
    actions[:, 6] = actions[:, 6] > 0
    pictures = chance.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    return Demo("lab", f"task{number}", 0, "press the red button", {"front": pictures}, None, actions)


def made_up_stage(*, seed: int = 0) -> PolicyStage:
    """memoryvla of the `lab` preset, four pieces an update."""
    config = replace(preset("lab", "memoryvla"), views=1)
    torch.manual_seed(seed)
    network = MemoryVLANetwork(config)
    demos = tuple(made_up(number) for number in range(4))
    words = lab_tokenizer()
    statistics = ActionStatistics.of(UNIT)
    maker = BatchMaker(demos, config, ("front",), Prompter(words, config.language), lambda demo: statistics, repeats=2)
    sampler = CallSampler([8] * 4, [demo.task for demo in demos], 4, 4, 4, seed)
    data = Data(demos, {"lab": {"action": UNIT}}, ACTION)
    return PolicyStage(PolicyTraining(network, config), data, maker, sampler, tokenizer=words, card="")
