"""Processes that are measured: started as a group of their own, paused while others are measured, and surely ended."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
STOP_SECONDS = 10
TAIL_CHARACTERS = 2000
KIB_PER_MIB = 1024


class ContenderFailed(Exception):
    """A process that was to be measured ended, or does not do its work."""


def free_port() -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def environment(variables: Mapping[str, str], root: Path) -> dict[str, str]:
    """This process's environment without settings of the service, plus the given ones, with `root` on Python's path.

    It keeps ONNX Runtime from reporting to its maker, in the processes of others too.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WINDOWCAST_")}
    return {**inherited, "ORT_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(root), **variables}


class ProcessGroup:
    """A process and its children.

    Args:
        command: What to run.
        variables: Its whole environment.
        folder: Where it runs.
        output: File for what it writes to standard error, and to standard output unless that is a pipe.
        is_piped: Whether standard input and output are pipes.
    """

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        folder: Path,
        output: Path,
        *,
        is_piped: bool = False,
    ) -> None:
        self.command = command
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env=variables,
                cwd=folder,
                stdin=subprocess.PIPE if is_piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if is_piped else file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether the first process still runs."""
        return self.process.poll() is None

    def pause(self) -> None:
        """Stops the group's clock: one that polls while it is idle would slow down the others."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets the group go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Asks the group to end, and ends it."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def read(self) -> dict[str, Any]:
        """The next line of a piped process, as JSON."""
        pipe = self.process.stdout
        assert pipe is not None
        line = pipe.readline()
        if not line:
            raise self.failure("it ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, order: object) -> dict[str, Any]:
        """Wakes a piped process, gives it an order as a line of JSON, waits for its answer, and pauses it."""
        self.resume()
        pipe = self.process.stdin
        assert pipe is not None
        pipe.write(f"{json.dumps(order)}\n".encode())
        pipe.flush()
        answer = self.read()
        self.pause()
        return answer

    def failure(self, problem: str) -> ContenderFailed:
        """The error that tells what is wrong, with the end of what the process wrote."""
        tail = self.output.read_text(errors="replace")[-TAIL_CHARACTERS:]
        return ContenderFailed(f"{' '.join(self.command)}: {problem}\n{tail}")

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def resident_mib(pid: int) -> tuple[float, float]:
    """Resident memory of a process and all that descend from it, now and at their highest, in MiB."""
    now, highest = 0.0, 0.0
    for member in _tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            status = Path(f"/proc/{member}/status").read_text(encoding="ascii", errors="replace")
            now += _kib(status, "VmRSS") / KIB_PER_MIB
            highest += _kib(status, "VmHWM") / KIB_PER_MIB
    return now, highest


def open_files(pid: int) -> int:
    """How many files, sockets among them, a process and all that descend from it have open."""
    return sum(len(list(Path(f"/proc/{member}/fd").iterdir())) for member in _tree(pid))


def threads(pid: int) -> int:
    """How many threads a process and all that descend from it have."""
    return sum(len(list(Path(f"/proc/{member}/task").iterdir())) for member in _tree(pid))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text(encoding="ascii").split():
                yield from _tree(int(child))


def _kib(status: str, field: str) -> int:
    """A line of `/proc/PID/status` such as `VmRSS:     1234 kB`; a process that is ending has none."""
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0
