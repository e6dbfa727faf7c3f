"""The fused twin: a trained model as an ONNX graph that has one operator where TensorFlow runs a loop.

On a CPU, Keras computes a recurrent layer step by step, with a dozen small operations a step. ONNX has LSTM, GRU and
RNN as single operators, which multiply all steps by the kernel at once and do the rest inside the operator.

    build_twin   draws the graph, layer by layer, from a model that `training.network.model` made
    write_twin   puts it into a version

`parity` proves that a twin computes what the SavedModel computes. A model that cannot be drawn, or whose twin does not
prove right, is `NotFusable`: it is published and served without a twin.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from app.engines.onnx import INPUT, OUTPUT
from app.version.manifest import TWIN_FILE, Contract, Phase
from training.errors import NotFusable
from training.network.ahead import Known, Phases, paces_of, row_angle
from training.network.layers import SPREAD_FLOOR, Centre, Restore, Spread, Standardise
from training.network.reading import Pick, Recent
from training.publishing.nodes import Constant, Graph, Value

CELLS: dict[type, tuple[str, tuple[int, ...]]] = {
    layers.LSTM: ("LSTM", (0, 3, 1, 2)),  # Keras: input, forget, cell, output; ONNX: input, output, forget, cell
    layers.GRU: ("GRU", (0, 1, 2)),  # both: update, reset, hidden
    layers.SimpleRNN: ("RNN", (0,)),
}
"""The ONNX operator of a Keras layer, and the layer's gates in the operator's order."""

ACTIVATIONS = {"LSTM": ["Sigmoid", "Relu", "Relu"], "GRU": ["Sigmoid", "Relu"], "RNN": ["Relu"]}
"""Activations of an operator with relu; without this attribute the operators use tanh."""

KNOWN_LAYERS: dict[str, tuple[type, ...]] = {
    "windows|future|time": (layers.InputLayer,),
    "phases": (Phases,),
    "known": (Known,),
    "ahead|joined|beside": (layers.Concatenate,),
    "mix": (layers.Dense,),
    "(target_)?centre": (Centre,),
    "spread": (Spread,),
    "scale": (Standardise,),
    r"recurrent_\d+": (*CELLS, layers.Bidirectional),
    r"dropout_\d+": (layers.Dropout,),
    "noise": (layers.GaussianNoise,),
    "head|skip": (layers.Dense,),
    "flat": (layers.Flatten,),
    "recent": (Recent,),
    "picked": (Pick,),
    "sum": (layers.Add,),
    "rows": (layers.Reshape,),
    "forecast": (Restore,),
    r"get_item(_\d+)?": (keras.Operation,),  # `serving_model` cuts the last step out of the forecasts of a sequence
}
"""Patterns of the names that `training.network.model` gives, and the layers that may have them."""

REQUIRED_LAYERS = frozenset({"windows", "centre", "spread", "scale", "rows", "forecast"})
PATHS = (frozenset({"recurrent_1", "head"}), frozenset({"flat", "skip"}))
"""Layers on the two paths from the scaled window to the forecast: a model has one path or both."""


def build_twin(model: keras.Model, contract: Contract) -> ModelProto:
    """Draws the graph of a model.

    Args:
        model: As `build_model` or `serving_model` makes it.
        contract: The shapes of its windows and forecasts.

    Returns:
        A graph of `windows` (batch, steps, features), and what goes with them, -> `forecast` (batch, horizon, targets),
        raw units. If the model forecasts after every step, the graph computes the last forecast only.

    Raises:
        NotFusable: The model holds something that `training.network.model` does not make.
    """
    _check_drawable(model)
    graph = Graph()
    named = {layer.name: layer for layer in model.layers}
    steps = named["recent"].steps if "recent" in named else contract.steps
    recent = _draw_recent(graph, "recent", INPUT, steps, contract.steps)
    centre = _draw_centre(graph, named["centre"], recent, steps)
    spread = _draw_spread(graph, named["spread"], recent, centre, steps)
    distance = graph.combine("scale/distance", "Sub", INPUT, centre)
    scaled = graph.combine("scale", "Div", distance, spread)

    told = _draw_ahead(graph, named, centre, spread)
    recent_scaled = _draw_recent(graph, "recent/scaled", scaled, steps, contract.steps)
    output = _draw_paths(graph, model, recent_scaled, scaled, told)
    output = graph.add("rows", "Reshape", output, np.array([0, *contract.forecast_shape]))

    target_centre = centre
    if "target_centre" in named:
        target_centre = _draw_centre(graph, named["target_centre"], recent, steps)
    target_centre = _at_last_step(graph, named.get("target_centre", named["centre"]), target_centre, steps)
    spread = _at_last_step(graph, named["spread"], spread, steps)
    _draw_restore(graph, named["forecast"], output, target_centre, spread)
    return graph.finish(contract)


def write_twin(twin: ModelProto, version_dir: Path) -> None:
    """Writes a twin into the folder of a version."""
    path = version_dir / TWIN_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(twin_bytes(twin))


def twin_bytes(twin: ModelProto) -> bytes:
    """Returns a twin as its file holds it; the same twin gives the same bytes."""
    return bytes(twin.SerializeToString(deterministic=True))


def _draw_recent(graph: Graph, name: str, windows: Value, steps: int, whole: int) -> Value:
    """Draws the last steps of windows that have more."""
    if steps == whole:
        return windows
    return graph.add(name, "Slice", windows, np.array([whole - steps]), np.array([whole]), np.array([1]))


def _draw_centre(graph: Graph, centre: Centre, windows: Value, steps: int) -> Value:
    """Draws the centre of the windows, which broadcasts with (batch, steps, features)."""
    name = centre.name
    match centre.kind:
        case "constant":
            return np.asarray(centre.constant.reshape(1, 1, -1))
        case "last":
            return graph.add(name, "Gather", windows, np.array([steps - 1]), axis=1)
        case "first":
            return graph.add(name, "Gather", windows, np.array([0]), axis=1)
        case "own":
            return windows
        case kind:
            # Counted from the first step: every engine rounds a mean of large numbers differently.
            first = graph.add(f"{name}/first", "Gather", windows, np.array([0]), axis=1)
            distance = graph.add(f"{name}/distance", "Sub", windows, first)
            return graph.add(name, "Add", _draw_mean(graph, f"{name}/mean", distance, kind, steps), first)


def _draw_spread(graph: Graph, spread: Spread, windows: Value, centre: Value, steps: int) -> Value:
    """Draws the spread of the windows, which broadcasts with (batch, steps, features)."""
    name = spread.name
    if spread.kind == "constant":
        return np.asarray(spread.constant.reshape(1, 1, -1))
    distance = graph.combine(f"{name}/distance", "Sub", windows, centre)
    ratio = graph.combine(f"{name}/ratio", "Div", distance, spread.constant)
    squares = graph.add(f"{name}/squares", "Mul", ratio, ratio)
    mean = _draw_mean(graph, f"{name}/mean", squares, spread.kind, steps)
    floored = graph.add(f"{name}/floored", "Add", mean, np.array(SPREAD_FLOOR**2, np.float32))
    return graph.combine(name, "Mul", graph.add(f"{name}/root", "Sqrt", floored), spread.constant)


def _draw_mean(graph: Graph, name: str, rows: str, kind: str, steps: int) -> str:
    """Draws the `mean` of all steps, (batch, 1, features), or the `running` mean so far, (batch, steps, features)."""
    if kind == "mean":
        return graph.add(name, "ReduceMean", rows, axes=[1])
    # The layer is linear, so it maps the identity to the matrix that it multiplies by.
    weights = np.asarray(Centre("running")(np.eye(steps, dtype=np.float32)[None]))[0]
    return graph.add(name, "MatMul", weights, rows)


def _draw_recurrent_stack(graph: Graph, stack: Sequence[keras.layers.Layer], scaled: Value) -> str:
    """Draws the recurrent layers up to the last state: (batch, steps, features) -> (batch, units).

    ONNX has the steps first, so values between layers are (steps, batch, units). A layer in both directions has twice
    as many units: first the forward units, then the backward units, whose last step is the window's first.
    """
    hidden = graph.add("steps_first", "Transpose", scaled, perm=[1, 0, 2])
    for layer in stack[:-1]:
        every_step = _draw_recurrence(graph, layer, hidden, skip=0)  # (steps, directions, batch, units)
        hidden = _join_directions(graph, layer, every_step, axis=1)
    final = _draw_recurrence(graph, stack[-1], hidden, skip=1)  # (directions, batch, units)
    return _join_directions(graph, stack[-1], final, axis=0)


def _draw_recurrence(graph: Graph, layer: keras.layers.Layer, hidden: str, skip: int) -> str:
    """Draws a layer as one node, and returns the node's output after `skip` others."""
    directions = _directions(layer)
    operator, order = CELLS[type(directions[0])]
    attributes: dict[str, Any] = {"hidden_size": directions[0].units}
    if len(directions) == 2:
        attributes["direction"] = "bidirectional"
    if directions[0].get_config()["activation"] != "tanh":
        attributes["activations"] = ACTIVATIONS[operator] * len(directions)
    if operator == "GRU":
        attributes["linear_before_reset"] = 1  # Keras calls it `reset_after`
    weights = zip(*(_onnx_weights(direction.cell, order) for direction in directions), strict=True)
    kernel, recurrent_kernel, bias = (np.stack(pair) for pair in weights)
    return graph.add(layer.name, operator, hidden, kernel, recurrent_kernel, bias, skip=skip, **attributes)


