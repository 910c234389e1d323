"""The Perceptual-Cognitive Memory Bank of MemoryVLA (paper section 3.2, appendices).

Weights and memories are kept apart. `MemoryBank` holds the weights of one stream (cognitive or perceptual), under the
names of the released checkpoints. `MemoryStore` holds the memories of all live episodes in one tensor, a slot each, so
that one call serves any mix of ages: gather the slots, run once, scatter. The path is the same for one episode.

Shapes: B requests, S slots, L entries kept, N tokens an entry, D channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.vla.sinusoid import sinusoid

CHOICES = {
    "fusion": ("gate", "add"),
    "consolidation": ("merge", "fifo"),
    "write": ("raw", "fused"),
    "merged_time": ("earlier", "mean"),
    "when_empty": ("current", "attend"),
    "similarity": ("float32", "token"),
}


@dataclass(frozen=True)
class MemoryConfig:
    """One stream of the bank, and every ablation of the papers.

    tokens, width: N and D of an entry; length: L; layers: retrieval blocks in series; heads: of their attention (1 in
    MemoryVLA, 4 in MemoryVLA+); fusion: learned gate, or mean of current and retrieved; consolidation: merge the most
    similar neighbours, or drop the oldest; write: the raw or the fused tokens (MemoryVLA+: fused); time_encoding: add
    the code of an entry's timestep to its keys; time_width: of the sinusoid (0: D / 4; MemoryVLA+: 256); merged_time:
    timestep of a merged entry (MemoryVLA+: mean); when_empty: what a first frame retrieves, itself as it is, or by
    attending to itself (MemoryVLA+); similarity: compared in float32, or in the tokens' own dtype as the official
    server does (it matters in bfloat16, where ties are the rule); dropout: of attention and feed-forward net in
    training (MemoryVLA+: 0.1); drop_at_test: drop attention when acting too, as Dexbotic's code does by a slip; what is
    dropped is then drawn from the seeds given with a call.
    """

    tokens: int
    width: int
    length: int = 16
    layers: int = 2
    heads: int = 1
    fusion: str = "gate"
    consolidation: str = "merge"
    write: str = "raw"
    time_encoding: bool = True
    time_width: int = 0
    merged_time: str = "earlier"
    when_empty: str = "current"
    similarity: str = "float32"
    dropout: float = 0.0
    drop_at_test: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"memory.dropout must be 0 or more and below 1, was {self.dropout}")
        for name in ("tokens", "width", "length", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"memory.{name} must be 1 or more, was {getattr(self, name)}")
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"memory.{name} must be one of {', '.join(known)}, was {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ValueError(f"memory.width {self.width} is not a multiple of memory.heads {self.heads}")

    @property
    def code_width(self) -> int:
        """Width of the timestep sinusoid."""
        return self.time_width or self.width // 4


class MemoryStore:
    """The memories of one stream for all live episodes: a slot each. Entries are in order of time, the oldest first.

    entries [S, L, N, D] (zero where free), times float64 [S, L], count int64 [S].
    """

    def __init__(self, config: MemoryConfig, slots: int, device: torch.device | str, dtype: torch.dtype) -> None:
        self.config = config
        shape = (slots, config.length, config.tokens, config.width)
        self.entries = torch.zeros(shape, device=device, dtype=dtype)
        self.times = torch.zeros(shape[:2], device=device, dtype=torch.float64)
        self.count = torch.zeros(slots, device=device, dtype=torch.int64)

    @property
    def slots(self) -> int:
        return self.entries.shape[0]

    def bytes_per_slot(self) -> int:
        """Memory one episode takes in this store."""
        each = self.entries[0].numel() * self.entries.element_size()
        return each + self.times[0].numel() * self.times.element_size() + self.count.element_size()

    def clear(self, slots: Tensor) -> None:
        """Empty these slots, int64 [B]. Contents are zeroed too: a masked NaN would still poison its next owner."""
        self.entries[slots] = 0
        self.times[slots] = 0
        self.count[slots] = 0

    def copy(self, slots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Entries, times and counts at these slots, for `put`."""
        return self.entries[slots], self.times[slots], self.count[slots]

    def put(self, slots: Tensor, parts: tuple[Tensor, Tensor, Tensor]) -> None:
        """Bring back what `copy` gave."""
        self.entries[slots], self.times[slots], self.count[slots] = parts

    def grow(self, slots: int) -> None:
        """More slots; those in use keep their place."""
        if slots <= self.slots:
            return
        wider = MemoryStore(self.config, slots, self.entries.device, self.entries.dtype)
        used = self.slots
        for name in ("entries", "times", "count"):
            getattr(wider, name)[:used] = getattr(self, name)
            setattr(self, name, getattr(wider, name))

    def read(self, slot: int) -> tuple[Tensor, Tensor]:
        """(entries [n, N, D], times [n]) of one slot, copies."""
        n = int(self.count[slot])
        return self.entries[slot, :n].clone(), self.times[slot, :n].clone()


