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
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from training.data.windows import Part
from training.fitting.history import History
from training.fitting.learning_rate import Sweep
from training.judging.evaluate import MODEL, Evaluation

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
LETTERS = 28
"""Longest name that is shown whole beside a line or an axis."""
TICKS = 5
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


@contextmanager
def _style() -> Iterator[None]:
    """Our style, and no word on letters that matplotlib's own type lacks: the page has them, a PNG shows a box."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@_style()
def losses(history: History, clip: float) -> Figure:
    """Training and validation loss by epoch with the best one marked, and the norm of the gradient below.

    Args:
        history: At least one epoch.
        clip: Largest norm of the gradient that a training step takes whole.
    """
    epochs = history.epochs[:: stride(len(history.epochs))]
    numbers = [epoch.number for epoch in epochs]
    best = history.best
    figure, ((above,), (below,)) = _panels(2.4, lines=2, names=("validation",), height_ratios=(2, 1))
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


@_style()
def sweep(found: Sweep) -> Figure:
    """Loss against rate, the rate on a logarithmic axis, with the chosen rate and the one where it diverged marked."""
    figure, ((axes,),) = _panels(2.9)
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
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _legend(axes)
    return figure


@_style()
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
    if horizon == 1:
        figure, ((one_step,),) = _panels(3.0)
    else:
        figure, ((one_step, whole),) = _panels(3.0, columns=2, width_ratios=(2, 1))
        _draw_example(whole, evaluation, column, part.history[-1, :, column], int(rows[-1]))
    one_step.plot(rows, evaluation.actual[shown, 0, column], color=INK, label="actual", linewidth=1)
    for name, style in _protagonists(evaluation):
        one_step.plot(rows, evaluation.forecasts[name][shown, 0, column], label=_cut(name), **style)
    one_step.set(xlabel="row of the table", ylabel=_cut(label))
    _tick(one_step, whole_x=True)
    _legend(one_step)
    return figure


@_style()
def agreement(evaluation: Evaluation, column: int, label: str) -> Figure:
    """Forecast against actual as points, for samples that stand alone and hence make no line, of one target."""
    step = stride(len(evaluation.actual))
    actual = evaluation.actual[::step, 0, column]
    figure, (panels,) = _panels(3.2, columns=2, sharex=True, sharey=True)
    for axes, (name, style) in zip(panels, _protagonists(evaluation), strict=True):
        ends = [actual.min(), actual.max()]
        axes.plot(ends, ends, color=MUTED, linewidth=0.8)
        axes.plot(actual, evaluation.forecasts[name][::step, 0, column], ".", color=style["color"], markersize=3)
        axes.set(xlabel=f"actual {_cut(label)}", ylabel="forecast", title=_cut(name))
        _tick(axes)
    return figure


@_style()
def horizon_errors(evaluation: Evaluation, labels: Sequence[str]) -> Figure:
    """Mean absolute error of every forecaster by step of the horizon, a panel for each label; bars for a single step.

    Args:
        evaluation: On the test part.
        labels: Names and units of the first targets.
    """
    is_single = evaluation.actual.shape[1] == 1
    names = tuple(evaluation.forecasts)
    columns = min(2, len(labels))
    lines = math.ceil(len(labels) / columns)
    margins: dict[str, Any] = {"start": _room(names)} if is_single else {"names": names}
    figure, panels = _panels(0.8 + max(1.6, BAR_GAP * len(names)), lines, columns, **margins)
    for axes in panels.flat[len(labels) :]:
        axes.set_axis_off()
    for column, (axes, label) in enumerate(zip(panels.flat, labels, strict=False)):
        errors = {score.forecaster: score.mae_by_step for score in evaluation.scores_of(column)}
        if is_single:
            _draw_bars(axes, {name: error[0] for name, error in errors.items()}, evaluation.verdict.against)
            axes.set_xlabel(f"mean absolute error, {_cut(label)}")
        else:
            _draw_steps(axes, errors, evaluation.verdict.against)
            axes.set(xlabel="step of the horizon", ylabel=f"MAE, {_cut(label)}")
    return figure


@_style()
def residuals(evaluation: Evaluation, column: int, first_row: int, label: str) -> Figure:
    """What the model's forecast one step ahead left over: in time, as a histogram, and its autocorrelation."""
    left = left_over(evaluation, column)
    step = stride(len(left))
    figure, ((in_time, spread, echo),) = _panels(2.6, columns=3, width_ratios=(2, 1, 1), start=0.75)
    rows = np.arange(first_row, first_row + len(left))
    in_time.plot(rows[::step], left[::step], color=BLUE, linewidth=0.8)
    in_time.axhline(0, color=MUTED, linewidth=0.8)
    in_time.set(xlabel="row of the table", ylabel=_cut(label), title="Actual less forecast")
    _tick(in_time, whole_x=True)
    room = 1e-6 * float(np.abs(left).max()) or 1.0  # residuals that are all alike leave no width for a bin
    limits = (left.min() - room, left.max() + room)
    counts, edges = np.histogram(left, bins=min(BINS, max(5, len(left) // 5)), range=limits)
    spread.stairs(counts, edges, color=BLUE, fill=True)
    spread.axvline(0, color=MUTED, linewidth=0.8)
    spread.set(xlabel=_cut(label), ylabel="forecasts", title="Histogram")
    _tick(spread, x_ticks=3)
    correlations = autocorrelation(left)
    chance = 1.96 / math.sqrt(len(left))
    echo.axhspan(-chance, chance, color=GRID, linewidth=0)
    echo.vlines(np.arange(1, len(correlations) + 1), 0, correlations, color=BLUE, linewidth=1.5)
    echo.axhline(0, color=MUTED, linewidth=0.8)
    echo.set(xlabel="rows apart", title="Autocorrelation", ylim=(-1, 1))
    _tick(echo, whole_x=True)
    return figure


def left_over(evaluation: Evaluation, column: int) -> NDArray[np.float64]:
    """(n,): actual less the model's forecast one step ahead, raw units."""
    return evaluation.actual[:, 0, column].astype(np.float64) - evaluation.forecasts[MODEL][:, 0, column]


def autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of values with those 1, 2, 3 ... rows before, up to a quarter of them and `LAGS`; none where all are the same."""
    centred = values - values.mean()
    power = centred @ centred
    lags = range(1, min(LAGS, len(values) // 4) + 1) if power > 0 else ()
    return np.array([centred[lag:] @ centred[:-lag] / power for lag in lags])


def svg(figure: Figure, name: str, alt: str) -> str:
    """A figure as an element of an HTML page, its colours those of the page.

    Args:
        figure: As the functions above give it.
        name: Letters, digits and dashes; makes the element's ids its own.
        alt: What is to be seen, for those who do not see it.
    """
    text = io.StringIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _style():
        figure.savefig(text, format="svg", transparent=True, metadata=unsaid)
    element = text.getvalue()
    element = element[element.index("<svg ") :]
    element = re.sub(r"<[^>]+>", lambda tag: _adapted(tag[0], name), element)  # a column's name between tags stays
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def png(figure: Figure, path: Path) -> None:
    """Writes a figure to a file, on white."""
    with _style():
        figure.savefig(path, format="png", dpi=PNG_DPI, metadata={"Software": None})


def stride(points: int) -> int:
    """Which of so many points are drawn: each, every second, third ..., so that `CURVE_POINTS` at most are left."""
    return math.ceil(points / CURVE_POINTS)


def _adapted(tag: str, name: str) -> str:
    """A tag of a figure with ids of the figure's own, and colours of the page."""
    tag = re.sub(r'( id="|href="#|url\(#)', lambda found: f"{found[0]}{name}-", tag)
    for colour, variable in CSS_VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag


def _panels(
    height: float,
    lines: int = 1,
    columns: int = 1,
    names: Sequence[str] = (),
    start: float = 0.85,
    **options: Any,
) -> tuple[Figure, NDArray[Any]]:
    """A figure and its empty axes (lines, columns).

    The margins are ours: it takes matplotlib as long to find them as to draw all the rest.

    Args:
        height: Of a line of axes with its margins, in inches.
        lines: Of axes.
        columns: Of axes.
        names: Of the lines to be named at the right of each axes.
        start: Inches to the left of each axes.
        options: Passed on to `Figure.subplots`.
    """
    above, below, end = 0.35, 0.5, _room(names) if names else 0.15
    wide, high = WIDTH / columns - start - end, height - above - below
    margins = {
        "left": start / WIDTH,
        "right": 1 - end / WIDTH,
        "bottom": below / (lines * height),
        "top": 1 - above / (lines * height),
        "wspace": (start + end) / wide,
        "hspace": (above + below) / high,
    }
    figure = Figure(figsize=(WIDTH, lines * height))
    FigureCanvasAgg(figure)
    panels: NDArray[Any] = figure.subplots(lines, columns, squeeze=False, gridspec_kw=margins, **options)
    return figure, panels


def _room(names: Sequence[str]) -> float:
    """Inches that the longest name takes."""
    return 0.2 + 0.07 * max(len(_cut(name)) for name in names)


def _cut(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def _protagonists(evaluation: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    """The model and its best rival, and how each is drawn."""
    yield MODEL, {"color": BLUE, "linewidth": 1.2}
    yield evaluation.verdict.against, {"color": ORANGE, "linewidth": 1, "linestyle": "--"}


def _colour(name: str, against: str) -> str:
    return {MODEL: BLUE, against: ORANGE}.get(name, MUTED)


def _draw_example(axes: Axes, evaluation: Evaluation, column: int, past: Array, row: int) -> None:
    """The end of the last window, and what each forecaster saw coming."""
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
    _tick(axes, whole_x=True, x_ticks=3)


def _draw_bars(axes: Axes, errors: Mapping[str, float], against: str) -> None:
    places = np.arange(len(errors))
    axes.barh(places, list(errors.values()), height=0.62, color=[_colour(name, against) for name in errors])
    axes.set_yticks(places, [_cut(name) for name in errors])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.15)
    for place, error in enumerate(errors.values()):
        axes.annotate(f"{error:.4g}", (error, place), (3, 0), textcoords="offset points", va="center", fontsize=8.5)
    axes.xaxis.set_major_formatter(FuncFormatter(_number))


def _draw_steps(axes: Axes, errors: Mapping[str, Sequence[float]], against: str) -> None:
    """A line per forecaster with its name at the end."""
    steps = np.arange(1, len(next(iter(errors.values()))) + 1)
    for name, error in errors.items():
        is_main = name in (MODEL, against)
        style: dict[str, Any] = {"linewidth": 1.5 if is_main else 0.9, "zorder": 3 if is_main else 2}
        line = "--" if name == against else "o-"  # dashes show what they cover
        axes.plot(steps, error, line, color=_colour(name, against), markersize=2.5, **style)
    _tick(axes, whole_x=True)
    _scale_y(axes, list(errors.values()))
    _label_ends(axes, {name: (error[-1], _colour(name, against)) for name, error in errors.items()})


def _draw_curves(axes: Axes, numbers: Sequence[int], curves: Mapping[str, tuple[Sequence[float], str]]) -> None:
    """A line per curve with its name at the end; a logarithmic axis where they fall far."""
    for values, colour in curves.values():
        axes.plot(numbers, values, color=colour, marker="o" if len(numbers) < 4 else None, markersize=3)
    _tick(axes, whole_x=True)
    _scale_y(axes, [values for values, _ in curves.values()])
    _label_ends(axes, {name: (values[-1], colour) for name, (values, colour) in curves.items()})


def _legend(axes: Axes) -> None:
    """Names the lines above the axes, where others have their title."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=4, borderpad=0.2, columnspacing=1.2)


def _tick(axes: Axes, *, whole_x: bool = False, x_ticks: int = TICKS) -> None:
    """A few ticks, with their numbers as they are."""
    axes.xaxis.set_major_locator(MaxNLocator(x_ticks, integer=whole_x))
    axes.yaxis.set_major_locator(MaxNLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_formatter(FuncFormatter(_number))


def _number(value: float, _: int | None = None) -> str:
    """As one would write it, without an offset to add or a power of ten to multiply by."""
    return f"{value + 0.0:.7g}"  # a zero has no sign


def _scale_y(axes: Axes, curves: Sequence[Sequence[float]]) -> None:
    """A logarithmic axis where the finite values are positive and far apart."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() * LOG_FROM < values.max():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_number))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names lines beside their last points, moved apart where they would overlap.

    Args:
        axes: With all its lines drawn.
        ends: Last value and colour of every line.
    """
    to_axes = axes.transScale + axes.transLimits
    right = axes.get_xlim()[1]
    heights = {
        name: float(to_axes.transform((right, value))[1]) for name, (value, _) in ends.items() if math.isfinite(value)
    }
    names = sorted(heights, key=heights.__getitem__)
    inches = axes.get_window_extent().height / axes.figure.dpi
    places = _moved_apart(np.array([heights[name] for name in names]), LABEL_GAP / inches)
    style: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "center",
        "fontsize": 8.5,
    }
    for name, place in zip(names, places, strict=True):
        axes.annotate(_cut(name), (1, place), (4, 0), color=ends[name][1], **style)


def _moved_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Rising heights with at least a gap between two, and the same mean."""
    steps = gap * np.arange(len(heights))
    apart = np.maximum.accumulate(heights - steps) + steps
    return apart - (apart - heights).mean() if len(heights) else heights
