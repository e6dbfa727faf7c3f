"""Requests that are refused by their head alone, over bare sockets, by an application that only decides."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from app.process.http import refusals
from app.process.http.protocol import CROWD, MAX_PIPELINED
from app.process.http.refusals import Header
from tests.app.in_process import has_come, listening
from tests.loops import LIMIT_SECONDS, HeldLoop, loop_in_thread
from tests.servers import connect, is_closed, read_answer
from tests.waiting import wait_until

GET = b"GET /taken HTTP/1.1\r\nHost: localhost\r\n\r\n"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno"


def post(path: bytes, body: bytes = b"", *more: bytes) -> bytes:
    """A request, of whose body only a part may be here."""
    lines = [b"POST %s HTTP/1.1" % path, b"Host: localhost", *more, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class NoRoom:
    """The refusal of everything."""

    def __init__(self) -> None:
        self.refusal = REFUSED
        self.noted: list[list[float]] = []

    def answer(self, headers: Sequence[Header]) -> bytes:
        assert (b"host", b"localhost") in headers
        return self.refusal

    def note(self, seconds: list[float]) -> None:
        self.noted.append(seconds)


class Choosy:
    """An application that has no room for requests whose path begins with `/refused`; it notes the paths of others."""

    def __init__(self, *, is_crowded: bool = True) -> None:
        self.is_crowded = is_crowded
        self.no_room = NoRoom()
        self.asked: list[tuple[bytes, bytes]] = []
        self.paths: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def admission(self) -> "Choosy":
        return self

    def refusal_of(self, method: bytes, target: bytes) -> NoRoom | None:
        self.asked.append((method, target))
        return self.no_room if target.startswith(b"/refused") else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.paths.append(scope["path"])
        await self.gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def loop() -> Iterator[HeldLoop]:
    """What the applications of this module run on."""
    with loop_in_thread() as loop:
        yield loop


def received(sock: Any, size: int) -> bytes:
    """The next bytes of a connection."""
    taken = bytearray()
    while len(taken) < size:
        taken += sock.recv(size - len(taken))
    return bytes(taken)


def bodies(sock: Any, count: int) -> list[bytes]:
    """The bodies of the next answers, of two bytes each."""
    taken = b""
    while taken.count(b"\r\n\r\n") < count or not taken.endswith((b"ok", b"no")):
        piece = sock.recv(65536)
        assert piece, "the connection has ended"
        taken += piece
    return [answer[:2] for answer in taken.split(b"\r\n\r\n")[1:]]


def test_a_refusal_is_held_back_for_a_moment(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        before = loop.run(now())
        sock.sendall(post(b"/refused", b"{}"))
        assert received(sock, len(REFUSED)) == REFUSED
        assert loop.run(now()) >= before + 0.02
        assert app.paths == []


async def now() -> float:
    """The time on the clock of the running loop."""
    return asyncio.get_running_loop().time()


def test_a_refused_body_is_passed_over_and_the_connection_goes_on(loop: HeldLoop) -> None:
    app = Choosy()
    body = b"x" * 500_000
    with listening(app, loop) as port, connect(port) as sock:
        for _ in range(3):
            sock.sendall(post(b"/refused", body))
            assert received(sock, len(REFUSED)) == REFUSED
            sock.sendall(post(b"/taken", body))
            assert read_answer(sock).read() == b"ok"
    assert app.paths == ["/taken"] * 3


def test_a_connection_is_not_read_while_its_refusal_is_held_back(
    loop: HeldLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "DELAY_SECONDS", LIMIT_SECONDS)
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused", b"{}"))
        wait_until(lambda: len(app.asked) == 1)
        sock.sendall(post(b"/refused", b"{}"))
        loop.advance(0)
        assert (len(app.asked), has_come(sock)) == (1, False)
        for asked in (1, 2):
            wait_until(lambda: len(app.asked) == asked)  # noqa: B023 (it is waited for here)
            loop.advance()
            assert received(sock, len(REFUSED)) == REFUSED
    assert app.paths == []


def test_refusals_of_a_moment_leave_and_are_counted_together(loop: HeldLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "DELAY_SECONDS", LIMIT_SECONDS)
    app = Choosy()
    with listening(app, loop) as port, ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(20)]
        for sock in sockets:
            sock.sendall(post(b"/refused"))
        wait_until(lambda: len(app.asked) == 20)
        assert not any(map(has_come, sockets))
        loop.advance()
        for sock in sockets:
            assert received(sock, len(REFUSED)) == REFUSED
    [times] = app.no_room.noted
    assert len(times) == 20
    assert max(times) >= LIMIT_SECONDS


@pytest.mark.parametrize("order", [b"rt", b"rr", b"tr", b"rtr", b"ttrrt"])
def test_requests_that_come_together_are_answered_in_turn(order: bytes, loop: HeldLoop) -> None:
    app = Choosy()
    kinds = {ord("r"): post(b"/refused", b"{}"), ord("t"): post(b"/taken", b"{}")}
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(b"".join(kinds[kind] for kind in order))
        answers = bodies(sock, len(order))
    assert answers[0] == (b"no" if order[0] == ord("r") else b"ok")
    assert len(app.paths) == answers.count(b"ok")
    assert answers.count(b"ok") >= order.count(b"t")  # what waits for another's answer goes to the application


def test_a_request_behind_one_that_is_not_answered_yet_goes_to_the_application(loop: HeldLoop) -> None:
    app = Choosy()
    app.gate.clear()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET)
        wait_until(lambda: app.paths == ["/taken"])
        sock.sendall(post(b"/refused"))
        loop.call_soon_threadsafe(app.gate.set)
        assert bodies(sock, 2) == [b"ok", b"ok"]


def test_a_client_that_does_not_wait_for_its_refusal_goes_to_the_application(loop: HeldLoop) -> None:
    app = Choosy()
    app.gate.clear()  # the application takes what it is given, and no more of one connection than it may
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused") * 1000)
        assert received(sock, len(REFUSED)) == REFUSED
        loop.call_soon_threadsafe(app.gate.set)
        answers = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answers.count(b"HTTP/1.1 200") == len(app.paths) == MAX_PIPELINED + 1
    assert sum(map(len, app.no_room.noted)) == 1


def test_a_client_that_reads_no_refusals_goes_to_the_application(loop: HeldLoop) -> None:
    app = Choosy()
    app.no_room.refusal = long = REFUSED + b" " * 32_000_000  # more than the kernel takes
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused"))
        wait_until(lambda: bool(app.no_room.noted))
        sock.sendall(post(b"/refused"))
        assert received(sock, len(long)) == long
        assert read_answer(sock).read() == b"ok"
        assert app.paths == ["/refused"]


@pytest.mark.parametrize("more", [b"Connection: close", b"Expect: 100-continue"])
def test_the_last_request_of_a_connection_goes_to_the_application(more: bytes, loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused", b"", more))
        answer = sock.recv(65536)
        assert answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 100"))
        wait_until(lambda: app.paths == ["/refused"])


def test_the_rest_of_a_refused_body_has_its_time(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop, keep_alive_seconds=10 * LIMIT_SECONDS) as port, connect(port) as sock:
        sock.sendall(post(b"/refused", b"x" * 1000)[:-10])
        assert received(sock, len(REFUSED)) == REFUSED
        loop.advance(0.9 * LIMIT_SECONDS)
        assert not has_come(sock)
        loop.advance(0.2 * LIMIT_SECONDS)
        assert is_closed(sock)


def test_a_refused_connection_may_be_idle_as_long_as_any(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop, keep_alive_seconds=LIMIT_SECONDS) as port, connect(port) as sock:
        for _ in range(3):
            sock.sendall(post(b"/refused", b"{}"))
            assert received(sock, len(REFUSED)) == REFUSED
            loop.advance(0.9 * LIMIT_SECONDS)
        assert not has_come(sock)
        loop.advance(0.2 * LIMIT_SECONDS)
        assert is_closed(sock)


def test_a_further_head_must_come_in_time(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused", b"{}"))
        assert received(sock, len(REFUSED)) == REFUSED
        sock.sendall(b"POST /ref")
        loop.advance(0)
        loop.advance(1.1 * LIMIT_SECONDS)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_garbage_behind_a_refused_request_does_not_cost_it_its_answer(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused", b"{}") + b"garbage\r\n\r\n")
        assert received(sock, len(REFUSED)) == REFUSED
        assert read_answer(sock).status == 400
        assert is_closed(sock)


def test_a_client_that_leaves_before_its_refusal_disturbs_nobody(loop: HeldLoop) -> None:
    app = Choosy()
    with listening(app, loop) as port, connect(port) as sock:
        with connect(port) as leaving:
            leaving.sendall(post(b"/refused", b"{}"))
        sock.sendall(post(b"/refused", b"{}"))
        assert received(sock, len(REFUSED)) == REFUSED
        wait_until(lambda: sum(map(len, app.no_room.noted)) == 2)


def test_a_quiet_application_is_not_asked(loop: HeldLoop) -> None:
    app = Choosy(is_crowded=False)
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(post(b"/refused"))
        assert read_answer(sock).read() == b"ok"
    assert app.asked == []


def test_an_application_with_many_requests_under_way_is_asked(loop: HeldLoop) -> None:
    app = Choosy(is_crowded=False)
    app.gate.clear()
    with listening(app, loop) as port:
        sockets = [connect(port) for _ in range(CROWD)]
        for sock in sockets:
            sock.sendall(post(b"/refused"))
        wait_until(lambda: len(app.paths) == CROWD)
        with connect(port) as sock:
            sock.sendall(post(b"/refused"))
            assert received(sock, len(REFUSED)) == REFUSED
        loop.call_soon_threadsafe(app.gate.set)
        for sock in sockets:
            assert read_answer(sock).read() == b"ok"
            sock.close()
    assert app.asked == [(b"POST", b"/refused")]
