"""One attempt at one scene, as it goes over the wire and into the records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

from envs.spec import SceneId

MARK = 4
"""Digits of an action's mark."""

OUTCOMES = ("success", "failure", "void")
_INT64 = 2**63


class RecordError(RuntimeError):
    """A record or the store that holds it is not as it must be. The message names it, what was found, and the cure."""


@dataclass(frozen=True)
class EpisodeRecord:
    """One attempt at one scene, as the driver writes it. Every construction checks types and that the parts agree.

    Raises RecordError for a wrong type, a number that is not finite, or parts that contradict each other.
    """

    suite: str
    """Name of the suite."""
    task: str
    """Name of the task within the suite."""
    trial: int
    """Index of the start of the task, from 0."""
    attempt: int
    """1, 2, 3 ...; a void attempt is repeated under the next number."""
    outcome: str
    """`success`, `failure`, or `void` (an infrastructure fault: never scored)."""
    steps: int
    """Environment steps taken, settle steps not counted. With a protocol that stops at success: the step of success."""
    calls: int
    """Policy calls answered."""
    success_once: bool | None = None
    """The success rule held after one step at least. None for a void attempt."""
    success_at_end: bool | None = None
    """The success rule held after the last step. None for a void attempt."""
    score: float | None = None
    """Graded score in [0, 1] where the task has one. None for a void attempt."""
    instruction: str = ""
    """The first sentence the policy was given."""
    cause: str = ""
    """One line saying why a void attempt is void; empty otherwise."""
    scene_hash: str = ""
    """Digest of everything that makes the scene what it is; empty only where a void attempt never got that far."""
    first_frame_hash: str = ""
    """Digest of the first frame the policy was given; empty when no frame was drawn."""
    action_digest: str = ""
    """SHA-256 over the actions carried out, in order."""
    first_action: tuple[float, ...] = ()
    """The first action carried out, in the environment's units; empty in records from before it was kept."""
    action_marks: str = ""
    """Four hex digits for each step, the head of a SHA-256 over its action; empty in records from before."""
    subtask_steps: tuple[int, ...] = ()
    """Steps spent under each instruction, in order (chains such as CALVIN's); empty where it never changes."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers the environment reports at the end: `right_choices`, `wrong_choices` ..."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock seconds by phase: `reset`, `policy`, `step`, `draw`, and `total`."""
    video: str = ""
    """Video file relative to the run folder, with forward slashes; empty when none was kept."""
    privileged: bool = False
    """The policy read simulator state."""
    worker: str = ""
    """Which worker ran it."""
    started_at: str = ""
    """Start of the attempt, ISO 8601 in UTC."""
    seed: int = 0
    """The run's seed."""

    def __post_init__(self) -> None:
        for name in _TEXTS:
            _text(name, getattr(self, name))
        for name in ("trial", "attempt", "steps", "calls", "seed"):
            _integer(name, getattr(self, name))
        for name in ("success_once", "success_at_end"):
            if getattr(self, name) is not None:
                _boolean(name, getattr(self, name))
        _boolean("privileged", self.privileged)
        set_ = object.__setattr__
        if self.score is not None:
            set_(self, "score", _number("score", self.score))
        for name, part in (("subtask_steps", _integer), ("first_action", _number)):
            set_(self, name, tuple(part(name, n) for n in _sequence(name, getattr(self, name))))
        for name in ("metrics", "seconds"):
            set_(self, name, _numbers(name, getattr(self, name)))
        self._check_agreement()

    def _check_agreement(self) -> None:
        """The parts of a record must not contradict each other."""

        def demand(holds: bool, wrong: str) -> None:
            if not holds:
                raise RecordError(f"record of {self.scene}#{self.attempt}: {wrong}")

        demand(self.suite != "" and self.task != "", "suite and task must be named")
        demand(self.outcome in OUTCOMES, f"outcome {self.outcome!r} is none of {', '.join(OUTCOMES)}")
        demand(self.trial >= 0 and self.attempt >= 1, "trials count from 0 and attempts from 1")
        demand(self.steps >= 0 and self.calls >= 0, f"steps {self.steps} and calls {self.calls} must be 0 or more")
        demand(all(n >= 0 for n in self.subtask_steps), f"subtask_steps {self.subtask_steps} must be 0 or more")
        marks = len(self.action_marks)
        demand(marks in (0, MARK * self.steps), f"{marks} digits of action_marks for {self.steps} steps of {MARK} each")
        demand(all(s >= 0 for s in self.seconds.values()), f"seconds {dict(self.seconds)} must be 0 or more")
        if self.video:
            path = PurePosixPath(self.video)
            demand(
                not path.is_absolute() and ".." not in path.parts, f"video {self.video!r} must lie in the run folder"
            )
        if self.outcome == "void":
            flags = (self.success_once, self.success_at_end, self.score)
            demand(flags == (None, None, None), "a void attempt is never scored: success and score must be None")
            demand(
                self.cause.strip() != "" and len(self.cause.splitlines()) == 1, "a void attempt needs one line of cause"
            )
            return
        demand(self.cause == "", f"only a void attempt has a cause, found {self.cause!r}")
        demand(self.success_once is not None and self.success_at_end is not None, "both success rules must be recorded")
        demand(self.scene_hash != "", "a scored episode needs its scene_hash")
        demand(bool(self.success_once) or not self.success_at_end, "success at the end without success at any step")
        demand(self.outcome != "success" or bool(self.success_once), "a success under which no rule ever held")
        demand(self.outcome != "failure" or not self.success_at_end, "a failure under which every rule held at the end")

    @property
    def scene(self) -> SceneId:
        """The scene this is an attempt at."""
        return SceneId(self.suite, self.task, self.trial)

    @property
    def scored(self) -> bool:
        """Whether it counts: every outcome but void."""
        return self.outcome != "void"

    def to_wire(self) -> dict[str, Any]:
        """Builtins only (str, int, float, bool, None, list, dict), as msgpack and JSON take them."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        found["subtask_steps"], found["first_action"] = list(self.subtask_steps), list(self.first_action)
        found["metrics"], found["seconds"] = dict(self.metrics), dict(self.seconds)
        return found

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> EpisodeRecord:
        """The record `to_wire` was made from. Raises RecordError for missing or unknown fields and wrong types."""
        if not isinstance(data, Mapping):
            raise RecordError(f"a record must be a mapping of field names to values, found {type(data).__name__}")
        known = {f.name for f in fields(cls)}
        missing, unknown = sorted(known - set(data)), sorted(str(name) for name in set(data) - known)
        if missing or unknown:
            raise RecordError(
                f"a record's fields are wrong: missing {', '.join(missing) or 'none'}; unknown "
                f"{', '.join(unknown) or 'none'}; do both sides run the same version of memvla-bench?"
            )
        return cls(**data)


_TEXTS = (
    "suite", "task", "outcome", "instruction", "cause", "scene_hash", "first_frame_hash", "action_digest",
    "action_marks", "video", "worker", "started_at",
)  # fmt: skip


def _wrong(name: str, value: object, expected: str) -> RecordError:
    return RecordError(f"record field {name}: expected {expected}, found {type(value).__name__} {value!r:.80}")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(name, value, "text that UTF-8 can hold") from None
    return value


def _integer(name: str, value: object) -> int:
    if type(value) is not int or not -_INT64 <= value < _INT64:
        raise _wrong(name, value, "int of 64 bits")
    return value


def _boolean(name: str, value: object) -> bool:
    if type(value) is not bool:
        raise _wrong(name, value, "bool")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, value, "a finite float")
    return float(value)


def _numbers(name: str, value: object) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "a mapping of names to floats")
    return {_text(f"{name} key", key): _number(f"{name}[{key!r}]", number) for key, number in value.items()}


def _sequence(name: str, value: object) -> tuple[object, ...] | list[object]:
    if not isinstance(value, tuple | list):
        raise _wrong(name, value, "a tuple of numbers")
    return value
