"""Finds how many rows make a season, for the seasonal baseline."""

import numpy as np
from numpy.typing import NDArray

from app.version.manifest import Frequency, FrequencyUnit

LEAST_CORRELATION = 0.3
"""Least correlation of a season's rows with the season before; with the season before that half of it is enough."""

ALMOST = 0.02
"""Share of a period by which noise may shift its peak."""

LOST_BY_NOISE = 0.1
"""Share of the correlation by which a period may fall behind its multiple."""

LONGEST_LOOK = 20_000
"""Most rows that are looked at: the latest of a longer series."""

_HOURS: dict[FrequencyUnit, float] = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1, "day": 24, "week": 24 * 7}
_CYCLES = (24, 24 * 7, 24 * 365.25)
"""A day, a week and a year, in hours."""
_CALENDAR: dict[FrequencyUnit, int] = {"month": 12, "quarter": 4, "business day": 5}
"""Rows in a year of months or quarters, or in a week of business days."""


def find_period(series: NDArray[np.float32], frequency: Frequency | None = None) -> int | None:
    """Finds the period of a series by its autocorrelation, after a straight line is taken away.

    Candidates are the periods that the calendar suggests for the distance between rows (a day, a week and a year; a
    year of months), each with its two neighbours, and the highest peak of the autocorrelation after its first dip below
    zero. A candidate counts if it is a local maximum, if the correlation there is above `LEAST_CORRELATION`, and if the
    correlation at twice the period, which is seldom high in a random walk, is above half of that. Both must also be
    above two standard errors of white noise.

    Of these the candidate with the highest correlation is taken. A shorter period that the candidate is a multiple of
    takes its place if its correlation is about as high, and then a period of the calendar that is almost the same.

    Args:
        series: (rows, targets) of the training part; the autocorrelation is the mean over the targets.
        frequency: Distance between rows, as `training.data.frequency.guess` finds it.

    Returns:
        Rows in a season, at least 2; the series holds at least two and a half seasons. None where there is no season.
    """
    rows = series[-LONGEST_LOOK:].astype(np.float64)
    if len(rows) < 8:
        return None
    correlation = np.mean([_autocorrelation(column) for column in rows.T], axis=0)
    longest = int(len(rows) / 2.5)
    of_calendar = suggested(frequency)
    candidates = {at for period in of_calendar for at in (period - 1, period, period + 1)}
    below = np.flatnonzero(correlation[: longest + 1] < 0)
    dip = int(below[0]) if len(below) else longest
    candidates.add(dip + int(np.argmax(correlation[dip : longest + 1])))
    sound = [period for period in candidates if 2 <= period <= longest and _repeats(correlation, period, len(rows))]
    if not sound:
        return None
    best = _shortest(correlation, max(sound, key=lambda period: float(correlation[period])), dip)
    return next((period for period in of_calendar if abs(period - best) <= ALMOST * period), best)


def _shortest(correlation: NDArray[np.float64], multiple: int, dip: int) -> int:
    """Finds the period that a peak is a multiple of: noise may make the correlation higher at a multiple."""
    parts = (round(multiple / times) for times in range(multiple // 2, 1, -1))
    almost = (1 - LOST_BY_NOISE) * correlation[multiple]
    return next((part for part in parts if part >= max(2, dip) and correlation[part] >= almost), multiple)


def _repeats(correlation: NDArray[np.float64], period: int, rows: int) -> bool:
    is_peak = correlation[period] >= max(correlation[period - 1], correlation[period + 1])
    once = max(LEAST_CORRELATION, 2 / np.sqrt(rows - period))
    twice = max(LEAST_CORRELATION / 2, 2 / np.sqrt(rows - 2 * period))
    return bool(is_peak and correlation[period] > once and correlation[2 * period] > twice)


def _autocorrelation(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns (rows,), one for each lag: the mean product of rows so far apart, as a share of the mean square."""
    rows = len(column)
    time = np.arange(rows)
    rest = column - np.polynomial.Polynomial.fit(time, column, 1)(time)
    square = float(np.square(rest).mean())
    if square <= np.finfo(np.float32).eps ** 2 * float(np.square(column).mean()):
        return np.zeros(rows)
    spectrum = np.fft.rfft(rest, 2 * rows)
    products = np.fft.irfft(np.square(np.abs(spectrum)), 2 * rows)[:rows]
    return np.asarray(products / np.arange(rows, 0, -1) / square)


def suggested(frequency: Frequency | None) -> list[int]:
    """Returns the periods that the calendar knows: 24 and 168 for rows an hour apart, 5 for business days."""
    if frequency is None:
        return []
    if frequency.unit in _CALENDAR:
        cycle = _CALENDAR[frequency.unit]
        return [cycle // frequency.count] if cycle % frequency.count == 0 else []
    if frequency.unit not in _HOURS:
        return []
    rows = [cycle / (_HOURS[frequency.unit] * frequency.count) for cycle in _CYCLES]
    return [round(number) for number in rows if number >= 2]
