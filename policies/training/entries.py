"""What recipes call: from plain options and folders of data to a stage, where the stage itself takes demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policies.base import PolicyError
from policies.training.demos import DemoError
from policies.training.rlds import read_demos
from policies.training.stage import Stage
from policies.training.world import WorldTraining, world_stage
from policies.vla.config import changed, from_data, preset
from policies.vla.language import read_tokenizer


def world_model(
    *,
    data: Sequence[str],
    phase: str,
    camera: str = "",
    size: str = "lab",
    imagination: Mapping[str, Any] | None = None,
    start: str | None = None,
    clip: str | None = None,
    tokenizer: str | None = None,
    **training: Any,
) -> Stage:
    """Stage 1, one phase of it (`autoencoder` or `video`); see `policies.training.world.world_stage`.

    data: folders of RLDS datasets, videos without labels among them; camera: the view that is imagined (empty: the
    data's first); size, imagination: the preset and changes of its shape, where no `start` says it; start: folder of a
    world model, ours or a Stable Video Diffusion with its text encoder in `clip`; training: the fields of
    `WorldTraining`. Raises PolicyError or DemoError.
    """
    from_data(WorldTraining, {**training, "camera": camera}, "world model")  # refuse what is unknown before reading
    folders = [Path(folder) for folder in data]
    demos = [demo for folder in folders for demo in read_demos(folder, cameras=[camera] if camera else None)]
    if not demos:
        raise DemoError("name the videos: data=[DIR,...], each an RLDS dataset as `memvla collect` writes")
    shape = preset(size, "memoryvla_pp").imagination
    if shape is None:
        raise PolicyError(f"size={size} has no world model")
    return world_stage(
        demos,
        changed(shape, imagination or {}, "imagination") if start is None else None,
        phase=phase,
        start=Path(start) if start else None,
        clip=Path(clip) if clip else None,
        tokenizer=read_tokenizer(Path(tokenizer)) if tokenizer else None,
        camera=camera,
        **training,
    )