class RetrievalBlock(nn.Module):
    """Attention over the memory without output projection, then a feed-forward net; both post-norm."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.attn_norm = nn.LayerNorm(width, eps=1e-5)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.ffn_norm = nn.LayerNorm(width, eps=1e-5)

    def forward(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
        """query [B, Q, D]; keys (with time codes) and values (bare) [B, M, D]; mask [B, 1 or Q, M], True: visible;
        kept bool [B, heads, Q, M]: attention weights that are not dropped (None: as `dropout` says in training)."""
        return self.attend(query, self.k_proj(keys), self.v_proj(values), mask, kept)

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """The same of keys and values that are projected already [B, M, D]; mask None: all are visible."""
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.q_proj(query), keys, values))
        where = None if mask is None else mask[:, None]
        if kept is None:
            drop = self.dropout if self.training else 0.0
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=where, dropout_p=drop)
        else:
            scores = (q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5
            if where is not None:
                scores = scores.masked_fill(~where, float("-inf"))
            share = scores.softmax(-1)
            found = (share * kept / (1 - self.dropout)) @ v
        hidden = self.attn_norm(query + found.transpose(1, 2).flatten(2))
        out: Tensor = self.ffn_norm(hidden + self._feed(hidden))
        return out

    def _feed(self, hidden: Tensor) -> Tensor:
        if not (self.dropout and self.training):
            out: Tensor = self.ffn(hidden)
            return out
        first, bend, second = self.ffn
        inner = functional.dropout(bend(first(hidden)), self.dropout)
        return functional.dropout(second(inner), self.dropout)


class GateFusion(nn.Module):
    """fused = g * current + (1 - g) * retrieved, elementwise, g = sigmoid(Linear([current, retrieved])).

    The gate weights the *current* tokens, as in the paper's figure and the released weights; its equation has it the
    other way round. Drawn near zero, so that g starts near 1/2.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * width, width)
        nn.init.normal_(self.proj.weight, std=1e-3)
        nn.init.normal_(self.proj.bias, std=1e-3)

    def forward(self, current: Tensor, retrieved: Tensor) -> Tensor:
        gate = torch.sigmoid(self.proj(torch.cat([current, retrieved], dim=-1)))
        return gate * current + (1 - gate) * retrieved


