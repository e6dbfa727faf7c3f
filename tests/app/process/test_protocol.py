"""Heads of requests that are too long or too slow, answers in one write, and idle connections, over bare sockets."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import pytest
import uvicorn
from uvicorn.server import ServerState

from app.process.protocol import MAX_PIPELINED, BoundedProtocol
from app.process.server import Config
from tests.servers import HOST, PATIENCE_SECONDS, Server, free_port, is_closed, read_answer, wait_until

GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /livez", GET])
def test_a_head_that_does_not_end_in_time_is_refused(sent: bytes, strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(sent)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_a_head_that_trickles_is_refused(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(GET)
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                sock.sendall(b"X-A: b\r\n")
            except OSError:
                break
            time.sleep(0.05)
        else:
            assert read_answer(sock).status == 408


def test_a_second_head_that_does_not_end_in_time_is_refused(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(GET + b"\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.read()) == (200, b'{"status":"alive"}')
        sock.sendall(GET)
        assert read_answer(sock).status == 408
        assert is_closed(sock)


def test_an_idle_connection_outlives_the_limit_of_a_head(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        for pause in (0.8, 0.0):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b'{"status":"alive"}')
            time.sleep(pause)


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 1000 + b"\r\n", b"a" * 1000])
def test_an_endless_head_is_refused(line: bytes, strict_server: Server) -> None:
    with strict_server.connect() as sock:
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


def test_blank_lines_between_requests_cannot_hold_the_connection(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(GET + b"\r\n")
        read_answer(sock).read()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                sock.sendall(b"\r\n")
            except OSError:
                return
            time.sleep(0.05)
        pytest.fail("the connection was held by blank lines")


def test_a_long_head_within_the_limit_is_taken(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(GET + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n")
        assert read_answer(sock).status == 200


def test_a_body_that_nobody_reads_cannot_hold_the_connection(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        answer = read_answer(sock)
        assert answer.status == 404
        answer.read()
        assert is_closed(sock)


def test_a_client_that_is_answered_early_may_send_the_rest_and_go_on(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        read_answer(sock).read()
        sock.sendall(b"}")
        time.sleep(0.8)
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


def test_garbage_is_refused(strict_server: Server) -> None:
    with strict_server.connect() as sock:
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert read_answer(sock).status == 400
        assert is_closed(sock)


def test_slow_clients_do_not_slow_others(strict_server: Server) -> None:
    slow = [strict_server.connect() for _ in range(50)]
    try:
        for sock in slow:
            sock.sendall(GET)
        with strict_server.client() as client:
            started = time.monotonic()
            assert all(client.get("/livez").status_code == 200 for _ in range(20))
            assert time.monotonic() - started < 2
        assert all(read_answer(sock).status == 408 for sock in slow)
    finally:
        for sock in slow:
            sock.close()


def config_of(app: Any, patience_seconds: float = 5, **options: Any) -> Config:
    return Config(
        app=app,
        http=BoundedProtocol,
        log_config=None,
        drain_seconds=0,
        receive_timeout_seconds=patience_seconds,
        **options,
    )


@contextmanager
def serving(app: Any, keep_alive_seconds: int = 5, patience_seconds: float = 5) -> Iterator[int]:
    """An application of the test's own behind the protocol; gives its port."""
    port = free_port()
    config = config_of(app, patience_seconds, port=port, lifespan="on", timeout_keep_alive=keep_alive_seconds)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


