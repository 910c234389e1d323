"""The verb `memvla collect`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

HELP = """
Record demonstrations as an RLDS dataset, or resume: exactly the missing episodes run.

[bold]memvla collect suite=lab_general,lab_memory policy=expert collect.noise=0.4 collect.dir=demos/lab[/]
[bold]memvla collect suite=lab_imagination collect.play=true collect.dir=demos/play[/]
[bold]memvla collect suite=lab_memory policy=expert learner=memoryvla learner.checkpoint=DIR collect.dir=round1[/]

Episodes without success are left out and counted. Words are key=value, lists are separated by commas:
  [bold]suite[/], policy, policy.OPTION   the scenes, and who demonstrates (answering at every step)
  [bold]collect.dir[/]                    folder of the dataset; it grows when more trials are asked for
  [bold]collect.trials[/], .tasks, .seed  scenes per task (100); only these tasks; of noise and policies (0)
  [bold]collect.cameras[/]                recorded cameras (all)
  [bold]collect.noise[/], .noise_memory   noise as a share of the action's limit (0); its correlation (0.8)
  [bold]collect.turning[/]                the same noise and random motion on turns, times this (1)
  [bold]collect.off_course[/]             share of episodes that begin with random motion (0), of at most
                                  collect.off_course_steps (12), recorded if collect.off_course_recorded=true
  [bold]learner[/], learner.OPTION        DAgger: this policy acts, the other labels;
                                  collect.beta: share of its calls in which the other drives (0)
  [bold]collect.takeover[/]=true          or it drives the off-course steps, and the other to the end
  [bold]collect.play[/]=true              random motion without labels; collect.speed of it (0.6)
  [bold]collect.first_frame[/]=true       only each scene's first frame, and where the hand acts next (for grounding)
  [bold]collect.keep_failed[/]            true, false (default: with a learner to the end, in play)
  [bold]collect.drop_noops[/], .drop_still   leave out steps that command nothing; the real-robot filter
  [bold]protocol.scene_seed[/]            1000000; evaluation's own need collect.evaluation_scenes=true
  [bold]cluster[/], limits, protocol      as for memvla run

Exit code: 0 every planned episode was played; 2 some were not; 1 a mistake in command or set-up; 130 Ctrl-C.
"""


def register(app: typer.Typer, out: Console) -> None:
    """Add the verb to the command line."""

    @app.command(help=HELP)
    def collect(
        overrides: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", show_default=False)],
    ) -> None:
        from harness.collect import collect as carry_out
        from harness.collect import compose_collect

        raise typer.Exit(carry_out(compose_collect(overrides), out, ["memvla", "collect", *overrides]))
