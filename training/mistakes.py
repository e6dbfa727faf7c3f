"""Mistakes of shape that whoever brings arrays or layers of their own can make: what came, and the line that helps.

check_part     windows that are no (windows, steps, features), targets of another shape, one of them short
check_dataset  names that do not fit the columns, parts that were cut in different ways
check_fit      a part that a model does not take
assemble       a stack of layers, one of which lacks return_sequences
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.errors import ShapeError

if TYPE_CHECKING:
    import keras

    from training.windows import Dataset, Part

Array = NDArray[np.float32]
Shape = tuple[int | None, ...]

WINDOWS = "(windows, steps, features)"
TARGETS = "(windows, horizon, targets)"
HISTORY = "(windows, past, targets)"

WINDOW_REMEDIES = {
    1: "windows = training.windows.slide(series[:, np.newaxis], steps)",
    2: "windows = windows[..., np.newaxis] if every row is a window of one feature, "
    "windows = training.windows.slide(windows, steps) if it is a step of several",
    4: "windows = windows.reshape(-1, *windows.shape[-2:])",
}
TARGET_REMEDIES = {
    1: "targets = targets[:, np.newaxis, np.newaxis]",
    2: "targets = targets[..., np.newaxis] if its columns are the rows ahead, "
    "targets = targets[:, np.newaxis] if they are several targets",
    4: "targets = targets[:, -1] if there is a forecast for every step; --output sequence finds the others by itself",
}
HISTORY_REMEDIES = {
    1: "history = training.windows.slide(series[:, np.newaxis], steps)",
    2: "history = history[..., np.newaxis]",
    4: "history = history.reshape(-1, *history.shape[-2:])",
}
"""By the number of axes that came: the line that makes three of them."""


def check_part(windows: Array, targets: Array, history: Array) -> None:
    """Refuses arrays that are no part of a data set.

    Args:
        windows: Should be (windows, steps, features).
        targets: Should be (windows, horizon, targets).
        history: Should be (windows, past, targets), past at least the steps.

    Raises:
        ShapeError: One of them has another shape, or they do not fit each other.
    """
    _require_three_axes("windows", windows, WINDOWS, WINDOW_REMEDIES)
    _require_three_axes("targets", targets, TARGETS, TARGET_REMEDIES)
    _require_three_axes("history", history, HISTORY, HISTORY_REMEDIES)
    counts = {"windows": len(windows), "targets": len(targets), "history": len(history)}
    if len(set(counts.values())) > 1:
        raise ShapeError(
            "the parts of a data set",
            "as many windows as targets and histories",
            " and ".join(f"{count} {name}" for name, count in counts.items()),
            "cut them from the same rows: part = training.windows.cut_training(features, targets, window, horizon)",
        )
    steps, past = windows.shape[1], history.shape[1]
    if past < steps:
        remedy = f"history = training.windows.slide(targets, {steps}), of the rows up to each window's last"
        raise ShapeError("history", f"at least the window's {steps} steps in {HISTORY}", history.shape, remedy)
    if history.shape[2] != targets.shape[2]:
        expected = f"the {targets.shape[2]} columns of the targets in {HISTORY}"
        raise ShapeError("history", expected, history.shape, "take the history from the columns of the targets")


def check_dataset(dataset: "Dataset") -> None:
    """Refuses names that do not fit the columns, and parts that were cut in different ways.

    Raises:
        ShapeError: Says which.
    """
    _require_names("feature_names", dataset.feature_names, "windows", dataset.train.windows)
    _require_names("target_names", dataset.target_names, "targets", dataset.train.targets)
    for name, part in (("validation", dataset.validation), ("test", dataset.test)):
        for kind in ("windows", "targets"):
            array, model = getattr(part, kind), getattr(dataset.train, kind)
            if array.shape[1:] != model.shape[1:]:
                raise ShapeError(
                    f"{kind} of the {name} part",
                    f"(any, {_sizes(model.shape[1:])}) as in the training part",
                    array.shape,
                    "cut all parts with the same window, horizon and columns",
                )


def check_fit(model: "keras.Model", part: "Part") -> None:
    """Refuses a part that a model does not take.

    Raises:
        ShapeError: Its windows or its targets have other sizes than the model.
    """
    expected = model.input.shape[1:]
    if part.windows.shape[1:] != expected:
        came = part.windows.shape
        if came[1:] == expected[::-1]:
            remedy = "rows and columns are swapped: windows = windows.transpose(0, 2, 1)"
        elif came[1] == expected[0]:
            remedy = "build the model for these features: model = training.model.build_model(config, dataset)"
        else:
            remedy = f"cut windows of {expected[0]} steps: windows = training.windows.slide(rows, {expected[0]})"
        raise ShapeError("windows", f"(any, {_sizes(expected)}), which the model was built for", came, remedy)
    forecast = model.output.shape[-2:]
    if part.targets.shape[1:] != forecast:
        remedy = "build the model for these targets: model = training.model.build_model(config, dataset)"
        raise ShapeError("targets", f"(any, {_sizes(forecast)}), which the model gives", part.targets.shape, remedy)


def assemble(layers: Iterable["keras.layers.Layer"], window_shape: Sequence[int]) -> "keras.Sequential":
    """Stacks layers of your own on windows.

    `python -m training fuse` makes a version of what comes out, once it is exported, if it is recurrent layers of one
    kind and then one Dense layer.

    Args:
        layers: First to last, not built yet.
        window_shape: (steps, features).

    Returns:
        A model of windows (batch, steps, features).

    Raises:
        ShapeError: The window has no two sizes, or a layer is given no steps because the one before it lacks
            return_sequences.
    """
    import keras  # noqa: PLC0415  # takes seconds, and whoever only cuts windows needs none of it

    if len(window_shape) != 2:
        remedy = "windows of one feature have the shape (steps, 1): windows = windows[..., np.newaxis]"
        raise ShapeError("window_shape", "(steps, features)", tuple(window_shape), remedy)
    stack: list[keras.layers.Layer] = []
    shape: Shape = (None, *window_shape)
    for layer in layers:
        if _is_recurrent(layer) and len(shape) != 3:
            raise _lacks_steps(layer, stack, shape)
        shape = keras.Sequential([keras.Input(shape[1:]), layer]).output_shape
        stack.append(layer)
    return keras.Sequential([keras.Input(tuple(window_shape)), *stack])


def _lacks_steps(layer: Any, before: Sequence[Any], shape: Shape) -> ShapeError:
    culprit = next((each for each in reversed(before) if _is_recurrent(each) and not each.return_sequences), None)
    if culprit is None:
        remedy = "leave out the layer before it that drops the steps, such as Flatten"
    else:
        inner = getattr(culprit, "forward_layer", culprit)  # of a Bidirectional
        line = f"{type(inner).__name__}({getattr(inner, 'units', 'cell')}, return_sequences=True)"
        remedy = f"let {culprit.name} hand on every step: {line}"
    came = f"(batch, {_sizes(shape[1:])}) from {before[-1].name}"
    return ShapeError(f"layer {len(before) + 1} ({layer.name})", "(batch, steps, features)", came, remedy)


def _is_recurrent(layer: Any) -> bool:
    return hasattr(layer, "return_sequences")


def _require_three_axes(name: str, array: Array, expected: str, remedies: dict[int, str]) -> None:
    if array.ndim != 3:
        raise ShapeError(name, expected, array.shape, remedies.get(array.ndim, "bring an array of three axes"))


def _require_names(field: str, names: Sequence[str], kind: str, array: Array) -> None:
    if len(names) == array.shape[2]:
        return
    if kind == "windows" and len(names) == array.shape[1]:
        remedy = "rows and columns are swapped: windows = windows.transpose(0, 2, 1)"
    else:
        remedy = f"name every column in {field}, or take only those that are named: {kind} = {kind}[..., columns]"
    expected = f"{len(names)} in the last axis, one for each of {field} ({', '.join(names)})"
    raise ShapeError(kind, expected, array.shape, remedy)


def _sizes(shape: Sequence[int | None]) -> str:
    return ", ".join(str(size) for size in shape)
