"""What fast batching changes: the same episodes in the exact and in the fast mode, side by side.

    python benchmarks/exact_against_fast.py [--policy memoryvla] [--trials 100] [--checkpoint DIR]

Counts, over paired episodes of lab_smoke on Ray with two workers, those whose executed actions differ in any bit and
those whose outcome flips; and the seconds spent in the policy in either mode.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from envs.spec import SceneId
from harness import run as running
from harness.config import compose_run
from reports.records import EpisodeRecord, RecordStore


def episodes(folder: Path, given: argparse.Namespace, batching: str) -> dict[SceneId, EpisodeRecord]:
    """The scored episodes of one run, by scene."""
    words = [f"policy={given.policy}", "suite=lab_smoke", f"policy.batching={batching}", f"run.trials={given.trials}"]
    words += [f"run.dir={folder / batching}", "run.videos=0", "cluster.workers=2"]
    if given.checkpoint:
        words.append(f"policy.checkpoint={given.checkpoint}")
    ended = running.run(compose_run(words), Console(), ["memvla", "run", *words])
    with RecordStore(ended.folders[0] / "episodes.sqlite") as store:
        return {record.scene: record for record in store.episodes() if record.scored}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="memoryvla")
    parser.add_argument("--trials", type=int, default=100, help="of each of the two tasks")
    parser.add_argument("--checkpoint", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        exact, fast = (episodes(Path(folder), given, batching) for batching in ("exact", "fast"))
    pairs = [(exact[scene], fast[scene]) for scene in sorted(exact.keys() & fast.keys())]
    moved = sum(one.action_digest != other.action_digest for one, other in pairs)
    flipped = [(one, other) for one, other in pairs if one.outcome != other.outcome]
    wins = [sum(record.outcome == "success" for record in side) for side in zip(*pairs, strict=True)]
    print(f"{len(pairs)} paired episodes, scenes equal: {all(a.scene_hash == b.scene_hash for a, b in pairs)}")
    print(f"actions differ in some bit: {moved}; outcomes flipped: {len(flipped)}; successes {wins[0]} and {wins[1]}")
    for one, other in flipped:
        print(f"  {one.scene}: {one.outcome} exact, {other.outcome} fast")
    seconds = [sum(record.seconds["policy"] for record in side) for side in zip(*pairs, strict=True)]
    print(
        f"seconds in policy calls: exact {seconds[0]:.1f}, fast {seconds[1]:.1f} ({seconds[0] / seconds[1]:.2f} times)"
    )


if __name__ == "__main__":
    main()
