"""The causes of "loss: nan" as code: what to look at before a fit, what went wrong in it, what to check after it.

Rows are counted from 0 in the order of time, as `--split` counts them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray

from training.config import Loss, TrainingConfig
from training.data.table import never_changes
from training.data.windows import PARTS, Dataset, Part
from training.errors import ConfigError, DataError, TrainingError
from training.network.model import compile_forecast

Array = NDArray[np.float32]

HIGH_RATE = 0.1
"""Adam moves every weight by about the rate in each step, and weights are about this size."""

OUTLIER = 100
"""Spreads from the middle of its column beyond which a value drowns the others."""

SATURATING = 10
"""A cell's gates are open or shut for good at inputs of this size."""

UNEVEN = 1000
"""Ratio of two columns' spreads beyond which the narrower one is not seen, where nothing scales them."""

LONG_WINDOW = 20
"""Steps over which what relu lets through may multiply beyond all bounds."""

RUNAWAY = 1e6
"""A weight of this size is no finding of a fit."""

DEAD = 1e-6
"""Spread of the network's output, in spreads of the targets, below which it says the same whatever it sees."""

LOWEST: dict[Loss, float] = {"msle": -1.0}
"""The losses that take a logarithm of one plus a value, which must lie above this."""

CHUNK_WINDOWS = 4096
"""Windows searched at once for a value that is not a finite number."""

LISTED = 5
"""Windows of a batch named one by one; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the data, the configuration or the model that may spoil a forecast."""

    cause: str
    """In two or three words."""
    sentence: str
    """What was found where, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A loss or a gradient that was not a finite number, and what was done about it."""

    epoch: int
    """The pass it happened in, from 1."""
    batch: int | None
    """The batch of that pass, from 1; None where it was the validation loss."""
    rows: str
    """Which windows and rows were seen, for example `windows 96 to 127, rows 96 to 163`."""
    cause: str
    """Why, as a clause."""
    remedy: str
    """What was done, as a clause."""

    @property
    def sentence(self) -> str:
        """The incident in words."""
        place = f"batch {self.batch}" if self.batch else "validation"
        return f"not a finite number in epoch {self.epoch}, {place} ({self.rows}): {self.cause}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a fit saw when a loss or a gradient was not a finite number, with the weights of that moment."""

    epoch: int
    batch: int | None
    """From 1; None for the validation part."""
    numbers: NDArray[np.int64]
    """(n,) the windows' numbers within their part."""
    windows: Array
    """(n, steps, features)."""
    expected: Array
    """(n, ..., horizon, targets): what follows."""
    forecasts: Array
    """What the model made of it; the same shape."""
    loss: float
    """Mean over the windows."""
    norm: float
    """Of the gradient; NaN for the validation part."""
    usual_norm: float
    """Mean of the finite norms of the epoch so far; NaN where there are none."""

    @property
    def part(self) -> Literal["training", "validation"]:
        """Where the windows are from."""
        return "training" if self.batch else "validation"

    @property
    def what(self) -> str:
        """What is not a finite number."""
        if not np.isfinite(self.loss):
            return f"{self.part} loss"
        return "gradient" if not np.isfinite(self.norm) else "weight after the step"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a loss or a gradient is not a finite number."""

    cause: str
    """As a clause."""
    curable: bool
    """Whether smaller steps may help."""
    next_things: tuple[str, str, str]
    """To try, the most promising first."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Where the windows of a part stand in the table."""

    stride: int
    """Rows between the starts of two windows."""
    first: int | None
    """Row of the first window's first step; None where that is not known."""
    part: str
    steps: int
    """Of a window."""
    alone: bool = False
    """Whether every window is a sample of its own, so that there are no rows."""

    def cell(self, window: int, step: int) -> str:
        """Where a step stands, for example `row 40 (step 6 of window 35 of the training part)`.

        Args:
            window: From 0.
            step: From 0; the targets' go on where the window's end.
        """
        within = f"step {step + 1} of" if step < self.steps else f"step {step - self.steps + 1} after"
        place = f"{within} {'sample' if self.alone else 'window'} {window} of the {self.part} part"
        if self.alone or self.first is None:
            return place
        return f"row {self.first + window * self.stride + step} ({place})"

    def covered(self, numbers: NDArray[np.int64], length: int) -> str:
        """Which windows these are, and the rows that they and their targets cover, `length` a window."""
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
        return f"windows {listed}{of}, rows {self.first + low * self.stride} to {self._end(high, length)}"

    def _end(self, window: int, length: int) -> int:
        return (self.first or 0) + window * self.stride + length - 1


