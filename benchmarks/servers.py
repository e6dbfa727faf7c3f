"""The servers that are measured: how each is started, and what it is asked."""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.dialects import (
    Ask,
    Request,
    ask_batch,
    ask_batch_npy,
    ask_inference_protocol,
    ask_peer,
    ask_single,
    ask_single_npy,
    forecasts_in,
)
from benchmarks.environments import python_of
from benchmarks.kernels import AGREEMENT
from benchmarks.models import ROOT, Model
from benchmarks.processes import HOST, ProcessGroup, environment, free_port

START_SECONDS = 120
RETRY_SECONDS = 0.1
REFUSALS = {400, 413, 415, 422}
"""Answers that no waiting will change."""


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """A server that can be started. `{port}`, and `{port2}` ..., in its command and variables are put in then.

    Attributes:
        command: The command.
        variables: Its environment variables.
        root: The checkout that it imports our modules from.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    root: Path = ROOT


@dataclass(frozen=True, slots=True)
class Contender:
    """A server and the way it is asked. Several contenders may share a program."""

    name: str
    program: Program
    ask: Ask


OURS, OURS_NPY, RAW = "windowcast", "windowcast, npy", "raw limit"
BESIDE = "windowcast, the checkout beside"
RIVALS = tuple(f"{name}{how}" for name in ("MLServer", "LitServe", "BentoML") for how in ("", ", batched"))

MLSERVER_START = ("-c", "from mlserver.cli import main; main()", "start", ".")
MLSERVER_SETTINGS = {
    "MLSERVER_HOST": HOST,
    "MLSERVER_HTTP_PORT": "{port}",
    "MLSERVER_GRPC_PORT": "{port2}",
    "MLSERVER_METRICS_PORT": "{port3}",
    "MLSERVER_PARALLEL_WORKERS": "0",
    "MLSERVER_DEBUG": "false",
    "MLSERVER_MODEL_NAME": "forecaster",
    "MLSERVER_MODEL_IMPLEMENTATION": "benchmarks.peers.mlserver_runtime.Forecaster",
}
BATCHING = {"BATCHED": "yes", "MLSERVER_MODEL_MAX_BATCH_SIZE": "32", "MLSERVER_MODEL_MAX_BATCH_TIME": "0.002"}
"""Has the others put requests together: LitServe and BentoML by the first, MLServer by its own settings."""


def own_program(
    model: Model, *, python: str = sys.executable, prefix: tuple[str, ...] = (), root: Path = ROOT, **settings: object
) -> Program:
    """Our service. A line per request is not logged, as it is not by the others.

    Args:
        model: What it serves.
        python: Which Python runs it.
        prefix: What stands before the command, such as `taskset`.
        root: The checkout whose service runs.
        settings: Its settings.
    """
    given = {"models_dir": model.models_dir, "host": HOST, "port": "{port}", "log_level": "warning", **settings}
    variables = {f"WINDOWCAST_{name.upper()}": str(value) for name, value in given.items()}
    return Program((*prefix, python, "-m", "app"), variables, root)


def contenders(
    model: Model, peers_dir: Path, threads: int, *, is_batch: bool, beside: Path | None = None
) -> list[Contender]:
    """Everybody who is there.

    Args:
        model: What they serve.
        peers_dir: Where the other servers' environments are; whose environment is missing is left out.
        threads: For the kernel of the other servers.
        is_batch: Whether they are asked for batches.
        beside: Another checkout of this project, to compare with.
    """
    ask, ask_npy = (ask_batch, ask_batch_npy) if is_batch else (ask_single, ask_single_npy)
    ours = own_program(model)
    return [
        Contender(OURS, ours, ask),
        *([Contender(BESIDE, own_program(model, root=beside), ask)] if beside else []),
        Contender(OURS_NPY, ours, ask_npy),
        Contender("windowcast, on 1 core", own_program(model, prefix=("taskset", "--cpu-list", "0")), ask),
        Contender("windowcast, 2 workers", own_program(model, workers=2), ask),
        Contender("windowcast, tensorflow", own_program(model, engine="tensorflow"), ask),
        *_peers(model, peers_dir, threads, is_batch=is_batch),
        Contender("FastAPI + signature", _naive(model.version_dir), ask_peer),
        Contender("FastAPI + model.predict", _naive(model.keras_path), ask_peer),
    ]


def _peers(model: Model, peers_dir: Path, threads: int, *, is_batch: bool) -> list[Contender]:
    """The same kernel behind other servers."""
    bento = ("-m", "bentoml", "serve", "benchmarks.peers.bento:Forecaster", "--host", HOST, "--port", "{port}")
    known: list[tuple[str, str, tuple[str, ...], dict[str, str], Ask]] = [
        (RAW, "raw", _uvicorn("benchmarks.peers.raw:app", "--lifespan", "off"), {}, ask_peer),
        ("MLServer", "mlserver", MLSERVER_START, MLSERVER_SETTINGS, ask_inference_protocol),
        ("LitServe", "litserve", ("-m", "benchmarks.peers.litserve_api", "{port}"), {}, ask_peer),
        ("BentoML", "bento", bento, {}, ask_peer),
    ]
    if not is_batch:  # putting requests together is of use to single windows only
        known += [
            (f"{name}, batched", folder, arguments, {**variables, **BATCHING}, ask)
            for name, folder, arguments, variables, ask in known[1:]
        ]
    kernel = {"MODEL": str(model.twin_path), "THREADS": str(threads)}
    return [
        Contender(name, Program((str(python), *arguments), {**kernel, **variables}), ask)
        for name, folder, arguments, variables, ask in known
        if (python := python_of(peers_dir, folder))
    ]


def _naive(path: Path) -> Program:
    variables = {"MODEL": str(path), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return Program((sys.executable, *_uvicorn("benchmarks.peers.naive:app")), variables)


def _uvicorn(application: str, *options: str) -> tuple[str, ...]:
    quiet = ("--host", HOST, "--port", "{port}", "--no-access-log", "--log-level", "warning")
    return "-m", "uvicorn", application, *quiet, *options


class Server:
    """A program that runs.

    Args:
        program: Which.
        folder: Where it runs, an empty one.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        folder.mkdir()
        ports = {name: str(free_port()) for name in ("port", "port2", "port3")}
        self.port = int(ports["port"])
        self.url = f"http://{HOST}:{self.port}"
        command = [word.format(**ports) for word in program.command]
        variables = {name: value.format(**ports) for name, value in program.variables.items()}
        self.group = ProcessGroup(command, environment(variables, program.root), folder, folder / "output.txt")

    def wait_for(self, request: Request) -> bytes:
        """The answer to a request, once there is one with status 200.

        Raises:
            ContenderFailed: The server ended, or does not answer so in time.
        """
        end = time.monotonic() + START_SECONDS
        status: object = "no connection"
        while self.group.is_running and time.monotonic() < end:
            try:
                answer = post(self.url, request)
            except httpx.TransportError:
                pass
            else:
                status = answer.status_code
                if status == httpx.codes.OK:
                    return answer.content
                if status in REFUSALS:
                    break
            time.sleep(RETRY_SECONDS)
        raise self.group.failure(f"no forecast from {request.path} ({status})")

    def check(self, ask: Ask, model: Model, *, is_batch: bool) -> None:
        """Has it forecast the recorded windows, and compares.

        Raises:
            ContenderFailed: It does not compute what the others do.
        """
        with np.load(model.golden_path) as golden:
            rows = None if is_batch else 1
            windows, expected = golden["windows"][:rows], golden["forecasts"][:rows].ravel()
        forecasts = forecasts_in(self.wait_for(ask(windows)))
        if forecasts.shape != expected.shape or np.abs(forecasts - expected).max() > AGREEMENT:
            raise self.group.failure("its forecasts are not those of the model")


def post(url: str, request: Request) -> httpx.Response:
    """Sends a request on a connection of its own."""
    headers = {"Content-Type": request.content_type, "Accept": request.accept}
    return httpx.post(f"{url}{request.path}", content=request.body, headers=headers, timeout=30, trust_env=False)


def errors_logged(server: Server) -> int:
    """How many errors our service has logged."""
    return server.group.output.read_bytes().count(b'"level":"error"')
