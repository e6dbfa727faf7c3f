"""Scaling inside the graph: a model takes raw units and gives raw units, so nobody can scale differently when serving.

Four small layers, each a few plain operations on constants that were fitted on the training part:

    Centre       the value that the values of a window are counted from
    Spread       how far the values of a window lie from their centre
    Standardise  (windows - centre) / spread: what the recurrent layers see
    Restore      output * the targets' spread + the targets' centre: back to raw units

`fit_scaling` finds the constants. They belong to a layer's configuration and are not weights, so nothing that resets,
sweeps or averages weights can change them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from training.config import Output, Scale
from training.data.windows import Dataset, Part, chunks

CentreKind = Literal["constant", "mean", "last", "first", "running", "own"]
SpreadKind = Literal["constant", "mean", "running"]

SPREAD_FLOOR = 0.1
"""Least spread of a window, as a share of the spread in the training part; added in quadrature."""

CONSTANT_SPREAD = 4 * float(np.finfo(np.float32).eps)
"""A spread below this share of a column's size is a rounding error of float32: the column is constant."""


@keras.saving.register_keras_serializable(package="windowcast")
class Centre(keras.layers.Layer):  # type: ignore[misc]
    """The value that the values of a window are counted from.

    Kinds: `constant` is the same for all windows; `mean` and `last` are the mean and the last step of the window. Three
    kinds never look ahead of a step: `first` is the first step, `running` the mean of the steps so far, `own` the step
    itself.

    Input: windows, shape (batch, steps, features), raw units.
    Output: raw units, (1, 1, features) for `constant`, (batch, steps, features) for `running` and `own`, otherwise
    (batch, 1, features).

    Args:
        kind: One of the kinds.
        constant: The centre of each feature, for the kind `constant`.
    """

    def __init__(self, kind: CentreKind, constant: ArrayLike = (), **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.constant = np.asarray(constant, np.float32)

    def call(self, windows: Any) -> Any:
        """Returns the centre of each window."""
        first = windows[:, :1]
        match self.kind:
            case "constant":
                return ops.reshape(self.constant, (1, 1, -1))
            case "mean":  # counted from the first step: a sum of large numbers rounds differently in every engine
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
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "kind": self.kind, "constant": self.constant.tolist()}


