"""Was one forecaster better than another, or only luckier?"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft, special

LEVEL = 0.05
"""A difference counts if luck alone would make it as large less often than this."""

LEAST_ORIGINS = 50
"""With fewer forecasts the test takes luck for skill in up to 8 % of the series whose losses depend on earlier ones."""

LEAST_HORIZONS = 14
"""With fewer horizons of origins the test has at most 4 degrees of freedom and finds only large differences."""

MOST_COSINES = 8
"""More cosines would find a few more differences, and miss the luck of a forecaster that is better for days on end."""


def least_origins(horizon: int) -> int:
    """Returns the least number of forecasts that are tested: fewer cannot tell skill from luck."""
    return max(LEAST_ORIGINS, LEAST_HORIZONS * horizon)


def diebold_mariano(losses: NDArray[np.float64], others: NDArray[np.float64], horizon: int) -> float:
    """Returns the probability of a difference in mean loss at least this large, if neither forecaster were better.

    The test of Diebold and Mariano (1995, Journal of Business & Economic Statistics 13, 253-263), two-sided, with the
    variance and the t distribution of Lazarus, Lewis, Stock and Watson (2018, Journal of Business & Economic
    Statistics 36, 541-559, "equal-weighted cosine"). Forecasts of `horizon` steps overlap, so neighbouring differences
    share their luck, and the mean varies as much as the slow waves in the differences. Slow cosines are fitted to the
    differences; the variance of the mean is the mean square of their coefficients, over the number of origins. The mean
    over its standard error follows the t distribution with a degree of freedom for each cosine, in small samples too.

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
    if mean == 0 or origins < least_origins(horizon):
        return 1.0
    count = _cosines(origins, horizon)
    fitted = fft.dct(differences - mean, norm="ortho")[1 : count + 1]
    error = math.sqrt(np.square(fitted).mean() / origins)
    if error <= np.finfo(np.float64).eps * abs(mean):
        return 0.0
    return float(2 * special.stdtr(count, -abs(mean) / error))


def _cosines(origins: int, horizon: int) -> int:
    """Returns how many cosines are fitted: half a wave over all origins, a whole wave, one and a half ...

    There are 0.3 for each of the origins / horizon forecasts that do not overlap, because faster cosines miss the luck
    that neighbours share. Losses may depend on earlier ones beyond the overlap too, so there are at most
    0.3 origins^(2/3) and `MOST_COSINES`. Lazarus and others take 0.4 and no limit. In simulations without a difference
    the test then fires in up to 10 % of the series, and here in up to 7 % (docs/decisions/0012-baselines-and-verdict.md
    and 0020-theta-ets-and-few-cosines.md).
    """
    return int(min(MOST_COSINES, 0.3 * origins ** (2 / 3), 0.3 * origins / horizon))
