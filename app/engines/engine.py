"""What an engine is, whatever it computes with."""

from typing import Literal, Protocol, TypeAlias

from app.arrays import Array

EngineName: TypeAlias = Literal["auto", "onnx", "tensorflow"]


class Engine(Protocol):
    """A loaded model version that turns windows into forecasts. One thread at a time may use it."""

    remark: str
    """How it computes, and why, in a few words for metadata and the log."""

    @property
    def name(self) -> str:
        """`onnx` or `tensorflow`."""

    @property
    def is_steady(self) -> bool:
        """Whether a call takes as long for any windows as for others: one that was short will be short again."""

    def warm_up(self) -> None:
        """Does everything that would make the first requests slow. Must be called once, before `predict`.

        Raises:
            ArtifactError: The model cannot compute a forecast.
        """

    def predict(self, windows: Array) -> Array:
        """Forecasts a batch of any size from 1.

        Args:
            windows: Shape (batch, steps, features), raw units.

        Returns:
            Shape (batch, horizon, targets), raw units.
        """