@keras.saving.register_keras_serializable(package="windowcast")
class Spread(keras.layers.Layer):  # type: ignore[misc]
    """How far the values of a window lie from their centre.

    Kinds: `constant` is the same for all windows; `mean` is the root mean square distance over the window, `running`
    over the steps so far. `SPREAD_FLOOR` times the constant is added in quadrature to both.

    Input: windows, shape (batch, steps, features), raw units, and their centre.
    Output: raw units, above zero: (1, 1, features) for `constant`, (batch, 1, features) for `mean`, (batch, steps,
    features) for `running`.

    Args:
        kind: One of the kinds.
        constant: The spread of each feature in the training part, raw units, above zero.
    """

    def __init__(self, kind: SpreadKind, constant: ArrayLike, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.constant = np.asarray(constant, np.float32)

    def call(self, windows: Any, centre: Any) -> Any:
        """Returns the spread of each window."""
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
        """Returns the layer's configuration as plain values."""
        return {**super().get_config(), "kind": self.kind, "constant": self.constant.tolist()}


@keras.saving.register_keras_serializable(package="windowcast")
class Standardise(keras.layers.Layer):  # type: ignore[misc]
    """Turns raw windows into what the recurrent layers see: (windows - centre) / spread.

    Input: windows, shape (batch, steps, features), raw units; their centre; their spread.
    Output: the shape of the windows.
    """

    def call(self, windows: Any, centre: Any, spread: Any) -> Any:
        """Subtracts the centre and divides by the spread."""
        return (windows - centre) / spread


@keras.saving.register_keras_serializable(package="windowcast")
class Restore(keras.layers.Layer):  # type: ignore[misc]
    """Turns the network's output into a forecast in raw units: output * the targets' spread + the targets' centre.

    Input: the output, shape (batch, horizon, targets) or, with a forecast after every step, (batch, steps, horizon,
    targets); the features' centre; the features' spread.
    Output: the shape of the network's output, raw units.

    Example:
        The features are load and temperature. The targets are the load, which strays twice as far from its centre as
        within a window, and a price, which is no feature. So the load becomes 100 + 1 * 10 * 2, the price 30 - 1 * 5.

        >>> scaling = {"selection": [[1, 0], [0, 0]], "fixed_centre": [0, 30], "fixed_spread": [0, 5], "ratio": [2, 1]}
        >>> output, centre, spread = np.array([[[[1.0, -1.0]]], [[[100.0, 20.0]]], [[[10.0, 3.0]]]], np.float32)
        >>> Restore(**scaling, yardstick=[1, 1])(output, centre, spread).numpy().tolist()
        [[[120.0, 25.0]]]

    Args:
        selection: Shape (features, targets): 1 where the target is the feature, else 0.
        fixed_centre: Shape (targets,), raw units: the centre of a target that is no feature, else 0.
        fixed_spread: Shape (targets,), raw units: the spread of a target that is no feature, else 0.
        ratio: Shape (targets,): how much farther the targets lie from their centre than the values of a window do.
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
        """Returns the layer's configuration as plain values."""
        names = ("selection", "fixed_centre", "fixed_spread", "ratio", "yardstick")
        return {**super().get_config(), **{name: getattr(self, name).tolist() for name in names}}


class Kinds(NamedTuple):
    """What a scale means for each layer."""

    centre: CentreKind
    """What the network's inputs are counted from."""
    target_centre: CentreKind
    """What the forecasts are counted from."""
    spread: SpreadKind


@dataclass(frozen=True, slots=True)
class Scaling:
    """Everything that the layers need, fitted on the training part.

    The fields are the arguments of `Centre`, `Spread` and `Restore`; `Restore` has an example.
    """

    kinds: Kinds
    centre: NDArray[np.float32]
    spread: NDArray[np.float32]
    selection: NDArray[np.float32]
    fixed_centre: NDArray[np.float32]
    fixed_spread: NDArray[np.float32]
    ratio: NDArray[np.float32]
    yardstick: NDArray[np.float32]


def fit_scaling(dataset: Dataset, scale: Scale, output: Output) -> Scaling:
    """Fits the scaling on the training part. Validation and test are not used.

    A spread is the root mean square distance from the centre. A column that never leaves its centre is divided by its
    own size instead: nothing divides by zero, and a later change of the column stays a sensible number.

    Args:
        dataset: The data set; its names and its training part are used.
        scale: What values are counted from. A target that is no feature has no value in the window, so it is counted
            from its mean in the training part.
        output: `sequence` learns from a forecast after every step, so no step may be counted from later steps.

    Returns:
        The constants of the layers; for the scale `none`, constants that change nothing.
    """
    train = dataset.recent_train
    windows, targets = train.windows, train.targets
    selection = dataset.selection
    kinds = kinds_of(scale, output)
    if scale == "none":
        return no_scaling(selection)

    absent = ~selection.any(axis=0)
    centre = _mean(windows)
    fixed_centre = np.where(absent, _mean(targets), 0).astype(np.float32)
    find_centre = Centre(kinds.centre, centre)
    spread = _guarded(
        _root_mean_square(windows[chunk] - np.asarray(find_centre(windows[chunk])) for chunk in chunks(windows)),
        size=_root_mean_square(windows[chunk] for chunk in chunks(windows)),
    )
    unit = np.ones(targets.shape[2], np.float32)  # until the rest is measured with what is known so far
    scaling = Scaling(kinds, centre, spread, selection, fixed_centre, 0 * unit, unit, unit)
    yardstick = _guarded(
        _root_mean_square(distances for distances, _ in _last_distances(train, scaling)),
        size=_root_mean_square(targets[chunk] for chunk in chunks(targets)),
    )
    fixed_spread = np.where(absent, yardstick, 0).astype(np.float32)
    ratio = _guarded(
        _root_mean_square(distances / (own + fixed_spread) for distances, own in _last_distances(train, scaling)),
        size=unit,
    )
    return replace(scaling, fixed_spread=fixed_spread, ratio=ratio, yardstick=yardstick)


def _last_distances(part: Part, scaling: Scaling) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yields targets minus the centre of the last step, and the last step's spread: both (windows, ., targets)."""
    kinds = scaling.kinds
    find_centre, find_target_centre = Centre(kinds.centre, scaling.centre), Centre(kinds.target_centre, scaling.centre)
    find_spread = Spread(kinds.spread, scaling.spread)
    for chunk in chunks(part.windows, part.targets):
        windows = part.windows[chunk]
        centre = np.asarray(find_target_centre(windows))[:, -1:] @ scaling.selection + scaling.fixed_centre
        spread = np.asarray(find_spread(windows, find_centre(windows)))[:, -1:] @ scaling.selection
        yield part.targets[chunk] - centre, spread


def no_scaling(selection: NDArray[np.float32]) -> Scaling:
    """Returns constants that change nothing.

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
    """Returns what a scale means for each layer."""
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
    """Returns the mean of the steps up to each step; (batch, steps, features) in and out."""
    steps = values.shape[1]
    weights = np.tril(np.ones((steps, steps))) / np.arange(1, steps + 1)[:, None]
    return ops.matmul(weights.astype(np.float32), values)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the mean of each column of (windows, rows, columns)."""
    total = sum(values[chunk].sum(axis=(0, 1), dtype=np.float64) for chunk in chunks(values))
    return np.asarray(total / (values.shape[0] * values.shape[1]), np.float32)


def _root_mean_square(pieces: Iterable[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Returns the root mean square of each column of all pieces, each (windows, rows, columns)."""
    squares, rows = np.zeros(()), 0
    for piece in pieces:
        squares = squares + np.asarray(np.square(piece, dtype=np.float64).sum(axis=(0, 1)))
        rows += piece.shape[0] * piece.shape[1]
    return np.asarray(np.sqrt(squares / rows))


def _guarded(spread: NDArray[np.float64], size: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Returns the spread. Where it is only rounding error, returns the column's size instead, or 1 if that is zero."""
    constant = spread <= CONSTANT_SPREAD * size
    return np.where(constant, np.where(size > 0, size, 1), spread).astype(np.float32)
