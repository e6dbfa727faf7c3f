"""Everything that computes the forecasts, each in a process of its own: our engines, and what else could be used.

A process takes orders on standard input, so that many can be measured in turns and each runs under the Python that has
what it needs. `KernelProcess` gives the orders. Started as a module, this is the process itself:

    python -m benchmarks.kernels NAME THREADS FOLDER

It imports nothing but NumPy and what the kernel needs, so that it runs where the service could not.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import ROOT, SHAPES, Model
from benchmarks.processes import ProcessGroup, environment

Array = NDArray[np.float32]
Predict = Callable[[Array], Any]

LARGEST_BATCH = 512

AGREEMENT = 1e-5
"""Largest difference of a forecast from the recorded one that is rounding; all are of the size of 1."""


def _own_onnx(model: Model, threads: int) -> Predict:
    from app.arrays import Inputs
    from app.engines.onnx import OnnxEngine
    from app.version.manifest import Manifest

    contract = Manifest.read(model.version_dir).contract
    engine = OnnxEngine(model.twin_path.read_bytes(), contract, LARGEST_BATCH, threads)
    engine.warm_up()
    return lambda windows: engine.predict(Inputs(windows))


def _own_tensorflow(model: Model, _: int) -> Predict:
    """XLA; its threads are set in the environment, as those of all that runs on TensorFlow."""
    from app.arrays import Inputs
    from app.engines.tensorflow import TensorFlowEngine
    from app.version.manifest import Manifest

    engine = TensorFlowEngine(model.version_dir, Manifest.read(model.version_dir).contract, LARGEST_BATCH)
    engine.warm_up()
    return lambda windows: engine.predict(Inputs(windows))


def _keras_predict(model: Model, _: int) -> Predict:
    import keras

    import training.network.layers  # noqa: F401  # what the model is made of

    network = keras.models.load_model(model.keras_path)
    return lambda windows: network.predict(windows, batch_size=len(windows), verbose=0)


def _signature(model: Model, _: int) -> Predict:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(model.version_dir))  # keeps the variables alive
    return lambda windows: loaded.signatures["serving_default"](windows=tf.constant(windows))["forecast"].numpy()


def _onnxruntime(model: Model, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.twin_path, options, providers=["CPUExecutionProvider"])
    return lambda windows: session.run(None, {"windows": windows})[0]


def _openvino(model: Model, threads: int) -> Predict:
    import openvino

    # Without the last hint it computes in bfloat16 where the processor can, which is another forecast.
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.Core().compile_model(model.twin_path, "CPU", hints)
    return lambda windows: network(windows)[0]


def _pytorch(model: Model, threads: int) -> Predict:
    """The same network as `nn.LSTM` and `nn.Linear`, with the same weights."""
    import torch

    torch.set_num_threads(threads)
    weights = {name: torch.from_numpy(array) for name, array in np.load(model.weights_path).items()}
    features, gates = weights["recurrent_1_0"].shape
    stack = torch.nn.LSTM(features, gates // 4, num_layers=2, batch_first=True)
    head = torch.nn.Linear(*weights["head_0"].shape)
    parameters = {}
    for layer in range(2):  # both order the gates as input, forget, cell, output
        parameters[f"weight_ih_l{layer}"] = weights[f"recurrent_{layer + 1}_0"].T
        parameters[f"weight_hh_l{layer}"] = weights[f"recurrent_{layer + 1}_1"].T
        parameters[f"bias_ih_l{layer}"] = weights[f"recurrent_{layer + 1}_2"]
        parameters[f"bias_hh_l{layer}"] = torch.zeros(gates)
    stack.load_state_dict(parameters)
    head.load_state_dict({"weight": weights["head_0"].T, "bias": weights["head_1"]})
    scaling = [weights[name] for name in ("centre", "spread", "target_centre", "target_spread")]
    centre, spread, target_centre, target_spread = scaling

    def predict(windows: Array) -> Any:
        with torch.inference_mode():
            states, _ = stack((torch.from_numpy(windows) - centre) / spread)
            forecasts = head(states[:, -1])[:, :, None]  # (batch, horizon, targets)
            return (forecasts * target_spread + target_centre).numpy()

    return predict


KERNELS: dict[str, tuple[Callable[[Model, int], Predict], str]] = {
    "windowcast-onnx": (_own_onnx, "onnxruntime"),
    "windowcast-tensorflow": (_own_tensorflow, "tensorflow"),
    "keras-predict": (_keras_predict, "keras"),
    "signature": (_signature, "tensorflow"),
    "onnxruntime": (_onnxruntime, "onnxruntime"),
    "openvino": (_openvino, "openvino"),
    "pytorch": (_pytorch, "torch"),
}
"""How each is made from a model and a number of threads, and the module that computes."""


def serve(name: str, threads: int, model: Model) -> None:
    """Loads a kernel, tells how far its forecasts are off, and measures whatever it is told to until input ends."""
    make, module = KERNELS[name]
    predict = make(model, threads)
    _tell({"release": f"{module} {sys.modules[module].__version__}", "deviation": _deviation(predict, model)})
    for line in sys.stdin:
        order = json.loads(line)
        _tell(measure(predict, model.windows(order["rows"]), order["seconds"])._asdict())


class Timing(NamedTuple):
    """Seconds of a call."""

    median: float
    mean: float


def measure(predict: Predict, windows: Array, seconds: float) -> Timing:
    """Calls as often as fits into the time, and at least three times, after once for the caches."""
    predict(windows)
    durations: list[float] = []
    end = time.perf_counter() + seconds
    while len(durations) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        predict(windows)
        durations.append(time.perf_counter() - started)
    return Timing(float(np.median(durations)), float(np.mean(durations)))


def _deviation(predict: Predict, model: Model) -> float:
    """Largest difference from the golden forecasts, all of which are of the size of 1."""
    with np.load(model.golden_path) as golden:
        return float(np.max(np.abs(np.asarray(predict(golden["windows"])) - golden["forecasts"])))


def _tell(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which kernel, with how many threads, under which Python."""

    name: str
    threads: int
    python: Path

    @classmethod
    def in_project(cls, name: str, threads: int) -> Self:
        """One that the project's own Python has what it needs for."""
        return cls(name, threads, Path(sys.executable))


