"""The service as its users run it: a process of its own, on a real socket, set up by WINDOWCAST_* variables."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import orjson

from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
CONNECT_SECONDS = 1.0
"""How long the kernel may take for a connection on this machine, which it makes at once or not at all."""
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP, so that they need not read the certificates of half the world first."""


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that nothing listens on, and that the kernel gives to nobody who does not ask for it by its number."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, 0))
        yield sock.getsockname()[1]


def environment(**settings: object) -> dict[str, str]:
    """This process's environment without WINDOWCAST_* variables of its own, plus the given settings.

    Names in capitals are passed on as they are, others are settings of the service. What a `make` above leaves to a
    `make` below is left out: the one below would tell of it.
    """
    ours = "WINDOWCAST_", "MAKE", "MFLAGS"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
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
        return httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS, verify=NO_TLS, trust_env=False)

    def async_client(self, max_connections: int = 100) -> httpx.AsyncClient:
        """The same for many requests at once."""
        limits = httpx.Limits(max_connections=max_connections)
        timeout = PATIENCE_SECONDS
        return httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=limits, verify=NO_TLS, trust_env=False)

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET on a connection of its own."""
        with self.client() as client:
            return client.get(path)

    def post(self, path: str, **content: Any) -> httpx.Response:
        """The answer to a POST on a connection of its own."""
        with self.client() as client:
            return client.post(path, **content)

    def connect(self) -> socket.socket:
        """A bare connection, for what no decent client would send."""
        return connect(self.port)

    def status_of(self, path: str) -> int | None:
        """Status of one GET on a new connection; None if nobody takes the connection."""
        try:
            with socket.create_connection((HOST, self.port), timeout=CONNECT_SECONDS) as sock:
                sock.settimeout(PATIENCE_SECONDS)
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
                return read_answer(sock).status
        except (OSError, HTTPException):
            return None

    def wait_for(self, path: str, status: int | None = 200) -> None:
        """Returns once GET answers so."""
        wait_until(lambda: self.process.poll() is not None or self.status_of(path) == status)
        assert status is None or self.process.poll() is None, self.output.read_text()

    def metric(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        numbers = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return sum(map(float, numbers))

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        listed = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "spawn_main"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has stopped."""
        return self.process.wait(PATIENCE_SECONDS)

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Its log lines, of one event or of all, with those of every request that was answered before."""
        self.status_of("/metrics")  # which writes down what is held back
        whole, _, _ = self.output.read_bytes().rpartition(b"\n")
        written = whole.splitlines()  # libraries may write, too
        lines: list[dict[str, Any]] = [orjson.loads(line) for line in written if line.startswith(b'{"')]
        return lines if event is None else [line for line in lines if line["event"] == event]


@contextmanager
def running(folder: Path, *arguments: str, stdout: int | None = None, **settings: object) -> Iterator[Server]:
    """Starts the service in a folder, where it looks for `.env` and `models`; it does not outlive the block.

    Args:
        folder: Where it runs.
        arguments: For Python, in place of `-m app`.
        stdout: Where its log goes, as `subprocess` has it; by default into the server's `output`.
        settings: Of the service, and other environment variables.
    """
    with reserved_port() as port:
        output = folder / f"output-{port}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *(arguments or ("-m", "app"))],
                cwd=folder,
                env=environment(**{"port": port, "max_batch_windows": 8, "drain_seconds": 0, **settings}),
                stdout=file if stdout is None else stdout,
                stderr=file,
            )
        try:
            yield Server(process, port, output)
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            finally:
                process.kill()
                process.wait()


def serving(folder: Path, *, stdout: int | None = None, **settings: object) -> AbstractContextManager[Server]:
    """Starts the service with what tests need: folders settle at once, and loads and forecasts can be held."""
    return running(folder, "-m", "tests.service", stdout=stdout, **settings)


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


def connect(port: int) -> socket.socket:
    """A bare connection."""
    return socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS)


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
