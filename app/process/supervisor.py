"""Several worker processes that share one port."""

import os
import shutil
import signal
import tempfile

from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess, multiprocess

from app.process.lifecycle import STARTUP_FAILURE
from app.process.server import Config, Worker
from app.telemetry.metrics import MULTIPROCESS_DIR


def supervise(config: Config) -> int:
    """Runs the workers until a signal comes; returns the exit code."""
    metrics_dir = tempfile.mkdtemp(prefix="windowcast-metrics-")
    os.environ[MULTIPROCESS_DIR] = metrics_dir
    multiprocess.Process = Worker  # type: ignore[misc]  # uvicorn has no setting for it
    try:
        supervisor = Supervisor(config, sockets=[config.bind_socket()])
        supervisor.run()
    finally:
        shutil.rmtree(metrics_dir, ignore_errors=True)
    failed = any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes)
    return STARTUP_FAILURE if failed else 0


class Supervisor(Multiprocess):
    """uvicorn's supervisor, which passes on a second signal too while it waits for its workers to drain.

    It also takes workers that are gone out of the metrics of live ones.
    """

    _pids: frozenset[int | None] = frozenset()

    def keep_subprocess_alive(self) -> None:
        """Replaces workers that are gone. uvicorn calls it twice a second."""
        super().keep_subprocess_alive()
        pids = frozenset(process.pid for process in self.processes)
        for pid in self._pids - pids:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
        self._pids = pids

    def terminate_all(self) -> None:
        """Stops all workers, and tells them that nobody takes their place."""
        for process in self.processes:
            process.port_closes.set()  # type: ignore[attr-defined]  # they are ours
        super().terminate_all()

    def join_all(self) -> None:
        """Waits for the workers. They alone hold the port now, so the last worker accepts every client that waits."""
        for sock in self.sockets:
            sock.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.terminate_all())
        super().join_all()
