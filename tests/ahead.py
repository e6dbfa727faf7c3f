"""Versions that take more than windows, made without the training package, with forecasts to be worked out in the head.

`forecast[h, t] = last value of feature t + known values of row h, the second twice, ... + sine of the phase of row h`
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app.arrays import Array, Inputs
from app.version.golden import Golden, probe_inputs
from app.version.manifest import Contract, Frequency, FrequencyUnit, Phase
from app.version.signature import Signature, TensorSpec
from tests.versions import add_twin, contract_of, publish

DAY = Phase(name="day", rows=24)
GOLDEN_ROWS = 3


def ahead_contract(
    known: Sequence[str] = ("temp",),
    calendar: Sequence[Phase] = (DAY,),
    features: Sequence[str] = ("load", "temp"),
    unit: FrequencyUnit = "hour",
) -> Contract:
    """4 steps of features, 3 rows of load ahead; by default temp is known, and the hour of the day."""
    contract = contract_of(features=features, horizon=3)
    more = {"known": known, "calendar": calendar, "spacing": Frequency(count=1, unit=unit)}
    return Contract.model_validate({**contract.model_dump(), **more})


def expected_ahead(inputs: Inputs, contract: Contract) -> Array:
    """What a version of this module answers: inputs -> (batch, horizon, targets)."""
    last = inputs.windows[:, -1:, : len(contract.targets)].astype(np.float64)
    forecasts = np.repeat(last, contract.horizon, axis=1)
    if inputs.future is not None:
        forecasts += inputs.future @ weights_of(contract)
    if inputs.time is not None:
        rows = inputs.time[:, None, None] + np.arange(contract.horizon)[None, :, None]
        forecasts += np.sin(2 * np.pi * (rows % contract.calendar[0].rows) / contract.calendar[0].rows)
    return forecasts.astype(np.float32)


def weights_of(contract: Contract) -> Array:
    """1, 2, 3 ..., a row for each known column."""
    return np.arange(1, len(contract.known) + 1, dtype=np.float32)[:, None]


def make_ahead_version(
    models_dir: Path, contract: Contract, name: str = "ahead", version: int = 1, *, has_twin: bool = True
) -> Path:
    """Writes a whole version and returns its folder."""
    version_dir = models_dir / name / str(version)
    save_ahead(version_dir, contract)
    inputs = probe_inputs(contract, GOLDEN_ROWS)
    Golden(inputs, expected_ahead(inputs, contract)).save(version_dir)
    publish(version_dir, contract)
    return add_twin(version_dir, contract, ahead_twin(contract)) if has_twin else version_dir


def save_ahead(version_dir: Path, contract: Contract, served: Contract | None = None) -> None:
    """Writes the SavedModel; with the inputs of another contract where `served` is given."""
    tensors = Signature.of(served or contract).inputs.tensors

    def forecast(*given: tf.Tensor) -> dict[str, tf.Tensor]:
        named = {tensor.name: value for tensor, value in zip(tensors, given, strict=True)}
        ahead = tf.range(contract.horizon, dtype=tf.int64)[None, :, None]
        answer = named["windows"][:, -1:, : len(contract.targets)] + 0 * tf.cast(ahead, tf.float32)
        if "future" in named:
            answer += tf.linalg.matmul(named["future"], tf.constant(weights_of(contract)))
        if "time" in named:
            rows = contract.calendar[0].rows
            phase = tf.cast(tf.math.floormod(named["time"][:, None, None] + ahead, rows), tf.float32) / rows
            answer += tf.sin(2 * np.pi * phase)
        return {"forecast": answer}

    specs = [tf.TensorSpec((None, *tensor.shape), tensor.datatype, name=tensor.name) for tensor in tensors]
    module = tf.Module()
    module.serve = tf.function(forecast, input_signature=specs)
    tf.saved_model.save(module, str(version_dir), signatures={"serving_default": module.serve})


def ahead_twin(contract: Contract) -> ModelProto:
    """The fused twin of the same forecast."""
    constants = {
        "step": np.array([contract.steps - 1]),
        "targets": np.arange(len(contract.targets)),
        "zeros": np.zeros((1, contract.horizon, 1), np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["windows", "step"], ["row"], axis=1),
        helper.make_node("Gather", ["row", "targets"], ["last"], axis=2),
        helper.make_node("Add", ["last", "zeros"], ["repeated"]),
    ]
    parts = ["repeated"]
    if contract.known:
        constants["weights"] = weights_of(contract)
        nodes.append(helper.make_node("MatMul", ["future", "weights"], ["known"]))
        parts.append("known")
    if contract.calendar:
        rows = contract.calendar[0].rows
        constants |= {"axes": np.array([1, 2]), "ahead": np.arange(contract.horizon)[None, :, None]}
        constants |= {"rows": np.array(rows), "step_angle": np.array(2 * np.pi / rows, np.float32)}
        nodes += _phase_nodes()
        parts.append("sine")
    nodes.append(helper.make_node("Sum", parts, ["forecast"]))
    signature = Signature.of(contract)
    graph = helper.make_graph(
        nodes,
        "ahead",
        [_value(tensor) for tensor in reversed(signature.inputs.tensors)],  # in an order of its own
        [_value(tensor) for tensor in signature.outputs.tensors],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)


def _phase_nodes() -> list[NodeProto]:
    return [
        helper.make_node("Unsqueeze", ["time", "axes"], ["first"]),
        helper.make_node("Add", ["first", "ahead"], ["numbers"]),
        helper.make_node("Mod", ["numbers", "rows"], ["whole_phase"]),
        helper.make_node("Cast", ["whole_phase"], ["phase"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["phase", "step_angle"], ["angle"]),
        helper.make_node("Sin", ["angle"], ["sine"]),
    ]


def _value(tensor: TensorSpec) -> object:
    kind = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[tensor.datatype]
    return helper.make_tensor_value_info(tensor.name, kind, ("batch", *tensor.shape))
