"""Routes that are answered in front of the web framework, for requests where the framework's share of the time counts.

A direct route is a coroutine from a `Request` to an `Answer`. `Front` finds the route by its path; everything else goes
to the framework. A caller sees the same either way: the same headers, log lines, metrics and problems, all of them from
`app.api.middleware`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.body import SMALL_BYTES, BodyLimit, content_encoding, inflate, read_body
from app.exchange import Exchange
from app.payloads.sizes import FindLargest
from app.process.http.extensions import AT_ONCE, AtOnce
from app.process.http.refusals import Admission
from app.process.lifecycle import Lifecycle
from app.serving.service import Service

Header = tuple[bytes, bytes]


def by_name(headers: Sequence[Header]) -> dict[bytes, bytes]:
    """Returns headers by name; a name that comes several times has its values as one list (RFC 9110, section 5.3).

    Goes through the headers twice at most: another server than ours may let thousands of them through.
    """
    named = dict(headers)
    if len(named) == len(headers):
        return named
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    return {name: b", ".join(all_of_name) for name, all_of_name in values.items()}


class Request:
    """One HTTP request to a direct route.

    Args:
        scope: The request's ASGI scope.
        receive: The request's ASGI `receive`.
        exchange: What becomes of the request.
        headers: The request's headers `by_name`.
        service: The service, which bounds the body.

    Attributes:
        body: The whole body, once it is read.
        server: What our own server offers beyond ASGI; None under other servers.
    """

    __slots__ = ("_service", "body", "exchange", "headers", "receive", "scope", "server")

    def __init__(
        self, scope: Scope, receive: Receive, exchange: Exchange, headers: Mapping[bytes, bytes], service: Service
    ) -> None:
        self.scope = scope
        self.exchange = exchange
        self.headers = headers
        self.body = b""
        self.receive = receive
        self.server: AtOnce | None = (scope.get("extensions") or {}).get(AT_ONCE)
        self._service = service

    @property
    def size(self) -> int:
        """How many bytes the body has."""
        return len(self.body)

    async def read(self, largest: FindLargest) -> None:
        """Reads the whole body, and undoes its encoding; see `read_body` and `inflate`.

        Args:
            largest: Works out the largest request. A larger body is refused.
        """
        settings = self._service.settings
        limit = BodyLimit(settings.max_body_bytes, largest)
        encoding = content_encoding(self.headers)
        body = None if self.server is None else self.server.take_body()
        if body is not None:
            self.body = body
            limit.check(self.size)
        else:
            room, seconds = self._service.arriving, settings.receive_timeout_seconds
            self.body = await read_body(self.headers, self.receive, limit, room, seconds)
        if encoding is not None and self.body:
            self.body = await self._inflated(encoding, limit)

    async def _inflated(self, encoding: str, limit: BodyLimit) -> bytes:
        """Returns the inflated body. Inflates what becomes large in the side thread."""
        max_bytes = limit.max_bytes
        inflated = inflate(encoding, self.body, min(SMALL_BYTES, max_bytes)) if self.size <= SMALL_BYTES else None
        if inflated is None:
            inflated = await self._service.side.run(partial(inflate, encoding, self.body, max_bytes), self.size)
        if inflated is None:
            raise limit.error("inflated body")
        return inflated


@dataclass(slots=True)
class Answer:
    """What a route answers with: forecasts, another document, or an error.

    Attributes:
        body: The whole body.
        headers: What they say of the body, without its length.
        status: The HTTP status.
    """

    body: bytes
    headers: Sequence[Header] = ()
    status: int = HTTPStatus.OK.value


def route_path(scope: Scope) -> str:
    """Returns the path below the place that the application is published under, or mounted at."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def raw_route_path(scope: Scope) -> str:
    """Returns the same with the percent signs of the request, for a protocol in whose names a slash may stand."""
    raw = scope.get("raw_path")
    path: str = quote(scope["path"]) if raw is None else raw.decode("ascii")
    root: str = scope.get("root_path", "")
    return path.removeprefix(quote(root)) if path.startswith(quote(root)) else path.removeprefix(root)


class Front:
    """The whole application: sends each request to the direct route of its path, or else to the framework.

    Args:
        service: The service behind all routes.
        app: The framework's application.
        routes: Direct routes by their path.
        protocols: Direct routes by the first part of the paths that are theirs, which ends with a slash. Upper and
            lower case are the same there, as they are for TensorFlow Serving.
        admission: Decides by its head whether there is room for a request; asked by our own server.
    """

    def __init__(
        self,
        service: Service,
        app: FastAPI,
        routes: Mapping[str, ASGIApp],
        protocols: Mapping[str, ASGIApp],
        admission: Admission,
    ) -> None:
        self.service = service
        self.app = app
        self.admission = admission
        self._routes = routes
        self._protocols = protocols

    @property
    def lifecycle(self) -> Lifecycle:
        """Where the service stands."""
        return self.service.lifecycle

    def flush(self) -> None:
        """Writes down what happened last."""
        self.service.flush()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the service for the length of a `with` block.

        An application that mounts this one enters it in its own lifespan: frameworks run no lifespan of mounted
        applications.
        """
        async with self.app.router.lifespan_context(self.app):
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        root_path = self.service.settings.root_path
        if root_path and not scope.get("root_path"):  # a server that was not told where a proxy publishes us
            scope = {**scope, "root_path": root_path}
        await self._handler_of(scope)(scope, receive, send)

    def _handler_of(self, scope: Scope) -> ASGIApp:
        if scope["type"] != "http":
            return self.app
        path = route_path(scope)
        if (route := self._routes.get(path)) is not None:
            return route
        for prefix, protocol in self._protocols.items():
            if path[: len(prefix)].lower() == prefix.lower():
                return protocol
        return self.app
