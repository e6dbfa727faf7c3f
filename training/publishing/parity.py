"""Proves that a model's forms agree: the model in memory, the SavedModel on disk, the fused twin.

    record_golden   the golden rows, as the SavedModel computes them
    check_exported  the SavedModel computes what the model does
    check_twin      the twin computes what the SavedModel does

Forms agree if no forecast differs by more than `app.version.golden.deviation` allows, at every size of batch.
"""

from collections.abc import Callable

import keras
import numpy as np
from onnx import ModelProto

from app.arrays import Array, Inputs, concatenate
from app.engines.engine import Engine
from app.engines.onnx import OnnxEngine
from app.errors import ArtifactError
from app.version.golden import PARITY_BATCHES, TOLERANCE, Golden, deviation, probe_inputs, training_ranges
from app.version.manifest import MAX_TWIN_BYTES, Contract
from training.errors import ExportError, NotFusable
from training.network.model import call
from training.publishing.twin import twin_bytes

GOLDEN_REAL_WINDOWS = 12
"""Windows of the test part among the golden rows."""

RECURRENT_OPERATORS = frozenset({"LSTM", "GRU", "RNN"})
PLAIN_OPERATORS = frozenset(
    {
        "Add",
        "Cast",
        "Concat",
        "Cos",
        "Div",
        "Gather",
        "Gemm",
        "MatMul",
        "Mod",
        "Mul",
        "ReduceMean",
        "Relu",
        "Reshape",
        "Sin",
        "Slice",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    }
)


def record_golden(engine: Engine, contract: Contract, inputs: Inputs) -> Golden:
    """Records the golden rows of a SavedModel.

    Args:
        engine: The SavedModel, not warmed up and hence as it was written.
        contract: The shapes and the training ranges.
        inputs: Real inputs, in time order; those that the contract does not take are left out.
    """
    real = Inputs(inputs.windows, inputs.future if contract.known else None, inputs.time if contract.calendar else None)
    golden = concatenate([_latest(real), _beside(flat_windows(contract).astype(np.float32), contract)])
    return Golden(golden, engine.predict(golden))


def check_exported(engine: Engine, model: keras.Model, contract: Contract, golden: Golden) -> None:
    """Checks that a SavedModel computes what the model in memory does.

    Args:
        engine: The SavedModel, not warmed up and hence as it was written.
        model: The model in memory.
        contract: The shapes, the training ranges and the targets' scales.
        golden: The version's golden rows.

    Raises:
        ExportError: The SavedModel computes something else.
    """
    worst = 0.0
    for inputs in (golden.inputs, *(probe_inputs(contract, batch) for batch in PARITY_BATCHES)):
        expected = np.asarray(call(model, inputs.named()))
        worst = max(worst, deviation(engine.predict(inputs), expected, contract.target_scales))
    if worst > 1:
        raise ExportError(
            f"The exported model does not compute what the trained one does: it is off by {worst * TOLERANCE:.1g} of "
            f"the targets' scale where {TOLERANCE:g} is allowed. Nothing was published."
        )


def check_twin(twin: ModelProto, predict_plain: Callable[[Inputs], Array], contract: Contract, golden: Golden) -> None:
    """Checks that a twin is fused and computes what the SavedModel does, whatever the size of the batch.

    Args:
        twin: As `build_twin` draws it.
        predict_plain: The SavedModel as it is: inputs -> (batch, horizon, targets).
        contract: The shapes, the training ranges and the targets' scales.
        golden: The version's golden rows.

    Raises:
        NotFusable: The twin is not fused, is larger than a service reads, or computes something else.
    """
    if twin.ByteSize() > MAX_TWIN_BYTES:
        raise NotFusable(f"its twin would have more than {MAX_TWIN_BYTES} bytes")
    _check_operators(twin)
    engine = _load(twin, contract)
    probes = concatenate([_beside(_extreme_windows(contract), contract), probe_inputs(contract, max(PARITY_BATCHES))])
    cases = (probes, predict_plain(probes)), (golden.inputs, golden.forecasts)
    for batch in PARITY_BATCHES:
        for inputs, expected in cases:
            pieces = [engine.predict(inputs[start : start + batch]) for start in range(0, len(inputs), batch)]
            worst = deviation(np.concatenate(pieces), expected, contract.target_scales)
            if worst > 1:
                raise NotFusable(
                    f"in batches of {batch} the graph is off by {worst * TOLERANCE:.1g} of the targets' scale where "
                    f"{TOLERANCE:g} is allowed"
                )


def flat_windows(contract: Contract) -> Array:
    """Returns four windows that never change, at and beyond the ends of the training ranges: (4, steps, features)."""
    minima, maxima = training_ranges(contract)
    spreads = maxima - minima
    levels = (minima, maxima, minima - spreads, maxima + spreads)
    return np.stack([np.broadcast_to(level, contract.window_shape) for level in levels])


def _latest(inputs: Inputs) -> Inputs:
    """Returns a few of the inputs, evenly spaced, the latest first."""
    return inputs[:: -max(1, len(inputs) // GOLDEN_REAL_WINDOWS)][:GOLDEN_REAL_WINDOWS]


def _beside(windows: Array, contract: Contract) -> Inputs:
    """Returns windows with random values of what goes with them."""
    random = probe_inputs(contract, len(windows))
    return Inputs(windows, random.future, random.time)


def _extreme_windows(contract: Contract) -> Array:
    """Returns windows with edges, which no random window has: flat, rising, falling, alternating, one row far off.

    Returns:
        Shape (batch, steps, features), raw units: within the training ranges, and as far again below and above.
    """
    steps = np.arange(contract.steps)
    rising = steps / max(1, steps[-1])
    profiles = np.stack([0 * rising, 0 * rising + 1, rising, 1 - rising, steps % 2, steps == 0, steps == steps[-1]])
    shares = np.concatenate([profiles, 2 * profiles, -profiles])[:, :, None]
    minima, maxima = training_ranges(contract)
    return np.asarray(minima + shares * (maxima - minima), np.float32)


def _check_operators(twin: ModelProto) -> None:
    """Raises `NotFusable` if the graph holds a loop, or any other operator that no layer of ours needs."""
    operators = {node.op_type for node in twin.graph.node}
    for operator in sorted(operators - RECURRENT_OPERATORS - PLAIN_OPERATORS):
        raise NotFusable(f"the graph holds the operator {operator}")


def _load(twin: ModelProto, contract: Contract) -> OnnxEngine:
    """Loads the twin as the service will run it."""
    try:
        return OnnxEngine(twin_bytes(twin), contract, max(PARITY_BATCHES), threads=1)
    except ArtifactError as error:
        raise NotFusable("ONNX Runtime cannot load the graph") from error
