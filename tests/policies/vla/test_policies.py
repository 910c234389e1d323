"""The policies under the engine's contract: the rules of memory, batching, and what bad input meets."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from envs.spec import Observation
from policies.base import ActRequest, EpisodeStart, OutOfMemory, PolicyError
from policies.cogact.policy import cogact
from policies.memoryvla.policy import memoryvla, memoryvla_plus, memoryvla_pp
from policies.vla import policy as policy_module
from policies.vla.config import preset, to_data
from policies.vla.policy import VLAPolicy
from tests.policies.vla.playing import CONTEXT, SENTENCES, alone, episode, observation, request, start, together

FAMILIES: dict[str, Callable[..., VLAPolicy[Any]]] = {
    "cogact": cogact,
    "memoryvla": memoryvla,
    "memoryvla_plus": memoryvla_plus,
    "memoryvla_pp": memoryvla_pp,
}


def make(family: str, **options: Any) -> VLAPolicy[Any]:
    return FAMILIES[family](CONTEXT, **{"threads": 1, **options})


@lru_cache(maxsize=8)
def shared(family: str, batching: str = "exact") -> VLAPolicy[Any]:
    """A policy several tests may use: they end what they start."""
    return (
        make(family, batching=batching, memory={"length": 3}) if family != "cogact" else make(family, batching=batching)
    )


ALL = {episode(i): length for i, length in enumerate([8, 1, 5, 2, 3, 4, 1, 2, 1, 3, 2, 1, 2, 1, 2, 3, 1])}
SHORT = {episode(i): length for i, length in enumerate([6, 1, 2, 2])}  # imagining takes its time


def lengths(family: str) -> dict[Any, int]:
    return SHORT if family in ("memoryvla_plus", "memoryvla_pp") else ALL


@lru_cache(maxsize=8)
def expected(family: str) -> dict[Any, Any]:
    """What every episode does alone, in exact mode."""
    return {e: alone(shared(family), e, n) for e, n in lengths(family).items()}


@pytest.mark.parametrize(
    ("family", "batch"),
    [*((f, b) for f in ("cogact", "memoryvla") for b in (1, 3, 16)), ("memoryvla_plus", 3), ("memoryvla_pp", 3)],
)
def test_in_exact_mode_batch_mates_change_not_one_bit(family: str, batch: int) -> None:
    policy = shared(family)
    for which, actions in together(policy, lengths(family), batch, seed=batch).items():
        assert np.array_equal(actions, expected(family)[which])
    assert policy.live() == 0


@pytest.mark.parametrize("family", ["cogact", "memoryvla"])
def test_padded_batches_are_exact_too_or_refused(family: str) -> None:
    """Rounding may depend on the machine's kernels: where it does, the policy must say so and not act."""
    policy = make(family, exact_rows=4, memory={"length": 3}) if family != "cogact" else make(family, exact_rows=4)
    try:
        found = together(policy, lengths(family), 7, seed=1)
    except PolicyError as error:
        assert "not exact on this machine" in str(error)  # noqa: PT017 - either outcome is right, silence is not
        return
    alone_ = make(family, exact_rows=4, memory={"length": 3}) if family != "cogact" else make(family, exact_rows=4)
    for which, actions in found.items():
        assert np.array_equal(actions, alone(alone_, which, len(actions)))
        motion = np.abs(actions - expected(family)[which])[..., :6]
        assert motion.max() <= 1e-4


def test_padded_batches_whose_rows_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make("memoryvla", exact_rows=3)
    run = policy._run

    def uneven(rows: Any, text: int = 0) -> Any:
        return [chunk + 1e-6 * place for place, chunk in enumerate(run(rows, text))]

    monkeypatch.setattr(policy, "_run", uneven)
    start(policy, [episode(0)])
    with pytest.raises(PolicyError, match=r"use policy\.exact_rows=1"):
        policy.act([request(episode(0), 0)])


