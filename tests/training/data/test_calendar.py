"""The cycles of the calendar: how long they are for rows of any distance, and that rows keep their place in them."""

# ruff: noqa: DTZ001  # the times of a wall-clock have no zone

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from app.version.grid import row_numbers
from app.version.manifest import Frequency, FrequencyUnit, Phase
from training.data.calendar import CYCLES, chosen_calendar, phase_of, possible_calendar
from training.errors import ConfigError
from training.network.ahead import Phases

HOURS = Frequency(count=1, unit="hour")
DAYS = Frequency(count=1, unit="day")
YEAR = Fraction(1461, 4)
"""Days of a year."""


def lengths(count: int, unit: FrequencyUnit) -> dict[str, Fraction]:
    """How many rows each cycle lasts that these rows tell."""
    phases = (phase_of(name, Frequency(count=count, unit=unit)) for name in CYCLES)
    return {phase.name: Fraction(phase.rows, phase.per) for phase in phases if phase}


@pytest.mark.parametrize(
    ("count", "unit", "expected"),
    [
        (1, "minute", {"hour": 1440, "weekday": 7 * 1440, "yearday": 1440 * YEAR}),
        (30, "minute", {"hour": 48, "weekday": 336, "yearday": 48 * YEAR}),
        (1, "hour", {"hour": 24, "weekday": 168, "yearday": 8766}),
        (3, "hour", {"hour": 8, "weekday": 56, "yearday": 2922}),
        (7, "hour", {"hour": Fraction(24, 7), "weekday": 24, "yearday": Fraction(8766, 7)}),
        (1, "day", {"weekday": 7, "yearday": YEAR}),
        (2, "day", {"weekday": Fraction(7, 2), "yearday": Fraction(1461, 8)}),
        (1, "business day", {"weekday": 5}),
        (1, "week", {"yearday": Fraction(1461, 28)}),
        (1, "month", {"month": 12}),
        (2, "month", {"month": 6}),
        (1, "quarter", {"month": 4}),
        (1, "year", {}),
        (1, "step", {}),
        (1, "microsecond", {}),  # even a day has more rows than a cycle may have
    ],
)
def test_a_cycle_lasts_as_many_rows_as_fit_into_it(
    count: int, unit: FrequencyUnit, expected: dict[str, Fraction]
) -> None:
    assert lengths(count, unit) == expected


def test_a_cycle_that_no_whole_number_of_rows_fills_is_counted_over_several() -> None:
    assert phase_of("yearday", DAYS) == Phase(name="yearday", rows=1461, per=4)


@pytest.mark.parametrize(("rows", "names"), [(47, []), (48, ["hour"]), (336, ["hour", "weekday"]), (17532, CYCLES[:3])])
def test_cycles_are_tried_where_rows_show_them_twice(rows: int, names: list[str]) -> None:
    assert [phase.name for phase in possible_calendar(HOURS, rows)] == list(names)


def test_rows_without_a_frequency_have_no_cycles() -> None:
    assert possible_calendar(None, 10**6) == ()


def test_cycles_that_are_named_are_taken_in_this_order_however_few_rows_show_them() -> None:
    assert [phase.rows for phase in chosen_calendar(["yearday", "hour"], HOURS)] == [8766, 24]


