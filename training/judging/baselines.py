"""Forecasters that need no network. A model that cannot beat them is not worth serving.

Most are linear maps of a window, so each can be published behind the network's contract, with `linear_model`. The
others need more than a window: a season that began before the window, a target that is no feature, and the smoothing of
all rows since the training part.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.config import Scale
from training.data.period import suggested
from training.data.windows import Dataset, Part, chunks
from training.judging.smoothing import Smoothing, fit_damped, fit_level, fit_level_and_trend, fit_theta
from training.network.layers import fit_scaling
from training.network.linear import Linear, Matrix
from training.network.ridge import ridge_baseline

MOST_POINTS = 50
"""Points of the longest moving average that is tried."""

SMOOTHED_ROWS = 2000
"""Most rows, the latest of the training part, on which smoothing constants are fitted."""

MOST_SEASONS = 10
"""Seasons, the latest, on which smoothing constants are fitted if they have more rows than `SMOOTHED_ROWS`."""

AUTOREGRESSION = "linear autoregression"

LEAST_SMOOTHED_ROWS = 10
"""Smoothing constants are not fitted on fewer training rows, nor a season on fewer rows beside two seasons."""

LARGEST_ETS = 20_000
"""Most rows, of all targets together, on which ETS is fitted: so many take seconds."""

MOST_FIRST_ROWS = 10


class Baseline(Protocol):
    """A forecaster that is fitted without a network."""

    @property
    def name(self) -> str:
        """Its name in scores and verdicts."""
        ...

    def forecast(self, part: Part) -> NDArray[np.float32]:
        """Forecasts from every origin of a part: (n, horizon, targets), raw units."""
        ...


@dataclass(frozen=True, slots=True)
class SeasonBefore:
    """A baseline that repeats the season before, which began before the window.

    Attributes:
        name: Its name in scores and verdicts.
        period: Rows in a season.
        drift: (targets,) what each season adds to the season before, raw units.
    """

    name: str
    period: int
    drift: Matrix

    def forecast(self, part: Part) -> NDArray[np.float32]:
        """Forecasts from every origin of a part: (n, horizon, targets), raw units."""
        steps = np.arange(part.targets.shape[1])
        rows = part.history[:, -self.period + steps % self.period]
        return (rows + (steps // self.period + 1)[:, None] * self.drift).astype(np.float32)


def fit_baselines(dataset: Dataset, scale: Scale | None = None) -> tuple[Baseline, ...]:
    """Fits every baseline on the training part. Validation and test are not used.

    Args:
        dataset: The data set; its names, its period, its frequency and its training part are used.
        scale: The scale of a linear start, in which the regression is fitted too. None chooses one by rolling origins.

    Returns:
        The last value, the seasonal naive forecast of the period and of the calendar's seasons, the moving average of
        the length that does best in training, exponential smoothing, Holt's method, Theta, ETS and the linear
        autoregression, as far as the training part carries them. For samples that stand alone: the last value, the
        training mean and the linear regression.
    """
    return tuple((_fit_for_series if len(dataset.series) else _fit_for_samples)(dataset, scale))


def publishable(baselines: Iterable[Baseline]) -> Iterator[Linear]:
    """Yields the baselines that need no more than a window."""
    return (each for each in baselines if isinstance(each, Linear) and each.is_publishable)


def fit_regression_with_lags(dataset: Dataset, scale: Scale | None) -> Linear:
    """Fits the linear autoregression that also reads the season, for a model whose windows are shorter.

    Args:
        dataset: The data set with lags.
        scale: As for `fit_baselines`.
    """
    lags = " and ".join(map(str, dataset.lags))
    return replace(_regression(dataset, f"{AUTOREGRESSION} with lags {lags}", scale), sees="longer window")


def _fit_for_series(dataset: Dataset, scale: Scale | None) -> Iterator[Baseline]:
    steps, horizon = dataset.train.windows.shape[1], dataset.train.targets.shape[1]
    yield _of_own_past(dataset, "last value", _average(1, steps, horizon))
    yield from _seasonal(dataset)
    if steps > 1:
        points = _choose_points(dataset)
        yield _of_own_past(dataset, f"{points}-point average", _average(points, steps, horizon))
    if len(dataset.series) >= LEAST_SMOOTHED_ROWS:
        yield from _smoothed_windows(dataset)
        if dataset.rows is not None:
            yield from _smoothed_rows(dataset)
    yield _regression(dataset, AUTOREGRESSION, scale)


def _seasonal(dataset: Dataset) -> Iterator[Baseline]:
    """Yields the seasonal naive forecasts: of the period, of the calendar's seasons, of the period with a drift."""
    period, still = dataset.period, np.zeros(len(dataset.target_names))
    for season in dict.fromkeys([*([period] if period else []), *_seasons(dataset)]):
        yield _season_before(dataset, f"seasonal naive ({season})", season, still)
    if period in _seasons(dataset):
        drift = (dataset.series[period:].astype(np.float64) - dataset.series[:-period]).mean(axis=0)
        yield _season_before(dataset, f"seasonal naive ({period}) with drift", period, drift)


