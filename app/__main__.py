"""`python -m app`: settings in, server up."""

import math
import os
import shutil
import signal
import sys
import tempfile

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess, multiprocess

from app.errors import SettingsError
from app.process.cores import cores_per_worker
from app.process.lifecycle import STARTUP_FAILURE, exit_now
from app.process.protocol import BoundedProtocol
from app.process.server import Server, Worker
from app.settings import PREFIX, Settings
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import MULTIPROCESS_DIR

USAGE_ERROR = 2
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common load balancers, so that they, not we, end an idle connection."""
WORKER_CHECK_SECONDS = 120
"""A worker that loads TensorFlow holds Python's lock for seconds at a time and cannot answer its supervisor."""


def main() -> None:
    """Serves until a signal comes.

    Exit codes: 0 after a signal, 2 for a setting that cannot be used, 3 where the service cannot start.
    """
    if len(sys.argv) > 1:
        print(help_text())  # noqa: T201
        sys.exit(0 if sys.argv[1:] in (["--help"], ["-h"]) else USAGE_ERROR)
    try:
        settings = Settings.read()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(USAGE_ERROR)
    configure_logs(settings.log_level)
    try:
        code = serve(settings)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else STARTUP_FAILURE
    exit_now(code)


def help_text() -> str:
    """Every setting with its default and what it does."""
    lines = [
        "Usage: python -m app",
        "",
        "Serves the models under WINDOWCAST_MODELS_DIR. Settings, from the environment",
    ]
    lines += ["or from .env:", ""]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else field.default
        lines += [f"  {PREFIX}{name.upper()}={default}", f"      {' '.join((field.description or '').split())}"]
    return "\n".join(lines)


def serve(settings: Settings) -> int:
    """Runs the server, in this process or as a supervisor of several; returns the exit code."""
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cores_per_worker(settings.workers)))
    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        root_path=settings.root_path,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds + settings.receive_timeout_seconds),
        timeout_worker_healthcheck=WORKER_CHECK_SECONDS,
    )
    return _serve_here(config) if settings.workers == 1 else _supervise(config)


def _serve_here(config: uvicorn.Config) -> int:
    # When it is done, uvicorn raises the signals it caught once more. That they came is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: exit_now(0))
    Server(config).run()
    return 0


def _supervise(config: uvicorn.Config) -> int:
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
        """Called twice a second."""
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
        """Waits for the workers, which alone hold the port now, so that the last one takes in what waits there."""
        for sock in self.sockets:
            sock.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.terminate_all())
        super().join_all()


if __name__ == "__main__":
    main()
