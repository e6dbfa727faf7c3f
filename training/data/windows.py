"""Splits rows in time order and cuts them into windows and the targets that follow.

With window 3 and horizon 2, the training part of ten rows gives

    window 0 1 2   targets 3 4
    window 1 2 3   targets 4 5
    ...
    window 5 6 7   targets 8 9

and the part that starts with row 10 is judged on targets 10 11, 11 12 and so on, each with the window before it. A
window may reach back into an earlier part, as it would when served; its targets never leave their own part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.arrays import Inputs, Times
from app.version.manifest import Finding, Frequency, Phase
from training.config import Output
from training.data.checks import check_names, check_part, check_parts
from training.data.provenance import Provenance
from training.errors import ConfigError, DataError

PARTS = ("training", "validation", "test")
"""Names of the parts of a split, in time order."""

CHUNK_BYTES = 2**24
"""Windows are overlapping views of one table; about this many bytes of them are copied at a time."""

Edges = tuple[int, int, int, int]
"""Row numbers where training, validation and test start, and where test ends."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Part:
    """Windows of one part of the split, in time order. The arrays may be read-only views that share memory.

    Attributes:
        windows: (windows, steps, features) float32, in raw units.
        targets: (windows, horizon, targets) float32: the rows that follow each window.
        history: (windows, past, targets) float32: the target columns up to the last row of each window; `past` is at
            least the steps of a window. In a judged part the first history holds all rows before the part.
        future: (windows, horizon, known) float32, in raw units: what is known of the rows that follow, or None.
        time: (windows,) int64: the number of the first row that follows; None where there is no calendar.
    """

    windows: Float32
    targets: Float32
    history: Float32
    future: Float32 | None = None
    time: Times | None = None

    def __post_init__(self) -> None:
        """Checks the shapes of the arrays.

        Raises:
            ShapeError: An array has another shape.
        """
        check_part(self.windows, self.targets, self.history)

    @property
    def step_targets(self) -> Float32:
        """(windows, steps, horizon, targets): the rows that follow each step; after the last step, `targets`."""
        steps, horizon = self.windows.shape[1], self.targets.shape[1]
        rows = np.concatenate([self.history[:, -steps:], self.targets], axis=1)  # (windows, steps + horizon, targets)
        following = np.lib.stride_tricks.sliding_window_view(rows[:, 1:], horizon, axis=1)
        return following.transpose(0, 1, 3, 2)

    def learnt_targets(self, output: Output) -> Float32:
        """Returns what a fit compares its forecasts with: `targets`, or `step_targets` for the output `sequence`."""
        return self.step_targets if output == "sequence" else self.targets

    @property
    def inputs(self) -> Inputs:
        """What a model takes."""
        return Inputs(self.windows, self.future, self.time)

    def __getitem__(self, entries: slice) -> "Part":
        """Returns some of the windows."""
        arrays = self.windows, self.targets, self.history, self.future, self.time
        return Part(*(None if array is None else array[entries] for array in arrays))  # type: ignore[arg-type]

    def between(self, start: int, end: int) -> "Part":
        """Returns the windows from `start` up to `end`."""
        return self[start:end]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows that windows are cut from, so that longer windows can be cut.

    Attributes:
        features: (rows, features) float32.
        targets: (rows, targets) float32.
        edges: Where training, validation and test start, and where test ends.
        horizon: Rows that follow a window as its targets.
        stride: Rows from the start of a training window to the start of the next.
        known: Places of the features that are known ahead.
        numbers: (rows,) int64: the number of each row on the grid of times; None where there is no calendar.
    """

    features: Float32
    targets: Float32
    edges: Edges
    horizon: int
    stride: int
    known: tuple[int, ...] = ()
    numbers: Times | None = None

    def cut(self, steps: int) -> tuple[Part, Part, Part]:
        """Returns the three parts, with windows of so many steps.

        Raises:
            DataError: A part is too short.
        """
        check_rows(self.edges, steps, self.horizon)
        _, validation, test, end = self.edges
        train = self._cut(steps, steps, validation)[:: self.stride]
        return train, self._cut(steps, validation, test), self._cut(steps, test, end)

    def _cut(self, steps: int, start: int, end: int) -> Part:
        """Cuts windows whose targets start at every row from `start` on and end before `end`."""
        part = cut_judged(self.features[:end], self.targets[:end], steps, self.horizon, start)
        known, numbers = self.features[start:end, list(self.known)], self.numbers
        return replace(
            part,
            future=slide(known, self.horizon) if self.known else None,
            time=None if numbers is None else numbers[start : end - self.horizon + 1],
        )


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a model is trained, stopped and judged on, and where it comes from.

    Attributes:
        feature_names: Names along the last axis of the windows.
        target_names: Names along the last axis of the targets.
        train: Windows to learn from.
        validation: Windows that tell when to stop.
        test: Windows for the final scores.
        series: (rows, targets) float32: the target columns of the training part, in time order; no rows where every
            window stands alone.
        period: Rows in a season; None where there is no season.
        units: Units of measure by column, where they are known.
        frequency: Distance between two rows; None where it is unknown.
        provenance: Which table the windows were cut from.
        rows: What the windows were cut from; None where every window stands alone.
        lags: How many rows before a forecast row its seasons lie that the linear path reads.
        recent: How many of a window's last steps the network reads as a whole; None for all of them.
        calendar: Cycles whose phases the network is given.
    """

    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    series: Float32 = field(default_factory=lambda: np.empty((0, 1), np.float32))
    period: int | None = None
    units: dict[str, str] = field(default_factory=dict)
    frequency: Frequency | None = None
    provenance: Provenance = field(default_factory=Provenance)
    rows: Rows | None = None
    lags: tuple[int, ...] = ()
    recent: int | None = None
    calendar: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        """Checks that names and parts fit each other.

        Raises:
            ShapeError: They do not.
        """
        parts = dict(zip(PARTS, (self.train, self.validation, self.test), strict=True))
        check_names("feature_names", self.feature_names, "windows", self.train.windows.shape)
        check_names("target_names", self.target_names, "targets", self.train.targets.shape)
        check_parts("windows", {name: part.windows.shape for name, part in parts.items()})
        check_parts("targets", {name: part.targets.shape for name, part in parts.items()})

    @property
    def selection(self) -> Float32:
        """(features, targets): 1 where the target is the feature, else 0."""
        return np.array([[f == t for t in self.target_names] for f in self.feature_names], np.float32)

    @property
    def known(self) -> tuple[str, ...]:
        """Features that are known ahead."""
        return () if self.rows is None else tuple(self.feature_names[place] for place in self.rows.known)

    @property
    def recent_steps(self) -> int:
        """How many of a window's last steps the network reads as a whole."""
        return self.recent or self.train.windows.shape[1]

    @property
    def recent_train(self) -> Part:
        """The training part, its windows cut to the steps that the network reads as a whole."""
        return replace(self.train, windows=self.train.windows[:, -self.recent_steps :])

    def with_lags(self, lags: Sequence[int]) -> "Dataset":
        """Returns the same data set with windows that are long enough for these lags.

        Raises:
            DataError: A part is too short.
        """
        if self.rows is None:
            raise DataError("the windows stand alone, so no longer windows can be cut")
        train, validation, test = self.rows.cut(max(self.recent_steps, *lags))
        return replace(self, train=train, validation=validation, test=test, lags=tuple(lags), recent=self.recent_steps)

    def with_calendar(self, calendar: tuple[Phase, ...]) -> "Dataset":
        """Returns the same data set with some of its cycles; without any there are no times."""
        if calendar or not self.calendar:
            return replace(self, calendar=calendar)
        rows = None if self.rows is None else replace(self.rows, numbers=None)
        train, validation, test = (replace(part, time=None) for part in (self.train, self.validation, self.test))
        return replace(self, rows=rows, train=train, validation=validation, test=test, calendar=())

    def with_findings(self, *findings: Finding) -> "Dataset":
        """Returns the same data set with more findings in its provenance."""
        return replace(self, provenance=self.provenance.with_findings(*findings))


