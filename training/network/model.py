"""The network: raw windows in, raw forecasts out, a stack of recurrent layers in between.

Every layer has a fixed name, by which export and `rebuild` find it in a trained model:

    windows                     input, (batch, steps, features), raw units
    centre, spread, scale       see `layers`; `target_centre` too, if forecasts are counted from another step
    noise                       on the input of the stack, in training only; with `--noise`
    recurrent_1, dropout_1 ...  the stack, first to last; dropout between two layers
    head                        Dense
    flat, skip, sum             the linear path past the stack, a Dense layer, and its sum with the head; with `--skip`
    recent, picked              what the stack and what the linear path read of a window; with `--lags`
    time, phases                input, (batch,), and the phases of the calendar; with `--calendar`
    future, known               input, (batch, horizon, known), raw units, and scaled; with `--known`
    ahead                       phases and known together, which both paths read
    joined, mix                 the last state of the stack beside `ahead`, and a Dense layer over both
    beside                      what the linear path reads of the window beside `ahead`
    rows                        reshapes to (horizon, targets)
    forecast                    output, raw units
"""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.arrays import Inputs
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.network.ahead import WINDOWS_ALONE, Ahead, Known, Phases
from training.network.layers import Centre, Kinds, Restore, Scaling, Spread, Standardise, fit_scaling
from training.network.linear import Linear
from training.network.reading import Pick, Recent, linear_places
from training.network.ridge import fit_ridge

Array = NDArray[np.float32]

FORECAST_WINDOWS = 1024
"""Windows that one call forecasts: enough to keep the processor busy, few enough to keep memory small."""


@keras.saving.register_keras_serializable(package="windowcast")
class LstmBias(keras.initializers.Initializer):  # type: ignore[misc]
    """Starts the biases of an LSTM at zero, except for the forget gate, which is second in Keras' order i, f, c, o.

    Args:
        forget: Start of the forget gate's biases; 1 is Keras' own choice, 3 to 5 suits memories of a hundred steps.
    """

    def __init__(self, forget: float) -> None:
        self.forget = forget

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Returns the biases of the four gates, one gate after the other."""
        return keras.ops.repeat(keras.ops.convert_to_tensor([0.0, self.forget, 0.0, 0.0], dtype), shape[0] // 4)

    def get_config(self) -> dict[str, Any]:
        """Returns the initialiser's configuration as plain values."""
        return {"forget": self.forget}


def build_model(config: TrainingConfig, dataset: Dataset) -> keras.Model:
    """Builds an untrained model, with its scaling fitted on the training part.

    Sets the seed of Keras, TensorFlow, NumPy and Python first: the same configuration gives the same initial weights.
    With a linear path, the model starts as the ridge autoregression of the scaled windows.

    Args:
        config: The fields under Model, and the seed.
        dataset: The data set; its names, its shapes and its training part are used.

    Returns:
        A model of windows (batch, steps, features) in raw units, and of `future` and `time` where the data set has
        them. Its output is the forecast (batch, horizon, targets) in raw units or, for the output `sequence`, the
        forecasts after every step (batch, steps, horizon, targets).
        `serving_model` gives the first form of both.
    """
    keras.utils.set_random_seed(config.seed)
    config = config.model_copy(update={"lags": dataset.lags or "none", "window": dataset.recent_steps})
    scaling = fit_scaling(dataset, config.chosen_scale, config.output)
    shapes = dataset.train.windows.shape[1:], dataset.train.targets.shape[1:]
    model = assemble_model(config, *shapes, scaling, Ahead.of(dataset))
    if config.skip:
        model.get_layer("skip").set_weights(fit_ridge(dataset, scaling))
    return model


def linear_model(linear: Linear, window_shape: tuple[int, ...], forecast_shape: tuple[int, ...]) -> keras.Model:
    """Builds a model that is a linear map: it has the linear path alone.

    Args:
        linear: A map that sees windows.
        window_shape: (steps, features).
        forecast_shape: (horizon, targets).
    """
    from_last_row = linear.centre is None
    ones = np.ones(forecast_shape[1], np.float32)
    scaling = Scaling(
        kinds=Kinds("last", "last", "constant") if from_last_row else Kinds("constant", "constant", "constant"),
        centre=np.zeros(window_shape[1], np.float32) if linear.centre is None else linear.centre,
        spread=np.ones(window_shape[1], np.float32),
        selection=linear.selection,
        fixed_centre=0 * ones,
        fixed_spread=ones - linear.selection.max(axis=0),
        ratio=ones,
        yardstick=ones,
    )
    model = assemble_model(linear_config(), window_shape, forecast_shape, scaling)
    model.get_layer("skip").set_weights([linear.weights, linear.bias])
    return model


