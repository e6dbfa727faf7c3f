"""Clients that do not read their answers."""

import asyncio

from app.process.http.clock import Clock
from app.telemetry.tally import Tally

MAX_ANSWER_BYTES = 2**29
"""Most bytes of answers that wait for clients, of all connections: six of the largest."""


class UnreadAnswers:
    """Bounds the bytes of answers that wait for clients, whose connections are many.

    Beyond the bound, the connection that has waited longest is aborted. A client that reads is done before.
    """

    def __init__(self) -> None:
        self._sizes: dict[asyncio.Transport, int] = {}
        self._bytes = 0
        self._tally = Tally("unread answers dropped", remedy="have the clients read faster, or ask for less at once")

    def add(self, transport: asyncio.Transport, size: int) -> None:
        """Counts bytes that wait for the client of a connection; must be called on an event loop."""
        self._sizes[transport] = self._sizes.get(transport, 0) + size
        self._bytes += size
        while self._bytes > MAX_ANSWER_BYTES and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self.forget(oldest)
            oldest.abort()
            self._tally.add()

    def forget(self, transport: asyncio.Transport) -> None:
        """Counts a connection out: its client has read, or has left."""
        self._bytes -= self._sizes.pop(transport, 0)


class ReaderWatch:
    """Aborts a connection whose client has read nothing for too long. A close would wait for the client.

    Args:
        transport: The connection.
        loop: The event loop.
        patience_seconds: Longest time between two reads of the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience_seconds: float) -> None:
        self._transport = transport
        self._patience_seconds = patience_seconds
        self._clock = Clock(loop)
        self._answers = 0
        self._last_look = 0, 0
        """Bytes that were to be written, and answers that were complete."""

    def note_answer(self) -> None:
        """Notes that an answer is complete, of which a part may wait for the client."""
        self._answers += 1
        if not self._clock.is_running and self._transport.get_write_buffer_size():
            self.begin()

    def begin(self) -> None:
        """Begins to watch: something waits for the client."""
        self._last_look = self._transport.get_write_buffer_size(), self._answers
        self._clock.set(self._patience_seconds, self._look)

    def close(self) -> None:
        """Ends the watch."""
        self._clock.close()

    def _look(self) -> None:
        bytes_then, answers_then = self._last_look
        bytes_now = self._transport.get_write_buffer_size()
        if bytes_now and bytes_now >= bytes_then and self._answers == answers_then:
            self._transport.abort()
        elif bytes_now:
            self.begin()