@pytest.mark.parametrize(
    ("family", "batch"),
    [*((f, b) for f in ("cogact", "memoryvla") for b in (3, 16)), ("memoryvla_plus", 16), ("memoryvla_pp", 3)],
)
def test_in_fast_mode_batch_mates_change_rounding_only(family: str, batch: int) -> None:
    for which, actions in together(shared(family, "fast"), lengths(family), batch, seed=batch).items():
        motion = np.abs(actions - expected(family)[which])[..., :6]
        assert motion.max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batching", ["exact", "fast"])
def test_a_mate_that_crashes_or_starts_again_changes_nothing(family: str, batching: str) -> None:
    policy = shared(family, batching)
    kept, mate = episode(0), episode(3)
    start(policy, [kept, mate])
    found = []
    for call in range(6):
        requests = [request(kept, call)]
        if call in (0, 1, 4):
            requests.insert(0, request(mate, call if call < 4 else 0))
        if call == 2:
            policy.end([mate])
        if call == 4:
            mate = episode(3, attempt=2)
            start(policy, [mate])
            requests[0] = request(mate, 0)
        replies = policy.act(requests)
        found.append(replies[-1].actions)
        if call == 4:  # the second attempt does what the first did
            again = np.abs(replies[0].actions - expected(family)[episode(3)][0])[..., :6].max()
            assert again <= (0 if batching == "exact" else 1e-4)
    policy.end([kept, mate])
    gap = np.abs(np.stack(found) - expected(family)[kept][:6])[..., :6].max()
    assert gap <= (0 if batching == "exact" else 1e-4)


def test_dexbotics_dropping_at_test_is_keyed_by_episode_and_call() -> None:
    dropping = {"drop_at_test": True, "dropout": 0.3, "length": 3}
    policy = make("memoryvla_plus", memory=dropping)
    plain = {e: alone(policy, e, n) for e, n in SHORT.items()}
    for which, actions in together(policy, SHORT, 3, seed=4).items():
        assert np.array_equal(actions, plain[which])
    kept = make("memoryvla_plus", memory={"length": 3})
    assert not np.array_equal(plain[episode(0)], alone(kept, episode(0), SHORT[episode(0)]))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_a_policy_with_memory_depends_on_past_frames(family: str) -> None:
    policy = shared(family)
    which = episode(0)
    actions = []
    for other in (0, 1):
        start(policy, [which])
        first = ActRequest(which, 0, observation(episode(other), 0))
        policy.act([ActRequest(which, 0, Observation(first.observation.images, None, "x", 0))])
        actions.append(policy.act([request(which, 1)])[0].actions)
        policy.end([which])
    assert np.array_equal(*actions) is (family == "cogact")


@pytest.mark.parametrize("family", FAMILIES)
def test_actions_depend_on_picture_sentence_seed_and_call(family: str) -> None:
    policy = shared(family)
    which = episode(0)
    seen = observation(which, 0)

    def first(picture: int = 0, words: str = SENTENCES[0], seed: int = 0, trial: int = 0) -> Any:
        who = episode(trial)
        policy.start([EpisodeStart(who, seed, words)])
        image = observation(episode(picture), 0)
        reply = policy.act([ActRequest(who, 0, image)])[0].actions
        policy.end([who])
        return reply

    base = first()
    assert np.array_equal(base, first())
    for other in (first(picture=1), first(words=SENTENCES[1]), first(seed=1), first(trial=3)):
        assert not np.array_equal(base, other)
    assert seen.instruction == SENTENCES[0]


