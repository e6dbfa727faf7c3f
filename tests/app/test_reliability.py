"""Promises of `docs/explanation/reliability.md` that belong to no single module."""

import asyncio
import gc
import os
import shutil
import signal
import time
from pathlib import Path

import orjson
import pytest

from tests.app.in_process import Application, application
from tests.holding import held_loading, held_window
from tests.loops import TURNS
from tests.servers import connect, read_answer, running, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FORECAST = [[3.0], [4.0]]
INPUT = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": [WINDOW]}
REQUESTS = 50
SETPRIV = shutil.which("setpriv")
RESTRICTED = """
import os, sys
os.environ.pop("HOME", None)
program = "import os, runpy; assert not os.access('.', os.W_OK); runpy.run_module('app', run_name='__main__')"
command = [sys.executable, "-c", program]
if os.getuid() == 0:  # whoever may do everything may write everywhere
    command = [{setpriv!r}, "--bounding-set=-all", "--inh-caps=-all", *command]
os.chdir("models")
os.execv(command[0], command)
"""


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def test_a_signal_ends_a_service_that_loads_another_version(folder: Path) -> None:
    with serving(folder, watch_seconds=0.1) as server:
        server.wait_for("/readyz")
        with held_loading(folder) as loading:
            shutil.copytree(folder / "models" / "default" / "1", folder / "models" / "default" / "2")
            loading.wait_until_reached()
            assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST
            server.signal(signal.SIGTERM)
            assert server.wait() == 0, "though it still loads"


def test_more_requests_may_wait_than_any_pool_has_threads(service: Application) -> None:
    with held_window(service.folder) as held, service.client() as client:
        waiting = [service.post("/predict?model=slow", json={"window": held.window})]
        held.wait_until_reached()
        waiting += [service.post("/predict?model=slow", json={"window": WINDOW}) for _ in range(200)]
        for path in (
            "/livez",
            "/healthz",
            "/metrics",
            "/models",
            "/models/flat/example",
            "/openapi.json",
            "/v1/models",
        ):
            assert client.get(path).status_code == 200
        assert not any(asked.done() for asked in waiting)
        held.release()
        assert {asked.result(PATIENCE_SECONDS).status_code for asked in waiting} == {200}


@pytest.mark.parametrize("jump_seconds", [-3600.0, 86400.0])
def test_a_clock_that_jumps_changes_no_time_and_ends_no_request(
    jump_seconds: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, now = time.monotonic(), time.time
    with application(folder) as service, held_window(folder) as held:
        before = all_seconds(service)
        asking = service.post("/predict", json={"window": held.window})
        held.wait_until_reached()
        monkeypatch.setattr(time, "time", lambda: now() + jump_seconds)
        held.release()
        assert asking.result(PATIENCE_SECONDS).json()["prediction"] == held.forecast
        passed = {name: seconds - before.get(name, 0) for name, seconds in all_seconds(service).items()}
    assert any(passed.values())
    assert all(0 <= seconds <= time.monotonic() - started for seconds in passed.values())


def all_seconds(service: Application) -> dict[str, float]:
    """The sums of all times that are measured."""
    lines = service.get("/metrics").result(PATIENCE_SECONDS).text.splitlines()
    pairs = (line.rsplit(maxsplit=1) for line in lines if "_seconds_sum" in line)
    return {name: float(seconds) for name, seconds in pairs}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_log_on_a_full_disk_keeps_it_neither_from_serving_nor_from_stopping(folder: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with serving(folder, stdout=full) as server:
            server.wait_for("/readyz")
            assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST
            assert server.metric("windowcast_log_lines_dropped_total") > 0
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
    finally:
        os.close(full)


@pytest.mark.skipif(os.getuid() == 0 and SETPRIV is None, reason="needs a user with limits")
def test_it_serves_without_a_home_and_where_it_may_write_nothing(folder: Path) -> None:
    models = folder / "models"
    for path in (models, models / "default"):
        path.chmod(0o555)
    try:
        with running(folder, "-c", RESTRICTED.format(setpriv=SETPRIV), models_dir=".") as server:
            server.wait_for("/readyz")
            assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST
            for page in ("/docs", "/metrics", "/models"):
                assert server.get(page).status_code == 200
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
    finally:
        for path in (models, models / "default"):
            path.chmod(0o755)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_the_supervisor_of_workers_has_no_engine(folder: Path) -> None:
    def libraries(pid: int) -> str:
        return Path(f"/proc/{pid}/maps").read_text()

    with serving(folder, workers=2) as server:
        wait_until(lambda: len(server.log("ready")) == 2)
        assert all("onnxruntime" in libraries(worker) for worker in server.workers())
        assert "onnxruntime" not in libraries(server.process.pid)
        assert "tensorflow" not in libraries(server.process.pid)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", {"window": WINDOW}, 200),
        ("/predict/batch", {"windows": [WINDOW] * 3}, 200),
        ("/v1/models/default:predict", {"instances": [WINDOW]}, 200),
        ("/v2/models/default/infer", {"inputs": [INPUT]}, 200),
        ("/predict", {"window": WINDOW[1:]}, 422),
        ("/predict?model=nobody", {"window": WINDOW}, 404),
    ],
)
def test_requests_leave_nothing_for_the_collector(
    path: str, body: object, status: int, service: Application, port: int
) -> None:
    """It stops all requests while it searches, and is started the more often, the more it is left."""
    content = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def ask(times: int) -> None:
        for _ in range(times):
            sock.sendall(request)
            answer = read_answer(sock)
            assert (answer.status, len(answer.read()) > 0) == (status, True)
        service.loop.run(settle())

    async def settle() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        service.front.flush()

    was_on = gc.isenabled()
    with connect(port) as sock:
        ask(5)
        gc.collect()
        gc.disable()
        try:
            ask(REQUESTS)
            left = gc.collect()
        finally:
            if was_on:
                gc.enable()
    assert left < REQUESTS
