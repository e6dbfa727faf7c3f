"""The log of a running service: JSON lines, one a request, without payloads."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.app.telemetry.test_lines import fill
from tests.servers import Server, running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    """A client of the process whose log is read."""
    with server.client() as client:
        yield client


WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0.123456789]]


def test_every_request_has_one_line_with_what_an_operator_asks_for(server: Server, client: httpx.Client) -> None:
    client.post("/predict", json={"window": WINDOW}, headers={"X-Request-ID": "logged-once"})
    [line] = [line for line in server.log("request") if line["request_id"] == "logged-once"]
    assert line.pop("milliseconds") > 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "logged-once",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "model": "default",
        "version": 2,
    }


def test_payloads_and_queries_are_not_logged(server: Server, client: httpx.Client) -> None:
    client.post("/predict", json={"window": WINDOW})
    client.post("/predict", json={"window": [["hunter2", 0]] * 4, "hunter2": 1})
    client.post("/predict?model=hunter2", json={"window": WINDOW})
    client.post("/predict?version=hunter2", json={"window": WINDOW})
    client.post("/predict", json={"window": [[3.1e38, 0.123456789]] * 4})
    output = server.output.read_text()
    assert "hunter2" not in output
    assert "0.123456789" not in output
    assert "3.1e38" not in output


def test_a_failed_forecast_is_logged_with_its_request(server: Server, client: httpx.Client) -> None:
    client.post("/predict", json={"window": [[3e38, 0]] * 4}, headers={"X-Request-ID": "failed-once"})
    [line] = [line for line in server.log("request") if line["request_id"] == "failed-once"]
    assert line["status"] == 500
    assert server.log("forecast is not finite")


def test_probes_are_quiet_behind_a_proxy_too(server: Server, proxied_server: Server) -> None:
    for each in (server, proxied_server):
        lines = len(each.log())
        assert all(each.status_of(path) == 200 for path in ("/livez", "/readyz", "/healthz", "/metrics"))
        assert len(each.log()) == lines


def test_a_hostile_path_cannot_forge_a_line(server: Server, client: httpx.Client) -> None:
    lines = len(server.log())
    client.get("/%0a%7b%22event%22:%22forged%22%7d%00%ff%ed%a0%80%1b[31m")
    assert len(server.log()) == lines + 1
    assert not server.log("forged")


def test_the_start_is_told(server: Server) -> None:
    assert [line["model"] for line in server.log("model loaded")] == ["default", "flat", "slow"]
    [ready] = server.log("ready")
    assert ready["try_this"].startswith(f"curl -s {server.url}/models/default/example | ")


def test_folders_that_are_no_versions_are_told(server: Server) -> None:
    ignored = {line["path"].rpartition("/")[2] for line in server.log("ignored: not a version folder (1, 2, 3 ...)")}
    assert ignored == {"007", "latest", "-1", "99999999999999999999"}


def test_a_model_that_cannot_be_served_is_told_by_its_file(server: Server) -> None:
    [line] = server.log("version not served")
    assert line["model"] == "broken"
    assert line["reason"].endswith(
        "broken/1/saved_model.pb: the file is missing, so the export was not finished; export the version again."
    )


CLOSED_STREAMS = """
import os, sys
os.closerange({first}, 3)
os.execv(sys.executable, [sys.executable, "-m", "app"])
"""

UNCAUGHT = """
import threading, time, warnings
from app.telemetry.logs import configure_logs

def fail():
    raise ValueError("of a thread")

configure_logs("info")
warnings.warn("of a library")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("of the process")
"""

LAST_WORDS = """
from app.process.lifecycle import exit_now
from app.telemetry.logs import configure_logs, get_logger

configure_logs("info")
for number in range(1000):
    get_logger().info("last words", number=number)
exit_now(3)
"""

LITTLE_ROOM = """
import runpy
from app.telemetry import lines
lines.MAX_WAITING_BYTES = 1000
runpy.run_module("app", run_name="__main__")
"""


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def test_a_reader_that_hangs_stops_nothing_and_what_it_misses_is_counted(folder: Path) -> None:
    reading, writing = os.pipe()
    fill(writing)  # and nobody reads
    with running(folder, "-c", LITTLE_ROOM, stdout=writing) as server:
        server.wait_for("/readyz")
        for _ in range(20):
            assert server.post("/predict", json={"window": WINDOW}).status_code == 200
        assert server.metric("windowcast_log_lines_dropped_total") > 0
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    os.close(reading)
    os.close(writing)


def test_the_last_lines_come_out_when_a_process_ends_on_the_spot(tmp_path: Path) -> None:
    with running(tmp_path, "-c", LAST_WORDS) as server:
        assert server.wait() == 3
        assert [line["number"] for line in server.log("last words")] == list(range(1000))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("first", [0, 1])
def test_without_standard_output_it_serves(first: int, workers: int, folder: Path) -> None:
    with running(folder, "-c", CLOSED_STREAMS.format(first=first), workers=workers) as server:
        server.wait_for("/readyz")
        assert server.post("/predict", json={"window": WINDOW}).status_code == 200
        for stream in Path(f"/proc/{server.process.pid}/fd").glob("[12]"):  # what libraries print goes to no client
            assert str(stream.readlink()) == "/dev/null"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_warnings_and_uncaught_exceptions_are_events_of_the_log(tmp_path: Path) -> None:
    with running(tmp_path, "-c", UNCAUGHT) as server:
        assert server.wait() == 1
        warning, of_thread, of_process = server.log()
        assert (warning["level"], "of a library" in warning["event"]) == ("warning", True)
        for line, text in ((of_thread, "of a thread"), (of_process, "of the process")):
            assert (line["event"], line["level"]) == ("uncaught exception", "critical")
            assert f"ValueError: {text}" in line["exception"]
        assert "\nTraceback" not in server.output.read_text()
