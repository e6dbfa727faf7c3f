"""Baselines: each computes what its formula says, is fitted on the training part alone, and fits into a window."""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from numpy.typing import NDArray
from statsmodels.tsa.holtwinters import Holt, SimpleExpSmoothing

from tests.training.tiny import dataset_of, waves, write_csv
from training.config import Scale, TrainingConfig
from training.data.prepare import prepare
from training.data.windows import Dataset, Part, cut_judged, cut_training
from training.judging.baselines import Baseline, SeasonBefore, fit_baselines, publishable, unroll_smoothing
from training.judging.evaluate import error_scales
from training.judging.smoothing import Smoothing
from training.network.layers import fit_scaling
from training.network.linear import Linear
from training.network.model import Forecaster, linear_model
from training.network.ridge import fit_ridge

SHARE = st.floats(0, 1)


def series_of(values: NDArray[np.float64], steps: int = 12, horizon: int = 3, period: int | None = None) -> Dataset:
    """Every column is a feature and a target; the last 30 rows are the test part."""
    rows = values.astype(np.float32)
    names = tuple("abcd"[: rows.shape[1]])
    test = cut_judged(rows, rows, steps, horizon, len(rows) - 30)
    dataset = dataset_of(cut_training(rows[:-30], rows[:-30], steps, horizon), test, names)
    return replace(dataset, series=rows[:-30], period=period)


def fitted(dataset: Dataset) -> dict[str, Baseline]:
    return {baseline.name: baseline for baseline in fit_baselines(dataset)}


def published(dataset: Dataset) -> dict[str, Linear]:
    """The baselines that a window suffices for."""
    return {baseline.name: baseline for baseline in publishable(fit_baselines(dataset))}


def constants_of(baseline: Baseline) -> dict[str, object]:
    assert isinstance(baseline, Linear | SeasonBefore | Smoothing)
    return asdict(baseline)


def prepared(folder: Path, values: NDArray[np.float64], hours: int = 1, **changes: Any) -> Dataset:
    """A data set of rows so many hours apart, the first column the target."""
    times = np.datetime64("2024-01-01T00:00") + np.arange(len(values)) * np.timedelta64(hours, "h")
    columns = {"time": times, **dict(zip("abcd", values.T, strict=False))}
    data = write_csv(folder / "table.csv", columns)
    options = {"target": ("a",), "time": "time", "window": 8, "horizon": 30, **changes}
    return prepare(TrainingConfig(data=data, **options))


def smoothed(rows: NDArray[np.float64], alpha: float, beta: float, trend: float, horizon: int) -> NDArray[np.float64]:
    """Holt's recursion, row by row, as the books write it."""
    first = max(1, min(len(rows) // 3, 10))
    level, slope = rows[:first].mean() + (first - 1) / 2 * trend, trend
    for row in rows[first:]:
        level, before = alpha * row + (1 - alpha) * (level + slope), level
        slope = beta * (level - before) + (1 - beta) * slope
    return np.asarray(level + slope * np.arange(1, horizon + 1))


@settings(deadline=None)
@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e4, 1e4)), SHARE, SHARE, st.floats(-10, 10))
def test_smoothing_unrolled_is_the_recursion(
    rows: NDArray[np.float64], alpha: float, beta: float, trend: float
) -> None:
    weights, bias = unroll_smoothing(alpha, beta, trend, len(rows), 4)

    assert_allclose(weights.sum(axis=0), 1, atol=1e-9)
    assert_allclose(rows @ weights + bias, smoothed(rows, alpha, beta, trend, 4), atol=1e-6 * (1 + np.abs(rows).max()))


@cache
def fitted_ahead(horizon: int) -> dict[str, Baseline]:
    return fitted(series_of(waves(90), steps=9, horizon=horizon, period=3))


