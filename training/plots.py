"""The figures of a report, drawn without any global state of matplotlib.

Every function gives a Figure; `svg` and `png` write it down. The ink of a figure is a handful of fixed colours, which
`svg` turns into CSS variables, so that a figure follows the page it stands in from light to dark. What is compared is
told apart by its place, its name and its lightness too, never by hue alone (colours: Okabe and Ito, 2008).
"""

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from training.evaluate import MODEL, Evaluation
from training.fit import History
from training.learning_rate import Sweep
from training.windows import Part

Array = NDArray[np.floating[Any]]

INK, MUTED, GRID, BLUE, ORANGE = "#1f2328", "#6e7781", "#d8dee4", "#0072b2", "#d55e00"
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", BLUE: "--model", ORANGE: "--baseline"}

WIDTH = 8.6
"""Inches, of every figure."""
PNG_DPI = 110
LOG_FROM = 20
"""An axis is logarithmic where the largest value is this many times the smallest."""
LABEL_GAP = 0.15
"""Inches from one label at the end of a line to the next."""
BAR_GAP = 0.27
"""Inches from one bar to the next."""
CURVE_POINTS = 1000
"""Points of a curve that are drawn; of more, every second, third ..."""
SHOWN_ROWS = 300
"""Rows of the test part, the last ones, of which the forecast one step ahead is drawn."""
BINS = 30
LAGS = 40

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.3,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",  # letters stay letters: smaller, and in the page's own type
    "svg.hashsalt": "windowcast",  # the same figure gives the same file
    "text.color": INK,
    "text.parse_math": False,  # a column may be called `$`
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


