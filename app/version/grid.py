"""The grid of a frequency: the number of each row in time, counted from the first of January 1970.

Rows that follow each other have numbers that follow each other, over the ends of months and years. Times are the
wall-clock's, without a zone. Training and serving count with the same functions, and a graph computes phases of the
calendar from the numbers.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.arrays import Times
from app.version.manifest import Frequency, FrequencyUnit

FIRST_DAY = np.datetime64("1970-01-01", "D")
INT64_MAX = 2**63 - 1

SECOND = 1_000_000
MICROSECONDS: Mapping[FrequencyUnit, int] = {
    "microsecond": 1,
    "millisecond": 1000,
    "second": SECOND,
    "minute": 60 * SECOND,
    "hour": 3600 * SECOND,
    "day": 24 * 3600 * SECOND,
    "week": 7 * 24 * 3600 * SECOND,
}
"""How long the units are whose length never changes."""
MONTHS: Mapping[FrequencyUnit, int] = {"month": 1, "quarter": 3, "year": 12}
"""How many months the longer units have."""


def row_number(time: datetime, spacing: Frequency) -> int:
    """Returns the number of the row at a time.

    Args:
        time: The time by the wall-clock; a zone is ignored.
        spacing: The distance between rows, in any unit but `step`.
    """
    return int(row_numbers(np.asarray(time.replace(tzinfo=None), "datetime64[us]"), spacing))


def row_numbers(times: NDArray[Any], spacing: Frequency) -> Times:
    """Returns the numbers of the rows at many times.

    Args:
        times: Of type datetime64, by the wall-clock; whole numbers where the unit of the distance is `step`.
        spacing: The distance between rows.

    Returns:
        The same shape. A time between two rows has the number of the earlier row; a day without business that of the
        next business day.
    """
    return np.asarray(_units(times, spacing.unit) // min(spacing.count, INT64_MAX), np.int64)


def _units(times: NDArray[Any], unit: FrequencyUnit) -> Any:
    """Returns how many units lie between 1970 and the times."""
    if unit == "step":
        return times
    if unit == "business day":
        return np.busday_count(FIRST_DAY, times.astype("datetime64[D]"))
    if unit in MONTHS:
        return times.astype("datetime64[M]").astype(np.int64) // MONTHS[unit]
    return times.astype("datetime64[us]").astype(np.int64) // MICROSECONDS[unit]