def linear_config() -> TrainingConfig:
    """Returns the fields under Model of a model without a network. No user can ask for them, as nothing is trained."""
    return TrainingConfig.model_construct(units=(), skip=True)


def assemble_model(
    config: TrainingConfig,
    window_shape: tuple[int, ...],
    forecast_shape: tuple[int, ...],
    scaling: Scaling,
    ahead: Ahead = WINDOWS_ALONE,
) -> keras.Model:
    """Puts the layers of `build_model` together.

    Args:
        config: The fields under Model.
        window_shape: (steps, features).
        forecast_shape: (horizon, targets).
        scaling: The constants of the scaling layers.
        ahead: What the network is told of the rows to forecast.
    """
    windows = keras.Input(window_shape, name="windows")
    recent = Recent(config.window, name="recent") if config.chosen_lags else _whole
    centre = target_centre = Centre(scaling.kinds.centre, scaling.centre, name="centre")(recent(windows))
    if scaling.kinds.target_centre != scaling.kinds.centre:
        target_centre = Centre(scaling.kinds.target_centre, scaling.centre, name="target_centre")(recent(windows))
    spread = Spread(scaling.kinds.spread, scaling.spread, name="spread")(recent(windows), centre)
    scaled = Standardise(name="scale")(windows, centre, spread)

    inputs = {"windows": windows, **_ahead_inputs(ahead, forecast_shape[0])}
    told = _told(inputs, ahead, centre, spread)
    numbers = math.prod(forecast_shape)
    paths = []
    if config.layers:
        paths.append(_recurrent_path(recent(scaled), told, config, numbers))
    if config.skip:
        flat = keras.layers.Flatten(name="flat")(scaled)
        if config.chosen_lags:
            steps, horizon = window_shape[0], forecast_shape[0]
            places = linear_places(steps, config.window, config.chosen_lags, scaling.selection, horizon)
            flat = Pick(places, name="picked")(flat)
        if told is not None:
            flat = keras.layers.Concatenate(name="beside")([flat, told])
        paths.append(keras.layers.Dense(numbers, name="skip")(flat))
    output = keras.layers.Add(name="sum")(paths) if len(paths) > 1 else paths[0]
    every_step = window_shape[:1] if config.output == "sequence" else ()
    output = keras.layers.Reshape((*every_step, *forecast_shape), name="rows")(output)

    restore = Restore(
        selection=scaling.selection,
        fixed_centre=scaling.fixed_centre,
        fixed_spread=scaling.fixed_spread,
        ratio=scaling.ratio,
        yardstick=scaling.yardstick,
        name="forecast",
    )
    forecast = restore(output, target_centre, spread)
    return keras.Model(_taken(inputs), forecast, name="windowcast")


def serving_model(model: keras.Model) -> keras.Model:
    """Returns the model as it is served: one forecast per window, after the window's last step.

    Args:
        model: As `build_model` makes it.

    Returns:
        A model of (batch, steps, features) -> (batch, horizon, targets) that shares its weights with the given one.
    """
    if len(model.output.shape) == 3:
        return model
    return keras.Model(model.input, model.output[:, -1], name=model.name)


def window_shape(model: keras.Model) -> tuple[int, int]:
    """Returns (steps, features) of the windows that a model takes."""
    steps, features = model.get_layer("windows").output.shape[1:]
    return steps, features


def input_specs(model: keras.Model, *leading: None) -> dict[str, tf.TensorSpec]:
    """Returns the types and shapes of what a model takes, by name, with further axes in front of the batch."""
    return {each.name: tf.TensorSpec((*leading, *each.shape), each.dtype, each.name) for each in model.inputs}


def tensors(inputs: Inputs) -> dict[str, Any]:
    """Returns inputs as tensors by their names."""
    return {name: tf.constant(array) for name, array in inputs.named().items()}


def call(model: keras.Model, arrays: Mapping[str, Any], *, training: bool = False) -> Any:
    """Calls a model with what it takes, by name."""
    return model(_taken(arrays), training=training)


def _taken(arrays: Mapping[str, Any]) -> Any:
    """Returns what a model takes in the form that Keras has for it: windows alone as they are, more by name."""
    return dict(arrays) if len(arrays) > 1 else arrays["windows"]


