"""Finds how many rows make a season, for the seasonal baseline and for the seasons that a model is shown.

Seasons are sought on the grid of times: a row that is absent from the grid is a gap there, so that twelve months stay
twelve. A series has a season if it repeats, as its autocorrelation shows, and if the row a season before is a good
forecast. A level that wanders would hide a day behind a week, so the level is taken away before: the mean over about a
season around each row.
"""

import numpy as np
from numpy.polynomial.polynomial import polyfit, polyval
from numpy.typing import NDArray

from app.version.manifest import Frequency, FrequencyUnit

Grid = NDArray[np.float64]
"""(rows, targets) on the grid of times; NaN where a row is absent."""

LEAST_CORRELATION = 0.3
"""Least correlation of a season's rows with the season before; with the season before that half of it is enough."""

CALENDAR_CORRELATION = 0.2
"""The same for a season of the calendar."""

MOST_ERROR = 0.9
"""Largest error of the row a season before, as a share of the error of the last value over the same season."""

ABOUT_AS_GOOD = 1.15
"""Largest error of a shorter season, as a multiple of the best."""

CALENDAR_ERROR = 1.25
"""Largest error of a season of the calendar, as a multiple of the error at the peak beside it."""

ALMOST = 0.02
"""Share of a season by which its peak may lie off the calendar."""

NOISE = 5
"""Standard errors by which noise may lift the peak beside a season of the calendar: it is the highest of many."""

MANY_SEASONS = 5
"""How often the rows must hold a season of the calendar that beats the last value without its level only."""

LEAST_SEASONS = 2.5
"""How often the rows must hold a season."""

LONGEST_ADDED = 2500
"""Rows of the longest season that is added to the period: a week of rows five minutes apart fits."""

LONGEST_LOOK = 50_000
"""Most rows of the grid that are looked at: the latest of a longer series."""

MOST_DISTANCES = 24
"""Most distances at which the error of the last value is measured, evenly spread over a season."""

_HOURS: dict[FrequencyUnit, float] = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1, "day": 24, "week": 24 * 7}
_CYCLES = (24, 24 * 7, 24 * 365)
"""A day, a week and a year, in hours. The year has whole days, so that it keeps the hour."""
_BUSINESS_YEAR = 261
_ROWS: dict[FrequencyUnit, tuple[int, ...]] = {"month": (12,), "quarter": (4,), "business day": (5, 21, _BUSINESS_YEAR)}
"""A year of months or quarters; a week, a month and a year of business days."""


def find_period(
    series: NDArray[np.float32], frequency: Frequency | None = None, places: NDArray[np.int64] | None = None
) -> int | None:
    """Finds the period of a series.

    Candidates are the seasons of the calendar (a day, a week and a year; twelve months; five business days) and every
    other peak of the autocorrelation. A candidate counts if

    - the correlation there is the highest within a tenth of the period, and is high enough; at twice the distance it is
      at least half as high;
    - the row a season before forecasts better than the last value does over a whole season: the mean absolute error at
      the candidate's distance is below `MOST_ERROR` of the mean over all distances up to it.

    For a season of the calendar both are measured without the level, and noise may shift the peak. A period that no
    calendar knows must beat the last value with the level, and so must a season that the rows hold a few times only: a
    random walk would have one otherwise.

    The shortest candidate is taken whose error, with the level, is about as low as that of the best candidate.
    Candidates of the calendar come first: beside them only shorter ones are looked at.

    Args:
        series: (rows, targets) of the training part; correlations and errors are means over the targets.
        frequency: Distance between rows, as `training.data.frequency.guess` finds it.
        places: (rows,) number of each row on the grid, as `training.data.frequency.places_on_grid` counts. Default:
            no row is absent.

    Returns:
        Rows in a season, at least 2; the series holds at least two and a half seasons. None where there is no season.
        Absent rows are counted, so that the period is the same with and without gaps. The seasonal naive forecast
        counts the rows that are there: across a gap it looks further back than a season, by the rows that are absent.
        Only a year of business days is counted in the rows that it holds, 252 where holidays are absent.
    """
    grid = _on_grid(series, places)
    found = _choose(grid, _sound_seasons(grid, frequency), frequency)
    return None if found is None else _in_rows(found, frequency, grid)


