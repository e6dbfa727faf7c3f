"""Tiny fits, on data that are sound but for one value."""

import math
from typing import Any

from tests.training.tiny import dataset_of, part_of, waves
from training.config import TrainingConfig
from training.data.windows import Dataset, Part
from training.fitting.fit import fit
from training.fitting.history import History
from training.fitting.listener import Listener
from training.network.model import Forecaster, build_model

STEPS = 6
SOUND = dataset_of(part_of(waves(90)))


class Ear(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def noticed(self, sentence: str) -> None:
        self.sentences.append(sentence)


def with_value(value: float, row: int, column: int = 1, rows: int = 90) -> Part:
    """Waves with one cell replaced."""
    values = waves(rows)
    values[row, column] = value
    return part_of(values)


def fitted(
    config: TrainingConfig, dataset: Dataset = SOUND, listener: Listener | None = None, seconds: float = math.inf
) -> tuple[Any, History]:
    """Builds a model and fits it: the model and how the fit went."""
    model = build_model(config, dataset)
    return model, fit(Forecaster(model), config, dataset.train, dataset.validation, listener, seconds=seconds)
