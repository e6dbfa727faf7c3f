"""What a network is told of the rows to forecast: the phases of the calendar, and the columns that are known ahead.

Both become one row of numbers for each window, `ahead`:

    time (batch,) -> phases                 sines and cosines of the first row's place in each cycle
    future (batch, horizon, known) -> known  scaled like the same columns of the window, flat
    ahead (batch, phases + horizon * known)

The phases of the first row say all: those of the rows after it are linear combinations of them, row by row the same.
The linear path reads `ahead` beside the window. The cells' last state and `ahead` meet in a layer of their own, so that
the cells can learn that a value means one thing at noon and another at night.

Phases are computed in the graph from whole numbers: no server can compute them otherwise, and float32 counts no rows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.arrays import Inputs
from app.version.manifest import Contract, Phase
from training.data.windows import Dataset

HARMONICS = 4
"""Most waves of a cycle whose phases are given: one wave in a cycle, two, three ... A day of a load has two peaks."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a network is told of the rows to forecast.

    Attributes:
        calendar: Cycles whose phases it is given.
        known: Places, among the features, of the columns that are known ahead.
    """

    calendar: tuple[Phase, ...] = ()
    known: tuple[int, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """Returns what the networks of a data set are told."""
        return cls(dataset.calendar, dataset.rows.known if dataset.rows else ())

    @classmethod
    def by(cls, contract: Contract) -> Self:
        """Returns what the network behind a contract is told."""
        return cls(contract.calendar, tuple(contract.feature_names.index(name) for name in contract.known))

    def size(self, horizon: int) -> int:
        """Returns how many numbers that is for each window."""
        return sum(2 * harmonics_of(phase) for phase in self.calendar) + horizon * len(self.known)

    def compute(self, inputs: Inputs, centre: Any, spread: Any) -> Array:
        """Computes the numbers outside of a graph.

        Args:
            inputs: What a model takes.
            centre: Centre of the windows, (batch or 1, 1, features).
            spread: Spread of the windows, in the same shape.

        Returns:
            Shape (batch, numbers).
        """
        parts = [np.empty((len(inputs), 0), np.float32)]
        if inputs.time is not None:
            parts.append(np.asarray(Phases(self.calendar)(inputs.time)))
        if inputs.future is not None:
            parts.append(np.asarray(Known(self.known)(inputs.future, np.asarray(centre), np.asarray(spread))))
        return np.concatenate(parts, axis=1)


WINDOWS_ALONE = Ahead()
"""What a network is told that takes windows alone: nothing."""


def harmonics_of(phase: Phase) -> int:
    """Returns how many waves of a cycle are given: no more than its rows can tell apart."""
    return max(1, min(HARMONICS, (phase.rows // phase.per) // 2))


@keras.saving.register_keras_serializable(package="windowcast")
class Phases(keras.layers.Layer):  # type: ignore[misc]
    """Computes the phases of rows: (batch,) int64 -> (batch, phases), from -1 to 1.

    Args:
        calendar: The cycles, as records or as their dictionaries.
    """

    def __init__(self, calendar: Sequence[Phase | dict[str, Any]], **options: Any) -> None:
        super().__init__(**options)
        self.calendar = tuple(Phase.model_validate(phase) for phase in calendar)

    def call(self, time: Any) -> Any:
        """Returns the phases, cycle after cycle: the sines of its waves, then their cosines."""
        return ops.concatenate([wave for phase in self.calendar for wave in self._waves(time, phase)], axis=-1)

    def _waves(self, time: Any, phase: Phase) -> tuple[Any, Any]:
        # Remainders come before products, which could otherwise exceed an int64, and before float32, which rounds.
        place = ops.expand_dims(ops.mod(time, phase.rows), -1)
        places = ops.mod(place * paces_of(phase), phase.rows)
        angles = ops.cast(places, "float32") * row_angle(phase)
        return ops.sin(angles), ops.cos(angles)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Returns the shape of the phases."""
        return (*shape, sum(2 * harmonics_of(phase) for phase in self.calendar))

    def get_config(self) -> dict[str, Any]:
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "calendar": [phase.model_dump() for phase in self.calendar]}


def paces_of(phase: Phase) -> NDArray[np.int64]:
    """Returns by how many places of a cycle each of its waves moves from a row to the next: (1, waves)."""
    return phase.per * np.arange(1, harmonics_of(phase) + 1)[None]


def row_angle(phase: Phase) -> np.float32:
    """Returns the angle of one place of a cycle."""
    return np.float32(2 * math.pi / phase.rows)


@keras.saving.register_keras_serializable(package="windowcast")
class Known(keras.layers.Layer):  # type: ignore[misc]
    """Scales what is known ahead like the same columns of the window, and makes it flat.

    Args:
        places: Places of the known columns among the features.
    """

    def __init__(self, places: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.places = tuple(places)

    def call(self, future: Any, centre: Any, spread: Any) -> Any:
        """Returns (batch, horizon * known), given centre and spread of the window, (batch or 1, 1, features)."""
        places = np.asarray(self.places, np.int32)
        scaled = (future - ops.take(centre, places, axis=-1)) / ops.take(spread, places, axis=-1)
        return ops.reshape(scaled, (-1, math.prod(future.shape[1:])))

    def get_config(self) -> dict[str, Any]:
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "places": list(self.places)}