@settings(deadline=None, max_examples=20)
@given(arrays(np.float32, (5, 9, 2), elements=st.floats(-1e3, 1e3, width=32)), st.integers(1, 4))
def test_a_map_of_own_rows_is_the_direct_formula(windows: NDArray[np.float32], horizon: int) -> None:
    part = Part(windows, np.zeros((5, horizon, 2), np.float32), windows)

    baselines = fitted_ahead(horizon)

    points = next(int(name.partition("-")[0]) for name in baselines if name.endswith("average"))
    expected = {
        "last value": np.repeat(windows[:, -1:], horizon, axis=1),
        f"{points}-point average": np.repeat(windows[:, -points:].mean(axis=1, keepdims=True), horizon, axis=1),
        "seasonal naive (3)": np.stack([windows[:, -3 + row % 3] for row in range(horizon)], axis=1),
    }
    for name, values in expected.items():
        assert_allclose(baselines[name].forecast(part), values, atol=2e-3)


def test_every_baseline_that_sees_windows_is_judged_as_it_is_published() -> None:
    values = waves(150) + np.arange(150)[:, None] * [0.1, 10.0]
    dataset = series_of(values, period=5)

    baselines = fitted(dataset)

    assert list(baselines)[:3] == ["last value", "seasonal naive (5)", "seasonal naive (5) with drift"]
    assert list(baselines)[4:] == ["exponential smoothing", "Holt", "linear autoregression"]
    for baseline in baselines.values():
        assert isinstance(baseline, Linear)
        graph = linear_model(baseline, dataset.test.windows.shape[1:], dataset.test.targets.shape[1:])
        forecasts = Forecaster(graph)(dataset.test.inputs)
        assert_allclose(forecasts, baseline.forecast(dataset.test), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("features", [("a", "b", "c"), ("c",)])
def test_judged_rows_reach_nothing_that_is_fitted(features: tuple[str, ...], tmp_path: Path) -> None:
    rows, judged = waves(200, columns=3), 60
    rows[:, :2] += 5 * np.sin(2 * np.pi * np.arange(200) / 12)[:, None]
    noise = np.random.default_rng(0).normal(0, 1e3, (judged, 3))

    def dataset_with(last_rows: NDArray[np.float64]) -> Dataset:
        table = np.concatenate([rows[:-judged], last_rows])
        np.savetxt(tmp_path / "table.csv", table, delimiter=",", header="a,b,c", comments="")
        config = TrainingConfig(
            data=tmp_path / "table.csv", target=("a", "b"), features=features, window=8, horizon=3, split=(140, 170)
        )
        return prepare(config)

    dataset, other = dataset_with(rows[-judged:]), dataset_with(noise)

    assert not np.array_equal(dataset.test.targets, other.test.targets)
    assert not np.array_equal(dataset.validation.targets, other.validation.targets)
    assert dataset.period == other.period == 12
    assert_array_equal(dataset.series, other.series)
    assert_array_equal(error_scales(dataset), error_scales(other))
    for baseline, same in zip(fit_baselines(dataset), fit_baselines(other), strict=True):
        assert_equal(constants_of(baseline), constants_of(same))
    scales: tuple[Scale, ...] = ("standard", "window", "last", "none")
    for scale in scales:
        scaling, same_scaling = (fit_scaling(each, scale, "last") for each in (dataset, other))
        assert_equal(asdict(scaling), asdict(same_scaling))
        assert_equal(fit_ridge(dataset, scaling), fit_ridge(other, same_scaling))


def test_no_forecast_knows_a_row_from_its_origin_on(tmp_path: Path) -> None:
    rows, hours = waves(400), np.arange(400)
    rows[:, 0] += 5 * np.sin(2 * np.pi * hours / 24)
    known = 370  # 30 rows of the test part
    noisy = np.concatenate([rows[:known], np.random.default_rng(0).normal(0, 1e3, (400 - known, 2))])

    dataset, other = (prepared(tmp_path, values, horizon=5, split=(300, 340)) for values in (rows, noisy))

    baselines = fit_baselines(dataset)
    assert {each.name for each in baselines} > {"seasonal naive (24)", "Theta (24)", "ETS (24)"}
    for baseline in baselines:
        one, two = (baseline.forecast(each.test) for each in (dataset, other))
        assert_array_equal(one[: known - 340 + 1], two[: known - 340 + 1])
        assert not np.array_equal(one[-1], two[-1])


def test_windows_that_are_looked_at_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = series_of(waves(150), period=20)

    at_once = fitted(dataset)
    monkeypatch.setattr("training.data.windows.CHUNK_BYTES", 1000)
    in_pieces = fitted(dataset)

    for name, baseline in at_once.items():
        assert_allclose(in_pieces[name].forecast(dataset.test), baseline.forecast(dataset.test), rtol=1e-5)


@pytest.mark.parametrize("tail", [[0.0], [3.0], [0.0, 0.0, 0.0, 7.0]])
def test_a_series_that_has_come_to_rest_has_baselines(tail: list[float]) -> None:
    values = np.concatenate([waves(200, columns=1)[:, 0], np.resize(tail, 2400)])[:, None]
    dataset = series_of(values)

    for name, baseline in fitted(dataset).items():
        errors = baseline.forecast(dataset.test) - dataset.test.targets
        assert np.abs(errors).max() < 60, name


def test_the_moving_average_is_as_long_as_does_best_in_training() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (3000, 1))  # the longer the mean, the better
    walk = np.random.default_rng(0).normal(0, 1, (300, 1)).cumsum(axis=0)  # the shorter

    names = {name for values in (noise, walk) for name in fitted(series_of(values)) if name.endswith("average")}

    assert names == {"12-point average", "2-point average"}


