"""Markdown tables, and bars: what a figure must reach, told with whether it does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure beside the value that it must not exceed, or must at least reach."""

    what: str
    figure: float | None
    sense: Literal["<=", ">=", "<"]
    limit: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `missed`, or that it was not measured."""
        if self.figure is None:
            return "not measured"
        is_met = {"<=": self.figure <= self.limit, ">=": self.figure >= self.limit, "<": self.figure < self.limit}
        return "met" if is_met[self.sense] else "**missed**"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, all others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bars(given: Iterable[Bar]) -> str:
    """A table of bars."""
    rows = [
        [bar.what, _with_unit(bar.figure, bar), f"{bar.sense} {_with_unit(bar.limit, bar)}", bar.verdict]
        for bar in given
    ]
    return table(["what", "measured", "bar", "verdict"], rows)


def figure(value: float | None) -> str:
    """A number with three digits that mean something, or all before the point; a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def ratio(value: float | None, base: float | None) -> float | None:
    """One divided by the other, where both are known and there is something to divide by."""
    return value / base if value is not None and base else None


def times(value: float | None) -> str:
    """A ratio as `1.23 x`."""
    return "-" if value is None else f"{value:.2f} x"


def _with_unit(value: float | None, bar: Bar) -> str:
    if bar.unit == "x":
        return times(value)
    return f"{figure(value)} {bar.unit}".strip()
