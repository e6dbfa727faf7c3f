"""Clients that do not read their answers."""

import asyncio

from app.process.http.clock import Clock
from app.telemetry.tally import Tally

MAX_UNREAD_ANSWER_BYTES = 256 * 2**20
"""Most bytes of all answers that wait for their clients. A single answer may have more."""


class UnreadAnswers:
    """Bounds the memory of answers that clients are slow to read.

    Beyond `MAX_UNREAD_ANSWER_BYTES` the connections that have been behind for the longest time are aborted. A client
    that reads at a usual pace is never behind for long, so a few slow clients cannot keep it from its answer.
    """

    def __init__(self) -> None:
        self._sizes: dict[asyncio.Transport, int] = {}
        """The bytes that each connection keeps, the connection that fell behind first in front."""
        self._size = 0
        self._tally = Tally("slow readers dropped")

    def add(self, transport: asyncio.Transport) -> None:
        """Takes a connection whose client has fallen behind; must be called on an event loop."""
        self.discard(transport)
        self._sizes[transport] = size = transport.get_write_buffer_size()
        self._size += size
        while self._size > MAX_UNREAD_ANSWER_BYTES and len(self._sizes) > 1:
            slowest = next(iter(self._sizes))
            self.discard(slowest)
            slowest.abort()
            self._tally.add()

    def discard(self, transport: asyncio.Transport) -> None:
        """Drops a connection that has ended, or whose client has caught up."""
        self._size -= self._sizes.pop(transport, 0)


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
