"""The driver: hands out episodes, retries void attempts, watches workers, and is the only writer of records."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from envs.runtime import Runtime
from envs.spec import SceneId
from harness.cluster import Answer, Cluster, ClusterError, HeadLost, Host, HostLost, Worker, WorkerLost
from harness.config import Limits, RunConfig, Settings
from harness.plan import EpisodeSpec, Stage, context_of, episodes, match
from harness.progress import Progress
from harness.rollout import EpisodeLog, Fault
from harness.runs import Run
from harness.worker import Ready, Result
from policies.base import PolicySpec
from reports.records import EpisodeRecord
from suites.protocol import Suite

log = logging.getLogger("memvla.driver")

POLICY_PHASES = ("start", "policy", "end")
WATCH_AFTER_S = 20.0
WATCH_EVERY_S = 5.0
FRESH_STARTS = 3
"""Processes that may die in a row before they serve: something is wrong then that another will not mend."""


class TooManyVoids(RuntimeError):
    """So many attempts are void that going on would waste the night."""


@dataclass
class Queue:
    """Episodes to run, grouped by task so that a worker keeps its compiled scene."""

    tasks: dict[str, deque[EpisodeSpec]] = field(default_factory=dict)

    @staticmethod
    def of(specs: Iterable[EpisodeSpec]) -> Queue:
        queue = Queue()
        for spec in specs:
            queue.tasks.setdefault(spec.episode.task, deque()).append(spec)
        return queue

    def __len__(self) -> int:
        return sum(len(group) for group in self.tasks.values())

    def push(self, spec: EpisodeSpec) -> None:
        """Put an episode to be repeated first among those of its task."""
        self.tasks.setdefault(spec.episode.task, deque()).appendleft(spec)

    def pop(self, last_task: str, busy_tasks: Iterable[str]) -> EpisodeSpec:
        """The next episode for a worker: of the task it ran last, else of the longest one nobody is at."""
        open_tasks = {task: group for task, group in self.tasks.items() if group}
        if last_task not in open_tasks:
            free = set(open_tasks) - set(busy_tasks) or set(open_tasks)
            last_task = max(free, key=lambda task: (len(open_tasks[task]), task))
        return self.tasks[last_task].popleft()


class StageRun:
    """One policy on one suite, from the first hand-out to the last record."""

    def __init__(
        self, cluster: Cluster, settings: Settings, suite: Suite, run: Run, workers: list[Worker], progress: Progress
    ) -> None:
        self._cluster, self._settings, self._suite, self._run = cluster, settings, suite, run
        self._workers, self._progress = workers, progress
        self._voids: Counter[SceneId] = Counter()
        self._attempts = 0
        self._watched = 0.0
        self._versions: dict[str, str] | None = None
        self._hosts: list[Host] = []
        for _ in range(max(1, settings.cluster.hosts)):
            host, self._stage = self._start_host()
            self._hosts.append(host)

    @property
    def _spec(self) -> PolicySpec:
        return self._stage.policy

    def _host_of(self, worker: Worker) -> Host:
        """The host that serves all episodes of this worker: an episode never changes its host."""
        return self._hosts[worker.number % len(self._hosts)]

    def _start_host(self) -> tuple[Host, Stage]:
        """A host that serves; one whose process dies under it is started again, a few times."""
        for attempt in range(1, FRESH_STARTS + 1):
            try:
                host = self._cluster.host(
                    self._run.policy,
                    context_of(self._suite),
                    max_batch=self._settings.cluster.max_batch,
                    timeout_s=self._settings.limits.policy,
                )
                break
            except HostLost as lost:
                if attempt == FRESH_STARTS:
                    raise
                log.warning("%s; starting another", lost)
        try:
            return host, match(host.spec, self._suite)
        except BaseException:
            self._cluster.release(host)
            raise

    def carry_out(self) -> None:
        """Run everything that is missing. Raises TooManyVoids; on any error the live episodes are dropped."""
        run = self._settings.run
        queue = Queue.of(
            episodes(
                self._run.missing(self._suite.name),
                self._suite,
                self._spec,
                seed=run.seed,
                attempts=self._run.attempts(self._suite.name),
                videos=run.videos,
                film_every=run.film_every,
            )
        )
        try:
            while len(self._workers) < self._wanted_workers(queue):
                self._workers.append(self._cluster.worker(self._suite.runtime))
                self._workers[-1].number = len(self._workers) - 1
            while len(queue) or self._busy():
                self._hand_out(queue)
                for worker, answer in self._cluster.finished(self._workers, timeout_s=1.0):
                    self._hear(worker, answer, queue)
                self._watch(queue)
        except HeadLost:
            self._hosts.clear()  # they end with Ray, as the workers do
            raise
        except BaseException:
            for worker in [each for each in self._workers if each.ticket is not None or each.episode is not None]:
                self._cluster.kill(worker, None)
                self._workers.remove(worker)
            raise
        finally:
            for host in self._hosts:
                self._cluster.release(host)

    def _wanted_workers(self, queue: Queue) -> int:
        return max(1, min(worker_count(self._settings), len(queue), self._slots() or len(queue)))

    def _slots(self) -> int | None:
        """Episodes that all hosts together can hold (None: any number)."""
        return None if self._spec.slots is None else self._spec.slots * len(self._hosts)

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.episode is not None]

    def _hand_out(self, queue: Queue) -> None:
        """Give every idle worker something to do: to get ready for its host, or an episode."""
        slots = self._slots()
        for worker in [worker for worker in self._workers if worker.ticket is None]:
            host = self._host_of(worker)
            busy = [other.task for other in self._busy()]
            if worker.link is not host.link:
                self._cluster.prepare(worker, self._stage, host.link)
            # Where the policy's memory is full, episodes wait for a slot, and no worker waits with them.
            elif len(queue) and (slots is None or len(busy) < slots):
                spec = queue.pop(worker.task, busy)
                worker.task = spec.episode.task
                self._cluster.submit(worker, spec)

    def _hear(self, worker: Worker, answer: Answer, queue: Queue) -> None:
        """What a worker was at came to an end."""
        if isinstance(answer, Ready):
            worker.died = 0
            if answer.versions != self._versions:  # a worker on another node that runs on others is refused here
                self._run.note(self._suite.name, self._spec, answer.versions)
                self._versions = answer.versions
        elif worker.episode is not None:
            self._take(worker, answer, queue)
        elif worker.died + 1 == FRESH_STARTS:
            raise ClusterError(f"{worker.name} could not be started, nor those before it: {answer}")
        else:
            log.warning("%s before it was ready; starting another", answer)
            self._replace(worker, died=worker.died + 1)

    def _take(self, worker: Worker, result: Answer, queue: Queue) -> None:
        """Write the record of a finished attempt; repeat it if it is void; replace a worker that is spoiled."""
        spec, worker.episode = worker.episode, None
        assert spec is not None
        if not isinstance(result, Result):
            record, phase = lost_record(spec, worker.name, str(result), privileged=self._spec.privileged), "worker"
        else:
            record, phase = self._keep_files(result), result.phase
        self._run.store.add(record)
        self._progress.finished(record)
        self._attempts += 1
        worker.done += 1
        if record.outcome == "void":
            log.warning("%s is void: %s", spec.episode, record.cause)
            self._repeat(spec, record, queue)
            self._mend(worker, phase)
        elif isinstance(result, Result) and self._worn(worker, result.rss_mb):
            self._replace(worker)

    def _keep_files(self, result: Result) -> EpisodeRecord:
        record = result.record
        stem = file_stem(record)
        if result.trace:
            self._run.keep_file(f"logs/{stem}.txt", result.trace.encode())
        if result.video is not None:
            record = replace(record, video=f"videos/{stem}.mp4")
            self._run.keep_file(record.video, result.video)
        return record

    def _repeat(self, spec: EpisodeSpec, record: EpisodeRecord, queue: Queue) -> None:
        scene = spec.episode.scene
        self._voids[scene] += 1
        if self._voids[scene] < self._settings.run.attempts:
            queue.push(spec.again())
        voids = self._voids.total()
        if self._attempts >= 10 and voids > self._settings.run.max_void * self._attempts:
            raise TooManyVoids(
                f"{voids} of {self._attempts} attempts at {self._suite.name} are void (limit: run.max_void="
                f"{self._settings.run.max_void:g}); the last one: {record.cause}. "
                f"Tracebacks: {self._run.folder / 'logs'}"
            )

    def _mend(self, worker: Worker, phase: str) -> None:
        """After a void attempt: a fresh worker for a fault of the simulator, a fresh host if the policy's is gone."""
        self._cluster.check()
        host = self._host_of(worker)
        if phase not in POLICY_PHASES:
            self._replace(worker)
        elif self._cluster.alive(host, self._settings.limits.policy):
            worker.link = None  # its connection may be spoiled: it is to make another
        else:
            # Its workers find out as they become idle: none is waited for, it may hang.
            self._cluster.release(host)
            fresh, self._stage = self._start_host()
            self._hosts[self._hosts.index(host)] = fresh

    def _replace(self, worker: Worker, died: int = 0) -> None:
        self._cluster.kill(worker, self._host_of(worker))
        fresh = self._cluster.worker(self._suite.runtime)
        fresh.task, fresh.number, fresh.died = worker.task, worker.number, died
        self._workers[self._workers.index(worker)] = fresh

    def _worn(self, worker: Worker, rss_mb: float) -> bool:
        if worker.first_rss_mb == 0.0:
            worker.first_rss_mb = rss_mb
        rules = self._settings.cluster
        return worker.done >= rules.recycle_episodes or rss_mb - worker.first_rss_mb > rules.recycle_growth_mb

    def _watch(self, queue: Queue) -> None:
        """End workers that hang: a phase older than its limit, or no answer at all."""
        now = time.monotonic()
        if now - self._watched < WATCH_EVERY_S:
            return
        self._watched = now
        self._cluster.check()
        for worker in [w for w in self._busy() if now - w.began > WATCH_AFTER_S]:
            try:
                phase, age = self._cluster.doing(worker)
            except WorkerLost as lost:
                self._give_up(worker, lost, queue)
                continue
            limit = getattr(self._settings.limits, phase, Limits.build)
            # The policy phase ends by itself, with the worker's own time-out; this one only catches its failure.
            if age > (limit + 30 if phase in POLICY_PHASES else limit):
                hung = f"{phase}: hung for {age:.0f} s (limits.{phase}={limit:g})"
                self._give_up(worker, WorkerLost(hung), queue)
        self._watch_start(now)

    def _give_up(self, worker: Worker, lost: WorkerLost, queue: Queue) -> None:
        worker.ticket = None
        self._take(worker, lost, queue)

    def _watch_start(self, now: float) -> None:
        """Raise when no worker has got ready for as long as building one may take: nobody could run an episode."""
        limit = self._settings.limits.build
        if all(worker.ticket is not None and worker.episode is None for worker in self._workers) and all(
            now - worker.began > limit for worker in self._workers
        ):
            raise ClusterError(
                f"no worker was ready after {limit:g} s (limits.build): is there a free CPU in the cluster for each? "
                "Say cluster.workers=N for fewer"
            )