def examine(config: TrainingConfig, dataset: Dataset) -> tuple[Finding, ...]:
    """Looks for what may keep a fit from finite numbers, before it starts.

    Args:
        config: How to train.
        dataset: What on; only the training part says what is usual.

    Returns:
        What is suspicious but may pass.

    Raises:
        DataError: A value is not a finite number.
        ConfigError: The loss cannot be taken of the targets.
    """
    for name, (rows, part) in _parts(config, dataset).items():
        _require_finite(part, rows, dataset)
        if name != "test":
            _require_loss(config, part, rows, dataset)
    return (
        *_constant_columns(dataset),
        *_uneven_columns(config, dataset),
        *_outliers(config, dataset),
        *_risky_settings(config, dataset.train.windows.shape[1]),
    )


def examine_fitted(model: keras.Model, dataset: Dataset) -> tuple[Finding, ...]:
    """Looks at a fitted model: finite weights of a usual size, finite forecasts, an output that depends on the input.

    Args:
        model: As `training.network.model.build_model` makes it.
        dataset: What it was fitted on.

    Returns:
        What may spoil its forecasts.

    Raises:
        TrainingError: A weight or a forecast is not a finite number, so the model cannot be judged, let alone served.
    """
    broken = [weight.path for weight in model.weights if not np.isfinite(np.asarray(weight)).all()]
    if broken:
        sentence = f"{len(broken)} of the model's weights hold values that are not finite, first {broken[0]}"
        raise TrainingError(f"{sentence}; train again with a lower --learning-rate")
    findings = []
    largest = max(float(np.abs(np.asarray(weight)).max()) for weight in model.trainable_variables)
    if largest > RUNAWAY:
        sentence = f"the model's weights are as large as {largest:.2g} where about 0.1 is usual"
        findings.append(Finding("runaway weights", f"{sentence}; train again with a lower --learning-rate"))
    forecast = compile_forecast(model)
    for name, part in zip(PARTS, (dataset.train, dataset.validation, dataset.test), strict=True):
        bad = np.flatnonzero(~np.isfinite(forecast(part.windows)).all(axis=(1, 2)))
        if len(bad):
            sentence = f"the model's forecast is not finite after {len(bad)} of {len(part.windows)} windows"
            place = f"of the {name} part, first window {bad[0]}"
            raise TrainingError(f"{sentence} {place}; look for extreme values there")
    if not findings and _is_dead(model, dataset.train):
        findings.append(
            Finding(
                "dead network",
                "the cells' output is the same whatever window they see, so they have died and nothing is learnt from "
                "the data; train again with a lower --learning-rate, or with --activation tanh",
            )
        )
    return tuple(findings)


def diagnose(trouble: Trouble, config: TrainingConfig, model: keras.Model, sound_again: bool) -> Diagnosis:
    """Finds why a loss or a gradient is not a finite number.

    Args:
        trouble: What the fit saw.
        config: How it trains.
        model: What it trains.
        sound_again: Whether loss and gradient of the same windows are finite with the last good weights: then the steps
            since then led astray, otherwise the windows themselves do.
    """
    rows = rows_of(trouble, config)
    names = config.features or config.target
    return (
        _blame_data(trouble, rows, names, config.target)
        or _blame_loss(trouble, config)
        or (_blame_rate(config) if sound_again else None)
        or _blame_extreme(trouble, config, model, rows, names)
        or _blame_steps(trouble, config)
    )


def rows_of(trouble: Trouble, config: TrainingConfig) -> Rows:
    """Where the windows of a trouble stand. A fit does not know which row validation starts with."""
    if trouble.part == "validation":
        return Rows(1, None, "validation", trouble.windows.shape[1], alone=_stand_alone(config))
    return Rows(config.stride, 0, "training", trouble.windows.shape[1], alone=_stand_alone(config))


def covered(trouble: Trouble, config: TrainingConfig) -> str:
    """The windows of a trouble and their rows in words."""
    return rows_of(trouble, config).covered(trouble.numbers, _length(trouble))


