"""The memory bank: every variant against plain loops, and the rules of memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.memoryvla.memory import MemoryBank, MemoryConfig, MemoryStore, first_best
from tests.policies.memoryvla.plain import PlainMemory
from tests.policies.vla.reference import close

BASE = MemoryConfig(tokens=3, width=16, length=5)
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "add": {"fusion": "add"},
    "fifo": {"consolidation": "fifo"},
    "fused writes": {"write": "fused"},
    "no time": {"time_encoding": False},
    "mean time": {"merged_time": "mean"},
    "attend when empty": {"when_empty": "attend"},
    "four heads": {"heads": 4},
    "wide time code": {"time_width": 10},
    "one entry": {"length": 1},
    "one token": {"tokens": 1},
    "three layers": {"layers": 3},
    "MemoryVLA+": {
        "heads": 4, "write": "fused", "merged_time": "mean", "when_empty": "attend", "time_width": 64,
    },
    "all changed": {"fusion": "add", "consolidation": "fifo", "write": "fused", "time_encoding": False},
}  # fmt: skip


def bank_of(config: MemoryConfig, seed: int = 0) -> MemoryBank:
    """Random weights large enough that attention is far from uniform and the gate far from one half."""
    torch.manual_seed(seed)
    bank = MemoryBank(config)
    for parameter in bank.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return bank.eval()


def episodes(config: MemoryConfig, lengths: list[int], seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """(frames [T, N, D], times [T]) of each episode; frames drift slowly, as real ones do, and times skip."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for length in lengths:
        steps = torch.randn(length, config.tokens, config.width, generator=generator)
        times = torch.randint(1, 9, (length,), generator=generator).cumsum(0) - 1
        found.append((steps.cumsum(0) * 0.5 + 0.5 * torch.randn(steps.shape, generator=generator), times))
    return found


def play(
    bank: MemoryBank, pieces: list[tuple[Tensor, Tensor]], batch: int, seed: int = 2
) -> tuple[list[Tensor], MemoryStore]:
    """Run all episodes in one store, batches of random live episodes in random order and random slots."""
    generator = torch.Generator().manual_seed(seed)
    store = bank.new_store(len(pieces) + 2)
    slots = torch.randperm(len(pieces) + 2, generator=generator)[: len(pieces)]
    at = [0] * len(pieces)
    fused: list[list[Tensor]] = [[] for _ in pieces]
    with torch.no_grad():
        while live := [i for i in range(len(pieces)) if at[i] < len(pieces[i][0])]:
            order = torch.randperm(len(live), generator=generator)
            size = min(batch, len(live))
            rows = [live[int(j)] for j in order[:size]]
            tokens = torch.stack([pieces[i][0][at[i]] for i in rows])
            times = torch.stack([pieces[i][1][at[i]] for i in rows])
            for i, out in zip(rows, bank(tokens, times, store, slots[rows]), strict=True):
                fused[i].append(out)
                at[i] += 1
    store.entries, store.times, store.count = (x[slots] for x in (store.entries, store.times, store.count))
    return [torch.stack(f) for f in fused], store


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_equals_plain_loops_over_episodes_longer_than_the_memory(variant: str) -> None:
    config = replace(BASE, **VARIANTS[variant])
    bank = bank_of(config)
    lengths = torch.randint(1, 4 * config.length + 6, (7,), generator=torch.Generator().manual_seed(3)).tolist()
    pieces = episodes(config, [*lengths, 3 * config.length + 2])
    fused, store = play(bank, pieces, batch=4)
    for row, (frames, times) in enumerate(pieces):
        plain = PlainMemory(bank)
        expected = torch.stack([plain(frame, float(time)) for frame, time in zip(frames, times, strict=True)])
        close(fused[row], expected, 1e-5, relative=True)
        entries, stamps = store.read(row)
        assert stamps.tolist() == plain.times
        close(entries, torch.stack(plain.entries), 1e-5, relative=True)
        if config.write == "raw":
            assert torch.equal(entries, torch.stack(plain.entries))


@pytest.mark.parametrize("change", [k for k in VARIANTS if k != "default"])
def test_every_switch_changes_what_is_remembered_or_retrieved(change: str) -> None:
    options = VARIANTS[change]
    if "tokens" in options:
        options = {"tokens": 1, "length": 4}
    pieces = episodes(replace(BASE, **{k: v for k, v in options.items() if k == "tokens"}), [14])
    base = bank_of(replace(BASE, **{k: v for k, v in options.items() if k == "tokens"}))
    other = bank_of(replace(BASE, **options))
    shared = {k: v for k, v in base.state_dict().items() if k in other.state_dict()}
    same = {k: v for k, v in shared.items() if v.shape == other.state_dict()[k].shape}
    other.load_state_dict(same, strict=False)
    (one,), (two,) = play(base, pieces, 1)[0], play(other, pieces, 1)[0]
    assert float((one - two).abs().max()) > 1e-3


