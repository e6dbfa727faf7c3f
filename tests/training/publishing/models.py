"""Small models with some weight everywhere, and their twins."""

import keras
import numpy as np
from onnx import ModelProto

from app.version.golden import Golden, probe_windows
from app.version.manifest import Contract
from tests.training.tiny import dataset_of, waves
from training.config import TrainingConfig
from training.data.windows import Dataset, cut_training
from training.network.model import Forecaster, build_model
from training.publishing.parity import check_twin

ROWS = waves(columns=3).astype(np.float32)

SMALL = dataset_of(cut_training(ROWS[:, :1], ROWS[:, :1], 6, 1))

LARGE = dataset_of(cut_training(ROWS[:, :2], ROWS[:, 1:], 6, 3), targets=("b", "x"))
"""Two features; two targets, the second of which is no feature; three rows ahead."""


def model_of(config: TrainingConfig, dataset: Dataset = SMALL) -> keras.Model:
    """A model with some weight everywhere, biases too."""
    model = build_model(config, dataset)
    noise = np.random.default_rng(3)
    model.set_weights([weights + noise.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    return model


def check(twin: ModelProto, model: keras.Model, contract: Contract) -> None:
    forecast = Forecaster(model)
    windows = probe_windows(contract, 5)
    check_twin(twin, forecast, contract, Golden(windows, forecast(windows)))
