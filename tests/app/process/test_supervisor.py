"""Several workers, and the supervisor that starts, replaces and stops them."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from threading import Event

import httpx
import orjson
import pytest

from tests.app.process.test_lifecycle import FORECAST, WINDOW
from tests.holding import held_loading, held_window
from tests.servers import Server, read_answer, run, running, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")

QUICK_SUPERVISOR = """
import runpy
from app.process import supervisor
{changes}
if __name__ == "__main__":
    runpy.run_module("app", run_name="__main__")
"""

MORTAL_WORKERS = """
from app.__main__ import main
from app.serving.batching import Batcher

Batcher._take_batch = lambda self: 1 / 0

if __name__ == "__main__":
    main()
"""

STILLBORN_WORKERS = """
import os
from app.__main__ import main

if __name__ == "__main__":
    main()
else:
    os._exit(7)
"""


@pytest.fixture
def folder(twin_dir: Path) -> Path:
    """Where a server with one model can be started."""
    return twin_dir.parents[2]


def script(folder: Path, text: str) -> str:
    """Writes a program that starts the service, which its workers run too."""
    (folder / "script.py").write_text(text)
    return "script.py"


def wait_until_ready(server: Server, starts: int = 2) -> None:
    """Returns once so many workers have become ready, those that have ended since included."""
    wait_until(lambda: len(server.log("ready")) >= starts)


def is_alive(pid: int) -> bool:
    """Whether a process that is no child of this one exists."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc/self").exists() else True
    except OSError:
        return False


