"""Where the service stands between start and stop, and what a signal does to it.

loading ──> ready ──> draining ──> the server closes its listener, finishes what is in flight, and exits
   ├────> failed: the default model could not be loaded, or batching ended; a process of ours exits
   └────> stalled: a call of an engine, or a load, does not end; a process of ours exits a second later

A service inside another application is `stopped` when its lifespan has ended.

The first SIGTERM starts the drain: readiness turns away new traffic while requests are still answered, each with
`Connection: close`, so that load balancers and keep-alive clients leave in peace. A second signal, or Ctrl-C, skips the
rest of the drain. While the service loads it answers nothing but probes, so a signal ends the process at once.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import NoReturn, Protocol

from app.telemetry.logs import flush_logs, get_logger
from app.telemetry.metrics import READY

log = get_logger()

STARTUP_FAILURE = 3
"""Exit code of a process that cannot start, or go on."""


class Phase(StrEnum):
    """Where the service stands."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    STALLED = "stalled"
    STOPPED = "stopped"


class Lifecycle:
    """The phase of the service."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING

    def start(self) -> None:
        """The models are being loaded."""
        self._enter(Phase.LOADING)

    def become_ready(self) -> None:
        """Everything is loaded and warm."""
        if self.phase is Phase.LOADING:
            self._enter(Phase.READY)

    def fail(self) -> None:
        """The service cannot start, or go on."""
        self._enter(Phase.FAILED)

    def stall(self) -> None:
        """Some work does not end, and nothing can interrupt it."""
        self._enter(Phase.STALLED)

    def drain(self) -> None:
        """A stop was asked for. Requests are still answered, each with `Connection: close`."""
        self._enter(Phase.DRAINING)

    def stop(self) -> None:
        """Nothing is answered any more."""
        self._enter(Phase.STOPPED)

    def _enter(self, phase: Phase) -> None:
        READY.inc((phase is Phase.READY) - (self.phase is Phase.READY))
        self.phase = phase


class Application(Protocol):
    """What a signal needs of the application."""

    @property
    def lifecycle(self) -> Lifecycle:
        """Where the service stands."""

    def flush(self) -> None:
        """Writes down what happened last."""


def obey(number: int, application: Application, drain_seconds: float, stop: Callable[[int], None]) -> None:
    """Does what a signal asks for. Must be called on the event loop.

    Args:
        number: The signal.
        application: The application that the process serves.
        drain_seconds: Time between SIGTERM and the stop.
        stop: Stops the server, given the signal.
    """
    lifecycle = application.lifecycle
    if lifecycle.phase is Phase.LOADING:
        # The thread that loads a model cannot be interrupted, and waiting for it would look like a hang.
        with suppress(Exception):  # the disk for the metrics may be full
            application.flush()
        exit_now(0)
    is_first = lifecycle.phase is Phase.READY
    lifecycle.drain()
    if is_first and number == signal.SIGTERM and drain_seconds:
        log.info("draining", seconds=drain_seconds)
        asyncio.get_running_loop().call_later(drain_seconds, stop, number)
    else:
        stop(number)


def exit_now(code: int) -> NoReturn:
    """Ends the process without waiting for threads that cannot be interrupted."""
    flush_logs()
    with suppress(Exception):  # nobody reads it any more
        sys.stderr.flush()
    os._exit(code)
