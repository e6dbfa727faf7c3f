"""Stops a fit of PyTorch Lightning when its CPU time is used up."""

from typing import Any

from pytorch_lightning import Callback, Trainer

from benchmarks.peers.forecasting import Order


class CpuLimit(Callback):
    """Stops the fit after the batch in which the order's CPU time has run out."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Ends the fit as early stopping would."""
        if self._order.is_out_of_time:
            trainer.should_stop = True


def trainer_settings(order: Order, *callbacks: Callback) -> dict[str, Any]:
    """Returns the settings of a trainer that computes on the CPU, writes nothing, and keeps to the CPU time."""
    return {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [CpuLimit(order), *callbacks],
    }
