"""BentoML: a service of one worker."""

from typing import Any

import bentoml


@bentoml.service(workers=1, traffic={"timeout": 30}, logging={"access": {"enabled": False}})
class Forecaster:
    """Takes windows as nested lists."""

    def __init__(self) -> None:
        from benchmarks.peers.kernel import forecast

        self._forecast = forecast

    @bentoml.api
    def predict(self, windows: list[list[list[float]]]) -> Any:
        """Forecasts as nested lists."""
        return self._forecast(windows).tolist()