@pytest.mark.parametrize("batch", [1, 2, 5, 16])
def test_an_episode_is_the_same_alone_and_in_any_batch(batch: int) -> None:
    bank = bank_of(BASE)
    pieces = episodes(BASE, [18, 3, 11, 1, 16, 9, 14, 7, 5, 12, 13, 2, 17, 8, 6, 10])
    together, store = play(bank, pieces, batch, seed=batch)
    for row, piece in enumerate(pieces):
        (alone,), solo = play(bank, [piece], 1)
        close(together[row], alone, 1e-5, relative=True)
        entries, times = store.read(row)
        expected_entries, expected_times = solo.read(0)
        assert times.tolist() == expected_times.tolist()
        assert torch.equal(entries, expected_entries)


def test_a_broken_batch_mate_leaves_an_episode_untouched() -> None:
    bank = bank_of(BASE)
    good, mate = episodes(BASE, [12, 12])
    (alone,), _ = play(bank, [good], 1)
    store = bank.new_store(2)
    slots = torch.tensor([0, 1])
    for step in range(12):
        other = mate[0][step] if step < 4 else torch.full_like(mate[0][step], float("nan"))
        if step == 8:  # the broken episode ends and another takes its slot
            store.clear(torch.tensor([1]))
        with torch.no_grad():
            fused = bank(torch.stack([good[0][step], other]), torch.stack([good[1][step]] * 2), store, slots)
        close(fused[0], alone[step], 1e-5, relative=True)


def test_a_cleared_slot_leaks_nothing_to_its_next_episode() -> None:
    bank = bank_of(BASE)
    (piece,) = episodes(BASE, [9])
    (alone,), _ = play(bank, [piece], 1)
    store = bank.new_store(1)
    slot = torch.tensor([0])
    with torch.no_grad():
        for _ in range(BASE.length + 2):
            bank(torch.full((1, 3, 16), float("nan")), torch.tensor([7]), store, slot)
        store.clear(slot)
        again = torch.cat([bank(f[None], t[None], store, slot) for f, t in zip(*piece, strict=True)])
    assert torch.equal(again, alone)


def test_growing_the_store_keeps_what_is_in_it() -> None:
    bank = bank_of(BASE)
    pieces = episodes(BASE, [7, 7])
    _, store = play(bank, pieces, 2)
    before = [store.read(i) for i in range(2)]
    store.grow(9)
    assert store.slots == 9
    for i in range(2):
        assert torch.equal(store.read(i)[0], before[i][0])
        assert torch.equal(store.read(i)[1], before[i][1])
    assert store.count[2:].tolist() == [0] * 7


def test_an_empty_memory_returns_the_frame_unchanged() -> None:
    bank = bank_of(BASE)
    frame = torch.randn(4, 3, 16)
    with torch.no_grad():
        fused = bank.recall(frame, torch.zeros(4), bank.new_store(4), torch.arange(4))
    close(fused, frame, 1e-6)


def test_dropping_at_test_is_drawn_from_the_rows_own_seed_and_from_nothing_else() -> None:
    config = replace(BASE, heads=4, dropout=0.3, drop_at_test=True)
    bank, (piece,) = bank_of(config), episodes(config, [4])
    store = bank.new_store(3)
    with torch.no_grad():
        for frame, time in zip(*piece, strict=True):
            bank.write(torch.stack([frame] * 3), time.repeat(3), store, torch.arange(3))
        frame, times = torch.randn(1, 3, 16).expand(3, -1, -1), torch.zeros(3)
        found = bank.recall(frame, times, store, torch.arange(3), [7, 8, 7])
        alone = bank.recall(frame[:1], times[:1], store, torch.tensor([2]), [7])
        torch.manual_seed(5)
        again = bank.recall(frame, times, store, torch.arange(3), [7, 8, 7])
        plain = bank_of(replace(config, drop_at_test=False))(frame, times, store, torch.arange(3))
    assert torch.equal(found, again)
    close(found[2:], alone, 1e-5, relative=True)
    close(found[0], found[2], 1e-5, relative=True)
    assert float((found[0] - found[1]).abs().max()) > 1e-3
    assert float((found - plain).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="needs a seed for each row"):
        bank.recall(frame, times, store, torch.arange(3))


