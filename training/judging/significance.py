"""Was one forecaster better than another, or only luckier?"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""A difference counts if luck alone would make it as large less often than this."""


def least_origins(horizon: int) -> int:
    """Returns the least number of forecasts that are tested: fewer overlap too much to tell skill from luck."""
    return 2 * horizon


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> float:
    """Returns the probability of a difference in mean loss at least this large, if neither forecaster were better.

    The test of Diebold and Mariano (1995, Journal of Business & Economic Statistics 13, 253-263), two-sided, with the
    correction for small samples and the t distribution of Harvey, Leybourne and Newbold (1997, International Journal
    of Forecasting 13, 281-291). Forecasts of `horizon` steps overlap, so differences up to horizon - 1 origins apart
    are correlated. Their covariances enter in full, as in both papers, or with Bartlett's weights (Newey and West 1987,
    Econometrica 55, 703-708), whichever makes the variance larger: in full the variance may be negative; weighted it is
    a third too small, and takes luck for skill twice as often as `LEVEL` allows.

    Args:
        losses: (origins,) losses of one forecaster, in time order.
        others: (origins,) losses of the other forecaster, from the same origins.
        horizon: Steps of each forecast.

    Returns:
        p, from 0 to 1: 1 if the means are equal or there are fewer than `least_origins`, 0 if the losses differ by the
        same amount everywhere.
    """
    differences = losses - others
    origins, mean = len(differences), float(differences.mean())
    correction = (origins + 1 - 2 * horizon + horizon * (horizon - 1) / origins) / origins
    if mean == 0 or origins < least_origins(horizon):
        return 1.0
    centred = differences - mean
    lags = np.arange(1, horizon)
    square = float(centred @ centred) / origins
    covariances = np.array([centred[lag:] @ centred[:-lag] for lag in lags]) / origins
    variance = (square + 2 * max(float(covariances.sum()), float((1 - lags / horizon) @ covariances))) / origins
    if variance <= (np.finfo(np.float64).eps * mean) ** 2:
        return 0.0
    statistic = mean / math.sqrt(variance) * math.sqrt(correction)
    return float(2 * stats.t.sf(abs(statistic), df=origins - 1))
