"""One request in whatever protocol, and what becomes of it.

An `Exchange` knows no protocol. A middleware, a gRPC servicer, another server or a test makes an exchange, passes it
through `app.api.forecasting`, ends it and adds it to a journal of `record`, which logs and counts it:

    exchange = Exchange("grpc", request_id=metadata.get("x-request-id"))
    ...
    exchange.end()
    service.exchanges.add(exchange)
"""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import count
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from app.errors import ServiceError
from app.telemetry.logs import RequestLog
from app.telemetry.metrics import Outcome, Requests, count_requests, grouped

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

NO_ROUTE = "none"
"""The route of a request whose path belongs to no route."""

MAX_PATH_CHARACTERS = 200
"""Longest part of a path that is logged."""


NO_METADATA: Mapping[bytes, bytes] = MappingProxyType({})


class Stage(StrEnum):
    """A part of the way from a request to its answer."""

    DECODE = "decode"
    """From the body to windows."""
    QUEUE = "queue"
    """From the queue's tail to the engine."""
    COMPUTE = "compute"
    """The call of the engine that computed the windows, perhaps with windows of other requests."""
    ENCODE = "encode"
    """From forecasts to the answer's body."""


Stages = dict[Stage, tuple[float, float]]
"""When a stage began and when it ended, in seconds of `time.perf_counter`."""


class Exchange:
    """One request and what becomes of it.

    Args:
        protocol: The protocol, a label of the metrics: `native`, `tfserving`, `inference`.
        request_id: The caller's id for the request; ignored unless it is 1 to 64 letters, digits, dots, dashes and
            underscores. A request without an id gets a new one.
        method: The request's method, for the log.
        path: The request's path, for the log.
        metadata: Headers in HTTP, metadata in gRPC: values by lower-case name.
        peer: The address that the request comes from, if it is known.

    Attributes:
        route: The path of the route, of which there are few.
        answered_by: Model and version, once they are known.
        stages: The stages that are complete.
        status: The HTTP status of the answer; 0 as long as there is none.
        error: What the request was answered with, or what broke its answer off.
        is_quiet: Whether the log mentions the request for debugging only.
        seconds: From the exchange's making to its end.
        ended: Unix time of the end.
    """

    __slots__ = (
        "_started",
        "answered_by",
        "ended",
        "error",
        "is_quiet",
        "metadata",
        "method",
        "path",
        "peer",
        "protocol",
        "request_id",
        "route",
        "seconds",
        "stages",
        "status",
    )

    def __init__(
        self,
        protocol: str,
        *,
        request_id: str | None = None,
        method: str = "",
        path: str = "",
        metadata: Mapping[bytes, bytes] = NO_METADATA,
        peer: str | None = None,
    ) -> None:
        self._started = time.perf_counter()
        self.protocol = protocol
        self.request_id = sane_or_new_id(request_id)
        self.method = method
        self.path = path
        self.metadata = metadata
        self.peer = peer
        self.route = NO_ROUTE
        self.answered_by: tuple[str, int] | None = None
        self.stages: Stages = {}
        self.status = 0
        self.error: type[ServiceError] | None = None
        self.is_quiet = False
        self.seconds = 0.0
        self.ended = 0.0

    def complete(self, stage: Stage, started: float) -> None:
        """Notes that a stage, which began at `started` by `time.perf_counter`, ends now."""
        self.stages[stage] = started, time.perf_counter()

    def fail(self, error: ServiceError) -> None:
        """Notes the error that the request is answered with. The status is noted when the answer is sent."""
        self.error = type(error)

    def end(self) -> None:
        """Stops the clock. An error that no status was sent for counts with its own."""
        if not self.status and self.error is not None:
            self.status = self.error.status.value
        self.seconds = time.perf_counter() - self._started
        self.ended = time.time()

    @property
    def level(self) -> int:
        """The level of the request's line in the log."""
        return logging.DEBUG if self.is_quiet else logging.INFO

    def facts(self) -> dict[str, Any]:
        """Returns what the log tells of the request."""
        facts: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": _printable(self.path[:MAX_PATH_CHARACTERS]),
            "status": self.status,
            "milliseconds": round(self.seconds * 1000, 3),
        }
        if self.answered_by is not None:
            facts["model"], facts["version"] = self.answered_by
        return facts


_request_log = RequestLog()


def record(exchanges: Sequence[Exchange]) -> None:
    """Logs and counts exchanges that have ended."""
    _request_log.write(
        (exchange.level, exchange.ended, exchange.facts())
        for exchange in exchanges
        if _request_log.is_on(exchange.level)
    )
    for (protocol, route, answered_by, status, error), group in grouped(
        ((each.protocol, each.route, each.answered_by, each.status, each.error), each) for each in exchanges
    ):
        model, version = answered_by or ("", "")
        count_requests(
            Requests(
                protocol=protocol,
                route=route,
                model=model,
                version=str(version),
                outcome=Outcome.of(status if error is None else error.status),
                status=status,
                reason=error.slug if error is not None else None,
                seconds=[exchange.seconds for exchange in group],
                decoding=_seconds(group, Stage.DECODE),
                encoding=_seconds(group, Stage.ENCODE),
                ended=group[-1].ended,
            )
        )


def _seconds(exchanges: Sequence[Exchange], stage: Stage) -> list[float]:
    """Returns how long the stage took in each of the exchanges that completed it."""
    times = (exchange.stages.get(stage) for exchange in exchanges)
    return [ended - started for started, ended in filter(None, times)]


@lru_cache
def _printable(path: str) -> str:
    """Quotes a path for a log, which may be a terminal."""
    return quote(path)


_ID_PREFIX = os.urandom(10).hex()
"""Tells the request ids of this process from those of all others."""
_ID_NUMBERS = count(1)


def sane_or_new_id(given: str | None) -> str:
    """Returns the caller's request id if it is sane, else a new one."""
    if given is not None and SANE_REQUEST_ID.fullmatch(given):
        return given
    return f"{_ID_PREFIX}{next(_ID_NUMBERS):012x}"
