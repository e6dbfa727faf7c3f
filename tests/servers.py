"""The service as its users run it: a process of its own, on a real socket, set up by WINDOWCAST_* variables."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import orjson

from app.telemetry.journal import DELAY_SECONDS

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
PATIENCE_SECONDS = 30
CONNECT_SECONDS = 0.2
"""How long a busy machine may take for anything, before it counts as hanging."""


def free_port() -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without WINDOWCAST_* variables of its own, plus the given settings.

    Names in capitals are passed on as they are, others are settings of the service.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WINDOWCAST_")}
    given = {name if name.isupper() else f"WINDOWCAST_{name.upper()}": str(value) for name, value in settings.items()}
    return {**inherited, "PYTHONPATH": str(ROOT), **given}


@dataclass(frozen=True)
class Server:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path
    """What it writes to standard output and standard error."""

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return self.output.parent

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def client(self) -> httpx.Client:
        """A client that keeps its connection alive."""
        return httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, trust_env=False)

    def connect(self) -> socket.socket:
        """A bare connection, for what no decent client would send."""
        return socket.create_connection((HOST, self.port), timeout=PATIENCE_SECONDS)

    def status_of(self, path: str) -> int | None:
        """Status of one GET on a new connection; None if nobody takes the connection, which the kernel does at once."""
        timeout = httpx.Timeout(PATIENCE_SECONDS, connect=CONNECT_SECONDS)
        try:
            return httpx.get(f"{self.url}{path}", timeout=timeout, trust_env=False).status_code
        except httpx.TransportError:
            return None

    def wait_for(self, path: str, status: int | None = 200) -> None:
        """Returns once GET answers so."""
        wait_until(lambda: self.process.poll() is not None or self.status_of(path) == status)
        assert status is None or self.process.poll() is None, self.output.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has stopped."""
        return self.process.wait(PATIENCE_SECONDS)

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log lines, of one event or of all."""
        time.sleep(10 * DELAY_SECONDS)
        lines: list[dict[str, Any]] = [orjson.loads(line) for line in self.output.read_bytes().splitlines()]
        return lines if event is None else [line for line in lines if line["event"] == event]


@contextmanager
def running(folder: Path, *arguments: str, **settings: object) -> Iterator[Server]:
    """Starts the service in a folder, where it looks for `.env` and `models`; it does not outlive the block.

    Args:
        folder: Where it runs.
        arguments: For Python, in place of `-m app`.
        settings: Of the service, and other environment variables.
    """
    port = free_port()
    output = folder / f"output-{port}.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *(arguments or ("-m", "app"))],
            cwd=folder,
            env=environment(**{"port": port, "max_batch_windows": 8, "drain_seconds": 0, **settings}),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, port, output)
    try:
        yield server
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()
            process.wait()


def run(folder: Path, *arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs `python -m app` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Returns once the condition holds; fails where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def read_answer(sock: socket.socket) -> HTTPResponse:
    """The next answer on a bare connection; its body is still to be read."""
    answer = HTTPResponse(sock)
    answer.begin()
    return answer


def is_closed(sock: socket.socket) -> bool:
    """Whether the other side ends the connection, now or soon."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
