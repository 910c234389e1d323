"""One process of a team that trains, without Ray: for `torch.multiprocessing.spawn`."""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist

from policies.training.loop import train
from policies.training.parallel import Messages, Sharded
from policies.training.recipes import compose


def of_a_pair(rank: int, port: int, words: list[str]) -> None:
    """One process of two, as Ray Train would start it."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    recipe = compose(words)
    team = Sharded(rank, 2, torch.device("cpu"))
    train(recipe.make(), recipe.train, recipe.config(), team=team, watcher=Messages(None), stop=lambda: False)
    dist.destroy_process_group()
    # Leave without unloading anything: a thread of torch's that wants the interpreter while it is taken down ends the
    # process with SIGABRT ("terminate called without an active exception"), after everything has been said and done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