def ask_while(server: Server, work: Callable[[], None], clients: int = 4) -> list[str]:
    """Has clients ask, on a connection for each request, while something happens; returns what was no success."""
    failures: list[str] = []
    enough = Event()

    def keep_asking() -> None:
        while not enough.is_set():
            try:
                with server.connect() as sock:
                    sock.sendall(b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    if (status := read_answer(sock).status) != 200:
                        failures.append(str(status))
            except (OSError, HTTPException) as error:
                failures.append(repr(error))

    with ThreadPoolExecutor() as executor:
        asking = [executor.submit(keep_asking) for _ in range(clients)]
        try:
            work()
        finally:
            enough.set()
        for each in asking:
            each.result()
    return failures


def test_two_workers_serve_count_together_and_stop(folder: Path) -> None:
    requests = 40
    with serving(folder, workers=2, drain_seconds=0.5) as server:
        wait_until_ready(server)
        for _ in range(requests):
            assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST
        wait_until(lambda: server.metric("windowcast_batch_windows_sum") == requests)
        assert server.metric("windowcast_ready") == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_worker_that_replaces_a_dead_one_takes_no_request_before_it_is_ready(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        os.kill(server.workers()[0], signal.SIGKILL)
        statuses = set()
        while len(server.log("ready")) < 3:
            statuses.add(server.post("/predict", json={"window": WINDOW}).status_code)
        assert statuses == {200}
        assert server.metric("windowcast_ready") == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_worker_that_dies_before_it_answers_its_supervisor_is_replaced(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        time.sleep(1)  # the supervisor asks twice a second
        os.kill(worker, signal.SIGKILL)
        wait_until_ready(server, 3)


def test_a_worker_that_is_silent_for_too_long_is_replaced(folder: Path) -> None:
    program = script(folder, QUICK_SUPERVISOR.format(changes="supervisor.WORKER_CHECK_SECONDS = 3"))
    with running(folder, program, workers=2) as server:
        wait_until_ready(server)
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: not is_alive(worker))
        wait_until_ready(server, 3)
        assert server.log("worker killed: it does not answer")[0]["pid"] == worker


def test_sigterm_is_heard_though_a_worker_does_not_answer(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        stopped, other = server.workers()
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(1)  # the supervisor asks twice a second
        server.signal(signal.SIGTERM)
        wait_until(lambda: not is_alive(other))
        os.kill(stopped, signal.SIGCONT)
        assert server.wait() == 0


def test_a_worker_that_does_not_stop_is_killed(folder: Path) -> None:
    program = script(folder, QUICK_SUPERVISOR.format(changes="supervisor.STOP_CHECK_SECONDS = 1"))
    with running(folder, program, workers=2) as server:
        wait_until_ready(server)
        worker = server.workers()[0]
        os.kill(worker, signal.SIGSTOP)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not is_alive(worker)


def test_two_workers_that_start_end_at_once_on_a_signal(folder: Path) -> None:
    with held_loading(folder), serving(folder, workers=2) as server:
        wait_until(lambda: len(server.workers()) == 2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_two_workers_that_load_end_at_once_on_a_signal(folder: Path) -> None:
    with held_loading(folder) as loading, serving(folder, workers=2) as server:
        loading.wait_until_reached(processes=2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0, "though they still load"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_two_workers_that_import_tensorflow_end_before_it_is_there(version_dir: Path) -> None:
    def import_tensorflow() -> bool:
        return any("tensorflow" in Path(f"/proc/{worker}/maps").read_text() for worker in server.workers())

    with running(version_dir.parents[2], workers=2) as server:
        wait_until(import_tensorflow)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "model loaded" not in server.output.read_text()


def test_a_second_signal_ends_the_drain_of_two_workers(folder: Path) -> None:
    with serving(folder, workers=2, drain_seconds=600) as server:
        wait_until_ready(server)
        server.signal(signal.SIGTERM)
        wait_until(lambda: len(server.log("draining")) == 2)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_ctrl_c_stops_two_workers_without_a_drain(folder: Path) -> None:
    with serving(folder, workers=2, drain_seconds=600) as server:
        wait_until_ready(server)
        server.signal(signal.SIGINT)  # to the supervisor alone
        assert server.wait() == 0


def test_ctrl_c_ends_workers_whose_engine_still_computes(folder: Path) -> None:
    with (
        held_window(folder) as held,
        serving(folder, workers=2, request_timeout_seconds=0.5, receive_timeout_seconds=0.5) as server,
    ):
        wait_until_ready(server)
        workers = server.workers()
        assert server.post("/predict", json={"window": held.window}).status_code == 504
        for process in (*workers, server.process.pid):  # as a terminal does
            os.kill(process, signal.SIGINT)
        assert server.wait() == 0
        assert not any(map(is_alive, workers))


def test_ctrl_c_while_two_workers_start_leaves_no_traceback(folder: Path) -> None:
    with held_loading(folder), serving(folder, workers=2) as server:
        wait_until(lambda: len(server.workers()) == 2)
        for process in (*server.workers(), server.process.pid):  # as a terminal does
            os.kill(process, signal.SIGINT)
        assert server.wait() == 0
        assert server.output.read_text() == ""


def test_two_workers_without_a_model_stop_with_the_same_exit_code_and_nothing_is_left_behind(tmp_path: Path) -> None:
    stopped = run(tmp_path, port=0, workers=2)
    assert stopped.returncode == 3
    assert "models/default: holds no version of a model" in stopped.stdout
    assert stopped.stderr == "", "nor does Python warn of semaphores"


def test_a_restart_replaces_every_worker_and_loses_no_request(folder: Path) -> None:
    def restart() -> None:
        server.signal(signal.SIGHUP)
        wait_until_ready(server, 4)
        wait_until(lambda: len(server.workers()) == 2 and not {*server.workers()} & former)

    with serving(folder, workers=2, drain_seconds=0.2) as server:
        wait_until_ready(server)
        former = {*server.workers()}
        assert ask_while(server, restart) == []
        assert server.metric("windowcast_ready") == 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_sigterm_is_heard_during_a_restart(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        with held_loading(folder) as loading:
            server.signal(signal.SIGHUP)
            loading.wait_until_reached()
            server.signal(signal.SIGTERM)
            assert server.wait() == 0, "though the new worker still loads"


def test_a_restart_that_cannot_succeed_leaves_the_workers_alone(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        former = server.workers()
        (folder / "models").rename(folder / "away")
        server.signal(signal.SIGHUP)
        wait_until(lambda: bool(server.log("restart given up: the new worker did not come to serve")))
        assert server.workers() == former
        assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST


def test_a_worker_that_cannot_go_on_is_replaced_and_the_others_stay(folder: Path) -> None:
    with running(folder, script(folder, MORTAL_WORKERS), workers=2) as server:
        wait_until_ready(server)
        with pytest.raises(httpx.TransportError):
            server.post("/predict", json={"window": WINDOW})
        wait_until_ready(server, 3)
        [line] = server.log("worker ended")
        assert line["exit_code"] == 3
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_worker_whose_engine_stalls_is_replaced_and_the_others_stay(folder: Path) -> None:
    with held_window(folder) as held, serving(folder, workers=2, stall_seconds=4) as server:
        wait_until_ready(server)
        with pytest.raises(httpx.TransportError):
            server.post("/predict", json={"window": held.window})
        wait_until_ready(server, 3)
        assert [line["exit_code"] for line in server.log("worker ended")] == [3]
        assert [(line["model"], line["version"]) for line in server.log("stalled")] == [("default", 1)]
        assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST


def test_a_worker_that_cannot_be_replaced_does_not_stop_the_others(folder: Path) -> None:
    with serving(folder, workers=2) as server:
        wait_until_ready(server)
        (folder / "models").rename(folder / "away")
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: [line["exit_code"] for line in server.log("worker ended")] == [-9, 3])
        assert server.post("/predict", json={"window": WINDOW}).json()["prediction"] == FORECAST


def test_workers_that_end_at_once_are_started_again_after_a_growing_delay(folder: Path) -> None:
    def delays() -> list[int]:
        lines = server.output.read_text().splitlines()
        return [orjson.loads(line)["next_start_in_seconds"] for line in lines if "worker ended" in line]

    with running(folder, script(folder, STILLBORN_WORKERS), workers=2) as server:
        wait_until(lambda: len(delays()) >= 4)
        assert delays()[:4] == [0, 1, 2, 4]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_workers_end_with_their_supervisor_and_finish_what_is_in_flight(folder: Path) -> None:
    with held_window(folder) as held, serving(folder, workers=2, drain_seconds=600) as server:
        wait_until_ready(server)
        workers = server.workers()
        with ThreadPoolExecutor() as executor:
            asking = executor.submit(lambda: server.post("/predict", json={"window": held.window}))
            held.wait_until_reached()
            server.process.kill()
            server.wait()
            server.wait_for("/livez", None)
            wait_until(lambda: sum(map(is_alive, workers)) == 1)
            held.release()
            assert asking.result().json()["prediction"] == held.forecast
        wait_until(lambda: not any(map(is_alive, workers)))


def test_a_port_that_another_process_takes_meanwhile_ends_the_start(folder: Path) -> None:
    with held_loading(folder) as loading, serving(folder, workers=2) as server, socket.socket() as other:
        loading.wait_until_reached()  # the port is bound, and nobody listens yet
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        loading.release()
        assert server.wait() == 3
        assert f"Another process listens on 127.0.0.1:{server.port}; " in server.output.read_text()
