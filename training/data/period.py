"""Finds how many rows make a season, for the seasonal baseline and for the lags.

A season is judged by its use: the naive forecast that takes the row a season before. The *error* of a distance is the
mean absolute difference of rows so far apart. A season has a lower error than the distances around it, from half a
season to one and a half. A level that wanders raises the errors on one side and lowers them on the other, so it neither
makes a season nor hides a day behind a week. Decision 0019 has figures.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import NDArray

from app.version.manifest import Frequency, FrequencyUnit

Grid = NDArray[np.float64]
"""(rows, targets) on the grid of times, without trend and unit; NaN where a row is absent."""

Dips = NDArray[np.float64]
"""(longest + 1,) for distances from 0: the squared error as a share of the mean around it; low where rows repeat."""


class _Demand(NamedTuple):
    """What a season must show. Shares and standard errors are those of its error."""

    gain: float
    """Least share by which the error lies below the errors around; half of it for rows two seasons apart."""
    chance: float
    """Divided by the number of seasons in the rows, what is added to the gain: few seasons are alike by chance."""
    better: float
    """Least share by which the error lies below the error of a shorter season."""
    slack: float
    """The least difference to the error of a shorter season, too, in mean distances from the trend."""
    noise: float
    """Standard errors by which two errors may differ by chance."""


OF_CALENDAR = _Demand(gain=0.05, chance=0.8, better=0.1, slack=0.01, noise=3)
UNEXPECTED = _Demand(gain=0.1, chance=1.5, better=0.2, slack=0.2, noise=4)
"""A season that no calendar suggests is the best of many distances, so it must show more."""

BESIDE = 0.1
"""Share of a season in which its neighbours lie: noise may shift the least error there."""

LOST_BESIDE = 0.05
"""Share of the errors around a season by which the best neighbour may be better than a season of the calendar."""

LEAST_SEASONS = 2.5
"""How often the rows must hold a season."""

LEAST_ROWS = 8

FARTHEST = 10
"""Mean distances from the trend that a row may be away."""

FITS = 3
"""How often the trend is fitted: an outlier bends the first fit."""

LONGEST_LOOK = 20_000
"""Most rows of the grid that are looked at: the latest of a longer series."""

MOST_AROUND = 25
"""Most distances around a season whose errors are measured, evenly spread."""

SAME_DISTANCE = 0.9
"""Share of the seasons that must hold the same number of rows for this number to be the period."""

_HOURS: dict[FrequencyUnit, float] = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1, "day": 24, "week": 24 * 7}
_CYCLES = (24, 24 * 7, 24 * 365)
"""A day, a week and a year, in hours. The year has whole days, so that it keeps the hour."""
_CALENDAR: dict[FrequencyUnit, int] = {"month": 12, "quarter": 4, "business day": 5}
"""Rows in a year of months or quarters, or in a week of business days."""


def find_period(
    series: NDArray[np.float32], frequency: Frequency | None = None, places: NDArray[np.int64] | None = None
) -> int | None:
    """Finds the period of a series.

    The seasons that the calendar suggests for the distance between rows come first: a day, a week and a year; a year of
    months. Other distances are tried where the series has none of these seasons: the distances whose error is the
    lowest among their neighbours. Of several seasons the finder takes the shortest whose error is about as low as the
    lowest error: a week only where it is clearly better than a day. The straight line through the series is left out.

    Args:
        series: (rows, targets) of the training part; errors are means over the targets.
        frequency: Distance between rows, as `training.data.frequency.guess` finds it.
        places: (rows,) number of each row on the grid of times, as `training.data.frequency.places_on_grid` counts it.
            Default: no row is absent.

    Returns:
        Rows in a season, at least 2; the series holds at least two and a half seasons. None where there is no season.
        Absent rows are counted, so a year of months is 12 rows where some are absent. Rows that are absent from every
        season, such as the hours of the night, are not counted.
    """
    grid = _on_grid(series, places)
    rows = np.count_nonzero(np.isfinite(grid[:, 0]))
    if rows < LEAST_ROWS:
        return None
    dips = _dips(grid, int(rows / LEAST_SEASONS))
    season = _expected_season(grid, dips, frequency) or _unexpected_season(grid, dips)
    return _in_rows(season, grid) if season else None


def suggested(frequency: Frequency | None) -> list[int]:
    """Returns the periods that the calendar knows: 24 and 168 for rows an hour apart, 5 for business days."""
    if frequency is None:
        return []
    if frequency.unit in _CALENDAR:
        cycle = _CALENDAR[frequency.unit]
        return [cycle // frequency.count] if cycle % frequency.count == 0 and cycle >= 2 * frequency.count else []
    if frequency.unit not in _HOURS:
        return []
    rows = [cycle / (_HOURS[frequency.unit] * frequency.count) for cycle in _CYCLES]
    return [round(number) for number in rows if number >= 2 and abs(number - round(number)) <= number / 100]


def _expected_season(grid: Grid, dips: Dips, frequency: Frequency | None) -> int | None:
    """Finds a season that the calendar suggests, or the part of it that repeats."""
    seasons = [season for season in suggested(frequency) if season < len(dips) and _is_near_dip(grid, season, dips)]
    seasons = [season for season in seasons if _is_season(grid, season, OF_CALENDAR)]
    return _repeated_part(grid, _shortest(grid, seasons, OF_CALENDAR), dips) if seasons else None


def _unexpected_season(grid: Grid, dips: Dips) -> int | None:
    """Finds a season among the distances with the lowest dips."""
    seasons = [season for season in _lowest(dips) if _is_season(grid, season, UNEXPECTED)]
    return _shortest(grid, seasons, UNEXPECTED) if seasons else None


def _is_near_dip(grid: Grid, season: int, dips: Dips) -> bool:
    """Tells whether no neighbour of a season has a clearly lower error."""
    error, deviation = _error(grid, season)
    allowed = max(LOST_BESIDE * _error_around(grid, season), OF_CALENDAR.noise * deviation)
    return error <= _error(grid, _lowest_beside(season, dips))[0] + allowed


def _is_season(grid: Grid, season: int, demand: _Demand) -> bool:
    """Tells whether the error of a season is low enough, and the error two seasons apart too."""
    error, deviation = _error(grid, season)
    around = _error_around(grid, season)
    gain = demand.gain + demand.chance * season / np.count_nonzero(np.isfinite(grid[:, 0]))
    return bool(
        error < (1 - gain) * around
        and error < around - demand.noise * deviation
        and _error(grid, 2 * season)[0] < (1 - demand.gain / 2) * _error_around(grid, 2 * season, season // 2)
    )


def _shortest(grid: Grid, seasons: list[int], demand: _Demand) -> int:
    """Returns the shortest season whose error is about as low as the least, over rows that all of them forecast."""
    errors = {season: _error(grid[max(seasons) - season :], season) for season in seasons}
    least = np.nanmin([error for error, _ in errors.values()])
    return next(
        season
        for season, (error, deviation) in errors.items()
        if error <= least + max(demand.better * least, demand.noise * deviation, demand.slack)
    )


def _repeated_part(grid: Grid, season: int, dips: Dips) -> int:
    """Returns the shortest season that repeats within a season, or the season itself.

    A part repeats if the season forecasts no better than the multiples of the part before and after the season.
    """
    for part in _lowest(dips):
        if season % part == 0 and part < season and _is_season(grid, part, UNEXPECTED):
            neighbours = (_error(grid, season - part)[0] + _error(grid, season + part)[0]) / 2
            if _error(grid, season)[0] > (1 - OF_CALENDAR.better) * neighbours - OF_CALENDAR.slack:
                return part
    return season


def _on_grid(series: NDArray[np.float32], places: NDArray[np.int64] | None) -> Grid:
    """Puts the latest rows in their places on the grid, without trend and unit."""
    places = np.arange(len(series)) if places is None else places
    latest = places > places[-1:] - LONGEST_LOOK
    values, places = series[latest].astype(np.float64), places[latest]
    if len(values) < LEAST_ROWS:
        return np.full((0, series.shape[1]), np.nan)
    places = places - places[0]
    grid = np.full((places[-1] + 1, values.shape[1]), np.nan)
    grid[places] = np.stack([_without_trend(places / places[-1], column) for column in values.T], axis=1)
    return grid


def _without_trend(time: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (rows,): distances from the straight line, in mean distances; zero where there is only rounding.

    A row further away than `FARTHEST` is drawn nearer, so no single row decides.
    """
    rounding = np.finfo(np.float32).eps * np.abs(values).max()
    for _ in range(FITS):
        values = values - polyval(time, polyfit(time, values, 1))
        spread = np.abs(values).mean()
        if spread <= rounding:
            return np.zeros(len(values))
        values = np.clip(values, -FARTHEST * spread, FARTHEST * spread)
    return np.asarray(values / spread)


