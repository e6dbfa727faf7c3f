"""The period that is found is one that is there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.version.manifest import Frequency
from training.config import TrainingConfig
from training.data.period import find_period
from training.data.prepare import prepare


def noise(rows: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=rows)


def column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None]


@settings(deadline=None)
@given(st.integers(4, 60), st.floats(-5, 5), st.floats(1e-3, 1e6), st.integers(0, 1000))
def test_a_season_is_found_whatever_trend_and_unit(period: int, slope: float, unit: float, seed: int) -> None:
    time = np.arange(6 * period)
    values = np.sin(2 * np.pi * time / period) * 10 + slope * time + noise(len(time), seed) / 4

    found = find_period(column(unit * values))

    assert found is not None
    assert abs(found - period) <= max(1, period // 20)


def test_noise_has_no_season_and_a_random_walk_seldom_one() -> None:
    assert [find_period(column(noise(400, seed))) for seed in range(50)] == [None] * 50
    walks = [find_period(column(noise(400, seed).cumsum())) for seed in range(50)]
    assert walks.count(None) >= 45


@pytest.mark.parametrize("values", [np.zeros(50), np.arange(50.0), np.arange(5.0), np.full(50, 1e6) + 1e-3])
def test_nothing_is_found_where_nothing_repeats(values: NDArray[np.float64]) -> None:
    assert find_period(column(values)) is None


def test_the_calendar_settles_what_noise_shifts() -> None:
    time = np.arange(4 * 365)
    values = np.cos(2 * np.pi * time / 368) + noise(len(time)) / 20

    assert find_period(column(values), Frequency(count=1, unit="day")) == 365


@pytest.mark.parametrize(
    ("frequency", "period"),
    [
        (Frequency(count=1, unit="month"), 12),
        (Frequency(count=3, unit="hour"), 8),
        (Frequency(count=30, unit="minute"), 48),
        (Frequency(count=1, unit="week"), 52),
        (Frequency(count=1, unit="business day"), 5),
        (Frequency(count=1, unit="quarter"), 4),
    ],
    ids=lambda value: value.words if isinstance(value, Frequency) else str(value),
)
def test_a_weak_season_is_found_where_the_calendar_suggests_it(frequency: Frequency, period: int) -> None:
    time = np.arange(20 * period)
    pulses = (time % period == 0) * 8.0

    assert find_period(column(pulses + noise(len(time))), frequency) == period


@pytest.mark.parametrize(("series", "period"), [("lesson", 365), ("sunspots", 11)])
def test_built_in_series(series: str, period: int) -> None:
    dataset = prepare(TrainingConfig.model_validate({"series": series}))

    assert dataset.period == period
    assert dataset.test.history.shape[1] == max(30, period)


def test_a_period_that_is_given_is_taken() -> None:
    assert prepare(TrainingConfig(series="lesson", period=7)).period == 7
