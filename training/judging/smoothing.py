"""Exponential smoothing that goes on from one row to the next: Theta, and ETS with a damped trend and a season.

Constants and states are fitted on the training part. From there one pass over the rows after it gives the forecasts of
all origins, each from the rows before it. A window alone does not hold the states, so neither can be published.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from training.data.windows import Part
from training.network.linear import Matrix

NO_SEASON = np.zeros(1)
NO_FACTOR = np.ones(1)


@dataclass(frozen=True, slots=True)
class Recursion:
    """Smoothing of one target, additive (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 8.4).

    Rows are divided by their factor, and each row moves the states of the row before:

        level = alpha * (row - season) + (1 - alpha) * (level + phi * trend)
        trend = beta * (level - level before) + (1 - beta) * phi * trend
        season = gamma * (row - level before - phi * trend before) + (1 - gamma) * season

    Attributes:
        alpha: Share of the level that a new row replaces.
        beta: Share of the trend that a new row replaces.
        gamma: Share of the season that a new row replaces.
        phi: What the trend is multiplied by in each row.
        level: The level before the next row.
        trend: What a row adds to the level, before the next row.
        season: (period,) how far the next rows lie above the level; `NO_SEASON` if there is no season.
        factor: (period,) what the next rows are divided by; `NO_FACTOR` if nothing multiplies them.
    """

    alpha: float
    beta: float
    gamma: float
    phi: float
    level: float
    trend: float
    season: Matrix
    factor: Matrix

    def after(self, rows: Matrix) -> Self:
        """Returns the recursion with its states after rows (n,)."""
        levels, trends, seasons = self._states(rows)
        factor = np.roll(self.factor, -len(rows))
        return replace(self, level=levels[-1], trend=trends[-1], season=seasons[len(rows) :], factor=factor)

    def forecasts(self, rows: Matrix, horizon: int) -> Matrix:
        """Returns forecasts (n + 1, horizon): before the first of n rows, and after each of them."""
        levels, trends, seasons = self._states(rows)
        origins, steps = np.arange(len(levels))[:, None], np.arange(horizon)
        trend = trends[:, None] * np.cumsum(self.phi ** (steps + 1.0))
        season = seasons[origins + steps % len(self.season)]
        factor = self.factor[(origins + steps) % len(self.factor)]
        return np.asarray((levels[:, None] + trend + season) * factor)

    def _states(self, rows: Matrix) -> tuple[Matrix, Matrix, Matrix]:
        """Returns levels and trends (n + 1,), and seasons (n + period,), of which each origin knows the next period."""
        levels, trends, seasons = [self.level], [self.trend], self.season.tolist()
        level, trend = self.level, self.trend
        for place, row in enumerate((rows / np.resize(self.factor, len(rows))).tolist()):
            season, expected = seasons[place], level + self.phi * trend
            before, level = level, self.alpha * (row - season) + (1 - self.alpha) * expected
            trend = self.beta * (level - before) + (1 - self.beta) * self.phi * trend
            levels.append(level)
            trends.append(trend)
            seasons.append(self.gamma * (row - expected) + (1 - self.gamma) * season)
        return np.array(levels), np.array(trends), np.array(seasons)


@dataclass(frozen=True, slots=True)
class Smoothing:
    """A baseline that smooths all rows since the training part.

    Attributes:
        name: Its name in scores and verdicts.
        columns: The recursion of each target, with its states after the training part.
        trained: Rows of the training part.
    """

    name: str
    columns: tuple[Recursion, ...]
    trained: int

    def forecast(self, part: Part) -> NDArray[np.float32]:
        """Forecasts from every origin of a part: (n, horizon, targets), raw units.

        Args:
            part: The validation or the test part, whose history has all rows from the first training row on.

        Raises:
            ValueError: The history does not reach back to the training part.
        """
        first = part.history.shape[1] - self.trained
        if first < 0:
            raise ValueError(f"{self.name} needs the {self.trained} training rows in the history of the first origin")
        rows = np.concatenate([part.history[0], part.history[1:, -1]])[self.trained :].astype(np.float64)
        horizon = part.targets.shape[1]
        of_targets = [each.forecasts(own, horizon)[first:] for each, own in zip(self.columns, rows.T, strict=True)]
        return np.stack(of_targets, axis=-1).astype(np.float32)


def fit_theta(rows: Matrix, period: int | None) -> Recursion:
    """Fits Theta: smoothing along half the slope of the series, of rows from which the season is taken away.

    Half the slope as a drift is what the method of Assimakopoulos and Nikolopoulos (2000, International Journal of
    Forecasting 16, 521-530) comes to, as Hyndman and Billah (2003, the same journal 19, 287-290) show. The season is
    added or, if the error one step ahead is lower, multiplied.

    Args:
        rows: (n,) of one target of the training part, at least two seasons.
        period: Rows in a season; None where there is no season.

    Returns:
        The recursion with its states after the rows.
    """
    return min(_thetas(rows, period), key=lambda each: _error_one_ahead(each, rows)).after(rows)


def fit_damped(rows: Matrix, period: int | None) -> Recursion:
    """Fits ETS(A, Ad, A): level, damped trend and season, all additive; without a season ETS(A, Ad, N).

    Args:
        rows: (n,) of one target of the training part, at least ten and, with a season, ten more than two seasons.
        period: Rows in a season; None where there is no season.

    Returns:
        The recursion with its states after the rows.
    """
    from statsmodels.tsa.holtwinters import ExponentialSmoothing  # noqa: PLC0415 - takes a second to import

    model = ExponentialSmoothing(
        _in_units(rows),
        trend="add",
        damped_trend=True,
        seasonal="add" if period else None,
        seasonal_periods=period,
        initialization_method="heuristic",  # to fit the first season too takes three times as long, and gains nothing
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that stopped early, whose constants are good enough
        fitted = model.fit().params
    size = _size(rows)
    start = Recursion(
        alpha=fitted["smoothing_level"],
        beta=fitted["smoothing_trend"],
        gamma=fitted["smoothing_seasonal"] if period else 0.0,
        phi=fitted["damping_trend"],
        level=rows[0] + size * fitted["initial_level"],
        trend=size * fitted["initial_trend"],
        season=size * fitted["initial_seasons"] if period else NO_SEASON,
        factor=NO_FACTOR,
    )
    return start.after(rows)


def fit_level(rows: Matrix) -> tuple[float, float, float]:
    """Returns alpha of simple exponential smoothing, which has no beta and no trend."""
    from statsmodels.tsa.holtwinters import SimpleExpSmoothing  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = SimpleExpSmoothing(_in_units(rows), initialization_method="estimated").fit()
    return float(fitted.params["smoothing_level"]), 0.0, 0.0


def fit_level_and_trend(rows: Matrix) -> tuple[float, float, float]:
    """Returns alpha and beta of Holt's method, and the mean of its trend over the series, in raw units a row."""
    from statsmodels.tsa.holtwinters import Holt  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = Holt(_in_units(rows), initialization_method="estimated").fit()
    alpha, beta = float(fitted.params["smoothing_level"]), float(fitted.params["smoothing_trend"])
    return alpha, beta, float(np.mean(fitted.trend)) * _size(rows)


