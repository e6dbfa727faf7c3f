"""uvicorn's server with a drain before its stop, and a stop that loses no connection."""

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from app.errors import AddressError
from app.process.accepting import Acceptor, Connections, Share
from app.process.backlog import HANDSHAKE_SECONDS, ignore_new_clients
from app.process.http.refusals import SharedState
from app.process.lifecycle import STARTUP_FAILURE, exit_now, obey
from app.telemetry.logs import get_logger

log = get_logger()


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

    @property
    def stop_seconds(self) -> float:
        """How long a stop may take: the drain, and the end of what is in flight."""
        return self.drain_seconds + (self.timeout_graceful_shutdown or 0)


class Server(uvicorn.Server):
    """Serves one application.

    Args:
        config: The settings.
        on_started: Called when the server serves.
        share: The server's share of the clients, if other servers accept them too.

    Attributes:
        port_closes: Whether the port closes when this server stops. Other processes may go on serving the port.
    """

    config: Config

    def __init__(
        self, config: Config, on_started: Callable[[], None] = lambda: None, share: Share | None = None
    ) -> None:
        super().__init__(config)
        self.port_closes = True
        self._on_started = on_started
        self._share = share
        self.server_state = SharedState()
        self.server_state.connections = self._connections = Connections()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves until a signal comes."""
        # When it is done, uvicorn raises the signals it caught once more. That they came is no failure.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: exit_now(0))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked where a supervisor has started us
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts the application as uvicorn does, then listens, and takes over the signals."""
        await super().startup([])
        self._acceptor = Acceptor(sockets or [], self._protocol, self._connections, self._share)
        try:
            self._acceptor.start(self.config.backlog)
        except OSError as error:  # another process has begun to listen since the address was bound
            log.critical("cannot start", reason=str(AddressError(self.config.host, self.config.port, error)))
            exit_now(STARTUP_FAILURE)
        self._take_over_signals()
        self._on_started()

    def _take_over_signals(self) -> None:
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
        """Turns new clients away, accepts all that wait, closes the listeners, then lets uvicorn end the connections.

        Where new clients cannot be turned away, next to nothing passes between the last accept and the close.
        """
        if self.port_closes:
            for listener in sockets or []:
                ignore_new_clients(listener)
            await asyncio.sleep(HANDSHAKE_SECONDS)
        await self._acceptor.stop()
        await super().shutdown([])

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
