"""Scaling inside the graph: a model takes raw units and gives raw units, so nobody can scale differently when serving.

Four small layers, each a few plain operations on constants that were fitted on the training part:

    Centre       what the values of a window are counted from
    Spread       how far its values lie from there
    Standardise  (windows - centre) / spread: what the recurrent layers see
    Restore      output * the targets' spread + the targets' centre: back to raw units

`fit_scaling` finds the constants. They are part of a layer's configuration and not weights: nothing that resets, sweeps
or averages weights can touch them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from training.config import Output, Scale
from training.data.windows import Dataset, chunks

CentreKind = Literal["constant", "mean", "last", "first", "running", "own"]
SpreadKind = Literal["constant", "mean", "running"]

SPREAD_FLOOR = 0.1
"""Added (squared) to a window's own spread, as a share of the training part's: a flat window divides by no less."""

CONSTANT_SPREAD = 4 * float(np.finfo(np.float32).eps)
"""A spread below this share of a column's size is float32 rounding: the column is constant."""


@keras.saving.register_keras_serializable(package="windowcast")
class Centre(keras.layers.Layer):  # type: ignore[misc]
    """What the values of a window are counted from.

    Kinds: `constant` is the same for all windows; `mean` and `last` are the window's mean and its last row. The others
    never look ahead of a step: `first` is the window's first row, `running` the mean of the rows so far, `own` the row
    itself.

    Input: windows, shape (batch, steps, features), raw units.
    Output: raw units, (1, 1, features) for `constant`, (batch, steps, features) for `running` and `own`, otherwise
    (batch, 1, features).

    Args:
        kind: One of the above.
        constant: The centre of each feature; only `constant` uses it.
    """

    def __init__(self, kind: CentreKind, constant: ArrayLike = (), **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.constant = np.asarray(constant, np.float32)

    def call(self, windows: Any) -> Any:
        """Finds the centre of each window."""
        first = windows[:, :1]
        match self.kind:
            case "constant":
                return ops.reshape(self.constant, (1, 1, -1))
            case "mean":  # counted from the first row: a sum of large numbers rounds differently in every engine
                return first + ops.mean(windows - first, axis=1, keepdims=True)
            case "last":
                return windows[:, -1:]
            case "first":
                return first
            case "running":
                return first + _mean_so_far(windows - first)
            case "own":
                return windows

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration as plain values."""
        return {**super().get_config(), "kind": self.kind, "constant": self.constant.tolist()}


@keras.saving.register_keras_serializable(package="windowcast")
class Spread(keras.layers.Layer):  # type: ignore[misc]
    """How far the values of a window lie from its centre.

    Kinds: `constant` is the same for all windows; `mean` is the root mean square over the window, `running` over the
    rows so far, both with `SPREAD_FLOOR` times the constant added in quadrature.

    Input: windows, shape (batch, steps, features), raw units, and their centre.
    Output: raw units, above zero, (1, 1, features), (batch, 1, features) or (batch, steps, features) in this order.

    Args:
        kind: One of the above.
        constant: The spread of each feature in the training part, raw units, above zero.
    """

    def __init__(self, kind: SpreadKind, constant: ArrayLike, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.constant = np.asarray(constant, np.float32)

    def call(self, windows: Any, centre: Any) -> Any:
        """Finds the spread of each window."""
        # Divided first, so that no square leaves float32, whatever the unit.
        distances = (windows - centre) / self.constant
        match self.kind:
            case "constant":
                return ops.reshape(self.constant, (1, 1, -1))
            case "mean":
                squares = ops.mean(distances * distances, axis=1, keepdims=True)
            case "running":
                squares = _mean_so_far(distances * distances)
        return ops.sqrt(squares + SPREAD_FLOOR**2) * self.constant

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration as plain values."""
        return {**super().get_config(), "kind": self.kind, "constant": self.constant.tolist()}


@keras.saving.register_keras_serializable(package="windowcast")
class Standardise(keras.layers.Layer):  # type: ignore[misc]
    """Turns raw windows into what the recurrent layers see: (windows - centre) / spread.

    Input: windows, shape (batch, steps, features), raw units; their centre; their spread.
    Output: the shape of the windows.
    """

    def call(self, windows: Any, centre: Any, spread: Any) -> Any:
        """Centres and divides."""
        return (windows - centre) / spread


@keras.saving.register_keras_serializable(package="windowcast")
class Restore(keras.layers.Layer):  # type: ignore[misc]
    """Turns the network's output into a forecast in raw units: output * the targets' spread + the targets' centre.

    Input: the output, shape (batch, horizon, targets) or, with a forecast after every step, (batch, steps, horizon,
    targets); the features' centre; the features' spread.
    Output: the shape of the network's output, raw units.

    Args:
        selection: Shape (features, targets): 1 where the target is that feature, else 0.
        fixed_centre: Shape (targets,), raw units: the centre of a target that is no feature, else 0.
        fixed_spread: Shape (targets,), raw units: the spread of a target that is no feature, else 0.
        ratio: Shape (targets,): how much farther targets lie from their centre than the window's own values do.
        yardstick: Shape (targets,), raw units: what the loss divides errors by.
    """

    def __init__(
        self,
        *,
        selection: ArrayLike,
        fixed_centre: ArrayLike,
        fixed_spread: ArrayLike,
        ratio: ArrayLike,
        yardstick: ArrayLike,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.selection = np.asarray(selection, np.float32)
        self.fixed_centre = np.asarray(fixed_centre, np.float32)
        self.fixed_spread = np.asarray(fixed_spread, np.float32)
        self.ratio = np.asarray(ratio, np.float32)
        self.yardstick = np.asarray(yardstick, np.float32)

    def call(self, output: Any, centre: Any, spread: Any) -> Any:
        """Multiplies by the targets' spread and adds their centre."""
        centre = ops.matmul(centre, self.selection) + self.fixed_centre  # (batch, 1 or steps, targets)
        spread = (ops.matmul(spread, self.selection) + self.fixed_spread) * self.ratio
        if len(output.shape) == 4:
            centre, spread = ops.expand_dims(centre, 2), ops.expand_dims(spread, 2)  # (batch, 1 or steps, 1, targets)
        return output * spread + centre

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration as plain values."""
        names = ("selection", "fixed_centre", "fixed_spread", "ratio", "yardstick")
        return {**super().get_config(), **{name: getattr(self, name).tolist() for name in names}}


class Kinds(NamedTuple):
    """What a scale means for each of the layers."""

    centre: CentreKind
    """What the network's inputs are counted from."""
    target_centre: CentreKind
    """What the forecasts are counted from."""
    spread: SpreadKind


@dataclass(frozen=True, slots=True)
class Scaling:
    """Everything the layers need, fitted on the training part. The fields are the layers' arguments."""

    kinds: Kinds
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    selection: NDArray[np.float32]
    fixed_centre: NDArray[np.float32]
    fixed_spread: NDArray[np.float32]
    ratio: NDArray[np.float32]
    yardstick: NDArray[np.float32]


def fit_scaling(dataset: Dataset, scale: Scale, output: Output) -> Scaling:
    """Fits the scaling on the training part; validation and test are never looked at.

    A spread is the root mean square distance from the centre. A column that never leaves its centre is divided by its
    own size instead: nothing divides by zero, and a later change of the column stays a sensible number.

    Args:
        dataset: Its names and its training part are used.
        scale: What values are counted from. A target that is no feature has no value in the window, so it is always
            counted from its mean in the training part.
        output: `sequence` learns from a forecast after every step, so no step may be counted from rows after it.

    Returns:
        The constants of the layers; for the scale `none`, constants that change nothing.
    """
    windows, targets = dataset.train.windows, dataset.train.targets
    selection = np.array([[f == t for t in dataset.target_names] for f in dataset.feature_names], np.float32)
    kinds = kinds_of(scale, output)
    if scale == "none":
        return no_scaling(selection)

    absent = ~selection.any(axis=0)
    centre = _mean(windows)
    fixed_centre = np.where(absent, _mean(targets), 0).astype(np.float32)
    find_centre, find_target_centre = Centre(kinds.centre, centre), Centre(kinds.target_centre, centre)
    spread = _guarded(
        _root_mean_square(windows[chunk] - np.asarray(find_centre(windows[chunk])) for chunk in chunks(windows)),
        size=_root_mean_square(windows[chunk] for chunk in chunks(windows)),
    )

    def last_distances() -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Targets minus the centre of the window's last step, and the spread there: both (windows, ., targets)."""
        find_spread = Spread(kinds.spread, spread)
        for chunk in chunks(windows, targets):
            from_where = np.asarray(find_target_centre(windows[chunk]))[:, -1:] @ selection + fixed_centre
            own_spread = np.asarray(find_spread(windows[chunk], find_centre(windows[chunk])))[:, -1:]
            yield targets[chunk] - from_where, own_spread @ selection

    yardstick = _guarded(
        _root_mean_square(distances for distances, _ in last_distances()),
        size=_root_mean_square(targets[chunk] for chunk in chunks(targets)),
    )
    fixed_spread = np.where(absent, yardstick, 0).astype(np.float32)
    ratio = _guarded(
        _root_mean_square(distances / (own + fixed_spread) for distances, own in last_distances()),
        size=np.ones(len(dataset.target_names)),
    )
    return Scaling(kinds, centre, spread, selection, fixed_centre, fixed_spread, ratio, yardstick)


def no_scaling(selection: NDArray[np.float32]) -> Scaling:
    """Constants that change nothing.

    Args:
        selection: As for `Restore`, shape (features, targets).
    """
    features, targets = selection.shape
    unit = np.ones(targets, np.float32)
    return Scaling(
        kinds=Kinds("constant", "constant", "constant"),
        centre=np.zeros(features, np.float32),
        spread=np.ones(features, np.float32),
        selection=selection,
        fixed_centre=0 * unit,
        fixed_spread=unit - selection.max(axis=0),
        ratio=unit,
        yardstick=unit,
    )


def kinds_of(scale: Scale, output: Output) -> Kinds:
    """What a scale means for each of the layers."""
    match scale, output:
        case "window", "last":
            return Kinds("mean", "mean", "mean")
        case "window", "sequence":
            return Kinds("running", "running", "running")
        case "last", "last":
            return Kinds("last", "last", "constant")
        case "last", "sequence":
            return Kinds("first", "own", "constant")
        case _:
            return Kinds("constant", "constant", "constant")


def _mean_so_far(values: Any) -> Any:
    """The mean of the rows up to each row; (batch, steps, features) in and out."""
    steps = values.shape[1]
    weights = np.tril(np.ones((steps, steps))) / np.arange(1, steps + 1)[:, None]
    return ops.matmul(weights.astype(np.float32), values)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of each column of (windows, rows, columns)."""
    total = sum(values[chunk].sum(axis=(0, 1), dtype=np.float64) for chunk in chunks(values))
    return np.asarray(total / (values.shape[0] * values.shape[1]), np.float32)


def _root_mean_square(pieces: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Root mean square of each column of all pieces, (windows, rows, columns)."""
    squares, rows = np.zeros(()), 0
    for piece in pieces:
        squares = squares + np.asarray(np.square(piece, dtype=np.float64).sum(axis=(0, 1)))
        rows += piece.shape[0] * piece.shape[1]
    return np.asarray(np.sqrt(squares / rows))


def _guarded(spread: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float32]:
    """The spread, or where it is nothing but rounding the size of the column, or 1 where that is zero too."""
    constant = spread <= CONSTANT_SPREAD * size
    return np.where(constant, np.where(size > 0, size, 1), spread).astype(np.float32)
