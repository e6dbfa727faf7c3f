"""Heads of requests that are too long or too slow, over bare connections."""

import time

import orjson
import pytest

from tests.servers import Server, is_closed, read_answer

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
