"""What may spoil a forecast: what to look at in data and settings before a fit, and in the model after it.

The causes of "loss: nan" that can be known before a fit are found here; those of one that came all the same are found
by `diagnosis`.
"""

from collections.abc import Iterator

import keras
import numpy as np
from numpy.typing import NDArray

from app.version.manifest import Finding
from training.config import TrainingConfig
from training.data.table import constant_feature
from training.data.windows import PARTS, Dataset, Part
from training.errors import ConfigError, DataError, TrainingError
from training.fitting.symptoms import (
    HIGH_RATE,
    OUTLIER,
    USUAL_RATE,
    Array,
    Rows,
    first_expected,
    first_not_finite,
    first_unfit,
    has_samples,
    rate_of,
)
from training.network.model import Forecaster, output_of

SATURATING = 10
"""Inputs of this size open or shut the gates of a cell for good."""

UNEVEN = 1000
"""Ratio of two columns' spreads beyond which the narrower column is not seen, if nothing scales them."""

LONG_WINDOW = 20
"""Steps over which a value that relu lets through may multiply beyond all bounds."""

RUNAWAY = 1e6
"""A weight of this size was not learnt but ran away."""

DEAD = 1e-6
"""Spread of the network's output, in spreads of the targets, below which the output does not depend on the window."""

SAMPLED_WINDOWS = 1000
"""Windows, about, on which a network shows whether it is dead."""


def examine(config: TrainingConfig, dataset: Dataset) -> tuple[Finding, ...]:
    """Looks for what may keep a fit from finite numbers, before the fit starts.

    Args:
        config: How to train.
        dataset: What to train on. Its training part alone says which values are usual.

    Returns:
        What is suspicious but may pass.

    Raises:
        DataError: A value is not a finite number.
        ConfigError: The loss cannot be taken of the targets.
    """
    for name, (rows, part) in _parts(config, dataset).items():
        _check_finite(part, rows, dataset)
        if name != "test":
            _check_loss(config, part, rows, dataset)
    return (
        *_constant_columns(dataset),
        *_uneven_columns(config, dataset),
        *_outliers(config, dataset),
        *_risky_settings(config, dataset.train.windows.shape[1]),
    )


def examine_fitted(forecaster: Forecaster, dataset: Dataset) -> tuple[Finding, ...]:
    """Looks at a fitted model: are its weights of a usual size, and does its output depend on the window?

    Args:
        forecaster: The model, and its compiled forecast.
        dataset: What the model was fitted on.

    Returns:
        What may spoil its forecasts.

    Raises:
        TrainingError: A weight or a forecast is not a finite number, so the model cannot be judged, let alone served.
    """
    model = forecaster.model
    _check_weights(model)
    _check_forecasts(forecaster, dataset)
    largest = max(float(np.abs(np.asarray(weight)).max()) for weight in model.trainable_variables)
    if largest > RUNAWAY:
        sentence = f"the model's weights are as large as {largest:.2g} where about 0.1 is usual"
        return (Finding(kind="runaway_weights", sentence=f"{sentence}; train again with a lower --learning-rate"),)
    if _is_dead(model, dataset.train):
        sentence = "the cells' output is the same whatever window they see, so they have died and nothing is learnt"
        remedy = "train again with a lower --learning-rate, or with --activation tanh"
        return (Finding(kind="dead_network", sentence=f"{sentence} from the data; {remedy}"),)
    return ()


def examine_reach(config: TrainingConfig, dataset: Dataset) -> tuple[Finding, ...]:
    """Looks whether windows and lags reach back to the season before, or the calendar tells its place.

    Args:
        config: How to train, as it was asked for.
        dataset: What the model was fitted on, with the lags that are read.

    Returns:
        That no row a season before is seen, and the options that mend it.
    """
    period, window = dataset.period, dataset.recent_steps
    told = {round(phase.rows / phase.per) for phase in dataset.calendar}
    if period is None or period in told or max((window, *dataset.lags)) >= period:
        return ()
    remedy = f"--window {period}"
    if config.skip is not False and config.output == "last" and dataset.selection.any(axis=0).all():
        remedy += f" or --lags {period}"
    sentence = f"the season of {period} rows is longer than the window of {window}, so the model cannot see the season"
    return (Finding(kind="season_out_of_reach", sentence=f"{sentence} before; use {remedy}"),)