def test_smoothing_constants_are_those_of_the_process() -> None:
    random = np.random.default_rng(0)
    shocks = random.normal(0, 1, 3000)
    level = 100 + np.concatenate([[0], 0.3 * shocks.cumsum()[:-1]])
    dataset = series_of((level + shocks)[:, None], steps=30, horizon=1)

    weights = published(dataset)["exponential smoothing"].weights[::-1, 0]

    assert weights[0] == pytest.approx(0.3, abs=0.05)
    assert_allclose(weights[1:10] / weights[:9], 0.7, atol=0.05)


def test_holt_goes_on_along_a_trend_in_any_unit() -> None:
    for unit in (1e-3, 1.0, 1e6):
        dataset = series_of(unit * (5 * np.arange(120.0)[:, None] + waves(120, columns=1)), horizon=2)

        forecasts = fitted(dataset)["Holt"].forecast(dataset.test)

        assert_allclose(forecasts, dataset.test.targets, atol=4 * unit)


@pytest.mark.parametrize("name", ["exponential smoothing", "Holt"])
def test_in_a_long_window_smoothing_is_that_of_statsmodels(name: str) -> None:
    random = np.random.default_rng(2)
    trend = 1 + random.normal(0, 0.5, 400).cumsum()
    values = 200 + (trend + random.normal(0, 1, 400)).cumsum() + random.normal(0, 2, 400)
    dataset = series_of(values[:, None], steps=120, horizon=5)
    last = dataset.train[-1:]
    smoothing = {"exponential smoothing": SimpleExpSmoothing, "Holt": Holt}[name]
    constants = smoothing(dataset.series[:, 0].astype(float), initialization_method="estimated").fit().params
    level, slope = (constants[key] for key in ("smoothing_level", "smoothing_trend"))

    theirs = smoothing(last.windows[0, :, 0].astype(float), initialization_method="legacy-heuristic").fit(
        smoothing_level=level, **({} if name != "Holt" else {"smoothing_trend": slope}), optimized=False
    )

    forecast = fitted(dataset)[name].forecast(last)[0, :, 0]
    assert_allclose(forecast, theirs.forecast(5), rtol=1e-3, atol=0.05 * np.abs(np.diff(values)).mean())


