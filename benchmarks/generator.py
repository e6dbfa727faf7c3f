"""A load generator for what wrk cannot do: requests at times fixed beforehand, and a mix of them up to a count.

It sends bytes prepared beforehand over keep-alive connections, one request at a time on each, and runs in a process of
its own. Every latency counts from when a request was due, so one that had to wait to be sent is not flattered.
"""

import asyncio
import itertools
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from threading import Thread
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.dialects import Request
from benchmarks.processes import HOST

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSING = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
HEAD_END = b"\r\n\r\n"
BROKEN = 0
"""Stands for the status of a request whose connection broke."""
PATIENCE_SECONDS = 5.0
"""How long the last answers are waited for."""
POLL_SECONDS = 0.05
FIRST_CONNECTIONS = 256
"""Open before the first request of a schedule; more are opened when they are needed."""
LEAD_SECONDS = 0.2
"""From the start of the schedule's thread to the first request."""
SWITCH_SECONDS = 0.0005
"""Longest time that the schedule's thread waits for the event loop's to hand over; Python's default is ten times it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the requests; one entry each in the order of their answers.

    Attributes:
        kinds: Which of the given requests it was.
        statuses: HTTP status, or `BROKEN`.
        lateness: Seconds from when it was due to when the generator took it up, to send it or to connect first.
        latencies: Seconds from when it was due to the last byte of its answer.
        seconds: How long it took to take up all requests.
        unsent: Requests that found no connection when they were due.
        unanswered: Requests without an answer at the end.
        processor_share: How busy the generator itself was: near 1 it measures itself.
    """

    kinds: NDArray[np.int64]
    statuses: NDArray[np.int64]
    lateness: NDArray[np.float64]
    latencies: NDArray[np.float64]
    seconds: float
    unsent: int
    unanswered: int
    processor_share: float


def encode(request: Request, method: str = "POST", headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """A whole request as it goes over the wire, with further headers."""
    further = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"{method} {request.path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {request.content_type}\r\n"
        f"Accept: {request.accept}\r\n{further}Content-Length: {len(request.body)}\r\n\r\n"
    )
    return head.encode("ascii") + request.body


def send_closed(
    port: int, requests: Sequence[bytes], connections: int, *, seconds: float, count: int | None = None
) -> Outcome:
    """Sends requests in turn, the next on a connection as soon as the answer is there.

    Args:
        port: Where the server listens.
        requests: What is sent.
        connections: How many requests are under way at once.
        seconds: When to stop.
        count: How many to send at most.
    """
    return _elsewhere(_closed, port, tuple(requests), connections, seconds, count)


def send_open(port: int, requests: Sequence[bytes], rate: float, *, seconds: float, connections: int) -> Outcome:
    """Sends requests at random times, as independent users do, whatever becomes of the earlier ones.

    Args:
        port: Where the server listens.
        requests: What is sent.
        rate: Requests per second on average; the times between them are exponentially distributed.
        seconds: For how long.
        connections: Most that are open at once.
    """
    return _elsewhere(_open, port, tuple(requests), rate, seconds, connections)


def _elsewhere(send: Callable[..., Coroutine[Any, Any, Outcome]], *arguments: object) -> Outcome:
    """Runs it in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_run, send, *arguments).result()


def _run(send: Callable[..., Coroutine[Any, Any, Outcome]], *arguments: object) -> Outcome:
    return uvloop.run(send(*arguments))


class _Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, traffic: "_Traffic") -> None:
        self._traffic = traffic
        self._transport: asyncio.WriteTransport | None = None
        self._buffer = bytearray()
        self._end: int | None = None
        self._status = BROKEN
        self._is_closing = False
        self._sent: tuple[int, float, float] | None = None  # kind, due, taken up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclass of it

    def send(self, kind: int, request: bytes, due: float, taken_up: float) -> None:
        """Sends a request; the connection is busy until its answer is there."""
        assert self._transport is not None
        self._sent = kind, due, taken_up
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._end is None:
            self._read_head()
        if self._end is not None and len(self._buffer) >= self._end:  # nothing is sent ahead, so nothing follows
            self._buffer.clear()
            self._end = None
            self._report(self._status)
            if self._is_closing:
                self.close()
            else:
                self._traffic.free(self)

    def _read_head(self) -> None:
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return
        length = CONTENT_LENGTH.search(self._buffer, 0, end)
        self._status = int(self._buffer[9:12])  # HTTP/1.1 200
        self._is_closing = CLOSING.search(self._buffer, 0, end) is not None
        self._end = end + len(HEAD_END) + (int(length[1]) if length else 0)

    def connection_lost(self, _: Exception | None) -> None:
        if self._sent is not None:
            self._report(BROKEN)
        self._traffic.lose(self)

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def _report(self, status: int) -> None:
        assert self._sent is not None
        self._traffic.note(*self._sent, time.perf_counter(), status)
        self._sent = None


class _Traffic:
    """Connections and what was answered on them; the two ways to send differ in what a free connection does."""

    def __init__(self, port: int, requests: Sequence[bytes], most_connections: int) -> None:
        self._port = port
        self._requests: Iterator[tuple[int, bytes]] = itertools.cycle(enumerate(requests))
        self._most_connections = most_connections
        self._answers: list[tuple[int, float, float, float, int]] = []
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._processor_seconds = time.process_time()
        self.taken_up = 0
        self.unsent = 0

    @property
    def unanswered(self) -> int:
        """Requests under way, or about to be."""
        return self.taken_up - self.unsent - len(self._answers)

    async def connect(self) -> _Connection:
        """Opens a connection."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), HOST, self._port)
        self._open.add(connection)
        return connection

    def in_background(self, opening: Coroutine[Any, Any, None]) -> None:
        """Has a connection opened, and counts it meanwhile."""
        task = asyncio.get_running_loop().create_task(opening)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def start_on(self, connection: _Connection, due: float, taken_up: float) -> None:
        """Sends the next request."""
        connection.send(*next(self._requests), due, taken_up)

    def note(self, kind: int, due: float, taken_up: float, answered: float, status: int) -> None:
        """Keeps what became of a request."""
        self._answers.append((kind, due, taken_up, answered, status))

    def free(self, connection: _Connection) -> None:
        """Told by a connection that it has its answer."""
        raise NotImplementedError

    def lose(self, connection: _Connection) -> None:
        """Told by a connection that it is closed."""
        self._open.discard(connection)

    def end(self) -> None:
        """Closes all connections."""
        for connection in tuple(self._open):
            connection.close()

    def outcome(self, seconds: float, unanswered: int) -> Outcome:
        """Everything that was kept, as columns."""
        kinds, due, taken_up, answered, statuses = np.array(self._answers, np.float64).reshape(-1, 5).T
        return Outcome(
            kinds=kinds.astype(np.int64),
            statuses=statuses.astype(np.int64),
            lateness=taken_up - due,
            latencies=answered - due,
            seconds=seconds,
            unsent=self.unsent,
            unanswered=unanswered,
            processor_share=(time.process_time() - self._processor_seconds) / seconds,
        )


