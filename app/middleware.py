"""What every exchange gets, whatever its route: a request id, a log line, a count, and an end to keep-alive in a drain.

Written against ASGI itself: Starlette's `BaseHTTPMiddleware` costs a task and a stream per request.
"""

import re
import time
from collections.abc import Iterator
from urllib.parse import quote
from uuid import uuid4

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.errors import InternalError
from app.lifecycle import Lifecycle, Phase
from app.metrics import REQUEST_SECONDS, REQUESTS
from app.repository import LoadedVersion

log = structlog.get_logger("app.requests")

SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
QUIET_ROUTES = {"/livez", "/readyz", "/healthz", "/metrics"}
MAX_PATH_CHARACTERS = 200
"""Longest part of a path that is logged."""
CLIENT_LEFT = 499
"""Logged for a client that left before its answer; a convention of nginx, never sent."""


class Exchange:
    """One request and what becomes of it.

    Args:
        scope: The request's ASGI scope; handlers leave the version that answers in `scope["state"]["loaded"]`.
        lifecycle: Tells whether the connection should end with the answer.
    """

    def __init__(self, scope: Scope, lifecycle: Lifecycle) -> None:
        self.scope = scope
        self.status = 0
        self._lifecycle = lifecycle
        self._started = time.perf_counter()
        self.request_id = scope["state"]["request_id"] = _request_id(scope)

    def add_headers(self, message: Message) -> None:
        """Completes the head of the answer."""
        self.status = int(message["status"])
        headers = MutableHeaders(scope=message)
        for name, value in self._headers():
            headers[name] = value

    def _headers(self) -> Iterator[tuple[str, str]]:
        yield "X-Request-ID", self.request_id
        yield "X-Content-Type-Options", "nosniff"
        loaded: LoadedVersion | None = self.scope["state"].get("loaded")
        if loaded is not None:
            yield "X-Windowcast-Model", loaded.name
            yield "X-Windowcast-Version", str(loaded.version)
        if self._lifecycle.phase is Phase.DRAINING:  # now, not when the request began
            yield "Connection", "close"

    def finish(self) -> None:
        """Counts the exchange and logs it; probes are logged for debugging only."""
        seconds = time.perf_counter() - self._started
        route = getattr(self.scope.get("route"), "path", "none")
        REQUESTS.labels(route, str(self.status)).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        write = log.debug if route in QUIET_ROUTES else log.info
        write("request", **self._facts(), status=self.status, milliseconds=round(seconds * 1000, 3))

    def _facts(self) -> dict[str, str]:
        loaded: LoadedVersion | None = self.scope["state"].get("loaded")
        facts = {
            "request_id": self.request_id,
            "method": self.scope["method"],
            "path": quote(self.scope["path"][:MAX_PATH_CHARACTERS]),
        }
        if loaded is not None:
            facts |= {"model": loaded.name, "version": str(loaded.version)}
        return facts


class ExchangeMiddleware:
    """Wraps every HTTP exchange in an `Exchange`."""

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        exchange = Exchange(scope, self.lifecycle)

        async def send_completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.add_headers(message)
            await send(message)

        try:
            await self.app(scope, receive, send_completed)
        except ClientDisconnect:
            exchange.status = CLIENT_LEFT
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            if exchange.status:  # the head is out: all that is left is to break the connection
                raise
            await problem_response(InternalError(), exchange.request_id)(scope, receive, send_completed)
        finally:
            exchange.finish()


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and SANE_REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return uuid4().hex
