"""Who forecasts: our training as a user runs it, and the other libraries, each in a process of its own."""

import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from app.arrays import Inputs
from app.engines.choice import load_engine
from app.version.golden import Golden
from app.version.grid import row_numbers
from app.version.manifest import Contract, Manifest
from benchmarks.environments import python_of
from benchmarks.forecasting.tasks import Array, Rows
from benchmarks.models import ROOT
from benchmarks.peers.forecasting import Order
from benchmarks.processes import ContenderFailed, ProcessGroup, environment

OURS = "windowcast"
BESIDE = "windowcast, the checkout beside"
NEURAL = ("NeuralForecast LSTM", "NeuralForecast NHITS", "Darts BlockRNN", "Darts NLinear")
LIGHTGBM = "LightGBM"
STATISTICAL = ("AutoETS", "Theta", "MSTL")

LONGEST_TRAINING = 3600
SPARE_SECONDS, SLOWNESS = 600, 6
"""A peer may take so long by the clock: some seconds to start and to forecast, and some for each CPU second of its fit.

A machine that does other work meanwhile is slow.
"""
CALL_WINDOWS = 256

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
"""A peer has one thread, with which small networks get the most out of a CPU second."""
SILENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "CUDA_VISIBLE_DEVICES": "",
}
"""Keeps peers from reporting to their makers, and from GPUs. `benchmarks.peers.forecasting` refuses all other calls."""


@dataclass(frozen=True, slots=True)
class Own:
    """Our training, with what a user adds to file, time, target and horizon."""

    name: str
    options: tuple[str, ...] = ()
    root: Path = ROOT


@dataclass(frozen=True, slots=True)
class Peer:
    """A method of another library, whose environment has the library's name."""

    name: str
    library: str
    method: str


Contender = Own | Peer

OWN = (Own(OURS),)
"""Our presets: a line for each."""
PEERS = (
    *(Peer(f"NeuralForecast {method}", "neuralforecast", method) for method in ("LSTM", "NHITS")),
    *(Peer(f"Darts {method}", "darts", method) for method in ("BlockRNN", "NLinear")),
    Peer(LIGHTGBM, "lightgbm", LIGHTGBM),
    *(Peer(method, "statsforecast", method) for method in STATISTICAL),
)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is asked of everybody.

    Attributes:
        origins: Most origins of a series that are judged.
        cpu_seconds: CPU time of a peer's fit.
        options: What our training is given besides, to be quick.
    """

    origins: int = 300
    cpu_seconds: float = 240
    options: tuple[str, ...] = ()

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """Returns a run for figures, or one to see that everything works."""
        return cls(20, 15, ("--epochs=2",)) if quick else cls()


@dataclass(frozen=True, slots=True)
class Forecasts:
    """What a contender forecast, and what it took.

    Attributes:
        values: (origins, horizon).
        cpu_seconds: CPU time of its process from start to end, fit and forecasts.
        seconds: The same by the clock.
    """

    values: Array
    cpu_seconds: float
    seconds: float


def contenders(peers_dir: Path, only: Sequence[str], beside: Path | None) -> Iterator[Contender]:
    """Yields everybody who is there and wanted.

    Args:
        peers_dir: Where the environments of the other libraries are; whose environment is missing is left out.
        only: Names of those who are wanted; all if empty.
        beside: Another checkout of this project, to compare with.
    """
    other = [Own(BESIDE, root=beside.absolute())] if beside else []
    everybody: tuple[Contender, ...] = (*OWN, *other, *PEERS)
    for contender in everybody:
        if only and contender.name not in only:
            continue
        if isinstance(contender, Peer) and python_of(peers_dir, contender.library) is None:
            print(f"{contender.name} is left out: environment {contender.library} is missing", file=sys.stderr)
            continue
        yield contender


def train_own(own: Own, rows: Rows, effort: Effort, folder: Path) -> tuple[Forecasts, Manifest]:
    """Trains as a user would, and forecasts from every origin of the test part with the version that is published.

    Raises:
        ContenderFailed: The training failed, or read other rows.
    """
    models_dir = folder / "models"
    options = [*rows.task.options, *own.options, *effort.options, f"--models-dir={models_dir}"]
    command = [sys.executable, "-m", "training", "train", *options]
    clock = _run(command, {"TF_CPP_MIN_LOG_LEVEL": "2"}, own.root, folder / "output.txt", LONGEST_TRAINING)
    version_dir = models_dir / "default" / "1"
    manifest = Manifest.read(version_dir)
    if (manifest.data.rows, manifest.data.test_rows) != (len(rows.values), len(rows.values) - rows.test):
        raise ContenderFailed(f"{own.name} read {manifest.data.rows} rows, not {len(rows.values)}")
    golden = Golden.load(version_dir, manifest.contract)
    engine = load_engine("auto", version_dir, manifest, golden, CALL_WINDOWS, threads=1)
    forecasts = engine.predict(_inputs(rows, manifest.contract))
    return Forecasts(forecasts[:, :, 0].astype(np.float64), *clock), manifest


def _inputs(rows: Rows, contract: Contract) -> Inputs:
    """Returns what a client knows at every origin of the test part, for a model of one feature."""
    windows = rows.windows(rows.origins, contract.steps)[:, :, np.newaxis].astype(np.float32)
    if contract.spacing is None or contract.takes_windows_alone:
        return Inputs(windows)
    kind = np.int64 if contract.spacing.unit == "step" else "datetime64[us]"
    last = np.array(rows.times)[rows.origins - 1].astype(kind)
    return Inputs(windows, time=row_numbers(last, contract.spacing) + 1)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where peers are asked.

    Attributes:
        peers_dir: Where their environments are.
        keep: Folder in which answers are kept, and found by later runs; None keeps none.
    """

    peers_dir: Path
    keep: Path | None = None

    def ask(self, peer: Peer, rows: Rows, effort: Effort, folder: Path) -> Forecasts:
        """Has a peer fit and forecast, or reads what it answered to the same order before.

        Raises:
            ContenderFailed: It failed, took too long, or answered with other than a number for each step.
        """
        order = _order(peer, rows, effort, folder)
        if self.keep is None:
            return self._ask(peer, order, folder)
        file = self.keep / f"{peer.library}-{peer.method}-{_fingerprint(peer, order)}.npz"
        if not file.exists():
            told = self._ask(peer, order, folder)
            self.keep.mkdir(parents=True, exist_ok=True)
            clock = np.array([told.cpu_seconds, told.seconds])
            np.savez(file, allow_pickle=False, forecasts=told.values, clock=clock)
        with np.load(file, allow_pickle=False) as kept:
            return Forecasts(kept["forecasts"], *kept["clock"].tolist())

    def _ask(self, peer: Peer, order: Order, folder: Path) -> Forecasts:
        file = folder / "order.json"
        file.write_text(json.dumps(asdict(order)), encoding="utf-8")
        command = [str(python_of(self.peers_dir, peer.library)), "-m", f"benchmarks.peers.{peer.library}", str(file)]
        limit = SPARE_SECONDS + SLOWNESS * order.cpu_seconds
        clock = _run(command, {**ONE_THREAD, **SILENT}, ROOT, folder / "output.txt", limit)
        with np.load(order.answer, allow_pickle=False) as answer:
            values = answer["forecasts"].astype(np.float64)
        if values.shape != (len(order.origins), order.horizon) or not np.isfinite(values).all():
            raise ContenderFailed(
                f"{peer.name}: forecasts of shape {values.shape}, or with numbers that are not finite"
            )
        return Forecasts(values, *clock)


