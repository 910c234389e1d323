"""Rules that no file of ours may break: nothing that comes from a file or the network is executed."""

from __future__ import annotations

import ast
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("harness", "reports", "suites", "policies", "envs", "benchmarks")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
LIMITED = Path("envs/libero_plus/upstream.py")
"""Reads the benchmark's own initial states, pickled arrays: by an unpickler that knows arrays and nothing else."""
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}


def name_of(call: ast.expr) -> str:
    return ast.unparse(call) if isinstance(call, ast.Name | ast.Attribute) else ""


def offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            yield from (f"imports {name}" for name in modules if name.partition(".")[0] in FORBIDDEN_MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = name_of(node.func)
        words = {word.arg: word.value for word in node.keywords}
        if called in FORBIDDEN_CALLS:
            yield f"calls {called}"
        if any(word == "shell" and ast.unparse(value) != "False" for word, value in words.items()):
            yield f"{called} through a shell"
        if called in NEEDS:
            word, value = NEEDS[called]
            given = words.get(word)
            if not isinstance(given, ast.Constant) or given.value is not value:
                yield f"{called} without {word}={value}"
        if called.endswith(("extractall", "unpack_archive")):
            yield f"{called}: an archive may name paths outside its folder"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_from_a_file_or_the_network_can_be_executed(path: Path) -> None:
    given = {"imports pickle"} if path.relative_to(ROOT) == LIMITED else set()
    assert set(offences(ast.parse(path.read_text()))) == given


HARM = """
import io, os, pickle
import numpy as np
from envs.libero_plus.upstream import _Numbers

class Harm:
    def __reduce__(self):
        return os.system, ("true",)

for harm in (Harm(), [np.float64, Harm()], np.random.default_rng(0)):
    try:
        _Numbers(io.BytesIO(pickle.dumps(harm))).load()
    except pickle.UnpicklingError as error:
        assert "expected nothing but an array" in str(error), error
    else:
        raise SystemExit(f"{harm} was built")
"""


def test_the_one_reader_of_pickled_arrays_builds_nothing_but_arrays() -> None:
    """In a process of its own: it is imported under the variables of its simulator."""
    surroundings = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
    ended = subprocess.run([sys.executable, "-c", HARM], cwd=ROOT, env=surroundings, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "yaml.load(x)",
        "eval(x)",
        "torch.load(x)",
        "torch.load(x, weights_only=False)",
        "np.load(x)",
        "subprocess.run(x, shell=True)",
        "tar.extractall(x)",
    ],
)
def test_the_rule_sees_what_it_is_there_for(code: str) -> None:
    assert list(offences(ast.parse(code)))


def test_no_deadline_is_kept_by_a_clock_that_can_jump() -> None:
    """Wall-clock time is for stamps that people read: whatever is waited for is measured by monotonic clocks."""
    stamps = {
        "harness/serving/sockets.py",
        "policies/remote/sockets.py",
        "benchmarks/faults.py",
        "benchmarks/growth.py",
    }
    found = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and name_of(node.func) in ("time.time", "time.time_ns")
    }
    assert found <= stamps


RAY = """
import os, sys
from harness.cluster import RayCluster
cluster = RayCluster(cpus=1)
import ray
print(ray.get_runtime_context().gcs_address, cluster._sockets.name, flush=True)
sys.stdin.read()
cluster.stop()
"""

STRANGER = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print(ray.get(ray.remote(lambda: "let in").remote(), timeout=30))
"""


def test_a_stranger_cannot_join_the_ray_of_a_run_nor_enter_the_folder_of_its_sockets() -> None:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ours = subprocess.Popen(
        [sys.executable, "-c", RAY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
    )
    try:
        assert ours.stdout is not None
        address, sockets = ours.stdout.readline().split()
        assert stat.S_IMODE(os.stat(sockets).st_mode) == 0o700
        for guess in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
            stranger = subprocess.run(
                [sys.executable, "-c", STRANGER, address],
                capture_output=True,
                text=True,
                env={**surroundings, **guess},
                timeout=150,
                check=False,
            )
            assert stranger.returncode != 0
            assert "let in" not in stranger.stdout
            assert "uthentication" in stranger.stderr or "oken" in stranger.stderr, stranger.stderr[-2000:]
    finally:
        ours.communicate("", timeout=120)
