"""From start to stop, as process managers and load balancers see it."""

import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import httpx
import orjson
import pytest

from app.process.http import protocol
from app.serving.service import try_this
from app.settings import Settings
from tests.app.in_process import Application, ServerInThread, application, config_of, has_come
from tests.holding import held_loading, held_window
from tests.loops import LIMIT_SECONDS
from tests.servers import CONNECT_SECONDS, HOST, Server, connect, is_closed, read_answer, running, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

WINDOW = [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [6.0, 0.0]]
FORECAST = [[3.0], [4.0]]
CLIENTS = 8

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_while_loading_it_lives_but_is_not_ready_and_a_signal_ends_it_at_once(folder: Path) -> None:
    with held_loading(folder), serving(folder) as server:
        server.wait_for("/livez")
        with server.client() as client:
            readiness = client.get("/readyz")
            assert (readiness.status_code, readiness.json()) == (503, {"status": "loading"})
            health = client.get("/healthz")
            assert (health.status_code, health.json()["models"]) == (503, {})
            refusal = client.post("/predict", json={"window": WINDOW})
            assert (refusal.status_code, refusal.headers["Retry-After"]) == (503, "1")
            assert refusal.json()["detail"] == "Not ready: the models are being loaded."
            assert client.get("/models").status_code == 503
            assert client.get("/openapi.json").status_code == 200
            assert client.get("/metrics").status_code == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, "though it still loads"


def test_no_request_is_lost_in_a_drain(folder: Path) -> None:
    answers: list[httpx.Response] = []
    failures: list[str] = []

    def keep_asking() -> None:
        with server.client() as client:
            while not enough.is_set():
                try:
                    answers.append(client.post("/predict", json={"window": WINDOW}))
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    with serving(folder, drain_seconds=600) as server:
        server.wait_for("/readyz")
        enough = threading.Event()
        clients = [in_background(keep_asking) for _ in range(CLIENTS)]
        try:
            wait_until(lambda: len(answers) > 10 * CLIENTS)
            assert "Connection" not in answers[-1].headers
            server.signal(signal.SIGTERM)
            server.wait_for("/readyz", 503)
            before = len(answers)
            wait_until(lambda: len(answers) > before + 10 * CLIENTS)
            assert server.status_of("/livez") == 200
            assert answers[-1].headers["Connection"] == "close"
        finally:
            enough.set()
            for client in clients:
                client.join()
        assert failures == []
        assert {answer.status_code for answer in answers} == {200}
        assert all(answer.json()["prediction"] == FORECAST for answer in answers)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.status_of("/livez") is None


@pytest.mark.parametrize("workers", [1, 2])
def test_no_client_that_asks_until_it_is_refused_loses_a_request(workers: int, folder: Path) -> None:
    answers: list[int] = []
    failures: list[str] = []

    def ask_until_refused() -> None:
        while True:
            try:
                sock = server.connect()
            except ConnectionError:
                return
            with sock:
                try:
                    sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answers.append(read_answer(sock).status)
                except (OSError, HTTPException) as error:
                    failures.append(repr(error))

    with serving(folder, workers=workers, drain_seconds=0.5) as server:
        wait_until(lambda: len(server.log("ready")) == workers)
        clients = [in_background(ask_until_refused) for _ in range(CLIENTS)]
        wait_until(lambda: len(answers) > 10 * CLIENTS)
        server.signal(signal.SIGTERM)
        for client in clients:
            client.join()
        assert server.wait() == 0
    assert failures == []
    assert set(answers) == {200}


def test_a_connection_that_has_not_asked_yet_may_still_do_so_when_the_listener_closes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_shut() -> bool:
        try:
            socket.create_connection((HOST, port), timeout=CONNECT_SECONDS).close()
        except OSError:
            return True
        return False

    monkeypatch.setattr(protocol, "LAST_REQUEST_SECONDS", LIMIT_SECONDS)
    with application(folder) as service, socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        server = ServerInThread(config_of(service.front, receive_timeout_seconds=10 * LIMIT_SECONDS))
        stopped = service.loop.start(server.serve([listener]))
        wait_until(lambda: server.started)
        with connect(port) as sock, connect(port) as silent:
            server.should_exit = True
            wait_until(is_shut)
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            answer.read()
            assert is_closed(sock)
            assert not has_come(silent)
            service.loop.advance()
            assert is_closed(silent)
        stopped.result(PATIENCE_SECONDS)


