"""LitServe: `python -m benchmarks.peers.litserve_api PORT`; with BATCHED set it puts requests together."""

import os
import sys
from typing import Any

import litserve
import numpy as np

MAX_BATCH_SIZE = 32
BATCH_SECONDS = 0.002


class Forecaster(litserve.LitAPI):
    """Takes windows of one request; several requests become one batch if it is told to batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Loads the kernel in the worker."""
        from benchmarks.peers.kernel import forecast

        self._forecast = forecast

    def decode_request(self, request: dict[str, Any]) -> Any:
        """(batch, steps, features)."""
        return np.array(request["windows"], np.float32)

    def batch(self, inputs: list[Any]) -> tuple[Any, list[int]]:
        """Puts the windows of several requests together."""
        return np.concatenate(inputs), [len(windows) for windows in inputs]

    def predict(self, x: Any) -> Any:
        """Forecasts a batch, of one request or of several."""
        if isinstance(x, tuple):
            windows, counts = x
            return self._forecast(windows), counts
        return self._forecast(x)

    def unbatch(self, output: tuple[Any, list[int]]) -> list[Any]:
        """Gives every request its own forecasts."""
        forecasts, counts = output
        return np.split(forecasts, np.cumsum(counts)[:-1])

    def encode_response(self, output: Any) -> dict[str, Any]:
        """As nested lists."""
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    batching = {"max_batch_size": MAX_BATCH_SIZE, "batch_timeout": BATCH_SECONDS}
    options = batching if "BATCHED" in os.environ else {}
    server = litserve.LitServer(Forecaster(**options), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
