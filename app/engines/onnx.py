"""The ONNX engine: a version's fused twin, run by ONNX Runtime. It needs no TensorFlow.

The calling thread computes a small batch alone: waking other threads at every step takes longer than they save, up to
twice as long if the other cores are busy. ONNX Runtime's threads share a larger batch. The number of threads is fixed
for a session, so there are two sessions.

A still larger batch is cut into pieces, which stay in the processor's cache and keep ONNX Runtime's memory small. Each
thread takes the next piece as soon as it is free. So a thread whose core is wanted by the event loop does less, and the
others need not wait for it, where ONNX Runtime divides a batch among its threads in advance.
"""

import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from app.arrays import Array, Inputs
from app.engines.engine import call_windows, check_forecasts
from app.errors import ArtifactError, EngineNotInstalled
from app.version.golden import probe_inputs
from app.version.manifest import TWIN_FILE, Contract
from app.version.signature import DataType, Signature, TensorSpec

# ONNX Runtime reports to its maker from the moment it is imported, unless this says otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
try:
    import onnxruntime
except ModuleNotFoundError as error:
    raise EngineNotInstalled("onnx", "ONNX Runtime", "pip install -r requirements/onnx.txt") from error

INPUT, OUTPUT = "windows", "forecast"
"""Names of the input that every twin has, and of its output."""

SHARED_FROM = 8
"""Windows from which on several threads gain more than it costs to wake them, while others want the cores too."""

PIECE_WINDOWS = 16
"""Windows in a piece, by half more or by a quarter less. Larger pieces take longer per window, and ever more memory."""

TYPES: Mapping[DataType, str] = {"float32": "tensor(float)", "int64": "tensor(int64)"}
"""The names that ONNX Runtime gives types of tensors."""

QUIET = 3
"""Log severity of ONNX Runtime: errors only. Our own sentences tell what stops a start."""


class OnnxEngine:
    """Runs a fused twin.

    Args:
        graph: The twin, as its file holds it.
        contract: Shapes that the twin must have.
        max_windows: Largest batch worth preparing for.
        threads: How many threads may compute at once: this process's share of the cores.
        source: The file that the graph is from, for errors.

    Raises:
        ArtifactError: The graph cannot be loaded, or breaks the contract.
    """

    name = "onnx"
    is_steady = True  # a twin has no loop whose length its input could change

    def __init__(
        self, graph: bytes, contract: Contract, max_windows: int, threads: int, source: Path = Path(TWIN_FILE)
    ) -> None:
        self._source = source
        self._contract = contract
        self._threads = threads
        self._piece_windows = call_windows(contract, PIECE_WINDOWS)
        self._warm_windows = min(max_windows, 2 * threads * self._piece_windows)
        self._alone = _open_session(graph, 1, source)
        signature = Signature.of(contract)
        _check_tensors(source, "input", self._alone.get_inputs(), signature.inputs.tensors)
        _check_tensors(source, "output", self._alone.get_outputs(), signature.outputs.tensors)
        self._shared = self._alone if threads == 1 else _open_session(graph, threads, source)
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), "engine-helper")
        self.remark = f"fused operators, {threads} {'thread' if threads == 1 else 'threads'}"

    def warm_up(self) -> None:
        """Runs each session, and the helpers, on batches that take the memory of the usual pieces, which is then kept.

        Raises:
            ArtifactError: The graph loads and cannot be run.
        """
        try:
            for windows in (self._warm_windows, min(self._warm_windows, self._threads * self._piece_windows), 1):
                self.predict(probe_inputs(self._contract, windows))
        except Exception as error:  # its errors have no base of their own
            raise ArtifactError(self._source, f"the graph fails when it is run ({type(error).__name__})") from error

    def predict(self, inputs: Inputs) -> Array:
        """Forecasts inputs -> (batch, horizon, targets), both in raw units."""
        count = len(inputs)
        rounds = round(count / (self._threads * self._piece_windows))
        if rounds <= 1:
            return self._run(self._alone if count < SHARED_FROM else self._shared, inputs)
        pieces = _cut(count, min(rounds * self._threads, count))
        forecasts = np.empty((count, *self._contract.forecast_shape), np.float32)

        def compute() -> None:
            while True:
                try:
                    piece = pieces.popleft()
                except IndexError:
                    return
                forecasts[piece] = self._run(self._alone, inputs[piece])

        helping = [self._helpers.submit(compute) for _ in range(self._threads - 1)]
        try:
            compute()
            while helping:
                helping.pop().result()
        finally:
            wait(helping)
            helping.clear()  # an error refers to this frame, so the two would form a circle that keeps the inputs
        return forecasts

    def _run(self, session: Any, inputs: Inputs) -> Array:
        forecasts = np.asarray(session.run([OUTPUT], inputs.named())[0])
        return check_forecasts(forecasts, len(inputs), self._contract)


def _cut(count: int, parts: int) -> "deque[slice]":
    """Cuts that many windows into parts of nearly the same size."""
    ends = [count * number // parts for number in range(parts + 1)]
    return deque(slice(start, end) for start, end in pairwise(ends))


def _open_session(graph: bytes, threads: int, source: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.log_severity_level = QUIET
    # A thread that waits leaves its core to the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # A twin is one file. A graph that names other files for its weights finds nothing there.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no base of their own
        raise ArtifactError(source, f"is not a graph that ONNX Runtime loads ({type(error).__name__})") from error


def _check_tensors(source: Path, kind: str, tensors: list[Any], needed: Sequence[TensorSpec]) -> None:
    """Checks the inputs or the outputs against the contract, in any order; the size of an open batch is a name."""
    found = {tensor.name: (tensor.type, [*tensor.shape[1:]]) for tensor in tensors}
    is_open = all(tensor.shape and isinstance(tensor.shape[0], str) for tensor in tensors)
    if not is_open or found != {spec.name: (TYPES[spec.datatype], [*spec.shape]) for spec in needed}:
        listing = " and ".join(f"{tensor.name} {tensor.type} {tensor.shape}" for tensor in tensors)
        wanted = " and ".join(f"{spec.name} {TYPES[spec.datatype]} {['batch', *spec.shape]}" for spec in needed)
        raise ArtifactError(source, f"has the {kind} {listing}, but the contract needs {wanted}")
