"""What a network is told of the rows to forecast: right numbers, in both paths, and nothing of any other row."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from app.arrays import Inputs
from app.version.manifest import Frequency, Phase
from tests.training.tiny import config_of
from training.config import TrainingConfig
from training.data.calendar import chosen_calendar
from training.data.windows import Dataset, Float32, Rows, split_rows
from training.network.ahead import HARMONICS, Ahead, Phases
from training.network.layers import fit_scaling
from training.network.model import Forecaster, build_model, output_of
from training.network.ridge import validation_error
from training.network.start import settle_start

HOUR = Frequency(count=1, unit="hour")
FIRST = 490_000
"""Number of the first row: an hour in November 2025."""
SCALES = ("none", "standard", "window", "last")


def dataset_of(
    values: NDArray[Any], *, known: str = "", calendar: str = "", window: int = 3, horizon: int = 2, targets: int = 1
) -> Dataset:
    """Hours of the columns a, b, c ..., the first of which are targets, split 70, 15, 15."""
    values = values.astype(np.float32)
    names = "abcdefgh"[: values.shape[1]]
    rows = Rows(
        values,
        values[:, :targets],
        split_rows((70, 15, 15), len(values)),
        horizon,
        stride=1,
        known=tuple(names.index(name) for name in known),
        numbers=FIRST + np.arange(len(values)) if calendar else None,
    )
    train, validation, test = rows.cut(window)
    return Dataset(
        tuple(names),
        tuple(names[:targets]),
        train,
        validation,
        test,
        series=values[: rows.edges[1], :targets],
        frequency=HOUR,
        rows=rows,
        calendar=chosen_calendar(calendar.split(","), HOUR) if calendar else (),
    )


def linear_start(dataset: Dataset, **changes: Any) -> keras.Model:
    """The network beside a linear path, before its first epoch."""
    return build_model(config_of(**{"skip": True, "lags": "none", "scale": "standard", **changes}), dataset)


def error_of(model: keras.Model, dataset: Dataset) -> float:
    """Mean absolute error on the validation part, in standard deviations of its targets."""
    part = dataset.validation
    errors = np.abs(Forecaster(model)(part.inputs) - part.targets) / part.targets.std(axis=(0, 1))
    return float(errors.mean())


def noise(rows: int = 400, columns: int = 1, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns))


def hours(rows: int = 400) -> NDArray[np.float64]:
    """(rows, 1): a function of the hour alone, of four waves, which no three rows tell."""
    turns = np.outer(np.arange(FIRST, FIRST + rows) % 24, np.arange(1, 5)) / 24
    waves = np.concatenate([np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)], axis=1)
    return np.asarray(waves @ [[3], [1], [-2], [2], [1], [-1], [1], [2.0]])


# Numbers


@given(
    rows=st.integers(2, 600_000) | st.just(2**31),
    per=st.integers(1, 30),
    first=st.integers(-(2**45), 2**45),
)
def test_phases_are_those_of_exact_arithmetic(rows: int, per: int, first: int) -> None:
    """Whole numbers are rounded last: 2^45 microseconds are a year, and float32 counts to 2^24.

    An angle is up to 2 pi, with two roundings of 2^-24 each.
    """
    per = min(per, rows // 2)
    phase = Phase(name="cycle", rows=rows, per=per)
    numbers = [first, first + 1, first + rows // 2, -first]
    waves = range(1, max(1, min(HARMONICS, rows // per // 2)) + 1)
    angles = [[2 * np.pi * (number * per * wave % rows) / rows for wave in waves] for number in numbers]
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    assert_allclose(np.asarray(Phases((phase,))(np.array(numbers))), expected, rtol=0, atol=1e-6)


def test_a_short_cycle_has_no_more_waves_than_its_rows_tell_apart() -> None:
    sizes = [Ahead((Phase(name="cycle", rows=rows),)).size(horizon=3) for rows in (2, 4, 5, 7, 8, 24)]
    assert sizes == [2, 4, 4, 6, 8, 8]


@pytest.mark.parametrize("scale", SCALES)
def test_what_is_known_ahead_is_scaled_like_the_same_columns_of_the_window(scale: str) -> None:
    values = noise(columns=3) * [1, 20, 300] + [0, 5, -1000]
    dataset = dataset_of(values, known="cb", window=4, horizon=4)
    model = linear_start(dataset, scale=scale)
    windows = dataset.test.windows
    inputs = Inputs(windows, future=windows[:, :, [2, 1]])
    expected = output_of("scale", model, inputs)[:, :, [2, 1]].reshape(len(windows), -1)
    assert_allclose(output_of("known", model, inputs), expected, rtol=1e-6, atol=1e-6)


# The linear path


@pytest.mark.parametrize("scale", ["none", "standard", "last"])
def test_a_series_that_the_clock_alone_tells_is_forecast_without_error(scale: str) -> None:
    with_it, without = dataset_of(hours(), calendar="hour"), dataset_of(hours())
    assert error_of(linear_start(without, scale=scale), without) > 0.1
    assert error_of(linear_start(with_it, scale=scale), with_it) < 1e-3


@pytest.mark.parametrize("scale", SCALES)
def test_a_target_that_a_column_known_ahead_tells_is_forecast_without_error(scale: str) -> None:
    values = noise().repeat(2, axis=1)
    with_it, without = dataset_of(values, known="b"), dataset_of(values)
    assert error_of(linear_start(without, scale=scale), without) > 0.5
    assert error_of(linear_start(with_it, scale=scale), with_it) < 1e-3


def told_twice(rows: int = 600) -> NDArray[np.float64]:
    """Targets that the clock and two columns of the same row tell, for the most part."""
    known = noise(rows, 2, seed=1)
    targets = hours(rows) + known @ [[2.0], [-1]] + noise(rows) / 10
    return np.concatenate([targets, 0.3 * targets + known[:, :1], known], axis=1)


@pytest.mark.parametrize("lags", ["none", "24,48"])
@pytest.mark.parametrize("scale", SCALES)
def test_the_network_starts_as_the_regression(scale: str, lags: str) -> None:
    given_windows = dataset_of(told_twice(), known="dc", calendar="hour,weekday", targets=2)
    config, dataset = settle_start(
        config_of(skip=True, scale=scale, lags=lags, window=3, calendar="hour,weekday"), given_windows
    )
    expected = validation_error(dataset, fit_scaling(dataset, config.chosen_scale, "last"))
    assert expected < 0.2 or scale == "window"
    assert error_of(build_model(config, dataset), dataset) == pytest.approx(expected, rel=1e-4)


# The cells


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_cells_are_told_of_time_and_of_known_columns(cell: str) -> None:
    dataset = dataset_of(told_twice(), known="dc", calendar="hour", targets=2)
    forecaster = Forecaster(build_model(config_of(skip=False, cell=cell, scale="last"), dataset))
    inputs = dataset.test.inputs
    assert inputs.future is not None
    assert inputs.time is not None
    forecasts = forecaster(inputs)
    shifts = (np.array(shift, np.float32) for shift in ([1, 0], [0, 1]))
    others = [Inputs(inputs.windows, inputs.future + shift, inputs.time) for shift in shifts]
    for other in (*others, Inputs(inputs.windows, inputs.future, inputs.time + 5)):
        assert np.abs(forecaster(other) - forecasts).max() > 1e-3
    assert_array_equal(forecaster(inputs), forecasts)


# Choices


def auto(**changes: Any) -> TrainingConfig:
    return config_of(**{"skip": True, "lags": "none", "window": 3, "horizon": 2, "calendar": "auto", **changes})


def test_the_calendar_is_taken_where_validation_wants_it() -> None:
    config, dataset = settle_start(auto(), dataset_of(hours(1200) + noise(1200) / 10, calendar="hour,weekday"))
    assert config.calendar == ("hour", "weekday")
    assert [phase.name for phase in dataset.calendar] == ["hour", "weekday"]
    assert dataset.test.time is not None


def test_a_series_that_no_clock_tells_is_forecast_without_a_calendar() -> None:
    config, dataset = settle_start(auto(), dataset_of(noise(1200), calendar="hour,weekday"))
    assert (config.calendar, dataset.calendar) == ("none", ())
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.time is None
    assert dataset.with_lags([7]).test.time is None


def test_a_calendar_that_is_asked_for_is_kept() -> None:
    config, dataset = settle_start(auto(calendar="hour"), dataset_of(noise(1200), calendar="hour"))
    assert config.calendar == ("hour",)
    assert dataset.test.time is not None


# Leakage


@pytest.mark.parametrize("values", [told_twice(1200), noise(1200, 4)], ids=["told", "noise"])
def test_test_rows_change_no_choice_and_no_weight(values: NDArray[np.float64]) -> None:
    spoilt = values.copy()
    spoilt[1020:] = 100 * noise(180, 4, seed=2)
    settled = []
    for rows in (values, spoilt):
        dataset = replace(dataset_of(rows, known="cd", calendar="hour,weekday", window=6), period=24)
        settled.append(settle_start(auto(lags="auto", scale="auto", window=6), dataset))
    (config, dataset), (other_config, other) = settled
    assert config == other_config
    assert (dataset.lags, dataset.calendar) == (other.lags, other.calendar)
    weights, others = (build_model(*each).get_weights() for each in settled)
    for one, same in zip(weights, others, strict=True):
        assert_array_equal(one, same)


@pytest.mark.parametrize("origin", [1020, 1063, 1198])
def test_nothing_from_the_origin_on_reaches_a_forecast_but_what_is_known(origin: int) -> None:
    """Rows from the origin on are replaced, known columns from the end of the horizon on."""
    values = told_twice(1200)
    spoilt = values.copy()
    spoilt[origin:, :2] = 100 * noise(1200 - origin, 2, seed=2)
    spoilt[origin + 2 :, 2:] = 100 * noise(1200 - origin - 2, 2, seed=3)
    model, asked = None, []
    for rows in (values, spoilt):
        dataset = dataset_of(rows, known="cd", calendar="hour", window=6).with_lags([24, 2])
        model = model or linear_start(dataset, lags="24,2", window=6)
        asked.append(dataset.test.inputs[origin - 1020 : origin - 1019])
    real, other = asked
    assert_array_equal(real.windows, other.windows)
    assert_array_equal(real.future, values[None, origin : origin + 2, 2:].astype(np.float32))
    assert_array_equal(other.future, real.future)
    assert real.time == other.time == FIRST + origin
    forecaster = Forecaster(model)
    assert_array_equal(forecaster(real), forecaster(other))


@given(
    window=st.integers(1, 5),
    horizon=st.integers(1, 5),
    stride=st.integers(1, 4),
    known=st.permutations(range(4)).flatmap(lambda places: st.integers(1, 4).map(lambda count: places[:count])),
)
def test_the_future_is_the_known_columns_of_the_rows_of_the_horizon(
    window: int, horizon: int, stride: int, known: list[int]
) -> None:
    """Every number tells its row, and its column behind the point."""
    values: Float32 = (np.arange(60)[:, None] + np.arange(4) / 8).astype(np.float32)
    edges, numbers = (0, 30, 45, 60), 1000 + 2 * np.arange(60)
    rows = Rows(values, values[:, :1], edges, horizon, stride, tuple(known), numbers)
    for part, start in zip(rows.cut(window), (window, 30, 45), strict=True):
        assert part.future is not None
        step = stride if start == window else 1
        firsts = start + step * np.arange(len(part.windows))
        expected = firsts[:, None, None] + np.arange(horizon)[:, None] + np.array(known) / 8
        assert_array_equal(part.future, expected)
        assert_array_equal(part.time, 1000 + 2 * firsts)
        assert_array_equal(part.windows[:, -1, 0], firsts - 1)
        assert_array_equal(part.targets[:, 0, 0], firsts)
        shorter = part.between(0, 2)
        assert_array_equal(shorter.inputs.future, expected[:2])
        assert_array_equal(shorter.inputs.time, 1000 + 2 * firsts[:2])