def _directions(layer: keras.layers.Layer) -> tuple[keras.layers.Layer, ...]:
    """Returns the layer that reads forwards and, in a layer of both directions, the layer that reads backwards."""
    return (layer.forward_layer, layer.backward_layer) if isinstance(layer, layers.Bidirectional) else (layer,)


def _onnx_weights(cell: keras.layers.Layer, order: tuple[int, ...]) -> tuple[Constant, Constant, Constant]:
    """Returns the weights of a cell in ONNX' order of gates.

    Returns:
        Kernel (gates * units, features), recurrent kernel (gates * units, units), and biases (2 * gates * units,): the
        kernel's first, then the recurrent kernel's, which is zero if Keras has none.
    """

    def sort(weights: Any) -> Constant:
        blocks = np.split(np.asarray(weights), len(order), axis=-1)
        return np.concatenate([blocks[position] for position in order], axis=-1)

    biases = np.atleast_2d(sort(cell.bias))
    if len(biases) == 1:
        biases = np.concatenate([biases, np.zeros_like(biases)])
    return sort(cell.kernel).T, sort(cell.recurrent_kernel).T, biases.ravel()


def _join_directions(graph: Graph, layer: keras.layers.Layer, states: str, axis: int) -> str:
    """Moves the axis of directions, which stands before (batch, units), into the units."""
    if not isinstance(layer, layers.Bidirectional):
        return graph.add(f"{layer.name}/joined", "Squeeze", states, np.array([axis]))
    leading = list(range(axis))
    swapped = graph.add(f"{layer.name}/swapped", "Transpose", states, perm=[*leading, axis + 1, axis, axis + 2])
    # A length of 0 copies the length of the input's axis.
    shape = np.array([0] * (axis + 1) + [2 * layer.forward_layer.units])
    return graph.add(f"{layer.name}/joined", "Reshape", swapped, shape)


