"""Runs under LeRobot's Python: saves a tiny ACT with random weights, or says what LeRobot itself answers.

python saving.py save FOLDER
python saving.py answer FOLDER PICTURES.npz       prints the actions, one JSON list
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors
from lerobot.utils.control_utils import predict_action


def save(folder: str) -> None:
    torch.manual_seed(0)
    config = ACTConfig(
        input_features={
            "observation.images.front": PolicyFeature(type=FeatureType.VISUAL, shape=(3, 64, 64)),
            "observation.state": PolicyFeature(type=FeatureType.STATE, shape=(8,)),
        },
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(7,))},
        device="cpu",
        push_to_hub=False,
        pretrained_backbone_weights=None,
        chunk_size=8,
        n_action_steps=4,
        dim_model=32,
        n_heads=2,
        dim_feedforward=64,
        n_encoder_layers=1,
        n_decoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=8,
    )
    middle, half = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
    statistics = {
        "observation.images.front": {"mean": middle, "std": half},
        "observation.state": {"mean": torch.zeros(8), "std": torch.ones(8)},
        "action": {"mean": torch.zeros(7), "std": torch.full((7,), 0.5)},
    }
    for part in (ACTPolicy(config), *make_pre_post_processors(config, dataset_stats=statistics)):
        part.save_pretrained(folder)


def answer(folder: str, pictures: str) -> None:
    """LeRobot's own loop over the recorded steps: one `predict_action` a step."""
    torch.set_num_threads(1)
    policy = ACTPolicy.from_pretrained(folder).eval()
    before, after = make_pre_post_processors(policy.config, folder)
    policy.reset()
    seen = np.load(pictures)
    found = []
    for front, state in zip(seen["front"], seen["state"], strict=True):
        told = {"observation.images.front": front, "observation.state": state}
        found.append(predict_action(told, policy, torch.device("cpu"), before, after, False, task="press")[0].tolist())
    print(json.dumps(found))


if __name__ == "__main__":
    {"save": save, "answer": answer}[sys.argv[1]](*sys.argv[2:])