def worker_count(settings: Settings) -> int:
    """Rollout workers of a run: as configured, else one per CPU."""
    import os

    if settings.cluster.kind == "inline" and settings.cluster.address is None:
        return 1
    return settings.cluster.workers or os.cpu_count() or 1


def lost_record(spec: EpisodeSpec, worker: str, cause: str, *, privileged: bool) -> EpisodeRecord:
    """The void record of an attempt whose worker cannot write it any more."""
    return EpisodeLog(spec, privileged=privileged, worker=worker).record(Fault("worker", " ".join(cause.split())))


def file_stem(record: EpisodeRecord) -> str:
    """The name of an attempt's video and log."""
    safe = "".join(sign if sign.isalnum() or sign in "-_" else "-" for sign in f"{record.suite}_{record.task}")
    return f"{safe[:120]}_{record.trial:04d}_{record.attempt}"


def carry_out(config: RunConfig, runs: list[Run], cluster: Cluster, progress: Progress) -> None:
    """Run what is missing: suite by suite, and every policy on a suite before the next one, so that simulators stay."""
    workers: list[Worker] = []
    runtime: Runtime | None = None
    for suite in config.suites:
        for run in runs:
            if suite.name not in run.planned or not run.missing(suite.name):
                continue
            if runtime != suite.runtime:
                for worker in workers:
                    cluster.kill(worker, None)
                workers, runtime = [], suite.runtime
            progress.stage(run, suite.name)
            _carry_out_stage(cluster, config.settings, suite, run, workers, progress)


def _carry_out_stage(
    cluster: Cluster, settings: Settings, suite: Suite, run: Run, workers: list[Worker], progress: Progress
) -> None:
    """One policy on one suite; where Ray's head is lost on the way, Ray is started anew and the rest is run."""
    in_vain = 0
    while run.missing(suite.name):
        missing = len(run.missing(suite.name))
        try:
            return StageRun(cluster, settings, suite, run, workers, progress).carry_out()
        except HeadLost as lost:
            in_vain = in_vain + 1 if len(run.missing(suite.name)) == missing else 0
            if in_vain == FRESH_STARTS:
                raise
            log.warning("%s; starting Ray anew", lost)
            workers.clear()
            cluster.restart()
    return None
