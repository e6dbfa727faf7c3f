"""Writes the models of `benchmarks.models` into a folder; a process of its own, as it needs TensorFlow.

python -m benchmarks.making FOLDER SHAPE...
"""

import sys
from pathlib import Path

import keras
import numpy as np

from app.version.manifest import Score
from benchmarks.models import DATA_ROWS, SHAPES, Model, Shape
from training.config import TrainingConfig
from training.data.windows import Dataset, Part
from training.network.model import build_model, serving_model
from training.publishing.export import export

SCORES = (Score(forecaster="model", mae=1.0, rmse=1.0),)


def make(model: Model) -> None:
    """Writes a model in all its forms."""
    shape = model.shape
    # Counted from the training mean, so that the scaling is four constants, which PyTorch can be given too.
    config = TrainingConfig(
        series="lesson", units=(shape.units, shape.units), scale="standard", models_dir=model.models_dir
    )
    dataset = _dataset(shape)
    network = serving_model(build_model(config, dataset))
    export(network, config, dataset, SCORES, "Its weights are random.")
    network.save(model.keras_path)
    np.savez(model.weights_path, allow_pickle=False, **_weights(network))


def _dataset(shape: Shape) -> Dataset:
    random = np.random.default_rng(0)
    windows = random.uniform(0, 1, (DATA_ROWS, shape.steps, shape.features)).astype(np.float32)
    targets = random.uniform(0, 1, (DATA_ROWS, shape.horizon, 1)).astype(np.float32)
    part = Part(windows, targets, windows[:, :, :1])
    names = tuple(f"feature_{number}" for number in range(shape.features))
    return Dataset(names, names[:1], part, part, part)


def _weights(network: keras.Model) -> dict[str, np.ndarray]:
    """Kernel, recurrent kernel and bias of each layer, and the scaling as (centre, spread) of inputs and of outputs."""
    arrays: dict[str, np.ndarray] = {}
    for name in ("recurrent_1", "recurrent_2", "head"):
        for number, weights in enumerate(network.get_layer(name).get_weights()):
            arrays[f"{name}_{number}"] = weights
    centre, spread, restore = (network.get_layer(name) for name in ("centre", "spread", "forecast"))
    arrays["centre"], arrays["spread"] = centre.constant, spread.constant
    arrays["target_centre"] = centre.constant @ restore.selection + restore.fixed_centre
    arrays["target_spread"] = (spread.constant @ restore.selection + restore.fixed_spread) * restore.ratio
    return arrays


if __name__ == "__main__":
    for name in sys.argv[2:]:
        make(Model(SHAPES[name], Path(sys.argv[1]) / name))