class KernelProcess:
    """A kernel in a process of its own, paused whenever it is not measured.

    Args:
        kernel: Which.
        model: What it computes.
        output: File for its standard error.

    Raises:
        ContenderFailed: It does not start.
    """

    def __init__(self, kernel: Kernel, model: Model, output: Path) -> None:
        count = str(kernel.threads)
        variables = {
            "TF_NUM_INTRAOP_THREADS": count,
            "TF_NUM_INTEROP_THREADS": count,
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        command = [str(kernel.python), "-m", "benchmarks.kernels", kernel.name, count, str(model.folder)]
        self._group = ProcessGroup(command, environment(variables, ROOT), ROOT, output, is_piped=True)
        self.kernel = kernel
        try:
            greeting = self._group.read()
        except BaseException:
            self.stop()
            raise
        self.release: str = greeting["release"]
        self.deviation: float = greeting["deviation"]
        if self.deviation > AGREEMENT:
            self.stop()
            raise self._group.failure(f"its forecasts are off by {self.deviation:.1g}")
        self._group.pause()

    def measure(self, rows: int, seconds: float) -> Timing:
        """Measures calls with so many rows."""
        return Timing(**self._group.ask({"rows": rows, "seconds": seconds}))

    def stop(self) -> None:
        """Ends the process."""
        self._group.stop()


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    folder = Path(sys.argv[3])
    serve(sys.argv[1], int(sys.argv[2]), Model(SHAPES[folder.name], folder))
