"""Latency at fixed rates, and what is left of the service when it is offered far more than it can do.

A closed loop waits for an answer before it asks again, and so never offers too much. Here the times of all requests are
fixed beforehand, and a latency counts from then on.
"""

import resource
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.dialects import ask_batch_npy, ask_single
from benchmarks.generator import Outcome, encode, send_closed, send_open
from benchmarks.models import Model, made_models
from benchmarks.servers import Server, own_program
from benchmarks.tables import Bar, bars, figure, ratio, table, times

SHAPE = "large"
"""A heavy model, so that the generator can offer five times what the service can do from the same machine."""

DEADLINE_SECONDS = 0.25
"""An answer that comes later is of no use."""
MAX_QUEUE_WINDOWS = 64
"""What an operator would set for such a deadline: as many rows as the engine does in a fraction of it."""

LOADS = {
    "single windows, JSON": (ask_single, 1),
    "batches of 16 windows, npy": (ask_batch_npy, 16),
}
"""What is asked, and how many windows each request has. To refuse takes as long for either, to compute does not."""
MOST_CONNECTIONS = 4000
SHARES = (0.25, 0.5, 0.75, 0.9)
OVERLOADS = (2, 5)
MIN_ACHIEVED = 0.98
"""Share of a rate that must really have been sent for its figures to count."""
OK, REFUSED = 200, 503


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    seconds: float = 10

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """A run for figures, or one to see that everything works."""
        return cls(2) if quick else cls()


def run(only: list[str], effort: Effort) -> Iterator[str]:
    """Yields a table of latencies, one of overloads, and the bars."""
    _allow_many_connections()
    engines = [engine for engine in ("onnx", "tensorflow") if not only or engine in only]
    with made_models([SHAPE]) as models:
        for engine in engines:
            for load in LOADS:
                yield from _measure(models[SHAPE], engine, load, effort)


def _allow_many_connections() -> None:
    """Raises the number of open files as far as this user may, for the service and the generator to inherit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _measure(model: Model, engine: str, load: str, effort: Effort) -> Iterator[str]:
    ask, rows = LOADS[load]
    request, peak_connections = ask(model.windows(rows)), MAX_QUEUE_WINDOWS // rows
    program = own_program(model, engine=engine, max_queue_windows=MAX_QUEUE_WINDOWS, receive_timeout_seconds=60)
    server = Server(program, model.folder / f"open-loop-{engine}-{rows}")
    try:
        server.wait_for(request)
        port, requests = server.port, [encode(request)]
        send_closed(port, requests, peak_connections, seconds=effort.seconds / 4)  # to warm up
        peak = _good_rate(send_closed(port, requests, peak_connections, seconds=effort.seconds))
        outcomes: dict[float, Outcome] = {}
        for share in (*SHARES, *OVERLOADS):
            server.wait_for(request)  # behind what is still under way
            outcomes[share] = send_open(
                port, requests, share * peak, seconds=effort.seconds, connections=MOST_CONNECTIONS
            )
    finally:
        server.group.stop()
    yield f"### {model.shape}, {engine} engine: {load}, peak {figure(peak)} requests/s\n"
    yield f"{_latency_table(outcomes, peak)}\n"
    yield f"{_overload_table(outcomes, peak)}\n"
    yield f"{bars(_bars(outcomes, peak))}\n"


def _latency_table(outcomes: dict[float, Outcome], peak: float) -> str:
    head = ["offered", "requests/s", "p50, ms", "p90, ms", "p99, ms", "p99.9, ms", "not 200", *GENERATOR_HEAD]
    rows = []
    for share in SHARES:
        outcome = outcomes[share]
        milliseconds = outcome.latencies[outcome.statuses == OK] * 1e3
        cells = [figure(_percentile(milliseconds, percent)) for percent in (50, 90, 99, 99.9)]
        failed = _requested(outcome) - len(milliseconds)
        rows.append(
            [
                f"{share:.0%} of the peak",
                figure(share * peak),
                *cells,
                str(failed),
                *_generator_cells(outcome, share * peak),
            ]
        )
    return table(head, rows)


def _overload_table(outcomes: dict[float, Outcome], peak: float) -> str:
    deadline = f"{DEADLINE_SECONDS * 1e3:.0f} ms"
    head = ["offered", "requests/s", f"200 within {deadline}, /s", "of the peak", "200 later, /s", "503, /s"]
    head += ["503 p50, ms", "503 p99, ms", "other", *GENERATOR_HEAD]
    rows = []
    for factor in OVERLOADS:
        outcome = outcomes[factor]
        good, answered = _good_rate(outcome), np.count_nonzero(outcome.statuses == OK) / outcome.seconds
        refusals = _refusals_ms(outcome)
        other = np.count_nonzero((outcome.statuses != OK) & (outcome.statuses != REFUSED))
        cells = [
            figure(good),
            times(ratio(good, peak)),
            figure(answered - good),
            figure(len(refusals) / outcome.seconds),
        ]
        cells += [figure(_percentile(refusals, percent)) for percent in (50, 99)]
        rows.append(
            [
                f"{factor} x the peak",
                figure(factor * peak),
                *cells,
                str(other),
                *_generator_cells(outcome, factor * peak),
            ]
        )
    return table(head, rows)


GENERATOR_HEAD = ["really sent", "unsent", "unanswered", "late p99, ms", "generator busy"]
"""What tells whether the generator did what it should."""


def _generator_cells(outcome: Outcome, rate: float) -> list[str]:
    late = _percentile(outcome.lateness * 1e3, 99)
    counts = [f"{_achieved(outcome, rate):.1%}", str(outcome.unsent), str(outcome.unanswered)]
    return [*counts, figure(late), f"{outcome.processor_share:.0%}"]


def _bars(outcomes: dict[float, Outcome], peak: float) -> Iterator[Bar]:
    worst = max(OVERLOADS)
    yield Bar(f"goodput at {worst} x the peak: of the peak", ratio(_good_rate(outcomes[worst]), peak), ">=", 0.90, "x")
    for factor in OVERLOADS:
        refusals = _percentile(_refusals_ms(outcomes[factor]), 99)
        yield Bar(f"503 at {factor} x the peak: p99", refusals, "<", 50, "ms")
    achieved = min(_achieved(outcome, share * peak) for share, outcome in outcomes.items())
    yield Bar("least share of an offered rate that was really sent", achieved, ">=", MIN_ACHIEVED)


def _good_rate(outcome: Outcome) -> float:
    """Answers per second that came with status 200 and in time."""
    good = (outcome.statuses == OK) & (outcome.latencies <= DEADLINE_SECONDS)
    return np.count_nonzero(good) / outcome.seconds


def _refusals_ms(outcome: Outcome) -> NDArray[np.float64]:
    return np.asarray(outcome.latencies[outcome.statuses == REFUSED] * 1e3)


def _requested(outcome: Outcome) -> int:
    """Requests that were due."""
    return len(outcome.statuses) + outcome.unanswered + outcome.unsent


def _achieved(outcome: Outcome, rate: float) -> float:
    """Share of a rate that was really sent."""
    return (_requested(outcome) - outcome.unsent) / outcome.seconds / rate


def _percentile(values: NDArray[np.float64], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None
