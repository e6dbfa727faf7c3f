"""Requests per second and latencies of our service beside others, each one worker, all with the same kernel."""

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.dialects import Array
from benchmarks.kernels import Kernel, KernelProcess
from benchmarks.models import Model, made_models
from benchmarks.processes import ContenderFailed
from benchmarks.servers import BESIDE, OURS, OURS_NPY, RAW, RIVALS, Contender, Program, Server, contenders
from benchmarks.tables import Bar, bars, figure, ratio, table, times
from benchmarks.wrk import Figures, drive, require_wrk

CONNECTIONS = (1, 16, 64)
BATCH_CONNECTIONS = 4
"""Enough that a server that can read one batch while it computes another has one to read."""
DECIMALS = 4
"""As in most measured series."""
WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for, again and again."""

    shape: str
    rows: int | None
    """Windows in a request; None for a single one, not in a batch."""
    connections: int
    decimals: int | None = None
    """Decimals of the numbers in the body; None for all that a float32 has, some 18 digits in JSON."""

    @property
    def title(self) -> str:
        """For a heading."""
        what = "single windows" if self.rows is None else f"batches of {self.rows} windows"
        connections = f"{self.connections} {'connection' if self.connections == 1 else 'connections'}"
        return f"{what}, {connections}" + ("" if self.decimals is None else f", {self.decimals} decimals")

    def windows(self, model: Model) -> Array:
        """Returns the windows of a request."""
        windows = model.windows(self.rows or 1)
        if self.decimals is None:
            return windows
        # JSON is written from doubles: a float32 of four decimals has eighteen digits as a double.
        return np.round(windows.astype(np.float64), self.decimals)


@dataclass(frozen=True, slots=True)
class Scene:
    """Loads that the same running servers are put under."""

    shape: str
    loads: tuple[Load, ...]

    @property
    def is_batch(self) -> bool:
        """Whether batches are asked for."""
        return self.loads[0].rows is not None


SCENES = (
    Scene(
        "small",
        (
            *(Load("small", None, connections) for connections in CONNECTIONS),
            *(Load("small", None, connections, DECIMALS) for connections in (1, 16)),
        ),
    ),
    Scene("small", tuple(Load("small", rows, BATCH_CONNECTIONS) for rows in (64, 512))),
    Scene("large", (Load("large", 64, BATCH_CONNECTIONS),)),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    rounds: int = 3
    seconds: int = 2

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """A run for figures, or one to see that everything works."""
        return cls(1, 1) if quick else cls()


Results = dict[tuple[Load, str], Figures]
"""By load and contender."""
BareRows = dict[tuple[Load, int], float]
"""Rows per second of the bare engine, by load and number of threads."""


def run(peers_dir: Path, only: list[str], effort: Effort, beside: Path | None = None) -> Iterator[str]:
    """Yields a table for each load, and the bars at the end.

    Args:
        peers_dir: Where the other servers' environments are.
        only: The contenders to measure; all if empty.
        effort: How long to measure.
        beside: Another checkout of this project, measured in turns with this one.
    """
    require_wrk()
    results: Results = {}
    bare: BareRows = {}
    with made_models(["small", "large"]) as models:
        for number, scene in enumerate(SCENES):
            folder = models["small"].folder / f"scene-{number}"
            folder.mkdir()
            model = models[scene.shape]
            measured, engine = _measure(scene, model, folder, _admitted(scene, model, peers_dir, only, beside), effort)
            results |= measured
            bare |= engine
            for load in scene.loads:
                yield f"### {model.shape}: {load.title}\n\n{_table(load, results, bare)}\n"
    yield f"### Bars\n\n{bars(_bars(results, bare))}\n"


def _admitted(scene: Scene, model: Model, peers_dir: Path, only: list[str], beside: Path | None) -> list[Contender]:
    # Single windows make calls so short that a second thread costs them more than it gives.
    threads = _cores() if scene.is_batch else 1
    everybody = contenders(model, peers_dir, threads, is_batch=scene.is_batch, beside=beside)
    return [contender for contender in everybody if not only or contender.name in {*only, BESIDE}]


def _measure(
    scene: Scene, model: Model, folder: Path, admitted: list[Contender], effort: Effort
) -> tuple[Results, BareRows]:
    """Measures everybody in turns, each alone: the others are paused."""
    rounds: dict[tuple[Load, str], list[Figures]] = defaultdict(list)
    bare: dict[tuple[Load, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        servers = _start(scene, model, folder, admitted, stack)
        engines = _start_engines(model, folder, stack) if scene.is_batch else []
        for load in scene.loads:
            for contender, server in servers.items():
                _drive(server, contender, load, model, folder, WARM_UP_SECONDS)
        for _ in range(effort.rounds):
            for load in scene.loads:
                for contender, server in servers.items():
                    figures = _drive(server, contender, load, model, folder, effort.seconds)
                    rounds[load, contender.name].append(figures)
                for engine in engines:
                    rows = load.rows or 1
                    bare[load, engine.kernel.threads].append(rows / engine.measure(rows, effort.seconds).mean)
    medians = {key: Figures.median_of(figures) for key, figures in rounds.items()}
    return medians, {key: median(rows) for key, rows in bare.items()}


def _start(
    scene: Scene, model: Model, folder: Path, admitted: list[Contender], stack: ExitStack
) -> dict[Contender, Server]:
    """Starts each program once, checks what its contenders answer, and pauses it; who fails is told and left out."""
    running: dict[Program, Server] = {}
    able: dict[Contender, Server] = {}
    for contender in admitted:
        if contender.program not in running:
            running[contender.program] = Server(contender.program, folder / str(len(running)))
            stack.callback(running[contender.program].group.stop)
        server = running[contender.program]
        server.group.resume()
        try:
            server.check(contender.ask, model, is_batch=scene.is_batch)
        except ContenderFailed as failure:
            print(f"{contender.name} is left out: {failure}", file=sys.stderr)
        else:
            able[contender] = server
        server.group.pause()
    return able


def _start_engines(model: Model, folder: Path, stack: ExitStack) -> list[KernelProcess]:
    engines = []
    for threads in sorted({1, _cores()}):
        kernel = Kernel.in_project("windowcast-onnx", threads)
        engines.append(KernelProcess(kernel, model, folder / f"engine-{threads}.txt"))
        stack.callback(engines[-1].stop)
    return engines


def _drive(server: Server, contender: Contender, load: Load, model: Model, folder: Path, seconds: int) -> Figures:
    request = contender.ask(load.windows(model))
    server.group.resume()
    try:
        figures = drive(server.url, request, load.connections, seconds, folder)
        server.wait_for(request)  # behind what wrk left under way, which would slow down the next load
        return figures
    finally:
        server.group.pause()


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _table(load: Load, results: Results, bare: BareRows) -> str:
    measured = {name: figures for (of, name), figures in results.items() if of == load}
    rows = load.rows or 1
    raw, rival, engine = _rate(load, RAW, results), _best_rival(load, results), bare.get((load, _cores()))
    head = ["server", "requests/s", "rows/s", "p50, ms", "p99, ms", "errors", "of the raw limit", "of the best peer"]
    lines = []
    for name, figures in measured.items():
        rate = figures.requests_per_second
        cells = [figure(rate), figure(rate * rows), figure(figures.p50_ms), figure(figures.p99_ms), str(figures.errors)]
        cells += [times(ratio(rate, raw)), times(ratio(rate, rival))]
        lines.append([name, *cells, times(ratio(rate * rows, engine))])
    for (of, threads), rows_per_second in bare.items():
        if of == load:
            name = f"bare engine, {threads} {'thread' if threads == 1 else 'threads'}"
            lines.append([name, "", figure(rows_per_second), *[""] * 5, times(ratio(rows_per_second, engine))])
    lines.sort(key=lambda line: -float(line[2].replace(" ", "")))
    if engine is None:
        return table(head, [line[:-1] for line in lines])
    return table([*head, "of the bare engine"], lines)


def _rate(load: Load, name: str, results: Results) -> float | None:
    figures = results.get((load, name))
    return figures.requests_per_second if figures else None


def _best_rival(load: Load, results: Results) -> float | None:
    return max((rate for name in RIVALS if (rate := _rate(load, name, results)) is not None), default=None)


def _bars(results: Results, bare: BareRows) -> Iterator[Bar]:
    for decimals in (None, DECIMALS):
        single, singles = (Load("small", None, connections, decimals) for connections in (1, 16))
        ours = _rate(singles, OURS, results)
        yield Bar(f"{singles.title}: of the raw limit", ratio(ours, _rate(singles, RAW, results)), ">=", 0.80, "x")
        yield Bar(f"{singles.title}: of the best peer", ratio(ours, _best_rival(singles, results)), ">=", 4.5, "x")
        medians = {name: results[single, name].p50_ms for name in (OURS, RAW) if (single, name) in results}
        yield Bar(f"{single.title}: p50, of the raw limit", ratio(medians.get(OURS), medians.get(RAW)), "<=", 1.25, "x")
    for shape, rows, name, limit in (
        ("small", 512, OURS, 0.80),
        ("small", 512, OURS_NPY, 0.92),
        ("large", 64, OURS, 0.85),
    ):
        load = Load(shape, rows, BATCH_CONNECTIONS)
        rate = _rate(load, name, results)
        compared = ratio(rate * rows if rate else None, bare.get((load, _cores())))
        yield Bar(f"{shape} model, {load.title}, {name}: of the bare engine", compared, ">=", limit, "x")
    for load in (load for scene in SCENES for load in scene.loads):
        if (load, BESIDE) in results:
            compared = ratio(_rate(load, OURS, results), _rate(load, BESIDE, results))
            yield Bar(f"{load.shape} model, {load.title}: of the checkout beside", compared, ">=", 0.98, "x")
    errors = sum(figures.errors for (_, name), figures in results.items() if name.startswith(OURS))
    yield Bar("errors of windowcast in all", float(errors) if results else None, "<=", 0)
