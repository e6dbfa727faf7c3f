"""MLServer: a runtime of one's own, found through MLSERVER_MODEL_IMPLEMENTATION."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Forecaster(MLModel):
    """Takes a tensor and gives one."""

    async def load(self) -> bool:
        """Loads the kernel."""
        from benchmarks.peers.kernel import forecast

        self._forecast = forecast
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Forecasts the first input."""
        forecasts = self._forecast(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("forecast", forecasts)])