@pytest.mark.parametrize(
    ("name", "frequency", "words"),
    [
        ("decade", HOURS, ["--calendar decade", "1 hour apart", "hour,weekday,yearday"]),
        ("hour", DAYS, ["--calendar hour", "1 day apart", "weekday,yearday"]),
        ("month", DAYS, ["--calendar month", "weekday,yearday"]),
        ("weekday", Frequency(count=1, unit="month"), ["--calendar weekday", "expected some of month"]),
        ("hour", Frequency(count=1, unit="year"), ["--calendar hour", "none"]),
        ("hour", None, ["--time", "--calendar none"]),
    ],
)
def test_a_cycle_that_means_nothing_is_told(name: str, frequency: Frequency | None, words: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        chosen_calendar([name], frequency)
    assert all(word in str(told.value) for word in words), told.value


def phases_of(times: NDArray[Any], frequency: Frequency, *names: str) -> NDArray[Any]:
    """(rows, phases): what the network is given for each row."""
    calendar = chosen_calendar(names, frequency)
    return np.asarray(Phases(calendar)(row_numbers(times, frequency)))


@given(
    cycle=st.sampled_from(["hour", "weekday", "yearday"]),
    count=st.integers(1, 40),
    unit=st.sampled_from(["minute", "hour", "day", "week"]),
    number=st.integers(-(10**9), 10**9),
)
def test_a_phase_comes_back_after_its_cycle(cycle: str, count: int, unit: FrequencyUnit, number: int) -> None:
    phase = phase_of(cycle, Frequency(count=count, unit=unit))
    if phase is None:
        return
    numbers = np.array([number, number + phase.rows, number - 3 * phase.rows])
    found = np.asarray(Phases((phase,))(numbers))
    assert_allclose(found, found[:1].repeat(3, axis=0), rtol=0, atol=1e-6)


def waves_of(turns: NDArray[Any], cycles: int = 4) -> NDArray[Any]:
    """(rows, phases): sines, then cosines, of so many turns of a cycle."""
    angles = 2 * np.pi * np.outer(turns, np.arange(1, cycles + 1))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def every_hour(first: datetime, hours: int) -> list[datetime]:
    return [first + timedelta(hours=hour) for hour in range(hours)]


WALL_CLOCK = {
    "leap day": every_hour(datetime(2024, 2, 28), 72),
    "no leap day": every_hour(datetime(2100, 2, 28), 48),
    "end of a month": every_hour(datetime(2025, 4, 30, 20), 10),
    "end of a year": every_hour(datetime(2026, 12, 31, 20), 10),
    "before 1970": every_hour(datetime(1969, 12, 30), 60),
    "clocks go forward": every_hour(datetime(2026, 3, 28, 20), 12),
    "clocks go back": every_hour(datetime(2026, 10, 24, 20), 12),
}


def in_berlin(times: list[datetime]) -> list[datetime]:
    """Times that a clock in Berlin shows while so many hours go by: one is left out, or comes twice."""
    berlin, utc = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
    first = times[0].replace(tzinfo=berlin).astimezone(utc)
    return [(first + timedelta(hours=hour)).astimezone(berlin).replace(tzinfo=None) for hour in range(len(times))]


@pytest.mark.parametrize("times", WALL_CLOCK.values(), ids=WALL_CLOCK.keys())
def test_a_row_has_the_hour_and_the_weekday_that_its_clock_and_its_calendar_show(times: list[datetime]) -> None:
    shown = in_berlin(times)
    found = phases_of(np.array(shown, "datetime64[us]"), HOURS, "hour", "weekday")
    # 1970 began on a Thursday, the fourth day of a week that starts on Monday.
    of_day = waves_of(np.array([time.hour / 24 for time in shown]))
    of_week = waves_of(np.array([((time.weekday() - 3) % 7 * 24 + time.hour) / 168 for time in shown]))
    assert_allclose(found, np.concatenate([of_day, of_week], axis=1), rtol=0, atol=1e-6)


def test_the_clock_changes_of_these_tests_are_real() -> None:
    forward, back = (in_berlin(WALL_CLOCK[f"clocks go {way}"]) for way in ("forward", "back"))
    assert datetime(2026, 3, 29, 2) not in forward
    assert back.count(datetime(2026, 10, 25, 2)) == 2


def test_days_of_a_year_come_back_on_the_same_date_within_a_day() -> None:
    dates = np.array([f"{year}-{month_day}" for year in range(1960, 2050) for month_day in ("03-01", "12-31")], "M8[D]")
    phase = phase_of("yearday", DAYS)
    assert phase is not None
    turns = (row_numbers(dates, DAYS) * phase.per % phase.rows / phase.rows).reshape(-1, 2)
    assert_allclose(phases_of(dates, DAYS, "yearday"), waves_of(turns.ravel()), rtol=0, atol=1e-6)
    assert np.ptp(turns, axis=0).max() <= 1 / 365


@pytest.mark.parametrize(("unit", "months"), [("month", 1), ("quarter", 3)])
def test_ends_of_months_keep_their_place_in_the_year(unit: FrequencyUnit, months: int) -> None:
    firsts = np.arange("1968-01", "1974-01", months, dtype="M8[M]")
    ends = (firsts + 1).astype("M8[D]") - 1
    frequency = Frequency(count=1, unit=unit)
    found = phases_of(ends, frequency, "month")
    assert_allclose(found, waves_of(np.arange(len(ends)) * months / 12, cycles=found.shape[1] // 2), rtol=0, atol=1e-6)


def test_business_days_keep_their_weekday_over_a_holiday_that_is_absent() -> None:
    days = np.array([day for day in np.arange("2026-04-27", "2026-05-16", dtype="M8[D]") if np.is_busday(day)])
    days = days[days != np.datetime64("2026-05-01")]
    weekdays = (days.astype(np.int64) + 3) % 7
    found = phases_of(days, Frequency(count=1, unit="business day"), "weekday")
    assert_allclose(found, waves_of((weekdays - 3) % 5 / 5, cycles=2), rtol=0, atol=1e-6)
