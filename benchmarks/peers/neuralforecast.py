"""NeuralForecast: LSTM and NHITS, fitted to the training part and stopped by the validation part.

Both scale each window by its median and its spread, as NeuralForecast does for its own LSTM unless told otherwise.
"""

from typing import Any

import numpy as np

from benchmarks.peers.forecasting import Array, Order, answer

MOST_STEPS = 2000
CHECK_STEPS = 50
PATIENCE = 5
"""Checks without a lower validation loss after which the fit stops."""


def forecast(order: Order) -> Array:
    """Fits once, and forecasts from every origin by the window before it."""
    import pandas as pd
    from neuralforecast import NeuralForecast

    _, values = order.rows()
    network = NeuralForecast(models=[_model(order)], freq=1)
    known = pd.DataFrame({"unique_id": 0, "ds": np.arange(order.test), "y": values[: order.test]})
    network.fit(known, val_size=order.test - order.validation)
    # One series for each origin, because that is how NeuralForecast forecasts many origins with one fit.
    count, steps = len(order.origins), order.window
    ids, places = np.repeat(np.arange(count), steps), np.tile(np.arange(steps), count)
    windows = pd.DataFrame({"unique_id": ids, "ds": places, "y": order.windows(values).ravel()})
    told = network.predict(windows).sort_values(["unique_id", "ds"])
    return np.asarray(told[order.method].to_numpy().reshape(count, order.horizon))


def _model(order: Order) -> Any:
    from neuralforecast.models import LSTM, NHITS

    from benchmarks.peers.cpu_limit import trainer_settings

    make = {"LSTM": LSTM, "NHITS": NHITS}[order.method]
    return make(
        h=order.horizon,
        input_size=order.window,
        scaler_type="robust",
        max_steps=MOST_STEPS,
        val_check_steps=CHECK_STEPS,
        early_stop_patience_steps=PATIENCE,
        random_seed=0,
        alias=order.method,
        **trainer_settings(order),
    )


if __name__ == "__main__":
    answer({"LSTM": forecast, "NHITS": forecast})
