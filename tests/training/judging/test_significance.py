"""The test of a difference in mean loss: right about luck, and never lost for an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import signal, stats
from statsmodels.regression.linear_model import OLS

from training.judging.significance import LEVEL, diebold_mariano, least_origins

TRIALS = 2000
FEWER_TRIALS = 1000

START = 200
"""Rows after which the slow waves of a simulation have forgotten their start."""


def simulated(kind: str, origins: int, horizon: int) -> NDArray[np.float64]:
    """Returns TRIALS series of differences (TRIALS, origins) between forecasters of which neither is better.

    The difference of a forecast is the mean over its steps, so neighbours share all steps but one. Differences of steps
    are independent (normal, or t with 4 degrees of freedom) or depend on those before (autoregressive, 0.7).
    """
    random = np.random.default_rng(origins)
    size = (TRIALS, origins + horizon + 50)
    steps = random.standard_t(4, size) if kind == "heavy tails" else random.normal(size=size)
    if kind == "autoregressive":
        steps = signal.lfilter([1], [1, -0.7], steps)
    means = signal.lfilter(np.ones(horizon) / horizon, [1], steps)
    return np.asarray(means[:, -origins:])


def losses_of_two(kind: str, origins: int, horizon: int) -> NDArray[np.float64]:
    """Returns differences in mean absolute error (FEWER_TRIALS, origins) of two forecasters of which neither is better.

    The steps of a forecast share shocks with each other, and most of them with the other forecaster. Shocks have heavy
    tails (t with 4 degrees of freedom). In "hard times" the errors of both forecasters are larger for hundreds of rows;
    in "turns" the errors of one are larger for tens of rows, while the errors of the other are smaller.
    """
    random = np.random.default_rng(origins)
    size = (FEWER_TRIALS, origins + horizon + START)
    persistence, spread, other = (0.99, 0.5, 1) if kind == "hard times" else (0.95, 0.1, -1)
    wave = spread * signal.lfilter([np.sqrt(1 - persistence**2)], [1, -persistence], random.normal(size=size))
    common = random.standard_t(4, size)

    def losses(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        shocks = np.exp(sizes) * (np.sqrt(0.7) * common + np.sqrt(0.3) * random.standard_t(4, size))
        error, loss = np.zeros((2, FEWER_TRIALS, origins))
        for step in range(START, START + horizon):
            error = 0.8 * error + shocks[:, step : step + origins]
            loss += np.abs(error) / horizon
        return loss

    return losses(wave) - losses(other * wave)


def share_found(differences: NDArray[np.float64], horizon: int) -> float:
    """Returns the share of the series in which the test finds a difference."""
    return float(np.mean([diebold_mariano(row, np.zeros(len(row)), horizon) < LEVEL for row in differences]))


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "autoregressive"])
@pytest.mark.parametrize(
    ("origins", "horizon"),
    [(50, 1), (200, 1), (84, 6), (240, 6), (168, 12), (240, 12), (336, 24), (960, 24), (672, 48), (960, 48)],
)
def test_it_takes_luck_for_skill_about_as_often_as_its_level_says(kind: str, origins: int, horizon: int) -> None:
    assert origins >= least_origins(horizon)

    found = share_found(simulated(kind, origins, horizon), horizon)

    assert 0.03 < found < 0.07


@pytest.mark.parametrize(
    ("kind", "origins", "horizon"),
    [
        ("hard times", 50, 1),
        ("hard times", 400, 1),
        ("hard times", 84, 6),
        ("hard times", 336, 24),
        ("turns", 1500, 1),
        ("turns", 1200, 6),
    ],
)
def test_it_keeps_its_level_on_errors_of_forecasters_in_hard_times_and_in_turns(
    kind: str, origins: int, horizon: int
) -> None:
    found = share_found(losses_of_two(kind, origins, horizon), horizon)

    assert 0.02 < found < 0.07


@pytest.mark.parametrize(("origins", "horizon", "least"), [(50, 1, 0.5), (240, 12, 0.6), (960, 24, 0.65)])
def test_it_finds_most_differences_of_three_standard_errors(origins: int, horizon: int, least: float) -> None:
    differences = simulated("normal", origins, horizon)

    found = share_found(differences + 2.8 * differences.mean(axis=1).std(), horizon)

    assert found > least  # a test that knew the variance would find 0.8 of them


@pytest.mark.parametrize("horizon", [1, 3, 4, 12, 48])
def test_too_few_origins_are_not_tested(horizon: int) -> None:
    losses = np.arange(1.0, least_origins(horizon) + 1) ** 0.1

    assert diebold_mariano(losses, 0 * losses, horizon) < 0.05
    assert diebold_mariano(losses[1:], 0 * losses[1:], horizon) == 1


def test_a_few_weeks_of_days_are_enough_one_step_ahead() -> None:
    assert least_origins(1) == 50
    assert least_origins(12) == 168


@pytest.mark.parametrize(("origins", "horizon", "cosines"), [(50, 1, 4), (200, 1, 8), (168, 12, 4), (240, 12, 6)])
def test_it_is_a_regression_on_a_constant_and_slow_cosines(origins: int, horizon: int, cosines: int) -> None:
    # The sum of squares that the cosines explain stands in for the residuals.
    differences = simulated("normal", origins, horizon)[0] + 0.1
    time = (np.arange(origins) + 0.5) / origins
    waves = np.stack([np.cos(np.pi * number * time) for number in range(1, cosines + 1)], axis=1)
    explained = OLS(differences, np.column_stack([np.ones(origins), waves])).fit().ess
    statistic = differences.mean() / np.sqrt(explained / cosines / origins)

    p = diebold_mariano(10 + differences, np.full(origins, 10.0), horizon)

    assert p == pytest.approx(2 * stats.t.sf(abs(statistic), cosines))


@given(st.integers(1, 120), st.integers(1, 5), st.data())
def test_p_is_a_probability_and_the_same_from_both_sides(origins: int, horizon: int, data: st.DataObject) -> None:
    losses, others = (data.draw(arrays(np.float64, origins, elements=st.floats(0, 1e6))) for _ in range(2))

    p = diebold_mariano(losses, others, horizon)

    assert 0 <= p <= 1
    assert diebold_mariano(others, losses, horizon) == pytest.approx(p)


@pytest.mark.parametrize(
    ("losses", "others", "p"),
    [
        ([1, 2, 3, 4] * 20, [1, 2, 3, 4] * 20, 1),  # the same forecasts
        ([1, 2, 3, 4] * 20, [4, 3, 2, 1] * 20, 1),  # the same mean
        ([1], [2], 1),  # one origin
        ([1, 2, 3, 4] * 20, [2, 3, 4, 5] * 20, 0),  # always worse by as much
    ],
)
def test_edges(losses: list[float], others: list[float], p: float) -> None:
    assert diebold_mariano(np.array(losses, float), np.array(others, float), horizon=1) == p
