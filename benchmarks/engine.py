"""How long one call of each kernel takes: our two engines, and what else computes the same model on a processor."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.environments import python_of
from benchmarks.kernels import Kernel, KernelProcess
from benchmarks.models import Model, made_models
from benchmarks.tables import Bar, bars, figure, ratio, table, times

OURS = "windowcast-onnx"
IN_PROJECT = (OURS, "windowcast-tensorflow", "keras-predict", "signature", "onnxruntime")
IN_ENGINES = ("openvino", "pytorch")
RIVALS = ("onnxruntime", "openvino", "pytorch", "windowcast-tensorflow")
"""The best of them is what our ONNX engine is held against; our own other engine stands for XLA."""

BATCHES = (1, 8, 64, 512)
THREADS = (1, 2)
LIMIT = 1.3


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured."""

    rounds: int = 15
    seconds: float = 0.15

    @classmethod
    def of(cls, *, quick: bool) -> "Effort":
        """A run for figures, or one to see that everything works."""
        return cls(3, 0.03) if quick else cls()


Durations = dict[tuple[str, int], float]
"""Median seconds of a call, by kernel and batch."""


def run(peers_dir: Path, only: list[str], effort: Effort) -> Iterator[str]:
    """Yields a table for each model and number of threads, and the bars at the end."""
    verdicts: list[Bar] = []
    with made_models(["small", "large"]) as models:
        for model in models.values():
            for threads in THREADS:
                title = f"{model.shape}, {threads} {'thread' if threads == 1 else 'threads'}"
                kernels = _kernels(peers_dir, only, threads)
                with ExitStack() as stack:
                    processes = [_start(kernel, model, stack) for kernel in kernels]
                    durations = _measure(processes, effort)
                yield f"### {title}\n\n{_table(processes, durations)}\n"
                verdicts += _bars(title, durations)
    yield f"### Bars\n\n{bars(verdicts)}\n"


def _kernels(peers_dir: Path, only: list[str], threads: int) -> list[Kernel]:
    kernels = [Kernel.in_project(name, threads) for name in IN_PROJECT]
    python = python_of(peers_dir, "engines")
    if python is not None:
        kernels += [Kernel(name, threads, python) for name in IN_ENGINES]
    return [kernel for kernel in kernels if not only or kernel.name in only]


def _start(kernel: Kernel, model: Model, stack: ExitStack) -> KernelProcess:
    process = KernelProcess(kernel, model, model.folder / f"{kernel.name}.txt")
    stack.callback(process.stop)
    return process


def _measure(processes: list[KernelProcess], effort: Effort) -> Durations:
    """In turns, so that whatever else the machine does hits all alike."""
    rounds: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(effort.rounds):
        for batch in BATCHES:
            for process in processes:
                rounds[process.kernel.name, batch].append(process.measure(batch, effort.seconds).median)
    return {key: median(values) for key, values in rounds.items()}


def _table(processes: list[KernelProcess], durations: Durations) -> str:
    head = ["kernel", *(f"batch {batch}, us" for batch in BATCHES), "computed by", "off by"]
    rows = []
    for process in processes:
        cells = []
        for batch in BATCHES:
            ours = durations.get((OURS, batch))
            duration = durations[process.kernel.name, batch]
            cells.append(f"{figure(duration * 1e6)} ({times(ratio(duration, ours))})")
        rows.append([process.kernel.name, *cells, process.release, f"{process.deviation:.0e}"])
    return table(head, rows)


def _bars(title: str, durations: Durations) -> Iterator[Bar]:
    for batch in BATCHES:
        rivals = {name: durations[name, batch] for name in RIVALS if (name, batch) in durations}
        best = min(rivals, key=lambda name: rivals[name], default=None)
        compared = ratio(durations.get((OURS, batch)), rivals[best]) if best else None
        yield Bar(f"{title}, batch {batch}: {OURS} / {best or 'best'}", compared, "<=", LIMIT, "x")
