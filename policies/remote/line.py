"""A line: one live episode's conversation with a server. Once lost it stays lost, for the memory is gone with it."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image as Pillow

from envs.spec import Floats, Image
from policies.base import ActRequest, EpisodeStart, PolicyError
from policies.remote.options import Options


class Line(ABC):
    """One episode. `act` and `instruction_changed` raise PolicyError; after that every further call does."""

    def __init__(self, options: Options, cameras: tuple[str, ...], start: EpisodeStart) -> None:
        self.options, self.cameras, self.start = options, cameras, start
        self.instruction = start.instruction
        self._lost = ""

    def ask(self, request: ActRequest) -> Floats:
        """The chunk [T, A] for one frame."""
        with self.unbroken():
            return self.act(request)

    def switch(self, instruction: str, *, keep_memory: bool) -> None:
        """Another sentence is in force."""
        with self.unbroken():
            self.instruction_changed(instruction, keep_memory=keep_memory)
            self.instruction = instruction

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """Turn whatever goes wrong inside into a PolicyError, and remember it."""
        if self._lost:
            raise PolicyError(self._lost)
        try:
            yield
        except PolicyError as error:
            self._lost = str(error)
            raise
        except Exception as error:  # network libraries raise many kinds
            what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            self._lost = (
                f"the connection to {self.options.url} was lost, and the memory of this episode with it ({what})"
            )
            raise PolicyError(self._lost) from error

    @abstractmethod
    def act(self, request: ActRequest) -> Floats:
        """Ask the server."""

    @abstractmethod
    def instruction_changed(self, instruction: str, *, keep_memory: bool) -> None:
        """Tell the server, or note what the next frame must say."""

    def close(self) -> None:  # noqa: B027 - not every protocol has something to close
        """Let go of the episode."""

    # ------------------------------------------------------------------ for subclasses

    def picture(self, request: ActRequest, camera: str) -> Image:
        """A camera's picture, in the channel order that was asked for."""
        image = request.observation.images[camera]
        return np.ascontiguousarray(image[..., ::-1]) if self.options.swap_red_blue else image

    def encoded(self, request: ActRequest, camera: str) -> bytes:
        """The same as a PNG or JPEG file."""
        buffer = io.BytesIO()
        picture = Pillow.fromarray(self.picture(request, camera))
        if self.options.encoding == "png":
            picture.save(buffer, "PNG", compress_level=1)
        else:
            picture.save(buffer, "JPEG", quality=self.options.quality)
        return buffer.getvalue()

    def marks(self) -> dict[str, str]:
        """Headers that name the episode to a server of ours; others ignore them."""
        name = self.start.episode
        return {
            "X-Memvla-Episode": json.dumps([name.suite, name.task, name.trial, name.attempt]),
            "X-Memvla-Seed": str(self.start.seed),
        }


def chunk_of(value: Any) -> Floats:
    """Actions [T, A] from nested lists or an array; one action alone becomes [1, A]. Raises PolicyError."""
    try:
        found = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        found = np.zeros(0, dtype=np.float32)
    if found.ndim == 1 and found.size:
        found = found[None]
    if found.ndim != 2:
        raise PolicyError(f"the server's answer is no action chunk: {str(value)[:120]!r}")
    return found
