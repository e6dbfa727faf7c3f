"""Tables small enough to train on in a second."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.config import TrainingConfig
from training.data.windows import Dataset, Part, cut_training


def write_csv(path: Path, columns: Mapping[str, Iterable[object]]) -> Path:
    """Writes columns by name as a CSV file, and returns its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])
    return path


def part_of(values: NDArray[np.float64], target: int = 0, steps: int = 6, horizon: int = 2) -> Part:
    """Windows over the rows of (rows, columns), one column of which is the target."""
    rows = values.astype(np.float32)
    return cut_training(rows, rows[:, target : target + 1], steps, horizon)


def dataset_of(train: Part, validation: Part | None = None, targets: tuple[str, ...] = ("a",)) -> Dataset:
    """Features are named a, b, c ... in order; more than eight are numbered."""
    count = train.windows.shape[2]
    names = tuple("abcdefgh"[:count]) if count <= 8 else tuple(f"column {number}" for number in range(count))
    return Dataset(names, targets, train, validation or train, validation or train)


def waves(rows: int = 120, columns: int = 2) -> NDArray[np.float64]:
    """Slow waves around 50, one a column, with a little noise."""
    noise = np.random.default_rng(7).normal(0, 0.1, (rows, columns))
    return 50 + np.sin(np.arange(rows)[:, None] / np.arange(3, 3 + columns)) + noise


def config_of(**changes: Any) -> TrainingConfig:
    """A configuration of one tiny layer and two epochs."""
    small: dict[str, Any] = {"series": "lesson", "units": (4,), "epochs": 2, "batch_size": 16, "xla": False}
    return TrainingConfig(**{**small, **changes})