def _parts(config: TrainingConfig, dataset: Dataset) -> dict[str, tuple[Rows, Part]]:
    """Returns the parts by name, each with where its windows lie."""
    steps = dataset.train.windows.shape[1]
    alone = has_samples(config)
    training_rows, validation_rows = dataset.provenance.training_rows, dataset.provenance.validation_rows
    starts = (training_rows - steps, training_rows + validation_rows - steps)
    later = starts if training_rows else (None, None)
    return {
        "training": (Rows(config.stride, 0, "training", steps, alone), dataset.train),
        "validation": (Rows(1, later[0], "validation", steps, alone), dataset.validation),
        "test": (Rows(1, later[1], "test", steps, alone), dataset.test),
    }


def _check_finite(part: Part, rows: Rows, dataset: Dataset) -> None:
    found = first_not_finite(part.windows, part.targets)
    if not found:
        return
    names = dataset.target_names if found.is_target else dataset.feature_names
    step = found.step + (part.windows.shape[1] if found.is_target else 0)
    raise DataError(
        f"{dataset.provenance.source or 'the data'}: column '{names[found.column]}' is {found.value} at "
        f"{rows.cell(found.window, step)}; a model needs finite numbers, so mend the cell, or leave it empty and "
        "choose a --missing"
    )


def _check_loss(config: TrainingConfig, part: Part, rows: Rows, dataset: Dataset) -> None:
    expected = part.learnt_targets(config.output) if rows.part == "training" else part.targets
    unfit = first_unfit(config.loss, expected)
    if not unfit:
        return
    window, *inner, target = unfit.place
    cell = rows.cell(window, sum(inner) + first_expected(part.windows, expected))
    raise ConfigError(
        f"--loss {config.loss} does not go with column '{dataset.target_names[target]}' at {cell}: {unfit.why}; "
        "use --loss huber or mae"
    )


def _constant_columns(dataset: Dataset) -> Iterator[Finding]:
    windows = dataset.train.windows
    for name, low, high in zip(dataset.feature_names, windows.min((0, 1)), windows.max((0, 1)), strict=True):
        finding = constant_feature(name)
        if low == high and finding not in dataset.provenance.findings:
            yield finding


def _uneven_columns(config: TrainingConfig, dataset: Dataset) -> Iterator[Finding]:
    """Finds columns too large for a cell, and columns too small beside another, if nothing scales them."""
    if config.scale != "none":
        return
    windows = dataset.train.windows
    largest = np.maximum(np.abs(windows.min((0, 1))), np.abs(windows.max((0, 1))))
    column = int(largest.argmax())
    if largest[column] > SATURATING:
        name = dataset.feature_names[column]
        yield Finding(
            kind="unscaled_column",
            sentence=f"--scale none hands the cells column '{name}' as it is, up to {largest[column]:.4g}, and their "
            f"gates stay open or shut beyond about {SATURATING}; use --scale standard",
            column=name,
        )
    spreads = _usual(windows)[1]
    widest, narrowest = int(spreads.argmax()), int(spreads.argmin())
    if spreads[narrowest] > 0 and spreads[widest] > UNEVEN * spreads[narrowest]:
        name = dataset.feature_names[narrowest]
        yield Finding(
            kind="uneven_columns",
            sentence=f"column '{dataset.feature_names[widest]}' spreads "
            f"{spreads[widest] / spreads[narrowest]:,.0f} times as wide as '{name}', which --scale none leaves as good "
            "as unseen; use --scale standard",
            column=name,
        )


