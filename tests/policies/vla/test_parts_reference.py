"""Compressor, action expert, schedule, sampling, loss and un-normalisation against the official modules."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.vla import diffusion
from policies.vla.compressor import PerceptualCompressor
from policies.vla.dit import ActionModel, DiTConfig
from policies.vla.sinusoid import sinusoid
from policies.vla.statistics import ActionStatistics, settle, unnormalise
from tests.policies.vla.reference import Vectors, close, load, vectors

DTYPES = [torch.float32, torch.float64]
MODELS = ["memoryvla", "cogact"]
RUNS = [
    (model, float(scale), count)
    for model in MODELS
    for scale in vectors(f"dit_{model}").meta["ddim_scales"]
    for count in vectors(f"dit_{model}").meta["ddim_steps"]
]


def out(dtype: torch.dtype) -> str:
    return "out64__" if dtype is torch.float64 else "out__"


def tolerance(dtype: torch.dtype) -> float:
    return 1e-6 if dtype is torch.float64 else 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["tokens", "tokens_large"])
def test_the_compressor_gives_the_official_tokens_and_gradients(case: str, dtype: torch.dtype) -> None:
    ref = vectors("compressor")
    channels, inner, width = ref.meta["dims"]
    compressor = PerceptualCompressor(channels, width, inner)
    load(compressor, ref.state(), dtype)
    tokens = ref.tensor(f"in__{case}", dtype).requires_grad_()
    found = compressor(tokens)
    close(found, ref[f"{out(dtype)}{case}"], tolerance(dtype))
    if case == "tokens":
        (found**2).sum().backward()
        assert tokens.grad is not None
        close(tokens.grad, ref["out__grad_tokens"], 1e-5, relative=True)
        for name, parameter in compressor.named_parameters():
            close(parameter.grad, ref[f"out__grad__{name}"], 1e-5, relative=True)


def test_views_are_compressed_one_by_one() -> None:
    compressor = PerceptualCompressor(12, 8)
    views = torch.randn(2, 3, 16, 12)
    together = compressor(views.flatten(1, 2), views=3)
    close(together, torch.cat([compressor(view) for view in views.unbind(1)], 1), 1e-6)


def expert(model: str, dtype: torch.dtype) -> tuple[Vectors, ActionModel]:
    ref = vectors(f"dit_{model}")
    meta = ref.meta
    config = DiTConfig(
        depth=meta["depth"],
        hidden=meta["hidden"],
        heads=meta["heads"],
        chunk=meta["T"],
        condition=meta["token_size"],
        perception=meta.get("per_token_size", 0),
    )
    action_model = ActionModel(config)
    load(action_model, ref.state(), dtype, drop=("net.history_embedder",))
    return ref, action_model


def perception(ref: Vectors, case: str, dtype: torch.dtype) -> Tensor | None:
    key = f"in__{case}__per"
    return ref.tensor(key, dtype) if key in ref else None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_the_action_expert_gives_the_official_noise_block_by_block(model: str, dtype: torch.dtype) -> None:
    ref, action_model = expert(model, dtype)
    net = action_model.net
    x, z = (ref.tensor(f"in__forward__{n}", dtype) for n in ("x", "z"))
    t = ref.tensor("in__forward__t")
    with torch.no_grad():
        seen = net.see(perception(ref, "forward", dtype))
        states = net.hidden_states(x, t, z, seen)
        close(net.t_embedder(t), ref[f"{out(dtype)}forward__t_embed"], tolerance(dtype))
        close(net.z_embedder(z), ref[f"{out(dtype)}forward__z_embed"], tolerance(dtype))
        close(states[0], ref[f"{out(dtype)}forward__block0"], tolerance(dtype), relative=True)
        close(states[1], ref[f"{out(dtype)}forward__block1"], tolerance(dtype), relative=True)
        close(net(x, t, z, seen), ref[f"{out(dtype)}forward__eps"], tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_guidance_gives_the_official_noise(model: str, dtype: torch.dtype) -> None:
    ref, action_model = expert(model, dtype)
    x, z = (ref.tensor(f"in__cfg__{n}", dtype) for n in ("x", "z"))
    per = perception(ref, "cfg", dtype)
    half = x[: len(x) // 2]
    with torch.no_grad():
        both = action_model.net(torch.cat([half, half]), ref.tensor("in__cfg__t"), z, action_model.net.see(per))
        guided = diffusion.guide(both, ref.meta["cfg_scale"])
    # The reference returns the guided half twice, once for each half of the doubled batch.
    close(torch.cat([guided, guided]), ref[f"{out(dtype)}cfg__eps"], tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("model", "scale", "count"), RUNS)
def test_sampling_visits_the_official_steps_and_values(
    model: str, scale: float, count: int, dtype: torch.dtype
) -> None:
    ref, action_model = expert(model, dtype)
    trace: list[tuple[Tensor, Tensor, Tensor]] = []
    cond, noise = ref.tensor("in__ddim__cond", dtype), ref.tensor("in__ddim__noise", dtype)
    sampling = diffusion.Sampling(steps=count, guidance=scale)
    with torch.no_grad():
        final = diffusion.sample(action_model.net, noise, cond, perception(ref, "ddim", dtype), sampling, trace)
    case = f"{out(dtype)}ddim__cfg{scale}_steps{count}__"
    steps = [step.step for step in diffusion.ddim_schedule(count)]
    assert steps == ref[f"out__ddim__cfg{scale}_steps{count}__timesteps"].tolist()
    for name, found in zip(("x", "pred_x0", "eps"), zip(*trace, strict=True), strict=True):
        close(torch.stack(found), ref[f"{case}{name}"], tolerance(dtype), relative=True)
    close(final, ref[f"{case}final"], tolerance(dtype), relative=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_loss_and_its_gradients_are_the_official_ones(model: str, mode: str, dtype: torch.dtype) -> None:
    ref, action_model = expert(model, dtype)
    net = action_model.net
    z, x0, noise = (ref.tensor(f"in__loss__{n}", dtype) for n in ("z", "x0", "noise"))
    t, drop = ref.tensor("in__loss__t"), ref.tensor("in__loss__drop_u") < diffusion.DROP
    assert drop.tolist() == ref["out__loss__dropped"].tolist()
    close(diffusion.add_noise(x0, noise, t), ref[f"{out(dtype)}qsample__x_t"], tolerance(dtype))
    per = perception(ref, "loss", dtype)
    inputs = [x.requires_grad_() for x in (z, per) if x is not None]
    loss = diffusion.diffusion_loss(net, x0, z, per, noise=noise, step=t, drop=drop if mode == "train" else None)
    close(loss, ref[f"{out(dtype)}loss__{mode}"], tolerance(dtype))
    loss.backward()
    for name, found in zip(("z", "per"), inputs, strict=False):
        assert found.grad is not None
        close(found.grad, ref[f"out__loss__{mode}__grad_{name}"], 1e-5 * float(found.grad.abs().max()))
    if mode == "train":
        for name, parameter in net.named_parameters():
            expected = ref[f"out__loss__train__grad__net.{name}"]
            close(parameter.grad, expected, 1e-5 * max(1e-3, float(np.abs(expected).max())))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", MODELS)
def test_a_dropped_condition_becomes_the_learned_vector(model: str, dtype: torch.dtype) -> None:
    ref, action_model = expert(model, dtype)
    drop = ref.tensor("in__drop__force_ids") == 1
    found = diffusion.drop_condition(action_model.net, ref.tensor("in__loss__z", dtype), drop)
    close(found, ref[f"{out(dtype)}drop__z"], 0.0)
    close(action_model.net.z_embedder(found), ref[f"{out(dtype)}drop__z_embed"], tolerance(dtype))


def test_the_schedule_is_the_official_one() -> None:
    ref = vectors("schedule")
    assert np.abs(diffusion.cosine_betas() - ref["out__full__betas"]).max() < 1e-15
    assert np.abs(diffusion.alphas_cumprod() - ref["out__full__alphas_cumprod"]).max() < 1e-15
    for count in ref.meta["ddim_counts"]:
        schedule = diffusion.ddim_schedule(count)[::-1]
        assert [s.step for s in schedule] == ref[f"out__ddim{count}__timesteps"].tolist()
        bar = ref[f"out__ddim{count}__alphas_cumprod"]
        before = ref[f"out__ddim{count}__alphas_cumprod_prev"]
        for i, step in enumerate(schedule):
            expected = (1 / bar[i], 1 / bar[i] - 1, before[i], 1 - before[i])
            found = np.array([step.recip, step.recipm1, step.keep, step.renoise]) ** 2
            assert np.allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_only_step_counts_that_a_stride_gives_are_accepted() -> None:
    valid = vectors("schedule")["out__valid_ddim_counts"].tolist()
    for count in range(0, 101):
        if count in valid:
            assert len(diffusion.ddim_steps(count)) == count
        else:
            with pytest.raises(ValueError, match="ddim_steps must be one of 1, 2, 3"):
                diffusion.ddim_steps(count)


def test_sinusoids_are_the_official_ones() -> None:
    ref = vectors("schedule")
    close(sinusoid(ref.tensor("in__sinusoid_t"), 256), ref["out__step_sinusoid"], 1e-5)
    for width in ref.meta["memory_sinusoid_widths"]:
        close(sinusoid(ref.tensor("in__memory_t"), width), ref[f"out__memory_sinusoid_{width}"], 1e-5)


@pytest.mark.parametrize("case", list(vectors("unnormalise").meta["cases"]))
def test_unnormalised_actions_are_exactly_the_official_ones(case: str) -> None:
    ref = vectors("unnormalise")
    entry: dict[str, Any] = {n: ref[f"in__{case}__{n}"] for n in ("q01", "q99", "mask") if f"in__{case}__{n}" in ref}
    settled = settle(ref["in__raw"].copy())
    assert np.array_equal(settled, ref[f"out__{case}__normalized"])
    found = unnormalise(settled, ActionStatistics.of(entry))
    assert found.dtype == np.float64
    assert np.array_equal(found, ref[f"out__{case}__actions"])


@pytest.mark.parametrize(("count", "same_steps"), [(10, True), (12, False)])
def test_why_the_scheduler_of_diffusers_is_not_used(count: int, same_steps: bool) -> None:
    """It visits other steps where the count does not divide 100, and is further from the official float64 result."""
    scheduler_class = importlib.import_module("diffusers").DDIMScheduler
    ref, action_model = expert("memoryvla", torch.float64)
    scheduler = scheduler_class(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=True
    )
    scheduler.set_timesteps(count)
    steps = [step.step for step in diffusion.ddim_schedule(count)]
    assert (scheduler.timesteps.tolist() == steps) is same_steps
    if not same_steps:
        return
    cond, per = ref.tensor("in__ddim__cond", torch.float64), ref.tensor("in__ddim__per", torch.float64)
    x = ref.tensor("in__ddim__noise", torch.float64)
    with torch.no_grad():
        ours = diffusion.sample(action_model.net, x, cond, per)
        seen = action_model.net.see(per)
        for t in scheduler.timesteps:
            eps = diffusion.predict(action_model.net, x, t.expand(len(x)), cond, seen, 1.5)
            x = scheduler.step(eps, t, x, eta=0.0).prev_sample
    expected = torch.from_numpy(ref["out64__ddim__cfg1.5_steps10__final"])
    assert float((x - expected).abs().max()) > 10 * float((ours - expected).abs().max())
