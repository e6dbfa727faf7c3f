"""uvicorn's server with a drain before its stop, and a stop that loses no connection."""

import asyncio
import signal
import socket
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from app.process.backlog import HANDSHAKE_SECONDS, close_when_empty, ignore_new_clients
from app.process.lifecycle import exit_now, obey
from app.process.refusals import SharedState


class Config(uvicorn.Config):
    """uvicorn's settings, and ours of a connection and of the stop.

    Args:
        drain_seconds: Time between SIGTERM and the close of the listener.
        receive_timeout_seconds: Longest time that a client may take to send a head or a body, or to read an answer.
        max_connections: Most connections that are taken.
        **options: As uvicorn takes them.
    """

    def __init__(
        self, *, drain_seconds: float, receive_timeout_seconds: float, max_connections: int, **options: Any
    ) -> None:
        super().__init__(**options)
        self.drain_seconds = drain_seconds
        self.receive_timeout_seconds = receive_timeout_seconds
        self.max_connections = max_connections


class Server(uvicorn.Server):
    """Serves one application.

    Args:
        config: The settings.
        is_last: Tells whether the port closes with this server. Other processes may go on serving it.
    """

    config: Config

    def __init__(self, config: Config, is_last: Callable[[], bool] = lambda: True) -> None:
        super().__init__(config)
        self.server_state = SharedState()
        self._is_last = is_last

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts as uvicorn does, then takes over the signals."""
        await super().startup(sockets)
        loop, config = asyncio.get_running_loop(), self.config
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, obey, number, config.loaded_app, config.drain_seconds, self._stop)

    def _stop(self, number: int) -> None:
        self.handle_exit(number, None)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends a process that does not serve yet at once: it imports or loads."""
        if not self.started:
            exit_now(0)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turns new clients away, accepts all that wait, closes the listener, then lets uvicorn end the connections."""
        listeners = [socket.fromfd(s.fileno(), s.family, s.type) for server in self.servers for s in server.sockets]
        if self._is_last():
            for listener in listeners:
                ignore_new_clients(listener)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        # From here on only the duplicates hold the port. Where new clients could not be turned away above, next to
        # nothing passes between the last accept and the close.
        waiting = [connection for listener in listeners for connection in close_when_empty(listener)]
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


class Worker(Process):
    """uvicorn's worker process with the server above.

    Its supervisor sets `port_closes` before it stops all workers, and leaves it alone when it replaces one worker.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.port_closes = get_context("spawn").Event()

    @property
    def server(self) -> uvicorn.Server:
        """Made on first use, in the worker."""
        if self._server is None:
            self._server = Server(self.config, is_last=self.port_closes.is_set)  # type: ignore[arg-type]  # ours
        return self._server

    def ping(self, timeout: float = 5) -> bool:
        """Whether the worker answers in time. A worker that ends meanwhile is not waited for, as uvicorn would."""
        try:
            self.parent_conn.send(b"ping")
            if self.parent_conn not in wait([self.parent_conn, self.process.sentinel], timeout):
                return False
            self.parent_conn.recv()
        except (OSError, EOFError):
            return False
        return True
