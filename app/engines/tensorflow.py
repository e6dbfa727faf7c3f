"""The TensorFlow engine: a SavedModel's `serving_default`, compiled with XLA for a ladder of batch sizes.

XLA compiles for fixed shapes and keeps what it compiled for ever, so no request compiles anything: every size of the
ladder is compiled at warm-up, a batch is padded to the next size, and the forecasts of the padding are dropped.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from app.arrays import Array, Inputs
from app.engines.engine import call_windows, check_forecasts
from app.errors import ArtifactError, EngineNotInstalled
from app.version.golden import Golden, deviation, probe_inputs, with_scales
from app.version.manifest import MAX_COLUMNS, MAX_NUMBERS, Contract, Feature, Target
from app.version.signature import InputLayout, Layout, Signature, TensorSpec

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
        signature: The names of the tensors, and their place in inputs and forecasts.
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
        self.signature = _read_signature(self.function, contract, version_dir)
        self.contract = contract or _contract_of(self.signature)
        self._batch_sizes = _ladder(call_windows(self.contract, max_windows))
        self._plain = _on_tensors(self.function, self.signature)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self.remark = "not warmed up"

    def record_golden(self) -> Golden:
        """Computes golden rows for a version that has none, and fits the contract's scales.

        Raises:
            ArtifactError: The model cannot compute them, or its forecasts are not finite.
        """
        inputs = probe_inputs(self.contract, GOLDEN_PROBES)
        golden = Golden(inputs, np.asarray(self._compute_plainly(inputs)))
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
                tensors = _tensors_of(probe_inputs(self.contract, size))
                self._compiled[size] = compiled.get_concrete_function(*map(tf.TensorSpec.from_tensor, tensors))
                expected = self._plain(*tensors).numpy()
                actual = self._compiled[size](*tensors).numpy()
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
        self._compute_plainly(probe_inputs(self.contract, 1))
        self.remark = f"plain execution, because {reason}"

    def _compute_plainly(self, inputs: Inputs) -> Any:
        try:
            return self._plain(*_tensors_of(inputs))
        except tf.errors.OpError as error:
            raise ArtifactError(self._version_dir, f"the model cannot compute ({type(error).__name__})") from error

    def predict(self, inputs: Inputs) -> Array:
        """Forecasts inputs -> (batch, horizon, targets), both in raw units."""
        count, largest = len(inputs), self._batch_sizes[-1]
        if count <= largest:
            return self._predict_piece(inputs)
        return np.concatenate(
            [self._predict_piece(inputs[start : start + largest]) for start in range(0, count, largest)]
        )

    def _predict_piece(self, inputs: Inputs) -> Array:
        count = len(inputs)
        if not self._compiled:
            return self._run(self._plain, inputs)
        size = next(size for size in self._batch_sizes if size >= count)
        return self._run(self._compiled[size], inputs if size == count else _padded(inputs, size - count))[:count]

    def _run(self, function: Callable[..., Any], inputs: Inputs) -> Array:
        return check_forecasts(np.asarray(function(*_tensors_of(inputs))), len(inputs), self.contract)


def _tensors_of(inputs: Inputs) -> list[Any]:
    return [tf.constant(array) for array in inputs.named().values()]


def _padded(inputs: Inputs, count: int) -> Inputs:
    """Returns the inputs with so many more entries of zeros."""
    return inputs.map(lambda array: np.concatenate([array, np.zeros((count, *array.shape[1:]), array.dtype)]))


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


def _read_signature(function: Any, contract: Contract | None, version_dir: Path) -> Signature:
    """Reads the tensors that a signature takes and gives, and checks them against a contract.

    The windows, and the forecast, may have any name.
    """
    takes, gives = dict(function.structured_input_signature[1]), function.structured_outputs
    needed = InputLayout.of(contract) if contract is not None else None
    for tensor in needed.more if needed is not None else ():
        _check_input(takes.pop(tensor.name, None), tensor, version_dir)
    windows, outputs = _read_layout(takes, version_dir), _read_layout(gives, version_dir)
    if contract is None or needed is None:
        return Signature(InputLayout(windows), outputs)
    _check_only(windows, contract.window_shape, version_dir)
    _check_only(outputs, contract.forecast_shape, version_dir)
    return Signature(replace(needed, windows=windows), outputs)


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


def _check_input(found: Any, needed: TensorSpec, version_dir: Path) -> None:
    """Checks a tensor that the model takes beside the windows."""
    shape = [None, *needed.shape]
    if (
        found is None
        or found.dtype.name != needed.datatype
        or found.shape.rank is None
        or found.shape.as_list() != shape
    ):
        came = f"{found.dtype.name} {_shown(found.shape)}" if found is not None else "no such input"
        wanted = f"{needed.datatype} {_shown(tf.TensorShape(shape))}"
        problem = f"{SIGNATURE} has for {needed.name} {came}, but the contract needs {wanted}"
        raise ArtifactError(version_dir, problem)


def _check_only(layout: Layout, shape: tuple[int, int], version_dir: Path) -> None:
    """Checks that there is a single tensor beside those that are checked by name, and that it has the shape."""
    if [tensor.shape for tensor in layout.tensors] != [shape]:
        found = " and ".join(f"{tensor.name} float32 {(None, *tensor.shape)}" for tensor in layout.tensors)
        problem = f"{SIGNATURE} has {found}, but the contract needs float32 {(None, *shape)} alone"
        raise ArtifactError(version_dir, problem)


def _contract_of(signature: Signature) -> Contract:
    windows = signature.inputs.windows
    steps, _ = windows.shape
    horizon, _ = signature.outputs.shape
    return Contract(
        steps=steps,
        features=tuple(Feature(name=name) for name in windows.columns),
        horizon=horizon,
        targets=tuple(Target(name=name, scale=1) for name in signature.outputs.columns),
    )


def _on_tensors(function: Any, signature: Signature) -> Callable[..., Any]:
    """Returns the signature as a function from the tensors of `Inputs`, in their order, to a tensor of forecasts."""
    windows, outputs = signature.inputs.windows, signature.outputs
    if windows.is_table and outputs.is_table:  # as in every version of ours: nothing to split or to join
        names = [tensor.name for tensor in signature.inputs.tensors]
        return lambda *tensors: function(**dict(zip(names, tensors, strict=True)))[outputs.tensors[0].name]

    def predict(joined: Any) -> Any:
        parts = zip(windows.tensors, tf.split(joined, windows.widths, axis=2), strict=True)
        results = function(**{tensor.name: tf.reshape(part, (-1, *tensor.shape)) for tensor, part in parts})
        rows, _ = outputs.shape
        tables = zip(outputs.tensors, outputs.widths, strict=True)
        return tf.concat([tf.reshape(results[tensor.name], (-1, rows, width)) for tensor, width in tables], axis=2)

    return predict