def test_what_is_in_flight_when_the_listener_closes_is_finished(folder: Path) -> None:
    with held_window(folder) as held, serving(folder) as server:
        server.wait_for("/readyz")
        with server.connect() as idle, ThreadPoolExecutor() as executor:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_answer(idle).read()
            asking = executor.submit(lambda: server.post("/predict", json={"window": held.window}))
            held.wait_until_reached()
            server.signal(signal.SIGTERM)
            server.wait_for("/livez", None)
            assert is_closed(idle)
            assert not asking.done()
            held.release()
            assert asking.result().json()["prediction"] == held.forecast
        assert server.wait() == 0


def test_a_second_signal_ends_the_drain(folder: Path) -> None:
    with serving(folder, drain_seconds=600) as server:
        server.wait_for("/readyz")
        server.signal(signal.SIGTERM)
        server.wait_for("/readyz", 503)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_closed_log_keeps_it_neither_from_serving_nor_from_stopping(folder: Path) -> None:
    with held_loading(folder) as loading, serving(folder, stdout=subprocess.PIPE) as server:
        server.wait_for("/livez")
        assert server.process.stdout is not None
        server.process.stdout.close()
        loading.release()
        server.wait_for("/readyz")
        with server.client() as client:
            for _ in range(3):
                assert client.post("/predict", json={"window": WINDOW}).status_code == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_deadline_is_answered_in_time(strict_server: Server) -> None:
    with held_window(strict_server.folder) as held, strict_server.client() as client:
        answer = client.post("/predict?model=slow", json={"window": held.window})
        assert answer.status_code == 504
        assert answer.json()["detail"] == "The forecast was not ready within 0.5 seconds."
        assert answer.headers["X-Windowcast-Model"] == "slow"
        held.release()
        wait_until(lambda: client.post("/predict?model=slow", json={"window": WINDOW}).status_code == 200)


def test_a_full_queue_is_told_at_once(strict_service: Application) -> None:
    with held_window(strict_service.folder) as held:
        first = strict_service.post("/predict?model=slow", json={"window": held.window})
        held.wait_until_reached()
        batch = {"windows": [WINDOW] * 3}
        waiting, *others = [strict_service.post("/predict/batch?model=slow", json=batch) for _ in range(3)]
        for answer in (other.result(PATIENCE_SECONDS) for other in others):
            assert (answer.status_code, answer.headers["Retry-After"]) in {(503, "1"), (503, "2"), (503, "3")}
            assert answer.json()["detail"].startswith("The queue of this model is full. Try again in ")
        assert [asked.done() for asked in (first, waiting)] == [False, False]
        held.release()
        for asked in (first, waiting):
            assert asked.result(PATIENCE_SECONDS).status_code == 200


def test_what_a_client_that_left_asked_for_is_not_computed(folder: Path) -> None:
    def send(sock: socket.socket, window: list[list[float]]) -> None:
        body = orjson.dumps({"window": window})
        sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    def queued() -> float:
        return server.metric("windowcast_queue_windows")

    with held_window(folder) as held, serving(folder) as server, server.client() as client:
        server.wait_for("/readyz")
        with server.connect() as staying:
            send(staying, held.window)
            held.wait_until_reached()
            with server.connect() as leaving:
                send(leaving, WINDOW)
                wait_until(lambda: queued() == 1)
            wait_until(lambda: queued() == 0)
            held.release()
            assert read_answer(staying).status == 200
        assert client.post("/predict", json={"window": WINDOW}).status_code == 200
        assert server.metric("windowcast_batch_windows_sum") == 2
        assert [line["status"] for line in server.log("request") if line["path"] == "/predict"] == [499, 200, 200]


def test_when_batching_dies_the_process_stops(folder: Path) -> None:
    broken = "import runpy; from app.serving.batching import Batcher; Batcher._take_batch = lambda *_: 1 / 0; "
    with running(folder, "-c", broken + "runpy.run_module('app', run_name='__main__')", max_batch_windows=1) as server:
        server.wait_for("/readyz")
        with server.client() as client, pytest.raises(httpx.TransportError):
            client.post("/predict", json={"window": WINDOW})
        assert server.wait() == 3
        [line] = server.log("batching ended")
        assert "ZeroDivisionError" in line["exception"]


def test_the_host_in_the_command_to_try_is_one_that_can_be_reached(server: Server) -> None:
    [ready] = server.log("ready")
    assert f"http://{HOST}:{server.port}/predict" in orjson.dumps(ready).decode()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")],  # noqa: S104
)
def test_the_command_to_try_names_a_host_of_the_same_family(host: str, shown: str) -> None:
    assert f"curl -s http://{shown}:8000/models/" in try_this(Settings(host=host))
