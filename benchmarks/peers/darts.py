"""Darts: BlockRNN with LSTM cells and NLinear, fitted to the training part and stopped by the validation part."""

from typing import Any

import numpy as np

from benchmarks.peers.forecasting import Array, Order, answer

MOST_EPOCHS = 300
PATIENCE = 20
"""Epochs without a lower validation loss after which the fit stops."""


def forecast(order: Order) -> Array:
    """Fits once, and forecasts from every origin by the window before it. Rows are scaled by the training part."""
    from darts import TimeSeries
    from pytorch_lightning import seed_everything

    seed_everything(0)
    _, values = order.rows()
    training = values[: order.validation]
    centre, spread = training.mean(), training.std() or 1.0
    scaled = ((values - centre) / spread).astype(np.float32)
    # Validation windows may reach back, as the windows of all others do.
    judged = scaled[order.validation - order.window : order.test]
    model = _model(order)
    model.fit(
        TimeSeries.from_values(scaled[: order.validation]), val_series=TimeSeries.from_values(judged), verbose=False
    )
    windows = [TimeSeries.from_values(window) for window in order.windows(scaled)]
    told = model.predict(order.horizon, series=windows, verbose=False, show_warnings=False)
    return np.asarray(np.stack([series.values()[:, 0] for series in told]) * spread + centre)


def _model(order: Order) -> Any:
    from darts.models import BlockRNNModel, NLinearModel
    from pytorch_lightning.callbacks import EarlyStopping

    from benchmarks.peers.cpu_limit import trainer_settings

    shared: dict[str, Any] = {
        "input_chunk_length": order.window,
        "output_chunk_length": order.horizon,
        "n_epochs": MOST_EPOCHS,
        "random_state": 0,
        "pl_trainer_kwargs": trainer_settings(order, EarlyStopping("val_loss", patience=PATIENCE)),
    }
    if order.method == "NLinear":
        return NLinearModel(**shared)
    return BlockRNNModel(model="LSTM", hidden_dim=64, n_rnn_layers=2, dropout=0.1, **shared)


if __name__ == "__main__":
    answer({"BlockRNN": forecast, "NLinear": forecast})
