"""Rebuilds a model in memory from the SavedModel that it was written to.

    rebuild_version  a model of ours: the manifest tells how it was put together
    rebuild_foreign  a foreign model: the names and shapes of its variables tell

A SavedModel keeps the numbers and not the layers. The rebuilt model is a good guess, so its caller compares it with the
SavedModel, as `training.publishing.parity.check_twin` does.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from pydantic import ValidationError

from app.version.manifest import Contract, Manifest
from training.config import Cell, Scale, TrainingConfig
from training.errors import NotFusable
from training.network.ahead import Ahead
from training.network.layers import Scaling, kinds_of, no_scaling
from training.network.model import assemble_model, linear_config, serving_model
from training.publishing.saved_model import nodes

Array = NDArray[np.float32]
Group = dict[str, Array]
"""The weights of a layer, by their role: kernel, recurrent_kernel, bias."""

SCALING_NODES = {
    "spread": "spread/truediv/y",
    "selection": "forecast/Const",
    "fixed_centre": "forecast/add/y",
    "fixed_spread": "forecast/add_1/y",
    "ratio": "forecast/mul/y",
}
"""The nodes in which TensorFlow keeps the constants of `training.network.layers`, whatever the scale."""

CENTRE_NODE = "centre/Const"
"""The node of the centre, if the centre is a constant."""

LINEAR_VARIABLES = {"skip/kernel", "skip/bias"}
"""The variables of a model without a network."""

GATES: dict[float, Cell] = {4: "lstm", 3: "gru", 1: "rnn"}
"""The cell by its number of gates: the recurrent kernel is so many times as wide as high."""

BENDS = frozenset({"Abs", "ClipByValue", "LeakyRelu", "Maximum", "Minimum", "Relu", "Relu6", "Select", "SelectV2"})
"""Operators that change nothing for some inputs: a comparison may miss what they do for others."""

ROLES = ("kernel", "recurrent_kernel", "bias")

DRAWABLE = "only LSTM, GRU or SimpleRNN layers as Keras makes them by default, then one Dense layer, can be fused"


def rebuild_version(manifest: Manifest, signature: Any) -> keras.Model:
    """Rebuilds a model that `training` exported.

    Args:
        manifest: The manifest of the version.
        signature: The signature of its SavedModel.

    Returns:
        A model of windows (batch, steps, features) -> forecasts (batch, horizon, targets), raw units.

    Raises:
        NotFusable: The manifest does not describe the SavedModel.
    """
    try:
        config = TrainingConfig.model_validate(manifest.config)
    except ValidationError:
        raise NotFusable("its manifest holds no configuration that this release of training reads") from None
    contract, constants = manifest.contract, _constants(signature)
    saved = {_path(variable): variable.numpy() for variable in signature.variables}
    if saved.keys() == LINEAR_VARIABLES:  # a baseline took the place of the network that the configuration describes
        scale: Scale = "standard" if CENTRE_NODE in constants else "last"
        config = linear_config().model_copy(update={"scale": scale})
    scaling = _read_scaling(config, contract, constants)
    shapes = contract.window_shape, contract.forecast_shape
    model = serving_model(assemble_model(config, *shapes, scaling, Ahead.by(contract)))
    if saved.keys() != {weight.path for weight in model.weights}:
        raise NotFusable("its variables are not those that its configuration needs")
    return _with_weights(model, [saved[weight.path] for weight in model.weights])


def rebuild_foreign(contract: Contract, signature: Any) -> keras.Model:
    """Rebuilds a plain Keras model: recurrent layers of one kind, then a Dense layer.

    Args:
        contract: As the signature promises.
        signature: The signature of the SavedModel.

    Returns:
        A model of windows (batch, steps, features) -> forecasts (batch, horizon, targets) that scales nothing.

    Raises:
        NotFusable: The SavedModel has other variables than a plain Keras model, or operators that it does not need.
    """
    for node in nodes(signature):
        if node.op in BENDS and node.attr["T"].type == tf.float32.as_datatype_enum:
            raise NotFusable(f"its graph holds the operator {node.op}; {DRAWABLE}")
    groups = _group(signature.variables)
    *stack, head = groups.values() or [{}]
    if not stack or head.keys() != {"kernel", "bias"} or any(group.keys() != {*ROLES} for group in stack):
        raise NotFusable(f"it has the layers {', '.join(groups) or '(none)'}; {DRAWABLE}")
    if contract.steps > 1 and contract.forecast_shape == (contract.steps, len(head["bias"])):
        raise NotFusable(
            f"it forecasts after every one of its {contract.steps} steps, not after the last step alone; "
            "take return_sequences=True from its last recurrent layer"
        )
    both_directions = any("backward_" in name for name in groups)
    config = TrainingConfig.model_construct(  # nothing trained it: only the fields under Model mean something
        cell=_cell_of(stack),
        units=tuple(len(group["recurrent_kernel"]) for group in stack)[:: 2 if both_directions else 1],
        bidirectional=both_directions,
    )
    selection = np.zeros((len(contract.features), len(contract.targets)), np.float32)
    model = assemble_model(config, contract.window_shape, contract.forecast_shape, no_scaling(selection))
    return _with_weights(model, [group[role] for group in groups.values() for role in ROLES if role in group])


def _read_scaling(config: TrainingConfig, contract: Contract, constants: Mapping[str, Array]) -> Scaling:
    kinds = kinds_of(config.chosen_scale, config.output)
    targets, features = len(contract.targets), len(contract.features)
    try:
        found = {name: constants[node] for name, node in SCALING_NODES.items()}
        centre = constants[CENTRE_NODE] if kinds.centre == "constant" else np.zeros(features, np.float32)
    except KeyError as missing:
        raise NotFusable(f"its graph holds no constant {missing.args[0]}") from None
    # The loss alone uses the yardstick, so it is not in the graph, and nothing is trained here.
    return Scaling(kinds=kinds, centre=centre, yardstick=np.ones(targets, np.float32), **found)


def _constants(signature: Any) -> dict[str, Array]:
    """Returns the float32 constants of the scaling layers, by layer and node.

    The export traces the model a second time, which adds a number to the layer's name: `spread_1/truediv/y`.
    """
    found = {}
    for node in nodes(signature):
        place = re.search(r"(?:^|/)(centre|spread|forecast)(?:_\d+)?/(.+)$", node.name)
        if place and node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum:
            found["/".join(place.groups())] = tf.make_ndarray(node.attr["value"].tensor)
    return found


def _group(variables: Iterable[Any]) -> dict[str, Group]:
    """Sorts variables by their layer. The layers stay in the order in which they are computed."""
    groups: dict[str, Group] = {}
    for variable in variables:
        layer, _, role = _path(variable).rpartition("/")
        groups.setdefault(layer, {})[role] = variable.numpy()
    return groups


def _path(variable: Any) -> str:
    return str(variable.name).removesuffix(":0")


def _cell_of(stack: Iterable[Group]) -> Cell:
    """Returns the kind of the recurrent layers."""
    shapes = (group["recurrent_kernel"].shape for group in stack)
    widths = {width / height for height, width in shapes}
    cells = {GATES.get(width) for width in widths}
    if len(cells) != 1 or None in cells:
        raise NotFusable(f"its recurrent layers are of several kinds, or of an unknown one; {DRAWABLE}")
    return next(cell for cell in cells if cell)


def _with_weights(model: keras.Model, weights: list[Array]) -> keras.Model:
    try:
        model.set_weights(weights)
    except ValueError:
        raise NotFusable("its variables do not have the shapes that its layers need") from None
    return model