def test_weights_and_noise_come_from_no_global_generator() -> None:
    which = episode(0)
    torch.manual_seed(1)
    one = alone(make("memoryvla"), which, 2)
    torch.manual_seed(2)
    torch.rand(5)
    np.random.seed(3)
    state = torch.get_rng_state()
    two = alone(make("memoryvla"), which, 2)
    assert np.array_equal(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert not np.array_equal(one, alone(make("memoryvla", seed=1), which, 2))


def test_state_is_made_by_start_and_freed_by_end_on_every_path() -> None:
    policy = make("memoryvla", slots=2)
    one, two, three = (episode(i) for i in range(3))
    start(policy, [one, two])
    with pytest.raises(PolicyError, match="all 2 slots"):
        start(policy, [three])
    policy.end([one, three])
    with pytest.raises(PolicyError, match="started twice"):
        start(policy, [two])
    assert policy.live() == 1
    with pytest.raises(PolicyError, match="not alive here"):
        policy.act([request(one, 0)])
    start(policy, [three])
    policy.end([two, three, two])
    assert policy.live() == 0
    start(policy, [one, two])
    policy.act([request(one, 0), request(two, 0)])
    policy.end([one, two])
    for store in policy._stores.values():  # type: ignore[attr-defined]
        assert not store.count.any()
        assert not store.entries.any()


def test_an_episode_that_fails_to_start_takes_no_slot() -> None:
    policy = make("memoryvla", slots=2)
    one, two = episode(0), episode(1)
    with pytest.raises(PolicyError, match="empty"):
        policy.start([EpisodeStart(one, 0, "go"), EpisodeStart(two, 0, " ")])
    with pytest.raises(PolicyError, match="twice"):
        policy.start([EpisodeStart(one, 0, "go"), EpisodeStart(one, 0, "go")])
    assert policy.live() == 0
    start(policy, [one, two])
    policy.end([one, two])


def test_a_lost_or_repeated_call_is_an_error() -> None:
    policy = shared("memoryvla")
    which = episode(0)
    start(policy, [which])
    policy.act([request(which, 0)])
    for call in (0, 2):
        with pytest.raises(PolicyError, match=f"call {call} came where call 1 was due"):
            policy.act([request(which, call)])
    with pytest.raises(PolicyError, match="asked twice in one batch"):
        policy.act([request(which, 1), request(which, 1)])
    policy.end([which])


def test_a_refused_batch_leaves_every_memory_as_it_was() -> None:
    policy = shared("memoryvla")
    good, bad = episode(0), episode(3)
    start(policy, [good, bad])
    broken = ActRequest(bad, 0, Observation({}, None, "go", 0))
    with pytest.raises(PolicyError, match="camera 'front' is missing"):
        policy.act([request(good, 0), broken])
    found = policy.act([request(good, 0), request(bad, 0)])
    policy.end([good, bad])
    assert np.array_equal(found[0].actions, expected("memoryvla")[good][0])


@pytest.mark.parametrize("family", ["cogact", "memoryvla"])
def test_a_batch_that_ran_out_of_memory_leaves_every_memory_as_it_was(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device gives out in denoising, after the memories of two of three episodes were written."""
    policy = shared(family)
    batch = [episode(i) for i in (0, 3, 4)]
    start(policy, batch)
    first = policy.act([request(each, 0) for each in batch])
    real, runs = policy_module.denoise, []

    def scarce(*given: Any) -> Any:
        runs.append(1)
        if len(runs) == 3:
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        return real(*given)

    monkeypatch.setattr(policy_module, "denoise", scarce)
    with pytest.raises(OutOfMemory, match="3 episodes in one call"):
        policy.act([request(each, 1) for each in batch])
    monkeypatch.undo()
    halves = [policy.act([request(each, 1)])[0] for each in batch]
    policy.end(batch)
    for number, each in enumerate(batch):
        whole = expected(family)[each][:2]
        assert np.array_equal(first[number].actions, whole[0])
        assert np.array_equal(halves[number].actions, whole[1])


def test_forgetting_at_a_new_instruction_empties_the_memory() -> None:
    policy = make("memoryvla")
    which = episode(0)
    counts = {}
    for keep in (True, False):
        start(policy, [which])
        for call in range(2):
            policy.act([request(which, call)])
        policy.instruction_changed(which, "now press the blue button", keep_memory=keep)
        policy.act([request(which, 2)])
        slot = policy._sessions.of(which).slot
        stores = policy._stores  # type: ignore[attr-defined]
        counts[keep] = [(int(s.count[slot]), s.times[slot, : int(s.count[slot])].tolist()) for s in stores.values()]
        policy.end([which])
    assert counts[True] == [(3, [0.0, 1.0, 2.0])] * 2
    assert counts[False] == [(1, [0.0])] * 2


def test_time_can_count_environment_steps() -> None:
    policy = make("memoryvla", memory={"time": "step"})
    which = episode(0)
    start(policy, [which])
    for call in range(3):
        policy.act([request(which, call)])
    store = policy._stores["cognitive"]  # type: ignore[attr-defined]
    assert store.times[policy._sessions.of(which).slot, :3].tolist() == [0.0, 4.0, 8.0]
    policy.end([which])


def test_calls_between_those_that_are_remembered_look_into_memory_and_leave_it_as_it_was() -> None:
    policy, plain = make("memoryvla", memory={"every": 2}), make("memoryvla")
    which = episode(0)
    kept = []
    for one, frames in ((policy, (0, 1, 2, 3, 4)), (plain, (0, 2, 4))):
        start(one, [which])
        for call, frame in enumerate(frames):
            one.act([ActRequest(which, call, observation(which, frame))])
        slot = one._sessions.of(which).slot
        stores = one._stores.values()  # type: ignore[attr-defined] # of the families that remember
        kept.append([[part[slot].clone() for part in (s.entries, s.times, s.count)] for s in stores])
        one.end([which])
    for mine, other in zip(*kept, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
        assert mine[1][:3].tolist() == [0.0, 1.0, 2.0]
    mine, other = alone(policy, which, 3), alone(plain, which, 3)
    assert np.array_equal(mine[:2], other[:2])  # the first entry is there, the second is asked for
    assert not np.array_equal(mine[2], other[2])
    lengths = {episode(trial): 5 + trial for trial in range(6)}
    mixed = together(policy, lengths, 3, 0)
    for each, calls in lengths.items():
        assert np.array_equal(mixed[each], alone(policy, each, calls))
    with pytest.raises(PolicyError, match=r"memory\.every must be 1 or more"):
        make("memoryvla", memory={"every": 0})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ensemble_answers_one_action_a_call_and_forgets_at_a_new_instruction(family: str) -> None:
    policy = make(family, ensemble=3)
    assert (policy.spec.chunk, policy.spec.execute, policy.spec.stateful) == (1, 1, True)
    plain = make(family)
    which = episode(0)
    chunks, single = alone(plain, which, 3), alone(policy, which, 3)
    assert single.shape == (3, 1, 7)
    assert np.array_equal(single[0, 0], chunks[0, 0])
    assert not np.array_equal(single[1, 0], chunks[1, 0])
    assert set(single[..., 6].flatten()) <= {0.0, 1.0}
    start(policy, [which])
    policy.act([request(which, 0)])
    policy.instruction_changed(which, SENTENCES[0], keep_memory=True)
    assert np.array_equal(policy.act([request(which, 1)])[0].actions[0], chunks[1, 0])
    policy.end([which])


def test_ten_thousand_episodes_leave_memory_flat() -> None:
    policy = make("memoryvla", slots=8, expert={"steps": 1})
    stores = policy._stores  # type: ignore[attr-defined]
    sizes, objects = [], []
    for begin in range(0, 10_000, 5):
        batch = [episode(begin + i) for i in range(5)]
        start(policy, batch)
        if begin % 1000 == 0:
            policy.act([request(e, 0) for e in batch])
        policy.end(batch)
        if begin % 2500 == 0:
            gc.collect()
            sizes.append(sum(s.entries.untyped_storage().nbytes() for s in stores.values()))
            objects.append(len(gc.get_objects()))
    assert policy.live() == 0
    assert len(set(sizes)) == 1
    assert sizes[0] <= 8 * policy.memory_per_episode()
    assert objects[-1] - objects[1] < 200


@pytest.mark.parametrize("length", [16, 256])
def test_memory_per_episode_is_stated(length: int) -> None:
    policy = make("memoryvla", memory={"length": length})
    tokens = 1 * 96 + 16 * 96
    assert policy.memory_per_episode() == length * (tokens * 4 + 2 * 8) + 2 * 8


def test_proprioception_is_read_only_where_asked_for() -> None:
    policy = make("memoryvla", state=True)
    assert policy.spec.uses_state
    which = episode(0)
    base = alone(policy, which, 1)
    start(policy, [which])
    seen = observation(which, 0)
    with pytest.raises(PolicyError, match=r"reads 3 numbers of proprioception, the observation has \[2\]"):
        policy.act([ActRequest(which, 0, Observation(seen.images, np.zeros(2, np.float32), "x", 0))])
    moved = policy.act([ActRequest(which, 0, Observation(seen.images, np.ones(3, np.float32), "x", 0))])
    policy.end([which])
    assert not np.array_equal(moved[0].actions, base[0])
    assert not make("memoryvla").spec.uses_state


def test_cameras_are_chosen_by_name() -> None:
    policy = make("memoryvla", cameras=["wrist", "front"])
    assert policy.spec.cameras == ("wrist", "front")
    assert alone(policy, episode(0), 1).shape == (1, 8, 7)
    assert make("memoryvla").spec.cameras == ("front",)
    with pytest.raises(PolicyError, match="no camera side in toy; there are front, wrist"):
        make("memoryvla", cameras=["side"])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chekpoint": "x"}, "did you mean checkpoint"),
        ({"memory": {"lenght": 4}}, "did you mean length"),
        ({"memory": {"fusion": "sum"}}, "gate, add"),
        ({"memory": {"length": "long"}}, "memory.length must be of type int"),
        ({"batching": "quick"}, "exact, fast"),
        ({"preset": "70b"}, "7b, lab"),
        ({"preset": "7b"}, "tokenizer"),
        ({"dtype": "float8"}, "did you mean float"),
        ({"device": "warp"}, "device=warp"),
        ({"slots": 0}, "slots must be 1 or more"),
        ({"ensemble": 9}, "longer than the chunk"),
        ({"expert": {"steps": 11}}, "ddim_steps must be one of"),
        ({"checkpoint": "nowhere"}, "no checkpoint at nowhere"),
        ({"imagination": {"steps": 2}}, "imagination does not belong to this model"),
    ],
)
def test_a_wrong_option_is_refused_with_the_cure(options: dict[str, Any], error: str) -> None:
    with pytest.raises(PolicyError, match=error):
        make("memoryvla", **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_policy_file_names_every_option_and_its_defaults_work(family: str) -> None:
    from policies.vla.build import MODEL, OTHERS, PLUS, SERVING

    with open(f"policies/{family}.yaml") as file:
        options = yaml.safe_load(file)
    module, _, name = options.pop("target").partition(":")
    assert FAMILIES[family].__module__ == module
    assert FAMILIES[family].__name__ == name
    options.pop("title")
    wanted = {*SERVING, *OTHERS, *MODEL} - {"name"}
    if family != "memoryvla_pp":
        wanted -= {"imagination", "world_tokenizer"}
    if family == "memoryvla_plus":
        wanted |= set(PLUS)
    if family == "cogact":
        wanted -= {"memory"}
    assert set(options) == wanted
    policy = FAMILIES[family](CONTEXT, **options)
    assert policy.serving.batching == "exact"
    if family != "cogact":
        assert set(options["memory"]) == set(to_data(preset("lab", family).memory))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"imagination": {"horizon": 9}}, "horizon must be 1 to 4"),
        ({"imagination": {"steps": 0}}, "steps must be 1 to 20"),
        ({"imagination": {"integration": "sum"}}, "gate, add"),
    ],
)
def test_a_wrong_option_of_imagination_is_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(PolicyError, match=error):
        make("memoryvla_pp", **options)


@pytest.mark.parametrize(("patch", "tokens"), [(16, 16), (8, 64)])
def test_finer_patches_give_more_perceptual_tokens(patch: int, tokens: int) -> None:
    policy = make("memoryvla", vision={"patch": patch})
    assert policy.network.memory.per_mem_bank.config.tokens == tokens
    assert alone(policy, episode(0), 2).shape == (2, 8, 7)


def test_the_lab_preset_has_about_a_million_parameters() -> None:
    count = sum(p.numel() for p in shared("memoryvla").network.parameters())
    assert 0.8e6 < count < 2e6
