"""An ONNX graph while it is drawn: nodes by name, constants, and no node for what is known beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from app import __version__
from app.engines.onnx import OUTPUT
from app.version.manifest import Contract
from app.version.signature import DataType, Signature

OPSET, IR_VERSION = 14, 7
"""The oldest pair that has all operators in the form used here, of 2021. ONNX Runtime reads old graphs for good, and
every release of it since 1.8 reads these; a newer pair would say the same and lock older runtimes out."""

TENSOR_TYPES: dict[DataType, int] = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

FOLDED: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "MatMul": np.matmul,
}
"""Operators of two values that are computed while drawing if both values are constants."""

Constant = NDArray[np.float32]
Value = str | Constant
"""What a layer makes: the output of a node, by its name, or a constant."""


class Graph:
    """The nodes and constants of a graph so far. The output of a node has the name of the node."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def add(self, name: str, operator: str, *inputs: str | NDArray[Any], skip: int = 0, **attributes: Any) -> str:
        """Adds a node.

        Args:
            name: Name of the node and of its output.
            operator: ONNX operator.
            inputs: Outputs of other nodes by their names, and constants.
            skip: How many outputs of the operator stand before the wanted output; they are not computed.
            attributes: Of the operator.

        Returns:
            The name of the output.
        """
        names = [self._name_of(value, f"{name}/{position}") for position, value in enumerate(inputs)]
        outputs = [*[""] * skip, name]
        self._nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return name

    def combine(self, name: str, operator: str, left: Value, right: Value) -> Value:
        """Combines two values by one of `FOLDED`; adds a node only if windows are involved and something changes."""
        if isinstance(right, np.ndarray):
            if isinstance(left, np.ndarray):
                return np.asarray(FOLDED[operator](left, right), np.float32)
            if _changes_nothing(operator, right):
                return left
        return self.add(name, operator, left, right)

    def finish(self, contract: Contract) -> ModelProto:
        """Returns the whole model: what the contract says in, float32 out, the batch dimension open."""
        inputs = [
            helper.make_tensor_value_info(each.name, TENSOR_TYPES[each.datatype], ["batch", *each.shape])
            for each in Signature.of(contract).inputs.tensors
        ]
        forecast = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", *contract.forecast_shape])
        return helper.make_model(
            helper.make_graph(self._nodes, "windowcast", inputs, [forecast], self._constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="windowcast",
            producer_version=__version__,
        )

    def _name_of(self, value: str | NDArray[Any], name: str) -> str:
        if isinstance(value, str):
            return value
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _changes_nothing(operator: str, right: Constant) -> bool:
    match operator:
        case "Add" | "Sub":
            return not right.any()
        case "Mul" | "Div":
            return bool((right == 1).all())
        case _:
            return np.array_equal(right, np.eye(len(right)))
