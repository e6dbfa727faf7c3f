"""Rows to forecast, without a file."""

import numpy as np

from benchmarks.forecasting.tasks import Array, Rows, Task


def rows_of(values: Array, *, horizon: int = 2, window: int = 8, seasons: tuple[int, ...] = ()) -> Rows:
    """Returns rows split 70, 15, 15, as a built-in series would be."""
    task = Task(series="lesson", horizon=horizon, window=window, seasons=seasons)
    count = len(values)
    return Rows(task, tuple(map(str, range(count))), values, count * 70 // 100, count * 85 // 100)


def noise(count: int, seed: int = 0) -> Array:
    """Returns (count,) independent numbers of mean 0 and spread 1."""
    return np.random.default_rng(seed).normal(0, 1, count)
