"""The shape of a model as data: what a preset, a checkpoint's config and a command line's overrides are made of."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from policies.base import PolicyError

LLAMA_PROMPT = "In: What action should the robot take to {instruction}?\nOut:"
"""The "pure" prompt of OpenVLA; the instruction is in lower case."""

PICTURE = "<image>"
"""Where the picture tokens go in a prompt that says so; in one that does not they follow the first token."""

DEXBOTIC_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    f"and polite answers to the user's questions. USER: {PICTURE}\nWhat action should the robot take to "
    "{instruction}? ASSISTANT:  "
)
"""Dexbotic's chat template with the sentence its clients send (conversation.py; evaluation client). The two spaces at
the end stand for the empty answer, which `<|endoftext|>` closes."""


@dataclass(frozen=True)
class TowerConfig:
    """One vision transformer."""

    width: int
    depth: int
    heads: int
    mlp: int


@dataclass(frozen=True)
class VisionConfig:
    """What turns pictures into tokens.

    kind: `towers` (DINOv2 and SigLIP side by side, as released), `clip` (MemoryVLA+) or `conv` (a small convolutional
    stem that hears the instruction, for learning from scratch on a laptop). image: side of the square input in pixels;
    patch: pixels a token spans; registers: register tokens of DINOv2; width: channels of the stem. resize: `naive` (to
    the input size, whatever the aspect), `pad` (to a square with CLIP's mean colour first, MemoryVLA+), or `none`
    (another size is an error). centre_crop: keep the middle 90 % of the area, as the
    MemoryVLA server does after a square crop (models trained with random crops of that size). swap_red_blue: hand the
    model BGR (the official LIBERO client does). projector: of tokens to the language model's width, `fused` (three
    maps) or `mlp2x_gelu` (two, MemoryVLA+).
    """

    kind: str
    image: int
    patch: int
    dino: TowerConfig = TowerConfig(1024, 24, 16, 4096)
    siglip: TowerConfig = TowerConfig(1152, 27, 16, 4304)
    clip: TowerConfig = TowerConfig(1024, 24, 16, 4096)
    registers: int = 4
    width: int = 0
    resize: str = "naive"
    centre_crop: bool = False
    swap_red_blue: bool = False
    projector: str = "fused"

    def __post_init__(self) -> None:
        one_of("vision.kind", self.kind, ("towers", "clip", "conv"))
        one_of("vision.resize", self.resize, ("naive", "pad", "none"))
        one_of("vision.projector", self.projector, ("fused", "mlp2x_gelu"))
        if self.image % self.patch:
            raise PolicyError(f"vision.image {self.image} is not a multiple of vision.patch {self.patch}")

    @property
    def tokens(self) -> int:
        """Tokens of one view."""
        return (self.image // self.patch) ** 2

    @property
    def channels(self) -> int:
        """Channels of a token."""
        return {"towers": self.dino.width + self.siglip.width, "clip": self.clip.width, "conv": self.width}[self.kind]


@dataclass(frozen=True)
class LanguageConfig:
    """The language model that reads text and picture tokens. kind: `llama`, or `qwen2` (Qwen2 and Qwen2.5). prompt:
    picture tokens stand where it says `<image>`, else after the first token. bos: id the text begins with (-1: none).
    tail: ids put after the prompt; the last is end-of-sequence, whose hidden state is the cognition token (LLaMA-2: the
    bare space piece, then `</s>`). lower: the instruction is put in lower case (Dexbotic takes it as it is).
    key_heads: heads of keys and values (0: as many as `heads`); rope: base of the rotary positions."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp: int
    prompt: str = LLAMA_PROMPT
    bos: int = 1
    pad: int = 32000
    tail: tuple[int, ...] = (29871, 2)
    longest: int = 2048
    norm_eps: float = 1e-5
    kind: str = "llama"
    lower: bool = True
    key_heads: int = 0
    rope: float = 10000.0

    def __post_init__(self) -> None:
        one_of("language.kind", self.kind, ("llama", "qwen2"))
        if self.prompt.count(PICTURE) > 1:
            raise PolicyError(f"language.prompt says {PICTURE} more than once")

    @property
    def marked(self) -> bool:
        """Whether the prompt says where the picture tokens stand."""
        return PICTURE in self.prompt


@dataclass(frozen=True)
class ExpertConfig:
    """The diffusion action expert. chunk: actions an answer; execute: how many of them are carried out per call."""

    depth: int
    hidden: int
    heads: int
    chunk: int = 16
    execute: int = 8
    steps: int = 10
    guidance: float = 1.5


@dataclass(frozen=True)
class MemoryOptions:
    """Memory of both streams; see `policies.memoryvla.memory.MemoryConfig`. streams: `both`, `perceptual` or
    `cognitive`; time: an entry's timestep counts remembered policy calls, or environment steps; every: of so many calls
    the first is remembered, the others look into memory and leave it as it was."""

    streams: str = "both"
    time: str = "call"
    every: int = 1
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
        one_of("memory.streams", self.streams, ("both", "perceptual", "cognitive"))
        one_of("memory.time", self.time, ("call", "step"))
        if self.every < 1:
            raise PolicyError(f"memory.every must be 1 or more, was {self.every}")


