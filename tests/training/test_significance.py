"""The Diebold-Mariano test: right about luck, and never lost for an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from training.significance import diebold_mariano

LOSSES = arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1e6))


@given(LOSSES, st.integers(1, 10), st.data())
def test_p_is_a_probability_and_the_same_from_both_sides(losses: np.ndarray, horizon: int, data: st.DataObject) -> None:
    others = data.draw(arrays(np.float64, len(losses), elements=st.floats(0, 1e6)))

    p = diebold_mariano(losses, others, horizon)

    assert 0 <= p <= 1
    assert diebold_mariano(others, losses, horizon) == pytest.approx(p)


def test_one_row_ahead_it_is_the_paired_t_test() -> None:
    # The correction turns the variance over n into that over n - 1.
    random = np.random.default_rng(0)
    losses, others = random.exponential(1, 50), random.exponential(1.2, 50)

    assert diebold_mariano(losses, others, 1) == pytest.approx(stats.ttest_rel(losses, others).pvalue)


def test_it_calls_luck_a_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    horizon, trials = 4, 2000
    shocks = random.normal(size=(trials, 200 + horizon))
    overlapping = np.stack([np.convolve(row, np.ones(horizon), "valid") for row in shocks])

    found = sum(diebold_mariano(row, np.zeros(len(row)), horizon) < 0.05 for row in overlapping)
    careless = sum(diebold_mariano(row, np.zeros(len(row)), 1) < 0.05 for row in overlapping)

    assert found / trials < 0.15  # Bartlett's weights forgive a little
    assert careless / trials > 0.25


@pytest.mark.parametrize(
    ("losses", "others", "horizon", "p"),
    [
        ([1, 2, 3], [1, 2, 3], 1, 1),  # the same forecasts
        ([1, 2, 3], [3, 2, 1], 1, 1),  # the same mean
        ([1], [2], 1, 1),  # one origin
        ([1, 1, 1, 1], [2, 3, 2, 3], 3, 1),  # fewer than two horizons of origins
        ([1, 2, 3], [2, 3, 4], 1, 0),  # always worse by as much
    ],
)
def test_edges(losses: list[float], others: list[float], horizon: int, p: float) -> None:
    assert diebold_mariano(np.array(losses, float), np.array(others, float), horizon) == p
