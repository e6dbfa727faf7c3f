"""Requests that are refused by their head alone, at a fraction of the cost of an answer by the application.

A service that is offered more than it can do must refuse most requests. If a refusal cost as much as the way through
the application, the refusals would take the time of the requests that could be answered. So the application is asked
as soon as the head is read, before anything is made for the request, and answers with bytes that are ready.

Refusals leave a moment later, many together, and their connections are not read meanwhile. A client that tries again
at once can ask no more often than once in that moment.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from uvicorn.server import ServerState

from app.process.http.connections import RefusedConnections
from app.process.http.readers import UnreadAnswers

Header = tuple[bytes, bytes]

DELAY_SECONDS = 0.02
"""How long a refusal is held back: long enough to slow down a storm of retries, too short for people to notice."""


class Refusal(Protocol):
    """The answer to requests of one kind, for which there is no room."""

    def answer(self, headers: Sequence[Header]) -> bytes:
        """Returns a whole answer, which leaves the connection open, for a request with these headers."""

    def note(self, seconds: list[float]) -> None:
        """Counts refused requests, given the seconds from the head of each to its answer."""


class Admission(Protocol):
    """Decides by the head of a request whether there is room for it."""

    @property
    def is_crowded(self) -> bool:
        """Whether some requests have found no room lately, so that it is worth asking."""

    def refusal_of(self, method: bytes, target: bytes) -> Refusal | None:
        """Returns the refusal of a request, or None where the application shall handle it."""


class Refused(Protocol):
    """A connection whose request was refused."""

    def send_refusal(self) -> None:
        """Sends the answer that was held back, unless it has left already."""


class HeldRefusals:
    """Refusals that wait for their common departure."""

    def __init__(self) -> None:
        self._held: list[tuple[Refused, Refusal, float]] = []

    def add(self, connection: Refused, refusal: Refusal) -> None:
        """Takes a refusal; must be called on the event loop."""
        loop = asyncio.get_running_loop()
        if not self._held:
            loop.call_later(DELAY_SECONDS, self._send_all)
        self._held.append((connection, refusal, loop.time()))

    def _send_all(self) -> None:
        held, self._held = self._held, []
        seconds: dict[Refusal, list[float]] = {}
        for connection, refusal, since in held:
            connection.send_refusal()
            seconds.setdefault(refusal, []).append(since)
        now = asyncio.get_running_loop().time()
        for refusal, times in seconds.items():
            refusal.note([now - since for since in times])


class SharedState(ServerState):
    """What the connections of a server have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = HeldRefusals()
        self.refused_connections = RefusedConnections()
        self.unread = UnreadAnswers()