_OTHER_LOSSES = ("--loss huber", "--loss mae", "add a constant to the targets, so that they stay well above 0")


def _rate(config: TrainingConfig) -> float:
    return 0.0 if config.learning_rate == "auto" else config.learning_rate


def _stand_alone(config: TrainingConfig) -> bool:
    return config.series == "multiplication"


def _length(trouble: Trouble) -> int:
    """Rows from a window's first step to its last target."""
    return int(trouble.windows.shape[1] + trouble.expected.shape[-2])


def _parts(config: TrainingConfig, dataset: Dataset) -> dict[str, tuple[Rows, Part]]:
    """The parts by name, with where their windows stand."""
    steps = dataset.train.windows.shape[1]
    alone = _stand_alone(config)
    training_rows, validation_rows = dataset.provenance.training_rows, dataset.provenance.validation_rows
    starts = (training_rows - steps, training_rows + validation_rows - steps)
    later = starts if training_rows else (None, None)
    return {
        "training": (Rows(config.stride, 0, "training", steps, alone), dataset.train),
        "validation": (Rows(1, later[0], "validation", steps, alone), dataset.validation),
        "test": (Rows(1, later[1], "test", steps, alone), dataset.test),
    }


def _require_finite(part: Part, rows: Rows, dataset: Dataset) -> None:
    found = _not_finite(part.windows, part.targets)
    if not found:
        return
    where, (window, step, column), value = found
    names = dataset.feature_names if where == "feature" else dataset.target_names
    offset = 0 if where == "feature" else part.windows.shape[1]
    raise DataError(
        f"{dataset.provenance.source or 'the data'}: column '{names[column]}' is {value} at "
        f"{rows.cell(window, step + offset)}; a model needs finite numbers, so mend the cell, or "
        "leave it empty and choose a --missing"
    )


def _not_finite(windows: Array, targets: Array) -> tuple[str, tuple[int, int, int], float] | None:
    """The first value that is not finite: feature or target; its window, step and column; the value."""
    for name, values in (("feature", windows), ("target", targets)):
        if np.isfinite(values.min()) and np.isfinite(values.max()):  # a NaN is the smallest and the largest
            continue
        for start in range(0, len(values), CHUNK_WINDOWS):
            chunk = values[start : start + CHUNK_WINDOWS]
            places = np.argwhere(~np.isfinite(chunk))
            if len(places):
                window, *inner = (int(index) for index in places[0])
                return name, (start + window, sum(inner[:-1]), inner[-1]), float(chunk[tuple(places[0])])
    return None


def _blame_data(trouble: Trouble, rows: Rows, names: Sequence[str], targets: Sequence[str]) -> Diagnosis | None:
    found = _not_finite(trouble.windows, trouble.expected)
    if not found:
        return None
    where, (index, step, column), value = found
    if where == "feature":
        name = _name(names, column, trouble.windows.shape[2])
    else:
        name = f"target '{targets[column]}'" if len(targets) > column else f"target {column + 1}"
        step += _first_expected(trouble.windows, trouble.expected)
    return Diagnosis(
        f"{name} is {value} at {rows.cell(int(trouble.numbers[index]), step)}",
        curable=False,
        next_things=(
            "mend the cell, or leave it empty and pass --missing interpolate",
            "--missing drop, which leaves out rows with empty cells",
            "leave the column out of --features",
        ),
    )


def _blame_loss(trouble: Trouble, config: TrainingConfig) -> Diagnosis | None:
    unfit = _unfit_for_loss(config.loss, trouble.expected)
    if unfit:
        cause = f"--loss {config.loss} cannot be taken: {unfit[0]}"
        return Diagnosis(cause, curable=False, next_things=_OTHER_LOSSES)
    lowest = float(trouble.forecasts.min())
    if config.loss in LOWEST and lowest <= LOWEST[config.loss]:
        cause = f"a forecast fell to {lowest:.4g}, and --loss {config.loss} takes the logarithm of one plus it"
        return Diagnosis(cause, curable=True, next_things=_OTHER_LOSSES)
    return None


