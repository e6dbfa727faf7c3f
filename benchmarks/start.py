"""Time from the start of the process to ready, and its memory, for the whole installation and the slim one."""

import http.client
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.environments import python_of
from benchmarks.models import Model, made_models
from benchmarks.processes import HOST, resident_mib
from benchmarks.servers import START_SECONDS, Program, Server, own_program
from benchmarks.tables import Bar, bars, figure, table

POLL_SECONDS = 0.01
SLIM, FULL_TENSORFLOW = "slim, onnx engine", "full, tensorflow engine"


@dataclass(frozen=True, slots=True)
class Start:
    """One start."""

    seconds: float
    resident_mib: float
    highest_mib: float


def run(peers_dir: Path, python: Path | None, only: list[str], *, quick: bool) -> Iterator[str]:
    """Yields the table and the bars.

    Args:
        peers_dir: Where the slim environment is, unless `python` names another.
        python: The Python of the slim installation.
        only: Measure these alone.
        quick: Whether to start once only.
    """
    starts: dict[str, list[Start]] = defaultdict(list)
    with made_models(["small"]) as models:
        model = models["small"]
        programs = _programs(model, python or python_of(peers_dir, "slim"))
        for turn in range(1 if quick else 7):
            for name, program in programs.items():
                if not only or name in only:
                    folder = model.folder / f"{turn}-{name}"
                    starts[name].append(_start(program, folder))
    yield f"### {model.shape}: median of {max(len(some) for some in starts.values())} starts\n\n{_table(starts)}\n"
    yield f"{bars(_bars(starts))}\n"


def _programs(model: Model, slim_python: Path | None) -> dict[str, Program]:
    programs = {
        FULL_TENSORFLOW: own_program(model, engine="tensorflow"),
        "full, engine auto": own_program(model),
    }
    if slim_python is None:
        print(f"{SLIM} is left out: there is no environment for it", file=sys.stderr)
    else:
        programs[SLIM] = own_program(model, python=str(slim_python))
    return programs


def _start(program: Program, folder: Path) -> Start:
    started = time.perf_counter()
    server = Server(program, folder)
    try:
        while not _is_ready(server.port):
            if not server.group.is_running or time.perf_counter() - started > START_SECONDS:
                raise server.group.failure("it does not become ready")
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        return Start(seconds, *resident_mib(server.group.process.pid))
    finally:
        server.group.stop()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=START_SECONDS)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _table(starts: dict[str, list[Start]]) -> str:
    rows = []
    for name, some in starts.items():
        seconds = [start.seconds for start in some]
        resident, highest = _median_mib(some)
        spread = f"{figure(min(seconds))} to {figure(max(seconds))}"
        rows.append([name, figure(median(seconds)), spread, figure(resident), figure(highest)])
    return table(["installation", "ready after, s", "from, to", "RSS when ready, MiB", "highest RSS, MiB"], rows)


def _median_mib(some: list[Start]) -> tuple[float, float]:
    return median(start.resident_mib for start in some), median(start.highest_mib for start in some)


def _bars(starts: dict[str, list[Start]]) -> Iterator[Bar]:
    seconds = {name: median(start.seconds for start in some) for name, some in starts.items()}
    memory = {name: _median_mib(some) for name, some in starts.items()}
    yield Bar(f"{SLIM}: ready after", seconds.get(SLIM), "<=", 1.0, "s")
    yield Bar(f"{SLIM}: highest RSS", memory[SLIM][1] if SLIM in memory else None, "<=", 160, "MiB")
    yield Bar(f"{FULL_TENSORFLOW}: ready after", seconds.get(FULL_TENSORFLOW), "<=", 8, "s")