def output_of(layer: str, model: keras.Model, inputs: Inputs) -> Array:
    """Returns what a layer of a model computes."""
    takes = {each.name: each for each in model.inputs}
    head = keras.Model(_taken(takes), model.get_layer(layer).output)
    return np.asarray(call(head, inputs.named()))


class Forecaster:
    """A model whose forecast is compiled once, for any number of windows in a few large calls.

    Every call reads the weights, so the forecasts stay right while the model learns.

    Args:
        model: As `build_model` makes it.

    Attributes:
        model: The model.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        served = serving_model(model)
        self._nothing = np.empty((0, *served.output.shape[1:]), np.float32)
        self._compute = tf.function(
            lambda arrays: call(served, arrays), input_signature=[input_specs(served)], autograph=False
        )

    def __call__(self, inputs: Inputs) -> Array:
        """Forecasts a batch: windows (n, steps, features) and what goes with them -> (n, horizon, targets)."""
        starts = range(0, len(inputs), FORECAST_WINDOWS)
        batches = (inputs[start : start + FORECAST_WINDOWS] for start in starts)
        pieces = [self._compute(tensors(batch)).numpy() for batch in batches]
        return np.concatenate(pieces) if pieces else self._nothing


def _whole(windows: Any) -> Any:
    """Returns windows as they are: the cells read all of them."""
    return windows


def _ahead_inputs(ahead: Ahead, horizon: int) -> dict[str, Any]:
    inputs = {}
    if ahead.known:
        inputs["future"] = keras.Input((horizon, len(ahead.known)), name="future")
    if ahead.calendar:
        inputs["time"] = keras.Input((), dtype="int64", name="time")
    return inputs


def _told(inputs: Mapping[str, Any], ahead: Ahead, centre: Any, spread: Any) -> Any:
    """Returns what is known of the rows to forecast, (batch, numbers); None where nothing is."""
    parts = []
    if "time" in inputs:
        parts.append(Phases(ahead.calendar, name="phases")(inputs["time"]))
    if "future" in inputs:
        parts.append(Known(ahead.known, name="known")(inputs["future"], centre, spread))
    return keras.layers.Concatenate(name="ahead")(parts) if len(parts) > 1 else next(iter(parts), None)


def _recurrent_path(scaled: Any, told: Any, config: TrainingConfig, numbers: int) -> Any:
    """Returns the scaled forecast of the cells, flat. Beside a linear path the cells start by adding nothing.

    What is known of the rows to forecast meets the last state in a layer of its own: added, a value would mean the same
    at every hour.
    """
    noisy = keras.layers.GaussianNoise(config.noise, name="noise")(scaled) if config.noise else scaled
    hidden = _recurrent_stack(noisy, config)
    if told is not None:
        joined = keras.layers.Concatenate(name="joined")([hidden, told])
        hidden = keras.layers.Dense(config.layers[-1], activation="relu", name="mix")(joined)
    start = "zeros" if config.skip else "glorot_uniform"
    return keras.layers.Dense(numbers, kernel_initializer=start, name="head")(hidden)


def _recurrent_stack(hidden: Any, config: TrainingConfig) -> Any:
    """Stacks the recurrent layers. Every layer but the last hands on every step; for `sequence` the last does too."""
    for number, units in enumerate(config.layers, start=1):
        last = number == len(config.layers)
        layer = _recurrent_layer(config, units, return_sequences=not last or config.output == "sequence", number=number)
        hidden = layer(hidden)
        if config.dropout and not last:
            hidden = keras.layers.Dropout(config.dropout, name=f"dropout_{number}")(hidden)
    return hidden


def _recurrent_layer(config: TrainingConfig, units: int, *, return_sequences: bool, number: int) -> keras.layers.Layer:
    """Makes a recurrent layer without cuDNN, whose operations could not be served on a CPU."""
    name = f"recurrent_{number}"
    # Bidirectional names its two halves after the layer it wraps.
    inner = f"{config.cell}_{number}" if config.bidirectional else name
    options: dict[str, Any] = {"activation": config.activation, "return_sequences": return_sequences, "name": inner}
    match config.cell:
        case "lstm":
            layer = keras.layers.LSTM(
                units, use_cudnn=False, unit_forget_bias=False, bias_initializer=LstmBias(config.forget_bias), **options
            )
        case "gru":
            layer = keras.layers.GRU(units, use_cudnn=False, **options)
        case "rnn":
            layer = keras.layers.SimpleRNN(units, **options)
    return keras.layers.Bidirectional(layer, name=name) if config.bidirectional else layer
