"""Advice on arrays of a wrong shape: what the sender probably meant, and the line of NumPy that fixes the array.

Most mistakes are one of a few: a window in place of a batch or the other way round, steps and features swapped, all
numbers in one list, one feature of several, too many steps.
"""

import json
from collections.abc import Sequence
from typing import Any

from app.payloads.axes import window_axes
from app.payloads.lists import regular_shape
from app.version.manifest import Contract

MAX_LINE_CHARACTERS = 120
"""Longest list of feature names that is written out in a line."""


def wrong_shape(came: tuple[int, ...], contract: Contract, *, batched: bool) -> str:
    """Says which shape was expected and which came, and what to do if the mistake is a usual one.

    Args:
        came: A shape that does not fit the contract.
        contract: The model's contract.
        batched: Whether a batch is expected, and not one window.
    """
    counts = ", ".join(axis.expects(axis.size) for axis in window_axes(contract))
    expected = f"(batch, {counts}), the batch not empty" if batched else f"({counts})"
    advice = advise(came, contract.window_shape, contract.feature_names, batched=batched)
    return f"expected an array of {expected}, got one of {came}{f'; {advice}' if advice else ''}"


def is_one_window(value: list[Any], window_shape: tuple[int, int]) -> bool:
    """Returns whether a list that should be a batch is a single window: its entries are steps, not windows."""
    return len(value) == window_shape[0] and regular_shape(value) in forms_of(window_shape)


def forms_of(window_shape: tuple[int, int]) -> set[tuple[int, ...]]:
    """Returns the shapes that a window may have. The axis of a single feature may be left out."""
    return {window_shape, window_shape[:1]} if window_shape[1] == 1 else {window_shape}


def advise(
    came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str] = (), *, batched: bool
) -> str | None:
    """Guesses what the sender of a wrongly shaped array meant, and gives the line that fixes the array.

    Args:
        came: The array's shape.
        window_shape: The expected (steps, features).
        names: The names of the features, where they are known.
        batched: Whether (batch, steps, features) is expected, and not one window of (steps, features).

    Returns:
        The advice, which calls the array `window` or `windows`; None if the mistake is not a usual one.
    """
    if 0 in came:
        return None
    if batched:
        return _advise_on_batch(came, window_shape, names)
    if came[1:] not in forms_of(window_shape):
        return _advise_on_window(came, window_shape, names, batched=False)
    if came[0] == 1:
        return "this is a batch of one window; send the window itself: window[0]"
    return f'this is a batch of {came[0]} windows; send it to POST /predict/batch, in JSON as {{"windows": window}}'


def advise_on_tensor(came: tuple[int, ...], window_shape: tuple[int, ...]) -> str | None:
    """Gives the same advice on a batch of a tensor from any signature.

    Args:
        came: The shape of the whole batch.
        window_shape: The expected shape of one window of the batch.

    Returns:
        The advice; None if windows have other axes than steps and features, or the mistake is not a usual one.
    """
    if len(window_shape) != 2 or came[1:] == window_shape:
        return None
    if (*came, 1) == window_shape:
        return f"this is one window without the axis of its one feature: window.reshape(1, {came[0]}, 1)"
    if (*came[1:], 1) == window_shape:
        return "the axis of the one feature is missing: windows[..., np.newaxis]"
    return advise(came, (window_shape[0], window_shape[1]), batched=True)


def _advise_on_batch(came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str]) -> str | None:
    """Gives advice on an array that should be a batch."""
    steps, features = window_shape
    if came in forms_of(window_shape):
        return "this is one window; make it a batch of one: [window], or in NumPy window[np.newaxis]"
    if len(came) == 4 and came[2:] == window_shape:
        return f"there is one axis too many: windows.reshape(-1, {steps}, {features})"
    if came[1:] == (features,) and steps > 1:
        advice = _advise_on_window(came, window_shape, names, batched=False)
        return f"this is one window of {_counted(came[0])}; {advice}; then make it a batch of one: [window]"
    return _advise_on_window(came[1:], window_shape, names, batched=True)


def _advise_on_window(
    came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str], *, batched: bool
) -> str | None:
    """Gives advice on windows of a wrong shape; `came` is the shape of one window."""
    steps, features = window_shape
    if came == (features, steps):
        line = "windows.transpose(0, 2, 1)" if batched else "window.T"
        return f"steps and features are swapped: {line}"
    if came == (steps * features,) and 1 not in window_shape:
        line = f"windows.reshape(-1, {steps}, {features})" if batched else f"window.reshape({steps}, {features})"
        return f"if the {features} numbers of each step stand together: {line}"
    if came == (steps,) or (len(came) == 2 and came[0] == steps):
        return _advise_on_features(names)
    if came and came[1:] in {form[1:] for form in forms_of(window_shape)}:
        if came[0] > steps:
            return f"keep the last {_counted(steps)}: {f'windows[:, -{steps}:]' if batched else f'window[-{steps}:]'}"
        return f"start {_counted(steps - came[0])} earlier: window = table[-{steps}:], where table has all steps so far"
    return None


def _advise_on_features(names: Sequence[str]) -> str | None:
    """Gives advice on windows with the right number of steps and a wrong number of features."""
    if not names:
        return None
    written = json.dumps(list(names), ensure_ascii=False)
    columns = written if len(written) <= MAX_LINE_CHARACTERS else "features"
    return f"every step needs these features and no others, in this order: in pandas frame[{columns}].to_numpy()"


def _counted(steps: int) -> str:
    return f"{steps} step{'s' if steps > 1 else ''}"
