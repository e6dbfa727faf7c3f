"""statsforecast: AutoETS, Theta and MSTL, fitted once before the test part and then carried on with the new rows."""

from typing import Any

import numpy as np

from benchmarks.peers.forecasting import Array, Order, answer

LEAST_ROWS = 1000
SEASONS = 4
"""The latest rows that are read, in the longest season: older rows cost time and change little."""


def forecast(order: Order) -> Array:
    """Fits once on training and validation, and forecasts from every origin by the rows before it."""
    _, values = order.rows()
    read = max(LEAST_ROWS, order.window, *(SEASONS * season for season in order.seasons))
    model = _model(order)
    model.fit(y=values[max(0, order.test - read) : order.test])
    told = [model.forward(y=values[max(0, o - read) : o], h=order.horizon)["mean"] for o in order.origins]
    return np.stack(told)


def _model(order: Order) -> Any:
    from statsforecast.models import MSTL, AutoETS, Theta

    shortest = order.seasons[0] if order.seasons else 1
    if order.method == "MSTL":
        # A season that is seen less than twice cannot be told from the trend.
        fitting = [season for season in order.seasons if 2 * season < order.test]
        return MSTL(season_length=fitting or [1], trend_forecaster=AutoETS(model="ZZN"))
    return {"AutoETS": AutoETS, "Theta": Theta}[order.method](season_length=shortest)


if __name__ == "__main__":
    answer({"AutoETS": forecast, "Theta": forecast, "MSTL": forecast})
