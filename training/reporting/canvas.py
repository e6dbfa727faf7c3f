"""What all figures share: ink, margins, ticks and names; and how a figure becomes part of a page or a file.

The ink of a figure is a handful of fixed colours, which `svg` turns into CSS variables, so that a figure follows its
page from light to dark (colours: Okabe and Ito, 2008). Nothing here changes the global state of matplotlib.
"""

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

INK, MUTED, GRID, BLUE, ORANGE = "#1f2328", "#6e7781", "#d8dee4", "#0072b2", "#d55e00"
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", BLUE: "--model", ORANGE: "--baseline"}

WIDTH = 8.6
"""Inches; every figure is as wide."""

PNG_DPI = 110

LOG_FROM = 20
"""An axis is logarithmic if the largest value is this many times the smallest."""

LABEL_GAP = 0.15
"""Inches between the names of two lines."""

LETTERS = 28
"""Length of the longest name that is shown whole beside a line or an axis."""

TICKS = 5

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
def house_style() -> Iterator[None]:
    """Sets our style, and silences warnings of letters that matplotlib lacks: a page has them, a PNG shows a box."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def svg(figure: Figure, name: str, alt: str) -> str:
    """Returns a figure as an element of an HTML page, in the colours of the page.

    Args:
        figure: As `training.reporting.plots` draws it.
        name: Letters, digits and dashes; goes into the element's ids, so that they are unique on the page.
        alt: What the figure shows, for readers who do not see it.
    """
    text = io.StringIO()
    unsaid = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with house_style():
        figure.savefig(text, format="svg", transparent=True, metadata=unsaid)
    element = text.getvalue()
    element = element[element.index("<svg ") :]
    element = re.sub(r"<[^>]+>", lambda tag: _adapted(tag[0], name), element)  # a column's name between tags stays
    return element.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def png(figure: Figure) -> bytes:
    """Returns a figure as a PNG file, on white."""
    image = io.BytesIO()
    with house_style():
        figure.savefig(image, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return image.getvalue()


def _adapted(tag: str, name: str) -> str:
    """Returns a tag of a figure with the figure's name in its ids, and the colours of the page."""
    tag = re.sub(r'( id="|href="#|url\(#)', lambda found: f"{found[0]}{name}-", tag)
    for colour, variable in CSS_VARIABLES.items():
        tag = tag.replace(colour, f"var({variable})")
    return tag


def empty_panels(
    height: float,
    lines: int = 1,
    columns: int = 1,
    names: Sequence[str] = (),
    start: float = 0.85,
    **options: Any,
) -> tuple[Figure, NDArray[Any]]:
    """Returns a figure and its empty axes (lines, columns).

    The margins are computed here: matplotlib takes as long to find them as to draw all the rest.

    Args:
        height: Height of a line of axes with its margins, in inches.
        lines: Lines of axes.
        columns: Columns of axes.
        names: Names that will stand to the right of each axes.
        start: Inches to the left of each axes.
        options: Passed on to `Figure.subplots`.
    """
    above, below, end = 0.35, 0.5, room_for(names) if names else 0.15
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


def room_for(names: Sequence[str]) -> float:
    """Returns the inches that the longest name takes."""
    return 0.2 + 0.07 * max(len(shortened(name)) for name in names)


def shortened(name: str) -> str:
    """Returns a name, cut where it is longer than `LETTERS`."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def name_lines(axes: Axes) -> None:
    """Names the lines above the axes, in the place of a title."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 0.985), ncols=4, borderpad=0.2, columnspacing=1.2)


def tick(axes: Axes, *, whole_x: bool = False, x_ticks: int = TICKS) -> None:
    """Sets a few ticks with plain numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(x_ticks, integer=whole_x))
    axes.yaxis.set_major_locator(MaxNLocator(TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(as_written))
    axes.yaxis.set_major_formatter(FuncFormatter(as_written))


def as_written(value: float, _: int | None = None) -> str:
    """Returns a number as one would write it, without an offset to add or a power of ten to multiply by."""
    return f"{value + 0.0:.7g}"  # a zero has no sign


def scale_y(axes: Axes, curves: Sequence[Sequence[float]]) -> None:
    """Makes the axis logarithmic if the finite values are positive and far apart."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if len(values) and 0 < values.min() * LOG_FROM < values.max():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(as_written))
        axes.yaxis.set_minor_formatter(NullFormatter())


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names lines beside their last points, and moves the names apart if they would overlap.

    Args:
        axes: Axes with all lines drawn.
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
        axes.annotate(shortened(name), (1, place), (4, 0), color=ends[name][1], **style)


def _moved_apart(heights: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Moves rising heights apart, so that there is a gap between two, and keeps their mean."""
    steps = gap * np.arange(len(heights))
    apart = np.maximum.accumulate(heights - steps) + steps
    return apart - (apart - heights).mean() if len(heights) else heights