def losses(history: History, clip: float) -> Figure:
    """Training and validation loss by epoch with the best one marked, and the norm of the gradient below.

    Args:
        history: At least one epoch.
        clip: Largest norm of the gradient that a training step takes whole.
    """
    epochs = history.epochs[:: stride(len(history.epochs))]
    numbers = [epoch.number for epoch in epochs]
    best = history.best
    with _drawing(height=4.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        curves = {
            "training": ([epoch.loss for epoch in epochs], MUTED),
            "validation": ([epoch.validation_loss for epoch in epochs], BLUE),
        }
        _draw_curves(above, numbers, curves, inches=2.2)
        above.plot(best.number, best.validation_loss, "o", color=BLUE, markersize=5)
        above.axvline(best.number, color=BLUE, linewidth=0.6, linestyle=":")
        above.set(ylabel="loss", title=f"Loss; the weights of epoch {best.number} were kept")
        norms = {
            "mean": ([epoch.gradient_norm for epoch in epochs], INK),
            "largest": ([epoch.largest_norm for epoch in epochs], MUTED),
        }
        _draw_curves(below, numbers, norms, inches=1.1)
        below.axhline(clip, color=ORANGE, linewidth=0.8, linestyle="--")
        below.set(xlabel="epoch", ylabel="norm", title=f"Norm of the gradient; dashed: clipped at {clip:g}")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        for incident in history.incidents:
            for axes in (above, below):
                axes.axvline(incident.epoch, color=ORANGE, linewidth=0.8, linestyle="-.")
    return figure


def sweep(found: Sweep) -> Figure:
    """Loss against rate, both on logarithmic axes where the losses allow it, with the chosen rate marked."""
    with _drawing(height=2.8) as figure:
        axes = figure.subplots()
        axes.plot(found.rates, found.losses, color=GRID, linewidth=1)
        axes.plot(found.rates, found.smoothed, color=BLUE)
        axes.axvline(found.chosen, color=ORANGE, linewidth=1, linestyle="--")
        axes.set(
            xlabel="learning rate", ylabel="loss", title=f"Loss, smoothed, as the rate rises; chosen {found.chosen:.2g}"
        )
        axes.set_xscale("log")
        _plain_log(axes.xaxis)
        _scale_y(axes, [np.asarray(found.smoothed)])
    return figure


def forecast(evaluation: Evaluation, column: int, part: Part, first_row: int, label: str) -> Figure:
    """One step ahead over the test part, and the whole horizon from its last origin, of one target.

    Args:
        evaluation: On the test part.
        column: Number of the target.
        part: The test part.
        first_row: Where in the table the test part starts.
        label: Name and unit of the target.
    """
    origins, horizon = evaluation.actual.shape[:2]
    shown = slice(max(0, origins - SHOWN_ROWS), origins)
    rows = np.arange(first_row, first_row + origins)[shown]
    with _drawing(height=3.2) as figure:
        if horizon == 1:
            one_step = figure.subplots()
        else:
            one_step, whole = figure.subplots(1, 2, width_ratios=(2, 1))
            _draw_example(whole, evaluation, column, part.history[-1, :, column], rows[-1])
        one_step.plot(rows, evaluation.actual[shown, 0, column], color=INK, label="actual", linewidth=1)
        for name, style in _protagonists(evaluation):
            one_step.plot(rows, evaluation.forecasts[name][shown, 0, column], label=name, **style)
        one_step.set(xlabel="row of the table", ylabel=label, title="One step ahead")
        one_step.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        _plain(one_step.xaxis)
        _plain(one_step.yaxis)
        figure.legend(*one_step.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


def agreement(evaluation: Evaluation, column: int, label: str) -> Figure:
    """Forecast against actual as points, for samples that stand alone and hence make no line, of one target."""
    step = stride(len(evaluation.actual))
    actual = evaluation.actual[::step, 0, column]
    with _drawing(height=3.2) as figure:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, (name, style) in zip(panels, _protagonists(evaluation), strict=False):
            axes.axline((actual[0], actual[0]), slope=1, color=MUTED, linewidth=0.8)
            axes.plot(actual, evaluation.forecasts[name][::step, 0, column], ".", color=style["color"], markersize=3)
            axes.set(xlabel=f"actual {label}", title=name)
            _plain(axes.xaxis)
            _plain(axes.yaxis)
        panels[0].set_ylabel("forecast")
    return figure


def horizon_errors(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """Mean absolute error of every forecaster by step of the horizon, a panel for each label; bars for a single step.

    Args:
        evaluation: On the test part.
        labels: Names and units of the first targets.
    """
    horizon = evaluation.actual.shape[1]
    columns = min(2, len(labels))
    lines = math.ceil(len(labels) / columns)
    height = 0.8 + max(1.6, BAR_GAP * len(evaluation.forecasts))
    with _drawing(height=lines * height) as figure:
        panels = figure.subplots(lines, columns, squeeze=False).flat
        for panel in panels[len(labels) :]:
            panel.set_axis_off()
        for column, (axes, label) in enumerate(zip(panels, labels, strict=False)):
            errors = {each.forecaster: each.mae_by_step for each in evaluation.scores_of(column)}
            if horizon == 1:
                _draw_bars(axes, {name: error[0] for name, error in errors.items()}, evaluation.verdict.against)
                axes.set_xlabel(f"mean absolute error, {label}")
            else:
                _draw_steps(axes, errors, evaluation.verdict.against, inches=height - 0.8)
                axes.set(xlabel="step of the horizon", ylabel=f"MAE, {label}")
    return figure


def residuals(evaluation: Evaluation, column: int, first_row: int, label: str) -> Figure:
    """What the model's forecast one step ahead left over: in time, as a histogram and its autocorrelation."""
    left = evaluation.actual[:, 0, column].astype(np.float64) - evaluation.forecasts[MODEL][:, 0, column]
    step = stride(len(left))
    with _drawing(height=2.7) as figure:
        in_time, spread, echo = figure.subplots(1, 3, width_ratios=(2, 1, 1))
        rows = np.arange(first_row, first_row + len(left))
        in_time.plot(rows[::step], left[::step], color=BLUE, linewidth=0.8)
        in_time.axhline(0, color=MUTED, linewidth=0.8)
        in_time.set(xlabel="row of the table", ylabel=f"actual - forecast, {label}", title="In time")
        in_time.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        counts, edges = np.histogram(left, bins=min(BINS, max(5, len(left) // 5)))
        spread.stairs(counts, edges, color=BLUE, fill=True)
        spread.axvline(0, color=MUTED, linewidth=0.8)
        spread.set(xlabel="actual - forecast", ylabel="forecasts", title="Histogram")
        for axis in (in_time.xaxis, in_time.yaxis, spread.xaxis, spread.yaxis):
            _plain(axis)
        correlations = autocorrelation(left)
        chance = 1.96 / math.sqrt(len(left))
        echo.axhspan(-chance, chance, color=GRID, linewidth=0)
        echo.vlines(np.arange(1, len(correlations) + 1), 0, correlations, color=BLUE, linewidth=1.5)
        echo.axhline(0, color=MUTED, linewidth=0.8)
        echo.set(xlabel="rows apart", title="Autocorrelation", ylim=(-1, 1))
        echo.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of values with those 1, 2, 3 ... rows before, up to a quarter of them and `LAGS`; none where all are the same."""
    centred = values - values.mean()
    power = centred @ centred
    lags = range(1, min(LAGS, len(values) // 4) + 1) if power > 0 else ()
    return np.array([centred[lag:] @ centred[:-lag] / power for lag in lags])


def svg(figure: Figure, name: str, alt: str) -> str:
    """A figure as an element of an HTML page, its colours those of the page.

    Args:
        figure: Its ids are made unique on the page by its name.
        name: Letters, digits and dashes.
        alt: What is to be seen, for those who do not see it.
    """
    text = io.StringIO()
    with _style():
        figure.savefig(
            text, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
        )
    element = text.getvalue()
    element = element[element.index("<svg ") :]
    element = re.sub(r'(?<=[ :])(id="|href="#|url\(#)|(?<=")url\(#', lambda found: f"{found[0]}{name}-", element)
    for colour, variable in CSS_VARIABLES.items():
        element = element.replace(colour, f"var({variable})")
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def png(figure: Figure, path: Path) -> None:
    """Writes a figure to a file, on white."""
    with _style():
        figure.savefig(path, format="png", dpi=PNG_DPI, metadata={"Software": None})


def stride(points: int) -> int:
    """Which of so many points are drawn: each, every second, third ..., so that `CURVE_POINTS` at most are left."""
    return math.ceil(points / CURVE_POINTS)


@contextmanager
def _drawing(height: float) -> Iterator[Figure]:
    """An empty figure to fill, in our style."""
    with _style():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)
        yield figure
        canvas.draw()
        figure.set_layout_engine("none")  # it stays as it is laid out, and need not be laid out again to be written down


@contextmanager
def _style() -> Iterator[None]:
    """Our style, and no word on letters that matplotlib's own type lacks: the page has them, a PNG shows a box."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _protagonists(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    """The model and its best rival, and how each is drawn."""
    yield MODEL, {"color": BLUE, "linewidth": 1.2}
    yield evaluation.verdict.against, {"color": ORANGE, "linewidth": 1, "linestyle": "--"}


def _draw_example(axes: Axes, evaluation: Evaluation, column: int, past: Array, row: int) -> None:
    """The end of the last window, and what each forecaster saw coming."""
    horizon = evaluation.actual.shape[1]
    past = past[-2 * max(horizon, 6) :]
    ahead = np.arange(row, row + horizon)
    axes.axvline(row - 0.5, color=MUTED, linewidth=0.8, linestyle=":")
    styles = dict(_protagonists(evaluation))
    for name in [*(evaluation.forecasts.keys() - styles), *reversed(styles)]:
        axes.plot(
            ahead, evaluation.forecasts[name][-1, :, column], **styles.get(name, {"color": MUTED, "linewidth": 0.6})
        )
    joined = np.concatenate([past, evaluation.actual[-1, :, column]])
    axes.plot(np.arange(row - len(past), row + horizon), joined, color=INK, linewidth=1)
    axes.set(xlabel="row of the table", title=f"The last {horizon} steps")
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    _plain(axes.xaxis)
    _plain(axes.yaxis)


def _draw_bars(axes: Axes, errors: Mapping[str, float], against: str) -> None:
    axes.barh(list(errors), list(errors.values()), height=0.62, color=[_colour(name, against) for name in errors])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.12)
    for place, error in enumerate(errors.values()):
        axes.annotate(f"{error:.4g}", (error, place), (3, 0), textcoords="offset points", va="center", fontsize=8.5)
    _plain(axes.xaxis)


def _draw_steps(axes: Axes, errors: Mapping[str, Sequence[float]], against: str, inches: float) -> None:
    """A line per forecaster with its name at the end."""
    steps = np.arange(1, len(next(iter(errors.values()))) + 1)
    for name, error in errors.items():
        is_main = name in (MODEL, against)
        axes.plot(
            steps, error, color=_colour(name, against), linewidth=1.5 if is_main else 0.9, marker="o", markersize=2.5
        )
    _scale_y(axes, [np.asarray(error) for error in errors.values()])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label_ends(axes, {name: (error[-1], _colour(name, against)) for name, error in errors.items()}, inches)


def _draw_curves(
    axes: Axes, numbers: Sequence[int], curves: Mapping[str, tuple[Sequence[float], str]], inches: float
) -> None:
    """A line per curve with its name at the end; a logarithmic axis where they fall far."""
    for values, colour in curves.values():
        axes.plot(numbers, values, color=colour, marker="o" if len(numbers) < 4 else None, markersize=3)
    _scale_y(axes, [np.asarray(values) for values, _ in curves.values()])
    _label_ends(axes, {name: (values[-1], colour) for name, (values, colour) in curves.items()}, inches)


def _colour(name: str, against: str) -> str:
    return {MODEL: BLUE, against: ORANGE}.get(name, MUTED)


def _scale_y(axes: Axes, curves: Sequence[NDArray[Any]]) -> None:
    """A logarithmic axis where the finite values are positive and far apart."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() * LOG_FROM < values.max():
        axes.set_yscale("log")
        _plain_log(axes.yaxis)
    else:
        _plain(axes.yaxis)


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]], inches: float) -> None:
    """Names lines beside their last points, moved apart where they would overlap.

    Args:
        axes: With all its lines drawn.
        ends: Last value and colour of every line.
        inches: About how high the axes stand.
    """
    to_axes = axes.transScale + axes.transLimits
    heights = {
        name: float(to_axes.transform((axes.get_xlim()[1], value))[1])
        for name, (value, _) in ends.items()
        if math.isfinite(value)
    }
    names = sorted(heights, key=heights.__getitem__)
    places = _moved_apart(np.array([heights[name] for name in names]), LABEL_GAP / inches)
    for name, place in zip(names, places, strict=True):
        style: dict[str, Any] = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "va": "center",
            "fontsize": 8.5,
        }
        axes.annotate(name, (1, place), (4, 0), color=ends[name][1], **style)


def _moved_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Rising heights with at least a gap between two, and the same mean."""
    steps = gap * np.arange(len(heights))
    apart = np.maximum.accumulate(heights - steps) + steps
    return apart - (apart - heights).mean() if len(heights) else heights


def _plain(axis: Axis) -> None:
    """A few numbers as they are, without an offset to add; very large and small ones with a common factor."""
    formatter = ScalarFormatter(useOffset=False, useMathText=False)
    formatter.set_powerlimits((-4, 6))
    axis.set_major_formatter(formatter)


def _plain_log(axis: Axis) -> None:
    """1e-3 or 0.01 where matplotlib would typeset a power of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