def _draw_ahead(graph: Graph, named: Mapping[str, Any], centre: Value, spread: Value) -> str | None:
    """Draws what is known of the rows to forecast, (batch, numbers); None where the model takes windows alone."""
    parts = []
    if "phases" in named:
        parts.append(_draw_phases(graph, named["phases"].calendar))
    if "known" in named:
        places = np.asarray(named["known"].places)
        distance = graph.combine("known/distance", "Sub", "future", _take(graph, "known/centre", centre, places))
        ratio = graph.combine("known/ratio", "Div", distance, _take(graph, "known/spread", spread, places))
        parts.append(graph.add("known", "Reshape", ratio, np.array([0, -1])))
    return graph.add("ahead", "Concat", *parts, axis=1) if len(parts) > 1 else next(iter(parts), None)


def _draw_phases(graph: Graph, calendar: Sequence[Phase]) -> str:
    """Draws the phases of the calendar from the numbers of rows, (batch,) -> (batch, phases)."""
    numbers = graph.add("time/column", "Unsqueeze", "time", np.array([1]))
    waves = []
    for phase in calendar:
        name, rows = f"phases/{phase.name}", np.array([phase.rows])
        place = graph.add(f"{name}/row", "Mod", numbers, rows)
        paced = graph.add(f"{name}/paced", "Mul", place, paces_of(phase))
        places = graph.add(f"{name}/places", "Mod", paced, rows)
        angles = graph.add(f"{name}/float", "Cast", places, to=TensorProto.FLOAT)
        angles = graph.add(f"{name}/angles", "Mul", angles, np.array(row_angle(phase)))
        waves += [graph.add(f"{name}/sin", "Sin", angles), graph.add(f"{name}/cos", "Cos", angles)]
    return graph.add("phases", "Concat", *waves, axis=1)


def _take(graph: Graph, name: str, value: Value, places: NDArray[np.int64]) -> Value:
    """Draws some features of a centre or a spread, (batch or 1, 1, features)."""
    return value[..., places] if isinstance(value, np.ndarray) else graph.add(name, "Gather", value, places, axis=2)


