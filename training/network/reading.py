"""What each part of a network reads of a window.

Without lags the cells and the linear path read the whole window. With lags a window is longer: it reaches back to the
season before. The cells read its last steps only, and the linear path reads these steps and the targets a season before
each row of the forecast:

    window    |  .  .  A  B  .  .  .  .  .  c  d  e  f  |  forecast  a  b
                       └──┴── a lag of 13 rows before a and b

A lag that is shorter than the horizon has no value for its later rows yet. There the latest row at the same place in
the season takes its place, as in the seasonal naive forecast, so no row of the future is ever read.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from training.data.windows import Dataset

Places = NDArray[np.int64]


@keras.saving.register_keras_serializable(package="windowcast")
class Recent(keras.layers.Layer):  # type: ignore[misc]
    """Cuts the last steps out of windows: (batch, steps, features) -> (batch, recent, features).

    Args:
        steps: How many steps are left.
    """

    def __init__(self, steps: int, **options: Any) -> None:
        super().__init__(**options)
        self.steps = steps

    def call(self, windows: Any) -> Any:
        """Returns the last steps."""
        return windows[:, -self.steps :]

    def get_config(self) -> dict[str, Any]:
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package="windowcast")
class Pick(keras.layers.Layer):  # type: ignore[misc]
    """Picks numbers out of windows that are flat: (batch, steps * features) -> (batch, places).

    Args:
        places: Which numbers, in their order.
    """

    def __init__(self, places: ArrayLike, **options: Any) -> None:
        super().__init__(**options)
        self.places = np.asarray(places, np.int32)

    def call(self, flat: Any) -> Any:
        """Returns the numbers."""
        return ops.take(flat, self.places, axis=1)

    def get_config(self) -> dict[str, Any]:
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "places": self.places.tolist()}


def linear_places(steps: int, recent: int, lags: Sequence[int], selection: ArrayLike, horizon: int) -> Places:
    """Returns what the linear path reads: places in a flat window (steps * features), ascending.

    Args:
        steps: Steps of a window, at least `recent` and every lag.
        recent: Last steps that are read whole.
        lags: How many rows before a forecast row its seasons lie.
        selection: Shape (features, targets): 1 where the target is the feature, else 0.
        horizon: Rows of a forecast.
    """
    features = len(np.asarray(selection))
    columns = np.flatnonzero(np.asarray(selection).any(axis=1))
    whole = np.arange((steps - recent) * features, steps * features)
    ahead = np.arange(horizon)
    rows = [steps - lag + ahead % lag for lag in lags]
    seasons = [(each[:, None] * features + columns).ravel() for each in rows]
    return np.unique(np.concatenate([whole, *seasons])).astype(np.int64)


def places_of(dataset: Dataset) -> Places:
    """Returns what the linear path reads of the windows of a data set; see `linear_places`."""
    steps, horizon = dataset.train.windows.shape[1], dataset.train.targets.shape[1]
    return linear_places(steps, dataset.recent_steps, dataset.lags, dataset.selection, horizon)
