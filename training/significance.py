"""Whether one forecaster is better than another, or was only luckier."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""A difference counts where luck would bring about one as large less often than this."""


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> float:
    """The probability of a difference in mean loss at least this large, if neither forecaster were better.

    The test of Diebold and Mariano (1995, Journal of Business & Economic Statistics 13, 253-263), two-sided, with the
    correction for small samples and the t distribution of Harvey, Leybourne and Newbold (1997, International Journal
    of Forecasting 13, 281-291). Forecasts of `horizon` rows overlap, so the differences of up to horizon - 1 origins
    apart are correlated; their covariances enter with Bartlett's weights (Newey and West 1987, Econometrica 55,
    703-708), which keep the variance from becoming negative.

    Args:
        losses: (origins,) of one forecaster, in time order.
        others: (origins,) of the other, from the same origins.
        horizon: Rows that each forecast covers.

    Returns:
        p, from 0 to 1: 1 where the losses do not differ or where there are too few origins to tell, and 0 where they
        differ by the same amount everywhere.
    """
    differences = losses - others
    origins, mean = len(differences), float(differences.mean())
    correction = (origins + 1 - 2 * horizon + horizon * (horizon - 1) / origins) / origins
    if mean == 0 or origins < 2 or origins < 2 * horizon or correction <= 0:
        return 1.0
    centred = differences - mean
    lags = np.arange(horizon)
    covariances = np.array([centred[lag:] @ centred[: origins - lag] for lag in lags]) / origins
    weights = np.where(lags == 0, 1, 2 * (1 - lags / horizon))
    variance = float(weights @ covariances) / origins
    if variance <= (np.finfo(np.float64).eps * mean) ** 2:
        return 0.0
    statistic = mean / math.sqrt(variance) * math.sqrt(correction)
    return float(2 * stats.t.sf(abs(statistic), df=origins - 1))
