"""The service in the test's own process: the whole application behind a client, with or without sockets."""

import asyncio
import select
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api.direct import Front
from app.main import create_app
from app.process.http.protocol import BoundedProtocol
from app.process.server import Config, Server
from app.serving.loading import LoadVersion, loader_of
from app.settings import Settings
from app.version import folders
from tests.holding import holdable
from tests.loops import LIMIT_SECONDS, HeldLoop, loop_in_thread
from tests.servers import HOST
from tests.waiting import PATIENCE_SECONDS, wait_until


@dataclass(frozen=True)
class Application:
    """An application that runs.

    Attributes:
        front: The application.
        folder: Where loads and windows are held; see `tests.holding`.
        loop: The event loop that it runs on, whose clock can be moved.
    """

    front: Front
    folder: Path
    loop: HeldLoop

    def client(self) -> httpx.Client:
        """A client of the application."""
        return httpx.Client(transport=_Transport(self), base_url="http://service", trust_env=False)

    def post(self, path: str, **content: Any) -> Future[httpx.Response]:
        """Sends a request; returns its answer, to be waited for."""
        return self._send(httpx.Request("POST", f"http://service{path}", **content))

    def get(self, path: str) -> Future[httpx.Response]:
        """Asks for a document; returns the answer, to be waited for."""
        return self._send(httpx.Request("GET", f"http://service{path}"))

    def _send(self, request: httpx.Request) -> Future[httpx.Response]:
        async def ask() -> httpx.Response:
            answer = await _answer(self, request)
            answer.read()
            return answer

        return self.loop.start(ask())

    def wait_until_ready(self) -> None:
        """Returns once the models are loaded."""
        self.loop.run(self.front.service.wait_until_loaded())


class _Transport(httpx.BaseTransport):
    def __init__(self, application: Application) -> None:
        self._application = application

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        return self._application.loop.run(_answer(self._application, request))


async def _answer(application: Application, request: httpx.Request) -> httpx.Response:
    """Has the application answer as under a server: with 500 where it fails."""
    root_path = application.front.service.settings.root_path
    transport = httpx.ASGITransport(application.front, raise_app_exceptions=False, root_path=root_path)
    answered = await transport.handle_async_request(request)
    raw = httpx.ByteStream(b"".join([part async for part in answered.stream]))  # type: ignore[union-attr]
    return httpx.Response(answered.status_code, headers=answered.headers, stream=raw)


@contextmanager
def application(
    folder: Path, load_version: LoadVersion | None = None, *, is_ready: bool = True, **settings: Any
) -> Iterator[Application]:
    """Runs the service over the models in a folder.

    Args:
        folder: Where `models` is, and where loads and windows are held.
        load_version: Makes of a version's folder something that can forecast; by default as the settings say.
        is_ready: Whether to wait until the models are loaded.
        settings: Of the service.
    """
    chosen = Settings(**{"models_dir": folder / "models", "max_batch_windows": 8, **settings})
    load = holdable(load_version or loader_of(chosen), folder)
    front = create_app(chosen, load_version=load, free_memory=lambda: None)  # not the garbage of all tests so far
    started, stop = asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with front.running():
            started.set()
            await stop.wait()

    with loop_in_thread() as loop:
        serving = loop.start(serve())
        try:
            loop.run(started.wait())
            running = Application(front, folder, loop)
            if is_ready:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(folders, "SETTLING_SECONDS", 0)  # what is there is written whole
                    running.wait_until_ready()
            yield running
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result(PATIENCE_SECONDS)


class ServerInThread(Server):
    """Our server without its care for signals, which only a main thread can catch."""

    def _take_over_signals(self) -> None:
        pass


def config_of(
    app: Any, *, receive_timeout_seconds: float = LIMIT_SECONDS, max_connections: int = 1000, **options: Any
) -> Config:
    """What our server and its connections need to know, for an application that speaks ASGI."""
    return Config(
        app=app,
        http=BoundedProtocol,
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        drain_seconds=0,
        receive_timeout_seconds=receive_timeout_seconds,
        max_connections=max_connections,
        **options,
    )


@contextmanager
def listening(
    app: Any,
    loop: HeldLoop,
    *,
    receive_timeout_seconds: float = LIMIT_SECONDS,
    keep_alive_seconds: float = 10 * LIMIT_SECONDS,
    max_connections: int = 1000,
) -> Iterator[int]:
    """Serves an application on a real socket, with our protocol on an event loop whose clock can be moved.

    Args:
        app: An application that speaks ASGI.
        loop: The event loop.
        receive_timeout_seconds: How long a client may take for a head, and to read an answer.
        keep_alive_seconds: How long a connection may be idle.
        max_connections: How many connections are taken.

    Yields:
        The port.
    """
    config = config_of(
        app,
        receive_timeout_seconds=receive_timeout_seconds,
        timeout_keep_alive=keep_alive_seconds,
        max_connections=max_connections,
    )
    server = ServerInThread(config)

    def has_stopped() -> bool:
        loop.advance(1)  # the time that it gives its clients
        return serving.done()

    with socket.create_server((HOST, 0)) as sock:
        serving = loop.start(server.serve([sock]))
        wait_until(lambda: server.started)
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            wait_until(has_stopped)
            serving.result()


def wait_by_the_clock(sock: socket.socket, loop: HeldLoop) -> None:
    """Moves the clock until the other side of a connection says something, or ends it."""

    def has_something() -> bool:
        loop.advance()
        return has_come(sock)

    wait_until(has_something)


def has_come(sock: socket.socket) -> bool:
    """Whether something of the other side is to be read, or the end of the connection."""
    return bool(select.select([sock], [], [], 0)[0])
