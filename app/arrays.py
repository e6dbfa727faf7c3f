"""The arrays of the service: float32, and the largest number that float32 holds."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]

FLOAT32_MAX = float(np.nextafter(2.0**128 - 2.0**103, 0))
"""The largest number that is finite once it is rounded to float32."""


def to_float32(numbers: NDArray[Any]) -> Array | None:
    """Rounds numbers to float32.

    Args:
        numbers: At least one number, in any shape.

    Returns:
        The same shape; None if a number is not finite in float32.
    """
    largest = float(np.maximum.reduce(np.abs(numbers), axis=None))
    return numbers.astype(np.float32) if largest <= FLOAT32_MAX else None  # NaN compares false
