"""BentoML: a service of one worker; with BATCHED in the environment it puts requests together."""

import os
from typing import Any

import bentoml
import numpy as np

BATCHING: dict[str, Any] = {"batchable": True, "max_batch_size": 32} if "BATCHED" in os.environ else {}


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Forecaster:
    """Takes windows, and gives forecasts, as an array."""

    def __init__(self) -> None:
        from benchmarks.peers.kernel import forecast

        self._forecast = forecast

    @bentoml.api(**BATCHING)
    def predict(self, windows: np.ndarray) -> np.ndarray:
        """(batch, steps, features) -> (batch, horizon, targets)."""
        return np.asarray(self._forecast(windows))