def test_the_linear_autoregression_finds_the_recursion() -> None:
    random = np.random.default_rng(0)
    values = np.zeros((600, 2))
    for row in range(2, 600):
        values[row, 1] = random.normal()
        values[row, 0] = 1.5 * values[row - 1, 0] - 0.8 * values[row - 2, 0] + 3 * values[row - 1, 1]
    rows = values.astype(np.float32)
    dataset = dataset_of(cut_training(rows, rows[:, :1], 4, 1))
    dataset = replace(dataset, series=rows[:, :1])

    forecasts = fitted(dataset)["linear autoregression"].forecast(dataset.train)

    assert_allclose(forecasts, dataset.train.targets, atol=0.02 * values[:, 0].std())


def test_the_linear_autoregression_counts_from_where_the_series_returns_to() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (400, 1))

    around_a_level, on_a_climb = (
        published(series_of(values, horizon=1))["linear autoregression"]
        for values in (50 + noise, noise.cumsum(axis=0))
    )

    assert around_a_level.centre == pytest.approx([50], abs=0.5)
    assert on_a_climb.centre is None


def test_a_season_longer_than_the_window_is_judged_by_the_history() -> None:
    values = np.tile(np.arange(20.0), 8)[:, None]
    dataset = series_of(values, steps=6, horizon=3, period=20)

    seasonal = fitted(dataset)["seasonal naive (20)"]

    assert "seasonal naive (20)" not in published(dataset)
    assert_array_equal(seasonal.forecast(dataset.test), dataset.test.targets)


