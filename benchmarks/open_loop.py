"""Latency at fixed rates, and what is left of the service when it is offered far more than it can do.

A closed loop waits for an answer before it asks again, and so never offers too much. Here the times of all requests are
fixed beforehand, and a latency counts from then on. Beside an overload a prober asks for `/livez`, as an orchestrator
does. A storm is a closed loop of many clients that ask again at once when they are refused.
"""

import http.client
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.dialects import Request, ask_batch_npy, ask_single
from benchmarks.generator import Outcome, encode, send_closed, send_open
from benchmarks.models import ROOT, Model, made_models
from benchmarks.processes import HOST
from benchmarks.servers import BESIDE, OURS, Program, Server, own_program
from benchmarks.tables import Bar, bars, figure, ratio, table, times

SHAPE = "large"
"""A heavy model, so that the generator can offer five times what the service can do from the same machine."""

DEADLINE_SECONDS = 0.25
"""An answer that comes later is of no use."""
MAX_QUEUE_SECONDS = 0.05
"""What an operator sets for such a deadline: a request waits for the queue, for a call under way and for its own."""
OLD_QUEUE_WINDOWS = 64
"""The same for a checkout that knows no `MAX_QUEUE_SECONDS`."""

LOADS = {
    "single windows, JSON": (ask_single, 1),
    "batches of 16 windows, npy": (ask_batch_npy, 16),
}
"""What is asked, and how many windows each request has. To refuse takes as long for either, to compute does not."""
PEAK_WINDOWS = 64
"""Windows under way at the peak."""
STORM_CLIENTS = 200
MOST_CONNECTIONS = 4000
SHARES = (0.25, 0.5, 0.75, 0.9)
OVERLOADS = (2, 5)
PROBE_SECONDS = 0.03
BOUND = 0.84
"""Goodput at 5 x the peak of a service whose refusals are free: the generator on the same two cores takes the rest."""
MIN_ACHIEVED = 0.98
"""Share of a rate that must really have been sent for its figures to count."""
OK, REFUSED = 200, 503


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    seconds: float = 10
    rounds: int = 3

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """A run for figures, or one to see that everything works."""
        return cls(2, 1) if quick else cls()


@dataclass(slots=True)
class Round:
    """What came of one round.

    Attributes:
        peak: Answers per second of a closed loop.
        outcomes: What came of each rate, by its share of the peak.
        probes: Seconds that each probe took, by the share of the peak.
        storm: What came of the storm.
    """

    peak: float
    outcomes: dict[float, Outcome] = field(default_factory=dict)
    probes: dict[float, list[float]] = field(default_factory=dict)
    storm: Outcome | None = None


def run(only: list[str], effort: Effort, beside: Path | None = None) -> Iterator[str]:
    """Yields a table of latencies, one of overloads, and the bars.

    Args:
        only: The engines to measure; all if empty.
        effort: How long to measure.
        beside: Another checkout of this project, measured in turns with this one.
    """
    _allow_many_connections()
    engines = [engine for engine in ("onnx", "tensorflow") if not only or engine in only]
    with made_models([SHAPE]) as models:
        for engine in engines:
            for load in LOADS:
                yield from _measure(models[SHAPE], engine, load, effort, beside)