def test_dropped_attention_is_scaled_so_that_its_mean_stays() -> None:
    """Over many draws the attended values average to those without dropping (before the norms bend them)."""
    torch.manual_seed(0)
    bank = bank_of(replace(BASE, heads=4, dropout=0.25, drop_at_test=True, layers=1))
    block = bank.retrieval_blocks[0]
    for part in (block.attn_norm, block.ffn_norm):
        part.forward = lambda x: x  # type: ignore[method-assign]
    block._feed = torch.zeros_like  # type: ignore[method-assign, assignment]
    query, keys, values = torch.randn(1, 3, 16), torch.randn(1, 9, 16), torch.randn(1, 9, 16)
    mask = torch.tensor([[[True] * 7 + [False] * 2]])
    with torch.no_grad():
        plain = block(query, keys, values, mask)
        draws = [bank._kept([seed], 3, 9, torch.device("cpu"))[0] for seed in range(4000)]  # type: ignore[index]
        every = (x.expand(4000, -1, -1) for x in (query, keys, values))
        many = block(*every, mask, torch.cat(draws))
    close(many.mean(0, keepdim=True), plain, 0.06)


def test_dropout_acts_in_training_only() -> None:
    config = replace(BASE, heads=4, dropout=0.1)
    bank, tokens = bank_of(config), torch.randn(2, 4, 3, 16)
    times = torch.arange(4).expand(2, -1)
    with torch.no_grad():
        assert torch.equal(bank.train_episodes(tokens, times), bank.train_episodes(tokens, times))
        without = bank_of(replace(BASE, heads=4)).train_episodes(tokens, times)
        close(bank.train_episodes(tokens, times), without, 1e-6)
        bank.train()
        assert not torch.equal(bank.train_episodes(tokens, times), bank.train_episodes(tokens, times))


@pytest.mark.parametrize("changes", [{}, {"write": "fused"}, {"write": "fused", "time_encoding": False}], ids=str)
@pytest.mark.parametrize("steps", [1, 4, 5])
def test_training_on_whole_pieces_equals_frame_after_frame(steps: int, changes: dict[str, Any]) -> None:
    config = replace(BASE, **changes)
    bank = bank_of(config)
    tokens = torch.randn(3, steps, 3, 16, dtype=torch.float64).requires_grad_()
    bank.double()
    times = torch.randint(0, 50, (3, steps)).sort(1).values
    store = MemoryStore(config, 3, "cpu", torch.float64)
    slots = torch.arange(3)
    slow = torch.stack([bank(tokens[:, i], times[:, i], store, slots) for i in range(steps)], 1)
    fast = bank.train_episodes(tokens, times)
    close(fast, slow, 1e-12)
    weights = [p for p in bank.parameters() if p.requires_grad]
    for one, two in zip(*(_gradients(out, [tokens, *weights]) for out in (fast, slow)), strict=True):
        close(one, two, 1e-10, relative=True)
    wanted = torch.randint(0, steps, (3, 2))
    some = bank.train_episodes(tokens, times, wanted)
    same = bank.train_episodes(tokens, times)[slots[:, None], wanted]
    close(some, same, 1e-12)
    for one, two in zip(*(_gradients(out, [tokens, *weights]) for out in (some, same)), strict=True):
        close(one, two, 1e-10, relative=True)


def _gradients(out: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad((out**3).sum(), inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


@pytest.mark.parametrize("write", ["raw", "fused"])
def test_no_gradient_reaches_a_past_frame(write: str) -> None:
    config = replace(BASE, write=write)
    tokens = torch.randn(1, 4, 3, 16).requires_grad_()
    bank_of(config).train_episodes(tokens, torch.arange(4)[None])[:, -1].sum().backward()
    assert tokens.grad is not None
    assert float(tokens.grad[:, :-1].abs().max()) == 0.0
    assert float(tokens.grad[:, -1].abs().max()) > 0.0


def test_the_lowest_of_equal_scores_is_taken() -> None:
    scores = torch.tensor([[0.25, 0.5, 0.5], [1.0, 1.0, 1.0], [0.0, -1.0, 0.5]])
    assert first_best(scores).tolist() == [1, 0, 2]
    assert first_best(torch.full((1, 3), float("nan"))).tolist() == [0]


@pytest.mark.parametrize(
    "wrong", [{"fusion": "gated"}, {"length": 0}, {"heads": 3}, {"write": ""}, {"merged_time": "later"}]
)
def test_an_option_that_does_not_exist_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(BASE, **wrong)


def test_memory_per_episode_is_bounded_and_stated() -> None:
    config = MemoryConfig(tokens=256, width=256, length=16)
    store = MemoryStore(config, 3, "meta", torch.bfloat16)
    assert store.bytes_per_slot() == 16 * 256 * 256 * 2 + 16 * 8 + 8
