"""Forecasters that need no network. A model that cannot beat them is not worth serving."""

import numpy as np

from training.linear import Linear, Matrix
from training.windows import Dataset


def fit_baselines(dataset: Dataset) -> tuple[Linear, ...]:
    """Fits every baseline on the training part; validation and test are never looked at.

    Args:
        dataset: Its names, its period and its training part are used.

    Returns:
        The baselines, the simplest first.
    """
    steps, horizon = dataset.train.windows.shape[1], dataset.train.targets.shape[1]
    points = min(5, steps)
    return (
        _of_own_past(dataset, "last value", np.zeros((steps, horizon))),
        _of_own_past(dataset, f"{points}-point average", _average(steps, horizon, points)),
    )


def _average(steps: int, horizon: int, points: int) -> Matrix:
    weights = np.zeros((steps, horizon))
    weights[-points:] = 1 / points
    return weights


def _of_own_past(dataset: Dataset, name: str, weights: Matrix) -> Linear:
    """A baseline that forecasts each target from its own last rows.

    Args:
        dataset: Tells which targets are features.
        name: Of the baseline.
        weights: (rows, horizon) for all targets, or (rows, horizon, targets): of the rows, counted from the last.
    """
    targets, features = len(dataset.target_names), dataset.feature_names
    selection = np.array([[feature == target for target in dataset.target_names] for feature in features], np.float32)
    in_window = len(weights) <= dataset.train.windows.shape[1] and bool(selection.any(axis=0).all())
    if not in_window:
        selection = np.eye(targets, dtype=np.float32)
    weights = np.broadcast_to(weights.reshape(*weights.shape[:2], -1), (*weights.shape[:2], targets))
    spread = np.einsum("rht,ct->rcht", weights, selection)  # (rows, columns, horizon, targets)
    rows, columns, horizon, _ = spread.shape
    return Linear(
        name=name,
        weights=spread.reshape(rows * columns, horizon * targets),
        bias=np.zeros(horizon * targets),
        selection=selection,
        sees="window" if in_window else "history",
    )
