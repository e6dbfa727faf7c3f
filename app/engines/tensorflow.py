"""The TensorFlow engine: a SavedModel's `serving_default`, compiled with XLA for a ladder of batch sizes.

XLA compiles for fixed shapes and keeps what it compiled for ever, so no request compiles anything: every size of the
ladder is compiled at warm-up, a batch is padded to the next size, and the forecasts of the padding are dropped.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.arrays import Array
from app.engines.engine import call_windows, check_forecasts
from app.errors import ArtifactError, EngineNotInstalled
from app.version.golden import Golden, deviation, probe_windows, with_scales
from app.version.manifest import MAX_COLUMNS, MAX_NUMBERS, Contract, Feature, Target
from app.version.signature import Layout, Signature, TensorSpec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN is no faster for an LSTM of this size, and without it every x86 machine computes the same numbers.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # this service is for CPUs: a GPU would be initialised and stay idle

try:
    import tensorflow as tf
except ModuleNotFoundError as error:
    remedy = "pip install -r requirements/tensorflow.txt"
    raise EngineNotInstalled("tensorflow", "TensorFlow", remedy) from error

LARGEST_COMPILED_BATCH = 256
"""Larger batches are computed in pieces: compiled code is no faster per window, and each size costs start-up time."""

SIGNATURE = "serving_default"

NOT_A_SAVED_MODEL = (OSError, ValueError, RuntimeError, LookupError, tf.errors.OpError)
"""What TensorFlow raises if a folder holds no SavedModel, or a damaged SavedModel."""

GOLDEN_PROBES = 12
"""Random windows that serve as golden rows if a model has none."""


class TensorFlowEngine:
    """Runs a SavedModel.

    Args:
        version_dir: Folder with `saved_model.pb`.
        contract: Shapes that the signature must have; None for a foreign model, whose signature is its contract.
        max_windows: Largest batch worth compiling for.

    Attributes:
        contract: Shapes that the signature has.
        signature: The names of the tensors, and their place in windows and forecasts.
        function: The signature as TensorFlow loaded it; it works as long as the engine lives.

    Raises:
        ArtifactError: The SavedModel cannot be loaded, or its signature breaks the contract or cannot be served.
    """

    name = "tensorflow"
    is_steady = False

    def __init__(self, version_dir: Path, contract: Contract | None, max_windows: int) -> None:
        self._version_dir = version_dir
        self._model = _load(version_dir)  # keeps the variables alive
        self.function = _serving_function(self._model, version_dir)
        self.signature = _read_signature(self.function, version_dir)
        if contract is not None:
            _check_signature(self.signature, contract, version_dir)
        self.contract = contract or _contract_of(self.signature)
        self._batch_sizes = _ladder(call_windows(self.contract, max_windows))
        self._plain = _on_windows(self.function, self.signature)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.remark = "not warmed up"

    def record_golden(self) -> Golden:
        """Computes golden rows for a version that has none, and fits the contract's scales.

        Raises:
            ArtifactError: The model cannot compute them, or its forecasts are not finite.
        """
        windows = probe_windows(self.contract, GOLDEN_PROBES)
        golden = Golden(windows, np.asarray(self._compute_plainly(windows)))
        if not np.isfinite(golden.forecasts).all():
            raise ArtifactError(self._version_dir, "the model's forecasts are not finite", "train it again")
        self.contract = with_scales(self.contract, golden)
        return golden

    def warm_up(self) -> None:
        """Compiles every size of the ladder and checks each against plain execution.

        The engine executes plainly if a size cannot be compiled, or computes other numbers.

        Raises:
            ArtifactError: Plain execution fails too.
        """
        compiled = tf.function(self._plain, jit_compile=True, autograph=False)
        worst = 0.0
        try:
            for size in self._batch_sizes:
                windows = tf.constant(probe_windows(self.contract, size))
                self._compiled[size] = compiled.get_concrete_function(tf.TensorSpec(windows.shape, tf.float32))
                expected = self._plain(windows).numpy()
                actual = self._compiled[size](windows).numpy()
                worst = max(worst, deviation(actual, expected, self.contract.target_scales))
        except tf.errors.OpError:
            self._fall_back("XLA cannot compile this model")
        else:
            if worst > 1:
                self._fall_back("XLA gave other numbers than plain execution")
            else:
                self.remark = f"XLA, compiled for batches of {', '.join(map(str, self._batch_sizes))}"

    def _fall_back(self, reason: str) -> None:
        self._compiled.clear()
        self._compute_plainly(probe_windows(self.contract, 1))
        self.remark = f"plain execution, because {reason}"

    def _compute_plainly(self, windows: Array) -> Any:
        try:
            return self._plain(tf.constant(windows))
        except tf.errors.OpError as error:
            raise ArtifactError(self._version_dir, f"the model cannot compute ({type(error).__name__})") from error

    def predict(self, windows: Array) -> Array:
        """Forecasts (batch, steps, features) -> (batch, horizon, targets), both in raw units."""
        largest = self._batch_sizes[-1]
        pieces = [self._predict_piece(windows[start : start + largest]) for start in range(0, len(windows), largest)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _predict_piece(self, windows: Array) -> Array:
        count = len(windows)
        if not self._compiled:
            return self._run(self._plain, windows)
        size = next(size for size in self._batch_sizes if size >= count)
        if size > count:
            padding = np.zeros((size - count, *windows.shape[1:]), np.float32)
            windows = np.concatenate([windows, padding])
        return self._run(self._compiled[size], windows)[:count]

    def _run(self, function: Callable[..., Any], windows: Array) -> Array:
        return check_forecasts(np.asarray(function(tf.constant(windows))), len(windows), self.contract)


def _ladder(max_windows: int) -> tuple[int, ...]:
    """Returns 1, 2, 4 ... up to the first size that holds `max_windows`, or the largest size that is compiled."""
    sizes = [1]
    while sizes[-1] < min(max_windows, LARGEST_COMPILED_BATCH):
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


def _load(version_dir: Path) -> Any:
    try:
        return tf.saved_model.load(str(version_dir))
    except NOT_A_SAVED_MODEL as error:
        raise ArtifactError(version_dir, f"is not a SavedModel that loads ({type(error).__name__})") from error


def _serving_function(model: Any, version_dir: Path) -> Any:
    function = getattr(model, "signatures", {}).get(SIGNATURE)
    if function is None:
        raise ArtifactError(version_dir, f"has no signature {SIGNATURE}")
    return function


def _read_signature(function: Any, version_dir: Path) -> Signature:
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    return Signature(_read_layout(inputs, version_dir), _read_layout(outputs, version_dir))


def _read_layout(specs: dict[str, Any], version_dir: Path) -> Layout:
    """Returns the tensors in the order of their names, after a check of their types and shapes."""
    for name, spec in specs.items():
        sizes = spec.shape.as_list() if spec.shape.rank else [0]
        if spec.dtype != tf.float32 or sizes[0] is not None or not all(sizes[1:]):
            problem = f"{SIGNATURE} has {name} {spec.dtype.name} {_shown(spec.shape)}"
            needed = "float32 with an open batch in front and every other size fixed"
            remedy = "export it so, for example with keras.Input((24, 2)) in place of (None, 2)"
            raise ArtifactError(version_dir, f"{problem}, but only {needed} can be served", remedy)
    if not specs:
        raise ArtifactError(version_dir, f"{SIGNATURE} takes or gives no tensor")
    layout = Layout(tuple(TensorSpec(name, tuple(spec.shape.as_list()[1:])) for name, spec in sorted(specs.items())))
    if layout.window_numbers > MAX_NUMBERS or layout.shape[1] > MAX_COLUMNS:
        problem = f"{SIGNATURE} takes or gives {layout.window_numbers} numbers in {layout.shape[1]} columns"
        remedy = "make the model smaller"
        raise ArtifactError(version_dir, f"{problem}, but at most {MAX_NUMBERS} in {MAX_COLUMNS} can be served", remedy)
    return layout


def _shown(shape: Any) -> str:
    return str(shape.as_list()).replace("None", "any") if shape.rank is not None else "of any shape"


def _check_signature(signature: Signature, contract: Contract, version_dir: Path) -> None:
    for layout, shape in ((signature.inputs, contract.window_shape), (signature.outputs, contract.forecast_shape)):
        if [tensor.shape for tensor in layout.tensors] != [shape]:
            found = " and ".join(f"{tensor.name} float32 {(None, *tensor.shape)}" for tensor in layout.tensors)
            problem = f"{SIGNATURE} has {found}, but the contract needs float32 {(None, *shape)} alone"
            raise ArtifactError(version_dir, problem)


def _contract_of(signature: Signature) -> Contract:
    steps, _ = signature.inputs.shape
    horizon, _ = signature.outputs.shape
    return Contract(
        steps=steps,
        features=tuple(Feature(name=name) for name in signature.inputs.columns),
        horizon=horizon,
        targets=tuple(Target(name=name, scale=1) for name in signature.outputs.columns),
    )


def _on_windows(function: Any, signature: Signature) -> Callable[[Any], Any]:
    """Returns the signature as a function from a tensor of windows to a tensor of forecasts."""
    inputs, outputs = signature.inputs, signature.outputs
    if inputs.is_table and outputs.is_table:  # as in every version of ours: nothing to split or to join
        return lambda windows: function(**{inputs.tensors[0].name: windows})[outputs.tensors[0].name]

    def predict(windows: Any) -> Any:
        parts = zip(inputs.tensors, tf.split(windows, inputs.widths, axis=2), strict=True)
        results = function(**{tensor.name: tf.reshape(part, (-1, *tensor.shape)) for tensor, part in parts})
        rows, _ = outputs.shape
        tables = zip(outputs.tensors, outputs.widths, strict=True)
        return tf.concat([tf.reshape(results[tensor.name], (-1, rows, width)) for tensor, width in tables], axis=2)

    return predict
