"""What comes out of a reference task: scores over several seeds, beside the baselines and what others published."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from training.studies.tasks import Bar, Measure, Task
from training.writing import write_whole

Array = NDArray[np.float32]

CORRECT = 0.04
"""How far a product may be off, as in Hochreiter and Schmidhuber 1997, Neural Computation 9, 1735-1780."""


def score(measure: Measure, forecasts: Array, actual: Array) -> float:
    """Scores forecasts by the measure of a task.

    Args:
        measure: The measure.
        forecasts: (n, horizon, targets), in raw units.
        actual: The true values, of the same shape.
    """
    errors = np.abs(forecasts.astype(np.float64) - actual)
    return float(errors.mean()) if measure == "MAE" else 100 * float((errors < CORRECT).mean())


@dataclass(frozen=True, slots=True)
class Figures:
    """What a network reached with each seed.

    Attributes:
        title: Title of the network.
        scores: One for each seed, in the measure of the task.
        seconds: One for each seed, from building the network to its last weights, compilation included.
        higher_is_better: Whether a higher score is a better score.
    """

    title: str
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
    higher_is_better: bool

    @property
    def mean(self) -> float:
        """Mean of the scores."""
        return statistics.fmean(self.scores)

    @property
    def median(self) -> float:
        """Median of the scores."""
        return statistics.median(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the scores over the seeds; None for a single seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def worst(self) -> float:
        """Score of the worst seed."""
        return min(self.scores) if self.higher_is_better else max(self.scores)

    @property
    def record(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        summary = {name: getattr(self, name) for name in ("mean", "median", "deviation", "worst")}
        return {"title": self.title, "scores": self.scores, "seconds": self.seconds, **summary}


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a task."""

    task: Task
    baselines: Mapping[str, float]
    """Score of each baseline, by its name."""
    floor: float | None
    """Score of the signal without its noise, which no forecaster can be expected to beat; None where it is unknown."""
    ours: Figures
    beside: Figures | None

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What misses the bar, in words; empty where the bar is met."""
        return tuple(_shortfalls(self))

    @property
    def record(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        return {
            "task": self.task.name,
            "measure": self.task.measure,
            "judged": self.task.judged,
            "published": f"{self.task.published} ({self.task.publisher})",
            "baselines": dict(self.baselines),
            "floor": self.floor,
            "ours": self.ours.record,
            "beside": self.beside.record if self.beside else None,
            "bar": asdict(self.task.bar),
            "shortfalls": list(self.shortfalls),
            "selection": self.task.selection,
        }


def write_figures(results: Sequence[Result], path: Path) -> None:
    """Writes results as JSON.

    Raises:
        ConfigError: The file cannot be written.
    """
    write_whole(path, json.dumps([result.record for result in results], indent=2) + "\n")


def result_table(result: Result) -> Table:
    """Shows the figures of a task side by side, and how its network was chosen."""
    task = result.task
    title = f"{task.name}: {task.measure} on the last {task.judged}, one step ahead"
    chosen = f"Chosen without the judged rows: {task.selection}."
    table = Table(title=title, title_justify="left", caption=chosen, caption_justify="left")
    table.add_column("forecaster")
    for name in ("mean", "median", "s.d.", "worst", "seconds a seed"):
        table.add_column(name, justify="right")
    table.add_row(f"published: {task.publisher}", task.published)
    for name, figure in result.baselines.items():
        table.add_row(name, f"{figure:.4g}")
    if result.floor is not None:
        table.add_row("floor: the signal without its noise", f"{result.floor:.4g}")
    for figures in filter(None, (result.beside, result.ours)):
        deviation = "" if figures.deviation is None else f"{figures.deviation:.2g}"
        numbers = f"{figures.mean:.4g}", f"{figures.median:.4g}", deviation, f"{figures.worst:.4g}"
        own = "ours: " if figures is result.ours else ""
        seeds = f"{len(figures.scores)} seed{'s' if len(figures.scores) > 1 else ''}"
        table.add_row(f"{own}{figures.title}, {seeds}", *numbers, f"{statistics.fmean(figures.seconds):.1f}")
    return table


def verdict_of(result: Result) -> str:
    """Says in a sentence whether the bar is met."""
    task, asked = result.task, ", ".join(_asked(result.task.bar, result))
    if result.shortfalls:
        return f"{task.name}: the bar is missed: {'; '.join(result.shortfalls)} (asked: {asked})."
    return f"{task.name}: the bar is met (asked: {asked})."


def _shortfalls(result: Result) -> Iterator[str]:
    bar, ours = result.task.bar, result.ours
    sign = -1 if ours.higher_is_better else 1
    for name, figure, limit in (
        ("mean", ours.mean, bar.mean),
        ("median", ours.median, bar.median),
        ("worst seed", ours.worst, bar.worst),
    ):
        if limit is not None and sign * figure > sign * limit:
            yield f"{name} {figure:.4g}"
    if bar.seconds is not None and max(ours.seconds) > bar.seconds:
        yield f"slowest seed {max(ours.seconds):.0f} s"
    for name in bar.baselines:
        if sign * ours.mean >= sign * result.baselines[name]:
            yield f"mean {ours.mean:.4g} against {result.baselines[name]:.4g} of the {name}"


def _asked(bar: Bar, result: Result) -> Iterator[str]:
    bound = "at least" if result.ours.higher_is_better else "at most"
    for name, limit in (("mean", bar.mean), ("median", bar.median), ("worst seed", bar.worst)):
        if limit is not None:
            yield f"{name} {bound} {limit:g}"
    if bar.seconds is not None:
        yield f"at most {bar.seconds:g} s a seed"
    for name in bar.baselines:
        yield f"a better mean than {result.baselines[name]:.4g} of the {name}"