def _order(peer: Peer, rows: Rows, effort: Effort, folder: Path) -> Order:
    """Writes the rows, and returns what is asked of a peer."""
    file = folder / "rows.csv"
    rows.write(file)
    return Order(
        method=peer.method,
        csv=str(file),
        validation=rows.validation,
        test=rows.test,
        window=rows.task.window,
        horizon=rows.task.horizon,
        seasons=rows.task.seasons,
        origins=tuple(rows.origins[rows.choose(effort.origins)].tolist()),
        cpu_seconds=effort.cpu_seconds,
        answer=str(folder / "forecasts.npz"),
    )


def _fingerprint(peer: Peer, order: Order) -> str:
    """Returns a checksum of what an answer depends on: the rows, the order, the peer's program and its requirements."""
    asked = {name: value for name, value in asdict(order).items() if name not in {"csv", "answer"}}
    parts = [Path(order.csv).read_bytes(), json.dumps(asked).encode()]
    parts += [(ROOT / f"benchmarks/peers/{peer.library}.{suffix}").read_bytes() for suffix in ("py", "txt")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _run(
    command: Sequence[str], variables: Mapping[str, str], root: Path, output: Path, limit: float
) -> tuple[float, float]:
    """Runs a command to its end, and returns its CPU seconds and its seconds by the clock.

    Raises:
        ContenderFailed: The command failed, or took longer than the limit.
    """
    before, started = _cpu_seconds_of_children(), time.monotonic()
    group = ProcessGroup(command, environment(variables, root), root, output)
    try:
        code = group.process.wait(limit)
    except subprocess.TimeoutExpired:
        raise group.failure(f"it took longer than {limit:.0f} s") from None
    finally:
        group.stop()
    if code:
        raise group.failure(f"it ended with exit code {code}")
    return _cpu_seconds_of_children() - before, time.monotonic() - started


def _cpu_seconds_of_children() -> float:
    """Returns the CPU time of all processes that this process has started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
