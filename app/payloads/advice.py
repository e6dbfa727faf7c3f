"""What somebody meant who sent numbers in another shape, and the line of NumPy that makes of it what is expected.

Most shape mistakes are one of a few: a window where a batch is meant or the other way round, rows and columns swapped,
all numbers in one list, one feature of several, too many steps. Whoever is told that alone still has to find the line.
"""

import json
from collections.abc import Sequence

MAX_LINE_CHARACTERS = 120
"""Names of features that are longer together are not written out in a line."""


def advise(
    came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str] = (), *, batched: bool
) -> str | None:
    """Says what an array of the wrong shape probably is, and the line that puts it right.

    Args:
        came: The array's shape.
        window_shape: (steps, features), as expected.
        names: Of the features, where they are known.
        batched: Whether (batch, steps, features) is expected, and not one window of (steps, features).

    Returns:
        The advice, which calls the array `window` or `windows`; None where the shape is none of the usual mistakes.
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


def advise_on_tensor(came: tuple[int, ...], row_shape: tuple[int, ...]) -> str | None:
    """The same for a batch of a tensor that any signature may have; only rows of (steps, features) have remedies.

    Args:
        came: The shape of the whole batch.
        row_shape: Of one row of it, as expected.
    """
    if len(row_shape) != 2 or came[1:] == row_shape:
        return None
    if (*came, 1) == row_shape:
        return f"this is one window without the axis of its one feature: window.reshape(1, {came[0]}, 1)"
    if (*came[1:], 1) == row_shape:
        return "the axis of the one feature is missing: windows[..., np.newaxis]"
    return advise(came, (row_shape[0], row_shape[1]), batched=True)


def forms_of(window_shape: tuple[int, int]) -> set[tuple[int, ...]]:
    """The shapes that a window may have: where there is one feature, its axis may be left out."""
    return {window_shape, window_shape[:1]} if window_shape[1] == 1 else {window_shape}


def _advise_on_batch(came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str]) -> str | None:
    """Advice on what should be a batch."""
    steps, features = window_shape
    if came in forms_of(window_shape):
        return "this is one window; make it a batch of one: [window], or in NumPy window[np.newaxis]"
    if len(came) == 4 and came[2:] == window_shape:
        return f"there is one axis too many: windows.reshape(-1, {steps}, {features})"
    if came[1:] == (features,) and steps > 1:
        advice = _advise_on_window(came, window_shape, names, batched=False)
        return f"this is one window, and of {came[0]} steps; {advice}; then make it a batch of one: [window]"
    return _advise_on_window(came[1:], window_shape, names, batched=True)


def _advise_on_window(
    came: tuple[int, ...], window_shape: tuple[int, int], names: Sequence[str], *, batched: bool
) -> str | None:
    """Advice on what has the right depth, or is flat where it should not be; `came` has no batch in front."""
    steps, features = window_shape
    if came == (features, steps):
        line = "windows.transpose(0, 2, 1)" if batched else "window.T"
        return f"rows and columns are swapped, every step is a row: {line}"
    if came == (steps * features,) and 1 not in window_shape:
        line = f"windows.reshape(-1, {steps}, {features})" if batched else f"window.reshape({steps}, {features})"
        return f"if all {features} numbers of a step stand together: {line}"
    if came == (steps,) or (len(came) == 2 and came[0] == steps):
        return _advise_on_features(names)
    if came and came[1:] in {form[1:] for form in forms_of(window_shape)}:
        if came[0] > steps:
            return f"keep the last {steps} steps: {f'windows[:, -{steps}:]' if batched else f'window[-{steps}:]'}"
        return f"start {steps - came[0]} rows earlier: window = rows[-{steps}:], of all rows so far"
    return None


def _advise_on_features(names: Sequence[str]) -> str | None:
    if not names:
        return None
    written = json.dumps(list(names), ensure_ascii=False)
    columns = written if len(written) <= MAX_LINE_CHARACTERS else "features"
    return f"every step is a row of all features, these alone and in this order: in pandas frame[{columns}].to_numpy()"


MAX_NAMES_SHOWN = 8

MAX_NAME_CHARACTERS = 40


def listed(names: Sequence[str]) -> str:
    """Names as a sentence tells them: the first few, and how many more there are."""
    shown = ", ".join(name[:MAX_NAME_CHARACTERS] for name in names[:MAX_NAMES_SHOWN])
    return f"{shown} and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else shown