def _blame_rate(config: TrainingConfig) -> Diagnosis | None:
    rate = _rate(config)
    if rate <= HIGH_RATE:
        return None
    cause = f"the rate of {rate:.2g} is too high: before the steps it took, the same windows gave a finite loss"
    usual = f"--learning-rate {TrainingConfig.model_fields['learning_rate'].default:g}"
    return Diagnosis(cause, curable=True, next_things=(usual, "--learning-rate auto", _tighter(config)))


def _blame_extreme(
    trouble: Trouble, config: TrainingConfig, model: keras.Model, rows: Rows, names: Sequence[str]
) -> Diagnosis | None:
    """Blames the largest value the cells see, if it is extreme."""
    scaled = np.asarray(keras.Model(model.input, model.get_layer("scale").output)(trouble.windows))
    index, step, column = (int(number) for number in np.unravel_index(np.abs(scaled).argmax(), scaled.shape))
    seen = float(scaled[index, step, column])
    if abs(seen) <= OUTLIER:
        return None
    cause = (
        f"{_name(names, column, trouble.windows.shape[2])} is {trouble.windows[index, step, column]:.4g} at "
        f"{rows.cell(int(trouble.numbers[index]), step)}, which the cells see as {seen:.3g} where about 1 is usual"
    )
    other = "window" if config.scale == "standard" else "standard"
    remedies = (f"--scale {other} (it is {config.scale})", "mend or leave out that row", _lower(config))
    return Diagnosis(cause, curable=True, next_things=remedies)


def _blame_steps(trouble: Trouble, config: TrainingConfig) -> Diagnosis:
    """Blames what multiplies from step to step of a window: nothing else is left."""
    steps = trouble.windows.shape[1]
    if config.activation == "relu":
        cause = f"relu has no bound, and {steps} steps multiply what it lets through"
        remedies = ("--activation tanh (it is relu)", _lower(config), _tighter(config))
        return Diagnosis(cause, curable=True, next_things=remedies)
    usual = f" (it was {trouble.usual_norm:.3g} on average)" if np.isfinite(trouble.usual_norm) else ""
    cause = f"the gradient exploded: its norm is {trouble.norm:.3g}{usual}, the loss {trouble.loss:.3g}"
    remedies = (_lower(config), _tighter(config), f"--window {max(1, steps // 2)} (it is {steps})")
    return Diagnosis(cause, curable=True, next_things=remedies)


def _lower(config: TrainingConfig) -> str:
    return f"--learning-rate {_rate(config) / 10:.2g} (it is {_rate(config):.2g})"


def _tighter(config: TrainingConfig) -> str:
    return f"--clip {config.clip / 10:.2g} (it is {config.clip:g})"


def _first_expected(windows: Array, expected: Array) -> int:
    """The step that what is expected starts with: with a forecast after every step, the second."""
    return 1 if expected.ndim == 4 else windows.shape[1]


def _name(names: Sequence[str], column: int, columns: int) -> str:
    return f"column '{names[column]}'" if len(names) == columns else f"feature {column + 1}"


def _require_loss(config: TrainingConfig, part: Part, rows: Rows, dataset: Dataset) -> None:
    expected = part.learnt_targets(config.output) if rows.part == "training" else part.targets
    unfit = _unfit_for_loss(config.loss, expected)
    if not unfit:
        return
    refusal, (window, *inner, target) = unfit
    cell = rows.cell(window, sum(inner) + _first_expected(part.windows, expected))
    raise ConfigError(
        f"--loss {config.loss} does not go with column '{dataset.target_names[target]}' at {cell}: {refusal}; "
        "use --loss huber or mae"
    )


def _unfit_for_loss(loss: Loss, expected: Array) -> tuple[str, tuple[int, ...]] | None:
    """Why a loss cannot be taken of what should be forecast, and the first place of which this is true."""
    if loss == "mape":
        unfit, why = expected == 0, "it divides by what should be forecast, which is"
    elif loss in LOWEST:
        unfit, why = expected <= LOWEST[loss], "it takes the logarithm of one plus what should be forecast, which is"
    else:
        return None
    if not unfit.any():
        return None
    place = tuple(int(index) for index in np.argwhere(unfit)[0])
    return f"{why} {expected[place]:.4g}", place