def _draw_paths(graph: Graph, model: keras.Model, recent: Value, scaled: Value, told: str | None) -> str:
    """Draws the scaled forecast (batch, horizon * targets): through the recurrent layers, past them, or both.

    Args:
        graph: The graph.
        model: The model.
        recent: The scaled steps that the recurrent layers read.
        scaled: The scaled window.
        told: What is known of the rows to forecast.
    """
    named = {layer.name: layer for layer in model.layers}
    paths = []
    if "head" in named:
        hidden = _draw_recurrent_stack(graph, _recurrent_layers(model), recent)
        if told is not None:
            joined = graph.add("joined", "Concat", hidden, told, axis=1)
            hidden = graph.add("mix/relu", "Relu", _draw_dense(graph, named["mix"], joined))
        paths.append(_draw_dense(graph, named["head"], hidden))
    if "skip" in named:
        flat = graph.add("flat", "Reshape", scaled, np.array([0, -1]))
        if "picked" in named:
            flat = graph.add("picked", "Gather", flat, named["picked"].places.astype(np.int64), axis=1)
        if told is not None:
            flat = graph.add("beside", "Concat", flat, told, axis=1)
        paths.append(_draw_dense(graph, named["skip"], flat))
    return graph.add("sum", "Add", *paths) if len(paths) > 1 else paths[0]


def _draw_dense(graph: Graph, dense: keras.layers.Dense, values: str) -> str:
    """Draws a Dense layer: (batch, units) -> (batch, horizon * targets)."""
    return graph.add(dense.name, "Gemm", values, np.asarray(dense.kernel), np.asarray(dense.bias))


def _draw_restore(graph: Graph, restore: Restore, output: str, centre: Value, spread: Value) -> None:
    """Draws the forecast in raw units, from the centre and the spread (batch or 1, 1, features) of the last step."""
    selected = graph.combine("forecast/selected_spread", "MatMul", spread, restore.selection)
    complete = graph.combine("forecast/complete_spread", "Add", selected, restore.fixed_spread)
    spread = graph.combine("forecast/spread", "Mul", complete, restore.ratio)
    selected = graph.combine("forecast/selected_centre", "MatMul", centre, restore.selection)
    centre = graph.combine("forecast/centre", "Add", selected, restore.fixed_centre)
    graph.add(OUTPUT, "Add", graph.combine("forecast/distance", "Mul", output, spread), centre)


def _at_last_step(graph: Graph, layer: Centre | Spread, value: Value, steps: int) -> Value:
    """Draws the last step of a centre or a spread that has a value for each step."""
    if layer.kind not in ("running", "own"):
        return value
    return graph.add(f"{layer.name}/last", "Gather", value, np.array([steps - 1]), axis=1)


def _check_drawable(model: keras.Model) -> None:
    """Raises `NotFusable` unless the model is put together as `training.network.model` does it."""
    for operation in model.operations:
        matching = (kinds for pattern, kinds in KNOWN_LAYERS.items() if re.fullmatch(pattern, operation.name))
        if not isinstance(operation, next(matching, ())):
            raise NotFusable(f"it holds {operation.name}, a {type(operation).__name__}, which cannot be drawn")
    names = {layer.name for layer in model.layers}
    begun = [path for path in PATHS if path & names] or PATHS[:1]
    missing = REQUIRED_LAYERS.union(*begun) - names
    if missing:
        raise NotFusable(f"it holds no layer {min(missing)}")
    for dense in sorted({"head", "skip"} & names):
        _check_options(model.get_layer(dense), activation="linear", use_bias=True)
    if "mix" in names:
        _check_options(model.get_layer("mix"), activation="relu", use_bias=True)
    stack = _recurrent_layers(model)
    for layer in stack:
        _check_recurrent(layer)
    if stack and isinstance(stack[-1], layers.Bidirectional) and stack[-1].return_sequences:
        raise NotFusable(f"{stack[-1].name} hands on every step of both directions, which do not end on the same step")


def _recurrent_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the recurrent layers, first to last."""
    return [layer for layer in model.layers if layer.name.startswith("recurrent_")]


def _check_recurrent(layer: keras.layers.Layer) -> None:
    """Raises `NotFusable` if a layer has options that `training.network.model` does not set."""
    if isinstance(layer, layers.Bidirectional):
        _check_options(layer, merge_mode="concat")
    directions = _directions(layer)
    for direction, backwards in zip(directions, (False, True), strict=False):
        if type(direction) not in CELLS:
            raise NotFusable(f"{layer.name} is a {type(direction).__name__}, which cannot be drawn")
        if direction.get_config()["activation"] != "relu":
            _check_options(direction, activation="tanh")
        _check_options(
            direction,
            activation=directions[0].get_config()["activation"],
            recurrent_activation="sigmoid",
            use_bias=True,
            reset_after=True,
            stateful=False,
            go_backwards=backwards,
        )


def _check_options(layer: keras.layers.Layer, **options: object) -> None:
    """Raises `NotFusable` if a layer has one of the options with another value."""
    config = layer.get_config()
    for option, value in options.items():
        if config.get(option, value) != value:
            raise NotFusable(f"{layer.name} has {option}={config[option]!r} where only {value!r} can be drawn")
