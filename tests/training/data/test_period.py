"""The period that is found is one that is there."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.version.manifest import Frequency, FrequencyUnit
from tests.training.data.conftest import Write
from training.config import TrainingConfig
from training.data.frequency import guess, places_on_grid
from training.data.period import find_period
from training.data.prepare import prepare

Values = NDArray[np.float64]
Random = np.random.Generator


def every(count: int, unit: FrequencyUnit) -> Frequency:
    return Frequency(count=count, unit=unit)


HOUR, DAY, WEEK = every(1, "hour"), every(1, "day"), every(1, "week")
MONTH, QUARTER, YEAR = every(1, "month"), every(1, "quarter"), every(1, "year")


def column(values: Values) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None]


def sine(rows: int, period: float, phase: float = 0) -> Values:
    return np.asarray(np.sin(2 * np.pi * np.arange(rows) / period + phase))


def profile(random: Random, rows: int, period: int) -> Values:
    """Returns a season of random numbers, again and again."""
    return np.resize(random.normal(size=period), rows)


def autoregressive(random: Random, rows: int, coefficient: float) -> Values:
    values: Values = random.normal(size=rows)
    for row in range(1, rows):
        values[row] += coefficient * values[row - 1]
    return values


# Made series. Comments name what an earlier finder took.


def day_of_hours(random: Random) -> Values:
    return 10 * sine(2100, 24) + random.normal(size=2100)  # 23


def day_of_half_hours(random: Random) -> Values:
    return 10 * sine(3000, 48) + 3 * random.normal(size=3000)  # 46


def day_on_a_wandering_level(random: Random) -> Values:
    return 5 * sine(6000, 24) + 2 * autoregressive(random, 6000, 0.998)  # 168


def day_of_sunshine(random: Random) -> Values:
    clouds = 1 - 0.7 * random.beta(1, 3, size=90).repeat(24)
    return np.asarray(np.maximum(0, sine(90 * 24, 24)) * clouds * 300)  # 23


def day_of_minutes(random: Random) -> Values:
    return profile(random, 6 * 288, 288) + random.normal(size=6 * 288) / 2


def day_within_a_year(random: Random) -> Values:
    return 5 * sine(6000, 24) + 10 * sine(6000, 8760) + random.normal(size=6000).cumsum() / 3


def week_of_hours(random: Random) -> Values:
    work: Values = np.resize([1.0] * 5 + [0.2] * 2, 120).repeat(24)
    return work * (2 + sine(2880, 24)) + random.normal(size=2880) / 10


def week_of_days(random: Random) -> Values:
    return np.resize([1.0, 1, 1, 1, 1, 0, 0], 500) + random.normal(size=500) / 3 + sine(500, 365)


def week_of_business_days(random: Random) -> Values:
    return np.resize([1.0, 0, 0, 0, 2], 600) + random.normal(size=600) / 2


def year_of_days(random: Random) -> Values:
    return 4 * sine(2555, 365.25) + autoregressive(random, 2555, 0.6) * 2  # 341 and the like


def year_of_weeks(random: Random) -> Values:
    return 3 * sine(720, 52.18) + autoregressive(random, 720, 0.7) + np.arange(720) / 50


def year_of_months(random: Random) -> Values:
    return np.exp(np.arange(140) / 60) * (6 + profile(random, 140, 12)) + random.normal(size=140) / 4


def year_of_quarters(random: Random) -> Values:
    return np.resize([1.0, 2, 4, 3], 80) + random.normal(size=80).cumsum() / 4


def year_with_an_outlier(random: Random) -> Values:
    values: Values = 10 * sine(240, 12) + random.normal(size=240)
    values[random.integers(240)] = 1e4
    return values


def unexpected_season(random: Random) -> Values:
    return profile(random, 800, 37) + random.normal(size=800) / 3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("make", "frequency", "period"),
    [
        (day_of_hours, HOUR, 24),
        (day_of_hours, None, 24),
        (day_of_half_hours, every(30, "minute"), 48),
        (day_on_a_wandering_level, HOUR, 24),
        (day_on_a_wandering_level, None, 24),
        (day_of_sunshine, HOUR, 24),
        (day_of_minutes, every(5, "minute"), 288),
        (day_within_a_year, HOUR, 24),
        (week_of_hours, HOUR, 168),
        (week_of_days, DAY, 7),
        (week_of_business_days, every(1, "business day"), 5),
        (year_of_days, DAY, 365),
        (year_of_weeks, WEEK, 52),
        (year_of_months, MONTH, 12),
        (year_of_quarters, QUARTER, 4),
        (year_with_an_outlier, MONTH, 12),
        (unexpected_season, HOUR, 37),
        (unexpected_season, None, 37),
    ],
    ids=lambda value: value.words if isinstance(value, Frequency) else getattr(value, "__name__", str(value)),
)
def test_the_season_of_a_made_series_is_found(
    make: Callable[[Random], Values], frequency: Frequency | None, period: int, seed: int
) -> None:
    assert find_period(column(make(np.random.default_rng(seed))), frequency) == period


@pytest.mark.parametrize(("rows", "frequency"), [(150, None), (150, MONTH), (720, HOUR), (720, WEEK)])
@pytest.mark.parametrize(
    "make",
    [
        lambda random, rows: random.normal(size=rows),
        lambda random, rows: random.standard_t(2, size=rows),
        lambda random, rows: random.normal(size=rows).cumsum(),
        lambda random, rows: autoregressive(random, rows, 0.5),
        lambda random, rows: autoregressive(random, rows, 0.9),
        lambda random, rows: np.linspace(-1, 1, rows) ** 2 + random.normal(size=rows) / 10,
        lambda random, rows: random.normal(size=rows) + 1e3 * (np.arange(rows) == random.integers(rows)),
    ],
    ids=["noise", "heavy tails", "walk", "autoregressive", "slow", "curve", "outlier"],
)
def test_a_series_without_a_season_has_none(
    make: Callable[[Random, int], Values], rows: int, frequency: Frequency | None
) -> None:
    found = [find_period(column(make(np.random.default_rng(seed), rows)), frequency) for seed in range(20)]

    assert found.count(None) >= 19  # luck looks like a season in fewer than one series of a hundred


# Real series


@pytest.mark.parametrize(("series", "period"), [("co2", 52), ("sunspots", 11), ("lesson", 365), ("exercise", 365)])
def test_the_season_of_a_built_in_series_is_found(series: str, period: int) -> None:
    dataset = prepare(TrainingConfig.model_validate({"series": series, "missing": "forward"}))

    assert dataset.period == period
    assert dataset.test.history.shape[1] >= period


def test_the_season_of_real_months_is_found_and_quarters_without_a_season_have_none() -> None:
    from statsmodels.datasets import elec_equip, elnino, macrodata, nile  # noqa: PLC0415 - takes a second to import

    temperature = elnino.load_pandas().data.iloc[:, 1:].to_numpy().ravel()
    orders = elec_equip.load_pandas().data.to_numpy().ravel()
    for months in (temperature, orders):
        for share in (0.5, 0.7, 1):
            assert find_period(column(months[: int(share * len(months))]), MONTH) == 12
    quarters = macrodata.load_pandas().data[["realgdp", "infl", "unemp", "tbilrate", "realint"]]
    for name in quarters:  # seasonally adjusted, or rates
        assert find_period(column(quarters[name].to_numpy()), QUARTER) is None
    assert find_period(column(nile.load_pandas().data["volume"].to_numpy()), YEAR) is None


# Absent rows


@pytest.mark.parametrize("seed", range(4))
def test_absent_months_leave_the_year_at_twelve(seed: int) -> None:
    random = np.random.default_rng(seed)
    months = np.arange("2005-01", "2019-01", dtype="datetime64[M]")
    values = 10 * sine(len(months), 12) + random.normal(size=len(months)) / 2
    present = np.sort(random.permutation(len(months))[:-25])
    times = months[present].astype("datetime64[us]")
    frequency = guess(times).frequency

    assert frequency == MONTH
    assert find_period(column(values[present]), MONTH, places_on_grid(times, MONTH)) == 12


def test_hours_that_are_absent_from_every_day_are_not_counted(csv: Write) -> None:
    hours = np.arange("2024-01-01", "2024-04-01", dtype="datetime64[h]")
    open_hours = hours[(hours.astype(int) % 24 >= 9) & (hours.astype(int) % 24 < 18)]
    random = np.random.default_rng(0)
    values = profile(random, len(open_hours), 9) + random.normal(size=len(open_hours)) / 4
    lines = (f"{hour}:00,{value}\n" for hour, value in zip(open_hours, values, strict=True))

    dataset = prepare(TrainingConfig(data=csv("t,a\n" + "".join(lines)), target="a", time="t"))

    assert dataset.frequency == HOUR
    assert dataset.period == 9


# What changes nothing


@settings(deadline=None)
@given(st.integers(4, 60), st.floats(-5, 5), st.floats(1e-3, 1e6), st.integers(0, 1000))
def test_a_season_is_found_whatever_trend_and_unit(period: int, slope: float, unit: float, seed: int) -> None:
    time = np.arange(6 * period)
    noise = np.random.default_rng(seed).normal(size=len(time)) / 4

    assert find_period(column(unit * (10 * sine(len(time), period) + slope * time + noise))) == period


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(0, 1000))
def test_a_pattern_that_repeats_is_a_season_of_any_length(period: int, seed: int) -> None:
    pattern = np.random.default_rng(seed).permutation(period).astype(float)  # no part of it repeats

    assert find_period(column(np.resize(pattern, max(3 * period, 2 * period + 12)))) == period


@settings(deadline=None)
@given(st.floats(-100, 100), st.floats(0.01, 100), st.booleans(), st.sampled_from([None, HOUR]), st.integers(0, 200))
def test_another_unit_and_another_zero_change_nothing(
    zero: float, unit: float, upside_down: bool, frequency: Frequency | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = profile(random, 500, 24) + 3 * random.random() * random.normal(size=500)
    other = (-1 if upside_down else 1) * unit * (values + zero)

    assert find_period(column(other), frequency) == find_period(column(values), frequency)


@settings(deadline=None)
@given(st.floats(0, 0.5), st.integers(0, 200))
def test_noise_below_the_season_changes_nothing(level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = sine(700, 24) + level * random.normal(size=700)

    assert find_period(column(values), HOUR) == 24


def test_a_season_of_several_targets_is_found() -> None:
    random = np.random.default_rng(0)
    targets = np.stack([1e3 * sine(600, 24), random.normal(size=600), 1e-3 * sine(600, 24, phase=2)], axis=1)

    assert find_period(targets.astype(np.float32), HOUR) == 24


# Calendar


def test_the_calendar_settles_what_noise_shifts() -> None:
    values = sine(4 * 365, 368) + np.random.default_rng(0).normal(size=4 * 365) / 20

    assert find_period(column(values), DAY) == 365


@pytest.mark.parametrize(
    ("frequency", "period"),
    [(HOUR, 7), (HOUR, 8), (HOUR, 12), (DAY, 5), (WEEK, 13), (MONTH, 6), (every(15, "minute"), 4)],
)
def test_a_season_that_a_season_of_the_calendar_holds_several_times_is_found(frequency: Frequency, period: int) -> None:
    random = np.random.default_rng(1)
    values = profile(random, 1000, period) + random.normal(size=1000) / 4

    assert find_period(column(values), frequency) == period


def test_a_season_beside_that_of_the_calendar_is_told_from_it() -> None:
    tide = sine(3000, 24.84) + np.random.default_rng(0).normal(size=3000) / 20

    assert find_period(column(tide), HOUR) == 25


@pytest.mark.parametrize(
    ("frequency", "period"),
    [
        (MONTH, 12),
        (every(3, "hour"), 8),
        (every(30, "minute"), 48),
        (WEEK, 52),
        (every(1, "business day"), 5),
        (QUARTER, 4),
    ],
    ids=lambda value: value.words if isinstance(value, Frequency) else str(value),
)
def test_a_weak_season_is_found_where_the_calendar_suggests_it(frequency: Frequency, period: int) -> None:
    time = np.arange(20 * period)
    pulses = (time % period == 0) * 8.0

    assert find_period(column(pulses + np.random.default_rng(0).normal(size=len(time))), frequency) == period


# Limits


@pytest.mark.parametrize("values", [np.zeros(50), np.arange(50.0), np.arange(5.0), np.full(50, 1e6) + 1e-3])
def test_nothing_is_found_where_nothing_repeats(values: Values) -> None:
    assert find_period(column(values)) is None


def test_a_period_that_is_given_is_taken() -> None:
    assert prepare(TrainingConfig(series="lesson", period=7)).period == 7
