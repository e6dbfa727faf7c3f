"""Forecasts that need no training. A model that cannot beat them is not worth serving.

Each takes the targets' own past, shape (n, steps, targets), and gives forecasts (n, horizon, targets), raw units.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def last_value(history: Array, horizon: int) -> Array:
    """Everything stays as it is."""
    return np.repeat(history[:, -1:], horizon, axis=1)


def moving_average(history: Array, horizon: int, points: int) -> Array:
    """Everything goes to the mean of the last points."""
    mean = history[:, -points:].mean(axis=1, keepdims=True, dtype=np.float64)
    return np.repeat(mean.astype(np.float32), horizon, axis=1)
