"""The TensorFlow engine: a SavedModel's `serving_default`, compiled with XLA for a ladder of batch sizes.

XLA compiles for fixed shapes and never forgets a compiled one, so nothing is compiled on a request: every size of the
ladder is compiled at warm-up, and a batch is padded to the next size. The padding rows are dropped again.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.errors import ArtifactError, EngineNotInstalled
from app.golden import Array, deviation, probe_windows
from app.manifest import Contract

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# No faster for an LSTM of this size, and without it every x86 machine computes the same numbers.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # this service is for CPUs; a GPU would only be initialised and idle

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    remedy = "pip install -r requirements/tensorflow.txt"
    raise EngineNotInstalled("tensorflow", "TensorFlow", remedy) from error

LARGEST_COMPILED_BATCH = 256
"""Beyond it a batch is computed in pieces: compiled code is no faster per row, and each size costs start-up time."""

SIGNATURE = "serving_default"


class TensorFlowEngine:
    """Runs a SavedModel.

    Args:
        version_dir: Folder with `saved_model.pb`.
        contract: Shapes that its signature must have.
        max_rows: Largest batch worth compiling for.

    Raises:
        ArtifactError: The SavedModel cannot be loaded, or its signature breaks the contract.
    """

    name = "tensorflow"
    is_steady = False

    def __init__(self, version_dir: Path, contract: Contract, max_rows: int) -> None:
        self._version_dir = version_dir
        self._contract = contract
        self._batch_sizes = _ladder(max_rows)
        self._model = _load(version_dir)  # keeps the variables alive
        self._plain = _signature(self._model, version_dir, contract)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.remark = "not warmed up"

    def warm_up(self) -> None:
        """Compiles every size of the ladder and checks each against plain execution; on any trouble stays plain.

        Raises:
            ArtifactError: Plain execution fails too.
        """
        compiled = tf.function(self._plain, jit_compile=True, autograph=False)
        worst = 0.0
        try:
            for size in self._batch_sizes:
                windows = tf.constant(probe_windows(self._contract, size))
                self._compiled[size] = compiled.get_concrete_function(tf.TensorSpec(windows.shape, tf.float32))
                expected = self._plain(windows).numpy()
                actual = self._compiled[size](windows).numpy()
                worst = max(worst, deviation(actual, expected, self._contract.target_scales))
        except tf.errors.OpError:
            self._fall_back("XLA cannot compile this model")
        else:
            if worst > 1:
                self._fall_back("XLA gave other numbers than plain execution")
            else:
                self.remark = f"XLA, compiled for batches of {', '.join(map(str, self._batch_sizes))}"

    def _fall_back(self, reason: str) -> None:
        self._compiled.clear()
        try:
            self._plain(tf.constant(probe_windows(self._contract, 1)))
        except tf.errors.OpError as error:
            raise ArtifactError(self._version_dir, f"the model cannot compute ({type(error).__name__})") from error
        self.remark = f"plain execution, because {reason}"

    def predict(self, windows: Array) -> Array:
        """Forecasts (batch, steps, features) -> (batch, horizon, targets), both in raw units."""
        largest = self._batch_sizes[-1]
        pieces = [self._predict_piece(windows[start : start + largest]) for start in range(0, len(windows), largest)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _predict_piece(self, windows: Array) -> Array:
        rows = len(windows)
        if not self._compiled:
            return np.asarray(self._plain(tf.constant(windows)))
        size = next(size for size in self._batch_sizes if size >= rows)
        if size > rows:
            padding = np.zeros((size - rows, *windows.shape[1:]), np.float32)
            windows = np.concatenate([windows, padding])
        return np.asarray(self._compiled[size](tf.constant(windows)))[:rows]


def _ladder(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4 ... up to the first size that holds `max_rows`, or the largest that is compiled."""
    sizes = [1]
    while sizes[-1] < min(max_rows, LARGEST_COMPILED_BATCH):
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def _load(version_dir: Path) -> Any:
    try:
        return tf.saved_model.load(str(version_dir))
    except (OSError, ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        raise ArtifactError(version_dir, f"is not a SavedModel that loads ({type(error).__name__})") from error


def _signature(model: Any, version_dir: Path, contract: Contract) -> Callable[[Any], Any]:
    """The signature as a function of one tensor, after a look at its names, types and shapes."""
    signature = getattr(model, "signatures", {}).get(SIGNATURE)
    if signature is None:
        raise ArtifactError(version_dir, f"has no signature {SIGNATURE}")
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        counts = f"{len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1"
        raise ArtifactError(version_dir, f"{SIGNATURE} has {counts}")
    input_name, output_name = next(iter(inputs)), next(iter(outputs))
    _check_tensor(inputs[input_name], contract.window_shape, version_dir)
    _check_tensor(outputs[output_name], contract.forecast_shape, version_dir)
    return lambda windows: signature(**{input_name: windows})[output_name]


def _check_tensor(spec: Any, shape: tuple[int, int], version_dir: Path) -> None:
    if spec.dtype != tf.float32 or spec.shape.as_list() != [None, *shape]:
        problem = f"{SIGNATURE} has {spec.name} {spec.dtype.name} {tuple(spec.shape)}"
        raise ArtifactError(version_dir, f"{problem}, but the contract needs float32 {(None, *shape)}")
