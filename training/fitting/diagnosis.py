"""Why a loss or a gradient became a number that is not finite: the cause, whether smaller steps may help, what to try.

The causes are tried in the order of their certainty: bad data, an unfit loss, too high a rate, an extreme value, and
at last whatever multiplies from step to step of a window.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from training.config import TrainingConfig
from training.fitting.symptoms import (
    HIGH_RATE,
    LOWEST,
    OUTLIER,
    USUAL_RATE,
    Rows,
    Trouble,
    first_expected,
    first_not_finite,
    first_unfit,
    has_samples,
    rate_of,
)
from training.network.model import output_of

OTHER_LOSSES = ("--loss huber", "--loss mae", "add a constant to the targets, so that they stay well above 0")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a loss or a gradient is not a finite number."""

    cause: str
    """As a clause."""
    curable: bool
    """Whether smaller steps may help."""
    next_things: tuple[str, str, str]
    """What to try, the most promising first."""


def diagnose(trouble: Trouble, config: TrainingConfig, model: keras.Model, sound_again: bool) -> Diagnosis:
    """Finds why a loss or a gradient is not a finite number.

    Args:
        trouble: What the fit saw.
        config: How the model is trained.
        model: The model that is trained.
        sound_again: Whether loss and gradient of the same windows are finite with the last good weights. If they are,
            the steps since then led astray; otherwise the windows themselves did.
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
    """Returns where the windows of a trouble lie. A fit does not know the row at which validation starts."""
    steps, alone = trouble.windows.shape[1], has_samples(config)
    if trouble.part == "validation":
        return Rows(1, None, "validation", steps, alone)
    return Rows(config.stride, 0, "training", steps, alone)


def covered(trouble: Trouble, config: TrainingConfig) -> str:
    """Names the windows of a trouble and their rows."""
    length = int(trouble.windows.shape[1] + trouble.expected.shape[-2])
    return rows_of(trouble, config).covered(trouble.numbers, length)


def _blame_data(trouble: Trouble, rows: Rows, names: Sequence[str], targets: Sequence[str]) -> Diagnosis | None:
    found = first_not_finite(trouble.windows, trouble.expected)
    if not found:
        return None
    name, step = _name(names, found.column, trouble.windows.shape[2]), found.step
    if found.is_target:
        is_named = len(targets) > found.column
        name = f"target '{targets[found.column]}'" if is_named else f"target {found.column + 1}"
        step += first_expected(trouble.windows, trouble.expected)
    return Diagnosis(
        f"{name} is {found.value} at {rows.cell(int(trouble.numbers[found.window]), step)}",
        curable=False,
        next_things=(
            "mend the cell, or leave it empty and pass --missing interpolate",
            "--missing drop, which leaves out rows with empty cells",
            "leave the column out of --features",
        ),
    )


def _blame_loss(trouble: Trouble, config: TrainingConfig) -> Diagnosis | None:
    unfit = first_unfit(config.loss, trouble.expected)
    if unfit:
        cause = f"--loss {config.loss} cannot be taken: {unfit.why}"
        return Diagnosis(cause, curable=False, next_things=OTHER_LOSSES)
    lowest = float(trouble.forecasts.min())
    if config.loss in LOWEST and lowest <= LOWEST[config.loss]:
        cause = f"a forecast fell to {lowest:.4g}, and --loss {config.loss} takes the logarithm of one plus it"
        return Diagnosis(cause, curable=True, next_things=OTHER_LOSSES)
    return None


def _blame_rate(config: TrainingConfig) -> Diagnosis | None:
    rate = rate_of(config)
    if rate <= HIGH_RATE:
        return None
    cause = f"the rate of {rate:.2g} is too high: before the steps it took, the same windows gave a finite loss"
    next_things = (f"--learning-rate {USUAL_RATE:g}", "--learning-rate auto", _tighter(config))
    return Diagnosis(cause, curable=True, next_things=next_things)


def _blame_extreme(
    trouble: Trouble, config: TrainingConfig, model: keras.Model, rows: Rows, names: Sequence[str]
) -> Diagnosis | None:
    """Blames the largest value that the cells see, if it is extreme."""
    scaled = output_of("scale", model, trouble.inputs)
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
    """Blames what multiplies from step to step of a window: no other cause is left."""
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
    return f"--learning-rate {rate_of(config) / 10:.2g} (it is {rate_of(config):.2g})"


def _tighter(config: TrainingConfig) -> str:
    return f"--clip {config.clip / 10:.2g} (it is {config.clip:g})"


def _name(names: Sequence[str], column: int, columns: int) -> str:
    return f"column '{names[column]}'" if len(names) == columns else f"feature {column + 1}"
