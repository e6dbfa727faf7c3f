"""Guesses the distance between the rows of a table, and finds rows that are absent from the grid.

Three grids are known, tried in this order: calendar months (a quarter is three, a year twelve), business days, and
fixed steps of time or of whole numbers. Nothing here changes a row.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.version.grid import row_numbers
from app.version.manifest import Finding, Frequency, FrequencyUnit

Times = NDArray[np.datetime64] | NDArray[np.int64]
"""(rows,) datetime64[us] without a zone, or whole numbers."""

Units = tuple[tuple[FrequencyUnit, int], ...]

_DAY_US = 86_400_000_000
_DURATIONS: Units = (
    ("week", 7 * _DAY_US),
    ("day", _DAY_US),
    ("hour", 3_600_000_000),
    ("minute", 60_000_000),
    ("second", 1_000_000),
    ("millisecond", 1_000),
    ("microsecond", 1),
)
"""Units of fixed length in microseconds, the largest first."""
_MONTHS: Units = (("year", 12), ("quarter", 3), ("month", 1))


@dataclass(frozen=True, slots=True)
class Guess:
    """What was found out about the distance between rows.

    Attributes:
        frequency: The distance; None where it is unknown or irregular.
        finding: Absent or irregular rows, or None.
    """

    frequency: Frequency | None
    finding: Finding | None = None


def guess(times: Times) -> Guess:
    """Guesses the distance between rows.

    Rows form a grid where more than half of the distances are one step and all others are multiples of it.

    Args:
        times: (rows,), strictly rising.

    Returns:
        The distance in the largest unit that divides it: 14 days are 2 weeks. Whole numbers are counted in steps. Fewer
        than three rows have no frequency and no finding.
    """
    if len(times) < 3:
        return Guess(None)
    if times.dtype.kind == "M":
        calendar = _months(times) or _business_days(times)
        return calendar or _fixed_steps(times.astype("datetime64[us]"), _duration)
    return _fixed_steps(times, _steps)


def distances(times: Times) -> NDArray[np.int64]:
    """Returns (rows - 1,): from each row to the next, in the unit of `times`; negative where a row is out of order."""
    whole = times.astype(np.int64)
    return whole[1:] - whole[:-1]


def places_on_grid(times: Times, frequency: Frequency | None) -> NDArray[np.int64]:
    """Returns (rows,): the number of each row on the grid, from 0. An absent row leaves its number out.

    Args:
        times: (rows,), strictly rising.
        frequency: Distance between rows, as `guess` finds it. None numbers the rows that are there.
    """
    if frequency is None or len(times) == 0:
        return np.arange(len(times))
    numbers = row_numbers(times, frequency)
    return np.asarray(numbers - numbers[0], np.int64)


def iso(time: np.datetime64 | np.int64) -> str:
    """Writes a time in ISO 8601, without the clock at midnight, and a whole number as its digits."""
    if isinstance(time, np.datetime64):
        at_midnight = time == time.astype("datetime64[D]")
        return str(np.datetime_as_string(time, unit="D" if at_midnight else "auto"))
    return str(time)


def counted(number: int, noun: str) -> str:
    """Writes a number with its noun: `1 row`, `2 rows`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _months(times: Times) -> Guess | None:
    days = times.astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    on_same_day = _all_same(days - months)
    on_last_day = bool((days + np.timedelta64(1, "D") == months + np.timedelta64(1, "M")).all())
    if not (on_same_day or on_last_day) or not _all_same(times - days):
        return None
    return _grid(times, distances(months), lambda count: _in_largest_unit(count, _MONTHS))


def _business_days(times: Times) -> Guess | None:
    days = times.astype("datetime64[D]")
    past_a_weekend = len(days) > 5
    if not past_a_weekend or not np.is_busday(days).all() or not _all_same(times - days):
        return None
    apart = np.asarray(np.busday_count(days[:-1], days[1:]), dtype=np.int64)
    if _mode(apart)[0] != 1:
        return None  # every second Monday is a fixed step of two weeks
    return _grid(times, apart, lambda count: Frequency(count=count, unit="business day"))


def _fixed_steps(times: Times, frequency_of: Callable[[int], Frequency]) -> Guess:
    apart = distances(times)
    step, share = _mode(apart)
    shortest, longest, usual = (frequency_of(int(each)).words for each in (apart.min(), apart.max(), step))
    irregular = (
        f"rows are irregularly spaced, from {shortest} to {longest} apart ({usual} in {share:.0%} of cases); the model "
        "takes every row as one step"
    )
    return _grid(times, apart, frequency_of) or Guess(None, Finding(kind="irregular_rows", sentence=irregular))


def _grid(times: Times, apart: NDArray[np.int64], frequency_of: Callable[[int], Frequency]) -> Guess | None:
    """Finds the frequency of rows that lie so far apart. Returns None where they form no grid."""
    step, share = _mode(apart)
    if share <= 0.5 or (apart % step).any():
        return None
    frequency = frequency_of(step)
    absent = apart // step - 1
    total = int(absent.sum())
    if total == 0:
        return Guess(frequency)
    sentence = (
        f"{counted(total, 'row')} {'is' if total == 1 else 'are'} absent from the grid of {frequency.words}, "
        f"the first after {iso(times[np.argmax(absent > 0)])}; windows run across as if nothing were absent"
    )
    return Guess(frequency, Finding(kind="absent_rows", sentence=sentence))


def _mode(apart: NDArray[np.int64]) -> tuple[int, float]:
    """Returns the most common distance and its share."""
    values, counts = np.unique(apart, return_counts=True)
    most = np.argmax(counts)
    return int(values[most]), float(counts[most] / len(apart))


def _all_same(values: NDArray[np.timedelta64]) -> bool:
    return bool((values == values[0]).all())


def _duration(microseconds: int) -> Frequency:
    return _in_largest_unit(microseconds, _DURATIONS)


def _steps(count: int) -> Frequency:
    return Frequency(count=count, unit="step")


def _in_largest_unit(size: int, units: Units) -> Frequency:
    """Counts in the largest unit that divides `size`: 14 days are 2 weeks, 90 minutes stay 90 minutes."""
    unit, length = next((unit, length) for unit, length in units if size % length == 0)
    return Frequency(count=size // length, unit=unit)