def _thetas(rows: Matrix, period: int | None) -> Iterator[Recursion]:
    """Yields the recursions among which `fit_theta` chooses, with their states before the rows."""
    if period is None:
        yield _theta(rows, NO_SEASON, NO_FACTOR)
        return
    trend = _trend(rows, period)
    inner = rows[period // 2 :][: len(trend)]
    added = _means_by_place(inner - trend, period)
    yield _theta(rows, added - added.mean(), NO_FACTOR)
    if rows.min() > 0:
        multiplied = _means_by_place(inner / trend, period)
        yield _theta(rows, NO_SEASON, multiplied / multiplied.mean())


def _theta(rows: Matrix, season: Matrix, factor: Matrix) -> Recursion:
    adjusted = rows / np.resize(factor, len(rows)) - np.resize(season, len(rows))
    time = np.arange(len(rows)) - (len(rows) - 1) / 2
    slope = float(time @ adjusted / (time @ time))
    alpha, _, _ = fit_level(adjusted)
    return Recursion(alpha, 0.0, 0.0, 1.0, float(adjusted[0]), slope / 2, season, factor)


def _trend(rows: Matrix, period: int) -> Matrix:
    """Returns the centred moving average over a season (n - 2 * (period // 2),), which the season does not move."""
    weights = np.ones(period if period % 2 else period + 1)
    weights[[0, -1]] = 1 if period % 2 else 0.5
    return np.asarray(signal.oaconvolve(rows, weights / period, mode="valid"))


def _means_by_place(inner: Matrix, period: int) -> Matrix:
    """Returns the mean (period,) at each place in the season.

    Args:
        inner: (n,) of the rows from row `period // 2` on.
        period: Rows in a season.
    """
    places = (np.arange(len(inner)) + period // 2) % period
    return np.asarray(np.bincount(places, inner, period) / np.bincount(places, minlength=period))


def _error_one_ahead(recursion: Recursion, rows: Matrix) -> float:
    return float(np.abs(rows - recursion.forecasts(rows[:-1], 1)[:, 0]).mean())


def _in_units(rows: Matrix) -> Matrix:
    """Returns standard deviations from the first row: the fit finds the same constants whatever the unit."""
    return np.asarray((rows - rows[0]) / _size(rows))


def _size(rows: Matrix) -> float:
    size: float = np.std(rows).item()
    return size or 1.0
