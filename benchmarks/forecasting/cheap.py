"""Cheap forecasters in plain numpy: what a network has to be better than. They share no code with `training.judging`.

They are fitted on the training part, and what has to be chosen is chosen on the validation part.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from benchmarks.forecasting.tasks import Array, Origins, Rows

LONGEST_AVERAGE = 50
PENALTIES = tuple(10.0**power for power in range(-5, 3))
"""Of ridge regression, for each row and columns of spread 1."""
CONSTANTS = tuple(float(constant) for constant in np.linspace(0.05, 1, 20))
"""Of exponential smoothing."""
SMOOTHED_ROWS = 200
"""Rows before an origin from which smoothing starts; older rows weigh next to nothing."""
CHOOSING_ORIGINS = 200
"""Most origins of the validation part that choose."""

LAST = "last value"

Choice = TypeVar("Choice", int, float)


def cheap_forecasts(rows: Rows, window: int) -> dict[str, Array]:
    """Forecasts by every cheap method from every origin of the test part: (origins, horizon), by name.

    Args:
        rows: The series, whose task names its seasons.
        window: Rows that averages and regressions may read.
    """
    return dict(_forecasts(rows, window, rows.task.seasons))


def seasonal_name(season: int) -> str:
    """Returns the name of the seasonal naive forecast."""
    return f"seasonal naive ({season})"


def season_before(rows: Rows, origins: Origins, season: int) -> Array:
    """Forecasts, for each step, the latest known row at its place in the season: (origins, horizon)."""
    steps = np.arange(rows.task.horizon)
    return np.asarray(rows.values[origins[:, None] + steps - season * (1 + steps // season)])


def average(rows: Rows, origins: Origins, points: int) -> Array:
    """Forecasts the mean of the last rows for every step."""
    means = rows.windows(origins, points).mean(axis=1, keepdims=True)
    return np.repeat(means, rows.task.horizon, axis=1)


def smoothed(rows: Rows, origins: Origins, alpha: float) -> Array:
    """Forecasts the level of simple exponential smoothing for every step."""
    count = min(SMOOTHED_ROWS, int(origins.min()))
    weights = alpha * (1 - alpha) ** np.arange(count)[::-1]
    weights[0] += 1 - weights.sum()  # the oldest row is the first level
    return np.repeat((rows.windows(origins, count) @ weights)[:, None], rows.task.horizon, axis=1)


def regressed(rows: Rows, origins: Origins, window: int, seasons: tuple[int, ...]) -> Array:
    """Forecasts by ridge regression on the window and on the same row in the seasons before, a model for each step."""
    first = max(window, *seasons, 1)
    learnt = _Examples.of(rows, np.arange(first, rows.validation - rows.task.horizon + 1), window, seasons)
    judged = _Examples.of(rows, _choosing(rows), window, seasons)
    asked = _Examples.of(rows, origins, window, seasons)
    errors = np.zeros(len(PENALTIES))
    forecasts = np.empty((len(PENALTIES), len(origins), rows.task.horizon))
    for step in range(rows.task.horizon):
        fits = _fit(*learnt.at(step))
        for number, fit in enumerate(fits):
            columns, differences = judged.at(step)
            errors[number] += np.abs(fit(columns) - differences).mean()
            forecasts[number, :, step] = fit(asked.at(step)[0]) + asked.last
    return np.asarray(forecasts[int(errors.argmin())])


def _forecasts(rows: Rows, window: int, seasons: tuple[int, ...]) -> Iterator[tuple[str, Array]]:
    origins = rows.origins
    yield LAST, average(rows, origins, 1)
    for season in seasons:
        yield seasonal_name(season), season_before(rows, origins, season)
    points = _best(rows, average, range(2, max(2, min(LONGEST_AVERAGE, window)) + 1))
    yield f"{points}-point average", average(rows, origins, points)
    yield "exponential smoothing", smoothed(rows, origins, _best(rows, smoothed, CONSTANTS))
    yield "ridge", regressed(rows, origins, window, ())
    if seasons:
        yield "ridge with seasons", regressed(rows, origins, window, seasons)


def _choosing(rows: Rows) -> Origins:
    """Returns origins of the validation part, evenly spaced."""
    places = np.linspace(rows.validation, rows.test - rows.task.horizon, CHOOSING_ORIGINS).round().astype(np.int64)
    return np.unique(places)


def _best(rows: Rows, forecast: Callable[[Rows, Origins, Choice], Array], choices: Iterable[Choice]) -> Choice:
    """Returns the choice with the lowest mean absolute error on the validation part."""
    origins = _choosing(rows)
    actual = rows.following(origins)
    return min(choices, key=lambda choice: float(np.abs(forecast(rows, origins, choice) - actual).mean()))


@dataclass(frozen=True)
class _Examples:
    """What a regression reads and learns, all counted from the last row of the window."""

    lags: Array
    """(origins, window)"""
    before: Array
    """(seasons, origins, horizon): the same rows in the seasons before."""
    following: Array
    """(origins, horizon)"""
    last: Array
    """(origins,): the last row itself."""

    @classmethod
    def of(cls, rows: Rows, origins: Origins, window: int, seasons: tuple[int, ...]) -> "_Examples":
        lags = rows.windows(origins, window)
        last = lags[:, -1]
        before = [season_before(rows, origins, season) - last[:, None] for season in seasons]
        shape = (len(seasons), len(origins), rows.task.horizon)
        return cls(lags - last[:, None], np.array(before).reshape(shape), rows.following(origins) - last[:, None], last)

    def at(self, step: int) -> tuple[Array, Array]:
        """Returns the columns (origins, columns) and what is learnt (origins,) of a step."""
        return np.concatenate([self.lags[:, :-1], self.before[:, :, step].T], axis=1), self.following[:, step]


def _fit(columns: Array, differences: Array) -> list[Callable[[Array], Array]]:
    """Fits a regression for each penalty."""
    centre, spread = columns.mean(axis=0), columns.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    scaled = (columns - centre) / spread
    mean = differences.mean()
    gram, products = scaled.T @ scaled / len(scaled), scaled.T @ (differences - mean) / len(scaled)

    def fitted(penalty: float) -> Callable[[Array], Array]:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
        return lambda asked: (asked - centre) / spread @ weights + mean

    return [fitted(penalty) for penalty in PENALTIES]
