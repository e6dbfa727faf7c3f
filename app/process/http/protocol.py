"""uvicorn's HTTP protocol with bounds on the size of a request's head, and on the time that a request takes.

Without the bounds one client can fill the memory with endless headers, or hold connections by sending very slowly.
"""

import asyncio
import urllib.parse
from functools import lru_cache
from typing import Any, cast

import httptools

from app.process.http.clock import Clock
from app.process.http.connections import PROBES, RESERVED, RESERVED_SECONDS
from app.process.http.cycle import Cycle
from app.process.http.heads import (
    HEAD_TOO_LARGE,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    REQUEST_TIMEOUT,
    TOO_MANY_CONNECTIONS,
    answer_to_faulty,
    answer_to_garbage,
    expects_100_continue,
    head_size,
)
from app.process.http.readers import ReaderWatch
from app.process.http.refusals import Admission, Refusal, SharedState
from app.process.http.upgrades import UpgradelessProtocol
from app.telemetry.metrics import CONNECTIONS

CLIENT_HAS_LEFT = "the client has left"
"""The message with which the server cancels a request whose client has left."""

MAX_OTHER_BYTES = 64 * 1024
"""Most bytes of a message behind its head that are not body: sizes of chunks, their extensions, and trailers. Each byte
of the body allows for `OTHER_BYTES_PER_BYTE` more, as a client may send a body in many small chunks."""

OTHER_BYTES_PER_BYTE = 8

MAX_PIPELINED = 64
"""Most requests of one connection that wait for the answer to an earlier request. Then no more is read."""

SMALL_BODY_BYTES = 256 * 1024
"""Part of a body that the application learns of read by read, so that it can refuse a body at once."""

MAX_UNREAD_BYTES = 2 * 2**20
"""Most of a body that waits for the application. Then no more is read."""

KNOWN_URLS = 256
"""How many different URLs are remembered with their parts: most requests have the same URL."""

MAX_KNOWN_URL_BYTES = 256
"""Longest URL that is remembered."""

CROWD = 64
"""With that many requests under way it is worth asking whether there is room for another."""

LAST_REQUEST_SECONDS = 0.5
"""How long an idle connection stays open when the server stops. Its client may have sent a request already."""


def _parse_url(url: bytes) -> tuple[bytes, str, bytes]:
    """Returns the path of a URL as it came, the path without percent signs, and the query.

    Raises:
        httptools.HttpParserInvalidURLError: It is no URL.
    """
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return parsed.path, urllib.parse.unquote(path) if "%" in path else path, parsed.query or b""


_short_url = lru_cache(KNOWN_URLS)(_parse_url)


