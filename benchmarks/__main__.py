"""`python -m benchmarks`: measures the service beside others and prints Markdown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import engine, environments, http
from benchmarks.machine import header

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Peers = Annotated[Path, typer.Option("--peers", metavar="DIR", help="Where the other servers' environments are.")]
Quick = Annotated[bool, typer.Option("--quick", help="A short run, to see that everything works.")]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Measure only this; may be repeated.")]


@app.command("peers")
def make_peers(folder: Annotated[Path, typer.Argument(metavar="DIR")] = environments.PEERS_DIR) -> None:
    """Installs what is measured beside us, each in an environment of its own."""
    environments.make_environments(folder)


@app.command("engine")
def measure_engines(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """How long one call of each engine takes."""
    _print(peers, engine.run(peers, only or [], engine.Effort.of(quick=quick)))


@app.command("http")
def measure_http(peers: Peers = environments.PEERS_DIR, only: Only = None, quick: Quick = False) -> None:
    """Requests per second and latencies over HTTP, beside other servers."""
    _print(peers, http.run(peers, only or [], http.Effort.of(quick=quick)))


def _print(peers: Path, pages: Iterator[str]) -> None:
    """Prints each table as soon as it is there: a run takes minutes."""
    typer.echo(header(peers))
    for page in pages:
        typer.echo(page)


if __name__ == "__main__":
    app()