class TimestepEncoder(nn.Module):
    """Timesteps [...] -> codes [..., D]: sinusoid, then a two-layer net."""

    def __init__(self, code_width: int, width: int) -> None:
        super().__init__()
        self.code_width = code_width
        self.mlp = nn.Sequential(nn.Linear(code_width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, times: Tensor) -> Tensor:
        code = sinusoid(times.flatten(), self.code_width).to(next(self.mlp.parameters()).dtype)
        out: Tensor = self.mlp(code)
        return out.reshape(*times.shape, -1)


class MemoryBank(nn.Module):
    """Retrieval, fusion and consolidation of one stream; the weights only, see `MemoryStore` for the memories."""

    def __init__(self, config: MemoryConfig) -> None:
        super().__init__()
        self.config = config
        self.retrieval_blocks = nn.ModuleList(
            RetrievalBlock(config.width, config.heads, config.dropout) for _ in range(config.layers)
        )
        if config.fusion == "gate":
            self.gate_fusion_blocks = GateFusion(config.width)
        if config.time_encoding:
            self.timestep_encoder = TimestepEncoder(config.code_width, config.width)

    def new_store(self, slots: int, dtype: torch.dtype | None = None) -> MemoryStore:
        """An empty store on the weights' device, in their dtype unless told otherwise."""
        weight = next(self.parameters())
        return MemoryStore(self.config, slots, weight.device, dtype or weight.dtype)

    def forward(
        self, tokens: Tensor, times: Tensor, store: MemoryStore, slots: Tensor, seeds: list[int] | None = None
    ) -> Tensor:
        """Recall, then write: fused tokens [B, N, D] of the frames `tokens` [B, N, D] at `times` [B].

        slots int64 [B], all different: each frame sees what its own episode wrote before, and nothing else. seeds [B]:
        of what is dropped under `drop_at_test`, one a row, so that it depends on no batch mate.
        """
        fused = self.recall(tokens, times, store, slots, seeds)
        self.write(tokens if self.config.write == "raw" else fused, times, store, slots)
        return fused

    def recall(
        self, tokens: Tensor, times: Tensor, store: MemoryStore, slots: Tensor, seeds: list[int] | None = None
    ) -> Tensor:
        """Fused tokens [B, N, D]; changes nothing. `times` matters only under `when_empty: attend`."""
        entries, entry_times = store.entries[slots].to(tokens.dtype), store.times[slots]
        count = store.count[slots]
        empty = count == 0
        if self.config.when_empty == "attend":
            first = torch.cat([tokens[:, None], entries[:, 1:]], dim=1)
            entries = torch.where(empty[:, None, None, None], first, entries)
            first_time = torch.cat([times.to(entry_times.dtype)[:, None], entry_times[:, 1:]], dim=1)
            entry_times = torch.where(empty[:, None], first_time, entry_times)
        # An empty slot still shows its first (zero) entry: a softmax over nothing would be NaN, also in the gradient.
        places = torch.arange(store.config.length, device=count.device)
        visible = places[None] < count.clamp(min=1)[:, None]
        mask = visible.repeat_interleave(self.config.tokens, dim=1)[:, None]
        kept = self._kept(seeds, tokens.shape[1], mask.shape[-1], tokens.device)
        retrieved = self._retrieve(tokens, entries, entry_times, mask, kept)
        if self.config.when_empty == "current":
            retrieved = torch.where(empty[:, None, None], tokens, retrieved)
        return self._fuse(tokens, retrieved)

    def _kept(self, seeds: list[int] | None, queries: int, memory: int, device: torch.device) -> list[Tensor] | None:
        """Which attention weights stay, bool [B, heads, Q, M] for each block; None where nothing is dropped."""
        config = self.config
        if not (config.drop_at_test and config.dropout) or self.training:
            return None
        if seeds is None:
            raise ValueError("memory.drop_at_test needs a seed for each row: its draws must not depend on the batch")
        rows = []
        for seed in seeds:
            generator = torch.Generator(device).manual_seed(seed)
            shape = (config.layers, config.heads, queries, memory)
            rows.append(torch.rand(shape, generator=generator, device=device) >= config.dropout)
        return list(torch.stack(rows, dim=1))

    def _retrieve(
        self, tokens: Tensor, entries: Tensor, times: Tensor, mask: Tensor, kept: list[Tensor] | None = None
    ) -> Tensor:
        """query tokens [B, Q, D]; entries [B, L, N, D] at times [B, L]; mask [B, 1 or Q, L * N]; kept: see `_kept`."""
        values = entries.flatten(1, 2)
        keys = values
        if self.config.time_encoding:
            keys = (entries + self.timestep_encoder(times)[:, :, None]).flatten(1, 2)
        for i, block in enumerate(self.retrieval_blocks):
            tokens = block(tokens, keys, values, mask, None if kept is None else kept[i])
        return tokens

    def _fuse(self, current: Tensor, retrieved: Tensor) -> Tensor:
        if self.config.fusion == "add":
            return (current + retrieved) * 0.5
        fused: Tensor = self.gate_fusion_blocks(current, retrieved)
        return fused

    @torch.no_grad()
    def write(self, entry: Tensor, times: Tensor, store: MemoryStore, slots: Tensor) -> Tensor:
        """Append one entry [B, N, D] at `times` [B] to each slot, detached, and consolidate where L is exceeded.

        Returns int64 [B]: index i of the pair (i, i + 1) that was merged, -1 where nothing was merged.
        """
        length, count = store.config.length, store.count[slots]
        places = torch.arange(length + 1, device=count.device)
        new = places[None] == count[:, None]
        entries = functional.pad(store.entries[slots], (0, 0, 0, 0, 0, 1))
        entries = torch.where(new[:, :, None, None], entry.detach().to(entries.dtype)[:, None], entries)
        stamps = torch.where(new, times.to(torch.float64)[:, None], functional.pad(store.times[slots], (0, 1)))
        full = count == length
        if self.config.consolidation == "fifo":
            drop, merged = torch.zeros_like(count), torch.full_like(count, -1)
        else:
            pair = first_best(self._similarities(entries))
            entries, stamps = self._merge(entries, stamps, pair, full)
            drop, merged = pair + 1, torch.where(full, pair, -1)
        # What stays: entry j before the dropped one, j + 1 from there on; nothing is dropped while there is room.
        kept = places[None, :length] + (full[:, None] & (places[None, :length] >= drop[:, None]))
        store.entries[slots] = entries.gather(1, kept[:, :, None, None].expand(-1, -1, *entries.shape[2:]))
        store.times[slots] = stamps.gather(1, kept)
        store.count[slots] = (count + 1).clamp(max=length)
        return merged

    def _similarities(self, entries: Tensor) -> Tensor:
        """Mean cosine of corresponding tokens of neighbours, [B, L + 1, N, D] -> [B, L]."""
        if self.config.similarity == "float32" and entries.dtype in (torch.float16, torch.bfloat16):
            entries = entries.float()
        return functional.cosine_similarity(entries[:, :-1], entries[:, 1:], dim=-1).mean(-1)

    def _merge(self, entries: Tensor, times: Tensor, pair: Tensor, full: Tensor) -> tuple[Tensor, Tensor]:
        """Entry `pair` becomes the plain average of the two, however many frames each stands for already."""
        rows = torch.arange(len(pair), device=pair.device)
        here = full[:, None] & (torch.arange(entries.shape[1], device=pair.device)[None] == pair[:, None])
        average = (entries[rows, pair] + entries[rows, pair + 1]) * 0.5
        entries = torch.where(here[:, :, None, None], average[:, None], entries)
        if self.config.merged_time == "mean":
            times = torch.where(here, ((times[rows, pair] + times[rows, pair + 1]) * 0.5)[:, None], times)
        return entries, times

    # ------------------------------------------------------------------ training

    def train_episodes(self, tokens: Tensor, times: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Fused tokens of whole pieces of episodes at once: tokens [E, T, N, D] at times [E, T], each from an empty
        memory. Entries are detached: gradients reach the frame at hand and these weights, never a past frame's encoder.
        wanted int64 [E, K]: only what these frames of each piece find is computed and given, [E, K, N, D].

        Where all of them fit (T <= L) the T frames run in parallel under a causal mask, after what each of them writes
        has been computed one after another, without gradients; otherwise one after another.
        """
        config = self.config
        # What a frame writes must have been dropped from as what it gives was.
        agrees = config.write == "raw" or not config.dropout
        if tokens.shape[1] <= config.length and config.when_empty == "current" and agrees:
            written = tokens.detach() if config.write == "raw" else self._written(tokens, times)
            return self._train_parallel(tokens, written, times, wanted)
        store = MemoryStore(config, len(tokens), tokens.device, tokens.dtype)
        slots = torch.arange(len(tokens), device=tokens.device)
        frames = zip(tokens.unbind(1), times.unbind(1), strict=True)
        found = torch.stack([self(frame, at, store, slots) for frame, at in frames], dim=1)
        return found if wanted is None else found[slots[:, None], wanted]

    @torch.no_grad()
    def _written(self, tokens: Tensor, times: Tensor) -> Tensor:
        """The entries [E, T, N, D] of fused frames where nothing is consolidated: each one's keys and values are
        projected once. The last one, which nobody reads, is left as it is."""
        codes = self.timestep_encoder(times) if self.config.time_encoding else tokens.new_zeros((*times.shape, 1))
        entries = tokens.clone()
        entries[:, 0] = self._fuse(tokens[:, 0], tokens[:, 0])
        blocks: list[tuple[Any, Tensor, Tensor]] = [
            (block, torch.empty_like(tokens), torch.empty_like(tokens)) for block in self.retrieval_blocks
        ]
        for turn in range(1, tokens.shape[1] - 1):
            entry, found = entries[:, turn - 1], tokens[:, turn]
            for block, keys, values in blocks:
                keys[:, turn - 1] = block.k_proj(entry + codes[:, turn - 1, None])
                values[:, turn - 1] = block.v_proj(entry)
                found = block.attend(found, keys[:, :turn].flatten(1, 2), values[:, :turn].flatten(1, 2))
            entries[:, turn] = self._fuse(tokens[:, turn], found)
        return entries

    def _train_parallel(self, tokens: Tensor, entries: Tensor, times: Tensor, wanted: Tensor | None) -> Tensor:
        count = tokens.shape[2]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        asked, queries = place[None], tokens
        if wanted is not None:
            asked, queries = wanted, tokens[torch.arange(len(tokens), device=tokens.device)[:, None], wanted]
        first = asked == 0  # it has nothing before it; what it finds is replaced below
        before = place < asked[..., None]
        before[..., 0] |= first
        mask = before.repeat_interleave(count, 1).repeat_interleave(count, 2)
        retrieved = self._retrieve(queries.flatten(1, 2), entries, times, mask).reshape(queries.shape)
        retrieved = torch.where(first[..., None, None], queries, retrieved)
        return self._fuse(queries, retrieved)


def first_best(scores: Tensor) -> Tensor:
    """Index of the maximum along the last dimension, the lowest where several share it (argmax promises none).

    NaN counts as the maximum, as it does in `max`, so that a broken episode still yields a valid index.
    """
    best = scores.amax(-1, keepdim=True)
    index = torch.arange(scores.shape[-1], device=scores.device)
    hit = (scores == best) | scores.isnan()
    return torch.where(hit, index, scores.shape[-1]).amin(-1)


class MemoryStream:
    """Memory across the batches of a stream of consecutive frames (training on whole trajectories in order).

    It holds one episode; another episode id empties it.
    """

    def __init__(self, bank: MemoryBank) -> None:
        self._bank = bank
        self.store: MemoryStore | None = None
        self.episode: int | None = None

    def __call__(self, tokens: Tensor, episodes: list[int], times: Tensor) -> Tensor:
        """Fused tokens [B, N, D] of consecutive frames [B, N, D] of `episodes` [B] at `times` [B]."""
        store = self.store = self.store or MemoryStore(self._bank.config, 1, tokens.device, tokens.dtype)
        slot = torch.zeros(1, dtype=torch.int64, device=tokens.device)
        fused = []
        for i, episode in enumerate(episodes):
            if episode != self.episode:
                store.clear(slot)
                self.episode = episode
            fused.append(self._bank(tokens[i : i + 1], times[i : i + 1], store, slot))
        return torch.cat(fused)
