"""Vision towers and language: against timm, and by first principles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from envs.spec import Observation
from policies.base import PolicyError
from policies.vla.checkpoint import translate_towers
from policies.vla.config import LanguageConfig, ModelConfig, TowerConfig, VisionConfig, preset
from policies.vla.images import pictures
from policies.vla.language import Language, Prompter, cognition_of, lab_tokenizer
from policies.vla.model import VLM, Inputs
from policies.vla.vision import FusedTowers, Projector
from tests.policies.vla.reference import close, vectors

SMALL = LanguageConfig(
    vocabulary=512, width=32, layers=2, heads=2, mlp=48, prompt="{instruction}", pad=0, tail=(2,), longest=64
)


def towers(dtype: torch.dtype) -> FusedTowers:
    ref = vectors("towers")
    config = VisionConfig(
        "towers",
        image=ref.meta["image"],
        patch=ref.meta["patch"],
        dino=TowerConfig(*ref.meta["dino"]),
        siglip=TowerConfig(*ref.meta["siglip"]),
        registers=ref.meta["registers"],
    )
    state = {k: v for k, v in ref.state().items() if ".attn_pool." not in k}
    module = FusedTowers(config)
    module.load_state_dict(translate_towers(state), strict=True)
    return module.to(dtype).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_towers_give_what_timm_gives(dtype: torch.dtype) -> None:
    ref = vectors("towers")
    module = towers(dtype)
    out = "out64" if dtype is torch.float64 else "out"
    with torch.no_grad():
        for name, see in (("dino", module.see_dino), ("siglip", module.see_siglip)):
            found = see(ref.tensor(f"in__{name}_featurizer", dtype))
            tolerance = 1e-6 if dtype is torch.float64 else 1e-5
            close(found, ref[f"{out}__{name}_featurizer"], tolerance, relative=True)


def test_pictures_are_normalised_for_each_tower_and_joined_dino_first() -> None:
    module = towers(torch.float64)
    picture = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8)
    pixels = picture.double().permute(0, 3, 1, 2) / 255
    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        found = module(picture, torch.zeros(2, 1))
        close(found[..., :24], module.see_dino((pixels - mean) / std), 1e-5)
        close(found[..., 24:], module.see_siglip(pixels * 2 - 1), 1e-5)


def test_the_vision_language_part_has_the_published_sizes_and_shapes() -> None:
    config = preset("7b", "memoryvla")
    assert config.vision.tokens == 256
    assert config.vision.channels == 2176
    with torch.device("meta"):
        projector = Projector(2176, 4096)
        small = ModelConfig("cogact", config.vision, LanguageConfig(32064, 4096, 1, 32, 11008), config.expert)
        vlm = VLM(small)
    assert sum(p.numel() for p in projector.parameters()) / 1e6 == pytest.approx(71.4, abs=0.051)
    shapes = {name: list(p.shape) for name, p in vlm.state_dict().items()}
    assert shapes["vision_backbone.dino.embeddings.position_embeddings"] == [1, 257, 1024]
    assert shapes["vision_backbone.siglip.encoder.layers.26.mlp.fc1.weight"] == [4304, 1152]
    assert shapes["llm_backbone.model.embed_tokens.weight"] == [32064, 4096]
    assert shapes["llm_backbone.model.layers.0.mlp.gate_proj.weight"] == [11008, 4096]


def test_the_cognition_token_is_the_hidden_state_of_the_last_text_token() -> None:
    torch.manual_seed(0)
    language = Language(SMALL).double().eval()
    ids = torch.tensor([[1, 9, 8, 2, 0, 0], [1, 5, 6, 7, 11, 2]])
    lengths = torch.tensor([4, 6])
    prefix = torch.randn(2, 3, 32, dtype=torch.float64)
    with torch.no_grad():
        found = language(language.embed(ids), lengths, prefix)
        for row, length in enumerate([4, 6]):
            text = language.embed(ids[row : row + 1, :length])
            whole = torch.cat([text[:, :1], prefix[row : row + 1], text[:, 1:]], 1)
            hidden = language.model(inputs_embeds=whole).last_hidden_state
            close(found[row : row + 1], hidden[:, -1:], 1e-12)


def test_training_finds_the_last_position_under_the_mask() -> None:
    hidden = torch.arange(2 * 7, dtype=torch.float32).reshape(2, 7, 1)
    mask = torch.tensor([[True, True, True, False], [True, True, True, True]])
    assert cognition_of(hidden, mask, 3).flatten().tolist() == [5.0, 13.0]


def test_prompts_are_lower_case_start_with_bos_and_end_with_the_tail() -> None:
    prompter = Prompter(lab_tokenizer(), SMALL)
    ids = prompter.ids("  Press the RED button ")
    assert ids == prompter.ids("press the red button")
    assert ids[0] == 1
    assert ids[-1] == 2
    assert len(ids) == 6  # four words known whole
    spelt = prompter.ids("press the zebra button")
    assert len(spelt) > len(ids)
    assert prompter.tokenizer.token_to_id("[UNK]") not in spelt
    batch, lengths = prompter.batch([ids, spelt])
    assert lengths.tolist() == [len(ids), len(spelt)]
    assert batch[0, len(ids) :].eq(0).all()


@pytest.mark.parametrize(("instruction", "error"), [("  ", "empty"), ("red " * 70, "tokens, at most 64")])
def test_a_sentence_that_cannot_be_read_is_refused(instruction: str, error: str) -> None:
    with pytest.raises(PolicyError, match=error):
        Prompter(lab_tokenizer(), SMALL).ids(instruction)


def seen(**images: np.ndarray) -> Observation:
    return Observation(images, None, "go", 0)


def test_a_missing_camera_a_wrong_size_and_a_wrong_type_are_refused() -> None:
    config = preset("lab", "cogact").vision
    right = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(PolicyError, match="camera 'wrist' is missing; the observation has front"):
        pictures(seen(front=right), ("front", "wrist"), config)
    with pytest.raises(PolicyError, match="takes 64x64 pictures, got"):
        pictures(seen(front=np.zeros((65, 64, 3), np.uint8)), ("front",), config)
    with pytest.raises(PolicyError, match=r"expected uint8 \[H, W, 3\], got float32"):
        pictures(seen(front=right.astype(np.float32)), ("front",), config)
    assert pictures(seen(front=right, wrist=right), ("front", "wrist"), config).shape == (2, 64, 64, 3)


def test_other_sizes_are_resized_and_cropped_as_the_servers_do() -> None:
    generator = np.random.default_rng(0)
    wide = generator.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    naive = VisionConfig("towers", 224, 14)
    cropped = VisionConfig("towers", 224, 14, centre_crop=True)
    assert pictures(seen(a=wide), ("a",), naive).shape == (1, 224, 224, 3)
    marked = np.zeros((480, 640, 3), np.uint8)
    marked[:, :80] = 255  # outside the centre square: gone
    marked[:5] = 255  # the top 5 of 480 rows: outside the middle 90 % of area
    assert pictures(seen(a=marked), ("a",), cropped).max() <= 1  # resampling rings a little
    assert pictures(seen(a=marked), ("a",), naive).max() == 255
    swapped = VisionConfig("towers", 224, 14, swap_red_blue=True)
    red = np.zeros((224, 224, 3), np.uint8)
    red[..., 0] = 200
    assert pictures(seen(a=red), ("a",), swapped)[0, 0, 0].tolist() == [0, 0, 200]


def test_every_view_goes_through_the_same_towers() -> None:
    torch.manual_seed(0)
    vlm = VLM(replace(preset("lab", "cogact"), views=2)).eval()
    pictures_ = torch.randint(0, 256, (3, 2, 64, 64, 3), dtype=torch.uint8)
    words = torch.randn(3, 96)
    with torch.no_grad():
        both = vlm.look(pictures_, words)
        one = torch.cat([vlm.look(pictures_[:, v : v + 1], words) for v in range(2)], 1)
        inputs = Inputs(pictures_, torch.tensor([[1, 4, 2]] * 3), torch.tensor([3] * 3), None, torch.zeros(3))
        cognition, vision = vlm(inputs)
    close(both, one, 1e-6)
    assert cognition.shape == (3, 1, 96)
    assert vision.shape == (3, 32, 96)
