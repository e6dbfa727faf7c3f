"""Several worker processes that share one port, and the supervisor that starts, replaces and stops them.

The supervisor waits for signals, for answers and for ends of workers all at once, so no worker can hold it up. It
computes nothing and never blocks.

SIGTERM, SIGINT  stop all workers; a second signal cuts their drain short
SIGHUP           replaces the workers one after another: a new one must serve before an old one is told to stop
SIGTTIN, SIGTTOU one worker more, one less
"""

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from math import inf
from multiprocessing.connection import wait
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from app.process.accepting import ABSENT, MAX_WORKERS, ClientCounts, is_in_use
from app.process.lifecycle import STARTUP_FAILURE
from app.process.server import Config
from app.process.worker import COUNTS, Worker, counts_file
from app.telemetry.logs import get_logger
from app.telemetry.metrics import MULTIPROCESS_DIR

log = get_logger()

STOPS = {signal.SIGTERM, signal.SIGINT}
SIGNALS = STOPS | {
    *(signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),  # heard, and without effect
}

FOLDER_PREFIX = "windowcast-workers-"
"""What the name of the folder begins with in which the workers tell their numbers. Releases that did not lock the
folder had another name for it, so none of theirs is taken for abandoned."""

LOOK_SECONDS = 0.5
"""How often each worker is asked whether it serves."""

WORKER_CHECK_SECONDS = 120
"""Longest silence of a worker. One that loads TensorFlow holds Python's lock for seconds and cannot answer."""

STOP_CHECK_SECONDS = 10
"""Longest silence of a worker that was told to stop."""

STEADY_SECONDS = 30
"""A worker that lived longer is replaced at once when it ends."""

MAX_DELAY_SECONDS = 30


def supervise(config: Config, listeners: list[socket.socket]) -> int:
    """Runs the workers until a signal comes; returns the exit code."""
    remove_abandoned_folders()
    metrics_dir = tempfile.mkdtemp(prefix=FOLDER_PREFIX)
    os.environ[MULTIPROCESS_DIR] = metrics_dir
    try:
        return Supervisor(config, listeners).run()
    finally:
        shutil.rmtree(metrics_dir, ignore_errors=True)


def remove_abandoned_folders() -> None:
    """Removes the folders of supervisors that were killed, once their workers have ended too."""
    for counts in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*/{COUNTS}"):
        with suppress(OSError):  # it belongs to another user, or somebody else removes it
            if not is_in_use(counts):
                shutil.rmtree(counts.parent)


