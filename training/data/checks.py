"""Checks the shapes of arrays that a user brings. Every error gives the line of NumPy that mends the array.

check_part     the axes of windows, targets and histories, and their counts
check_names    one name for each column
check_parts    the same sizes in every part of a split
check_fit      the sizes that a model takes and gives
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from training.errors import ShapeError

Array = NDArray[np.float32]
Shape = tuple[int | None, ...]

WINDOWS = "(windows, steps, features)"
TARGETS = "(windows, horizon, targets)"
HISTORY = "(windows, past, targets)"

WINDOW_REMEDIES = {
    1: "windows = training.data.windows.slide(series[:, np.newaxis], steps)",
    2: "windows = windows[..., np.newaxis] if every row is a window of one feature, "
    "windows = training.data.windows.slide(windows, steps) if it is a step of several",
    4: "windows = windows.reshape(-1, *windows.shape[-2:])",
}
TARGET_REMEDIES = {
    1: "targets = targets[:, np.newaxis, np.newaxis]",
    2: "targets = targets[..., np.newaxis] if its columns are the rows ahead, "
    "targets = targets[:, np.newaxis] if they are several targets",
    4: "targets = targets[:, -1] if there is a forecast for every step; --output sequence finds the others by itself",
}
HISTORY_REMEDIES = {
    1: "history = training.data.windows.slide(series[:, np.newaxis], steps)",
    2: "history = history[..., np.newaxis]",
    4: "history = history.reshape(-1, *history.shape[-2:])",
}
"""The line that makes three axes, by the number of axes that came."""


def check_part(windows: Array, targets: Array, history: Array) -> None:
    """Checks that arrays make a part of a data set.

    Args:
        windows: (windows, steps, features).
        targets: (windows, horizon, targets).
        history: (windows, past, targets); `past` is at least the steps.

    Raises:
        ShapeError: An array has another shape, or the arrays do not fit each other.
    """
    _check_three_axes("windows", windows, WINDOWS, WINDOW_REMEDIES)
    _check_three_axes("targets", targets, TARGETS, TARGET_REMEDIES)
    _check_three_axes("history", history, HISTORY, HISTORY_REMEDIES)
    counts = {"windows": len(windows), "targets": len(targets), "history": len(history)}
    if len(set(counts.values())) > 1:
        raise ShapeError(
            "the parts of a data set",
            "as many windows as targets and histories",
            " and ".join(f"{count} {name}" for name, count in counts.items()),
            "cut them from the same rows: "
            "part = training.data.windows.cut_training(features, targets, window, horizon)",
        )
    steps, past = windows.shape[1], history.shape[1]
    if past < steps:
        remedy = f"history = training.data.windows.slide(targets, {steps}), of the rows up to each window's last"
        raise ShapeError("history", f"at least the window's {steps} steps in {HISTORY}", history.shape, remedy)
    if history.shape[2] != targets.shape[2]:
        expected = f"the {targets.shape[2]} columns of the targets in {HISTORY}"
        raise ShapeError("history", expected, history.shape, "take the history from the columns of the targets")


def check_names(field: str, names: Sequence[str], kind: str, shape: Shape) -> None:
    """Checks that there is one name for each column.

    Args:
        field: Field that holds the names: `feature_names` or `target_names`.
        names: The names.
        kind: Array that holds the columns: `windows` or `targets`.
        shape: Shape of the array: (windows, steps, features) or (windows, horizon, targets).

    Raises:
        ShapeError: There are more or fewer names than columns.
    """
    if len(names) == shape[2]:
        return
    if kind == "windows" and len(names) == shape[1]:
        remedy = "steps and features are swapped: windows = windows.transpose(0, 2, 1)"
    else:
        remedy = f"name every column in {field}, or take only the named columns: {kind} = {kind}[..., columns]"
    expected = f"{len(names)} in the last axis, one for each of {field} ({', '.join(names)})"
    raise ShapeError(kind, expected, shape, remedy)


def check_parts(kind: str, shapes: Mapping[str, Shape]) -> None:
    """Checks that the sizes are the same in every part of a split.

    Args:
        kind: Arrays that are compared: `windows` or `targets`.
        shapes: The shape of the array in each part, by the part's name. The first part is the model for the others.

    Raises:
        ShapeError: A part has other steps, features, horizon or targets.
    """
    (first, model), *others = shapes.items()
    for name, shape in others:
        if shape[1:] != model[1:]:
            raise ShapeError(
                f"{kind} of the {name} part",
                f"(any, {sizes(model[1:])}) as in the {first} part",
                shape,
                "cut all parts with the same window, horizon and columns",
            )


def check_fit(windows: Shape, targets: Shape, takes: Shape, gives: Shape) -> None:
    """Checks that a model takes the windows, and gives forecasts of the targets' sizes.

    Args:
        windows: Shape of the windows: (windows, steps, features).
        targets: Shape of the targets: (windows, horizon, targets).
        takes: Input of the model without the batch: (steps, features).
        gives: Output of the model without the batch: (horizon, targets).

    Raises:
        ShapeError: The windows or the targets have other sizes than the model.
    """
    if windows[1:] != takes:
        if windows[1:] == takes[::-1]:
            remedy = "steps and features are swapped: windows = windows.transpose(0, 2, 1)"
        elif windows[1] == takes[0]:
            remedy = "build the model for these features: model = training.network.model.build_model(config, dataset)"
        else:
            remedy = f"cut windows of {takes[0]} steps: windows = training.data.windows.slide(rows, {takes[0]})"
        raise ShapeError("windows", f"(any, {sizes(takes)}), which the model was built for", windows, remedy)
    if targets[1:] != gives:
        remedy = "build the model for these targets: model = training.network.model.build_model(config, dataset)"
        raise ShapeError("targets", f"(any, {sizes(gives)}), which the model gives", targets, remedy)


def _check_three_axes(name: str, array: Array, expected: str, remedies: dict[int, str]) -> None:
    if array.ndim != 3:
        raise ShapeError(name, expected, array.shape, remedies.get(array.ndim, "bring an array of three axes"))


def sizes(shape: Sequence[int | None]) -> str:
    """Lists sizes as errors do: `30, 2`."""
    return ", ".join(str(size) for size in shape)
