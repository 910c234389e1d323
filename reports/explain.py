"""`memvla explain`: why one scene ended differently in two runs, as far as the records can tell.

The records hold the first action and digests, no states: they say *that* a scene or a first frame differs, at which
step the actions part, and where an episode ended, and not by how much. What they cannot tell is said, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.spec import SceneId
from reports import manifest as manifests
from reports.document import Document, Section
from reports.episode import MARK
from reports.records import EpisodeRecord
from reports.summary import Note, ReportError, Run, load
from reports.tables import NOTHING, Column, Table

SAME, DIFFERS, UNKNOWN = "same", "DIFFERS", "not recorded"


@dataclass(frozen=True)
class Check:
    """One thing in the order in which an episode makes it. found: SAME, DIFFERS or UNKNOWN; meaning: what it says if
    this is the first that differs."""

    name: str
    a: str
    b: str
    found: str
    meaning: str


def build(a: Path | str, b: Path | str, scene: str) -> Document:
    """The explanation of SUITE/TASK/TRIAL in two runs.

    Raises ReportError for a scene that is not written so, that a run does not have, or paths that are not two runs.
    """
    runs = load([a, b])
    if len(runs) != 2:
        raise ReportError(f"explain needs two runs; {a} and {b} hold {len(runs)}: name two run folders")
    wanted = _scene(scene)
    left, right = (_episode(run, wanted) for run in runs)
    checks = compared(runs[0], left, runs[1], right)
    first = next((check for check in checks if check.found == DIFFERS), None)
    table = Table(
        "In the order of the episode",
        (Column("What"), Column(runs[0].label), Column(runs[1].label), Column("Verdict")),
        tuple((c.name, c.a, c.b, c.found) for c in checks),
    )
    sections = [Section("In the order of the episode", (table,), side_by_side=_videos(runs, left, right))]
    cells = tuple(manifests.differing(runs[0].manifest, runs[1].manifest))
    if cells:
        columns = (Column("Key"), Column(runs[0].label), Column(runs[1].label))
        sections.append(Section("What differs in the manifests", (Table("Manifests", columns, cells),)))
    sections.append(Section("What the records cannot tell", text=_limits(left, right, first)))
    return Document(
        kind="explanation",
        title=f"{wanted.suite}/{wanted.task}/{wanted.trial}: {runs[0].label} and {runs[1].label}",
        headline=_headline(first, left, right),
        notes=_notes(runs, left, right),
        findings=_findings(checks, first),
        sections=tuple(sections),
        rows=tuple({"what": c.name, "a": c.a, "b": c.b, "verdict": c.found} for c in checks),
    )


def compared(run_a: Run, a: EpisodeRecord, run_b: Run, b: EpisodeRecord) -> tuple[Check, ...]:
    """Everything the records hold of one scene, in the order in which it comes about."""
    plans = [run.manifest.suite(a.suite) for run in (run_a, run_b)]
    prints = [plan.fingerprint if plan else "" for plan in plans]
    found = [_listed(run.manifest.simulators.get(a.suite, {})) for run in (run_a, run_b)]
    return (
        _check("protocol", prints[0], prints[1], "The protocols differ, so the two were not asked the same thing."),
        _check("simulator", found[0], found[1], "The simulators differ; anything after this may come from them."),
        _check(
            "scene hash",
            a.scene_hash,
            b.scene_hash,
            "The scenes are not the same although they have one name: look at the adapter and its assets, not at the "
            "policies. `memvla check suite=NAME` tests this.",
        ),
        _check(
            "instruction",
            a.instruction,
            b.instruction,
            "The policies were given different instructions in the same scene.",
        ),
        _check(
            "first frame",
            a.first_frame_hash,
            b.first_frame_hash,
            "The same scene gave different pictures: renderer, driver, camera or image preprocessing differ.",
        ),
        _check("seed", str(a.seed), str(b.seed), "The runs' seeds differ, so the policies' sampling noise does."),
        _check(
            "first action",
            _vector(a),
            _vector(b),
            "The policies acted differently from the first step on: their weights, options or arithmetic differ, or "
            "what they were shown did.",
        ),
        _check(
            "actions",
            *_acted(a, b),
            "The policies acted differently: their weights, options, arithmetic or memory differ, or what they were "
            "shown did.",
        ),
        _check(
            "steps by instruction",
            " ".join(map(str, a.subtask_steps)),
            " ".join(map(str, b.subtask_steps)),
            "The actions agree and the instructions changed at different steps: the simulators behaved differently.",
        ),
        _check(
            "steps",
            str(a.steps),
            str(b.steps),
            "The actions agree and the episodes ended at different steps: the success rule or the simulator differs.",
        ),
        _check("policy calls", str(a.calls), str(b.calls), "The chunks were executed differently."),
        _check(
            "outcome",
            a.outcome,
            b.outcome,
            "The actions agree and the outcomes do not: the simulator or the success rule differs."
            if a.scored and b.scored
            else "One of them is void: a fault of the infrastructure cut it off, so there is no outcome to compare.",
        ),
    )


def _check(name: str, a: str, b: str, meaning: str) -> Check:
    found = UNKNOWN if not a or not b else SAME if a == b else DIFFERS
    return Check(name, a or NOTHING, b or NOTHING, found, meaning)


def _vector(record: EpisodeRecord) -> str:
    return " ".join(f"{value:.6g}" for value in record.first_action)


def _acted(a: EpisodeRecord, b: EpisodeRecord) -> tuple[str, str]:
    """Where the actions part; where that is not recorded, their digests."""
    known = a.action_marks and b.action_marks
    if not known or (a.action_marks == b.action_marks and a.action_digest != b.action_digest):  # a mark may be shared
        return a.action_digest, b.action_digest
    marks = [[r.action_marks[i : i + MARK] for i in range(0, len(r.action_marks), MARK)] for r in (a, b)]
    for step, pair in enumerate(zip(*marks, strict=False), start=1):
        if pair[0] != pair[1]:
            return f"step {step}: mark {pair[0]}", f"step {step}: mark {pair[1]}"
    same = f"the same in all {min(map(len, marks))} steps"
    return same, same


def _scene(text: str) -> SceneId:
    suite, *rest = text.split("/", 1)
    task, _, trial = "".join(rest).rpartition("/")
    if not suite or not task or not trial.isdigit():
        raise ReportError(f"a scene is SUITE/TASK/TRIAL, for example lab_memory/shell_game/0; found {text!r}")
    return SceneId(suite, task, int(trial))


def _episode(run: Run, scene: SceneId) -> EpisodeRecord:
    for record in run.episodes:
        if record.scene == scene:
            return record
    near = [f"{r.suite}/{r.task}/{r.trial}" for r in run.episodes if r.task == scene.task or r.suite == scene.suite]
    hint = f"it has {len(near)} others of that suite or task, {near[0]} among them" if near else "none of that suite"
    raise ReportError(
        f"{run.folder}: no episode of {scene.suite}/{scene.task}/{scene.trial} is recorded ({hint}); run it first"
    )


def _headline(first: Check | None, a: EpisodeRecord, b: EpisodeRecord) -> Note:
    if first is None:
        missing = [
            name for name in ("first_frame_hash", "action_digest") if not getattr(a, name) or not getattr(b, name)
        ]
        if missing:
            return Note("warning", f"Nothing recorded differs, but {' and '.join(missing)} is missing from a record.")
        return Note("complete", "Nothing differs: same scene, same first frame, same actions, same end.")
    return Note("warning", f"The first thing that differs: {first.name} ({first.a} and {first.b}).")


def _findings(checks: Sequence[Check], first: Check | None) -> tuple[str, ...]:
    """What the first difference means, and what is known of everything before it."""
    if first is None:
        return ()
    before = checks[: checks.index(first)]
    same = ", ".join(check.name for check in before if check.found == SAME)
    unknown = ", ".join(check.name for check in before if check.found == UNKNOWN)
    told = f"Before it the same: {same or 'nothing'}." + (f" Not recorded: {unknown}." if unknown else "")
    return first.meaning, told


def _notes(runs: Sequence[Run], a: EpisodeRecord, b: EpisodeRecord) -> tuple[Note, ...]:
    found = []
    for run, record in zip(runs, (a, b), strict=True):
        if not record.scored:
            found.append(Note("incomplete", f"{run.label}: never scored; the last attempt was void: {record.cause}"))
        elif record.attempt > 1:
            text = f"{run.label}: scored at attempt {record.attempt}; those before it were void."
            found.append(Note("remark", text))
    return tuple(found)


_NO_MARKS = "The digest is over all actions of an episode, so the record does not say at which step they part. "


def _limits(a: EpisodeRecord, b: EpisodeRecord, first: Check | None) -> tuple[str, ...]:
    """What a reader must not conclude."""
    found = ["Digests say that something differs and not by how much: a last bit and another world look alike."]
    if first is not None and first.name == "actions":
        found.append(
            ("" if a.action_marks and b.action_marks else _NO_MARKS)
            + "Frames after the first are not hashed: a picture that differed later cannot be told from a policy that "
            "acted differently."
        )
    if not a.first_frame_hash or not b.first_frame_hash:
        found.append("A policy without cameras is given no frame, so there is no first frame to compare.")
    return tuple(found)


def _videos(
    runs: Sequence[Run], a: EpisodeRecord, b: EpisodeRecord
) -> tuple[tuple[tuple[Run, EpisodeRecord], ...], ...]:
    return (((runs[0], a), (runs[1], b)),) if a.video and b.video else ()


def _listed(data: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(data.items()))