class Supervisor:
    """Keeps as many workers serving as are wanted.

    Args:
        config: The server's settings.
        listeners: The sockets that the workers share, bound.
    """

    def __init__(self, config: Config, listeners: list[socket.socket]) -> None:
        self._config = config
        self._listeners = listeners
        self._wanted = config.workers
        self._counts = ClientCounts.create(counts_file())
        self._workers: list[Worker] = []
        """All that live, in the order of their start."""
        self._outdated: set[Worker] = set()
        """Workers that a restart has still to replace."""
        self._early_ends = 0
        """How many workers in a row ended soon after their start."""
        self._start_after = -inf
        self._next_look = -inf
        self._is_stopping = False
        self._code = 0

    def run(self) -> int:
        """Runs the workers until a signal comes and all of them have ended; returns the exit code."""
        with heard_signals() as signals:
            try:
                while self._workers or not self._is_stopping:
                    self._take_turn(signals)
            finally:
                for worker in self._workers:
                    worker.kill()
                    worker.bury()
        return self._code

    def _take_turn(self, signals: socket.socket) -> None:
        if not self._is_stopping:
            self._start_or_retire()
        seconds = max(0.0, self._next_look - time.monotonic())
        wait([signals, *(sign for worker in self._workers for sign in worker.signs)], seconds)
        for number in received(signals):
            self._obey(number)
        for worker in list(self._workers):
            worker.hear()
            if worker.exit_code is not None:
                self._bury(worker)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            for worker in self._workers:
                self._look_at(worker)

    def _obey(self, number: int) -> None:
        if number in STOPS:
            self._stop(number)
        elif number == signal.SIGHUP:
            log.info("restarting workers")
            self._outdated = set(self._workers)
        elif number == signal.SIGTTIN:
            self._wanted = min(self._wanted + 1, MAX_WORKERS // 2)  # a restart doubles them at most
        elif number == signal.SIGTTOU:
            self._wanted = max(1, self._wanted - 1)

    def _stop(self, number: int) -> None:
        """Stops all workers. Only they hold the port from now on, so the last one accepts every client that waits."""
        self._is_stopping = True
        for listener in self._listeners:
            listener.close()
        for worker in self._workers:
            worker.stop(number, port_closes=True)

    def _start_or_retire(self) -> None:
        """Takes the next step towards as many workers as are wanted, none of them outdated."""
        staying = [worker for worker in self._workers if not worker.is_leaving]
        all_serve = all(worker.has_served for worker in staying)
        if len(staying) < self._wanted:
            self._start()
        elif len(staying) > self._wanted and all_serve:
            staying[0].stop(signal.SIGTERM, port_closes=False)  # an outdated one, if there is one
        elif self._outdated.intersection(staying) and all_serve and len(staying) == len(self._workers):
            self._start()

    def _start(self) -> None:
        """Starts a worker, unless others ended so soon that it must wait."""
        if time.monotonic() < self._start_after:
            return
        taken = {worker.place for worker in self._workers}
        place = next(place for place in count() if place not in taken)
        try:
            self._workers.append(Worker(self._config, self._listeners, place))
        except OSError as error:
            log.error("worker not started", reason=str(error))  # noqa: TRY400 (the machine is at fault)
            self._start_after = time.monotonic() + MAX_DELAY_SECONDS

    def _bury(self, worker: Worker) -> None:
        """Notes the end of a worker, and decides what follows from it."""
        worker.bury()
        self._workers.remove(worker)
        self._counts.set(worker.place, ABSENT)
        mark_process_dead(worker.name)  # type: ignore[no-untyped-call]
        if self._is_stopping or worker.is_leaving:
            return
        others_serve = any(other.has_served for other in self._workers)
        if worker.exit_code == STARTUP_FAILURE and not worker.has_served and not others_serve:
            self._code = STARTUP_FAILURE  # the next start would fail as well
            self._stop(signal.SIGTERM)
            return
        if not worker.has_served and self._outdated:
            log.error("restart given up: the new worker did not come to serve", pid=worker.pid)
            self._outdated.clear()
        delay = self._delay_after(worker)
        self._start_after = time.monotonic() + delay
        log.warning("worker ended", pid=worker.pid, exit_code=worker.exit_code, next_start_in_seconds=delay)

    def _delay_after(self, worker: Worker) -> int:
        """Returns how long to wait before the next start: the longer, the more workers in a row ended early."""
        self._early_ends = 0 if worker.age > STEADY_SECONDS else self._early_ends + 1
        return min(2 ** (self._early_ends - 2), MAX_DELAY_SECONDS) if self._early_ends > 1 else 0

    def _look_at(self, worker: Worker) -> None:
        """Asks a worker whether it serves, and kills one that is silent, or does not stop, for too long.

        Silence is counted in questions and not by the clock: a machine that was suspended proves nothing.
        """
        worker.ask()
        silence = worker.unanswered * LOOK_SECONDS
        if silence > (STOP_CHECK_SECONDS if worker.is_leaving else WORKER_CHECK_SECONDS):
            log.error("worker killed: it does not answer", pid=worker.pid, seconds=silence)
            worker.kill()
        elif time.monotonic() > worker.leave_by:
            log.error("worker killed: it does not stop", pid=worker.pid)
            worker.kill()


@contextmanager
def heard_signals() -> Iterator[socket.socket]:
    """Turns signals into bytes, the number of the signal each, that can be waited for together with other things."""
    ours, pythons = socket.socketpair()
    with ours, pythons:
        ours.setblocking(False)
        pythons.setblocking(False)
        signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)  # without a handler of Python's there is no byte
        try:
            yield ours
        finally:
            signal.set_wakeup_fd(-1)


def received(signals: socket.socket) -> bytes:
    """Returns the numbers of the signals that have come."""
    try:
        return signals.recv(4096)
    except BlockingIOError:
        return b""
