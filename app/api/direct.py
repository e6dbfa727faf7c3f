"""Routes that are answered in front of the web framework, for requests where its own share of the time would count.

They speak ASGI themselves. `Front` finds them by their path; everything else goes to the framework. What a caller sees
is the same either way: the same headers, log lines, metrics and problems, from the same `ExchangeMiddleware`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.body import read_body
from app.errors import MethodNotAllowed
from app.process.protocol import BODY_IS_HERE
from app.settings import Settings

HEADERS = "headers"
"""Key in a scope's state for the request's headers `by_name`."""

DECODING, ENCODING = "decoding_seconds", "encoding_seconds"
"""Keys in a scope's state for the seconds from body to windows, and from forecasts to body."""


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; those that come several times are one list (RFC 9110, section 5.3)."""
    named = dict(headers)
    if len(named) < len(headers):
        named = {name: b", ".join(value for other, value in headers if other == name) for name in named}
    return named


class Request:
    """One request to a direct route."""

    __slots__ = ("_receive", "headers", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.headers: Mapping[bytes, bytes] = scope["state"][HEADERS]
        self._receive = receive

    async def body(self, settings: Settings) -> bytes:
        """The whole body; see `read_body`."""
        return await read_body(
            self.headers,
            self._receive,
            max_bytes=settings.max_body_bytes,
            timeout_seconds=settings.receive_timeout_seconds,
            is_here=self.scope["state"].get(BODY_IS_HERE, False),
        )

    def note(self, stage: str, started: float) -> None:
        """Notes the seconds that a stage, `DECODING` or `ENCODING`, took since `started` by `time.perf_counter`."""
        self.scope["state"][stage] = time.perf_counter() - started


async def send_answer(send: Send, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Sends an answer as a whole.

    Args:
        send: The request's ASGI `send`.
        body: Of the answer.
        headers: What they say of it, but for its length, which is put to them.
    """
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class DirectRoute(ABC):
    """A route that takes POST requests and answers each with one body."""

    path: ClassVar[str]

    @abstractmethod
    async def answer(self, request: Request) -> tuple[bytes, bytes]:
        """Answers a request.

        Returns:
            The body of the answer, and its media type.

        Raises:
            ServiceError: There is a problem to answer instead.
        """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        scope["route"] = self
        if scope["method"] != "POST":
            raise MethodNotAllowed("POST")
        body, media_type = await self.answer(Request(scope, receive))
        await send_answer(send, body, [(b"content-type", media_type)])


class Front:
    """Sends each request to the direct route of its path, to the protocol that has its paths, or else to the framework.

    Args:
        app: The framework's application.
        routes: Direct routes by their whole path.
        protocols: Applications by the first part of the paths that are theirs, which ends with a slash; in whatever
            case, since TensorFlow Serving does not look at it either.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, ASGIApp], protocols: Mapping[str, ASGIApp]) -> None:
        self.app = app
        self.routes = routes
        self.protocols = protocols

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one ASGI connection."""
        path = scope.get("path", "")
        await (self.routes.get(path) or self._protocol_of(path))(scope, receive, send)

    def _protocol_of(self, path: str) -> ASGIApp:
        for prefix, protocol in self.protocols.items():
            if path[: len(prefix)].lower() == prefix.lower():
                return protocol
        return self.app
