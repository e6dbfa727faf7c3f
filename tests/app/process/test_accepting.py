"""How clients are accepted, and shared out among workers."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from app.process import accepting
from app.process.accepting import Acceptor, ClientCounts, Connections, Share
from tests.app.in_process import has_come
from tests.logs import captured_logs
from tests.loops import LIMIT_SECONDS, HeldLoop, loop_in_thread
from tests.servers import HOST, connect, is_closed, read_answer, serving
from tests.waiting import wait_until

CLIENTS = 12
ROUNDS = 7


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def test_two_workers_share_out_a_burst_of_clients(folder: Path) -> None:
    def of_the_busier() -> int:
        with ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
            for client in clients:
                client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ids = [read_answer(client).headers["X-Request-ID"] for client in clients]
        return max(Counter(request_id[:20] for request_id in ids).values())  # its first part tells the process

    with serving(folder, workers=2) as server:
        wait_until(lambda: len(server.log("ready")) == 2 and server.metric("windowcast_ready") == 2)
        assert median(of_the_busier() for _ in range(ROUNDS)) <= CLIENTS * 2 / 3


class Guest(asyncio.Protocol):
    """Says hello and stays connected."""

    def __init__(self, connected: Connections) -> None:
        self._connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connected.add(self)
        transport.write(b"hello")

    def connection_lost(self, _: Exception | None) -> None:
        self._connected.discard(self)


@contextmanager
def acceptor(
    loop: HeldLoop, share: Share | None, listener: socket.socket | None = None
) -> Iterator[tuple[int, Connections]]:
    """An acceptor that runs on the loop; its port, and the connections that it has made."""

    async def start() -> Acceptor:
        made = Acceptor([sock], lambda: Guest(connected), connected, share)
        made.start(100)
        return made

    async def stop() -> None:
        await started.stop()
        for guest in connected:
            guest.transport.close()

    connected = Connections()
    sock = listener or socket.socket()
    sock.bind((HOST, 0))
    port = sock.getsockname()[1]
    started = loop.run(start())
    try:
        yield port, connected
    finally:
        loop.run(stop())


def test_a_worker_with_more_clients_leaves_one_to_the_others_and_takes_it_if_they_do_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", LIMIT_SECONDS)
    counts = ClientCounts.create(tmp_path / "clients")
    counts.set(1, 0)  # another worker, which never accepts
    with loop_in_thread() as loop, acceptor(loop, Share(counts, 0)) as (port, connected), ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(connect(port))
        accepted = []
        for _ in range(5):
            loop.advance(0)
            accepted.append(len(connected))
            loop.advance()
        assert accepted == [3, 4, 6, 10, 12]


def test_a_worker_that_has_ended_is_waited_for_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", LIMIT_SECONDS)
    counts = ClientCounts.create(tmp_path / "clients")
    with loop_in_thread() as loop, acceptor(loop, Share(counts, 0)) as (port, connected), ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(connect(port))
        wait_until(lambda: counts.fewest_beside(1) == len(connected) == CLIENTS)
    assert counts.fewest_beside(1) is None


def test_a_worker_that_loses_clients_accepts_again_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", LIMIT_SECONDS)
    counts = ClientCounts.create(tmp_path / "clients")
    counts.set(1, 0)
    with loop_in_thread() as loop, acceptor(loop, Share(counts, 0)) as (port, connected), ExitStack() as stack:
        first, _, _, last = [stack.enter_context(connect(port)) for _ in range(4)]
        loop.advance(0)
        assert (len(connected), has_come(last)) == (3, False)
        first.close()
        assert last.recv(5) == b"hello"


def test_clients_that_wait_when_an_acceptor_stops_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "PAUSE_SECONDS", LIMIT_SECONDS)
    counts = ClientCounts.create(tmp_path / "clients")
    counts.set(1, 0)
    with loop_in_thread() as loop, ExitStack() as stack:
        with acceptor(loop, Share(counts, 0)) as (port, _):
            clients = [stack.enter_context(connect(port)) for _ in range(CLIENTS)]
        assert [client.recv(5) for client in clients] == [b"hello"] * CLIENTS
        assert all(map(is_closed, clients))


class Cramped(socket.socket):
    """A listener of a process that may open no more files, once."""

    accepts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.accepts += 1
        if self.accepts == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_room_for_a_connection_nobody_is_accepted_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepting, "RETRY_SECONDS", LIMIT_SECONDS)
    listener = Cramped()
    with captured_logs() as lines, loop_in_thread() as loop, ExitStack() as stack:
        port, connected = stack.enter_context(acceptor(loop, None, listener))
        client = stack.enter_context(connect(port))
        loop.advance(0)
        assert (listener.accepts, len(connected), has_come(client)) == (1, 0, False)
        loop.advance()
        assert client.recv(5) == b"hello"
    assert [line["event"] for line in lines] == ["no room for connections"]
