"""What a policy network learns from: the diffusion loss of its chunks, and where the hand acts next.

The frames of a batch go through the vision-language part at once, each piece through memory from an empty start, and
the chunks of all frames, or of some, are noised several times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from policies.memoryvla.memory import MemoryBank
from policies.memoryvla.model import MemoryVLANetwork
from policies.training.batches import PolicyBatch
from policies.vla.config import ModelConfig
from policies.vla.diffusion import add_noise, drop_condition
from policies.vla.dit import ActionModel
from policies.vla.model import VLM


class GoalHead(nn.Module):
    """What tokens [N, P, D] (the cognition token, the perceptual tokens) themselves say of the task, taken together:
    where the hand acts next, as logits [N, 3, bins], and by one linear map the chunk to come, [N, C, A]. Only training
    uses it.

    The models this family starts from have learned to name actions in that token. The action expert of a small model
    that starts without needs tens of thousands of updates until it heeds its condition.
    """

    def __init__(self, config: ModelConfig, bins: int, width: int | None = None) -> None:
        super().__init__()
        width, self.bins = width or config.language.width, bins
        self.shape = (config.expert.chunk, config.action)
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 3 * bins))
        self.chunk = nn.Linear(width, config.expert.chunk * config.action)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        said = tokens.mean(1)
        logits: Tensor = self.net(said)
        return logits.reshape(-1, 3, self.bins), self.chunk(said).reshape(-1, *self.shape)

    def loss(self, tokens: Tensor, batch: PolicyBatch, goals: Tensor | None) -> Tensor:
        """Cross-entropy (mean over the three axes) and squared error of the chunk, both as means over all frames.
        goals: `goals` or `shown` of the batch."""
        if goals is None:
            raise ValueError("the batch does not say where the hand acts next")
        logits, chunk = self(tokens)
        where = -(goals * logits.log_softmax(-1)).sum(-1).mean(-1)
        known = batch.chunks.isfinite()  # first frames alone do not tell what came after
        off = torch.where(known, (chunk - batch.chunks.nan_to_num()) ** 2, 0.0).mean((1, 2))
        loss: Tensor = ((where + off) * batch.weight).sum() / batch.frames
        return loss


class Grounding(nn.Module):
    """The vision-language part alone, learning from single frames where the hand acts next."""

    def __init__(self, vlm: VLM, bins: int) -> None:
        super().__init__()
        self.vlm = vlm
        self.goal = GoalHead(vlm.config, bins)

    def forward(self, batch: PolicyBatch) -> dict[str, Tensor]:
        """`loss`: the mean over the frames of the whole batch once processes are averaged."""
        cognition, _ = self.vlm(batch.inputs)
        return {"loss": self.goal.loss(cognition, batch, batch.shown)}


class Recall(nn.Module):
    """A cognitive memory bank that learns from what has been seen, token by token, where the hand acts next; the
    vision-language part and its own head stay as they are."""

    def __init__(self, vlm: VLM, bank: MemoryBank, bins: int) -> None:
        super().__init__()
        self.vlm, self.bank = vlm.requires_grad_(False), bank
        self.goal = GoalHead(vlm.config, bins).requires_grad_(False)
        self.recalled = GoalHead(vlm.config, bins)

    def forward(self, batch: PolicyBatch) -> dict[str, Tensor]:
        """`loss`: the mean over the frames of the whole batch once processes are averaged."""
        if batch.seen is None:
            raise ValueError("recall learns from cognition tokens that were computed before")
        remembered = _from_grid(self.bank.train_episodes(*_to_grid(batch.seen, batch)), batch)
        return {"loss": self.recalled.loss(remembered, batch, batch.goals)}


class PolicyTraining(nn.Module):
    """A policy network with what training needs around it: `forward(batch)` gives its losses.

    goal_weight: of the loss of `GoalHead` on the cognition token (0: none); seen_weight: of that on the perceptual
    tokens as the action expert sees them (0: none; CogACT's sees none); imagined_weight: of that on the imagination
    former's tokens alone (0: none; only MemoryVLA++ has them).
    """

    def __init__(
        self,
        network: nn.Module,
        config: ModelConfig,
        *,
        goal_weight: float = 0.0,
        seen_weight: float = 0.0,
        imagined_weight: float = 0.0,
        bins: int = 24,
    ) -> None:
        super().__init__()
        self.network: Any = network  # one of the families' networks, which share no class
        self.config = config
        self.weights = {
            "goal": goal_weight,
            "goal_now": goal_weight,
            "goal_first": goal_weight,
            "goal_seen": seen_weight,
            "goal_imagined": imagined_weight,
        }
        self.goal = GoalHead(config, bins) if goal_weight else None
        # Told before memory too: a frame that shows a cue must itself say where it leads, be it now or later, or
        # nothing would reward storing it (entries are detached).
        remembers = isinstance(network, MemoryVLANetwork)
        self.goal_now = GoalHead(config, bins) if goal_weight and remembers else None
        # And told by the perceptual tokens, which alone hold what was imagined: the action expert's attention to them
        # starts silent, and little else would tell a small model to make imagination legible.
        self.goal_seen = GoalHead(config, bins, config.perception) if seen_weight and remembers else None
        # And by what was imagined before it is mixed with what was seen, which is learned by heart sooner.
        imagines = isinstance(network, MemoryVLANetwork) and network.imagination is not None
        self.goal_imagined = GoalHead(config, bins, config.perception) if imagined_weight and imagines else None

    def forward(self, batch: PolicyBatch) -> dict[str, Tensor]:
        """`loss` and its parts, each the mean over the frames of the whole batch once processes are averaged."""
        seen, vision = self._see(batch)
        cognition, perception, imagined = self._remember(seen, vision, batch)
        parts = {"action": self._action_loss(cognition, perception, batch)}
        if self.goal is not None:
            parts["goal"] = self.goal.loss(cognition, batch, batch.goals)
        if self.goal_now is not None:
            parts["goal_now"] = self.goal_now.loss(seen, batch, batch.shown)
        if batch.firsts is not None:
            parts["goal_first"] = self._first_loss(batch.firsts)
        if self.goal_seen is not None and perception is not None:
            parts["goal_seen"] = self.goal_seen.loss(perception, batch, batch.goals)
        if self.goal_imagined is not None and imagined is not None:
            parts["goal_imagined"] = self.goal_imagined.loss(imagined.flatten(1, 2), batch, batch.goals)
        loss = parts["action"]
        for name, weight in self.weights.items():
            if name in parts:
                loss = loss + weight * parts[name]
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def _see(self, batch: PolicyBatch) -> tuple[Tensor, Tensor]:
        """Cognition tokens [N, 1, D] and vision tokens [N, V * P, channels], computed now unless they were before."""
        if batch.seen is not None and batch.vision is not None:
            return batch.seen, batch.vision.to(batch.seen.dtype)
        seen, vision = self.network.vlm(batch.inputs)
        return seen, vision

    def _first_loss(self, firsts: PolicyBatch) -> Tensor:
        """Where first frames lead, which have nothing to remember: asked of the head that is told before memory."""
        head = self.goal if self.goal_now is None else self.goal_now
        if head is None:
            raise ValueError("first frames need goal_weight: nothing else learns from them")
        seen, _ = self.network.vlm(firsts.inputs)
        return head.loss(seen, firsts, firsts.shown)

    def _remember(
        self, seen: Tensor, vision: Tensor, batch: PolicyBatch
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Cognition token [N, 1, D] after memory; of the M frames that are looked at (`_looked_at`) perceptual tokens
        [M, P, d] after memory and imagination, and the imagined tokens [M, K, Nq, d]."""
        network = self.network
        if not isinstance(network, MemoryVLANetwork):
            return seen, None, None
        perception: Tensor = network.memory.per_compr(vision, self.config.views)
        cognition, imagined = seen, None
        looked_at = self._looked_at(batch)
        banks = network.memory.banks
        if "cognitive" in banks:
            cognition = _from_grid(banks["cognitive"].train_episodes(*_to_grid(seen, batch)), batch)
        if "perceptual" in banks:
            wanted, found = _on_rows(looked_at, batch)
            grid = banks["perceptual"].train_episodes(*_to_grid(perception, batch), wanted)
            perception = grid.flatten(0, 1)[found]
        else:
            perception = perception[looked_at]
        if network.imagination is not None:
            imagined = network.imagination.condense(self._maps(batch, looked_at))
            perception = network.imagination.integrate(perception, imagined)
        return cognition, perception, imagined

    def _looked_at(self, batch: PolicyBatch) -> Tensor:
        """Frames whose perceptual tokens anything learns from, int64 [M], rising: those that are noised, or all."""
        if self.goal_seen is None and self.goal_imagined is None:
            return batch.noised
        return torch.arange(len(batch.place), device=batch.place.device)

    def _maps(self, batch: PolicyBatch, frames: Tensor) -> list[Tensor]:
        """The world model's features of these frames, computed now unless they were before."""
        if batch.maps is not None:
            return [level[frames] for level in batch.maps]
        inputs = batch.inputs
        if inputs.world_ids is None or inputs.noise is None:
            raise ValueError("imagination needs the instruction in the world model's ids, and noise to start from")
        world = self.network.imagination.world
        maps: list[Tensor] = world.imagine(inputs.pictures[frames, 0], inputs.world_ids[frames], inputs.noise[frames])
        return maps

    def _action_loss(self, cognition: Tensor, perception: Tensor | None, batch: PolicyBatch) -> Tensor:
        """Mean squared error of the predicted noise over all numbers and noisings of the frames that are noised, each
        standing for its share of its piece; a frame whose chunk is no plan (NaN) counts as 0."""
        expert: ActionModel = self.network.action_model
        these = batch.noised
        copies = len(batch.step) // len(these)
        chunks = batch.chunks[these]
        weight = batch.weight[these] * batch.stands * chunks.isfinite().all(-1).all(-1)
        clean = chunks.nan_to_num().repeat(copies, 1, 1)
        condition = drop_condition(expert.net, cognition[these].repeat(copies, 1, 1), batch.drop)
        noisy = add_noise(clean, batch.noise, batch.step).to(condition.dtype)
        if perception is not None and len(perception) == len(batch.chunks):  # all frames were looked at
            perception = perception[these]
        predicted: Tensor = expert.net(noisy, batch.step, condition, expert.net.see(perception))
        off = ((predicted - batch.noise) ** 2).mean((1, 2))
        return (off * weight.repeat(copies)).sum() / (copies * batch.frames)


def _to_grid(tokens: Tensor, batch: PolicyBatch) -> tuple[Tensor, Tensor]:
    """Tokens [N, P, d] and their times as pieces [E, T, P, d], [E, T]; zeros where a piece is shorter."""
    pieces, longest = batch.grid
    grid = tokens.new_zeros((pieces * longest, *tokens.shape[1:])).index_copy(0, batch.place, tokens)
    times = batch.inputs.times.new_zeros(pieces * longest).index_copy(0, batch.place, batch.inputs.times)
    return grid.reshape(pieces, longest, *tokens.shape[1:]), times.reshape(pieces, longest)


def _on_rows(frames: Tensor, batch: PolicyBatch) -> tuple[Tensor, Tensor]:
    """These frames [M], rising, as turns of their pieces, int64 [E, K], filled up with 0 where a piece has fewer; and
    where each of them lies in that, flat, int64 [M]."""
    pieces, longest = batch.grid
    piece, turn = batch.place[frames] // longest, batch.place[frames] % longest
    counts = torch.bincount(piece, minlength=pieces)
    nth = torch.arange(len(frames), device=frames.device) - (counts.cumsum(0) - counts)[piece]
    most = int(counts.max())
    turns = turn.new_zeros(pieces * most).index_copy(0, piece * most + nth, turn)
    return turns.reshape(pieces, most), piece * most + nth


def _from_grid(grid: Tensor, batch: PolicyBatch) -> Tensor:
    return grid.flatten(0, 1)[batch.place]
