"""`make test-sims`: the tests of one simulator, inside its own Python environment and from outside through Ray.

    python -m harness.simtests libero

A simulator that was asked for and cannot run is a failure here, never a skip.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.runtimes import RuntimeNotReady, environment_of, python_of, require
from suites.protocol import Suite, load_suite, suite_names

ROOT = Path(__file__).resolve().parent.parent


def suite_of(sim: str) -> Suite:
    """A suite whose runtime or benchmark has that name. Raises RuntimeNotReady naming those there are."""
    suites = [load_suite(name) for name in suite_names()]
    for suite in suites:
        if sim in (suite.runtime.name, suite.benchmark) and suite.runtime.name:
            return suite
    known = sorted({suite.runtime.name for suite in suites if suite.runtime.name})
    raise RuntimeNotReady(f"no simulator {sim!r}; there are: {', '.join(known)}")


def main(sim: str) -> int:
    """Run `tests/envs/SIM` in the simulator's Python and `tests/sims/SIM` in ours; 0 if both passed."""
    suite = suite_of(sim)
    require(suite.runtime, suite.name)
    surroundings = {**os.environ, **environment_of(suite.runtime), "MEMVLA_SIM": sim}
    inside = [str(python_of(suite.runtime)), "-m", "pytest", "-q", str(ROOT / "tests" / "envs" / sim)]
    outside = [sys.executable, "-m", "pytest", "-q", str(ROOT / "tests" / "sims" / f"test_{sim}.py")]
    print(f"== {sim}: the adapter, inside its own environment", flush=True)
    first = subprocess.run(inside, env=surroundings, cwd=ROOT, check=False).returncode
    print(f"== {sim}: whole runs through Ray", flush=True)
    second = subprocess.run(outside, env={**os.environ, "MEMVLA_SIM": sim}, cwd=ROOT, check=False).returncode
    return int(first != 0 or second != 0)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except RuntimeNotReady as error:
        sys.exit(f"error: {error}")
