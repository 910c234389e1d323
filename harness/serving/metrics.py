"""What operators see: Prometheus figures, and log lines that are one JSON object each."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from harness.batching import PolicyHost

log = logging.getLogger("memvla.serve")

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """The server's figures, in a registry of its own (several servers may live in one process)."""

    def __init__(self, host: PolicyHost) -> None:
        self.registry = CollectorRegistry()
        self.live = Gauge("memvla_sessions_live", "Sessions that hold memory now", registry=self.registry)
        self.waiting = Gauge("memvla_sessions_waiting", "Sessions that wait for a slot", registry=self.registry)
        self.begun = Counter("memvla_sessions", "Sessions begun", ["protocol"], registry=self.registry)
        self.ended = Counter(
            "memvla_sessions_ended",
            "Sessions ended, by reason: asked, restarted, silence, failure, disconnected, shutdown",
            ["reason"],
            registry=self.registry,
        )
        self.call_s = Histogram(
            "memvla_call_seconds",
            "Seconds from a request's frames to its actions, waiting for the batch included",
            ["protocol"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.refused = Counter(
            "memvla_refused", "Requests answered with an error, by HTTP status", ["status"], registry=self.registry
        )
        self.registry.register(_Batches(host))


class _Batches(Collector):
    """Batch sizes, read from the host when they are asked for."""

    def __init__(self, host: PolicyHost) -> None:
        self._host = host

    def collect(self) -> Iterable[HistogramMetricFamily]:
        seen = dict(self._host.batches)
        found = HistogramMetricFamily("memvla_batch_size", "Sessions served by one policy call")
        total, buckets = 0, []
        for size in sorted(seen):
            total += seen[size]
            buckets.append((str(float(size)), total))
        found.add_metric([], [*buckets, ("+Inf", total)], float(sum(size * count for size, count in seen.items())))
        yield found


def say(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """One line of the server's log."""
    log.log(level, event, extra={"fields": fields})


class JsonLines(logging.Formatter):
    """Each record as one JSON object: time (UTC), level, event, and its fields. Line breaks cannot be smuggled in."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=True, default=str)


def log_to_stderr() -> None:
    """Send the server's, the host's and uvicorn's log lines to stderr as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("memvla", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
