"""The figures of a report, one function each; `canvas` has what they share, and writes them down.

Place, name and lightness tell apart what is compared, never hue alone.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from training.data.windows import Part
from training.fitting.history import History
from training.fitting.learning_rate import Sweep
from training.judging.evaluate import MODEL, Evaluation
from training.reporting.canvas import (
    BLUE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    as_written,
    empty_panels,
    house_style,
    label_ends,
    name_lines,
    room_for,
    scale_y,
    shortened,
    tick,
)

Array = NDArray[np.floating[Any]]

BAR_GAP = 0.27
"""Inches from one bar to the next."""
CURVE_POINTS = 1000
"""Most points that are drawn of a curve; of a longer curve every second, third ... point is drawn."""
SHOWN_ROWS = 300
"""The forecast one step ahead is drawn for so many rows at the end of the test part."""
BINS = 30
LAGS = 40


@house_style()
def losses(history: History, clip: float) -> Figure:
    """Draws training and validation loss by epoch, the best epoch marked, and the norm of the gradient below.

    Args:
        history: How the fit went; at least one epoch.
        clip: Largest norm of the gradient that a training step takes whole.
    """
    epochs = history.epochs[:: stride(len(history.epochs))]
    numbers = [epoch.number for epoch in epochs]
    best = history.best
    figure, ((above,), (below,)) = empty_panels(2.4, lines=2, names=("validation",), height_ratios=(2, 1))
    curves = {
        "training": ([epoch.loss for epoch in epochs], MUTED),
        "validation": ([epoch.validation_loss for epoch in epochs], BLUE),
    }
    _draw_curves(above, numbers, curves)
    above.plot(best.number, best.validation_loss, "o", color=BLUE, markersize=5)
    above.axvline(best.number, color=BLUE, linewidth=0.6, linestyle=":")
    above.set(xlabel="epoch", ylabel="loss", title=f"Loss; the weights of epoch {best.number} were kept")
    norms = {
        "mean": ([epoch.gradient_norm for epoch in epochs], INK),
        "largest": ([epoch.largest_norm for epoch in epochs], MUTED),
    }
    is_clipped = any(epoch.largest_norm > clip for epoch in epochs)
    if is_clipped:
        below.axhline(clip, color=ORANGE, linewidth=0.8, linestyle="--")
    _draw_curves(below, numbers, norms)
    limit = f"dashed: clipped to {clip:g}" if is_clipped else f"never above {clip:g}, where it would be clipped"
    below.set(xlabel="epoch", ylabel="norm", title=f"Norm of the gradient; {limit}")
    below.set_xlim(above.get_xlim())
    for axes in (above, below):
        for incident in history.incidents:
            axes.axvline(incident.epoch, color=ORANGE, linewidth=0.8, linestyle="-.")
    return figure


@house_style()
def sweep(found: Sweep) -> Figure:
    """Draws loss against rate on a logarithmic axis; marks the chosen rate, and the rate where the loss diverged."""
    figure, ((axes,),) = empty_panels(2.9)
    axes.plot(found.rates, found.losses, color=MUTED, linewidth=0.6, label="loss of a batch")
    axes.plot(found.rates, found.smoothed, color=BLUE, label="smoothed")
    axes.axvline(found.chosen, color=ORANGE, linewidth=1.2, linestyle="--", label=f"chosen: {found.chosen:g}")
    if found.diverged_at is not None:
        label = f"left for good: {found.diverged_at:.2g}"
        axes.axvline(found.diverged_at, color=INK, linewidth=0.8, linestyle=":", label=label)
    start = found.smoothed[0]
    if math.isfinite(start):
        axes.set_ylim(0, 2 * start)  # the batch at which the loss left would flatten all others
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss")
    axes.xaxis.set_major_formatter(FuncFormatter(as_written))
    axes.xaxis.set_minor_formatter(NullFormatter())
    name_lines(axes)
    return figure


@house_style()
def forecast(evaluation: Evaluation, column: int, part: Part, first_row: int, label: str) -> Figure:
    """Draws forecasts of one target: one step ahead over the test part, and the whole horizon from the last origin.

    Args:
        evaluation: Forecasts on the test part.
        column: Number of the target.
        part: The test part.
        first_row: Where in the table the test part starts.
        label: Name and unit of the target.
    """
    origins, horizon = evaluation.actual.shape[:2]
    shown = slice(max(0, origins - SHOWN_ROWS), origins)
    rows = np.arange(first_row, first_row + origins)[shown]
    if horizon == 1:
        figure, ((one_step,),) = empty_panels(3.0)
    else:
        figure, ((one_step, whole),) = empty_panels(3.0, columns=2, width_ratios=(2, 1))
        _draw_example(whole, evaluation, column, part.history[-1, :, column], int(rows[-1]))
    one_step.plot(rows, evaluation.actual[shown, 0, column], color=INK, label="actual", linewidth=1)
    for name, style in _protagonists(evaluation):
        one_step.plot(rows, evaluation.forecasts[name][shown, 0, column], label=shortened(name), **style)
    one_step.set(xlabel="row of the table", ylabel=shortened(label))
    tick(one_step, whole_x=True)
    name_lines(one_step)
    return figure


@house_style()
def agreement(evaluation: Evaluation, column: int, label: str) -> Figure:
    """Draws forecast against actual as points, of one target; samples that stand alone make no line."""
    step = stride(len(evaluation.actual))
    actual = evaluation.actual[::step, 0, column]
    figure, (panels,) = empty_panels(3.2, columns=2, sharex=True, sharey=True)
    for axes, (name, style) in zip(panels, _protagonists(evaluation), strict=True):
        ends = [actual.min(), actual.max()]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
        axes.plot(actual, evaluation.forecasts[name][::step, 0, column], ".", color=style["color"], markersize=3)
        axes.set(xlabel=f"actual {shortened(label)}", ylabel="forecast", title=shortened(name))
        tick(axes)
    return figure


@house_style()
def horizon_errors(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """Draws the mean absolute error of every forecaster by step of the horizon; bars for a single step.

    Args:
        evaluation: Forecasts on the test part.
        labels: Names and units of the first targets; each gets a panel.
    """
    is_single = evaluation.actual.shape[1] == 1
    names = tuple(evaluation.forecasts)
    columns = min(2, len(labels))
    lines = math.ceil(len(labels) / columns)
    margins: dict[str, Any] = {"start": room_for(names)} if is_single else {"names": names}
    figure, panels = empty_panels(0.8 + max(1.6, BAR_GAP * len(names)), lines, columns, **margins)
    for axes in panels.flat[len(labels) :]:
        axes.set_axis_off()
    for column, (axes, label) in enumerate(zip(panels.flat, labels, strict=False)):
        errors = {score.forecaster: score.mae_by_step for score in evaluation.scores_of(column)}
        if is_single:
            _draw_bars(axes, {name: error[0] for name, error in errors.items()}, evaluation.verdict.against)
            axes.set_xlabel(f"mean absolute error, {shortened(label)}")
        else:
            _draw_steps(axes, errors, evaluation.verdict.against)
            axes.set(xlabel="step of the horizon", ylabel=f"MAE, {shortened(label)}")
    return figure


@house_style()
def residuals(evaluation: Evaluation, column: int, first_row: int, label: str) -> Figure:
    """Draws the residuals of the model one step ahead: in time, as a histogram, and their autocorrelation."""
    left = left_over(evaluation, column)
    step = stride(len(left))
    figure, ((in_time, spread, echo),) = empty_panels(2.6, columns=3, width_ratios=(2, 1, 1), start=0.75)
    rows = np.arange(first_row, first_row + len(left))
    in_time.plot(rows[::step], left[::step], color=BLUE, linewidth=0.8)
    in_time.axhline(0, color=MUTED, linewidth=0.8)
    in_time.set(xlabel="row of the table", ylabel=shortened(label), title="Actual less forecast")
    tick(in_time, whole_x=True)
    room = 1e-6 * float(np.abs(left).max()) or 1.0  # residuals that are all alike leave no width for a bin
    limits = (left.min() - room, left.max() + room)
    counts, edges = np.histogram(left, bins=min(BINS, max(5, len(left) // 5)), range=limits)
    spread.stairs(counts, edges, color=BLUE, fill=True)
    spread.axvline(0, color=MUTED, linewidth=0.8)
    spread.set(xlabel=shortened(label), ylabel="forecasts", title="Histogram")
    tick(spread, x_ticks=3)
    correlations = autocorrelation(left)
    chance = 1.96 / math.sqrt(len(left))
    echo.axhspan(-chance, chance, color=GRID, linewidth=0)
    echo.vlines(np.arange(1, len(correlations) + 1), 0, correlations, color=BLUE, linewidth=1.5)
    echo.axhline(0, color=MUTED, linewidth=0.8)
    echo.set(xlabel="rows apart", title="Autocorrelation", ylim=(-1, 1))
    tick(echo, whole_x=True)
    return figure


def left_over(evaluation: Evaluation, column: int) -> NDArray[np.float64]:
    """Returns the residuals (n,): actual less the model's forecast one step ahead, raw units."""
    return evaluation.actual[:, 0, column].astype(np.float64) - evaluation.forecasts[MODEL][:, 0, column]


def autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the correlation of values with the values 1, 2, 3 ... rows before.

    There are at most `LAGS` correlations, and at most a quarter as many as values; none if all values are the same.
    """
    centred = values - values.mean()
    power = centred @ centred
    lags = range(1, min(LAGS, len(values) // 4) + 1) if power > 0 else ()
    return np.array([centred[lag:] @ centred[:-lag] / power for lag in lags])


def stride(points: int) -> int:
    """Returns the step from one drawn point to the next, so that at most `CURVE_POINTS` are drawn."""
    return math.ceil(points / CURVE_POINTS)


def _protagonists(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the model and the best baseline, and how each is drawn."""
    yield MODEL, {"color": BLUE, "linewidth": 1.2}
    yield evaluation.verdict.against, {"color": ORANGE, "linewidth": 1, "linestyle": "--"}


def _colour(name: str, against: str) -> str:
    return {MODEL: BLUE, against: ORANGE}.get(name, MUTED)


def _draw_example(axes: Axes, evaluation: Evaluation, column: int, past: Array, row: int) -> None:
    """Draws the end of the last window, and what each forecaster expected after it."""
    horizon = evaluation.actual.shape[1]
    past = past[-2 * max(horizon, 6) :]
    ahead = np.arange(row, row + horizon)
    axes.axvline(row - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    styles = dict(_protagonists(evaluation))
    others = [name for name in evaluation.forecasts if name not in styles]
    for name in (*others, *reversed(styles)):
        style = styles.get(name, {"color": MUTED, "linewidth": 0.6})
        axes.plot(ahead, evaluation.forecasts[name][-1, :, column], **style)
    joined = np.concatenate([past, evaluation.actual[-1, :, column]])
    axes.plot(np.arange(row - len(past), row + horizon), joined, color=INK, linewidth=1)
    axes.set(xlabel="row of the table", title=f"The last {horizon} rows")
    tick(axes, whole_x=True, x_ticks=3)


def _draw_bars(axes: Axes, errors: Mapping[str, float], against: str) -> None:
    places = np.arange(len(errors))
    axes.barh(places, list(errors.values()), height=0.62, color=[_colour(name, against) for name in errors])
    axes.set_yticks(places, [shortened(name) for name in errors])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.15)
    for place, error in enumerate(errors.values()):
        axes.annotate(f"{error:.4g}", (error, place), (3, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(as_written))


def _draw_steps(axes: Axes, errors: Mapping[str, Sequence[float]], against: str) -> None:
    """Draws a line per forecaster with its name at the end."""
    steps = np.arange(1, len(next(iter(errors.values()))) + 1)
    for name, error in errors.items():
        is_main = name in (MODEL, against)
        style: dict[str, Any] = {"linewidth": 1.5 if is_main else 0.9, "zorder": 3 if is_main else 2}
        line = "--" if name == against else "o-"  # dashes show what they cover
        axes.plot(steps, error, line, color=_colour(name, against), markersize=2.5, **style)
    tick(axes, whole_x=True)
    scale_y(axes, list(errors.values()))
    label_ends(axes, {name: (error[-1], _colour(name, against)) for name, error in errors.items()})


def _draw_curves(axes: Axes, numbers: Sequence[int], curves: Mapping[str, tuple[Sequence[float], str]]) -> None:
    """Draws a line per curve with its name at the end; the axis is logarithmic if they fall far."""
    for values, colour in curves.values():
        axes.plot(numbers, values, color=colour, marker="o" if len(numbers) < 4 else None, markersize=3)
    tick(axes, whole_x=True)
    scale_y(axes, [values for values, _ in curves.values()])
    label_ends(axes, {name: (values[-1], colour) for name, (values, colour) in curves.items()})
