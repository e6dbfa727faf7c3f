"""uvicorn's HTTP protocol with bounds that it lacks: on the size of a request's head, and on the time a request takes.

Without them one client can hold memory with endless headers, or connections with headers or a body that trickle in.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.body import BODY_IS_HERE

MAX_HEAD_BYTES = 64 * 1024
"""Longest request line and headers together."""

HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


CLOSE = (b"connection", b"close")

LAST_REQUEST_SECONDS = 0.5
"""What a client on an idle connection has left for a request that it may have sent already, when the server stops."""


class Answer:
    """Sends head and body of an answer in one write where uvicorn takes two, each of which is a call to the kernel.

    Args:
        cycle: uvicorn's side of the exchange; it sends whatever is not a single body of a known length.
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
        """Whether the answer is a body of the length that its head says."""
        length = (b"content-length", b"%d" % len(body))
        return self._cycle.scope["method"] != "HEAD" and length in head["headers"]

    def _render(self, head: Any) -> bytes:
        cycle = self._cycle
        headers = [*cycle.default_headers, *head["headers"]]
        if CLOSE in headers:
            cycle.keep_alive = False
        elif not cycle.keep_alive:
            headers.append(CLOSE)
        lines = [b"%s: %s\r\n" % header for header in headers]
        rendered = b"%s%s\r\n" % (STATUS_LINE[head["status"]], b"".join(lines))
        if rendered.count(b"\n") != len(lines) + 2:
            raise ValueError("a header holds a line break")
        return rendered

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is too long (431) or too slow (408), or whose body outstays its answer.

    The lifespan's state tells how slow that is: the longest time from the connection, or from the first byte of a
    further request on it, to the end of the head; and from an early answer to the end of the body.
    """

    _is_in_head = True
    _head_bytes = 0
    _read_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _is_last_request = False
    _upgrade_head: bytes | None = None
    _task: asyncio.Task[None] | None = None
    _idle_since = 0.0
    _idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock: a client that connects must say something."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks, and the work on an answer that nobody will read."""
        self._stop_timer()
        self._stop_rest_timer()
        if self._task is not None and not self.cycle.response_complete:
            self._task.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A further request starts on the connection."""
        super().on_message_begin()
        self._head_bytes = 0
        self._is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Counts what comes before the head is complete; even blank lines between two requests start the clock.

        A head that comes in one piece needs no clock, and there is none to stop.
        """
        self._is_in_head = self._is_in_head or self._is_between_requests()
        if self._is_in_head:
            self._head_bytes += len(data)
        self._read_bytes = self._head_bytes
        self._parse(data)
        if self._is_in_head and not self.transport.is_closing():
            if self._head_bytes > MAX_HEAD_BYTES:
                self._close_with(HEAD_TOO_LARGE)
            elif self._head_timer is None:
                self._start_timer()

    def on_headers_complete(self) -> None:
        """The head is complete, perhaps with a single read; the body has limits of its own."""
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrade_head = self._head_without_upgrade()
            return
        self._is_in_head = False
        self._stop_timer()
        if self._read_bytes > MAX_HEAD_BYTES and self._head_size() > MAX_HEAD_BYTES:
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
            self.scope["state"][BODY_IS_HERE] = True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Starts the next request, if it is here already, or the wait for it.

        A client that was answered before its body had ended, as in a 413, gets some time to send the rest.
        """
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self.cycle.more_body:
            seconds = self.app_state["receive_timeout_seconds"]
            self._rest_timer = self.loop.call_later(seconds, self.transport.close)
        else:
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._check_idle()

    def _check_idle(self) -> None:
        """Closes a connection that has been idle for too long; one timer sees to many requests on it."""
        self._idle_timer = None
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if not self._is_between_requests() or self.transport.is_closing():
            return
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._check_idle)
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """As uvicorn does, but remembers the task, and has the answer sent in one write."""
        cycle.send = Answer(cycle).send  # type: ignore[method-assign]
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _parse(self, data: bytes) -> None:
        """Parses; a head that offers an upgrade (`curl --http2`) is parsed once more without it, as RFC 9110 allows.

        The parser takes such a head for a whole message and stops behind it, so that its body would be lost.
        """
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                self._parse_again(memoryview(data)[stop.args[0] :])
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def _parse_again(self, rest: memoryview) -> None:
        """Parses the head without its upgrade, and what came behind it, which may hold another such head."""
        while self._upgrade_head is not None:
            head, self._upgrade_head = self._upgrade_head, None
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]

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

    def _head_size(self) -> int:
        """Without what came of the body in the same read."""
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

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
