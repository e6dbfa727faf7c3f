"""`python -m benchmarks`: measures the service beside others and prints Markdown."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import engine, environments, fitting, forecasts, fuzz, http, open_loop, roll, soak, start
from benchmarks.forecasting.contenders import Desk, Effort, contenders
from benchmarks.forecasting.tasks import BUILT_IN, Rows, TaskError, read_tasks
from benchmarks.machine import header
from training.errors import TrainingError

TERMINATED = 128 + signal.SIGTERM

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Peers = Annotated[Path, typer.Option("--peers", metavar="DIR", help="Where the other servers' environments are.")]
Quick = Annotated[bool, typer.Option("--quick", help="A short run, to see that everything works.")]
Beside = Annotated[
    Path | None,
    typer.Option("--beside", metavar="DIR", help="Another checkout of this project, measured in turns with this."),
]
Rounds = Annotated[int | None, typer.Option("--rounds", min=1, help="Rounds, in place of 3, for a finer comparison.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Measure only this; may be repeated.")]


@app.callback()
def end_cleanly() -> None:
    """Measures the service beside others and prints Markdown."""
    # Like Ctrl-C, so that no server is left behind: most are paused, and would stay for good.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


@app.command("peers")
def make_peers(
    folder: Annotated[Path, typer.Argument(metavar="DIR")] = environments.PEERS_DIR,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Make only this environment; may be repeated.")
    ] = None,
) -> None:
    """Installs what is measured beside us, each in an environment of its own."""
    environments.make_environments(folder, only or [])


@app.command("engine")
def measure_engines(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """How long one call of each engine takes."""
    _print(peers, engine.run(peers, only or [], engine.Effort.of(quick=quick)))


@app.command("http")
def measure_http(
    peers: Peers = environments.PEERS_DIR,
    only: Only = None,
    quick: Quick = False,
    beside: Beside = None,
    rounds: Rounds = None,
) -> None:
    """Requests per second and latencies over HTTP, beside other servers."""
    effort = http.Effort.of(quick=quick)
    _print(peers, http.run(peers, only or [], replace(effort, rounds=rounds or effort.rounds), beside))


@app.command("open-loop")
def measure_open_loop(
    peers: Peers = environments.PEERS_DIR,
    only: Only = None,
    quick: Quick = False,
    beside: Beside = None,
    rounds: Rounds = None,
) -> None:
    """Latency at fixed rates, and goodput under overload."""
    effort = open_loop.Effort.of(quick=quick)
    _print(peers, open_loop.run(only or [], replace(effort, rounds=rounds or effort.rounds), beside))


@app.command("start")
def measure_start(
    peers: Peers = environments.PEERS_DIR,
    python: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Python of an installation without TensorFlow.")
    ] = None,
    only: Only = None,
    quick: Quick = False,
) -> None:
    """Time to ready and memory, of the whole installation and the slim one."""
    _print(peers, start.run(peers, python, only or [], quick=quick))


@app.command("soak")
def soak_service(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """A million requests of every kind, while versions come and go: wrong answers, and memory."""
    _print(peers, soak.run(only or [], quick=quick))


@app.command("roll")
def measure_rolls(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """Requests lost, and latency, while versions come and go under load."""
    _print(peers, roll.run(only or [], quick=quick))


@app.command("fuzz")
def fuzz_service(
    peers: Peers = environments.PEERS_DIR,
    seed: Annotated[int, typer.Option(help="All requests follow from it.")] = 0,
    first: Annotated[int, typer.Option(min=0, help="The number of the first request, to send some again.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many requests are sent.")] = fuzz.COUNT,
) -> None:
    """Odd requests over all routes: whether any does worse than be refused."""
    _print(peers, fuzz.run(peers, seed, first, count))


@app.command("fitting")
def measure_fitting(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """Windows per second that training learns from, beside Keras' own fit."""
    _print(peers, fitting.run(only or [], fitting.Effort.of(quick=quick)))


@app.command("forecasts")
def measure_forecasts(
    peers: Peers = environments.PEERS_DIR,
    tasks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file of series to forecast, in place of the built-in ones."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep what other libraries forecast, for later runs.")
    ] = None,
    only: Only = None,
    quick: Quick = False,
    beside: Beside = None,
) -> None:
    """Errors of forecasts, beside other libraries and cheap methods, and whether our verdicts are right."""
    try:
        series = [Rows.of(task) for task in (read_tasks(tasks) if tasks else BUILT_IN)]
    except (TaskError, TrainingError) as problem:
        raise typer.BadParameter(str(problem), param_hint="--tasks") from None
    there = tuple(contenders(peers, only or [], beside))
    _print(peers, forecasts.run(series, there, Desk(peers, keep), Effort.of(quick=quick)))


def _print(peers: Path, pages: Iterator[str]) -> None:
    """Prints each table as soon as it is there: a run takes minutes."""
    typer.echo(header(peers))
    for page in pages:
        typer.echo(page)


if __name__ == "__main__":
    app()