class _ClosedTraffic(_Traffic):
    """A free connection sends at once, until enough was sent."""

    def __init__(self, port: int, requests: Sequence[bytes], connections: int, count: int | None, end: float) -> None:
        super().__init__(port, requests, connections)
        self._count = count
        self._end = end
        self.is_over = asyncio.Event()

    async def begin(self) -> None:
        """Opens all connections and sends on each."""
        for _ in range(self._most_connections):
            self.free(await self.connect())

    def free(self, connection: _Connection) -> None:
        now = time.perf_counter()
        if now < self._end and (self._count is None or self.taken_up < self._count):
            self.taken_up += 1
            self.start_on(connection, now, now)
        elif not self.unanswered:
            self.is_over.set()

    def lose(self, connection: _Connection) -> None:
        super().lose(connection)
        if not self.is_over.is_set():
            self.in_background(self._replace())

    async def _replace(self) -> None:
        self.free(await self.connect())


class _OpenTraffic(_Traffic):
    """A free connection waits for the next request that is due."""

    def __init__(self, port: int, requests: Sequence[bytes], most_connections: int) -> None:
        super().__init__(port, requests, most_connections)
        self._idle: list[_Connection] = []
        self.last_taken_up = 0.0

    async def begin(self) -> None:
        """Opens some connections."""
        for _ in range(min(FIRST_CONNECTIONS, self._most_connections)):
            self._idle.append(await self.connect())

    def is_due(self, due: float) -> None:
        """Sends a request now, on another connection if all are busy."""
        self.taken_up += 1
        self.last_taken_up = now = time.perf_counter()
        if self._idle:
            self.start_on(self._idle.pop(), due, now)
        elif len(self._open) + len(self._opening) < self._most_connections:
            self.in_background(self._start_on_new(due, now))
        else:
            self.unsent += 1

    async def _start_on_new(self, due: float, taken_up: float) -> None:
        try:
            connection = await self.connect()
        except OSError:
            self.unsent += 1
        else:
            self.start_on(connection, due, taken_up)

    def free(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def lose(self, connection: _Connection) -> None:
        super().lose(connection)
        if connection in self._idle:
            self._idle.remove(connection)


async def _closed(port: int, requests: Sequence[bytes], connections: int, seconds: float, count: int | None) -> Outcome:
    started = time.perf_counter()
    traffic = _ClosedTraffic(port, requests, connections, count, started + seconds)
    await traffic.begin()
    await asyncio.wait_for(traffic.is_over.wait(), seconds + PATIENCE_SECONDS)
    taken = time.perf_counter() - started
    traffic.end()
    return traffic.outcome(taken, traffic.unanswered)


async def _open(port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int) -> Outcome:
    sys.setswitchinterval(SWITCH_SECONDS)
    traffic = _OpenTraffic(port, requests, connections)
    await traffic.begin()
    due_times = np.cumsum(np.random.default_rng(0).exponential(size=max(1, round(rate * seconds))))
    due_times *= seconds / due_times[-1]  # so that the rate is exact
    start = time.perf_counter() + LEAD_SECONDS
    due_times += start
    loop = asyncio.get_running_loop()
    # The event loop's own timers tick once a millisecond, which is too coarse.
    clock = Thread(target=_keep_schedule, args=(loop, due_times.tolist(), traffic.is_due), daemon=True)
    clock.start()
    end = float(due_times[-1]) + PATIENCE_SECONDS
    # An event instead would have to be thought of at every answer.
    while clock.is_alive() or (traffic.unanswered and time.perf_counter() < end):  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    unanswered = traffic.unanswered
    outcome = traffic.outcome(traffic.last_taken_up - start, unanswered)
    traffic.end()
    return outcome


def _keep_schedule(
    loop: asyncio.AbstractEventLoop, due_times: Sequence[float], is_due: Callable[[float], None]
) -> None:
    for due in due_times:
        wait = due - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        loop.call_soon_threadsafe(is_due, due)
