"""From start to stop, as process managers and load balancers see it."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import httpx
import orjson
import pytest

from app.serving.service import try_this
from app.settings import Settings
from app.telemetry.journal import DELAY_SECONDS
from tests.servers import HOST, Server, environment, is_closed, read_answer, running
from tests.waiting import wait_until

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FORECAST = [[3.0], [4.0]]
LONG_ROUNDS = 200_000
"""Keeps the model `slow` busy for about a second."""
CLIENTS = 8

JSON = {"Content-Type": "application/json"}
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
    with running(folder) as server:
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
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - started < 2


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

    with running(folder, drain_seconds=2, max_batch_windows=1) as server:
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

    with running(folder, workers=workers, drain_seconds=0.5, max_batch_windows=1) as server:
        wait_until(lambda: len(server.log("ready")) == workers)
        clients = [in_background(ask_until_refused) for _ in range(CLIENTS)]
        wait_until(lambda: len(answers) > 10 * CLIENTS)
        server.signal(signal.SIGTERM)
        for client in clients:
            client.join()
        assert server.wait() == 0
    assert failures == []
    assert set(answers) == {200}


def test_a_connection_that_has_not_asked_yet_may_still_do_so_when_the_listener_closes(folder: Path) -> None:
    with running(folder, drain_seconds=0, max_batch_windows=1) as server:
        server.wait_for("/readyz")
        with server.connect() as sock, server.connect() as silent:
            server.signal(signal.SIGTERM)
            server.wait_for("/livez", None)
            sock.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = read_answer(sock)
            assert (answer.status, answer.headers["Connection"]) == (200, "close")
            answer.read()
            assert is_closed(sock)
            assert is_closed(silent)
        assert server.wait() == 0


def test_what_is_in_flight_when_the_listener_closes_is_finished(models_dir: Path, tmp_path: Path) -> None:
    answers: list[httpx.Response] = []

    def ask() -> None:
        with server.client() as client:
            answers.append(client.post("/predict", json={"window": [[LONG_ROUNDS, 0]] * 4}))

    shutil.copytree(models_dir / "slow", tmp_path / "models" / "slow")
    with running(tmp_path, model="slow", drain_seconds=0, max_batch_windows=1) as server:
        server.wait_for("/readyz")
        with server.connect() as idle:
            idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_answer(idle).read()
            asking = in_background(ask)
            time.sleep(0.2)
            server.signal(signal.SIGTERM)
            server.wait_for("/livez", None)
            assert not answers
            assert is_closed(idle)
        asking.join()
        assert [answer.status_code for answer in answers] == [200]
        assert server.wait() == 0


def test_a_second_signal_ends_the_drain(folder: Path) -> None:
    with running(folder, drain_seconds=600, max_batch_windows=1) as server:
        server.wait_for("/readyz")
        server.signal(signal.SIGTERM)
        server.wait_for("/readyz", 503)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - started < 5


def test_a_closed_log_keeps_it_neither_from_serving_nor_from_stopping(folder: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "app"],
        cwd=folder,
        env=environment(port=port, max_batch_windows=1, drain_seconds=0),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    server = Server(process, port, Path())
    try:
        assert process.stdout is not None
        server.wait_for("/livez")
        process.stdout.close()
        server.wait_for("/readyz")
        with server.client() as client:
            for _ in range(3):
                assert client.post("/predict", json={"window": WINDOW}).status_code == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        process.kill()
        process.wait()


def test_a_deadline_is_answered_in_time(strict_server: Server) -> None:
    with strict_server.client() as client:
        started = time.monotonic()
        answer = client.post("/predict?model=slow", json={"window": [[LONG_ROUNDS, 0]] * 4})
        assert time.monotonic() - started < 1
        assert answer.status_code == 504
        assert answer.json()["detail"] == "The forecast was not ready within 0.5 seconds."
        assert answer.headers["X-Windowcast-Model"] == "slow"
        wait_until(lambda: client.post("/predict?model=slow", json={"window": WINDOW}).status_code == 200)


def test_a_full_queue_is_told_at_once(strict_server: Server) -> None:
    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=strict_server.url, timeout=30, trust_env=False) as client:
            first = asyncio.create_task(client.post("/predict?model=slow", json={"window": [[LONG_ROUNDS, 0]] * 4}))
            await asyncio.sleep(0.1)
            batch = {"windows": [WINDOW] * 3}
            others = [asyncio.create_task(client.post("/predict/batch?model=slow", json=batch)) for _ in range(3)]
            return await asyncio.gather(first, *others)

    first, *others = asyncio.run(ask_all())
    refused = [answer for answer in others if answer.status_code == 503]
    assert len(refused) == 2
    for answer in refused:
        assert answer.headers["Retry-After"] == "1"
        assert answer.json()["detail"] == "The queue is full: 4 windows may wait. Try again later."
        assert answer.elapsed < first.elapsed / 2
    with strict_server.client() as client:
        wait_until(lambda: client.post("/predict?model=slow", json={"window": WINDOW}).status_code == 200)


def test_what_a_client_that_left_asked_for_is_not_computed(models_dir: Path, tmp_path: Path) -> None:
    def body_of(rounds: int) -> bytes:
        return orjson.dumps({"window": [[rounds, 0]] * 4})

    def send(sock: socket.socket, body: bytes) -> None:
        sock.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    shutil.copytree(models_dir / "slow", tmp_path / "models" / "slow")
    with running(tmp_path, model="slow", max_batch_windows=1) as server:
        server.wait_for("/readyz")
        with server.connect() as staying:
            send(staying, body_of(LONG_ROUNDS))
            time.sleep(0.2)
            with server.connect() as leaving:
                send(leaving, body_of(LONG_ROUNDS))
                time.sleep(0.2)
            assert read_answer(staying).status == 200
        with server.client() as client:
            assert client.post("/predict", content=body_of(1), headers=JSON).status_code == 200
            text = client.get("/metrics").text
        assert samples(text, "windowcast_batch_windows_sum") == 2
        assert [line["status"] for line in server.log("request") if line["path"] == "/predict"] == [499, 200, 200]


def test_when_batching_dies_the_process_stops(folder: Path) -> None:
    broken = "import runpy; from app.serving.batching import Batcher; Batcher._take_batch = lambda self: 1 / 0; "
    with running(folder, "-c", broken + "runpy.run_module('app', run_name='__main__')", max_batch_windows=1) as server:
        server.wait_for("/readyz")
        with server.client() as client, pytest.raises(httpx.TransportError):
            client.post("/predict", json={"window": WINDOW})
        assert server.wait() == 3
        [line] = server.log("batching ended")
        assert "ZeroDivisionError" in line["exception"]


def samples(text: str, name: str) -> float:
    """Sum of a metric over all its labels."""
    return sum(float(number) for number in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE))


def test_two_workers_serve_count_together_and_stop(folder: Path) -> None:
    requests = 40
    with running(folder, workers=2, drain_seconds=0.5, max_batch_windows=1) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        for _ in range(requests):
            answer = httpx.post(f"{server.url}/predict", json={"window": WINDOW}, timeout=30, trust_env=False)
            assert answer.json()["prediction"] == FORECAST
        time.sleep(10 * DELAY_SECONDS)
        text = httpx.get(f"{server.url}/metrics", timeout=30, trust_env=False).text
        assert samples(text, "windowcast_batch_windows_sum") == requests
        assert samples(text, "windowcast_ready") == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def workers_of(server: Server) -> list[int]:
    """Process ids of its workers."""
    listed = subprocess.run(
        ["pgrep", "-P", str(server.process.pid), "-f", "spawn_main"], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in listed.stdout.split()]


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")
def test_a_worker_that_replaces_a_dead_one_takes_no_request_before_it_is_ready(folder: Path) -> None:
    with running(folder, workers=2, max_batch_windows=1) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        statuses = set()
        while len(server.log("ready")) < 3:
            statuses.add(httpx.post(f"{server.url}/predict", json={"window": WINDOW}, trust_env=False).status_code)
        assert statuses == {200}
        text = httpx.get(f"{server.url}/metrics", timeout=30, trust_env=False).text
        assert samples(text, "windowcast_ready") == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


@pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")
def test_a_worker_that_dies_before_it_answers_its_supervisor_is_replaced(folder: Path) -> None:
    with running(folder, workers=2, max_batch_windows=1) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        worker = workers_of(server)[0]
        os.kill(worker, signal.SIGSTOP)
        time.sleep(3)  # the supervisor asks twice a second
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(server.log("ready")) == 3)


@pytest.mark.parametrize("seconds", [1.5, 2.5, 4])
def test_two_workers_that_load_end_at_once_on_a_signal(seconds: float, folder: Path) -> None:
    with running(folder, workers=2, max_batch_windows=256) as server:
        time.sleep(seconds)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - started < 3


def test_a_second_signal_ends_the_drain_of_two_workers(folder: Path) -> None:
    with running(folder, workers=2, drain_seconds=600, max_batch_windows=1) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        server.signal(signal.SIGTERM)
        wait_until(lambda: len(server.log("draining")) == 2)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - started < 5


def test_two_workers_without_a_model_stop_with_the_same_exit_code(tmp_path: Path) -> None:
    with running(tmp_path, workers=2) as server:
        assert server.wait() == 3
        assert "models/default: holds no version of a model" in server.output.read_text()


def test_the_host_in_the_command_to_try_is_one_that_can_be_reached(server: Server) -> None:
    [ready] = server.log("ready")
    assert f"http://{HOST}:{server.port}/predict" in orjson.dumps(ready).decode()


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("localhost", "localhost")],  # noqa: S104
)
def test_the_command_to_try_names_a_host_of_the_same_family(host: str, shown: str) -> None:
    assert f"curl -s http://{shown}:8000/models/" in try_this(Settings(host=host))