def seasons(
    series: NDArray[np.float32], frequency: Frequency | None = None, places: NDArray[np.int64] | None = None
) -> tuple[int, ...]:
    """Finds the seasons whose rows are worth showing to a model: the period, and what the calendar adds to it.

    Args:
        series: As in `find_period`.
        frequency: As in `find_period`.
        places: As in `find_period`.

    Returns:
        Rows in each season, rising: the period that `find_period` finds; the shorter seasons of the calendar that
        repeat too; and where the period is of the calendar, its longer seasons, a week with a day and a year with a
        week, up to `LONGEST_ADDED` rows. The series holds each at least two and a half times. () where there is none.
    """
    grid = _on_grid(series, places)
    sound = _sound_seasons(grid, frequency)
    found = _choose(grid, sound, frequency)
    if found is None:
        return ()
    calendar = _calendar(frequency, grid)
    chosen = {found} | {season for season in calendar if season < found and season in sound}
    if found in calendar and frequency is not None and frequency.unit in _HOURS:
        chosen |= {season for season in calendar if found < season <= LONGEST_ADDED}
    return tuple(sorted(_in_rows(season, frequency, grid) for season in chosen))


def _on_grid(series: NDArray[np.float32], places: NDArray[np.int64] | None) -> Grid:
    """Puts rows where they belong on the grid, without the straight line through them, in units of each target."""
    places = np.arange(len(series)) if places is None else places
    recent = places > places[-1:] - LONGEST_LOOK
    values, places = series[recent].astype(np.float64), places[recent]
    if len(values) < 2:
        return np.zeros((0, series.shape[1]))
    places = places - places[0]
    spreads = values.std(axis=0)
    is_flat = spreads <= np.finfo(np.float32).eps * np.abs(values).max(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(is_flat, 1, spreads)
    rest = scaled - polyval(places, polyfit(places, scaled, 1)).T
    rest[:, is_flat | (rest.std(axis=0) <= np.finfo(np.float32).eps)] = 0
    grid = np.full((places[-1] + 1, series.shape[1]), np.nan)
    grid[places] = rest
    return grid


def _sound_seasons(grid: Grid, frequency: Frequency | None) -> list[int]:
    """Returns every period that counts, rising.

    Periods between a half and a whole of 4, 8, 16 ... rows share a level: the mean over so many rows.
    """
    longest = _longest(grid)
    calendar = _calendar(frequency, grid)
    found: set[int] = set()
    length = 4
    while length // 2 < longest:
        within = range(2 if length == 4 else length // 2 + 1, min(length, longest) + 1)
        flat = grid - _level(grid, length)
        correlation = np.mean([_autocorrelation(column) for column in flat.T], axis=0)
        known = {season for season in calendar if season in within and _is_season(grid, flat, correlation, season)}
        peaks = (period for period in within if period == _peak_around(correlation, period))
        found |= known | {peak for peak in peaks if not known and _is_cycle(grid, correlation, peak)}
        length *= 2
    return sorted(found)


def _is_season(grid: Grid, flat: Grid, correlation: NDArray[np.float64], season: int) -> bool:
    """Tells whether a series repeats after a season of the calendar."""
    peak = _peak_around(correlation, season)
    noise = (1 - correlation[peak]) * NOISE / np.sqrt(len(flat) - season)
    is_near = abs(peak - season) <= ALMOST * season or correlation[season] >= correlation[peak] - noise
    return bool(
        is_near
        and _repeats(correlation, season, CALENDAR_CORRELATION)
        and _error(flat, season) <= CALENDAR_ERROR * _error(flat, peak)
        and _beats_last_value(flat if len(grid) >= MANY_SEASONS * season else grid, season)
    )


def _is_cycle(grid: Grid, correlation: NDArray[np.float64], peak: int) -> bool:
    """Tells whether a series with its level repeats after a period that no calendar knows."""
    first_below = int(np.argmax(correlation <= 0))
    # Bartlett's standard error: the correlations of a series that changes slowly are high by chance more often.
    error = np.sqrt((1 + 2 * np.square(correlation[1:first_below]).sum()) / len(grid))
    return _repeats(correlation, peak, max(LEAST_CORRELATION, 3 * error)) and _beats_last_value(grid, peak)


def _level(grid: Grid, length: int) -> Grid:
    """Returns the mean of the rows that are there among `length` rows around each row; fewer at both ends."""
    rows = np.arange(len(grid))
    starts = np.maximum(rows - length // 2, 0)
    ends = np.minimum(rows + length - length // 2, len(grid))
    is_there = ~np.isnan(grid)
    sums, counts = (
        np.concatenate([np.zeros((1, grid.shape[1])), each.cumsum(axis=0)])
        for each in (np.where(is_there, grid, 0), is_there)
    )
    return np.asarray((sums[ends] - sums[starts]) / np.maximum(counts[ends] - counts[starts], 1))


def _autocorrelation(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (rows,), one for each distance: the mean product of rows so far apart, as a share of the mean square."""
    is_there = ~np.isnan(column)
    pairs = np.maximum(_products(is_there.astype(np.float64)).round(), 1)
    products = _products(np.where(is_there, column, 0)) / pairs
    return products / (products[0] if products[0] > 0 else 1)


def _products(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (rows,): sums of the products of rows that lie 0, 1, 2 ... rows apart."""
    rows = len(column)
    spectrum = np.fft.rfft(column, 2 * rows)
    return np.asarray(np.fft.irfft(np.square(np.abs(spectrum)), 2 * rows)[:rows])


def _peak_around(correlation: NDArray[np.float64], period: int) -> int:
    """Returns the distance with the highest correlation within a tenth of the period."""
    start = period - max(1, period // 10)
    return start + int(np.argmax(correlation[start : 2 * period - start + 1]))


def _repeats(correlation: NDArray[np.float64], period: int, least: float) -> bool:
    """Tells whether the correlation is high enough, also above two standard errors of white noise."""
    rows = len(correlation)
    once = max(least, 2 / np.sqrt(rows - period))
    twice = max(least / 2, 2 / np.sqrt(rows - 2 * period))
    return bool(correlation[period] > once and correlation[2 * period] > twice)


def _beats_last_value(grid: Grid, period: int) -> bool:
    distances = np.unique(np.linspace(1, period, MOST_DISTANCES).round().astype(int))
    last_value = np.nanmean([_error(grid, int(distance)) for distance in distances])
    return bool(_error(grid, period) < MOST_ERROR * last_value)


def _error(grid: Grid, distance: int) -> float:
    """Returns the mean absolute error of a naive forecast: rows minus rows so far before. NaN without a pair."""
    apart = np.abs(grid[distance:] - grid[:-distance])
    known = apart[~np.isnan(apart)]
    return float(known.mean()) if known.size else np.nan


def _choose(grid: Grid, sound: list[int], frequency: Frequency | None) -> int | None:
    """Chooses the shortest season that forecasts about as well as the best."""
    known = [season for season in _calendar(frequency, grid) if season in sound]
    candidates = [season for season in sound if season in known or not known or season < known[0]]
    errors = {season: _error(grid, season) for season in candidates}
    return next((season for season in candidates if errors[season] <= ABOUT_AS_GOOD * min(errors.values())), None)


def _longest(grid: Grid) -> int:
    """Returns the longest season that the rows hold often enough."""
    return int(np.count_nonzero(~np.isnan(grid[:, 0])) / LEAST_SEASONS)


def _calendar(frequency: Frequency | None, grid: Grid) -> list[int]:
    """Returns the seasons of the calendar that the rows hold often enough, rising: 24, 168 and 8760 for hours."""
    if frequency is None:
        return []
    cycles: list[float] = [*_ROWS.get(frequency.unit, ())]
    if frequency.unit in _HOURS:
        cycles = [cycle / _HOURS[frequency.unit] for cycle in _CYCLES]
    counts = (cycle / frequency.count for cycle in cycles)
    return [round(rows) for rows in counts if 2 <= rows <= _longest(grid) and abs(rows - round(rows)) < rows / 100]


def _in_rows(season: int, frequency: Frequency | None, grid: Grid) -> int:
    """Returns how many rows a season holds: holidays are absent from every year of business days."""
    is_year = frequency is not None and frequency.unit == "business day" and season == _BUSINESS_YEAR
    return round(season * float((~np.isnan(grid[:, 0])).mean())) if is_year else season