def split_rows(split: Sequence[float], rows: int) -> Edges:
    """Splits rows in time order.

    Args:
        split: Three positive shares of any total, such as 70, 15, 15; or the two row numbers, from 0, where validation
            and test start, such as 1000, 1200.
        rows: Number of rows.

    Returns:
        Where the parts start and end.

    Raises:
        ConfigError: `split` is neither.
        DataError: A part has no rows.
    """
    if len(split) == 3:
        validation, test = _by_share(split, rows)
    elif len(split) == 2:
        validation, test = _by_row_number(split)
    else:
        raise ConfigError(
            f"--split {_shown(split)} is neither three numbers nor two; expected three shares such as 70,15,15, "
            "or the row numbers where validation and test start such as 1000,1200"
        )
    if not 0 < validation < test < rows:
        raise DataError(
            f"--split {_shown(split)} leaves a part of the {rows} rows empty; choose a --split that gives each part "
            "some, or bring more rows"
        )
    return 0, validation, test, rows


def check_rows(edges: Edges, window: int, horizon: int) -> None:
    """Checks that each part is long enough to cut one window and its targets.

    Raises:
        DataError: Says what each part needs and has.
    """
    needed = (window + horizon, horizon, horizon)
    if all(end - start >= need for (start, end), need in zip(pairwise(edges), needed, strict=True)):
        return
    sizes = ", ".join(f"{end - start} in {part}" for part, (start, end) in zip(PARTS, pairwise(edges), strict=True))
    needs = ", ".join(f"{need} to {verb}" for need, verb in zip(needed, ("train", "validate", "test"), strict=True))
    raise DataError(
        f"there are too few rows for --window {window} and --horizon {horizon}: at least {needs} are needed, "
        f"but there are {sizes}; bring more rows, or choose a shorter window or horizon, or another --split"
    )


