"""Where the service stands between start and stop.

loading ──> ready ──> draining ──> the server closes its listener, finishes what is in flight, and exits
   └────> failed: the default model could not be loaded, or batching ended; a process of ours exits
"""

import os
import sys
from contextlib import suppress
from enum import StrEnum
from typing import NoReturn

from app.telemetry.metrics import READY

STARTUP_FAILURE = 3
"""Exit code of a start that failed. Process managers, and uvicorn's own, know that a retry is of no use."""


class Phase(StrEnum):
    """Where the service stands."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Lifecycle:
    """The phase of the service."""

    def __init__(self) -> None:
        self.phase = Phase.LOADING

    def become_ready(self) -> None:
        """Everything is loaded and warm."""
        if self.phase is Phase.LOADING:
            self.phase = Phase.READY
            READY.set(1)

    def fail(self) -> None:
        """The service cannot start, or go on."""
        self.phase = Phase.FAILED
        READY.set(0)

    def drain(self) -> None:
        """A stop was asked for. Requests are still answered, each with `Connection: close`."""
        self.phase = Phase.DRAINING
        READY.set(0)


def exit_now(code: int) -> NoReturn:
    """Ends the process without waiting for threads that cannot be interrupted."""
    with suppress(Exception):  # nobody reads the log any more
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
