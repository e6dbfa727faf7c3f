"""How answers leave a connection."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

CLOSE = (b"connection", b"close")


def render_head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns the head of an answer as it goes over the wire.

    Raises:
        ValueError: A header holds a line break.
    """
    lines = [b"%s: %s\r\n" % header for header in headers]
    rendered = b"%s%s\r\n" % (STATUS_LINE[status], b"".join(lines))
    if rendered.count(b"\n") != len(lines) + 2:
        raise ValueError("a header holds a line break")
    return rendered


class Answer:
    """Sends head and body of an answer in one write. uvicorn takes two writes, and each is a call to the kernel.

    Args:
        cycle: uvicorn's side of the exchange; it sends every answer that is not a single body of a known length.
    """

    __slots__ = ("_cycle", "_head", "_send")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._send = cycle.send
        self._head: Any = None

    async def send(self, message: Any) -> None:
        """Takes the ASGI messages of the answer."""
        if message["type"] == "http.response.start" and self._head is None:
            self._head = message
            return
        head, self._head = self._head, None
        body = message.get("body", b"")
        is_whole = head is not None and not message.get("more_body")
        if is_whole and self.send_whole(head["status"], head["headers"], body):
            return
        if head is not None:
            await self._send(head)
        await self._send(message)

    def send_whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Sends an answer in one write; see `SEND_WHOLE`.

        Raises:
            ValueError: A header holds a line break.
        """
        cycle = self._cycle
        is_plain = (b"content-length", b"%d" % len(body)) in headers and cycle.scope["method"] != "HEAD"
        if not is_plain or cycle.response_started or (cycle.flow.write_paused and not cycle.disconnected):
            return False
        if not cycle.disconnected:
            cycle.transport.write(self._render(status, headers) + body)
            self._complete()
        return True

    def _render(self, status: int, given: Sequence[tuple[bytes, bytes]]) -> bytes:
        cycle = self._cycle
        headers = [*cycle.default_headers, *given]
        if cycle.waiting_for_100_continue:  # the client was not told to send its body, and may or may not
            cycle.keep_alive = False
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(CLOSE)
        return render_head(status, headers)

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
