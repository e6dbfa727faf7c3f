"""LightGBM with lags and calendar: one model for all steps of the horizon, told which step is meant.

It learns the difference from the last row, and also from the last row a season ago, and keeps what validates better:
trees cannot continue a trend or a level that they have not seen.
"""

from datetime import datetime
from typing import Any

import numpy as np

from benchmarks.peers.forecasting import Array, Order, answer

MOST_LAGS = 200
"""Most rows of the window that are given as columns."""
MOST_EXAMPLES = 300_000
"""Most pairs of an origin and a step that are learnt from; origins are left out evenly to keep to it."""
MOST_ROUNDS = 2000
PATIENCE = 50
"""Trees without a lower validation error after which the fit stops."""
PARAMETERS = {
    "objective": "l1",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 20,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "seed": 0,
    "num_threads": 1,
    "verbosity": -1,
}


def forecast(order: Order) -> Array:
    """Fits for each way to count, and forecasts from every origin with the one that validates best."""
    times, values = order.rows()
    calendar = calendar_of(times)
    fits = [_fit(order, values, calendar, season) for season in (0, *order.seasons)]
    _, best, season = min(fits, key=lambda fit: fit[0])
    columns, base = examples(order, values, calendar, np.array(order.origins), season)
    return np.asarray((best.predict(columns) + base).reshape(-1, order.horizon))


def _fit(order: Order, values: Array, calendar: Array, season: int) -> tuple[float, Any, int]:
    """Returns the validation error, the model, and the season that it counts from."""
    import lightgbm

    first = max(order.window, *order.seasons) if order.seasons else order.window
    training = np.arange(first, order.validation - order.horizon + 1)
    training = training[:: 1 + len(training) * order.horizon // MOST_EXAMPLES]
    judged = np.arange(order.validation, order.test - order.horizon + 1)
    sets = []
    for origins in (training, judged):
        columns, base = examples(order, values, calendar, origins, season)
        sets.append(lightgbm.Dataset(columns, _following(values, origins, order.horizon) - base))
    end = order.cpu_seconds * (1 + (0, *order.seasons).index(season)) / (1 + len(order.seasons))
    stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
    model = lightgbm.train(PARAMETERS, sets[0], MOST_ROUNDS, [sets[1]], callbacks=[stopping, _limit(end)])
    return model.best_score["valid_0"]["l1"], model, season


def _limit(end: float) -> Any:
    """Returns a callback that stops a fit when this process has used so many CPU seconds."""
    import time

    import lightgbm

    def stop(environment: Any) -> None:
        if time.process_time() > end:
            raise lightgbm.callback.EarlyStopException(environment.iteration, environment.evaluation_result_list)

    return stop


def examples(order: Order, values: Array, calendar: Array, origins: Array, season: int) -> tuple[Array, Array]:
    """Returns the columns (origins x horizon, columns), and the values (origins x horizon,) that are counted from.

    The columns are the lags, the step, the same row in each season before, and the calendar of the forecast row. All
    values are counted from the last row, or from the same row a season ago.
    """
    steps = np.arange(order.horizon)
    rows = origins[:, None] + steps  # (origins, horizon)
    last = np.broadcast_to(values[origins - 1][:, None], rows.shape)
    seasonal = [values[rows - length * (1 + steps // length)] for length in order.seasons]
    base = seasonal[order.seasons.index(season)] if season else last
    lags = np.lib.stride_tricks.sliding_window_view(values, min(order.window, MOST_LAGS))
    lags = lags[origins - lags.shape[1]] - values[origins - 1][:, None]
    columns = [
        np.repeat(lags, order.horizon, axis=0),
        np.broadcast_to(steps, rows.shape).reshape(-1, 1),
        *((before - last).reshape(-1, 1) for before in seasonal),
        calendar[rows].reshape(rows.size, -1),
    ]
    return np.concatenate(columns, axis=1).astype(np.float32), base.ravel()


def calendar_of(times: list[str]) -> Array:
    """Returns (rows, columns): hour, weekday, day, month and day of the year; no columns where times are numbers."""
    if not any("-" in time[1:] for time in times[:1]):
        return np.empty((len(times), 0))
    read = [datetime.fromisoformat(time) for time in times]
    return np.array([[t.hour + t.minute / 60, t.weekday(), t.day, t.month, t.timetuple().tm_yday] for t in read])


def _following(values: Array, origins: Array, horizon: int) -> Array:
    return np.asarray(values[origins[:, None] + np.arange(horizon)].ravel())


if __name__ == "__main__":
    answer({"LightGBM": forecast})
