"""Heads of requests that are too long or too slow, answers in one write, and idle connections, over bare sockets."""

import asyncio
import gc
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import orjson
import pytest

from app.process.http import readers
from app.process.http.protocol import MAX_PIPELINED, MAX_UNREAD_BYTES, SMALL_BODY_BYTES, BoundedProtocol
from app.process.http.refusals import SharedState
from tests.app.in_process import Application, config_of, has_come, listening, wait_by_the_clock
from tests.loops import LIMIT_SECONDS, HeldLoop, loop_in_thread, run_in_held_loop
from tests.servers import Server, connect, is_closed, read_answer
from tests.waiting import PATIENCE_SECONDS, wait_until

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /livez", GET])
def test_a_head_that_does_not_end_in_time_is_refused(
    sent: bytes, strict_service: Application, strict_port: int
) -> None:
    with connect(strict_port) as sock:
        sock.sendall(sent)
        wait_by_the_clock(sock, strict_service.loop)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_a_head_that_does_not_end_in_half_a_second_is_refused_by_a_service_of_its_own(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(GET)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_a_head_that_trickles_is_refused(strict_service: Application, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(GET)
        for _ in range(3):
            assert not has_come(sock)
            sock.sendall(b"X-A: b\r\n")
            strict_service.loop.advance(0.4 * LIMIT_SECONDS)
        assert read_answer(sock).status == 408


def test_a_second_head_that_does_not_end_in_time_is_refused(strict_service: Application, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(GET + b"\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.read()) == (200, b'{"status":"alive"}')
        sock.sendall(GET)
        wait_by_the_clock(sock, strict_service.loop)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_an_idle_connection_outlives_the_limit_of_a_head(strict_service: Application, strict_port: int) -> None:
    with connect(strict_port) as sock:
        for _ in range(2):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b'{"status":"alive"}')
            strict_service.loop.advance(2 * LIMIT_SECONDS)


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_an_endless_head_is_refused(line: bytes, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sent = 0
        try:
            sock.sendall(GET + b"X-B: ")
            while sent < 8_000_000:
                sock.sendall(line)
                sent += len(line)
        except OSError:
            return  # the connection was broken, which ends it as well
        pytest.fail("megabytes of headers were taken")


def test_a_head_that_is_too_long_is_refused_though_it_came_in_one_piece(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"X-A: " + b"a" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}")
        assert read_answer(sock).status == 431
        assert is_closed(sock)


def test_a_head_that_is_too_long_is_refused_though_it_came_in_two_pieces(strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(GET + b"\r\n" + GET + b"X-A: " + b"a" * 30_000)
        assert read_answer(sock).read() == b'{"status":"alive"}'  # so the beginning of the second head is read
        sock.sendall(b"a" * 40_000 + b"\r\n\r\n")
        assert read_answer(sock).status == 431
        assert is_closed(sock)


def test_blank_lines_between_requests_cannot_hold_the_connection(strict_service: Application, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(GET + b"\r\n")
        read_answer(sock).read()
        for _ in range(3):
            assert not has_come(sock)
            sock.sendall(b"\r\n")
            strict_service.loop.advance(0.4 * LIMIT_SECONDS)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_a_long_head_within_the_limit_is_taken(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n")
        assert read_answer(sock).status == 200


def test_a_body_that_nobody_reads_cannot_hold_the_connection(strict_service: Application, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        answer = read_answer(sock)
        assert answer.status == 404
        answer.read()
        wait_by_the_clock(sock, strict_service.loop)
        assert is_closed(sock)


def test_a_client_that_is_answered_early_may_send_the_rest_and_go_on(
    strict_service: Application, strict_port: int
) -> None:
    with connect(strict_port) as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        read_answer(sock).read()
        sock.sendall(b"}")
        strict_service.loop.advance(2 * LIMIT_SECONDS)
        sock.sendall(GET + b"\r\n")
        assert read_answer(sock).status == 200


BODY = b'{"window": [[1, 0], [2, 0], [3, 0], [6, 0]]}'
POST_UPGRADE = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nContent-Type: application/json\r\n"
)
SIZED = POST_UPGRADE + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = POST_UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize("request_bytes", [SIZED, CHUNKED])
@pytest.mark.parametrize("piece", [1, 100, 10_000])
def test_an_offered_upgrade_is_passed_over(request_bytes: bytes, piece: int, server: Server) -> None:
    with server.connect() as sock:
        for start in range(0, len(request_bytes), piece):
            sock.sendall(request_bytes[start : start + piece])
        answer = read_answer(sock)
        assert (answer.status, orjson.loads(answer.read())["prediction"]) == (200, [[3.0], [4.0]])
        sock.sendall(GET + b"\r\n")
        assert read_answer(sock).status == 200


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_upgrade_is_passed_over_on_a_connection_that_ends(version: bytes, server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(SIZED.replace(b"HTTP/1.1", b"HTTP/" + version).replace(b": Upgrade,", b": Upgrade, close,"))
        answer = read_answer(sock)
        assert (answer.status, orjson.loads(answer.read())["prediction"]) == (200, [[3.0], [4.0]])
        assert is_closed(sock)


def test_pipelined_upgrades_wait_for_their_turn(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"\r\n" + SIZED * 3 + GET + b"Connection: close\r\n\r\n")
        answers = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answers.count(b"HTTP/1.1 200 OK") == 5
        assert answers.count(b'"prediction":[[3.0],[4.0]]') == 3


def test_a_websocket_is_not_offered(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert read_answer(sock).status == 200


def test_a_tunnel_is_refused(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_answer(sock).status in (400, 404, 405)


def test_garbage_is_refused(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert read_answer(sock).status == 400
        assert is_closed(sock)


POST_HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(("headers", "status"), [(99, 200), (100, 431), (10_000, 431)])
def test_the_number_of_headers_is_bounded(headers: int, status: int, server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"a:\r\n" * headers + b"\r\n")  # and Host
        assert read_answer(sock).status == status
        assert status == 200 or is_closed(sock)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n", 400),
        (GET + b"Host: other\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n", 200),
        (b"GET /livez HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        (b"GET /livez\r\n", 505),
        (b"GET /livez HTTP/0.9\r\n", 505),
        (b"GET /livez HTTP/1.2\r\nHost: a\r\n", 505),
        (b"GET /livez HTTP/2.0\r\nHost: a\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", 505),
        (POST_HEAD + b"Transfer-Encoding: gzip, chunked\r\n", 501),
        (POST_HEAD + b"Transfer-Encoding: gzip\r\n", 501),
        (POST_HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (POST_HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n", 400),
    ],
)
def test_a_head_that_breaks_the_rules_is_answered_at_once(head: bytes, status: int, server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(head + b"\r\n")
        assert read_answer(sock).status == status
        assert is_closed(sock)


def test_a_faulty_head_behind_a_request_does_not_cost_it_its_answer(loop: HeldLoop) -> None:
    app = KeptBusy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n" + b"GET / HTTP/1.1\r\n\r\n")
        assert app.begun.wait(PATIENCE_SECONDS)
        app.gate.set()
        answer = read_answer(sock)
        assert (answer.status, answer.read(), answer.getheader("Connection")) == (200, b"ok", "close")
        assert is_closed(sock)


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
@pytest.mark.parametrize("begin", [b"2\r\n{}\r\n0\r\nX-B: ", b"2;"])
def test_trailers_and_extensions_of_chunks_are_bounded(begin: bytes, line: bytes, server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + begin)
        sent = 0
        with suppress(OSError):
            while sent < 100_000_000:
                sock.sendall(line.replace(b"\r\n", b"") if begin == b"2;" else line)
                sent += len(line)
        assert sent < 20_000_000  # what the buffers of the kernel hold


def test_trailers_within_the_limit_are_passed_over(server: Server) -> None:
    trailer = b"X-A: " + b"a" * 1000 + b"\r\nX-Request-Id: trailer\r\n"
    whole = CHUNKED.replace(b"\r\n0\r\n\r\n", b"\r\n0\r\n" + trailer + b"\r\n")
    with server.connect() as sock:
        sock.sendall(whole)
        answer = read_answer(sock)
        assert (answer.status, orjson.loads(answer.read())["prediction"]) == (200, [[3.0], [4.0]])
        assert answer.getheader("X-Request-Id") != "trailer"
        sock.sendall(GET + b"\r\n")
        assert read_answer(sock).status == 200


def test_a_body_in_chunks_of_a_byte_is_taken(server: Server) -> None:
    spread = BODY + b" " * 50_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in spread) + b"0\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(POST_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert read_answer(sock).status == 200


def test_slow_clients_do_not_slow_others(strict_service: Application, strict_port: int) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(strict_port)) for _ in range(50)]
        for sock in slow:
            sock.sendall(GET)
        with connect(strict_port) as sock:
            for _ in range(20):
                sock.sendall(GET + b"\r\n")
                assert read_answer(sock).read() == b'{"status":"alive"}'
        assert not any(has_come(sock) for sock in slow)
        strict_service.loop.advance()
        assert all(read_answer(sock).status == 408 for sock in slow)


@pytest.fixture(scope="module")
def loop() -> Iterator[HeldLoop]:
    """What the applications of this module run on."""
    with loop_in_thread() as loop:
        yield loop


class KeptBusy:
    """An application that answers when it is told to.

    Attributes:
        begun: Set once a request is here as a whole.
        gate: To be set for the answers.
        fates: What became of its requests.
    """

    def __init__(self, content: bytes = b"ok") -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.fates: list[str] = []
        self._content = content

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        self.begun.set()
        try:
            while not self.gate.is_set():  # noqa: ASYNC110 (set by another thread)
                await asyncio.sleep(0.01)
            await send(start((b"content-length", b"%d" % len(self._content))))
            await send(body(self._content))
            self.fates.append("answered")
        except asyncio.CancelledError as stop:
            self.fates.append(str(stop.args[0]))


def answering(*messages: dict[str, Any]) -> Any:
    """An application that sends these messages to everybody."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(dict(message))

    return app


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(content: bytes, **more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, **more}


LENGTH_2 = (b"content-length", b"2")


def test_head_and_body_come_in_one_piece(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port, connect(port) as sock:
        for _ in range(20):
            sock.sendall(GET + b"\r\n")
            answer = sock.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\ncontent-length: 2\r\n\r\nok")


@pytest.mark.parametrize(
    "messages",
    [
        (start(), body(b"ok")),
        (start(), body(b"o", more_body=True), body(b"k")),
        (start(LENGTH_2), body(b"o", more_body=True), body(b"k")),
        (start(LENGTH_2), body(b"ok", more_body=True), body(b"")),
    ],
)
def test_an_answer_in_pieces_or_without_a_length_is_whole(messages: tuple[dict[str, Any], ...], loop: HeldLoop) -> None:
    with listening(answering(*messages), loop) as port, connect(port) as sock:
        for _ in range(2):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b"ok")


def test_the_answer_to_head_has_no_body(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: sock.recv(4096), b""))
        assert received.endswith(b"\r\n\r\n")
        assert b"content-length: 2" in received


@pytest.mark.parametrize("asked", [b"Connection: close\r\n", b""])
def test_a_connection_ends_when_either_side_says_so(asked: bytes, loop: HeldLoop) -> None:
    said = () if asked else ((b"connection", b"close"),)
    with listening(answering(start(LENGTH_2, *said), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall(GET + asked + b"\r\n")
        answer = read_answer(sock)
        assert (answer.getheader("Connection"), answer.read()) == ("close", b"ok")
        assert is_closed(sock)


@pytest.mark.parametrize("header", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a\n", b"1"), (b"x-a", b"1\n\nok")])
def test_a_line_break_cannot_be_slipped_into_the_head(header: tuple[bytes, bytes], loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2, header), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.getheader("X-B")) == (500, None)


def test_a_wrong_length_is_not_sent_as_if_it_were_right(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"longer")), loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        received = b"".join(iter(lambda: sock.recv(4096), b""))
        assert b"longer" not in received


def test_requests_that_come_together_are_answered_in_turn(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall((GET + b"\r\n") * 5)
        received = b""
        while received.count(b"\r\n\r\nok") < 5:
            received += sock.recv(4096)
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 5


def test_a_connection_is_closed_once_it_has_been_idle_for_the_whole_time(loop: HeldLoop) -> None:
    app = answering(start(LENGTH_2), body(b"ok"))
    with listening(app, loop, keep_alive_seconds=LIMIT_SECONDS) as port, connect(port) as sock:
        for _ in range(4):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b"ok")
            loop.advance(0.9 * LIMIT_SECONDS)
        assert not has_come(sock)
        loop.advance(0.2 * LIMIT_SECONDS)
        assert is_closed(sock)


def test_a_body_is_read_to_its_end_though_only_a_part_of_it_may_wait(loop: HeldLoop) -> None:
    app = KeptBusy()
    app.gate.set()
    size = 8 * MAX_UNREAD_BYTES
    with listening(app, loop) as port, connect(port) as sock:
        for _ in range(2):
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            assert read_answer(sock).read() == b"ok"


def test_a_large_body_reaches_the_application_in_pieces_that_grow(loop: HeldLoop) -> None:
    """To wake it for every read of the socket takes longer than the reads."""
    pieces: list[int] = []

    async def note_pieces(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            pieces.append(len(message["body"]))
            more = message["more_body"]
        for answer in (start(LENGTH_2), body(b"ok")):
            await send(answer)

    size = 8 * MAX_UNREAD_BYTES
    with listening(note_pieces, loop) as port, connect(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        assert read_answer(sock).read() == b"ok"
    received = [*itertools.accumulate(pieces, initial=0)]
    assert received[-1] == size
    for before, piece in zip(received, pieces[:-1], strict=False):
        assert before < SMALL_BODY_BYTES or piece > min(before, MAX_UNREAD_BYTES)


@pytest.mark.parametrize("size", [2, 300_000])
def test_the_work_for_a_client_that_left_is_stopped_however_large_its_body(size: int, loop: HeldLoop) -> None:
    app = KeptBusy()
    with listening(app, loop) as port:
        with connect(port) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            assert app.begun.wait(PATIENCE_SECONDS)
        wait_until(lambda: app.fates == ["the client has left"])
        app.gate.set()


def test_a_connection_that_was_answered_before_its_body_had_come_is_closed_when_idle(loop: HeldLoop) -> None:
    app = answering(start(LENGTH_2), body(b"ok"))
    with listening(app, loop, keep_alive_seconds=2 * LIMIT_SECONDS) as port, connect(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
        assert read_answer(sock).read() == b"ok"
        sock.sendall(b"body")
        loop.advance(1.9 * LIMIT_SECONDS)
        assert not has_come(sock)
        loop.advance(0.2 * LIMIT_SECONDS)
        assert is_closed(sock)


def test_a_client_that_does_not_read_its_answer_is_dropped(loop: HeldLoop) -> None:
    app = KeptBusy(bytes(30_000_000))
    app.gate.set()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        wait_until(lambda: len(app.fates) == 1)
        for _ in range(10):  # the first of which the kernel's buffers may still grow
            loop.advance()
        received = 0
        with suppress(ConnectionResetError):
            while piece := sock.recv(1 << 20):
                received += len(piece)
        assert received < 30_000_000


class FullTransport(asyncio.Transport):
    """Always has as many bytes to write as before."""

    def __init__(self) -> None:
        super().__init__()
        self.aborts = 0

    def write(self, data: Any) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 200

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        self.aborts += 1

    def close(self) -> None: ...


def test_a_connection_is_dropped_only_if_nothing_at_all_is_read() -> None:
    async def converse(loop: HeldLoop) -> None:
        config = config_of(answering(start(LENGTH_2), body(b"ok")))
        config.load()
        transport = FullTransport()
        protocol = BoundedProtocol(config, SharedState(), {})
        protocol.connection_made(transport)
        for _ in range(5):
            protocol.data_received(GET + b"\r\n")
            await loop.skip(0.9 * LIMIT_SECONDS)
        assert transport.aborts == 0
        await loop.skip()
        await loop.skip()
        assert transport.aborts == 1
        protocol.connection_lost(None)

    run_in_held_loop(converse)


def test_a_client_that_does_not_read_its_refusal_is_dropped() -> None:
    async def converse(loop: HeldLoop) -> None:
        config = config_of(answering())
        config.load()
        transport = FullTransport()
        protocol = BoundedProtocol(config, SharedState(), {})
        protocol.connection_made(transport)
        protocol.data_received(b"nonsense\r\n\r\n")
        await loop.skip()
        assert transport.aborts == 1
        protocol.connection_lost(None)

    run_in_held_loop(converse)


def test_a_client_that_reads_slowly_gets_the_whole_answer(loop: HeldLoop) -> None:
    app = KeptBusy(bytes(8_000_000))
    app.gate.set()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        received = 0
        while received < 8_000_000:
            received += len(sock.recv(500_000))
            loop.advance(0.2 * LIMIT_SECONDS)


def test_unread_answers_share_a_bound_and_the_client_that_fell_behind_first_is_dropped(
    loop: HeldLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 30_000_000  # more than the kernel's buffers take
    monkeypatch.setattr(readers, "MAX_UNREAD_ANSWER_BYTES", 2 * size)
    app = KeptBusy(bytes(size))
    app.gate.set()
    with listening(app, loop) as port, ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(4)]
        for number, sock in enumerate(clients, start=1):
            sock.sendall(GET + b"Connection: close\r\n\r\n")
            wait_until(lambda number=number: len(app.fates) == number)  # type: ignore[misc]
        assert [is_whole(read_to_the_end(sock), size) for sock in clients] == [False, False, True, True]


def read_to_the_end(sock: socket.socket) -> bytes:
    received = bytearray()
    with suppress(ConnectionResetError):
        while piece := sock.recv(1 << 20):
            received += piece
    return bytes(received)


def is_whole(answer: bytes, size: int) -> bool:
    return len(answer) > size


def test_no_request_is_begun_before_its_client_has_read_the_last_answer(loop: HeldLoop) -> None:
    app = KeptBusy(bytes(30_000_000))
    app.gate.set()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        wait_until(lambda: len(app.fates) == 1)
        app.begun.clear()
        sock.sendall(GET + b"\r\n" + GET + b"Connection: close\r\n\r\n")
        loop.advance(0.5 * LIMIT_SECONDS)
        assert not app.begun.is_set()
        assert read_to_the_end(sock).count(b"HTTP/1.1 200") == len(app.fates) == 3


def test_no_request_that_waits_is_begun_before_its_client_has_read_the_last_answer(loop: HeldLoop) -> None:
    app = KeptBusy(bytes(30_000_000))
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall((GET + b"\r\n") * 2 + GET + b"Connection: close\r\n\r\n")
        assert app.begun.wait(PATIENCE_SECONDS)
        loop.advance(0)
        app.begun.clear()
        app.gate.set()
        wait_until(lambda: len(app.fates) == 1)
        loop.advance(0.5 * LIMIT_SECONDS)
        assert not app.begun.is_set()
        assert read_to_the_end(sock).count(b"HTTP/1.1 200") == len(app.fates) == 3


def test_a_client_that_asks_too_far_ahead_is_answered_so_far_and_no_further(loop: HeldLoop) -> None:
    app = KeptBusy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall((GET + b"\r\n") * 1000)
        app.gate.set()
        received = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        assert received.count(b"HTTP/1.1 200") == len(app.fates) == MAX_PIPELINED + 1


@pytest.mark.parametrize("last", [b"GET / HTTP/1.1\r\n\r\n", GET + b"Connection: close\r\n\r\n"])
def test_what_follows_the_last_request_is_not_parsed(
    last: bytes, loop: HeldLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []
    complete = BoundedProtocol.on_headers_complete

    def on_headers_complete(self: BoundedProtocol) -> None:
        heads.append(self.url)
        complete(self)

    monkeypatch.setattr(BoundedProtocol, "on_headers_complete", on_headers_complete)
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall(last + (GET + b"\r\n") * 1000)
        assert read_answer(sock).getheader("Connection") == "close"
        assert is_closed(sock)
    assert len(heads) == 1


def test_nonsense_behind_a_request_does_not_cost_it_its_answer(loop: HeldLoop) -> None:
    app = KeptBusy()
    with listening(app, loop) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        assert app.begun.wait(PATIENCE_SECONDS)
        sock.sendall(b"nonsense\r\n\r\n")
        loop.advance(0)
        app.gate.set()
        answer = read_answer(sock)
        assert (answer.status, answer.read(), answer.getheader("Connection")) == (200, b"ok", "close")
        assert is_closed(sock)


def test_a_client_that_was_not_told_to_go_on_is_not_read_any_further(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port, connect(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.getheader("Connection")) == (200, "close")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Frees what only the collector frees before the test, and nothing of the kind within."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    yield
    if was_on:
        gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_closed_connections_leave_nothing_behind(loop: HeldLoop) -> None:
    with listening(answering(start(LENGTH_2), body(b"ok")), loop) as port:
        for _ in range(50):
            with connect(port) as sock:
                sock.sendall(GET + b"\r\n")
                assert read_answer(sock).status == 200

        def left() -> int:
            return sum(isinstance(thing, BoundedProtocol) for thing in gc.get_objects())

        wait_until(lambda: left() <= 1)
