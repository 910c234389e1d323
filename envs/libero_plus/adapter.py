"""LiberoPlusEnv: the variants behind LIBERO's adapter. Imports the simulator; see `envs.libero_plus.make`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy.typing as npt

from envs.assets import cure
from envs.base import SceneError
from envs.libero import instruction
from envs.libero.adapter import LiberoEnv
from envs.libero.simulation import Simulation
from envs.libero.upstream import TaskFiles
from envs.libero_plus import upstream, variants
from envs.libero_plus.assets import ASSETS
from envs.libero_plus.noise import noisy
from envs.libero_plus.variants import Variant
from envs.spec import EnvSpec, Image


@dataclass(frozen=True)
class VariantFiles(TaskFiles):
    """Where one variant's scene comes from."""

    variant: Variant


class PlusSimulation(Simulation):
    """A variant's scene: upstream's classes of problems and robots, with the camera and the rest pose it is told."""

    def __init__(self, variant: Variant, problem: Path, assets: Path | None) -> None:
        self.variant, self.assets = variant, assets
        super().__init__(problem)

    def upstream(self) -> ModuleType:
        upstream.use_assets(self.assets)
        return upstream.liberoplus()

    def options(self) -> dict[str, Any]:
        """As upstream's ControlEnv reads them off the name of the problem file."""
        yaw, pitch, percent, end_yaw, end_pitch = self.variant.camera.split("_")
        robot = self.variant.robot
        return {
            "robots": [f"Panda{robot}" if robot else "Panda"],
            "horizon_view": yaw,
            "vertical_view": pitch,
            "scale_factor": int(percent) / 100,
            "end_point_rot": end_yaw,
            "end_point_vertical": end_pitch,
            "init_state": str(robot),
        }


class LiberoPlusEnv(LiberoEnv):
    """One worker's LIBERO-Plus; keeps the compiled scene while only the noise changes."""

    def __init__(self, env_spec: EnvSpec, suite: str, suites: tuple[str, ...], assets: Path | None) -> None:
        """suites: LIBERO's, whose variants the suite holds; assets: folder of the benchmark's own, if it is there."""
        super().__init__(env_spec, suite)
        self._suites, self._assets = suites, assets
        self._key = ""

    def files(self, task: str) -> VariantFiles:
        variant = variants.of_name(task, self._suites)
        if variant.needs_archive and self._assets is None:
            raise SceneError(f"{task} is not covered: it needs the benchmark's own assets; {cure(ASSETS)}")
        problem = upstream.problem_file(variant)
        if not problem.is_file():
            raise SceneError(
                f"{task}: file {problem} is missing: the runtime is damaged; delete its folder and run "
                f"`memvla setup {self.suite}`"
            )
        words = upstream.sentence(problem) if variant.kind == "language" else instruction(variant.base)
        return VariantFiles(task, problem, upstream.states(variant), words, variant)

    @property
    def variant(self) -> Variant:
        """The variant in force. Raises RuntimeError before the first reset."""
        if not isinstance(self._files, VariantFiles):
            raise RuntimeError("no scene: call reset(seed=..., options={'task': ..., 'trial': ...}) first")
        return self._files.variant

    def compiled(self, files: TaskFiles) -> object:
        assert isinstance(files, VariantFiles)
        return files.problem, files.variant.camera, files.variant.robot

    def compile(self, files: TaskFiles) -> Simulation:
        assert isinstance(files, VariantFiles)
        return PlusSimulation(files.variant, files.problem, self._assets)

    def load(self, task: str, trial: int, seed: int) -> None:
        super().load(task, trial, seed)
        self._key = f"{seed}|{task}|{trial}"

    def draw(self, camera: str) -> Image:
        """As LIBERO's, with the variant's noise on agentview (as upstream: the wrist camera is never touched)."""
        clean = super().draw(camera)
        if camera != "agentview" or not self.variant.noise:
            return clean
        return noisy(clean, self.variant.noise, f"{self._key}|{self._step}")

    def scene(self) -> Iterable[tuple[str, npt.ArrayLike | str]]:
        """As LIBERO's, and what of the perturbation no model holds: its noise and its words."""
        yield from super().scene()
        yield "perturbation", self.variant.suffix
        yield "instruction", self.instruction()