class BoundedProtocol(UpgradelessProtocol):
    """Closes a connection whose client is too slow, or asks for too much.

    - A head of more than `MAX_HEAD_BYTES` or `MAX_HEADERS` is answered with 431, a head that is too slow with 408.
    - A head that breaks the rules of HTTP is answered as `app.process.http.heads` says.
    - Trailers, and other bytes of a message that are not body, are bounded. Nobody reads trailers.
    - A body that goes on long after its answer ends the connection.
    - So does a client that reads nothing of its answers, or sends nothing on an idle connection.
    - More than `MAX_PIPELINED` requests ahead are not read, and none is begun before the last answer is nearly read.
    - Unread answers are bounded for all connections in common; see `app.process.http.readers`.
    - Beyond the config's `max_connections`, probes alone are answered.

    The config's `receive_timeout_seconds` bounds the time from the connection, or from the first byte of a further
    request, to the end of the head; from an early answer to the end of the body; and between two reads of the client.
    Nothing is ever written before the answer to an earlier request.

    Where many requests are under way, and the application has an `admission`, the application may refuse a request by
    its head; see `app.process.http.refusals`.
    """

    server_state: SharedState
    cycle: Cycle
    _admission: Admission | None = None
    _is_new = True
    """Whether no head was complete yet."""
    _is_in_head = True
    _refusal: bytes | None = None
    """An answer that is held back."""
    _is_passing_over = False
    """Whether the body of a refused request is being read."""
    _is_deaf = False
    """Whether all further bytes are ignored."""
    _read_bytes = 0
    """Bytes of the last read."""
    _first_bytes = 0
    """Bytes of the read in which the head began. Some may belong to an earlier request."""
    _head_bytes = 0
    """Bytes of the head in later reads."""
    _message_bytes = 0
    """Bytes since the end of the last head, body included, or a few less."""
    _body_bytes = 0
    _is_last_request = False
    _task: asyncio.Task[None] | None = None
    _running: Cycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the clock: a client that connects must say something."""
        super().connection_made(transport)
        self._patience_seconds: float = self.config.receive_timeout_seconds  # type: ignore[attr-defined]
        self._clock = Clock(self.loop)
        self._reader = ReaderWatch(transport, self.loop, self._patience_seconds)
        self._admission = getattr(self.app, "admission", None)
        CONNECTIONS.inc()
        surplus = len(self.connections) - self.config.max_connections  # type: ignore[attr-defined]
        self._is_surplus = surplus > 0
        if surplus > RESERVED:
            self._turn_away()
        else:
            self._await_head()

    def _turn_away(self) -> None:
        self.server_state.refused_connections.add()
        self._refuse(TOO_MANY_CONNECTIONS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks, and the work on answers that nobody will read."""
        CONNECTIONS.dec()
        self._clock.close()
        self._reader.close()
        self.server_state.unread.discard(self.transport)
        self.pipeline.clear()
        if self._running is not None and self._task is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._task.cancel(CLIENT_HAS_LEFT)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A further request starts. An error spares the parser the rest of a read that nobody answers."""
        if self._is_over():
            raise ConnectionAbortedError
        self.url = b""
        self.headers = []
        self._first_bytes = self._read_bytes
        self._head_bytes = self._message_bytes = self._body_bytes = 0
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header. Ignores a trailer, and headers beyond the number that is answered at all."""
        if self._is_in_head and len(self.headers) <= MAX_HEADERS:
            self.headers.append((name.lower(), value))

    def data_received(self, data: bytes) -> None:
        """Counts the bytes before the head is complete. Even blank lines between two requests start the clock.

        A head that comes in one piece needs no clock.
        """
        if self._is_deaf:
            return
        begins = not self._is_in_head and self._is_idle()
        self._is_in_head = self._is_in_head or begins
        if self._is_in_head:
            self._head_bytes += len(data)
        else:
            self._message_bytes += len(data)
        self._read_bytes = len(data)
        self._parse(data)
        if self._is_over():
            return
        if self._is_in_head:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HEAD_TOO_LARGE)
            elif begins or not self._clock.is_running:
                self._await_head()
        elif self._message_bytes - self._body_bytes > MAX_OTHER_BYTES + OTHER_BYTES_PER_BYTE * self._body_bytes:
            self._refuse(HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is complete. The body has limits of its own."""
        if self.sets_upgrade_aside():
            return
        self._is_in_head = False
        self._clock.stop()
        if self._is_over():
            return
        version = self.parser.get_http_version()
        faulty = answer_to_faulty(version, self.headers)
        may_be_long = self._first_bytes + self._head_bytes > MAX_HEAD_BYTES
        if faulty is None and may_be_long and head_size(self.url, self.headers) > MAX_HEAD_BYTES:
            faulty = HEAD_TOO_LARGE
        if faulty is not None:
            self._refuse(faulty)
            return
        self._is_new = False
        if self._is_surplus and self.url.partition(b"?")[0] not in PROBES:
            self._turn_away()
            return
        refusal = self._find_refusal()
        self.send_refusal()  # of an earlier request
        if refusal is not None:
            self._hold_refusal(refusal)
        else:
            self._begin_cycle(version)

    def _begin_cycle(self, version: str) -> None:
        """Has the application answer the request, or puts it behind an earlier one."""
        keeps_alive = version == "1.1" and self.parser.should_keep_alive()
        is_last = self._is_surplus or self._is_last_request or len(self.pipeline) >= MAX_PIPELINED - 1
        before, self.cycle = (
            self.cycle,
            Cycle(
                scope=self._make_scope(version),
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=self.access_log,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=expects_100_continue(self.headers),
                keep_alive=keeps_alive and not is_last,
                on_response=self.on_response_complete,
            ),
        )
        self.cycle.offer()
        if (before is None or before.response_complete) and not self.flow.write_paused:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _make_scope(self, version: str) -> Any:
        """Returns the ASGI scope of the request whose head is here, as uvicorn makes it."""
        raw_path, path, query = (_short_url if len(self.url) <= MAX_KNOWN_URL_BYTES else _parse_url)(self.url)
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "method": self.parser.get_method().decode("ascii"),
            "root_path": self.root_path,
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
        }

    def on_body(self, body: bytes) -> None:
        """Keeps a part of the body for the application, unless its head was refused.

        For a large body the application is woken for pieces of growing size, and for the end. uvicorn wakes it for
        every read of the socket, and stops reading at 64 KiB, which takes longer than the reads.
        """
        self._body_bytes += len(body)
        cycle = self.cycle
        if self._is_passing_over or self._is_over() or cycle.response_complete:
            return
        cycle.body += body
        unread = len(cycle.body)
        received = self._body_bytes - unread
        if received < SMALL_BODY_BYTES or unread > min(received, MAX_UNREAD_BYTES):
            cycle.message_event.set()
        if unread > MAX_UNREAD_BYTES:  # the application is awake, and goes on reading when it has taken them
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The body is complete, read or ignored."""
        if self.is_set_aside or self._is_over():
            return
        if self._is_passing_over:
            self._is_passing_over = False
            if self._refusal is None:
                self._await_more()
            return
        super().on_message_complete()
        if len(self.cycle.body) == self._body_bytes:  # nobody has begun to receive it
            self.cycle.is_here = True
        if self.cycle.response_complete:  # it was answered before its body had come
            self.cycle.more_body = False
            self._await_more()
        elif not self.pipeline:
            self.flow.resume_reading()  # else nobody would notice that the client leaves
        self._is_deaf = len(self.pipeline) >= MAX_PIPELINED

    def on_response_complete(self) -> None:
        """Starts the next request if it is here already, or waits for it.

        A client that was answered before the end of its body, as with 413, gets some time to send the rest.
        """
        self.server_state.total_requests += 1
        self._reader.note_answer()
        if self._running is not None:
            self._running.withdraw()
        if self.transport.is_closing():
            return
        self._begin_waiting()
        if self.cycle.response_complete and not self._is_in_head:
            self._await_more()

    def _begin_waiting(self) -> None:
        """Starts the request that has waited longest, unless the client must first read."""
        if self.pipeline and not self.flow.write_paused:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cast("Cycle", cycle), app)
        if not self.pipeline:
            self.flow.resume_reading()

    def _await_more(self) -> None:
        """Waits for the rest of a body whose answer is out, or for another request."""
        is_open = self._is_passing_over or (self.cycle is not None and self.cycle.more_body)
        self._clock.set(self._patience_seconds if is_open else self.timeout_keep_alive, self.transport.close)

    def _find_refusal(self) -> Refusal | None:
        """Asks the application for a refusal of the request whose head is here, while many requests are under way.

        A request behind another, the last of a connection, or of a client that does not read, goes to the application.
        """
        admission = self._admission
        if admission is None or not (admission.is_crowded or len(self.tasks) >= CROWD):
            return None
        is_alone = self._refusal is None and (self.cycle is None or self.cycle.response_complete)
        is_last = self._is_last_request or not self.parser.should_keep_alive()
        if not is_alone or is_last or expects_100_continue(self.headers) or self.flow.write_paused:
            return None
        return admission.refusal_of(self.parser.get_method(), self.url)

    def _hold_refusal(self, refusal: Refusal) -> None:
        """Holds the refusal back, and passes over the body."""
        self._refusal = refusal.answer(self.headers)
        self._is_passing_over = True
        self.flow.pause_reading()
        self.server_state.refusals.add(self, refusal)

    def send_refusal(self) -> None:
        """Sends the answer that was held back, if there is one, and goes on reading."""
        answer, self._refusal = self._refusal, None
        if answer is None or self.transport.is_closing():
            return
        self.server_state.total_requests += 1
        self.transport.write(answer)
        self._reader.note_answer()
        self.flow.resume_reading()
        if not self._is_in_head:
            self._await_more()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._reader.begin()
        self.server_state.unread.add(self.transport)

    def resume_writing(self) -> None:
        """The client has read nearly all of its answer."""
        super().resume_writing()
        self.server_state.unread.discard(self.transport)
        is_answering = self._running is not None and not self._running.response_complete
        if self.pipeline and not is_answering and not self.transport.is_closing():
            self._begin_waiting()

    def _start_asgi_task(self, cycle: Cycle, app: Any) -> None:  # type: ignore[override]  # all cycles are ours
        """Starts the task as uvicorn does, and remembers it."""
        self._running = cycle
        self._task = task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _parse(self, data: bytes) -> None:
        try:
            self.parse(data)
        except httptools.HttpParserError:
            self._refuse(answer_to_garbage(self.parser.get_http_version()))

    def shutdown(self) -> None:
        """The server stops. An idle connection may bring one last request, which may be on its way."""
        if self.cycle is not None and not self.cycle.response_complete:
            super().shutdown()
        else:
            self._is_last_request = True
            self.loop.call_later(LAST_REQUEST_SECONDS, super().shutdown)

    def _is_idle(self) -> bool:
        """Whether a request could begin: the last request was answered, and its body has come."""
        if self._is_new or self._is_passing_over or self._refusal is not None:
            return False
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def _is_over(self) -> bool:
        return self._is_deaf or self.transport.is_closing()

    def _can_be_answered(self) -> bool:
        """Whether the last request came as a whole, or waits behind a request that came as a whole."""
        return self._running is not self.cycle or not self.cycle.more_body

    def _await_head(self) -> None:
        seconds = RESERVED_SECONDS if self._is_surplus else self._patience_seconds
        self._clock.set(seconds, lambda: self._refuse(REQUEST_TIMEOUT))

    def _refuse(self, answer: bytes) -> None:
        """Ends the connection with an answer, or after the answer to an earlier request that is still open."""
        self.send_refusal()
        self._clock.stop()
        self._is_deaf = True
        if self.cycle is not None and not self.cycle.response_complete and self._can_be_answered():
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            self.transport.write(answer)
            self._reader.note_answer()
            self.transport.close()
