"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

import os
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from prometheus_client.registry import REGISTRY

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


def count_request(route: str, status: int, seconds: float) -> None:
    """Counts a request that has been answered, or whose caller has left."""
    requests, request_seconds = _request_metrics(route, status)
    requests.inc()
    request_seconds.observe(seconds)


@cache
def _request_metrics(route: str, status: int) -> tuple[Counter, Histogram]:
    """Finding the metric of a label is the dearer half of counting."""
    return REQUESTS.labels(route, str(status)), REQUEST_SECONDS.labels(route)


def count_batch(model: str, rows: int, seconds: float) -> None:
    """Counts a call of the engine."""
    batch_rows, engine_seconds = _batch_metrics(model)
    batch_rows.observe(rows)
    engine_seconds.observe(seconds)


@cache
def _batch_metrics(model: str) -> tuple[Histogram, Histogram]:
    return BATCH_ROWS.labels(model), ENGINE_SECONDS.labels(model)


def exposition() -> bytes:
    """All metrics, of all workers."""
    if MULTIPROCESS_DIR not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
