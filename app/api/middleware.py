"""What every exchange gets, whatever its route: a request id, a log line, a count, and an end to keep-alive in a drain.

Written against ASGI itself: Starlette's `BaseHTTPMiddleware` costs a task and a stream per request.
"""

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any
from urllib.parse import quote

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.direct import DECODING, ENCODING, HEADERS, by_name
from app.api.problems import problem_response, slug_of
from app.errors import InternalError, ModelNotReady, ServiceError
from app.process.lifecycle import Lifecycle, Phase
from app.process.protocol import CLIENT_HAS_LEFT, CLOSE
from app.serving.repository import ServedVersion
from app.telemetry.journal import Journal
from app.telemetry.logs import RequestLog
from app.telemetry.metrics import CLIENT_LEFT, Outcome, Requests, count_requests, grouped

log = structlog.get_logger()

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
QUIET_ROUTES = {
    *("/livez", "/readyz", "/healthz", "/metrics"),
    *("/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready"),
}
MAX_PATH_CHARACTERS = 200
"""Longest part of a path that is logged."""
AnswerError = Callable[[ServiceError, str], Response]

NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class Exchange:
    """One request and what becomes of it.

    Args:
        scope: The request's ASGI scope; handlers leave the version that answers in `scope["state"]["served"]`.
        send: The request's ASGI `send`.
        lifecycle: Tells whether the connection should end with the answer.
        protocol: What it is counted as.
    """

    __slots__ = (
        "_lifecycle",
        "_send",
        "_started",
        "answered_by",
        "ended",
        "error",
        "protocol",
        "request_id",
        "scope",
        "seconds",
        "status",
    )

    def __init__(self, scope: Scope, send: Send, lifecycle: Lifecycle, protocol: str) -> None:
        self._started = time.perf_counter()
        self.scope = scope
        self.protocol = protocol
        self.status = 0
        self.error: type[ServiceError] | None = None
        """What it was answered with, or what broke its answer off."""
        self.answered_by: tuple[str, int] | None = None
        """Model and version, once it has ended."""
        self.seconds = 0.0
        self.ended = 0.0
        self._send = send
        self._lifecycle = lifecycle
        state = scope["state"]
        headers = state[HEADERS] = by_name(scope["headers"])
        self.request_id = state["request_id"] = _request_id(headers)

    @property
    def route(self) -> str:
        """The path of the route, of which there are few."""
        return str(getattr(self.scope.get("route"), "path", "none"))

    async def send(self, message: Message) -> None:
        """Passes a part of the answer on, its head with what every answer has."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            served: ServedVersion | None = self.scope["state"].get("served")
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.request_id.encode()),
                NO_SNIFFING,
                *(_version_headers(served.name, served.version) if served is not None else ()),
                *((CLOSE,) if self._lifecycle.phase is Phase.DRAINING else ()),  # now, not when the request began
            ]
        await self._send(message)

    def end(self) -> None:
        """Stops the clock, and lets go of the version: the server may keep the scope until the next request."""
        self.seconds = time.perf_counter() - self._started
        self.ended = time.time()
        served: ServedVersion | None = self.scope["state"].pop("served", None)
        if served is not None:
            self.answered_by = served.name, served.version

    def facts(self) -> dict[str, Any]:
        """What the log tells of it."""
        facts: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "path": _shown(self.scope["path"][:MAX_PATH_CHARACTERS]),
            "status": self.status,
            "milliseconds": round(self.seconds * 1000, 3),
        }
        if self.answered_by is not None:
            facts["model"], facts["version"] = self.answered_by
        return facts


def _write_down(exchanges: list[Exchange]) -> None:
    """Logs exchanges and counts them; probes are logged for debugging only."""
    told = [(_level(exchange), exchange) for exchange in exchanges]
    request_log.write((level, exchange.ended, exchange.facts()) for level, exchange in told if request_log.is_on(level))
    for (protocol, route, answered_by, status, error), group in grouped(
        (_kind(exchange), exchange) for exchange in exchanges
    ):
        model, version = answered_by or ("", "")
        states = [exchange.scope["state"] for exchange in group]
        count_requests(
            Requests(
                protocol=protocol,
                route=route,
                model=model,
                version=str(version),
                outcome=Outcome.of(status if error is None else error.status),
                status=status,
                reason=slug_of(error) if error is not None else None,
                seconds=[exchange.seconds for exchange in group],
                decoding=[state[DECODING] for state in states if DECODING in state],
                encoding=[state[ENCODING] for state in states if ENCODING in state],
                ended=group[-1].ended,
            )
        )


def _kind(exchange: Exchange) -> tuple[str, str, tuple[str, int] | None, int, type[ServiceError] | None]:
    """What exchanges have in common that are counted together."""
    return exchange.protocol, exchange.route, exchange.answered_by, exchange.status, exchange.error


def _level(exchange: Exchange) -> int:
    return logging.DEBUG if exchange.route in QUIET_ROUTES else logging.INFO


request_log = RequestLog()
journal = Journal(_write_down)


class ExchangeMiddleware:
    """Wraps every HTTP exchange in an `Exchange`, and answers whatever goes wrong in it.

    Args:
        app: The application.
        lifecycle: Of the process.
        answer_error: Makes the answer to an error, given the request's id; a problem unless the protocol has its own.
        protocol: What the exchanges are counted as.
    """

    def __init__(
        self,
        app: ASGIApp,
        lifecycle: Lifecycle,
        answer_error: AnswerError = problem_response,
        protocol: str = "native",
    ) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.answer_error = answer_error
        self.protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        exchange = Exchange(scope, send, self.lifecycle, self.protocol)
        try:
            await self.app(scope, receive, exchange.send)
        except ServiceError as error:
            await self._answer(error, exchange, receive)
        except ClientDisconnect:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError as stop:
            if stop.args == (CLIENT_HAS_LEFT,):
                exchange.status = CLIENT_LEFT
            elif not exchange.status:  # the time for the stop is over
                await self._answer(ModelNotReady("the service stops"), exchange, receive)
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            if exchange.status:  # the head is out: all that is left is to break the connection
                exchange.error = InternalError
                raise
            await self._answer(InternalError(), exchange, receive)
        finally:
            exchange.end()
            journal.add(exchange)

    async def _answer(self, error: ServiceError, exchange: Exchange, receive: Receive) -> None:
        exchange.error = type(error)
        await self.answer_error(error, exchange.request_id)(exchange.scope, receive, exchange.send)


@lru_cache
def _version_headers(model: str, version: int) -> tuple[tuple[bytes, bytes], ...]:
    return (b"x-windowcast-model", model.encode()), (b"x-windowcast-version", b"%d" % version)


@lru_cache
def _shown(path: str) -> str:
    """A path as it may stand in a log, on a terminal too."""
    return quote(path)


_ID_PREFIX = os.urandom(10).hex()
"""Tells the request ids of this process from those of all others."""
_ID_NUMBERS = count(1)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """The caller's X-Request-ID if it is sane, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and SANE_REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_ID_PREFIX}{next(_ID_NUMBERS):012x}"
