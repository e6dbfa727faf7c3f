"""Baselines: each computes what its formula says, is fitted on the training part alone, and fits into a window."""

from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal, assert_equal
from numpy.typing import NDArray
from statsmodels.tsa.holtwinters import Holt, SimpleExpSmoothing

from tests.training.tiny import dataset_of, waves
from training.config import Scale, TrainingConfig
from training.data.prepare import prepare
from training.data.windows import Dataset, Part, cut_judged, cut_training
from training.judging.baselines import fit_baselines, unroll_smoothing
from training.judging.evaluate import error_scales
from training.network.layers import fit_scaling
from training.network.linear import Linear
from training.network.model import Forecaster, linear_model
from training.network.ridge import fit_ridge

SHARE = st.floats(0, 1)


def series_of(values: NDArray[np.float64], steps: int = 12, horizon: int = 3, period: int | None = None) -> Dataset:
    """Every column is a feature and a target; the last 30 rows are the test part."""
    rows = values.astype(np.float32)
    names = tuple("abcd"[: rows.shape[1]])
    test = cut_judged(rows, rows, steps, horizon, len(rows) - 30, max(steps, period or 0))
    dataset = dataset_of(cut_training(rows[:-30], rows[:-30], steps, horizon), test, names)
    return replace(dataset, series=rows[:-30], period=period)


def fitted(dataset: Dataset) -> dict[str, Linear]:
    return {baseline.name: baseline for baseline in fit_baselines(dataset)}


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
def fitted_ahead(horizon: int) -> dict[str, Linear]:
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

    assert list(baselines)[:2] == ["last value", "seasonal naive (5)"]
    assert list(baselines)[3:] == ["exponential smoothing", "Holt", "linear autoregression"]
    for baseline in baselines.values():
        assert baseline.is_publishable
        graph = linear_model(baseline, dataset.test.windows.shape[1:], dataset.test.targets.shape[1:])
        forecasts = Forecaster(graph)(dataset.test.windows)
        assert_allclose(forecasts, baseline.forecast(dataset.test), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("features", [("a", "b", "c"), ("c",)])
def test_judged_rows_reach_nothing_that_is_fitted(features: tuple[str, ...], tmp_path: Path) -> None:
    rows, judged = waves(200, columns=3), 60
    rows[:, :2] += 5 * np.sin(2 * np.pi * np.arange(200) / 12)[:, None]
    noise = np.random.default_rng(0).normal(0, 1e3, (judged, 3))

    def prepared(last_rows: NDArray[np.float64]) -> Dataset:
        table = np.concatenate([rows[:-judged], last_rows])
        np.savetxt(tmp_path / "table.csv", table, delimiter=",", header="a,b,c", comments="")
        config = TrainingConfig(
            data=tmp_path / "table.csv", target=("a", "b"), features=features, window=8, horizon=3, split=(140, 170)
        )
        return prepare(config)

    dataset, other = prepared(rows[-judged:]), prepared(noise)

    assert not np.array_equal(dataset.test.targets, other.test.targets)
    assert not np.array_equal(dataset.validation.targets, other.validation.targets)
    assert dataset.period == other.period == 12
    assert_array_equal(dataset.series, other.series)
    assert_array_equal(error_scales(dataset), error_scales(other))
    for baseline, same in zip(fit_baselines(dataset), fit_baselines(other), strict=True):
        assert_equal(asdict(baseline), asdict(same))
    scales: tuple[Scale, ...] = ("standard", "window", "last", "none")
    for scale in scales:
        scaling, same_scaling = (fit_scaling(each, scale, "last") for each in (dataset, other))
        assert_equal(asdict(scaling), asdict(same_scaling))
        assert_equal(fit_ridge(dataset, scaling), fit_ridge(other, same_scaling))


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

    weights = fitted(dataset)["exponential smoothing"].weights[::-1, 0]

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
    last = Part(*(each[-1:] for each in (dataset.train.windows, dataset.train.targets, dataset.train.history)))
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
        fitted(series_of(values, horizon=1))["linear autoregression"] for values in (50 + noise, noise.cumsum(axis=0))
    )

    assert around_a_level.centre == pytest.approx([50], abs=0.5)
    assert on_a_climb.centre is None


def test_a_season_longer_than_the_window_is_judged_by_the_history() -> None:
    values = np.tile(np.arange(20.0), 8)[:, None]
    dataset = series_of(values, steps=6, horizon=3, period=20)

    seasonal = fitted(dataset)["seasonal naive (20)"]

    assert not seasonal.is_publishable
    assert_array_equal(seasonal.forecast(dataset.test), dataset.test.targets)


def test_a_target_that_is_no_feature_is_forecast_from_its_history() -> None:
    rows = waves(120).astype(np.float32)
    dataset = dataset_of(cut_training(rows[:, :1], rows[:, 1:], 6, 2), targets=("x",))
    dataset = replace(dataset, series=rows[:, 1:])

    baselines = fitted(dataset)

    assert_array_equal(baselines["last value"].forecast(dataset.test)[:, 0], dataset.test.history[:, -1])
    assert {name for name, baseline in baselines.items() if baseline.is_publishable} == {"linear autoregression"}
    linear = linear_model(baselines["linear autoregression"], (6, 1), (2, 1))
    assert_allclose(
        Forecaster(linear)(dataset.test.windows),
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
