"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

import os
import platform
import weakref
from bisect import bisect_left
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import ItemsView, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as release_of
from typing import Protocol, Self, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)
from prometheus_client.registry import REGISTRY

from app import __version__

Key = TypeVar("Key")
Value = TypeVar("Value")

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder where several workers put their numbers; set before this module is imported."""

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LOADING = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

QUEUES_SECONDS = 1.0
"""How often a worker tells the others how many windows wait in its queues."""

CLIENT_LEFT = 499
"""Status of a request whose client left before its answer; a convention of nginx, never sent."""

REFUSED, EXPIRED = 503, 504

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which several workers lack

REQUESTS = Counter(
    "windowcast_requests",
    "Requests, whatever became of them.",
    ["route", "protocol", "model", "version", "outcome", "status"],
)
REQUEST_SECONDS = Histogram(
    "windowcast_request_seconds",
    "From the headers to the last byte of the answer.",
    ["route", "protocol", "model", "version", "outcome"],
    buckets=SECONDS,
)
REFUSALS = Counter(
    "windowcast_refusals", "Requests that were answered with an error, by its reason.", ["reason", "protocol", "model"]
)
DECODING_SECONDS = Histogram(
    "windowcast_decoding_seconds",
    "Time from a request's body to its windows.",
    ["protocol", "model", "version"],
    buckets=SECONDS,
)
ENCODING_SECONDS = Histogram(
    "windowcast_encoding_seconds",
    "Time from the forecasts to the body of the answer.",
    ["protocol", "model", "version"],
    buckets=SECONDS,
)
LAST_PREDICTION = Gauge(
    "windowcast_last_prediction_timestamp_seconds",
    "Unix time of the last request that was answered with forecasts.",
    ["model", "version"],
    multiprocess_mode="max",
)
QUEUE_WINDOWS = Gauge(
    "windowcast_queue_windows", "Windows that wait for the engine.", ["model", "version"], multiprocess_mode="livesum"
)
BATCH_WINDOWS = Histogram(
    "windowcast_batch_windows", "Windows computed in one call of the engine.", ["model", "version"], buckets=WINDOWS
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
LOADS = Counter("windowcast_loads", "Attempts to load a version, whatever came of them.", ["model"])
LOAD_FAILURES = Counter("windowcast_load_failures", "Attempts to load a version that failed.", ["model"])
LOAD_SECONDS = Histogram(
    "windowcast_load_seconds", "Time to load, prove and warm up a version.", ["model"], buckets=LOADING
)
BUILD_INFO = Gauge(
    "windowcast_build_info",
    "Always 1; its labels tell the releases of the service and of what it computes with, empty if not installed.",
    ["version", "python", "onnxruntime", "tensorflow"],
    multiprocess_mode="max",
)


class Outcome(StrEnum):
    """What became of a request, in the terms of whoever has to do something about it."""

    OK = "ok"
    """1xx to 3xx: it got what it asked for."""
    INVALID = "invalid"
    """4xx: the caller must ask for something else, or in another way; 408 and 413 too."""
    REFUSED = "refused"
    """503: the queue is full, or no model is loaded; the same request may succeed a moment later."""
    EXPIRED = "expired"
    """504: the forecast was not ready in time."""
    FAILED = "failed"
    """Any other status, or an answer that broke off: the service or a model is at fault."""
    LEFT = "left"
    """499: the client left before its answer."""

    @classmethod
    def of(cls, status: int) -> Self:
        """The outcome that a status stands for."""
        special = {CLIENT_LEFT: cls.LEFT, REFUSED: cls.REFUSED, EXPIRED: cls.EXPIRED}.get(status)
        by_class = {1: cls.OK, 2: cls.OK, 3: cls.OK, 4: cls.INVALID}
        return special or by_class.get(status // 100, cls.FAILED)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that have ended and have everything in common but their times.

    Attributes:
        protocol: The protocol they came in by.
        route: The path of their route.
        model: The model that they asked; empty if none is known.
        version: Its version; empty if none is known.
        outcome: What became of them.
        status: The status they were answered with.
        reason: The error they were answered with; None for other answers.
        seconds: Time that each took.
        decoding: Times from body to windows, of those that came so far.
        encoding: Times from forecasts to body, of those that came so far.
        ended: Unix time at which the last one ended.
    """

    protocol: str
    route: str
    model: str
    version: str
    outcome: Outcome
    status: int
    reason: str | None
    seconds: Sequence[float]
    decoding: Sequence[float]
    encoding: Sequence[float]
    ended: float


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch that was computed.

    Attributes:
        windows: How many windows were in it.
        seconds: Time that the engine took.
        waits: Seconds that each of its jobs spent in the queue.
    """

    windows: int
    seconds: float
    waits: list[float]


class Queue(Protocol):
    """Where windows wait."""

    @property
    def queued_windows(self) -> int:
        """How many do."""


_queues: dict[weakref.ref[Queue], tuple[str, str]] = {}
"""The queues of this process, with the model and version they belong to. They are not held on to."""


def count_requests(requests: Requests) -> None:
    """Counts requests that have been answered, or whose client has left."""
    protocol, model, version = labels = requests.protocol, requests.model, requests.version
    number = len(requests.seconds)
    REQUESTS.labels(requests.route, *labels, requests.outcome, requests.status).inc(number)
    _observe(REQUEST_SECONDS.labels(requests.route, *labels, requests.outcome), requests.seconds)
    if requests.reason is not None:
        REFUSALS.labels(requests.reason, protocol, model).inc(number)
    if requests.decoding:
        _observe(DECODING_SECONDS.labels(*labels), requests.decoding)
    if requests.encoding:
        _observe(ENCODING_SECONDS.labels(*labels), requests.encoding)
        if requests.outcome is Outcome.OK:
            LAST_PREDICTION.labels(model, version).set(requests.ended)


def count_batches(batches: Iterable[tuple[str, int, Batch]]) -> None:
    """Counts calls of the engine: model, version, and what became of the batch."""
    for (model, version), group in grouped(((model, version), batch) for model, version, batch in batches):
        labels = model, str(version)
        _observe(BATCH_WINDOWS.labels(*labels), [batch.windows for batch in group])
        _observe(ENGINE_SECONDS.labels(*labels), [batch.seconds for batch in group])
        _observe(QUEUE_SECONDS.labels(*labels), [wait for batch in group for wait in batch.waits])


def count_build() -> None:
    """Tells which releases run."""
    tensorflow = _release("tensorflow-cpu") or _release("tensorflow")
    BUILD_INFO.labels(__version__, platform.python_version(), _release("onnxruntime"), tensorflow).set(1)


def _release(package: str) -> str:
    try:
        return release_of(package)
    except PackageNotFoundError:
        return ""


def watch_queue(model: str, version: int, queue: Queue) -> None:
    """Has the windows of a queue counted for as long as somebody holds on to it."""
    _queues[weakref.ref(queue)] = model, str(version)


def count_queues() -> None:
    """Counts the windows that wait right now; a queue that is gone has none."""
    waiting: Counts[tuple[str, str]] = Counts()
    for reference, labels in list(_queues.items()):  # another thread may add one
        queue = reference()
        waiting[labels] += queue.queued_windows if queue is not None else 0
        if queue is None:
            del _queues[reference]
    for labels, number in waiting.items():
        QUEUE_WINDOWS.labels(*labels).set(number)


def grouped(entries: Iterable[tuple[Key, Value]]) -> ItemsView[Key, list[Value]]:
    """The values of each key, in their order."""
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
    """Returns the metrics of all workers. Those of other workers lag by a moment, their queues by `QUEUES_SECONDS`."""
    count_queues()
    if MULTIPROCESS_DIR not in os.environ:
        return REGISTRY
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


def exposition() -> bytes:
    """The metrics of all workers, as Prometheus reads them."""
    return generate_latest(registry())
