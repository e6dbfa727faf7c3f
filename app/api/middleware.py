"""What every HTTP exchange gets, whatever its route: an id, a log line, a count, and an end to keep-alive in a drain.

Written against ASGI itself: Starlette's `BaseHTTPMiddleware` costs a task and a stream per request.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import TypeAlias

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.direct import Answer, Header, Request, by_name
from app.api.problems import problem_answer
from app.errors import InternalError, ModelNotReady, ServiceError
from app.exchange import Exchange
from app.process.http.connections import PROBES
from app.process.http.cycle import CLOSE
from app.process.http.protocol import CLIENT_HAS_LEFT
from app.process.lifecycle import Phase
from app.serving.service import Service
from app.telemetry.logs import get_logger
from app.telemetry.metrics import CLIENT_LEFT

log = get_logger()

QUIET_ROUTES = {
    *(path.decode() for path in PROBES),
    *("/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready"),
}
NO_SNIFFING = (b"x-content-type-options", b"nosniff")

AnswerError: TypeAlias = Callable[[ServiceError, str], Answer]
"""Makes the answer to an error, given the request's id."""

Handle: TypeAlias = Callable[[Request, Send], Awaitable[Answer | None]]
"""Returns the answer to a request, or None where it has sent the answer itself."""


class ExchangeMiddleware:
    """Makes an exchange of every HTTP request, and answers whatever goes wrong in it.

    Args:
        handle: Answers a request.
        service: The service, which logs and counts the exchanges.
        answer_error: The protocol's form of an error.
        protocol: What the exchanges are counted as.
    """

    def __init__(
        self,
        handle: Handle,
        service: Service,
        answer_error: AnswerError = problem_answer,
        protocol: str = "native",
    ) -> None:
        self._handle = handle
        self._service = service
        self._answer_error = answer_error
        self._protocol = protocol

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one HTTP request."""
        headers = by_name(scope["headers"])
        given = headers.get(b"x-request-id")
        request_id = None if given is None else given.decode("latin-1")
        client = scope.get("client")
        exchange = Exchange(
            self._protocol,
            request_id=request_id,
            method=scope["method"],
            path=scope["path"],
            metadata=headers,
            peer=client[0] if client else None,
        )
        request = Request(scope, receive, exchange, headers, self._service)
        dispatch = _Dispatch(request, send, self._service)
        try:
            answer = await self._handle(request, dispatch.send)
            if answer is not None:
                await dispatch.answer(answer)
        except ServiceError as error:
            await self._answer(error, exchange, dispatch)
        except ClientDisconnect:
            exchange.status = CLIENT_LEFT
        except asyncio.CancelledError as stop:
            if stop.args == (CLIENT_HAS_LEFT,):
                exchange.status = CLIENT_LEFT
            elif self._service.lifecycle.phase is not Phase.DRAINING:  # it is not for us: a host's limit on the time
                exchange.status = exchange.status or CLIENT_LEFT
                raise
            elif not exchange.status:  # the time for the stop is over
                await self._answer(ModelNotReady("the service stops"), exchange, dispatch)
        except Exception:
            log.exception("unexpected error", request_id=exchange.request_id)
            if exchange.status:  # the head is out: all that is left is to break the connection
                exchange.fail(InternalError())
                raise
            await self._answer(InternalError(), exchange, dispatch)
        finally:
            exchange.end()
            exchange.is_quiet = exchange.route in QUIET_ROUTES
            self._service.exchanges.add(exchange)

    async def _answer(self, error: ServiceError, exchange: Exchange, dispatch: "_Dispatch") -> None:
        exchange.fail(error)
        await dispatch.answer(self._answer_error(error, exchange.request_id))


class _Dispatch:
    """Sends an answer on, its head with what every answer has."""

    __slots__ = ("_exchange", "_request", "_send", "_service")

    def __init__(self, request: Request, send: Send, service: Service) -> None:
        self._request = request
        self._exchange = request.exchange
        self._send = send
        self._service = service

    async def answer(self, answer: Answer) -> None:
        """Sends a whole answer, at once where the server can."""
        self._exchange.status = answer.status
        headers = [*answer.headers, *self._common_headers()]
        server = self._request.server
        if server is None or not server.send_whole(answer.status, headers, answer.body):
            headers.append((b"content-length", b"%d" % len(answer.body)))
            await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": answer.body})

    async def send(self, message: Message) -> None:
        """Takes the ASGI messages of an answer."""
        if message["type"] == "http.response.start":
            self._exchange.status = int(message["status"])
            message["headers"] = [*message["headers"], *self._common_headers()]
        await self._send(message)

    def _common_headers(self) -> list[Header]:
        """Returns the headers that every answer has."""
        exchange = self._exchange
        headers: list[Header] = [(b"x-request-id", exchange.request_id.encode()), NO_SNIFFING]
        if exchange.answered_by is not None:
            headers += version_headers(*exchange.answered_by)
        if self._service.lifecycle.phase is Phase.DRAINING:  # now, not when the request began
            headers.append(CLOSE)
        return headers


def wrap_route(
    answer: Callable[[Request], Awaitable[Answer]],
    service: Service,
    answer_error: AnswerError = problem_answer,
    protocol: str = "native",
) -> ExchangeMiddleware:
    """Wraps a direct route."""

    def handle(request: Request, _: Send) -> Awaitable[Answer]:
        return answer(request)

    return ExchangeMiddleware(handle, service, answer_error, protocol)


class FrameworkMiddleware:
    """The same as a middleware of the framework, inside its handler of errors.

    Args:
        app: The framework's application.
        service: The service.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._exchanges = ExchangeMiddleware(self._handle, service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection. Passes on what is not HTTP."""
        await (self._exchanges if scope["type"] == "http" else self._app)(scope, receive, send)

    async def _handle(self, request: Request, send: Send) -> Answer | None:
        scope = request.scope
        of_host = scope.get("route")
        try:
            await self._app(scope, request.receive, send)
        finally:  # the framework leaves the route that it found
            if (route := scope.get("route")) is not of_host and route is not None:
                request.exchange.route = route.path
        return None


@lru_cache
def version_headers(model: str, version: int) -> tuple[tuple[bytes, bytes], ...]:
    """Returns the headers that tell which version answered."""
    return (b"x-windowcast-model", model.encode()), (b"x-windowcast-version", b"%d" % version)