def _outliers(config: TrainingConfig, dataset: Dataset) -> Iterator[Finding]:
    middles, spreads = _usual(dataset.train.windows)
    for rows, part in _parts(config, dataset).values():
        farthest = np.maximum(part.windows.max((0, 1)) - middles, middles - part.windows.min((0, 1)))
        for column in np.flatnonzero((spreads > 0) & (farthest > OUTLIER * spreads)):
            window, step, value = _farthest(part.windows, int(column), middles[column])
            name = dataset.feature_names[column]
            yield Finding(
                kind="extreme_value",
                sentence=f"column '{name}' is {value:.4g} at {rows.cell(window, step)}, "
                f"{farthest[column] / spreads[column]:,.0f} spreads from the middle of its training values; if it is "
                "a slip, mend it: one such row drowns the others",
                column=name,
            )


def _usual(windows: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the middle and the spread of each column; a few wild values do not move them.

    The spread is the distance between the quartiles over 1.349, which is the standard deviation of normal values, or
    the standard deviation itself if the quartiles are equal.
    """
    rows = windows[:, -1].astype(np.float64)  # windows overlap, so their last rows are nearly all rows
    low, middle, high = np.percentile(rows, (25, 50, 75), axis=0)
    quartiles = (high - low) / 1.349
    return middle, np.where(quartiles > 0, quartiles, rows.std(axis=0))


def _farthest(windows: Array, column: int, middle: float) -> tuple[int, int, float]:
    """Returns the window, the step and the value that is farthest from the middle of its column."""
    values = windows[..., column]
    value = max(float(values.min()), float(values.max()), key=lambda extreme: abs(extreme - middle))
    window, step = np.argwhere(values == np.float32(value))[0]
    return int(window), int(step), value


def _risky_settings(config: TrainingConfig, steps: int) -> Iterator[Finding]:
    if config.activation == "relu" and steps >= LONG_WINDOW:
        yield Finding(
            kind="unsafe_activation",
            sentence=f"--activation relu has no bound, and a window of {steps} steps multiplies what it lets through "
            f"{steps} times over, so the loss may explode; --activation tanh cannot",
        )
    rate = rate_of(config)
    if rate > HIGH_RATE:
        yield Finding(
            kind="high_rate",
            sentence=f"--learning-rate {rate:g} moves every weight by about as much in every step, and weights are "
            f"about {HIGH_RATE:g}; use --learning-rate {USUAL_RATE:g}, or auto",
        )


def _check_weights(model: keras.Model) -> None:
    broken = [weight.path for weight in model.weights if not np.isfinite(np.asarray(weight)).all()]
    if broken:
        sentence = f"{len(broken)} of the model's weights hold values that are not finite, first {broken[0]}"
        raise TrainingError(f"{sentence}; train again with a lower --learning-rate")


def _check_forecasts(forecast: Forecaster, dataset: Dataset) -> None:
    for name, part in zip(PARTS, (dataset.train, dataset.validation, dataset.test), strict=True):
        bad = np.flatnonzero(~np.isfinite(forecast(part.inputs)).all(axis=(1, 2)))
        if len(bad):
            sentence = f"the model's forecast is not finite after {len(bad)} of {len(part.windows)} windows"
            place = f"of the {name} part, first window {bad[0]}"
            raise TrainingError(f"{sentence} {place}; look for extreme values there")


def _is_dead(model: keras.Model, part: Part) -> bool:
    """Returns whether the head says the same after every window of a sample.

    A head of zeros is the start beside a linear path, which was kept because no epoch was better.
    """
    if not any(np.any(weights) for weights in model.get_layer("head").get_weights()):
        return False
    sample = part.inputs[:: max(1, len(part.windows) // SAMPLED_WINDOWS)]
    head = output_of("head", model, sample)
    return len(sample) > 1 and float(np.ptp(head, axis=0).max()) < DEAD
