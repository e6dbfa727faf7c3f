"""A worker: a process that serves beside others and has a supervisor.

Supervisor and worker talk through a pipe. The supervisor asks whether the worker serves, and tells it to stop. A thread
of the worker answers, so a busy event loop does not look dead. When the supervisor is gone, however it ended, the pipe
ends, and the worker stops.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import NamedTuple

from app.process.accepting import ClientCounts, Share
from app.process.lifecycle import STARTUP_FAILURE, exit_now
from app.process.server import Config, Server
from app.telemetry.logs import get_logger
from app.telemetry.metrics import MULTIPROCESS_DIR, WORKER

log = get_logger()

PING = None
"""Asks a worker whether it serves. The worker answers with a bool."""

COUNTS = "clients"
"""The name of the file in which the workers tell how many clients they have."""

STOP_SPARE_SECONDS = 10.0
"""How much longer than its settings say a worker may take to stop."""


class Stop(NamedTuple):
    """Tells a worker to stop.

    Attributes:
        number: The signal that the worker is to obey.
        port_closes: Whether all workers stop. Otherwise others go on serving the port.
    """

    number: int
    port_closes: bool


class Worker:
    """A worker as its supervisor sees it. The worker starts at once.

    Args:
        config: The server's settings.
        listeners: The sockets that all workers share.
        place: The worker's place among the workers that live, which no other of them has.

    Attributes:
        place: The same.
        name: The name of the process, and of the files of its metrics.
        has_served: Whether the worker has begun to serve.
        is_leaving: Whether the worker was told to stop.
        unanswered: How often the worker was asked since its last answer.
        leave_by: When a worker that was told to stop must have ended, by `time.monotonic`.
    """

    def __init__(self, config: Config, listeners: list[socket.socket], place: int) -> None:
        self.place = place
        self._config = config
        self._pipe, theirs = Pipe()
        arguments = config, listeners, theirs, place
        self.name = f"{WORKER}{place}"
        self._process = get_context("spawn").Process(target=work, args=arguments, name=self.name)
        with ctrl_c_waiting():
            self._process.start()
        theirs.close()  # so that the pipe ends with the worker
        self._started = time.monotonic()
        self._can_talk = True
        self.has_served = False
        self.is_leaving = False
        self.unanswered = 0
        self.leave_by = inf

    @property
    def pid(self) -> int:
        """The worker's process id."""
        assert self._process.pid is not None  # noqa: S101 (it was started)
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since the worker's start."""
        return time.monotonic() - self._started

    @property
    def exit_code(self) -> int | None:
        """How the worker ended; None as long as it lives."""
        return self._process.exitcode

    @property
    def signs(self) -> list[Connection | int]:
        """What to wait for: an answer, or the end of the process."""
        return [self._process.sentinel, *([self._pipe] if self._can_talk else [])]

    def ask(self) -> None:
        """Asks whether the worker serves, unless an earlier question is open. Does not wait for the answer."""
        self.unanswered += 1
        if self.unanswered == 1:
            self._tell(PING)

    def hear(self) -> None:
        """Takes the answers that have come."""
        try:
            while self._can_talk and self._pipe.poll():
                self.has_served = self._pipe.recv()
                self.unanswered = 0
        except (OSError, EOFError):
            self._can_talk = False

    def stop(self, number: int, *, port_closes: bool) -> None:
        """Has the worker obey a signal. A worker that still imports or loads has nothing to finish.

        Args:
            number: The signal.
            port_closes: Whether all workers stop.
        """
        self.is_leaving = True
        self.leave_by = time.monotonic() + self._config.stop_seconds + STOP_SPARE_SECONDS
        if self.has_served:
            self._tell(Stop(number, port_closes))
        elif self.exit_code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends the worker on the spot."""
        self._process.kill()

    def bury(self) -> None:
        """Waits for the end of a worker that has ended or was killed, and releases what was kept of it."""
        self._process.join()
        self._pipe.close()

    def _tell(self, message: Stop | None) -> None:
        with suppress(OSError):  # the worker has ended, which its sentinel tells
            self._pipe.send(message)


@contextmanager
def ctrl_c_waiting() -> Iterator[None]:
    """Blocks Ctrl-C in this process and in those that it starts, for which the server unblocks it again.

    A terminal sends it to all processes at once. Python, while it starts, would answer with a traceback.
    """
    resource_tracker.ensure_running()  # its own start unblocks signals
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def counts_file() -> Path:
    """Returns where the workers tell how many clients they have: beside what they tell of their metrics."""
    return Path(os.environ[MULTIPROCESS_DIR], COUNTS)


def work(config: Config, listeners: list[socket.socket], pipe: Connection, place: int) -> None:
    """Serves, in the worker's process, until a signal, the supervisor or its end says stop."""

    def tell_supervisor() -> None:
        with suppress(OSError):  # it is gone, which stops the worker
            pipe.send(server.started)

    server = Server(config, on_started=tell_supervisor, share=Share(ClientCounts(counts_file()), place))
    server.port_closes = False
    threading.Thread(target=_obey_supervisor, args=(pipe, server), name="supervisor", daemon=True).start()
    code = 0
    try:
        server.run(listeners)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else STARTUP_FAILURE
    except Exception:
        log.critical("uncaught exception", exc_info=True)
        code = 1
    exit_now(code)  # threads that compute would hold up the interpreter's own end


def _obey_supervisor(pipe: Connection, server: Server) -> None:
    try:
        while True:
            match pipe.recv():
                case Stop(number, port_closes):
                    server.port_closes = port_closes
                    os.kill(os.getpid(), number)
                case _:
                    pipe.send(server.started)
    except (OSError, EOFError):
        _stop_alone(server)


def _stop_alone(server: Server) -> None:
    """Stops without a drain: whatever starts the service again needs the port. What is in flight is finished."""
    server.port_closes = True
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(server.config.stop_seconds)
    exit_now(0)