def _seasons(dataset: Dataset) -> list[int]:
    """Returns the period and the calendar's seasons of which the training part carries two."""
    seasons = [*([dataset.period] if dataset.period else []), *suggested(dataset.frequency)]
    return [season for season in seasons if 2 * season <= len(dataset.series)]


def _smoothed_windows(dataset: Dataset) -> Iterator[Linear]:
    steps, horizon = dataset.train.windows.shape[1], dataset.train.targets.shape[1]
    for name, fit in (("exponential smoothing", fit_level), ("Holt", fit_level_and_trend)):
        constants = [fit(rows) for rows in _latest_rows(dataset)]
        unrolled = [unroll_smoothing(alpha, beta, trend, steps, horizon) for alpha, beta, trend in constants]
        weights, bias = (np.stack(each, axis=-1) for each in zip(*unrolled, strict=True))
        yield _of_own_past(dataset, name, weights, bias)


def _smoothed_rows(dataset: Dataset) -> Iterator[Smoothing]:
    """Yields Theta and, of few rows, ETS; both with the period if the training part has two of it and ten rows more."""
    trained, period = len(dataset.series), dataset.period
    season = period if period and 2 * period + LEAST_SMOOTHED_ROWS <= trained else None
    rows, of_season = _latest_rows(dataset, season), f" ({season})" if season else ""
    yield Smoothing(f"Theta{of_season}", tuple(fit_theta(each, season) for each in rows), trained)
    if rows.size <= LARGEST_ETS:
        yield Smoothing(f"ETS{of_season}", tuple(fit_damped(each, season) for each in rows), trained)


def _latest_rows(dataset: Dataset, season: int | None = None) -> Matrix:
    """Returns the rows (targets, n) on which smoothing constants are fitted."""
    most = max(SMOOTHED_ROWS, MOST_SEASONS * (season or 0))
    return np.asarray(dataset.series[-most:].astype(np.float64).T)


def _fit_for_samples(dataset: Dataset, scale: Scale | None) -> Iterator[Linear]:
    steps, features = dataset.train.windows.shape[1:]
    horizon, targets = dataset.train.targets.shape[1:]
    yield _of_own_past(dataset, "last value", _average(1, steps, horizon))
    yield Linear(
        name="training mean",
        weights=np.zeros((steps * features, horizon * targets)),
        bias=dataset.train.targets.mean(axis=0, dtype=np.float64).ravel(),
        selection=np.zeros((features, targets), np.float32),
        centre=np.zeros(features, np.float32),
    )
    yield _regression(dataset, "linear regression", scale)


def _regression(dataset: Dataset, name: str, scale: Scale | None) -> Linear:
    """Fits the regression in the scale of a linear start; counted from the last row or the training means without."""
    knows_targets = set(dataset.target_names) <= set(dataset.feature_names)
    scales: tuple[Scale, ...] = ("last", "standard") if knows_targets else ("standard",)
    scales = (scale,) if scale in scales else scales  # else it would be no linear map of raw windows
    return ridge_baseline(dataset, [fit_scaling(dataset, scale, "last") for scale in scales], name)


def _average(points: int, steps: int, horizon: int) -> Matrix:
    """Returns the weights (steps, horizon) of the mean of the last points."""
    weights = np.zeros((steps, horizon))
    weights[-points:] = 1 / points
    return weights