def _constant_columns(dataset: Dataset) -> Iterator[Finding]:
    windows = dataset.train.windows
    for name, low, high in zip(dataset.feature_names, windows.min((0, 1)), windows.max((0, 1)), strict=True):
        sentence = never_changes(name)
        if low == high and sentence not in dataset.provenance.notices:
            yield Finding("constant column", sentence)


def _uneven_columns(config: TrainingConfig, dataset: Dataset) -> Iterator[Finding]:
    """Where nothing scales the columns, those too large for a cell, and those too small beside another."""
    if config.scale != "none":
        return
    windows = dataset.train.windows
    largest = np.maximum(np.abs(windows.min((0, 1))), np.abs(windows.max((0, 1))))
    column = int(largest.argmax())
    if largest[column] > SATURATING:
        yield Finding(
            "unscaled column",
            f"--scale none hands the cells column '{dataset.feature_names[column]}' as it is, up to "
            f"{largest[column]:.4g}, and their gates stay open or shut beyond about {SATURATING}; use --scale standard",
        )
    spreads = _usual(windows)[1]
    widest, narrowest = int(spreads.argmax()), int(spreads.argmin())
    if spreads[narrowest] > 0 and spreads[widest] > UNEVEN * spreads[narrowest]:
        yield Finding(
            "wildly scaled columns",
            f"column '{dataset.feature_names[widest]}' spreads {spreads[widest] / spreads[narrowest]:,.0f} times as "
            f"wide as '{dataset.feature_names[narrowest]}', which --scale none leaves as good as unseen; use --scale "
            "standard",
        )


def _outliers(config: TrainingConfig, dataset: Dataset) -> Iterator[Finding]:
    middles, spreads = _usual(dataset.train.windows)
    for rows, part in _parts(config, dataset).values():
        farthest = np.maximum(part.windows.max((0, 1)) - middles, middles - part.windows.min((0, 1)))
        for column in np.flatnonzero(farthest > OUTLIER * spreads):
            if spreads[column] == 0:
                continue
            window, step, value = _farthest(part.windows, int(column), middles[column])
            yield Finding(
                "extreme value",
                f"column '{dataset.feature_names[column]}' is {value:.4g} at {rows.cell(window, step)}, "
                f"{farthest[column] / spreads[column]:,.0f} spreads from the middle of its training values; if that is "
                "a slip, mend it: one such row drowns the others",
            )


def _usual(windows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle and spread of each column; a few wild values do not move them.

    The spread is the distance between the quartiles over 1.349, which is the standard deviation of normal values, or
    the standard deviation where the quartiles are equal.
    """
    rows = windows[:, -1].astype(np.float64)  # windows overlap: their last rows are nearly all there are
    low, middle, high = np.percentile(rows, (25, 50, 75), axis=0)
    quartiles = (high - low) / 1.349
    return middle, np.where(quartiles > 0, quartiles, rows.std(axis=0))


def _farthest(windows: Array, column: int, middle: float) -> tuple[int, int, float]:
    """The value farthest from the middle of its column: window, step, value."""
    values = windows[..., column]
    value = max(float(values.min()), float(values.max()), key=lambda extreme: abs(extreme - middle))
    window, step = np.argwhere(values == np.float32(value))[0]
    return int(window), int(step), value


def _risky_settings(config: TrainingConfig, steps: int) -> Iterator[Finding]:
    if config.activation == "relu" and steps >= LONG_WINDOW:
        yield Finding(
            "unsafe activation",
            f"--activation relu has no bound, and a window of {steps} steps multiplies what it lets through {steps} "
            "times over, so the loss may explode; --activation tanh cannot",
        )
    rate = _rate(config)
    if rate > HIGH_RATE:
        yield Finding(
            "high rate",
            f"--learning-rate {rate:g} moves every weight by about as much in every step, and weights are about "
            f"{HIGH_RATE:g}; use --learning-rate {TrainingConfig.model_fields['learning_rate'].default:g}, or auto",
        )


def _is_dead(model: keras.Model, part: Part) -> bool:
    """Whether the head says the same after every one of up to a thousand windows."""
    sample = part.windows[:: max(1, len(part.windows) // 1000)]
    head = np.asarray(keras.Model(model.input, model.get_layer("head").output)(sample, training=False))
    return len(sample) > 1 and float(np.ptp(head, axis=0).max()) < DEAD
