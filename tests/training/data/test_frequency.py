from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.version.manifest import Frequency, FrequencyUnit
from training.data.frequency import Guess, Times, guess, iso, places_on_grid


def days(*dates: str) -> Times:
    return np.array(dates, dtype="datetime64[us]")


def grid(start: str, end: str, unit: str = "D", every: int = 1) -> Times:
    return np.arange(start, end, dtype=f"datetime64[{unit}]")[::every].astype("datetime64[us]")


def words_of(guessed: Guess) -> str | None:
    return guessed.frequency.words if guessed.frequency else None


def working_days(start: str, end: str) -> Times:
    every_day = grid(start, end)
    return every_day[np.is_busday(every_day.astype("datetime64[D]"))]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (grid("2024-01-01T00", "2024-01-03T00", "h"), "1 hour"),
        (grid("2024-01-01T00:00", "2024-01-01T04:00", "m", 15), "15 minutes"),
        (grid("2024-01-01", "2024-02-01"), "1 day"),
        (grid("2024-01-05", "2024-01-10"), "1 day"),
        (grid("2024-01-03", "2024-05-01", every=7), "1 week"),
        (grid("2024-01-01", "2024-05-01", every=14), "2 weeks"),
        (working_days("2024-01-01", "2024-03-01"), "1 business day"),
        (grid("2000-01", "2002-01", "M"), "1 month"),
        (grid("2000-01", "2002-01", "M", 3), "1 quarter"),
        (grid("1700", "1750", "Y"), "1 year"),
        (days("2023-12-31", "2024-01-31", "2024-02-29", "2024-03-31"), "1 month"),
        (np.arange(5), "1 step"),
        (np.arange(0, 50, 10), "10 steps"),
    ],
)
def test_regular_rows_have_a_frequency_and_no_finding(times: Times, words: str) -> None:
    guessed = guess(times)

    assert (words_of(guessed), guessed.finding) == (words, None)


@pytest.mark.parametrize(
    ("times", "words", "facts"),
    [
        (np.delete(grid("2024-01-01", "2024-01-20"), [4, 5, 9]), "1 day", ["3 rows are absent", "after 2024-01-04;"]),
        (np.delete(grid("2024-01", "2024-12", "M"), 6), "1 month", ["1 row is absent", "after 2024-06-01;"]),
        (np.delete(working_days("2024-01-01", "2024-03-01"), 10), "1 business day", ["1 row is absent", "2024-01-12"]),
        (np.array([1, 2, 3, 7]), "1 step", ["3 rows are absent", "after 3;"]),
    ],
)
def test_absent_rows_are_counted_and_the_first_is_located(times: Times, words: str, facts: list[str]) -> None:
    guessed = guess(times)

    assert words_of(guessed) == words
    for fact in facts:
        assert guessed.finding is not None
        assert fact in guessed.finding.sentence


def test_irregular_rows_have_no_frequency() -> None:
    guessed = guess(days("2024-01-01T00:00", "2024-01-01T00:10", "2024-01-01T00:23", "2024-01-01T02:23"))

    assert guessed.frequency is None
    assert guessed.finding is not None
    assert "irregularly spaced, from 10 minutes to 2 hours apart" in guessed.finding.sentence


def test_two_rows_have_no_frequency() -> None:
    assert guess(np.arange(2)) == Guess(None)


STEPS: dict[FrequencyUnit, Any] = {
    "microsecond": np.timedelta64(1, "us"),
    "millisecond": np.timedelta64(1, "ms"),
    "second": np.timedelta64(1, "s"),
    "minute": np.timedelta64(1, "m"),
    "hour": np.timedelta64(1, "h"),
    "day": np.timedelta64(1, "D"),
    "week": np.timedelta64(7, "D"),
}
MONTHS: dict[FrequencyUnit, int] = {"month": 1, "quarter": 3, "year": 12}


def rows_apart(frequency: Frequency) -> Any:
    """Ten rows from a Saturday on, the third of the month."""
    numbers: Any = np.arange(10) * frequency.count
    if frequency.unit == "step":
        return numbers
    if frequency.unit == "business day":
        return np.array(
            [np.busday_offset(np.datetime64("2024-02-05"), int(number)) for number in numbers], "datetime64[us]"
        )
    if frequency.unit in MONTHS:
        months = np.datetime64("2024-02", "M") + numbers * MONTHS[frequency.unit]
        return months.astype("datetime64[us]") + np.timedelta64(2, "D")
    return np.datetime64("2024-02-03T05:00", "us") + numbers * STEPS[frequency.unit]


@given(st.integers(1, 100), st.sampled_from(get_args(FrequencyUnit)))
def test_rows_that_lie_a_frequency_apart_have_it(count: int, unit: FrequencyUnit) -> None:
    """Where a larger unit divides the distance it is given instead: the rows are the same."""
    frequency = Frequency(count=1 if unit == "business day" else count, unit=unit)
    times = rows_apart(frequency)

    guessed = guess(times)

    assert guessed.frequency is not None
    assert guessed.finding is None
    np.testing.assert_array_equal(rows_apart(guessed.frequency), times)
    assert guessed.frequency.count <= frequency.count


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (np.datetime64("2024-01-31", "us"), "2024-01-31"),
        (np.datetime64("2024-01-31T13:05", "us"), "2024-01-31T13:05"),
        (np.int64(7), "7"),
    ],
)
def test_iso_leaves_midnight_out(time: np.datetime64 | np.int64, text: str) -> None:
    assert iso(time) == text


@pytest.mark.parametrize(
    ("times", "places"),
    [
        (np.array(["2024-01-31", "2024-02-29", "2024-04-30", "2024-05-31"], "M8[us]"), [0, 1, 3, 4]),
        (
            np.array(["2024-03-01", "2024-03-04", "2024-03-05", "2024-03-06", "2024-03-08", "2024-03-11"], "M8[us]"),
            [0, 1, 2, 3, 5, 6],
        ),
        (np.array(["2024-01-01T00", "2024-01-01T03", "2024-01-01T06", "2024-01-01T15"], "M8[us]"), [0, 1, 2, 5]),
        (np.array([7, 9, 11, 17]), [0, 1, 2, 5]),
        (np.array([1, 2, 4, 8, 16, 32]), [0, 1, 2, 3, 4, 5]),
        (np.array([], "M8[us]"), []),
    ],
    ids=["months", "business days", "three hours", "steps", "irregular", "none"],
)
def test_an_absent_row_leaves_its_place_on_the_grid(times: Times, places: list[int]) -> None:
    assert places_on_grid(times, guess(times).frequency).tolist() == places