@dataclass(frozen=True)
class ImaginationOptions:
    """The world model (Stable Video Diffusion) and how its imagination is used; see `policies.memoryvla.imagination`.

    size: side of the world model's pictures in pixels; channels, heads: of the UNet's levels (channels in multiples of
    32, as diffusers' norms need); blocks: residual blocks a level; cross: width of its text conditioning; latent:
    channels of the VAE's levels, each but the last halving the picture; text_*: the CLIP text encoder; frames: frames
    the UNet imagines; fps: told to it; schedule: denoising steps of a whole sampling; steps: how many of them are run
    (1: the first, from pure noise); horizon: imagined frames K that are used, the first ones; queries: tokens a frame
    after the imagination former; layers, former_heads: of that former; position_encoding: the former is told where in
    the picture a feature lies (the paper names no such code); integration: `gate` (memory-guided attention
    and gate) or `add`; keep_bias: starting bias of the gate towards the tokens without imagination (4 to start from a
    MemoryVLA checkpoint).
    """

    size: int = 256
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    heads: tuple[int, ...] = (5, 10, 20, 20)
    blocks: int = 2
    cross: int = 1024
    latent: tuple[int, ...] = (128, 256, 512, 512)
    text_vocabulary: int = 49408
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_tokens: int = 20
    frames: int = 16
    fps: int = 4
    schedule: int = 20
    steps: int = 1
    horizon: int = 16
    queries: int = 16
    layers: int = 2
    former_heads: int = 8
    position_encoding: bool = False
    integration: str = "gate"
    keep_bias: float = 0.0

    def __post_init__(self) -> None:
        one_of("imagination.integration", self.integration, ("gate", "add"))
        for name, most in (("steps", self.schedule), ("horizon", self.frames)):
            if not 1 <= getattr(self, name) <= most:
                raise PolicyError(f"imagination.{name} must be 1 to {most}, was {getattr(self, name)}")
        if len(self.channels) < 3 or len(self.heads) != len(self.channels):
            raise PolicyError("imagination.channels and imagination.heads need the same three levels or more")
        if self.cross % self.text_width:
            raise PolicyError("imagination.cross must be a multiple of imagination.text_width")

    @property
    def grid(self) -> int:
        """Side of the latent picture."""
        halvings = len(self.latent) - 1
        return self.size >> halvings


FAMILIES = ("cogact", "memoryvla", "memoryvla_plus", "memoryvla_pp")
"""The models there are, by the name of their policy."""


@dataclass(frozen=True)
class ModelConfig:
    """A whole policy network.

    family: `cogact`, `memoryvla`, `memoryvla_plus` or `memoryvla_pp`; views: pictures a call (all through the same
    towers); perception: width of the perceptual tokens; compress: what they are made from, `vision` (features before
    the projector, gate within) or `projected` (after it, gate first: MemoryVLA+); state: numbers of proprioception it
    is given (0: none; as released).
    """

    family: str
    vision: VisionConfig
    language: LanguageConfig
    expert: ExpertConfig
    perception: int = 256
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    imagination: ImaginationOptions | None = None
    views: int = 1
    state: int = 0
    action: int = 7
    compress: str = "vision"

    def __post_init__(self) -> None:
        one_of("family", self.family, FAMILIES)
        one_of("compress", self.compress, ("vision", "projected"))
        if (self.family == "memoryvla_pp") != (self.imagination is not None):
            raise PolicyError(f"imagination belongs to memoryvla_pp and to nothing else; the family is {self.family}")

    @property
    def picture_tokens(self) -> int:
        """Tokens of all views."""
        return self.views * self.vision.tokens

    @property
    def compressed(self) -> int:
        """Channels of what the perceptual compressor is given."""
        return self.vision.channels if self.compress == "vision" else self.language.width


def one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    """Raise PolicyError unless `value` is one of `known`."""
    if value not in known:
        raise PolicyError(f"{what} must be one of {', '.join(known)}, was {value!r}")


def preset(name: str, family: str) -> ModelConfig:
    """`7b`: the released sizes. `lab`: about a million parameters for 64x64 pictures, the same code."""
    one_of("preset", name, ("7b", "lab"))
    one_of("family", family, FAMILIES)
    if family == "memoryvla_plus":
        return _plus(name)
    imagines = family == "memoryvla_pp"
    if name == "7b":
        return ModelConfig(
            family=family,
            vision=VisionConfig("towers", image=224, patch=14),
            language=LanguageConfig(vocabulary=32064, width=4096, layers=32, heads=32, mlp=11008),
            expert=ExpertConfig(depth=24, hidden=1024, heads=16),
            imagination=ImaginationOptions() if imagines else None,
        )
    return ModelConfig(
        family=family,
        vision=VisionConfig("conv", image=64, patch=16, width=96, resize="none"),
        language=LanguageConfig(
            vocabulary=512,
            width=96,
            layers=2,
            heads=4,
            mlp=256,
            prompt="{instruction}",
            bos=1,
            pad=0,
            tail=(2,),
            longest=64,
        ),
        expert=ExpertConfig(depth=3, hidden=96, heads=4, chunk=8, execute=4),
        perception=96,
        imagination=LAB_IMAGINATION if imagines else None,
    )