def kept_busy(content: bytes = b"ok") -> tuple[Any, threading.Event, list[str]]:
    """An application that answers when it is told to, and what became of its requests."""
    gate, fates = threading.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await answering()(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        try:
            while not gate.is_set():  # noqa: ASYNC110 (set by another thread)
                await asyncio.sleep(0.01)
            await send(start((b"content-length", b"%d" % len(content))))
            await send(body(content))
            fates.append("answered")
        except asyncio.CancelledError as stop:
            fates.append(str(stop.args[0]))

    return app, gate, fates


def answering(*messages: dict[str, Any]) -> Any:
    """An application that sends these messages to everybody."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            for message in messages:
                await send(dict(message))

    return app


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [*headers]}


def body(content: bytes, **more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, **more}


LENGTH_2 = (b"content-length", b"2")


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS)


def test_head_and_body_come_in_one_piece() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok"))) as port, connect(port) as sock:
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
def test_an_answer_in_pieces_or_without_a_length_is_whole(messages: tuple[dict[str, Any], ...]) -> None:
    with serving(answering(*messages)) as port, connect(port) as sock:
        for _ in range(2):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b"ok")


def test_the_answer_to_head_has_no_body() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok"))) as port, connect(port) as sock:
        sock.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: sock.recv(4096), b""))
        assert received.endswith(b"\r\n\r\n")
        assert b"content-length: 2" in received


@pytest.mark.parametrize("asked", [b"Connection: close\r\n", b""])
def test_a_connection_ends_when_either_side_says_so(asked: bytes) -> None:
    said = () if asked else ((b"connection", b"close"),)
    with serving(answering(start(LENGTH_2, *said), body(b"ok"))) as port, connect(port) as sock:
        sock.sendall(GET + asked + b"\r\n")
        answer = read_answer(sock)
        assert (answer.getheader("Connection"), answer.read()) == ("close", b"ok")
        assert is_closed(sock)


@pytest.mark.parametrize("header", [(b"x-a", b"1\r\nx-b: 2"), (b"x-a\n", b"1"), (b"x-a", b"1\n\nok")])
def test_a_line_break_cannot_be_slipped_into_the_head(header: tuple[bytes, bytes]) -> None:
    with serving(answering(start(LENGTH_2, header), body(b"ok"))) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.getheader("X-B")) == (500, None)


def test_a_wrong_length_is_not_sent_as_if_it_were_right() -> None:
    with serving(answering(start(LENGTH_2), body(b"longer"))) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        received = b"".join(iter(lambda: sock.recv(4096), b""))
        assert b"longer" not in received


def test_requests_that_come_together_are_answered_in_turn() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok"))) as port, connect(port) as sock:
        sock.sendall((GET + b"\r\n") * 5)
        received = b""
        while received.count(b"\r\n\r\nok") < 5:
            received += sock.recv(4096)
        assert received.count(b"HTTP/1.1 200 OK\r\n") == 5


def test_a_connection_is_closed_once_it_has_been_idle_for_the_whole_time() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok")), keep_alive_seconds=1) as port, connect(port) as sock:
        for _ in range(4):
            sock.sendall(GET + b"\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.read()) == (200, b"ok")
            answered = time.monotonic()
            time.sleep(0.4)
        assert is_closed(sock)
        assert 0.9 < time.monotonic() - answered < 3


@pytest.mark.parametrize("size", [2, 300_000])
def test_the_work_for_a_client_that_left_is_stopped_however_large_its_body(size: int) -> None:
    app, gate, fates = kept_busy()
    with serving(app) as port:
        with connect(port) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
            time.sleep(0.3)
        wait_until(lambda: fates == ["the client has left"])
        gate.set()


def test_a_connection_that_was_answered_before_its_body_had_come_is_closed_when_idle() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok")), keep_alive_seconds=1) as port, connect(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n")
        assert read_answer(sock).read() == b"ok"
        sock.sendall(b"body")
        answered = time.monotonic()
        assert is_closed(sock)
        assert 0.9 < time.monotonic() - answered < 3


def test_a_client_that_does_not_read_its_answer_is_dropped() -> None:
    app, gate, fates = kept_busy(bytes(30_000_000))
    gate.set()
    with serving(app, patience_seconds=0.5) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        wait_until(lambda: len(fates) == 1)
        time.sleep(1.5)
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
    async def converse() -> None:
        config = config_of(answering(start(LENGTH_2), body(b"ok")), patience_seconds=0.05)
        config.load()
        transport = FullTransport()
        protocol = BoundedProtocol(config, ServerState(), {})
        protocol.connection_made(transport)
        for _ in range(30):
            protocol.data_received(GET + b"\r\n")
            await asyncio.sleep(0.01)
        assert transport.aborts == 0
        await asyncio.sleep(0.2)
        assert transport.aborts == 1
        protocol.connection_lost(None)

    asyncio.run(converse())


def test_a_client_that_reads_slowly_gets_the_whole_answer() -> None:
    app, gate, _ = kept_busy(bytes(8_000_000))
    gate.set()
    with serving(app, patience_seconds=0.5) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        received = 0
        while received < 8_000_000:
            time.sleep(0.1)
            received += len(sock.recv(500_000))


def test_a_client_that_asks_too_far_ahead_is_answered_so_far_and_no_further() -> None:
    app, gate, fates = kept_busy()
    with serving(app) as port, connect(port) as sock:
        sock.sendall((GET + b"\r\n") * 1000)
        gate.set()
        received = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        assert received.count(b"HTTP/1.1 200") == len(fates) == MAX_PIPELINED + 1


def test_nonsense_behind_a_request_does_not_cost_it_its_answer() -> None:
    app, gate, _ = kept_busy()
    with serving(app) as port, connect(port) as sock:
        sock.sendall(GET + b"\r\n")
        time.sleep(0.1)
        sock.sendall(b"nonsense\r\n\r\n")
        time.sleep(0.1)
        gate.set()
        answer = read_answer(sock)
        assert (answer.status, answer.read(), answer.getheader("Connection")) == (200, b"ok", "close")
        assert is_closed(sock)


def test_a_client_that_was_not_told_to_go_on_is_not_read_any_further() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok"))) as port, connect(port) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        answer = read_answer(sock)
        assert (answer.status, answer.getheader("Connection")) == (200, "close")


def test_closed_connections_leave_nothing_behind() -> None:
    with serving(answering(start(LENGTH_2), body(b"ok")), keep_alive_seconds=60) as port:
        for _ in range(50):
            with connect(port) as sock:
                sock.sendall(GET + b"\r\n")
                assert read_answer(sock).status == 200

        def left() -> int:
            gc.collect()
            return sum(isinstance(thing, BoundedProtocol) for thing in gc.get_objects())

        wait_until(lambda: left() <= 1)
