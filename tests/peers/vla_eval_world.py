"""Runs inside vla-eval's own environment: a benchmark for `vla-eval run`, and a demo model server with a memory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from pictures import answer, picture
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import serve

STEPS = 10


class Pictures(StepBenchmark):
    """Ten steps of made-up pictures; every action is appended to a file."""

    def __init__(self, to: str) -> None:
        super().__init__()
        self._to = Path(to)
        self._trial = self._step = 0
        self._last = np.zeros(7)

    def get_tasks(self) -> list[dict[str, Any]]:
        return [{"name": "made_up", "suite": "lab_smoke"}]

    def reset(self, task: dict[str, Any]) -> Any:
        self._trial, self._step, self._last = int(task["episode_idx"]), 0, np.zeros(7)

    def step(self, action: dict[str, Any]) -> StepResult:
        self._last = np.asarray(action["actions"])
        with self._to.open("ab") as file:
            file.write(np.asarray(self._last, "<f4").tobytes())
        self._step += 1
        return StepResult(obs=None, reward=0.0, done=self._step >= STEPS, info={})

    def make_obs(self, raw_obs: Any, task: dict[str, Any]) -> dict[str, Any]:
        image = picture(self._trial, self._step, self._last)
        return {"images": {"agentview": image}, "task_description": "push the button"}

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        return {"success": True}

    def get_metadata(self) -> dict[str, Any]:
        return {"max_steps": STEPS}


class Remembers(PredictModelServer):
    """Answers from all pictures of the episode that it was asked about; four actions a call."""

    def __init__(self) -> None:
        super().__init__(chunk_size=4)
        self._seen: dict[str, list[np.ndarray]] = {}

    async def on_episode_start(self, config: dict[str, Any], ctx: Any) -> None:
        self._seen[ctx.session_id] = []
        await super().on_episode_start(config, ctx)

    def predict(self, obs: dict[str, Any], ctx: Any) -> dict[str, Any]:
        seen = self._seen[ctx.session_id]
        seen.append(next(iter(obs["images"].values())))
        return {"actions": answer(seen)}


if __name__ == "__main__":
    serve(Remembers(), host="127.0.0.1", port=int(sys.argv[1]))
