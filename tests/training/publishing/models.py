"""Small models with some weight everywhere, ours and foreign."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from onnx import ModelProto

from app.arrays import Array, Inputs
from app.version.golden import Golden, probe_inputs
from app.version.manifest import Contract, DataFingerprint, Frequency, Manifest
from tests.training.tiny import dataset_of, waves
from training.config import TrainingConfig
from training.data.calendar import chosen_calendar
from training.data.windows import Dataset, Rows, cut_training
from training.network.model import build_model, call, serving_model
from training.publishing.export import make_contract
from training.publishing.parity import check_twin

ROWS = waves(columns=3).astype(np.float32)

SMALL = dataset_of(cut_training(ROWS[:, :1], ROWS[:, :1], 6, 1))

LARGE = dataset_of(cut_training(ROWS[:, :2], ROWS[:, 1:], 6, 3), targets=("b", "x"))
"""Two features; two targets, the second of which is no feature; three rows ahead."""

SEASONAL = replace(
    LARGE,
    rows=Rows(ROWS[:, :2], ROWS[:, 1::-1], (0, 80, 100, 120), horizon=3, stride=1),
    target_names=("b", "a"),
).with_lags((2, 9, 20))
"""Windows that reach back to three seasons; the shortest is shorter than the horizon."""

SEVEN_HOURS = Frequency(count=7, unit="hour")


def ahead_of(told: str, lags: Sequence[int] = ()) -> Dataset:
    """Three features; two targets, the second of which is no feature; three rows ahead, of which something is known.

    Args:
        told: What is known of these rows: the words `known` and `calendar`, or one of them.
        lags: As for the linear path.
    """
    calendar = chosen_calendar(["hour", "weekday", "yearday"], SEVEN_HOURS) if "calendar" in told else ()
    rows = Rows(
        features=ROWS,
        targets=ROWS[:, [1, 0]],
        edges=(0, 80, 100, 120),
        horizon=3,
        stride=1,
        known=(2, 0) if "known" in told else (),
        numbers=70_000 + np.arange(120) if calendar else None,
    )
    dataset = Dataset(("a", "b", "c"), ("b", "x"), *rows.cut(6), rows=rows, frequency=SEVEN_HOURS, calendar=calendar)
    return dataset.with_lags(lags) if lags else dataset


def contract_for(model: keras.Model, dataset: Dataset) -> Contract:
    """The contract of a model, with what it takes beside windows."""
    return make_contract(dataset, {each.name for each in model.inputs})


def model_of(config: TrainingConfig, dataset: Dataset = SMALL) -> keras.Model:
    """A model with some weight everywhere, biases too."""
    model = build_model(config, dataset)
    noise = np.random.default_rng(3)
    model.set_weights([weights + noise.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    return model


def check(twin: ModelProto, model: keras.Model, contract: Contract) -> None:
    """Checks that a twin computes what Keras does, which for a few windows is faster without compilation."""
    served = serving_model(model)

    def forecast(inputs: Inputs) -> Array:
        return np.asarray(call(served, inputs.named()))

    inputs = probe_inputs(contract, 5)
    check_twin(twin, forecast, contract, Golden(inputs, forecast(inputs)))


SAVERS: dict[str, Callable[[keras.Model, str], None]] = {
    "save": tf.saved_model.save,
    "export": lambda model, folder: model.export(folder, verbose=False),
}
"""The ways in which a user of Keras writes a SavedModel."""


def sequential(*stack: keras.layers.Layer, steps: int | None = 5) -> keras.Model:
    """A plain Keras model of windows of two features."""
    return keras.Sequential([keras.Input((steps, 2)), *stack])


def save_foreign(model: keras.Model, folder: Path, save: Callable[[keras.Model, str], None] = SAVERS["save"]) -> Path:
    """Writes a plain Keras model with some weight everywhere, as its user would."""
    noise = np.random.default_rng(3)
    model.set_weights([weights + noise.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    save(model, str(folder))
    return folder


FOREIGN: dict[str, tuple[Callable[[], keras.Model], tuple[int, int]]] = {
    "lstm, dropout": (
        lambda: sequential(layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.LSTM(3), layers.Dense(1)),
        (1, 1),
    ),
    "gru": (lambda: sequential(layers.GRU(4), layers.Dense(3)), (3, 1)),
    "rnn, reshaped": (lambda: sequential(layers.SimpleRNN(2), layers.Dense(6), layers.Reshape((3, 2))), (3, 2)),
    "both directions": (
        lambda: sequential(
            layers.Bidirectional(layers.GRU(4, return_sequences=True)),
            layers.Bidirectional(layers.GRU(3)),
            layers.Dense(2),
        ),
        (2, 1),
    ),
}  # fmt: skip
"""Plain Keras models, and the shape of their forecasts."""


def manifest_for(config: TrainingConfig, contract: Contract) -> Manifest:
    """A manifest of a model that nothing has judged."""
    return Manifest(
        name="default",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        contract=contract,
        config=config.model_dump(mode="json"),
        data=DataFingerprint(source="waves"),
        versions={},
        scores=(),
        verdict="",
        files={},
    )
