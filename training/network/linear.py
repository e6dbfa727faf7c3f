"""Linear maps of a window: every simple forecaster is one, and the network's linear path starts from one."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.data.windows import Part, chunks

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """A forecaster that counts rows from a row of reference and multiplies them by weights.

    forecast = reference of the targets + (rows - reference) * weights + bias, all in raw units.

    Attributes:
        name: Its name in scores and verdicts.
        weights: (rows * columns, horizon * targets).
        bias: (horizon * targets,).
        selection: (columns, targets): 1 where the target is the column, else 0.
        centre: (columns,) the reference; None for the last row.
        sees: What the rows are: the features in the window, or in a longer window than the model's, or the targets' own
            past. No client sends the last two.
    """

    name: str
    weights: Matrix
    bias: Matrix
    selection: Array
    centre: Array | None = None
    sees: Literal["window", "longer window", "history"] = "window"

    @property
    def is_publishable(self) -> bool:
        """Whether a window is all that the forecaster needs."""
        return self.sees == "window"

    def forecast(self, part: Part) -> Array:
        """Forecasts every window of a part: (n, horizon, targets), raw units."""
        rows = len(self.weights) // len(self.selection)
        source = part.history[:, -rows:] if self.sees == "history" else part.windows
        shape = part.targets.shape[1:]
        pieces = [self._apply(source[chunk], shape) for chunk in chunks(source, part.targets)]
        return np.concatenate(pieces).astype(np.float32)

    def _apply(self, rows: Array, shape: tuple[int, ...]) -> Matrix:
        reference = (rows[:, -1:] if self.centre is None else self.centre[None, None]).astype(np.float64)
        distances = (rows - reference).reshape(len(rows), -1)
        return (distances @ self.weights + self.bias).reshape(-1, *shape) + reference @ self.selection
