"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

import os

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


def exposition() -> bytes:
    """All metrics, of all workers."""
    if MULTIPROCESS_DIR not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
