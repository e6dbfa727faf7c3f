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
        if head is None or message.get("more_body") or not self._is_plain(head, body):
            if head is not None:
                await self._send(head)
            await self._send(message)
            return
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if not cycle.disconnected:
            cycle.transport.write(self._render(head) + body)
            self._complete()

    def _is_plain(self, head: Any, body: bytes) -> bool:
        """Whether the answer is one body of the length in its head."""
        length = (b"content-length", b"%d" % len(body))
        return self._cycle.scope["method"] != "HEAD" and length in head["headers"]

    def _render(self, head: Any) -> bytes:
        cycle = self._cycle
        headers = [*cycle.default_headers, *head["headers"]]
        if cycle.waiting_for_100_continue:  # the client was not told to send its body, and may or may not
            cycle.keep_alive = False
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(CLOSE)
        return render_head(head["status"], headers)

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
