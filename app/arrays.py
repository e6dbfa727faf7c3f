"""The arrays of the service, and what a model takes: float32, but for times, which float32 could not count."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]

Times: TypeAlias = NDArray[np.int64]
"""Numbers of rows on the grid of a frequency; see `app.version.grid`."""

FLOAT32_MAX = float(np.nextafter(2.0**128 - 2.0**103, 0))
"""The largest number that is finite once it is rounded to float32."""


class Inputs:
    """What a model takes for a batch: windows and, where its contract says so, what is known of the rows to forecast.

    Attributes:
        windows: Shape (batch, steps, features), raw units.
        future: Shape (batch, horizon, known), raw units: values of the rows to forecast; None if the model takes none.
        time: Shape (batch,): the number of the first row to forecast; None if the model takes no time.
    """

    __slots__ = ("future", "time", "windows")

    def __init__(self, windows: Array, future: Array | None = None, time: Times | None = None) -> None:
        self.windows = windows
        self.future = future
        self.time = time

    def __len__(self) -> int:
        """Returns the size of the batch."""
        return len(self.windows)

    def __getitem__(self, entries: slice) -> "Inputs":
        """Returns some entries of the batch, over the same memory."""
        return self.map(lambda array: array[entries])

    def map(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> "Inputs":
        """Returns the inputs with a change in each array."""
        future, time = self.future, self.time
        return Inputs(
            change(self.windows),
            None if future is None else change(future),
            None if time is None else change(time),
        )

    def named(self) -> dict[str, NDArray[Any]]:
        """Returns the arrays by the names that they have in a signature."""
        arrays: dict[str, NDArray[Any]] = {"windows": self.windows}
        if self.future is not None:
            arrays["future"] = self.future
        if self.time is not None:
            arrays["time"] = self.time
        return arrays


def concatenate(parts: Sequence[Inputs]) -> Inputs:
    """Puts batches for one model together, one after another."""
    return Inputs(
        np.concatenate([part.windows for part in parts]),
        _joined([part.future for part in parts]),
        _joined([part.time for part in parts]),
    )


def _joined(arrays: list[Any]) -> Any:
    """Joins arrays, which are there for all batches of a model or for none."""
    return None if arrays[0] is None else np.concatenate(arrays)


def to_float32(numbers: NDArray[Any]) -> Array | None:
    """Rounds numbers to float32.

    Args:
        numbers: At least one number, in any shape.

    Returns:
        The same shape; None if a number is not finite in float32.
    """
    largest = float(np.maximum.reduce(np.abs(numbers), axis=None))
    return numbers.astype(np.float32) if largest <= FLOAT32_MAX else None  # NaN compares false
