"""What every engine does, whatever library it computes with."""

from math import prod
from typing import Literal, Protocol, TypeAlias

from app.arrays import Array, Inputs
from app.version.manifest import Contract

EngineName: TypeAlias = Literal["auto", "onnx", "tensorflow"]

MAX_CALL_NUMBERS = 2**24
"""Most numbers of windows, and of forecasts, that are prepared for in one call: 64 MiB of each."""


def call_windows(contract: Contract, largest: int) -> int:
    """Returns the most windows in one call of an engine: `largest`, or fewer if the windows or the forecasts are large.

    Larger batches are computed in pieces.
    """
    numbers = max(prod(contract.window_shape), prod(contract.forecast_shape), prod(contract.future_shape))
    return min(largest, MAX_CALL_NUMBERS // numbers)


def check_forecasts(forecasts: Array, windows: int, contract: Contract) -> Array:
    """Checks that a model has answered with one forecast per window, and returns the forecasts.

    A model's signature may promise a shape that its operators do not keep for every input.

    Raises:
        ValueError: The forecasts have another shape.
    """
    shape = (windows, *contract.forecast_shape)
    if forecasts.shape != shape:
        raise ValueError(f"the model answered with shape {forecasts.shape}, but the contract needs {shape}")
    return forecasts


class Engine(Protocol):
    """A loaded version that turns inputs into forecasts. Only one thread at a time may use it."""

    remark: str
    """How the engine computes, and why, in a few words for metadata and the log."""

    @property
    def name(self) -> str:
        """`onnx` or `tensorflow`."""

    @property
    def is_steady(self) -> bool:
        """Whether the time of a call depends only on the number of windows, so that a short call stays short."""

    def warm_up(self) -> None:
        """Does the work that would make the first requests slow. Must be called once, before `predict`.

        Raises:
            ArtifactError: The model cannot compute a forecast.
        """

    def predict(self, inputs: Inputs) -> Array:
        """Forecasts a batch of any size from 1.

        Args:
            inputs: What the contract says that the version takes, in raw units.

        Returns:
            Shape (batch, horizon, targets), raw units.

        Raises:
            Exception: The model fails on these inputs, or answers with forecasts of another shape.
        """
