"""What the service counts, in Prometheus' text format. Label values come from closed sets only."""

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
from multiprocessing import current_process
from typing import Protocol, Self, TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, values

from app import __version__

Key = TypeVar("Key")
Value = TypeVar("Value")

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which several workers share their numbers. It must be set before this module
is imported."""

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LOADING = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

QUEUES_SECONDS = 1.0
"""How often a worker tells the others how many windows wait in its queues."""

CLIENT_LEFT = 499
"""Status of a request whose client left before its answer. The convention is nginx's; the status is never sent."""

REFUSED, EXPIRED = 503, 504

WORKER = "windowcast-worker-"
"""What the name of a worker begins with. Its place among the workers follows, which its successor will take."""

# A worker goes on counting in the files of its predecessor. Otherwise prometheus-client would give every process files
# of its own, and nobody could remove them: what ended workers have counted still counts.
if (_worker := current_process().name).startswith(WORKER):
    values.ValueClass = values.MultiProcessValue(lambda: _worker)  # type: ignore[no-untyped-call]

REQUESTS = Counter(
    "windowcast_requests",
    "Requests, by their outcome.",
    ["route", "protocol", "model", "version", "outcome", "status"],
)
REQUEST_SECONDS = Histogram(
    "windowcast_request_seconds",
    "Time from the headers of a request to the last byte of its answer.",
    ["route", "protocol", "model", "version", "outcome"],
    buckets=SECONDS,
)
REFUSALS = Counter(
    "windowcast_refusals", "Requests that were answered with an error, by the reason.", ["reason", "protocol", "model"]
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
    "Unix time of the end of the last request that was answered with forecasts.",
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
CONNECTIONS = Gauge("windowcast_connections", "Open connections of clients.", multiprocess_mode="livesum")
CONNECTIONS_REFUSED = Counter(
    "windowcast_connections_refused", "Connections that were refused because too many were open."
)
LOG_LINES_DROPPED = Counter(
    "windowcast_log_lines_dropped", "Lines of the log that nobody read in time, or that could not be written."
)
READY = Gauge("windowcast_ready", "Workers that are ready.", multiprocess_mode="livesum")
VERSION_STATE = Gauge(
    "windowcast_version_state",
    "Workers in which the version is in the state.",
    ["model", "version", "state"],
    multiprocess_mode="livesum",
)
LOADS = Counter("windowcast_loads", "Attempts to load a version, successful or not.", ["model"])
LOAD_FAILURES = Counter("windowcast_load_failures", "Attempts to load a version that failed.", ["model"])
LOAD_SECONDS = Histogram(
    "windowcast_load_seconds", "Time to load, prove and warm up a version.", ["model"], buckets=LOADING
)
BUILD_INFO = Gauge(
    "windowcast_build_info",
    "Always 1. The labels tell the releases of the service, Python and the engines' packages; empty if not installed.",
    ["version", "python", "onnxruntime", "tensorflow"],
    multiprocess_mode="max",
)

BY_MODEL = (
    REQUESTS,
    REQUEST_SECONDS,
    REFUSALS,
    DECODING_SECONDS,
    ENCODING_SECONDS,
    LAST_PREDICTION,
    QUEUE_WINDOWS,
    BATCH_WINDOWS,
    ENGINE_SECONDS,
    QUEUE_SECONDS,
    VERSION_STATE,
    LOADS,
    LOAD_FAILURES,
    LOAD_SECONDS,
)
"""The metrics whose series belong to a model, and perhaps to a version."""


class Outcome(StrEnum):
    """The outcome of a request: who has to do something about it, the caller or the operator."""

    OK = "ok"
    """1xx to 3xx: the request succeeded."""
    INVALID = "invalid"
    """4xx, 408 and 413 included: the caller must change the request."""
    REFUSED = "refused"
    """503: the queue is full, or no model is loaded. The same request may succeed a moment later."""
    EXPIRED = "expired"
    """504: the forecast was not ready in time."""
    FAILED = "failed"
    """Any other status, or an answer that broke off: the service or the model is at fault."""
    LEFT = "left"
    """499: the client left before its answer."""

    @classmethod
    def of(cls, status: int) -> Self:
        """Returns the outcome of a status."""
        special = {CLIENT_LEFT: cls.LEFT, REFUSED: cls.REFUSED, EXPIRED: cls.EXPIRED}.get(status)
        by_class = {1: cls.OK, 2: cls.OK, 3: cls.OK, 4: cls.INVALID}
        return special or by_class.get(status // 100, cls.FAILED)


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests that have ended and differ only in their times.

    Attributes:
        protocol: The protocol of the requests.
        route: The path of their route.
        model: The model that they asked; empty if it is unknown.
        version: The version that answered; empty if it is unknown.
        outcome: The outcome of the requests.
        status: The status of the answers.
        reason: The name of the error in the answers; None for other answers.
        seconds: The time of each request.
        decoding: The times from body to windows, of the requests that completed this stage.
        encoding: The times from forecasts to body, of the requests that completed this stage.
        ended: Unix time of the end of the last request.
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
    """One call of an engine.

    Attributes:
        windows: The number of windows in the batch.
        seconds: The time of the call.
        waits: The time that each request of the batch spent in the queue, in seconds.
    """

    windows: int
    seconds: float
    waits: list[float]


class Queue(Protocol):
    """A queue of windows."""

    @property
    def queued_windows(self) -> int:
        """The number of windows that wait."""


_queues: dict[weakref.ref[Queue], tuple[str, str]] = {}
"""The model and version of each queue of this process. The references are weak: a queue may end at any time."""


def count_requests(requests: Requests) -> None:
    """Counts requests that have ended."""
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
    """Counts calls of engines, each given as model, version and batch."""
    for (model, version), group in grouped(((model, version), batch) for model, version, batch in batches):
        labels = model, str(version)
        _observe(BATCH_WINDOWS.labels(*labels), [batch.windows for batch in group])
        _observe(ENGINE_SECONDS.labels(*labels), [batch.seconds for batch in group])
        _observe(QUEUE_SECONDS.labels(*labels), [wait for batch in group for wait in batch.waits])


def leave_out_times_of_creation() -> None:
    """Leaves out the series `*_created`, which several workers cannot tell. Holds for all metrics of the process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]


def count_build() -> None:
    """Sets the metric that tells the releases."""
    tensorflow = _release("tensorflow-cpu") or _release("tensorflow")
    BUILD_INFO.labels(__version__, platform.python_version(), _release("onnxruntime"), tensorflow).set(1)


def _release(package: str) -> str:
    try:
        return release_of(package)
    except PackageNotFoundError:
        return ""


def watch_queue(model: str, version: int, queue: Queue) -> None:
    """Counts the windows of a queue from now on, as long as the queue exists."""
    _queues[weakref.ref(queue)] = model, str(version)


def count_queues() -> None:
    """Counts the windows that wait now. A queue that has ended counts as empty once, then no more."""
    waiting: Counts[tuple[str, str]] = Counts()
    for reference, labels in list(_queues.items()):  # another thread may do the same
        queue = reference()
        waiting[labels] += queue.queued_windows if queue is not None else 0
        if queue is None:
            _queues.pop(reference, None)
    for labels, number in waiting.items():
        QUEUE_WINDOWS.labels(*labels).set(number)


def grouped(entries: Iterable[tuple[Key, Value]]) -> ItemsView[Key, list[Value]]:
    """Groups values by their keys, and keeps their order."""
    groups: dict[Key, list[Value]] = defaultdict(list)
    for key, value in entries:
        groups[key].append(value)
    return groups.items()


def _observe(histogram: Histogram, values: Sequence[float]) -> None:
    """Does what `histogram.observe` does, for many values at once: one by one, they would cost more than a forecast."""
    bounds = histogram._upper_bounds  # noqa: SLF001 (prometheus-client takes one value at a time)
    for bucket, count in Counts(bisect_left(bounds, value) for value in values).items():
        histogram._buckets[bucket].inc(count)  # noqa: SLF001
    histogram._sum.inc(sum(values))  # noqa: SLF001
