"""The Diebold-Mariano test: right about luck, and never lost for an answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.sandwich_covariance import weights_bartlett, weights_uniform

from training.judging.significance import diebold_mariano, least_origins

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


@pytest.mark.parametrize(("horizon", "origins"), [(1, 60), (2, 7), (5, 60), (5, 300), (12, 24)])
def test_it_is_a_regression_on_a_constant_with_robust_errors_and_the_small_sample_correction(
    horizon: int, origins: int
) -> None:
    random = np.random.default_rng(horizon)
    differences = np.convolve(random.normal(0.3, 1, origins + horizon - 1), np.ones(horizon), "valid")
    regression = OLS(differences, np.ones(origins))
    variances = [
        regression.fit(
            cov_type="HAC", cov_kwds={"maxlags": horizon - 1, "use_correction": False, "weights_func": weights}
        ).cov_params()[0, 0]
        for weights in (weights_uniform, weights_bartlett)
    ]
    corrected = (
        differences.mean()
        / np.sqrt(max(variances))
        * np.sqrt((origins + 1 - 2 * horizon + horizon * (horizon - 1) / origins) / origins)
    )

    p = diebold_mariano(10 + differences, np.full(origins, 10.0), horizon)

    assert p == pytest.approx(2 * stats.t.sf(abs(corrected), origins - 1))


@pytest.mark.parametrize("horizon", [1, 3])
def test_too_few_origins_are_not_tested(horizon: int) -> None:
    losses = np.arange(1.0, least_origins(horizon) + 1)

    assert diebold_mariano(losses, 0 * losses, horizon) < 0.5
    assert diebold_mariano(losses[1:], 0 * losses[1:], horizon) == 1


def test_it_calls_luck_a_difference_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    horizon, trials = 4, 2000
    shocks = random.normal(size=(trials, 200 + horizon))
    overlapping = np.stack([np.convolve(row, np.ones(horizon), "valid") for row in shocks])

    found = sum(diebold_mariano(row, np.zeros(len(row)), horizon) < 0.05 for row in overlapping)
    careless = sum(diebold_mariano(row, np.zeros(len(row)), 1) < 0.05 for row in overlapping)

    assert found / trials < 0.08  # with Bartlett's weights alone it would be 0.1
    assert careless / trials > 0.25


@pytest.mark.parametrize(
    ("losses", "others", "horizon", "p"),
    [
        ([1, 2, 3], [1, 2, 3], 1, 1),  # the same forecasts
        ([1, 2, 3], [3, 2, 1], 1, 1),  # the same mean
        ([1], [2], 1, 1),  # one origin
        ([1, 2, 3], [2, 3, 4], 1, 0),  # always worse by as much
    ],
)
def test_edges(losses: list[float], others: list[float], horizon: int, p: float) -> None:
    assert diebold_mariano(np.array(losses, float), np.array(others, float), horizon) == p