def cut_training(features: Float32, targets: Float32, window: int, horizon: int, stride: int = 1) -> Part:
    """Cuts windows that lie in the training part with their targets, `stride` rows from one start to the next.

    Args:
        features: (rows, features) of the training part alone.
        targets: (rows, targets) of the training part alone.
        window: Steps of a window.
        horizon: Rows that follow a window as its targets.
        stride: Rows from the start of a window to the start of the next.
    """
    return cut_judged(features, targets, window, horizon, window)[::stride]


def cut_judged(features: Float32, targets: Float32, window: int, horizon: int, start: int) -> Part:
    """Cuts windows whose targets start at every row from `start` on, as long as `horizon` rows are left.

    Args:
        features: (rows, features) of the part and of all rows before it.
        targets: (rows, targets) of the same rows.
        window: Steps of a window.
        horizon: Rows that follow a window as its targets.
        start: First row of the part; at least `window`. As many rows of history come with each window.
    """
    ahead = start - window
    return Part(
        windows=slide(features[ahead : len(features) - horizon], window),
        targets=slide(targets[start:], horizon),
        history=slide(targets[: len(targets) - horizon], start),
    )


def slide(rows: Float32, length: int) -> Float32:
    """Returns (rows - length + 1, length, columns): every run of `length` rows, as a view."""
    return np.lib.stride_tricks.sliding_window_view(rows, length, axis=0).transpose(0, 2, 1)


def chunks(*arrays: Float32) -> Iterator[slice]:
    """Slices the first axis, the same for all arrays, into `CHUNK_BYTES` of the widest array, at least one row each."""
    length = max(1, CHUNK_BYTES // max(1, *(array[:1].nbytes for array in arrays)))
    return (slice(start, start + length) for start in range(0, len(arrays[0]), length))


def _by_share(shares: Sequence[float], rows: int) -> tuple[int, int]:
    total = sum(shares)
    if min(shares) <= 0 or not math.isfinite(total):
        raise ConfigError(
            f"--split {_shown(shares)} leaves a part without a share; expected three shares above 0 such as 70,15,15, "
            "because validation tells when to stop and test what the model is worth"
        )
    return round(rows * shares[0] / total), round(rows * (shares[0] + shares[1]) / total)


def _by_row_number(starts: Sequence[float]) -> tuple[int, int]:
    validation, test = starts
    if not (validation % 1 == 0 and test % 1 == 0 and 0 < validation < test):
        raise ConfigError(
            f"--split {_shown(starts)} is no pair of row numbers; expected two rising whole numbers, where validation "
            "and test start, such as 1000,1200, or three shares such as 70,15,15"
        )
    return int(validation), int(test)


def _shown(split: Sequence[float]) -> str:
    return ",".join(f"{number:.15g}" for number in split)
