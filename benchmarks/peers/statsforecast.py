"""statsforecast: AutoETS, Theta and MSTL, fitted once before the test part and then carried on with the new rows."""

from typing import Any

import numpy as np

from benchmarks.peers.forecasting import Array, Order, answer

LEAST_ROWS = 1000
SEASONS = 4
"""The latest rows that are read, in the longest season: older rows cost time and change little."""
LONGEST_SEASON = 200
"""Of MSTL, which takes a CPU second for each origin to decompose a season of 365 rows."""


def forecast(order: Order) -> Array:
    """Fits once on training and validation, and forecasts from every origin by the rows before it."""
    _, values = order.rows()
    read = max(LEAST_ROWS, order.window, *(SEASONS * season for season in _short_seasons(order)))
    model = _model(order)
    model.fit(y=values[max(0, order.test - read) : order.test])
    told = [model.forward(y=values[max(0, o - read) : o], h=order.horizon)["mean"] for o in order.origins]
    return np.stack(told)


def _model(order: Order) -> Any:
    from statsforecast.models import MSTL, AutoETS, Theta

    seasons = _short_seasons(order)
    if order.method != "MSTL":
        return {"AutoETS": AutoETS, "Theta": Theta}[order.method](season_length=seasons[0] if seasons else 1)
    trend = AutoETS(model="ZZN")  # without a season
    return MSTL(season_length=seasons, trend_forecaster=trend) if seasons else trend


def _short_seasons(order: Order) -> list[int]:
    """Returns the seasons that are seen twice at least and are not too long to decompose."""
    return [season for season in order.seasons if season <= min(LONGEST_SEASON, order.test // 2)]


if __name__ == "__main__":
    answer({"AutoETS": forecast, "Theta": forecast, "MSTL": forecast})
