"""`python -m app`: settings in, server up."""

import os
import signal

# Before the other imports, which take half a second. Meanwhile a SIGTERM to process 1 of a container, which the kernel
# drops where there is no handler, would be lost, and Ctrl-C would leave a traceback.
if __name__ in {"__main__", "__mp_main__"}:
    for _number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_number, lambda *_: os._exit(0))

import math
import shlex
import sys
from collections.abc import Sequence

from app.errors import AddressError, SettingsError
from app.process.cores import cores_per_worker
from app.process.http.connections import connections_within_limit
from app.process.http.protocol import BoundedProtocol
from app.process.lifecycle import STARTUP_FAILURE, exit_now
from app.process.listening import bind
from app.process.server import Config, Server
from app.process.supervisor import supervise
from app.settings import PREFIX, Settings
from app.telemetry.logs import configure_logs, get_logger

log = get_logger()

USAGE_ERROR = 2
STANDARD_ERROR = 2
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of common load balancers, so that they end an idle connection, and not the service."""


def main() -> None:
    """Serves until a signal comes.

    Exit codes:
        0: stopped by SIGTERM or SIGINT
        2: a setting cannot be used
        3: the service cannot start, as a model is missing or broken or the port is taken; or it cannot go on, as a call
            of an engine or a load of a version has not ended within WINDOWCAST_STALL_SECONDS
    """
    fill_closed_streams()
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(help_text())  # noqa: T201
        sys.exit(0)
    if len(sys.argv) > 1:
        print(advice_on(sys.argv[1:]), file=sys.stderr)  # noqa: T201
        sys.exit(USAGE_ERROR)
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


def fill_closed_streams() -> None:
    """Opens the null device in place of standard streams that are closed.

    Otherwise sockets would get their numbers, and what libraries print would go to clients.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)  # workers get the same streams
    os.close(descriptor)


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


def advice_on(arguments: Sequence[str]) -> str:
    """Returns what to do in place of giving options, which the service does not take."""
    option, _, value = arguments[0].partition("=")
    setting = option.lstrip("-").replace("-", "_")
    if setting not in Settings.model_fields:
        return "The settings come from the environment, not from options; `python -m app --help` lists them."
    value = shlex.quote(value or "".join(arguments[1:2]) or "...")
    variable = f"{PREFIX}{setting.upper()}={value}"
    return f"The settings come from the environment: set {variable}; `python -m app --help` lists them."


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
        drain_seconds=settings.drain_seconds,
        receive_timeout_seconds=settings.receive_timeout_seconds,
        max_connections=connections_within_limit(settings.max_connections),
    )
    try:
        listeners = bind(settings.host, settings.port)
    except AddressError as error:
        log.critical("cannot start", reason=str(error))
        return STARTUP_FAILURE
    if settings.workers > 1:
        return supervise(config, listeners)
    Server(config).run(listeners)
    return 0


if __name__ == "__main__":
    main()
