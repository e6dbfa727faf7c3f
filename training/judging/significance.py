"""Whether one forecaster is better than another, or was only luckier."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05
"""A difference counts where luck would bring about one as large less often than this."""


def least_origins(horizon: int) -> int:
    """The fewest forecasts of `horizon` rows that are tested: fewer overlap too much to tell how far luck goes."""
    return 2 * horizon


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> float:
    """The probability of a difference in mean loss at least this large, if neither forecaster were better.

    The test of Diebold and Mariano (1995, Journal of Business & Economic Statistics 13, 253-263), two-sided, with the
    correction for small samples and the t distribution of Harvey, Leybourne and Newbold (1997, International Journal
    of Forecasting 13, 281-291). Forecasts of `horizon` rows overlap, so the differences of up to horizon - 1 origins
    apart are correlated. Their covariances enter in full, as in both papers, or with Bartlett's weights (Newey and West
    1987, Econometrica 55, 703-708), whichever makes the variance larger: in full it may come out negative, weighted it
    is a third too small, and calls twice as much luck skill as `LEVEL` allows.

    Args:
        losses: (origins,) of one forecaster, in time order.
        others: (origins,) of the other, from the same origins.
        horizon: Rows that each forecast covers.

    Returns:
        p, from 0 to 1: 1 where the means are the same or where there are fewer than `least_origins`, and 0 where they
        differ by the same amount everywhere.
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