def _allow_many_connections() -> None:
    """Raises the number of open files as far as this user may, for the service and the generator to inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(model: Model, engine: str, load: str, effort: Effort, beside: Path | None) -> Iterator[str]:
    """Measures both checkouts in turns, each alone: the other one is paused."""
    ask, windows = LOADS[load]
    request = ask(model.windows(windows))
    programs = {OURS: _program(model, engine, max_queue_seconds=MAX_QUEUE_SECONDS)}
    if beside:
        programs[BESIDE] = _program(model, engine, root=beside, max_queue_windows=OLD_QUEUE_WINDOWS)
    rounds: dict[str, list[Round]] = defaultdict(list)
    with ExitStack() as stack:
        servers: dict[str, Server] = {}
        for name, program in programs.items():
            servers[name] = Server(program, model.folder / f"open-loop-{engine}-{windows}-{len(servers)}")
            stack.callback(servers[name].group.stop)
            servers[name].wait_for(request)
            servers[name].group.pause()
        for _ in range(effort.rounds):
            for name, server in servers.items():
                server.group.resume()
                rounds[name].append(_measure_round(server, request, PEAK_WINDOWS // windows, effort.seconds))
                server.group.pause()
    for name, measured in rounds.items():
        peak = median(each.peak for each in measured)
        yield f"### {model.shape}, {engine} engine: {load}, {name}, peak {figure(peak)} requests/s\n"
        yield f"{_latency_table(measured)}\n"
        yield f"{_overload_table(measured)}\n"
    yield f"{bars(_bars(rounds[OURS]))}\n"


def _program(model: Model, engine: str, root: Path = ROOT, **settings: Any) -> Program:
    # The generator opens connections ahead, on which nothing is said for long.
    return own_program(model, root=root, engine=engine, receive_timeout_seconds=60, **settings)


def _measure_round(server: Server, request: Request, connections: int, seconds: float) -> Round:
    requests = [encode(request)]
    send_closed(server.port, requests, connections, seconds=seconds / 4)  # to warm up
    measured = Round(_good_rate(send_closed(server.port, requests, connections, seconds=seconds)))
    for share in (*SHARES, *OVERLOADS):
        server.wait_for(request)  # behind what is still under way
        with _probing(server.port) as measured.probes[share]:
            measured.outcomes[share] = send_open(
                server.port, requests, share * measured.peak, seconds=seconds, connections=MOST_CONNECTIONS
            )
    server.wait_for(request)
    measured.storm = send_closed(server.port, requests, STORM_CLIENTS, seconds=seconds)
    server.wait_for(request)
    return measured


@contextmanager
def _probing(port: int) -> Iterator[list[float]]:
    """Asks for `/livez` again and again, each time on a new connection; yields the seconds that the answers took."""
    seconds: list[float] = []
    is_over = Event()

    def probe() -> None:
        while not is_over.wait(PROBE_SECONDS):
            started = time.perf_counter()
            connection = http.client.HTTPConnection(HOST, port, timeout=30)
            try:
                connection.request("GET", "/livez")
                is_alive = connection.getresponse().status == OK
            except OSError:
                is_alive = False
            finally:
                connection.close()
            seconds.append(time.perf_counter() - started if is_alive else float("inf"))

    thread = Thread(target=probe)
    thread.start()
    try:
        yield seconds
    finally:
        is_over.set()
        thread.join()


def _latency_table(rounds: Sequence[Round]) -> str:
    head = ["offered", "requests/s", "p50, ms", "p90, ms", "p99, ms", "p99.9, ms", "not 200", *GENERATOR_HEAD]
    rows = []
    for share in SHARES:
        outcomes = [each.outcomes[share] for each in rounds]
        answered = [outcome.latencies[outcome.statuses == OK] * 1e3 for outcome in outcomes]
        cells = [figure(_median(_percentile(latencies, percent) for latencies in answered)) for percent in PERCENTS]
        failed = sum(_requested(outcome) - np.count_nonzero(outcome.statuses == OK) for outcome in outcomes)
        rate = median(share * each.peak for each in rounds)
        rows.append([f"{share:.0%} of the peak", figure(rate), *cells, str(failed), *_generator_cells(rounds, share)])
    return table(head, rows)


PERCENTS = (50, 90, 99, 99.9)


def _overload_table(rounds: Sequence[Round]) -> str:
    deadline = f"{DEADLINE_SECONDS * 1e3:.0f} ms"
    head = ["offered", "requests/s", f"200 within {deadline}, of the peak", "each round", "200 later, /s", "503, /s"]
    head += ["503 p50, ms", "503 p99, ms", "/livez p99, ms", "other", *GENERATOR_HEAD]
    rows = []
    for factor in OVERLOADS:
        outcomes = [each.outcomes[factor] for each in rounds]
        goodputs = [_good_rate(outcome) / each.peak for outcome, each in zip(outcomes, rounds, strict=True)]
        late = [
            np.count_nonzero(outcome.statuses == OK) / outcome.seconds - _good_rate(outcome) for outcome in outcomes
        ]
        refused = [len(_refusals_ms(outcome)) / outcome.seconds for outcome in outcomes]
        cells = [times(median(goodputs)), ", ".join(f"{goodput:.2f}" for goodput in goodputs)]
        cells += [figure(median(late)), figure(median(refused))]
        cells += [figure(_refusal(rounds, factor, percent)) for percent in (50, 99)]
        other = sum(np.count_nonzero(~np.isin(outcome.statuses, (OK, REFUSED))) for outcome in outcomes)
        rate = median(factor * each.peak for each in rounds)
        rows.append(
            [
                f"{factor} x the peak",
                figure(rate),
                *cells,
                figure(_probe(rounds, factor)),
                str(other),
                *_generator_cells(rounds, factor),
            ]
        )
    return table(head, rows)


GENERATOR_HEAD = ["really sent", "unsent", "unanswered", "late p99, ms", "generator busy"]
"""What tells whether the generator did what it should."""


def _generator_cells(rounds: Sequence[Round], share: float) -> list[str]:
    outcomes = [each.outcomes[share] for each in rounds]
    late = _median(_percentile(outcome.lateness * 1e3, 99) for outcome in outcomes)
    busy = median(outcome.processor_share for outcome in outcomes)
    unsent, unanswered = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("unsent", "unanswered"))
    return [f"{_achieved(rounds, share):.1%}", str(unsent), str(unanswered), figure(late), f"{busy:.0%}"]


def _bars(rounds: Sequence[Round]) -> Iterator[Bar]:
    for factor, least in zip(OVERLOADS, (0.85, 0.65), strict=True):
        goodput = median(_good_rate(each.outcomes[factor]) / each.peak for each in rounds)
        yield Bar(f"goodput at {factor} x the peak: of the peak", goodput, ">=", least, "x")
    yield Bar(f"the same over the bound of {BOUND}", ratio(goodput, BOUND), ">=", 0.95, "x")
    for factor in OVERLOADS:
        yield Bar(f"503 at {factor} x the peak: p99", _refusal(rounds, factor, 99), "<", 100, "ms")
        yield Bar(f"/livez at {factor} x the peak: p99", _probe(rounds, factor), "<", 100, "ms")
    storm = median(_good_rate(each.storm) / each.peak for each in rounds if each.storm is not None)
    yield Bar(f"goodput of {STORM_CLIENTS} clients that never pause: of the peak", storm, ">=", 0.5, "x")
    achieved = min(_achieved(rounds, share) for share in (*SHARES, *OVERLOADS))
    yield Bar("least share of an offered rate that was really sent", achieved, ">=", MIN_ACHIEVED)


def _good_rate(outcome: Outcome) -> float:
    """Answers per second that came with status 200 and in time."""
    good = (outcome.statuses == OK) & (outcome.latencies <= DEADLINE_SECONDS)
    return np.count_nonzero(good) / outcome.seconds


def _refusals_ms(outcome: Outcome) -> NDArray[np.float64]:
    return np.asarray(outcome.latencies[outcome.statuses == REFUSED] * 1e3)


def _refusal(rounds: Sequence[Round], factor: float, percent: float) -> float | None:
    """Milliseconds to a refusal: the median of the rounds' percentiles."""
    return _median(_percentile(_refusals_ms(each.outcomes[factor]), percent) for each in rounds)


def _probe(rounds: Sequence[Round], factor: float) -> float | None:
    """Milliseconds to the answer of a probe: the median of the rounds' 99th percentiles."""
    return _median(_percentile(np.asarray(each.probes[factor]) * 1e3, 99) for each in rounds)


def _requested(outcome: Outcome) -> int:
    """Requests that were due."""
    return len(outcome.statuses) + outcome.unanswered + outcome.unsent


def _achieved(rounds: Sequence[Round], share: float) -> float:
    """Least share of a rate that was really sent."""
    outcomes = [(each.outcomes[share], share * each.peak) for each in rounds]
    return min((_requested(outcome) - outcome.unsent) / outcome.seconds / rate for outcome, rate in outcomes)


def _percentile(values: NDArray[np.float64], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None


def _median(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
