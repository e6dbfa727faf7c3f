"""The numbers of rows in time: they follow each other wherever rows do."""

# ruff: noqa: DTZ001  # the times of a wall-clock have no zone

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from app.version.grid import row_number, row_numbers
from app.version.manifest import Frequency, FrequencyUnit

UNITS: tuple[FrequencyUnit, ...] = get_args(FrequencyUnit)
LENGTHS = {
    "microsecond": timedelta(microseconds=1),
    "millisecond": timedelta(milliseconds=1),
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
MONTHS = {"month": 1, "quarter": 3, "year": 12}
ROWS = 400

first_times = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
first_days = st.dates(date(1900, 1, 1), date(2100, 1, 1))


def every(count: int, unit: FrequencyUnit) -> Frequency:
    return Frequency(count=count, unit=unit)


def months_after(first: date, months: int, day: int) -> datetime:
    """A day of a month, or the last day of a month that is too short."""
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    after = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    return datetime(year, month + 1, min(day, (after - timedelta(days=1)).day))


def numbers_of(times: list[datetime], spacing: Frequency) -> NDArray[Any]:
    """The numbers, of which the first are seen to be the same one by one."""
    numbers = row_numbers(np.array(times, "datetime64[us]"), spacing)
    assert numbers.dtype == np.int64
    assert [row_number(time, spacing) for time in times[:3]] == numbers[:3].tolist()
    return numbers


@pytest.mark.parametrize("unit", LENGTHS)
@given(first=first_times, count=st.integers(1, 90))
def test_rows_of_a_fixed_length_follow_each_other(unit: FrequencyUnit, first: datetime, count: int) -> None:
    times = [first + row * count * LENGTHS[unit] for row in range(ROWS)]
    assert_array_equal(np.diff(numbers_of(times, every(count, unit))), 1)


@pytest.mark.parametrize("unit", MONTHS)
@given(first=first_days, count=st.integers(1, 12), day=st.integers(1, 31))
def test_rows_of_months_follow_each_other_whatever_their_day(
    unit: FrequencyUnit, first: date, count: int, day: int
) -> None:
    times = [months_after(first, row * count * MONTHS[unit], day) for row in range(ROWS)]
    assert_array_equal(np.diff(numbers_of(times, every(count, unit))), 1)


@given(first=first_days)
def test_business_days_follow_each_other_over_weekends(first: date) -> None:
    days = [datetime.combine(first, datetime.min.time()) + timedelta(days=row) for row in range(ROWS)]
    times = [day + timedelta(hours=day.day % 24) for day in days if day.weekday() < 5]
    assert_array_equal(np.diff(numbers_of(times, every(1, "business day"))), 1)


@given(first=st.integers(-(10**9), 10**9), count=st.integers(1, 1000))
def test_rows_that_carry_numbers_follow_each_other(first: int, count: int) -> None:
    labels = first + count * np.arange(ROWS)
    assert_array_equal(np.diff(row_numbers(labels, every(count, "step"))), 1)
    assert_array_equal(row_numbers(labels, every(1, "step")), labels)


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit != "step"])
def test_the_first_row_of_1970_has_the_number_0(unit: FrequencyUnit) -> None:
    assert numbers_of([datetime(1970, 1, 1)], every(1, unit)).tolist() == [0]


@pytest.mark.parametrize(
    ("time", "spacing", "number"),
    [
        (datetime(1970, 1, 2), every(1, "hour"), 24),
        (datetime(1970, 1, 2, 5, 59), every(3, "hour"), 9),
        (datetime(1969, 12, 31, 23), every(1, "hour"), -1),
        (datetime(1970, 1, 8), every(1, "week"), 1),
        (datetime(1970, 1, 2), every(1, "business day"), 1),
        (datetime(1970, 1, 5), every(1, "business day"), 2),
        (datetime(1969, 12, 31), every(1, "business day"), -1),
        (datetime(1972, 2, 29), every(1, "month"), 25),
        (datetime(1972, 2, 29), every(1, "quarter"), 8),
        (datetime(1972, 2, 29), every(1, "year"), 2),
        (datetime(1969, 12, 31), every(1, "year"), -1),
        (datetime(1979, 1, 1), every(5, "year"), 1),
        (datetime(2026, 11, 29), every(10**30, "hour"), 0),
    ],
    ids=str,
)
def test_rows_are_counted_from_1970(time: datetime, spacing: Frequency, number: int) -> None:
    assert numbers_of([time], spacing).tolist() == [number]


def test_a_zone_is_ignored() -> None:
    hour = every(1, "hour")
    for zone in (UTC, timezone(timedelta(hours=-9)), timezone(timedelta(hours=5, minutes=30))):
        assert row_number(datetime(2026, 3, 29, 2, tzinfo=zone), hour) == row_number(datetime(2026, 3, 29, 2), hour)
