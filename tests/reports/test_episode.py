from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np
import pytest

from reports.episode import EpisodeRecord, RecordError
from tests.reports.making import record


@pytest.mark.parametrize("outcome", ["success", "failure", "void"])
def test_a_record_survives_the_wire(outcome: str) -> None:
    sent = record(outcome, metrics={"right_choices": 3.0}, subtask_steps=(12, 30), seed=2**63 - 1)
    wire = msgpack.unpackb(msgpack.packb(sent.to_wire()))
    assert EpisodeRecord.from_wire(wire) == sent
    assert EpisodeRecord.from_wire(json.loads(json.dumps(sent.to_wire()))) == sent


def test_the_wire_form_holds_every_field_and_builtins_only() -> None:
    wire = record(subtask_steps=(1,)).to_wire()
    assert set(wire) == {f.name for f in fields(EpisodeRecord)}
    assert {type(value) for value in wire.values()} <= {str, int, float, bool, type(None), list, dict}


def test_missing_and_unknown_fields_are_refused_by_name() -> None:
    wire = record().to_wire()
    del wire["worker"]
    wire["colour"] = "red"
    with pytest.raises(RecordError, match=r"missing worker; unknown colour"):
        EpisodeRecord.from_wire(wire)
    with pytest.raises(RecordError, match="mapping"):
        EpisodeRecord.from_wire([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suite", 3),
        ("task", None),
        ("worker", b"worker"),
        ("instruction", "\ud800"),
        ("trial", 1.0),
        ("trial", True),
        ("steps", "40"),
        ("seed", 2**63),
        ("success_once", 1),
        ("success_once", np.bool_(True)),
        ("privileged", None),
        ("score", math.nan),
        ("score", "1"),
        ("score", True),
        ("metrics", {"right_choices": math.inf}),
        ("metrics", {1: 1.0}),
        ("metrics", [1.0]),
        ("seconds", {"total": None}),
        ("subtask_steps", (1.5,)),
        ("subtask_steps", "12"),
    ],
)
def test_a_wrong_type_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(RecordError, match=field):
        record(**{field: value})


def test_a_whole_number_is_taken_where_a_float_is_meant() -> None:
    made = record(score=1, metrics={"right_choices": 3})
    assert type(made.score) is float
    assert type(made.metrics["right_choices"]) is float


@pytest.mark.parametrize(
    "wrong",
    [
        {"outcome": "crashed"},
        {"outcome": "success", "success_once": False, "success_at_end": False},
        {"outcome": "failure", "success_once": True, "success_at_end": True},
        {"success_once": False, "success_at_end": True},
        {"success_once": None},
        {"scene_hash": ""},
        {"cause": "worker died"},
        {"suite": ""},
        {"trial": -1},
        {"attempt": 0},
        {"steps": -1},
        {"seconds": {"total": -0.5}},
        {"subtask_steps": (-1,)},
        {"video": "/elsewhere/a.mp4"},
        {"video": "../a.mp4"},
    ],
)
def test_parts_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        record(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"success_once": False}, {"success_at_end": True}, {"score": 0.0}, {"cause": " "}, {"cause": "a\nb"}]
)
def test_a_void_attempt_is_never_scored_and_says_why(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        record("void", **wrong)
    assert not record("void", scene_hash="").scored


def test_both_success_rules_may_differ_under_either_protocol() -> None:
    assert record("success", success_at_end=False).scored  # it held once, and that is what scores
    assert record("failure", success_once=True, success_at_end=False).scored  # it had to hold at the end
