"""Language: LLaMA or Qwen2.5 through `transformers`, its prompt, and the cognition token it ends in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, Qwen2Config, Qwen2Model

from policies.base import PolicyError
from policies.vla.config import PICTURE, LanguageConfig

PLACE = -1
"""Stands in a prompt's ids where the picture tokens go; no embedding belongs to it."""


class Language(nn.Module):
    """Reads text with picture tokens in it and gives the hidden state at the last text token."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        model: Any = LlamaModel if config.kind == "llama" else Qwen2Model
        of: Any = LlamaConfig if config.kind == "llama" else Qwen2Config
        self.model: Any = model(
            of(
                vocab_size=config.vocabulary,
                hidden_size=config.width,
                intermediate_size=config.mlp,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.key_heads or config.heads,
                max_position_embeddings=config.longest,
                rms_norm_eps=config.norm_eps,
                rope_parameters={"rope_type": "default", "rope_theta": config.rope},
                use_cache=False,
            )
        )

    def embed(self, ids: Tensor) -> Tensor:
        """ids int64 [B, S] -> [B, S, width]; the place of the pictures gets some vector that nobody reads."""
        found: Tensor = self.model.embed_tokens(ids.clamp(min=0))
        return found

    def forward(self, text: Tensor, lengths: Tensor, prefix: Tensor, place: Tensor | None = None) -> Tensor:
        """The cognition token [B, 1, width]: text embeddings [B, S, width] padded on the right, of which `lengths`
        [B] count; prefix [B, P, width] replaces the one at `place` [B] or, without a place, follows the first.

        Attention is causal, so nothing right of the last text token can reach it and no mask is needed.
        """
        if place is None:
            whole, replaced = torch.cat([text[:, :1], prefix, text[:, 1:]], dim=1), 0
        else:
            whole, replaced = splice(text, prefix, place), 1
        hidden: Tensor = self.model(inputs_embeds=whole, use_cache=False).last_hidden_state
        return pick(hidden, prefix.shape[1] + lengths - 1 - replaced)


def splice(text: Tensor, prefix: Tensor, place: Tensor) -> Tensor:
    """text [B, S, D] with prefix [B, P, D] in place of the token at `place` [B]: [B, S + P - 1, D]. Its shape depends
    on no value, so that it can be compiled."""
    length, size = text.shape[1], prefix.shape[1]
    at = torch.arange(length + size - 1, device=text.device)[None] - place[:, None]
    before, within = at < 0, at < size
    index = torch.where(before, at + place[:, None], torch.where(within, length + at, at + place[:, None] - size + 1))
    return torch.cat([text, prefix], dim=1).gather(1, index[..., None].expand(-1, -1, text.shape[-1]))


def pick(hidden: Tensor, index: Tensor) -> Tensor:
    """Row by row the token at `index` [B] of hidden [B, S, D], as [B, 1, D]."""
    return hidden.gather(1, index[:, None, None].expand(-1, 1, hidden.shape[-1]))


def cognition_of(hidden: Tensor, mask: Tensor, pictures: int) -> Tensor:
    """The cognition token [B, 1, D] in training: hidden [B, pictures + S, D], whose last S positions are text under
    the attention mask bool [B, S]; the first text position where the mask's running sum reaches its maximum."""
    reached = mask.long().cumsum(1)
    last = (reached == reached[:, -1:]).long().argmax(1)
    return pick(hidden[:, pictures:], last)


