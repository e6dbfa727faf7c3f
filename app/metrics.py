"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

import os
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import ItemsView, Iterable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY

from app.journal import flush_all

Key = TypeVar("Key")
Value = TypeVar("Value")

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder where several workers put their numbers; set before this module is imported."""

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

REQUESTS = Counter("windowcast_requests", "Requests by route and status.", ["route", "status"])
REQUEST_SECONDS = Histogram(
    "windowcast_request_seconds", "From the headers to the last byte of the answer.", ["route"], buckets=SECONDS
)
BATCH_ROWS = Histogram("windowcast_batch_rows", "Windows computed in one call of the engine.", ["model"], buckets=ROWS)
ENGINE_SECONDS = Histogram("windowcast_engine_seconds", "Time of one call of the engine.", ["model"], buckets=SECONDS)
READY = Gauge("windowcast_ready", "Workers that are ready.", multiprocess_mode="livesum")


def count_requests(requests: Iterable[tuple[str, int, float]]) -> None:
    """Counts requests that have been answered, or whose caller has left: route, status, and seconds taken."""
    seconds_by_route: dict[str, list[float]] = defaultdict(list)
    for (route, status), group in _grouped(((route, status), seconds) for route, status, seconds in requests):
        REQUESTS.labels(route, str(status)).inc(len(group))
        seconds_by_route[route] += group
    for route, seconds in seconds_by_route.items():
        _observe(REQUEST_SECONDS.labels(route), seconds)


def count_batches(batches: Iterable[tuple[str, int, float]]) -> None:
    """Counts calls of the engine: model, rows, and seconds taken."""
    for model, group in _grouped((model, (rows, seconds)) for model, rows, seconds in batches):
        rows, seconds = zip(*group, strict=True)
        _observe(BATCH_ROWS.labels(model), rows)
        _observe(ENGINE_SECONDS.labels(model), seconds)


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


def exposition() -> bytes:
    """All metrics, of all workers; those of other workers may be `DELAY_SECONDS` old."""
    flush_all()
    if MULTIPROCESS_DIR not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