def _in_rows(season: int, grid: Grid) -> int:
    """Returns how many rows a season holds where nearly all seasons hold the same number, and else its length."""
    is_there = np.isfinite(grid[:, 0])
    number = is_there.cumsum()
    both = is_there[season:] & is_there[:-season]
    counts = np.bincount((number[season:] - number[:-season])[both])
    return int(counts.argmax()) if counts.max() >= SAME_DISTANCE * counts.sum() else season


def _error(grid: Grid, distance: int) -> tuple[float, float]:
    """Returns the mean absolute difference of rows so far apart, and its standard error; NaN for fewer than 8 pairs."""
    apart = np.abs(grid[distance:] - grid[:-distance]).mean(axis=1)
    apart = apart[np.isfinite(apart)]
    if len(apart) < LEAST_ROWS:
        return np.nan, np.nan
    return float(apart.mean()), float(apart.std() / np.sqrt(len(apart)))


def _error_around(grid: Grid, distance: int, reach: int | None = None) -> float:
    """Returns the mean error at the distances around a distance: up to half of it away, if no reach is given."""
    reach = max(1, distance // 2 if reach is None else reach)
    distances = np.unique(np.linspace(distance - reach, distance + reach, MOST_AROUND).round().astype(int))
    errors = np.array([_error(grid, int(each))[0] for each in distances if each != distance])
    return float(errors[np.isfinite(errors)].mean()) if np.isfinite(errors).any() else np.nan


def _dips(grid: Grid, longest: int) -> Dips:
    """Returns the mean squared difference of rows so far apart, as a share of the mean around it, for each distance.

    Squares, because a Fourier transform gives them for all distances at once. Infinite where no rows are so far apart.
    """
    is_there = np.isfinite(grid)
    rows = np.where(is_there, grid, 0)
    size = 1 << (2 * len(grid) - 1).bit_length()
    there, values, squares = (np.fft.rfft(each, size, axis=0) for each in (is_there.astype(float), rows, rows**2))
    pairs, products, sums = (
        np.fft.irfft(each, size, axis=0)[: len(grid)]
        for each in (np.abs(there) ** 2, np.abs(values) ** 2, 2 * (squares * there.conj()).real)
    )
    known = pairs[:, 0] > 0.5
    differences = np.where(known, np.maximum(sums - 2 * products, 0).sum(axis=1), 0) / np.maximum(pairs[:, 0], 1)
    totals, counts = (np.concatenate([[0], each.cumsum()]) for each in (differences, known))
    distances = np.arange(longest + 1)
    ends, starts = distances + distances // 2 + 1, distances - distances // 2
    around = (totals[ends] - totals[starts]) / np.maximum(counts[ends] - counts[starts], 1)
    has_dip = known[distances] & (around > 0)
    return np.where(has_dip, differences[distances] / np.where(has_dip, around, 1), np.inf)


def _lowest(dips: Dips) -> list[int]:
    """Returns the distances, from 2 on, with a dip that is lower than their neighbours' and low at all."""
    low = np.flatnonzero(dips < 1 - UNEXPECTED.gain)
    return [distance for distance in low.tolist() if distance > 1 and distance == _lowest_beside(distance, dips)]


def _lowest_beside(distance: int, dips: Dips) -> int:
    """Returns the neighbour with the lowest dip, or the distance itself."""
    reach = max(1, round(BESIDE * distance))
    first = max(1, distance - reach)
    return first + int(np.argmin(dips[first : distance + reach + 1]))
