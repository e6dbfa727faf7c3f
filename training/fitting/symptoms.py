"""What keeps a loss from being a finite number: the records of it, and the searches that find it.

`examine` searches a data set before the fit, `diagnosis` a single batch during the fit; both use the searches here.
Rows are counted from 0 in the order of time, as `--split` counts them.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.arrays import Inputs
from app.version.manifest import Finding
from training.config import Loss, TrainingConfig

Array = NDArray[np.float32]

HIGH_RATE = 0.1
"""Adam moves every weight by about the rate in each step, and weights are about this size."""

USUAL_RATE: float = TrainingConfig.model_fields["learning_rate"].default

OUTLIER = 100
"""Spreads from the middle of its column beyond which a value drowns the others."""

LOWEST: dict[Loss, float] = {"msle": -1.0}
"""The losses that take a logarithm of one plus a value: the value must lie above this."""

CHUNK_WINDOWS = 4096
"""Windows searched at once for a value that is not a finite number."""

INCIDENT = "incident"
"""The kind of finding that an incident is."""

LISTED = 5
"""Windows of a batch that are listed by number; further ones are counted."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A loss or a gradient that was not a finite number, and what was done about it."""

    epoch: int
    """The pass in which it happened, from 1."""
    batch: int | None
    """The batch of the pass, from 1; None for the validation loss."""
    rows: str
    """The windows and rows of the batch, for example `windows 96 to 127, rows 96 to 163`."""
    cause: str
    """Why it happened, as a clause."""
    remedy: str
    """What was done, as a clause."""

    @property
    def sentence(self) -> str:
        """The incident in words."""
        place = f"batch {self.batch}" if self.batch else "validation"
        return f"not a finite number in epoch {self.epoch}, {place} ({self.rows}): {self.cause}; {self.remedy}"

    @property
    def finding(self) -> Finding:
        """The incident as a version records it."""
        return Finding(kind=INCIDENT, sentence=self.sentence)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a fit saw when a loss or a gradient was not a finite number, with the weights of that moment."""

    epoch: int
    batch: int | None
    """From 1; None for the validation part."""
    numbers: NDArray[np.int64]
    """(n,) the numbers of the windows within their part."""
    inputs: Inputs
    """Windows are (n, steps, features)."""
    expected: Array
    """(n, ..., horizon, targets): what follows the windows."""
    forecasts: Array
    """The model's forecasts, in the shape of `expected`."""
    loss: float
    """Mean over the windows."""
    norm: float
    """Norm of the gradient; NaN for the validation part."""
    usual_norm: float
    """Mean of the finite norms of the epoch so far; NaN if there are none."""

    @property
    def windows(self) -> Array:
        """(n, steps, features)."""
        return self.inputs.windows

    @property
    def part(self) -> Literal["training", "validation"]:
        """The part that the windows belong to."""
        return "training" if self.batch else "validation"

    @property
    def what(self) -> str:
        """The quantity that is not a finite number."""
        if not np.isfinite(self.loss):
            return f"{self.part} loss"
        return "gradient" if not np.isfinite(self.norm) else "weight after the step"


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the windows of a part lie in the table."""

    stride: int
    """Rows between the starts of two windows."""
    first: int | None
    """Row of the first window's first step; None if it is not known."""
    part: str
    steps: int
    """Steps of a window."""
    alone: bool = False
    """Whether every window is a sample of its own, so that there are no rows."""

    def cell(self, window: int, step: int) -> str:
        """Names the place of a step, for example `row 40 (step 6 of window 35 of the training part)`.

        Args:
            window: From 0.
            step: From 0. The steps of the targets follow those of the window.
        """
        within = f"step {step + 1} of" if step < self.steps else f"step {step - self.steps + 1} after"
        place = f"{within} {'sample' if self.alone else 'window'} {window} of the {self.part} part"
        if self.alone or self.first is None:
            return place
        return f"row {self.first + window * self.stride + step} ({place})"

    def covered(self, numbers: NDArray[np.int64], length: int) -> str:
        """Names windows, and the rows that they and their targets cover.

        Args:
            numbers: The windows' numbers within their part, in any order.
            length: Rows from a window's first step to its last target.
        """
        ordered = np.unique(numbers)
        low, high = int(ordered[0]), int(ordered[-1])
        if len(ordered) > 1 and high - low == len(ordered) - 1:
            listed = f"{low} to {high}"
        else:
            more = f" and {len(ordered) - LISTED} more" if len(ordered) > LISTED else ""
            listed = ", ".join(map(str, ordered[:LISTED])) + more
        of = "" if self.part == "training" else f" of the {self.part} part"
        if self.alone:
            return f"samples {listed}{of}"
        if self.first is None:
            return f"windows {listed}{of}"
        start, end = (self.first + window * self.stride for window in (low, high))
        return f"windows {listed}{of}, rows {start} to {end + length - 1}"


class NotFinite(NamedTuple):
    """The first value of a part that is not a finite number."""

    is_target: bool
    """Whether it is a target; otherwise it is a feature."""
    window: int
    step: int
    """From 0: steps of the window for a feature, steps behind its end for a target."""
    column: int
    value: float


class Unfit(NamedTuple):
    """The first target that a loss cannot be taken of."""

    why: str
    """As a clause."""
    place: tuple[int, ...]
    """Index of the target."""


def first_not_finite(windows: Array, targets: Array) -> NotFinite | None:
    """Finds the first value that is not a finite number, features before targets.

    Args:
        windows: (n, steps, features).
        targets: (n, ..., horizon, targets).
    """
    for is_target, values in enumerate((windows, targets)):
        if np.isfinite(values.min()) and np.isfinite(values.max()):  # NaN is both the smallest and the largest
            continue
        for start in range(0, len(values), CHUNK_WINDOWS):
            chunk = values[start : start + CHUNK_WINDOWS]
            places = np.argwhere(~np.isfinite(chunk))
            if len(places):
                window, *steps, column = (int(index) for index in places[0])
                value = float(chunk[tuple(places[0])])
                return NotFinite(bool(is_target), start + window, sum(steps), column, value)
    return None


def first_unfit(loss: Loss, expected: Array) -> Unfit | None:
    """Finds the first target that a loss cannot be taken of.

    Args:
        loss: The name of the loss.
        expected: The targets, in any shape.
    """
    if loss == "mape":
        unfit, why = expected == 0, "it divides by what should be forecast, which is"
    elif loss in LOWEST:
        unfit, why = expected <= LOWEST[loss], "it takes the logarithm of one plus what should be forecast, which is"
    else:
        return None
    if not unfit.any():
        return None
    place = tuple(int(index) for index in np.argwhere(unfit)[0])
    return Unfit(f"{why} {expected[place]:.4g}", place)


def first_expected(windows: Array, expected: Array) -> int:
    """Returns the step at which the targets start: the second, if there is a forecast after every step."""
    return 1 if expected.ndim == 4 else windows.shape[1]


def rate_of(config: TrainingConfig) -> float:
    """Returns the learning rate; 0 as long as it is `auto`."""
    return 0.0 if config.learning_rate == "auto" else config.learning_rate


def has_samples(config: TrainingConfig) -> bool:
    """Returns whether every window is a sample of its own, without rows."""
    return config.series == "multiplication"
