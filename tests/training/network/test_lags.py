"""Lags: which rows of a long window the linear path reads, and how the lags are chosen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from app.arrays import Inputs
from app.version.manifest import Frequency
from tests.training.tiny import config_of
from training.config import TrainingConfig
from training.data.windows import Dataset, Float32, Rows, split_rows
from training.errors import ConfigError
from training.judging.baselines import fit_baselines, publishable
from training.judging.choice import choose
from training.judging.evaluate import LinearStart, evaluate
from training.network.lags import settle_lags
from training.network.model import Forecaster, build_model
from training.network.reading import linear_places

HOUR = Frequency(count=1, unit="hour")


def dataset_of(values: Float32, *, window: int = 12, horizon: int = 6, **changes: Any) -> Dataset:
    """A series, the first column, with its other columns as features, split 70, 15, 15."""
    targets = values[:, :1]
    rows = Rows(values, targets, split_rows((70, 15, 15), len(values)), horizon, stride=1)
    train, validation, test = rows.cut(window)
    names = tuple("abc"[: values.shape[1]])
    dataset = Dataset(names, names[:1], train, validation, test, series=targets[: rows.edges[1]], frequency=HOUR)
    return replace(dataset, rows=rows, **changes)


def daily(rows: int = 1200, seed: int = 0) -> Float32:
    """Days that look alike hour by hour, without a pattern within a day that twelve hours would show."""
    rng = np.random.default_rng(seed)
    return (10 * np.tile(rng.normal(size=24), rows // 24 + 1)[:rows, None] + rng.normal(size=(rows, 1))).astype(
        np.float32
    )


def skipping(**changes: Any) -> TrainingConfig:
    return config_of(**{"skip": True, "window": 12, "horizon": 6, **changes})


@given(
    recent=st.integers(1, 6),
    lags=st.lists(st.integers(1, 12), min_size=1, max_size=3, unique=True),
    horizon=st.integers(1, 15),
    columns=st.lists(st.booleans(), min_size=1, max_size=3),
)
def test_a_lag_is_the_latest_known_row_a_season_or_more_before(
    recent: int, lags: list[int], horizon: int, columns: list[bool]
) -> None:
    steps, features = max(recent, *lags), len(columns)
    selection = np.diag(columns)
    expected = {(row, column) for row in range(steps - recent, steps) for column in range(features)}
    for lag in lags:
        for ahead in range(horizon):
            before = next(row for row in range(steps + ahead - lag, -1, -lag) if row < steps)
            expected |= {(before, column) for column in range(features) if columns[column]}
    places = linear_places(steps, recent, lags, selection, horizon)
    assert [divmod(int(place), features) for place in places] == sorted(expected)


def test_a_season_beyond_the_window_is_found_and_read() -> None:
    before = dataset_of(daily(), period=24)
    config, after = settle_lags(skipping(), before)

    assert config.lags == after.lags
    assert set(after.lags) >= {24}
    assert all(lag % 24 == 0 for lag in after.lags)
    assert after.train.windows.shape[1] == max(after.lags)
    assert after.recent_steps == 12
    scores = [error_of_regression(dataset) for dataset in (before, after)]
    assert scores[1] < 0.5 * scores[0]


def error_of_regression(dataset: Dataset) -> float:
    [*_, regression] = publishable(fit_baselines(dataset))
    return float(np.abs(regression.forecast(dataset.test) - dataset.test.targets).mean())


def test_noise_has_no_lags() -> None:
    noise = np.random.default_rng(0).normal(size=(1200, 1)).astype(np.float32)
    config, dataset = settle_lags(skipping(scale="standard"), given := dataset_of(noise, period=24))
    assert (config.lags, dataset) == ("none", given)


@pytest.mark.parametrize("changes", [{"lags": "none"}, {"skip": False}])
def test_no_lags_are_read_unless_there_is_a_linear_path_that_may(changes: dict[str, Any]) -> None:
    config, dataset = settle_lags(skipping(**changes), given := dataset_of(daily(), period=24))
    assert (config.lags, dataset) == ("none", given)


def test_judged_rows_change_no_choice() -> None:
    rows, other = daily(), daily()
    other[840:] = np.random.default_rng(1).normal(size=(360, 1)) * 100
    chosen = [settle_lags(skipping(), dataset_of(values, period=24))[1] for values in (rows, other)]
    assert chosen[0].lags == chosen[1].lags
    models = [build_model(skipping(), dataset) for dataset in chosen]
    for weights in zip(*(model.get_weights() for model in models), strict=True):
        assert_array_equal(*weights)


def test_with_lags_the_network_starts_as_the_regression_with_the_same_lags() -> None:
    """The regression knows nothing of the rows between the window and the season."""
    values = np.concatenate([daily(), daily(seed=5)], axis=1)
    _, dataset = settle_lags(skipping(scale="standard", lags="24,48"), dataset_of(values))
    windows = dataset.test.windows.copy()
    forecaster = Forecaster(build_model(skipping(scale="standard"), dataset))
    forecasts = forecaster(Inputs(windows))

    [*_, regression] = publishable(fit_baselines(dataset))
    assert regression.centre is not None
    assert_allclose(forecasts, regression.forecast(dataset.test), rtol=1e-4, atol=1e-3)
    read = linear_places(48, 12, (24, 48), dataset.selection, 6)
    ignored = np.setdiff1d(np.arange(48 * 2), read)
    windows.reshape(len(windows), -1)[:, ignored] += 1000
    assert_array_equal(forecaster(Inputs(windows)), forecasts)


@pytest.mark.parametrize(
    ("dataset", "lags", "words"),
    [
        (dataset_of(daily(100)), "68", ["--lags 68 needs at least 74 rows to train", "there are 70", "shorter lag"]),
        (replace(dataset_of(daily()), rows=None), "24", ["stand alone", "--lags none"]),
        (replace(dataset_of(daily()), target_names=("b",)), "24", ["'b'", "--features", "--lags none"]),
    ],
)
def test_lags_that_cannot_be_read_are_told(dataset: Dataset, lags: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        settle_lags(skipping(lags=lags), dataset)
    assert all(word in str(told.value) for word in words), told.value


def test_the_regression_with_lags_is_a_baseline_of_a_network_without() -> None:
    signs = np.where(np.arange(1200) // 24 % 2, -1, 1).astype(np.float32)  # no season of 24 rows would find them
    before = dataset_of(daily()[:1200] * signs[:, None], period=24)
    _, after = settle_lags(skipping(), before)
    config = skipping(skip=False)

    path = Forecaster(build_model(skipping(lags=after.lags), after))
    start = LinearStart(after, "last", path(after.test.inputs))

    evaluation = evaluate(Forecaster(build_model(config, before)), before, start)

    name = f"linear autoregression with lags {' and '.join(map(str, after.lags))}"
    assert evaluation.verdict.against == name
    assert evaluation.forecasts[name].shape == before.test.targets.shape
    choice = choose(build_model(config, before), evaluation, "best")
    assert f"{name} needs more than a window" in choice.verdict