PLUS_MEMORY = MemoryOptions(
    heads=4, time_width=256, write="fused", merged_time="mean", when_empty="attend", dropout=0.1
)
"""Memory of MemoryVLA+ (Dexbotic): how it differs from MemoryVLA's."""


def _plus(name: str) -> ModelConfig:
    """MemoryVLA+. Sizes of `7b`: Qwen2.5-7B and CLIP ViT-L/14 at 336 pixels, with the vocabulary of a released Dexbotic
    checkpoint (simpler-db-cogact; those of MemoryVLA+ were not seen). Its expert is DiT-L on LIBERO, DiT-B on
    SimplerEnv; its clients execute 11 actions a call on LIBERO, 5 on SimplerEnv."""
    if name == "7b":
        return ModelConfig(
            family="memoryvla_plus",
            vision=VisionConfig("clip", image=336, patch=14, resize="pad", projector="mlp2x_gelu"),
            language=LanguageConfig(
                kind="qwen2",
                vocabulary=151920,
                width=3584,
                layers=28,
                heads=28,
                key_heads=4,
                mlp=18944,
                prompt=DEXBOTIC_PROMPT,
                lower=False,
                bos=-1,
                pad=151643,
                tail=(151643,),
                norm_eps=1e-6,
                rope=1e6,
            ),
            expert=ExpertConfig(depth=24, hidden=1024, heads=16, execute=11),
            memory=PLUS_MEMORY,
            compress="projected",
        )
    return ModelConfig(
        family="memoryvla_plus",
        vision=VisionConfig(
            "clip", image=64, patch=16, resize="none", projector="mlp2x_gelu", clip=TowerConfig(96, 3, 4, 192)
        ),
        language=LanguageConfig(
            kind="qwen2",
            vocabulary=512,
            width=96,
            layers=2,
            heads=4,
            key_heads=2,
            mlp=256,
            prompt=f"{PICTURE} {{instruction}}",
            lower=False,
            bos=-1,
            pad=0,
            tail=(2,),
            longest=64,
            norm_eps=1e-6,
        ),
        expert=ExpertConfig(depth=3, hidden=96, heads=4, chunk=8, execute=4),
        perception=96,
        memory=PLUS_MEMORY,
        compress="projected",
    )


LAB_IMAGINATION = ImaginationOptions(
    size=32,
    channels=(32, 32, 64),
    heads=(1, 1, 2),
    blocks=1,
    cross=64,
    latent=(32, 32, 32),
    text_vocabulary=512,
    text_width=32,
    text_layers=1,
    text_heads=2,
    frames=4,
    horizon=4,
    queries=4,
    former_heads=4,
)
"""World model of the `lab` preset."""


# ---------------------------------------------------------------------- to and from plain data

Kind = TypeVar("Kind")


def to_data(config: Any) -> dict[str, Any]:
    """A config as plain data for JSON."""
    return dataclasses.asdict(config)


def from_data(kind: type[Kind], data: Mapping[str, Any], where: str = "config") -> Kind:
    """The inverse. Raises PolicyError for a key that does not exist (with the nearest one) or is missing."""
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for name in data:
        if name not in known:
            raise PolicyError(unknown(f"{where} key", name, known))
    try:
        return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in data.items()})
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{where}: {error}") from error


def changed(config: Kind, changes: Mapping[str, Any], where: str = "config") -> Kind:
    """`config` with some keys set; None means: leave as it is. Nested mappings change nested configs."""
    data = to_data(config)
    for name, value in changes.items():
        if name not in data:
            raise PolicyError(unknown(f"{where} key", name, list(data)))
        if isinstance(value, Mapping):
            inner = getattr(config, name)
            if not is_dataclass(inner):
                if any(v is not None for v in value.values()):
                    raise PolicyError(f"{where}.{name} does not belong to this model")
                continue
            data[name] = to_data(changed(inner, value, f"{where}.{name}"))
        elif value is not None:
            data[name] = value
    return from_data(type(config), data, where)


def _value(hint: Any, value: Any, where: str) -> Any:
    options = [h for h in typing.get_args(hint) if h is not type(None)] if type(None) in typing.get_args(hint) else []
    if options:
        return None if value is None else _value(options[0], value, where)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise PolicyError(f"{where} must be a mapping, was {value!r}")
        return from_data(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    expected = (int, float) if hint is float else hint
    if not isinstance(value, expected) or (hint is not bool and isinstance(value, bool)):
        raise PolicyError(f"{where} must be of type {hint.__name__}, was {value!r}")
    return float(value) if hint is float else value


def unknown(what: str, name: str, known: list[str]) -> str:
    """The error for a name that does not exist, with the nearest one."""
    near = difflib.get_close_matches(str(name), known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    return f"unknown {what} {name!r}; {hint}"
