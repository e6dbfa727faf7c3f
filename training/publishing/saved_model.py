"""Writes a model as a SavedModel, loads it once, and looks into its graph."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from app.engines.tensorflow import TensorFlowEngine
from app.version.golden import PARITY_BATCHES
from app.version.manifest import Contract
from app.version.signature import Signature
from training.errors import ExportError
from training.network.model import call, input_specs


def save_model(model: keras.Model, contract: Contract, folder: Path) -> TensorFlowEngine:
    """Writes a SavedModel with one signature; the batch dimension stays open, steps and features are fixed.

    Args:
        model: Maps windows (batch, steps, features), and what goes with them, to forecasts (batch, horizon, targets).
        contract: The shapes of all.
        folder: Where the SavedModel goes.

    Returns:
        What was written, loaded and not warmed up.

    Raises:
        ExportError: The graph holds an operator that cannot be served.
        OSError: The SavedModel cannot be written.
    """
    names = [each.name for each in Signature.of(contract).inputs.tensors]

    def forecast(*arrays: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"forecast": call(model, dict(zip(names, arrays, strict=True)))}

    archive = keras.export.ExportArchive()
    archive.track(model)
    specs = input_specs(model)
    archive.add_endpoint("serve", forecast, input_signature=[specs[name] for name in names])
    try:
        archive.write_out(str(folder), verbose=False)
    except tf.errors.OpError as error:
        raise OSError(str(error).partition("\n")[0]) from error
    engine = TensorFlowEngine(folder, contract, max(PARITY_BATCHES))
    _check_operators(engine.function)
    return engine


def nodes(function: Any) -> Iterator[Any]:
    """Yields the nodes of a signature's graph, and of the functions in it."""
    graph = function.graph.as_graph_def()
    yield from graph.node
    for inner in graph.library.function:
        yield from inner.node_def


def _check_operators(function: Any) -> None:
    """Raises `ExportError` if an operator runs on GPUs only, or lets one forecast change the next."""
    for operator in {node.op for node in nodes(function)}:
        if "cudnn" in operator.lower() or operator.startswith("Assign"):
            raise ExportError(
                f"The graph holds the operator {operator}, which cannot be served. Nothing was published."
            )
