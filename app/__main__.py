"""`python -m app`: settings in, server up."""

import math
import os
import signal
import sys

from app.errors import SettingsError
from app.process.connections import connections_within_limit
from app.process.cores import cores_per_worker
from app.process.lifecycle import STARTUP_FAILURE, exit_now
from app.process.protocol import BoundedProtocol
from app.process.server import Config, Server
from app.process.supervisor import supervise
from app.settings import PREFIX, Settings
from app.telemetry.logs import configure_logs

USAGE_ERROR = 2
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common load balancers, so that they end an idle connection, and not the service."""
WORKER_CHECK_SECONDS = 120
"""A worker that loads TensorFlow holds Python's lock for seconds at a time and cannot answer its supervisor."""


def main() -> None:
    """Serves until a signal comes.

    Exit codes:
        0: stopped by SIGTERM or SIGINT
        2: a setting cannot be used
        3: the service cannot start: a model is missing or broken, or the port is taken
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
    """Returns every setting with its default and what it does."""
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
    config = Config(
        app="app.main:own_process",
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
        drain_seconds=settings.drain_seconds,
        receive_timeout_seconds=settings.receive_timeout_seconds,
        max_connections=connections_within_limit(settings.max_connections),
    )
    return _serve_here(config) if settings.workers == 1 else supervise(config)


def _serve_here(config: Config) -> int:
    # When it is done, uvicorn raises the signals it caught once more. That they came is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: exit_now(0))
    Server(config).run()
    return 0


if __name__ == "__main__":
    main()