@pytest.mark.parametrize("period", [3, 20])
def test_a_drift_is_the_mean_step_from_a_season_to_the_next(period: int) -> None:
    season, steps = np.tile(np.arange(20.0), 10), np.repeat(np.arange(200 // period + 1), period)[:200]
    dataset = series_of(np.stack([season + 2 * steps, season - steps], axis=1), steps=6, horizon=25, period=period)

    forecasts = fitted(dataset)[f"seasonal naive ({period}) with drift"].forecast(dataset.test)

    drift = (dataset.series[period:] - dataset.series[:-period]).mean(axis=0)
    before = dataset.test.history[:, -period:]
    for row in range(25):
        assert_allclose(forecasts[:, row], before[:, row % period] + (row // period + 1) * drift, rtol=1e-5)


@pytest.mark.parametrize(
    ("rows", "hours", "expected"),
    [
        (600, 1, ["24", "168", "24) with drift"]),
        (400, 1, ["24", "24) with drift"]),  # less than two weeks to train
        (600, 4, ["6", "42", "6) with drift"]),
    ],
)
def test_the_seasons_of_the_calendar_are_repeated_too(
    tmp_path: Path, rows: int, hours: int, expected: list[str]
) -> None:
    values = waves(rows, columns=1)
    values[:, 0] += 300 * np.sin(2 * np.pi * np.arange(rows) * hours / 24)  # a week is not better than a day

    dataset = prepared(tmp_path, values, hours)

    names = [name for name in fitted(dataset) if name.startswith("seasonal")]
    assert names == [f"seasonal naive ({each}" + ("" if "drift" in each else ")") for each in expected]
    for name in names:
        season = int(name.partition("(")[2].partition(")")[0])
        if "drift" not in name:
            assert_array_equal(fitted(dataset)[name].forecast(dataset.test)[:, 0, 0], values_before(dataset, season))


def values_before(dataset: Dataset, season: int) -> NDArray[np.float32]:
    """The values a season before the first row of each forecast of the test part."""
    assert dataset.rows is not None
    test, end = dataset.rows.edges[2:]
    return dataset.rows.targets[test - season : end - season - dataset.rows.horizon + 1, 0]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_theta_and_ets_go_on_with_trend_and_season_in_any_unit(tmp_path: Path, scale: float) -> None:
    time = np.arange(400.0)
    values = scale * (1000 + 2 * time + 50 * np.sin(2 * np.pi * time / 24) + waves(400, columns=1)[:, 0])

    dataset = prepared(tmp_path, values[:, None])

    baselines = fitted(dataset)
    for name, most in (("Theta (24)", 40), ("ETS (24)", 25), ("seasonal naive (24)", 90)):
        error = np.abs(baselines[name].forecast(dataset.test) - dataset.test.targets).mean() / scale
        assert error < most, name


def test_theta_and_ets_do_without_a_season_that_the_training_rows_do_not_carry_twice(tmp_path: Path) -> None:
    values = waves(100, columns=1)

    names = list(fitted(prepared(tmp_path, values, period=40, horizon=2)))

    assert names[-3:] == ["Theta", "ETS", "linear autoregression"]
    assert not any("drift" in name for name in names)


def test_ets_is_left_out_where_fitting_would_take_long(tmp_path: Path) -> None:
    values = np.tile(waves(100, columns=1), (250, 1))

    short, long = (
        fitted(prepared(tmp_path, values[:rows], window=4, horizon=1, period=period, split=(rows - 100, rows - 50)))
        for rows, period in ((2500, 150), (25_000, 2100))
    )

    assert {"Theta (150)", "ETS (150)"} <= set(short)
    assert {name for name in long if name.startswith(("Theta", "ETS"))} == {"Theta (2100)"}


@pytest.mark.parametrize("tail", [[3.0], [0.0, 0.0, 0.0, 7.0]])
def test_smoothing_of_a_series_that_has_come_to_rest_is_finite(tmp_path: Path, tail: list[float]) -> None:
    values = np.concatenate([waves(100, columns=1)[:, 0], np.resize(tail, 300)])[:, None]
    dataset = prepared(tmp_path, values, split=(300, 350), horizon=2)

    for name, baseline in fitted(dataset).items():
        errors = baseline.forecast(dataset.test) - dataset.test.targets
        assert np.abs(errors).max() < 60, name


def test_a_target_that_is_no_feature_is_forecast_from_its_history() -> None:
    rows = waves(120).astype(np.float32)
    dataset = dataset_of(cut_training(rows[:, :1], rows[:, 1:], 6, 2), targets=("x",))
    dataset = replace(dataset, series=rows[:, 1:])

    baselines = fitted(dataset)

    assert_array_equal(baselines["last value"].forecast(dataset.test)[:, 0], dataset.test.history[:, -1])
    assert set(published(dataset)) == {"linear autoregression"}
    linear = linear_model(published(dataset)["linear autoregression"], (6, 1), (2, 1))
    assert_allclose(
        Forecaster(linear)(dataset.test.inputs),
        baselines["linear autoregression"].forecast(dataset.test),
        rtol=1e-5,
    )


def test_samples_that_stand_alone_are_not_smoothed() -> None:
    dataset = prepare(TrainingConfig(series="multiplication", split=(2048, 2560)))

    baselines = fitted(dataset)

    assert list(baselines) == ["last value", "training mean", "linear regression"]
    forecasts = {name: baseline.forecast(dataset.test) for name, baseline in baselines.items()}
    assert_allclose(forecasts["training mean"], dataset.train.targets.mean(), rtol=1e-5)
    mean_error = np.abs(forecasts["training mean"] - dataset.test.targets).mean()
    assert np.abs(forecasts["linear regression"] - dataset.test.targets).mean() < 1.1 * mean_error


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_windows_have_baselines(steps: int) -> None:
    dataset = series_of(waves(45, columns=1), steps=steps, horizon=1)

    for baseline in fit_baselines(dataset):
        assert np.isfinite(baseline.forecast(dataset.test)).all()


def test_a_constant_feature_and_huge_units_do_no_harm() -> None:
    values = np.column_stack([1e30 * waves(90, columns=1), np.full(90, 7.0)])
    rows = values.astype(np.float32)
    dataset = replace(dataset_of(cut_training(rows, rows[:, :1], 5, 2)), series=rows[:, :1])

    for baseline in fit_baselines(dataset):
        errors = baseline.forecast(dataset.test) - dataset.test.targets.astype(np.float64)
        assert np.abs(errors).mean() < 1e30, baseline.name
