"""uvicorn's server with a stop that loses no connection which was already open for the client."""

import asyncio
import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Callable
from multiprocessing import get_context
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from app.process.lifecycle import exit_now

HANDSHAKE_SECONDS = 0.1
"""What a client that was half connected when the door closed has left to finish, and we to accept it."""


class Server(uvicorn.Server):
    """Takes in the connections that wait in the kernel's backlog before it stops; closing the listener resets them.

    Args:
        config: As uvicorn takes it.
        is_last: Tells whether the port closes with this server, rather than being served by other processes.
    """

    def __init__(self, config: uvicorn.Config, is_last: Callable[[], bool] = lambda: True) -> None:
        super().__init__(config)
        self._is_last = is_last

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends a process that does not serve yet at once, be it that it imports or that it loads."""
        if not self.started:
            exit_now(0)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shuts the door, closes the listener when its backlog is empty, then lets uvicorn end the connections."""
        listeners = [socket.fromfd(s.fileno(), s.family, s.type) for server in self.servers for s in server.sockets]
        if self._is_last():
            for listener in listeners:
                _ignore_new_clients(listener)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        # From here on only the duplicates hold the port. Where new clients could not be turned away above, next to
        # nothing passes between the last accept and the close.
        waiting = [connection for listener in listeners for connection in _close_when_empty(listener)]
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _ignore_new_clients(listener: socket.socket) -> None:
    """Lets Linux drop requests for a connection; their senders ask again within a second, and are refused by then.

    Without it a client can be connected by the kernel after the last `accept`, and be reset by the close.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI" * len(_DROP_SYN), *sum(_DROP_SYN, ())))
    option = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    with contextlib.suppress(OSError):  # a kernel, or a sandbox in its place, may lack it
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with TCP's flags
    (0x45, 0, 1, 0x02),  # unless SYN is set, skip the next line
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # let it pass
)
"""A classic BPF program: (operation, jump if true, jump if false, operand) a line. Source: Linux' networking/filter."""


def _close_when_empty(listener: socket.socket) -> list[socket.socket]:
    connections = []
    listener.setblocking(False)
    with listener:
        while True:
            try:
                connections.append(listener.accept()[0])
            except OSError:
                return connections


class Worker(Process):
    """uvicorn's worker process with the server above.

    Its supervisor sets `port_closes` before it stops all workers, as opposed to replacing one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.port_closes = get_context("spawn").Event()

    @property
    def server(self) -> uvicorn.Server:
        """Made on first use, in the worker."""
        if self._server is None:
            self._server = Server(self.config, is_last=self.port_closes.is_set)
        return self._server