class Prompter:
    """Instructions to ids."""

    def __init__(self, tokenizer: Tokenizer, config: LanguageConfig) -> None:
        if tokenizer.get_vocab_size() > config.vocabulary:
            raise PolicyError(
                f"the tokenizer has {tokenizer.get_vocab_size()} tokens, the model has room for {config.vocabulary}: "
                "they do not belong together"
            )
        self.tokenizer = tokenizer
        self.config = config

    def ids(self, instruction: str) -> list[int]:
        """BOS, the prompt (`PLACE` where it has the pictures), and the tail. Raises PolicyError for an empty
        instruction or one that is too long."""
        config = self.config
        wanted = instruction.strip().lower() if config.lower else instruction.strip()
        if not wanted:
            raise PolicyError("the instruction is empty; this policy acts on a sentence")
        parts = [part.format(instruction=wanted) for part in config.prompt.split(PICTURE)]
        if not config.marked:
            parts[-1] = parts[-1].rstrip()  # as released; a chat template's last spaces count
        found = [] if config.bos < 0 else [config.bos]
        for i, part in enumerate(parts):
            found += [PLACE] * (i > 0) + self.tokenizer.encode(part, add_special_tokens=False).ids
        found += config.tail
        if len(found) > self.config.longest:
            raise PolicyError(f"the instruction takes {len(found)} tokens, at most {self.config.longest} are possible")
        return found

    def batch(self, instructions: Sequence[list[int]], at_least: int = 0) -> tuple[Tensor, Tensor]:
        """(ids int64 [B, S] padded on the right, lengths int64 [B]); S is `at_least` or the longest."""
        longest = max(at_least, *map(len, instructions))
        rows = [[*ids, *[self.config.pad] * (longest - len(ids))] for ids in instructions]
        return torch.tensor(rows), torch.tensor([len(ids) for ids in instructions])


class WorldPrompter:
    """Instructions to the ids of the world model's text encoder, padded or cut to one length."""

    def __init__(self, tokenizer: Tokenizer, length: int, vocabulary: int) -> None:
        if tokenizer.get_vocab_size() > vocabulary:
            raise PolicyError(
                f"the world model's tokenizer has {tokenizer.get_vocab_size()} tokens, its text encoder {vocabulary}: "
                "they do not belong together"
            )
        begin, end = (tokenizer.token_to_id(name) for name in ("<|startoftext|>", "<|endoftext|>"))
        clip = begin is not None and end is not None  # CLIP pads with its end; ours has ids of its own
        self._begin, self._end, self._pad = (begin or 0, end or 0, end or 0) if clip else (1, 2, 0)
        self._tokenizer, self._length = tokenizer, length

    def ids(self, instruction: str) -> list[int]:
        """Start, the sentence, end, padding: `length` ids."""
        words = self._tokenizer.encode(instruction.strip().lower(), add_special_tokens=False).ids
        found = [self._begin, *words[: self._length - 2], self._end]
        return [*found, *[self._pad] * (self._length - len(found))]


def read_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json`. Raises PolicyError where it is missing or unreadable."""
    if not path.is_file():
        raise PolicyError(
            f"no tokenizer at {path}: put the tokenizer.json of the language model there (released checkpoints use "
            "LLaMA-2's, whose licence you must accept), or name it with policy.tokenizer=FILE"
        )
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:
        raise PolicyError(f"tokenizer {path} cannot be read: {error}") from error


LAB_WORDS = """
a above across after again aim all an and another any apart appears are arm around as at away back ball before behind
belt below bin block blocks blue bottom bounce box brown button buttons by can carry catch catcher centre close colour
conveyor cover covered cube cubes cup cups cyan down drawer drop each exactly eight far fast first five flash flashed
follow for four from front game gate give go goal gold grab gray green grey grip gripper had hand hidden hit hold
in inside intercept into is it its keep lamp last left lid lift light lit lower magenta mark memorise memorize middle
more move near next nine number of off on one onto open orange order over pad paint pick piece pink place plate press
pressed pressing puck pull purple push put reach red remember remembered release repeat return right ring roll rolling
same second see seen sequence set seven shell showed shown six slot slow small stack stop table take target ten that
the them then there they third this three through to top touch tower track tray turn twice two under until up use
violet wait was watch were when where which while white with without wooden yellow you your
"""
"""Words the lab tokenizer knows whole; any other is spelt."""


def lab_tokenizer(words: Iterable[str] = ()) -> Tokenizer:
    """A tokenizer that needs no download: whole words where known, letter by letter otherwise."""
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    inner = [f"##{c}" for c in letters if c.isalnum()]
    vocabulary = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", *letters, *inner, *dict.fromkeys([*LAB_WORDS.split(), *words])]
    vocabulary = list(dict.fromkeys(vocabulary))
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