def _season_before(dataset: Dataset, name: str, period: int, drift: Matrix) -> Baseline:
    """Makes a baseline that repeats, for each step ahead, the latest row at its place in the season.

    Args:
        dataset: The data set, for which targets are features and how many rows a window has.
        name: Name of the baseline.
        period: Rows in a season.
        drift: (targets,) what each season adds to the season before.
    """
    steps = np.arange(dataset.train.targets.shape[1])
    if period > dataset.train.windows.shape[1]:
        return SeasonBefore(name, period, drift)
    weights = np.zeros((period, len(steps)))
    weights[steps % period, steps] = 1
    return _of_own_past(dataset, name, weights, (steps // period + 1)[:, None] * drift)


def _choose_points(dataset: Dataset) -> int:
    """Returns the length of the moving average with the lowest mean absolute error in training, in targets' spreads."""
    part = dataset.train
    most = min(part.windows.shape[1], MOST_POINTS)
    scales = part.targets.std(axis=(0, 1), dtype=np.float64)
    errors = np.zeros(most - 1)
    histories = part.history[:, : -most - 1 : -1]
    for chunk in chunks(histories):
        latest_first = histories[chunk].astype(np.float64)
        means = latest_first.cumsum(axis=1)[:, 1:] / np.arange(2, most + 1)[:, None]  # (n, lengths, targets)
        for targets in part.targets[chunk].transpose(1, 0, 2):
            errors += (np.abs(means - targets[:, None]) / scales).sum(axis=(0, 2))
    return 2 + int(np.argmin(errors))


def unroll_smoothing(alpha: float, beta: float, trend: float, steps: int, horizon: int) -> tuple[Matrix, Matrix]:
    """Writes exponential smoothing of a window as weights of its rows.

    Holt's recursion (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 8.2), where beta is relative to
    alpha: level = alpha * row + (1 - alpha) * (level + trend), trend = beta * (level - level before) + (1 - beta) *
    trend. The recursion starts again in each window: the level is the mean of the window's first third, at most ten
    rows, carried to the last of these rows along the trend, and the trend is a given number. After 20 rows little is
    left of this start.

    Args:
        alpha: Share of the level that a new row replaces.
        beta: Share of the trend that a new row replaces; 0 for simple exponential smoothing.
        trend: The trend at the start, raw units a row; 0 for simple exponential smoothing.
        steps: Rows of the window.
        horizon: Rows to forecast.

    Returns:
        Weights (steps, horizon), which sum to 1 for each step of the horizon, and an addend (horizon,).
    """
    rows = np.eye(steps + 1)[:steps]  # the last place stands for the number 1
    first = max(1, min(steps // 3, MOST_FIRST_ROWS))
    slope = trend * np.eye(steps + 1)[-1]
    level = rows[:first].mean(axis=0) + (first - 1) / 2 * slope
    for row in rows[first:]:
        before, level = level, alpha * row + (1 - alpha) * (level + slope)
        slope = beta * (level - before) + (1 - beta) * slope
    forecasts = level[:, None] + slope[:, None] * np.arange(1, horizon + 1)
    return forecasts[:-1], forecasts[-1]


def _of_own_past(dataset: Dataset, name: str, weights: Matrix, bias: NDArray[np.float64] | None = None) -> Linear:
    """Makes a baseline that forecasts each target from its own last rows.

    Args:
        dataset: The data set, for which targets are features and how many rows a window has.
        name: Name of the baseline.
        weights: (rows, horizon) for all targets, or (rows, horizon, targets).
        bias: (horizon, targets); 0 unless given.
    """
    steps, targets = dataset.train.windows.shape[1], len(dataset.target_names)
    selection = dataset.selection
    in_window = len(weights) <= steps and bool(selection.any(axis=0).all())
    if in_window:
        weights = np.concatenate([np.zeros((steps - len(weights), *weights.shape[1:])), weights])
    else:
        selection = np.eye(targets, dtype=np.float32)
    weights = np.broadcast_to(weights.reshape(*weights.shape[:2], -1), (*weights.shape[:2], targets))
    # Weights that sum to 1 count from the last row as well as from 0.
    placed = np.einsum("rht,ct->rcht", weights, selection)
    rows, columns, horizon, _ = placed.shape
    return Linear(
        name=name,
        weights=placed.reshape(rows * columns, horizon * targets),
        bias=np.zeros(horizon * targets) if bias is None else bias.ravel(),
        selection=selection,
        sees="window" if in_window else "history",
    )
