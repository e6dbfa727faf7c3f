"""How clients are accepted, and shared out among workers.

All workers listen on the same sockets, so a client that waits when a worker dies is accepted by another. Left alone,
the worker that wakes up first accepts every client of a burst. So each worker tells the others how many clients it has,
and a worker whose share is large leaves the next client to the others for a moment.
"""

import asyncio
import errno
import fcntl
import mmap
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.process.backlog import close_when_empty
from app.telemetry.logs import get_logger

log = get_logger()

MAX_WORKERS = 128
"""Most workers that can live at the same time, those included that are being replaced."""

ABSENT = 2**62
"""Count of a worker that accepts nobody: more than any worker has, so no other worker leaves it a client."""

PAUSE_SECONDS = 0.005
"""How long a worker whose share is large leaves a client to the others."""

MAX_PAUSES = 10
"""After so many pauses in a row the number of clients that are accepted at once does not grow any more."""

MAX_ACCEPTED = 8
"""Most clients that a lone worker accepts in one turn of its event loop. Under load a turn takes long, and probes come
on connections of their own. Clients beyond the bound need files for some turns, until they are refused and gone."""

RETRY_SECONDS = 1.0
"""How long nobody is accepted after the machine had no room for a connection."""

NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class ClientCounts:
    """How many clients each worker has, in a file that all workers map into their memory.

    The file is locked for as long as a process uses it; see `is_in_use`.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_SH)  # as long as the map lives
            self._counts = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    @classmethod
    def create(cls, path: Path) -> "ClientCounts":
        """Makes the file, without workers. Nobody sees the file before it is in use."""
        unseen = path.with_suffix(".new")
        unseen.write_bytes(ABSENT.to_bytes(8, sys.byteorder) * MAX_WORKERS)
        counts = cls(unseen)
        unseen.replace(path)
        return counts

    def set(self, place: int, count: int) -> None:
        """Tells the count of the worker with that place."""
        self._counts[place] = count

    def fewest_beside(self, place: int) -> int:
        """Returns the fewest clients that another worker has, or `ABSENT` without another."""
        counts = self._counts.tolist()
        counts[place] = ABSENT
        return min(counts)


def is_in_use(path: Path) -> bool:
    """Whether a process uses a file of clients' counts. A process that was killed uses nothing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class Share:
    """The clients of one worker, beside those of the others.

    Args:
        counts: The clients of all workers.
        place: The worker's place among the counts.
    """

    def __init__(self, counts: ClientCounts, place: int) -> None:
        self._counts = counts
        self._place = place

    def tell(self, count: int) -> None:
        """Tells the other workers how many clients this one has."""
        self._counts.set(self._place, count)

    def is_large(self, count: int) -> bool:
        """Whether another worker has fewer clients, by three, or by an eighth where they have many."""
        fewest = self._counts.fewest_beside(self._place)
        return count - fewest > 2 + fewest // 8


class Connections(set[Any]):
    """The open connections of a server, into which the protocol of each puts itself.

    Attributes:
        on_change: Called when there is a connection more or less, with 1 or -1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on_change: Callable[[int], None] = lambda _: None

    def add(self, connection: Any) -> None:
        """Takes a connection that has begun."""
        super().add(connection)
        self.on_change(1)

    def discard(self, connection: Any) -> None:
        """Drops a connection that has ended."""
        super().discard(connection)
        self.on_change(-1)


class Acceptor:
    """Accepts the clients of some listeners; beside other workers one in each turn of the event loop.

    Args:
        listeners: The sockets to accept from.
        protocol: Makes the protocol of a connection.
        connections: The connections that are open.
        share: This worker's share, if there are other workers.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        protocol: Callable[[], asyncio.Protocol],
        connections: Connections,
        share: Share | None = None,
    ) -> None:
        self._listeners = listeners
        self._protocol = protocol
        self._connections = connections
        self._connections.on_change = self._note_change
        self._share = share
        self._arriving = 0
        """How many clients are accepted, and not among the connections yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._extra = 0
        """How many clients are accepted though the share is large: twice as many after each pause in a row."""
        self._pauses = 0
        self._pause: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        """Listens, and accepts from now on.

        Args:
            backlog: How many clients may wait.

        Raises:
            OSError: Another process listens there.
        """
        for listener in self._listeners:
            listener.listen(backlog)
            listener.setblocking(False)
        self._tell()
        self._go_on()

    async def stop(self) -> None:
        """Accepts every client that waits, closes the listeners, and returns when all connections have begun."""
        self._rest()
        if self._share is not None:
            self._share.tell(ABSENT)
            self._share = None
        for listener in self._listeners:
            for connection in close_when_empty(listener):
                self._admit(connection)
        await asyncio.gather(*self._tasks)

    def _go_on(self) -> None:
        self._pause = None
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)

    def _rest(self, seconds: float | None = None) -> None:
        """Accepts nobody for that time, or from now on."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
        if self._pause is not None:
            self._pause.cancel()
        self._pause = None if seconds is None else loop.call_later(seconds, self._go_on)

    def _accept(self, listener: socket.socket) -> None:
        """Accepts clients that wait. Beside other workers one client, so that another worker may accept the next."""
        for _ in range(MAX_ACCEPTED if self._share is None else 1):
            if not self._accept_one(listener):
                return

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accepts a client, and tells whether there was one to accept."""
        if self._leaves_it_to_others():
            self._rest(PAUSE_SECONDS)
            return False
        try:
            connection, _ = listener.accept()
        except OSError as error:  # another worker was quicker, or nobody waits any more
            if error.errno in NO_ROOM:
                log.error("no room for connections", reason=error.strerror)  # noqa: TRY400 (the machine is at fault)
                self._rest(RETRY_SECONDS)
            return False
        self._admit(connection)
        return True

    def _leaves_it_to_others(self) -> bool:
        """Whether to leave the client that waits to others. If they do not come, it is accepted after a pause."""
        if not self._is_large():
            self._extra = self._pauses = 0
            return False
        if self._extra:
            self._extra -= 1
            return False
        self._extra = 2**self._pauses
        self._pauses = min(self._pauses + 1, MAX_PAUSES)
        return True

    def _is_large(self) -> bool:
        return self._share is not None and self._share.is_large(len(self._connections) + self._arriving)

    def _tell(self) -> None:
        if self._share is not None:
            self._share.tell(len(self._connections) + self._arriving)

    def _note_change(self, change: int) -> None:
        """Tells the other workers, and goes on where the share has become small enough."""
        if change > 0:
            self._arriving -= 1
        self._tell()
        if self._pause is not None and self._extra and not self._is_large():
            self._pause.cancel()
            self._go_on()

    def _admit(self, connection: socket.socket) -> None:
        self._arriving += 1
        self._tell()
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has left
            self._arriving -= 1
