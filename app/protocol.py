"""uvicorn's HTTP protocol with bounds that it lacks: on the size of a request's head, and on the time a request takes.

Without them one client can hold memory with endless headers, or connections with headers or a body that trickle in.
"""

import asyncio

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Longest request line and headers together."""

HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


LAST_REQUEST_SECONDS = 0.5
"""What a client on an idle connection has left for a request that it may have sent already, when the server stops."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is too long (431) or too slow (408), or whose body outstays its answer.

    The lifespan's state tells how slow that is: the longest time from the connection, or from the first byte of a
    further request on it, to the end of the head; and from an early answer to the end of the body.
    """

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _is_last_request = False
    _upgrade_head: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock: a client that connects must say something."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        self._stop_timer()
        self._stop_rest_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A further request starts on the connection."""
        super().on_message_begin()
        self._head_bytes = 0
        if self._head_timer is None:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Counts what comes before the head is complete; even blank lines between two requests start the clock."""
        if self._head_timer is None and self._is_between_requests():
            self._start_timer()
        if self._head_timer is not None:
            self._head_bytes += len(data)
        self._parse(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._close_with(HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is complete, perhaps with a single read; the body has limits of its own."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrade_head = self._head_without_upgrade()
            return
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._close_with(HEAD_TOO_LARGE)
        if not self.transport.is_closing():
            super().on_headers_complete()
            if self._is_last_request:
                self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Hands the body on, unless its head was refused."""
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is complete, be it read or passed over."""
        self._stop_rest_timer()
        if self._upgrade_head is None and not self.transport.is_closing():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Gives a client that was answered before its body had ended, as in a 413, some time to send the rest."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            seconds = self.app_state["receive_timeout_seconds"]
            self._rest_timer = self.loop.call_later(seconds, self.transport.close)

    def _parse(self, data: bytes) -> None:
        """Parses; a head that offers an upgrade (`curl --http2`) is parsed once more without it, as RFC 9110 allows.

        The parser takes such a head for a whole message and stops behind it, so that its body would be lost.
        """
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        try:
            while rest:
                rest = self._parse_until_upgrade(rest)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _parse_until_upgrade(self, data: memoryview) -> memoryview:
        """Returns what is still to be parsed."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            if self._upgrade_head is not None:
                head, self._upgrade_head = self._upgrade_head, None
                self.parser.feed_data(head)
                return data[stop.args[0] :]
        return data[:0]

    def _head_without_upgrade(self) -> bytes:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        lines += [name + b": " + value for name, value in self.headers if name.lower() != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def shutdown(self) -> None:
        """The server stops: an idle connection may bring one last request, which may be on its way."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self._is_last_request = True
            self.loop.call_later(LAST_REQUEST_SECONDS, super().shutdown)

    def _is_between_requests(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and not self.cycle.more_body

    def _stop_rest_timer(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _start_timer(self) -> None:
        seconds = self.app_state["receive_timeout_seconds"]
        self._head_timer = self.loop.call_later(seconds, self._close_with, REQUEST_TIMEOUT)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_with(self, answer: bytes) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
