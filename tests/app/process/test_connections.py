"""More connections than the service takes, and fewer files than it would like."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socket

import pytest

from app.process.http.connections import OTHER_FILES, RESERVED, connections_within_limit
from app.telemetry import tally
from app.telemetry.exposition import registry
from tests.app.in_process import Application, listening, wait_by_the_clock
from tests.logs import captured_logs
from tests.loops import LIMIT_SECONDS
from tests.servers import connect, is_closed, read_answer, running
from tests.waiting import wait_until

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
MODELS = b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n"
FILES = 128
MOST = 3


@pytest.fixture
def small_port(service: Application) -> Iterator[int]:
    """Where the service takes only a few connections."""
    with listening(service.front, service.loop, max_connections=MOST) as port:
        yield port


@contextmanager
def connected(port: int, count: int) -> Iterator[list[socket]]:
    """Opens connections, each of which has been answered once."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(connect(port)) for _ in range(count)]
        for sock in sockets:
            sock.sendall(LIVEZ)
            assert read_answer(sock).read()
        yield sockets


def refused() -> float:
    """How many connections were refused so far."""
    return registry().get_sample_value("windowcast_connections_refused_total") or 0


def test_beyond_the_bound_probes_are_answered_and_nothing_else(small_port: int) -> None:
    with connected(small_port, MOST) as sockets:
        for sock in sockets:
            sock.sendall(MODELS)
            assert read_answer(sock).status == 200
        for _ in range(3):
            with connect(small_port) as sock:
                sock.sendall(LIVEZ)
                answer = read_answer(sock)
                assert (answer.status, answer.read(), answer.getheader("Connection")) == (
                    *(200, b'{"status":"alive"}'),
                    "close",
                )
                assert is_closed(sock)
        before = refused()
        with connect(small_port) as sock:
            sock.sendall(MODELS)
            answer = read_answer(sock)
            assert (answer.status, answer.getheader("Retry-After")) == (503, "1")
            assert is_closed(sock)
        assert refused() == before + 1


def test_a_connection_finds_a_place_again_when_another_ends(small_port: int) -> None:
    with connected(small_port, MOST):
        pass

    def is_taken() -> bool:
        with connect(small_port) as sock:
            sock.sendall(MODELS)
            return read_answer(sock).status == 200

    wait_until(is_taken)


def test_a_connection_beyond_the_reserve_is_refused_before_it_asks(small_port: int) -> None:
    with connected(small_port, MOST), ExitStack() as stack:
        for _ in range(RESERVED):
            stack.enter_context(connect(small_port))
        with connect(small_port) as sock:
            assert read_answer(sock).status == 503
            assert is_closed(sock)


def test_the_reserve_is_kept_free(small_port: int, service: Application) -> None:
    with connected(small_port, MOST), connect(small_port) as sock:
        wait_by_the_clock(sock, service.loop)
        assert read_answer(sock).status == 408


def test_refused_connections_share_a_line_in_the_log(
    small_port: int, service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tally, "LINE_SECONDS", LIMIT_SECONDS)
    with connected(small_port, MOST), captured_logs() as lines:
        for _ in range(5):
            with connect(small_port) as sock:
                sock.sendall(MODELS)
                assert read_answer(sock).status == 503
        service.loop.advance()
    assert [line["count"] for line in lines if line["event"] == "connections refused"] == [5]


def test_the_bound_leaves_files_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 100, "hard": 1000}
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.update(soft=pair[0]))

    assert connections_within_limit(500) == 500
    assert limits["soft"] == 500 + RESERVED + OTHER_FILES
    assert connections_within_limit(100_000) == 1000 - RESERVED - OTHER_FILES
    limits["hard"] = limits["soft"] = resource.RLIM_INFINITY
    assert connections_within_limit(100_000) == 100_000


def test_a_service_whose_files_end_answers_its_probes_and_recovers(models_dir: Path) -> None:
    few_files = f"""
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
runpy.run_module("app", run_name="__main__", alter_sys=True)
"""
    with running(models_dir.parent, "-c", few_files) as server:
        server.wait_for("/readyz")
        with ExitStack() as stack:
            for _ in range(2 * FILES):
                stack.enter_context(server.connect())
            wait_until(lambda: server.status_of("/livez") == 200)
            assert server.status_of("/models") == 503
        wait_until(lambda: server.status_of("/models") == 200)
        assert [line["level"] for line in server.log("connections refused")]
        assert "Too many open files" not in server.output.read_text()
