"""Clients that do not read their answers."""

import asyncio

from app.process.http.clock import Clock


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
