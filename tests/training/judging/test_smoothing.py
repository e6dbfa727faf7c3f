"""Smoothing row by row: what the libraries compute at the end of the training part, and goes on from there."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from statsmodels.tsa.forecasting.theta import ThetaModel
from statsmodels.tsa.holtwinters import ExponentialSmoothing

from training.data.windows import Part, cut_judged
from training.judging.smoothing import NO_FACTOR, NO_SEASON, Recursion, Smoothing, fit_damped, fit_theta

SHARE = st.floats(0, 1)
Matrix = NDArray[np.float64]


def seasonal(rows: int, period: int, *, multiplied: bool = False) -> Matrix:
    """A climbing level with a season that is added, or multiplied, and noise."""
    random, time = np.random.default_rng(rows), np.arange(rows)
    level = 100 + 0.5 * time + random.normal(0, 1, rows).cumsum()
    season = np.sin(2 * np.pi * time / period)
    return np.asarray(level * (1 + 0.3 * season) if multiplied else level + 20 * season) + random.normal(0, 1, rows)


@settings(deadline=None)
@given(arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e3, 1e3)), SHARE, SHARE, SHARE, SHARE)
def test_forecasts_of_many_origins_are_those_of_each(
    rows: Matrix, alpha: float, beta: float, gamma: float, phi: float
) -> None:
    start = Recursion(
        alpha, beta, gamma, phi, level=5.0, trend=1.0, season=np.array([1.0, 2, -3]), factor=np.array([1.0, 0.5])
    )

    together = start.forecasts(rows, horizon=7)

    alone = [start.after(rows[:count]).forecasts(rows[:0], horizon=7)[0] for count in range(len(rows) + 1)]
    assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


def test_a_season_repeats_and_a_damped_trend_fades() -> None:
    start = Recursion(0.5, 0.5, 0.5, 0.5, level=10.0, trend=4.0, season=np.array([1.0, -1.0]), factor=NO_FACTOR)

    assert_allclose(start.forecasts(np.empty(0), 3), [[10 + 2 + 1, 10 + 2 + 1 - 1, 10 + 2 + 1 + 0.5 + 1]])
    assert_allclose(start.after(np.array([17.0])).forecasts(np.empty(0), 1), [[14 + 1.5 - 1]])


@pytest.mark.parametrize("period", [None, 12])
def test_ets_at_the_end_of_training_is_that_of_statsmodels(period: int | None) -> None:
    rows = 1000 * seasonal(240, 12)
    model = ExponentialSmoothing(
        (rows - rows[0]) / rows.std(),
        trend="add",
        damped_trend=True,
        seasonal="add" if period else None,
        seasonal_periods=period,
        initialization_method="heuristic",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.fit().forecast(24)

    ours = fit_damped(rows, period).forecasts(np.empty(0), 24)[0]

    assert_allclose(ours, rows[0] + rows.std() * theirs, rtol=1e-6)


@pytest.mark.parametrize(("period", "multiplied"), [(None, False), (12, False), (12, True)])
def test_theta_at_the_end_of_training_is_that_of_statsmodels(period: int | None, multiplied: bool) -> None:
    rows = seasonal(240, 12, multiplied=multiplied)
    method = "mul" if multiplied else "add"
    theirs = ThetaModel(rows, period=period, deseasonalize=period is not None, method=method).fit().forecast(24)

    fitted = fit_theta(rows, period)

    assert (len(fitted.factor) == 12) == multiplied
    assert_allclose(fitted.forecasts(np.empty(0), 24)[0], theirs, rtol=2e-3)


def test_a_part_is_forecast_from_its_own_origins() -> None:
    rows = np.arange(20.0)[:, None].astype(np.float32)
    still = Recursion(1.0, 0.0, 0.0, 1.0, level=9.0, trend=1.0, season=NO_SEASON, factor=NO_FACTOR)
    smoothing = Smoothing("on a climb", (still,), trained=10)

    part = cut_judged(rows, rows, 3, 2, 14)

    assert_allclose(smoothing.forecast(part), part.targets)
    with pytest.raises(ValueError, match="needs the 10 training rows"):
        smoothing.forecast(Part(part.windows, part.targets, part.history[:, -9:]))
