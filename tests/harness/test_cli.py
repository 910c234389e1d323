"""The command line as its users meet it: every mistake is one clear error, a non-zero exit and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from harness.config import ClusterSettings, Limits, RunSettings
from reports.records import RecordStore


def memvla(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **variables}, timeout=200)


def fails(*words: object, says: str, code: int = 1, **variables: str) -> None:
    done = memvla(*words, **variables)
    said = " ".join((done.stderr + done.stdout).split())
    assert done.returncode == code, said
    assert says in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["suite=lab_memry", "policy=expert"], "unknown suite 'lab_memry'; did you mean lab_memory"),
        (["suite=point", "policy=exprt"], "unknown policy 'exprt'; did you mean expert"),
        (["suite=point", "policy=expert", "run.tasks=[reech]"], "did you mean reach"),
        (["suite=point", "policy=expert", "run.trails=3"], "unknown key 'run.trails'; did you mean run.trials"),
        (["suite=point", "policy=expert", "policy.memry=false"], "did you mean policy.memory"),
        (["suite=point", "policy=expert", "protocol.maxsteps=3"], "did you mean protocol.max_steps"),
        (["suite=point", "policy=expert", "run.trials=many"], "many"),
        (["suite=point", "policy=expert", "run.trials=0"], "run.trials must be 1 or more"),
        (["suite=point", "policy=expert", "run.seed=-1"], "run.seed must lie in"),
        (["suite=point", "policy=expert", "cluster=moon"], "moon"),
        (["suite=point"], "name a policy"),
        (["policy=expert"], "name a suite"),
        (["suite=point", "policy=expert", "fast"], "'fast' is not of the form key=value"),
        (["suite=point,point", "policy=expert"], "named twice"),
        (["suite=point", "policy=expert", "policy.name=../up"], "cannot name a folder"),
    ],
)
def test_a_mistake_in_the_command_is_one_clear_error(tmp_path: Path, words: list[str], says: str) -> None:
    fails("run", *words, f"run.dir={tmp_path}", says=says)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_that_is_not_set_up_names_the_command(tmp_path: Path) -> None:
    says = "memvla setup libero_object"
    fails("run", "suite=libero_object", "policy=expert", f"run.dir={tmp_path}", says=says, MEMVLA_HOME=str(tmp_path))


def test_a_dry_run_prints_the_plan_and_touches_nothing(tmp_path: Path) -> None:
    done = memvla(
        "run", "suite=point,lab_general", "policy=expert,random", "run.trials=3", f"run.dir={tmp_path}", "--dry-run"
    )
    assert done.returncode == 0
    assert "point/reach/0" in done.stdout
    assert "point/reach/2" in done.stdout
    assert "minutes on" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run of the expert on the point suite."""
    folder = tmp_path / "run"
    done = memvla("run", "suite=point", "policy=expert", "run.trials=3", f"run.dir={folder}", "cluster=inline")
    assert done.returncode == 0, done.stderr
    return folder


def again(folder: Path, *words: str) -> list[object]:
    return ["run", "suite=point", "policy=expert", "run.trials=3", f"run.dir={folder}", "cluster=inline", *words]


def test_a_run_prints_its_table_and_writes_its_report(finished: Path) -> None:
    done = memvla("report", finished)
    assert done.returncode == 0
    assert "expert" in done.stdout
    assert "3/3" in done.stdout
    for name in ("report.html", "report.md", "report.tex", "report.csv", "report.parquet"):
        assert (finished / name).stat().st_size > 200
    assert list((finished / "expert" / "videos").glob("*.mp4"))


def test_a_run_folder_made_under_another_protocol_is_refused(finished: Path) -> None:
    fails(*again(finished, "protocol.max_steps=20"), says="protocol fingerprint")


