"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

import os
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import ItemsView, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY

from app.journal import flush_all

Key = TypeVar("Key")
Value = TypeVar("Value")

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder where several workers put their numbers; set before this module is imported."""

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LOADING = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

REQUESTS = Counter("windowcast_requests", "Requests by route and status.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "windowcast_request_seconds", "From the headers to the last byte of the answer.", ["route"], buckets=SECONDS
)
BATCH_ROWS = Histogram(
    "windowcast_batch_rows", "Windows computed in one call of the engine.", ["model", "version"], buckets=ROWS
)
ENGINE_SECONDS = Histogram(
    "windowcast_engine_seconds", "Time of one call of the engine.", ["model", "version"], buckets=SECONDS
)
QUEUE_SECONDS = Histogram(
    "windowcast_queue_seconds", "Time of a request in the queue.", ["model", "version"], buckets=SECONDS
)
READY = Gauge("windowcast_ready", "Workers that are ready.", multiprocess_mode="livesum")
VERSION_STATE = Gauge(
    "windowcast_version_state",
    "Workers in which a version is in that state.",
    ["model", "version", "state"],
    multiprocess_mode="livesum",
)
LOAD_SECONDS = Histogram(
    "windowcast_load_seconds", "Time to load, prove and warm up a version.", ["model"], buckets=LOADING
)
LOAD_FAILURES = Counter("windowcast_load_failures", "Versions that could not be loaded.", ["model"])


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch that was computed.

    Attributes:
        rows: Windows in it.
        seconds: Time that the engine took.
        waits: Seconds that each of its jobs spent in the queue.
    """

    rows: int
    seconds: float
    waits: list[float]


def count_requests(requests: Iterable[tuple[str, int, float]]) -> None:
    """Counts requests that have been answered, or whose caller has left: route, status, and seconds taken."""
    seconds_by_route: dict[str, list[float]] = defaultdict(list)
    for (route, status), group in _grouped(((route, status), seconds) for route, status, seconds in requests):
        REQUESTS.labels(route, str(status)).inc(len(group))
        seconds_by_route[route] += group
    for route, seconds in seconds_by_route.items():
        _observe(REQUEST_SECONDS.labels(route), seconds)


def count_batches(batches: Iterable[tuple[str, int, Batch]]) -> None:
    """Counts calls of the engine: model, version, and what became of the batch."""
    for (model, version), group in _grouped(((model, version), batch) for model, version, batch in batches):
        labels = model, str(version)
        _observe(BATCH_ROWS.labels(*labels), [batch.rows for batch in group])
        _observe(ENGINE_SECONDS.labels(*labels), [batch.seconds for batch in group])
        _observe(QUEUE_SECONDS.labels(*labels), [wait for batch in group for wait in batch.waits])


def _grouped(entries: Iterable[tuple[Key, Value]]) -> ItemsView[Key, list[Value]]:
    groups: dict[Key, list[Value]] = defaultdict(list)
    for key, value in entries:
        groups[key].append(value)
    return groups.items()


def _observe(histogram: Histogram, values: Sequence[float]) -> None:
    """What `histogram.observe` does for each value, which would take most of the time of a short request."""
    bounds = histogram._upper_bounds  # noqa: SLF001 (prometheus-client takes one value at a time)
    for bucket, count in Counts(bisect_left(bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)  # noqa: SLF001
    histogram._sum.inc(sum(values))  # noqa: SLF001


def registry() -> CollectorRegistry:
    """The metrics of all workers; those of other workers may be `DELAY_SECONDS` old."""
    flush_all()
    if MULTIPROCESS_DIR not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


def exposition() -> bytes:
    """The metrics of all workers, as Prometheus reads them."""
    return generate_latest(registry())
