"""One request and its answer, on a connection."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from app.process.http.extensions import AT_ONCE

CLOSE = (b"connection", b"close")


def render_head(status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Returns the head of an answer as it goes over the wire.

    Raises:
        ValueError: A header holds a line break.
    """
    rendered = STATUS_LINE[status] + b"".join([b"%s: %s\r\n" % header for header in headers]) + b"\r\n"
    if rendered.count(b"\n") != len(headers) + 2:
        raise ValueError("a header holds a line break")
    return rendered


class Cycle(RequestResponseCycle):
    """uvicorn's side of an exchange, which sends head and body of an answer in one write.

    uvicorn takes two writes, and each is a call to the kernel. uvicorn still sends every answer that is not a single
    body of a known length. It is the `AtOnce` of its request.
    """

    is_here = False
    """Whether all of the body is here, and nobody has received any of it."""
    _head: Any = None
    """The head of an answer whose body is not here yet."""

    def offer(self) -> None:
        """Offers itself to the application."""
        self.scope["extensions"] = {AT_ONCE: self}  # type: ignore[dict-item]  # an object, where ASGI has dictionaries

    def withdraw(self) -> None:
        """Takes the offer back: the request is over. A circle of references would wait for the collector."""
        self.scope.pop("extensions", None)

    def take_body(self) -> bytes | None:
        """Returns the whole body; see `AtOnce`."""
        if not self.is_here:
            return None
        self.is_here = False
        body, self.body = bytes(self.body), bytearray()
        return body

    async def send(self, message: Any) -> None:
        """Takes the ASGI messages of the answer."""
        if message["type"] == "http.response.start" and self._head is None:
            self._head = message
            return
        head, self._head = self._head, None
        body = message.get("body", b"")
        if head is not None:
            length = (b"content-length", b"%d" % len(body))
            is_whole = length in head["headers"] and not message.get("more_body")
            others = [header for header in head["headers"] if header != length]
            if is_whole and self.send_whole(head["status"], others, body):
                return
            await super().send(head)
        await super().send(message)

    def send_whole(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bool:
        """Sends an answer in one write; see `AtOnce`.

        Raises:
            ValueError: A header holds a line break.
        """
        is_held_up = self.flow.write_paused and not self.disconnected
        if is_held_up or self.response_started or self.scope["method"] == "HEAD":
            return False
        if not self.disconnected:
            self.transport.write(self._render(status, headers, len(body)) + body)
            self._complete()
        return True

    def _render(self, status: int, given: Sequence[tuple[bytes, bytes]], length: int) -> bytes:
        headers = [*self.default_headers, *given, (b"content-length", b"%d" % length)]
        if self.waiting_for_100_continue:  # the client was not told to send its body, and may or may not
            self.keep_alive = False
        if CLOSE in given:
            self.keep_alive = False
        elif not self.keep_alive:
            headers.append(CLOSE)
        return render_head(status, headers)

    def _complete(self) -> None:
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
