"""uvicorn's server with a stop that loses no connection which was already open for the client."""

import asyncio
import socket
from types import FrameType

import uvicorn
from uvicorn.supervisors.multiprocess import Process

from app.lifecycle import exit_now


class Server(uvicorn.Server):
    """Takes in the connections that wait in the kernel's backlog before it stops; closing the listener resets them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends a process that does not serve yet at once, be it that it imports or that it loads."""
        if not self.started:
            exit_now(0)
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Closes the listener when its backlog is empty, then lets uvicorn end the connections."""
        listeners = [socket.fromfd(s.fileno(), s.family, s.type) for server in self.servers for s in server.sockets]
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        # From here on only the duplicates hold the port: next to nothing passes between the last accept and the close.
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
    """uvicorn's worker process with the server above."""

    @property
    def server(self) -> uvicorn.Server:
        """Made on first use, in the worker."""
        if self._server is None:
            self._server = Server(self.config)
        return self._server
