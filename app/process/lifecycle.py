"""Where the process stands between start and stop, and what a signal does to it.

loading ──> ready ──> draining ──> the server closes its listener, finishes what is in flight, and exits

The first SIGTERM starts the drain: readiness turns away new traffic while requests are still answered, each with
`Connection: close`, so that load balancers and keep-alive clients leave in peace. A second signal, or Ctrl-C, skips the
rest of the drain. While loading nothing is being answered yet, so a signal ends the process at once.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import FrameType
from typing import Any, NoReturn

import structlog

from app.telemetry.journal import flush_all
from app.telemetry.metrics import READY

log = structlog.get_logger()

STARTUP_FAILURE = 3
"""Exit code of a start that failed; process managers, and uvicorn's own, know it as not worth a retry."""


class Phase(StrEnum):
    """Where the process stands."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"


class Lifecycle:
    """The phase, and the signal handlers that change it.

    Args:
        drain_seconds: Time between SIGTERM and the close of the listener.
    """

    def __init__(self, drain_seconds: float) -> None:
        self.phase = Phase.LOADING
        self._drain_seconds = drain_seconds
        self._stop_server: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def become_ready(self) -> None:
        """Everything is loaded and warm."""
        self.phase = Phase.READY
        READY.set(1)

    def catch_signals(self) -> None:
        """Puts the drain in front of the server's own handlers; does nothing outside the main thread, as in tests."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            handler = signal.getsignal(number)
            if callable(handler):
                self._stop_server[number] = handler
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: int) -> None:
        if self.phase is Phase.LOADING:
            # The thread that loads a model cannot be interrupted, and waiting for it would look like a hang.
            exit_now(0)
        first = self.phase is Phase.READY
        self.phase = Phase.DRAINING
        READY.set(0)
        if first and number == signal.SIGTERM and self._drain_seconds:
            log.info("draining", seconds=self._drain_seconds)
            asyncio.get_running_loop().call_later(self._drain_seconds, self._stop_server[number], number, None)
        else:
            self._stop_server[number](number, None)


def exit_now(code: int) -> NoReturn:
    """Ends the process without waiting for threads that cannot be interrupted."""
    with suppress(Exception):  # nobody reads the log any more, or the disk for the metrics is full
        flush_all()
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