def test_a_corrupt_record_file_is_refused_and_left_as_it_is(finished: Path) -> None:
    path = finished / "expert" / "episodes.sqlite"
    good = path.read_bytes()
    for bad in (good[: len(good) // 2], b"not a database" + good[14:], b"", None):
        path.unlink()
        if bad is not None:
            path.write_bytes(bad)
        for extra in ("-wal", "-shm"):
            Path(f"{path}{extra}").unlink(missing_ok=True)
        fails(*again(finished), says="episodes.sqlite")
        fails("report", finished, says="episodes.sqlite")
        assert bad is None or path.read_bytes() == bad
        path.touch()


def test_a_run_whose_record_file_was_cut_is_repaired_and_resumes_to_the_same_end(finished: Path) -> None:
    path = finished / "expert" / "episodes.sqlite"
    with RecordStore(path) as store:
        before = {record.scene: (record.outcome, record.action_digest) for record in store.episodes()}
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)
    fails(*again(finished), says=f"memvla repair {finished / 'expert'}")
    done = memvla("repair", finished / "expert")
    assert done.returncode == 0, done.stderr
    assert "episodes.sqlite.damaged-1" in done.stdout
    assert memvla(*again(finished)).returncode == 0
    with RecordStore(path) as store:
        assert {record.scene: (record.outcome, record.action_digest) for record in store.episodes()} == before
    assert "nothing was changed" in memvla("repair", finished / "expert").stdout
    fails("repair", finished, says="is no run folder")


def test_a_second_driver_on_one_run_folder_is_refused(finished: Path) -> None:
    with RecordStore(finished / "expert" / "episodes.sqlite", write=True):
        fails(*again(finished), says="is in use: process")
    assert memvla(*again(finished)).returncode == 0


def test_a_results_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "a_file"
    file.write_text("in the way")
    says = "choose another folder with run.dir=FOLDER"
    fails("run", "suite=point", "policy=expert", f"run.dir={file}/run", "cluster=inline", says=says)


def test_a_full_disk_stops_the_run_and_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    """The video of the second suite's first trial goes to /dev/full: what was recorded before stays, and it resumes."""
    words = ["run", "suite=point,point_chain", "policy=expert", "run.trials=2", f"run.dir={tmp_path}", "cluster=inline"]
    video = tmp_path / "expert" / "videos" / "point_chain_reach_0000_1.mp4"
    video.parent.mkdir(parents=True)
    video.symlink_to("/dev/full")
    fails(*words, says="No space left on device")
    with RecordStore(tmp_path / "expert" / "episodes.sqlite") as store:
        assert [record.suite for record in store.episodes()] == ["point", "point"]
    video.unlink()
    assert memvla(*words).returncode == 0
    with RecordStore(tmp_path / "expert" / "episodes.sqlite") as store:
        assert len(store.episodes()) == 4


@pytest.mark.parametrize("verb", ["run", "report", "suites", "policies", "setup", "doctor", "check", "repair"])
def test_help_teaches_every_verb(verb: str) -> None:
    done = memvla(verb, "--help")
    assert done.returncode == 0
    assert len(done.stdout) > 200


def test_the_help_of_run_names_every_key() -> None:
    said = memvla("run", "--help", COLUMNS="200").stdout
    for section, kind in (("run", RunSettings), ("cluster", ClusterSettings)):
        for field in fields(kind):
            if field.name != "kind":
                assert f".{field.name}" in said, f"{section}.{field.name} is not in the help"
    assert all(field.name in said for field in fields(Limits))


def test_help_and_lists_load_no_simulator_no_torch_and_no_ray() -> None:
    watch = (
        "import sys\nsys.argv = ['memvla', 'suites']\nfrom harness.cli import app\n"
        "try:\n app()\nexcept SystemExit:\n pass\n"
        "heavy = {'ray', 'torch', 'mujoco', 'robosuite', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_check_prints_what_was_checked_and_fails_for_a_broken_policy() -> None:
    good = memvla("check", "policy=remembering", "suite=point")
    assert good.returncode == 0
    assert "13 passed, 0 failed" in good.stdout
    bad = memvla("check", "policy=state_on_object", "suite=point")
    assert bad.returncode == 1
    assert "FAIL" in bad.stdout


def test_check_looks_at_as_many_tasks_of_a_suite_as_it_is_told_to() -> None:
    done = memvla("check", "suite=point", "check.tasks=1")
    assert done.returncode == 0, done.stderr
    assert "\n        1 tasks\n" in done.stdout
    fails("check", "suite=point", "check.tasks=0", says="check.tasks must be 1 or more, was 0")
    fails("check", "suite=point", "check.task=1", says="unknown key 'check.task'")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mine": "base: cogactt\n"}, "there is no policy 'cogactt' to be based on"),
        ({"mine": "base: mine\n"}, "there is no policy 'mine' to be based on"),
        ({"mine": "base: other\n", "other": "base: mine\n"}, "there is no policy 'mine' to be based on"),
        ({"mine": "base: cogact\nmemory: {length: 3}\n"}, "cogact has no option memory"),
    ],
)
def test_a_policy_file_that_is_based_on_nothing_usable_says_so(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    fails(
        "run", "suite=lab_smoke", "policy=mine", f"run.dir={tmp_path / 'r'}", says=says, MEMVLA_POLICIES=str(tmp_path)
    )


def test_a_policy_file_may_be_based_on_one_that_is_based_on_another(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: random\ntitle: A\n")
    (tmp_path / "b.yaml").write_text("base: a\n")
    words = ("suite=point", "policy=b", "run.trials=1", "cluster=inline", "run.videos=0", f"run.dir={tmp_path / 'r'}")
    folders = os.pathsep.join([os.environ["MEMVLA_POLICIES"], str(tmp_path)])
    done = memvla("run", *words, MEMVLA_POLICIES=folders)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "b" / "episodes.sqlite").is_file()
