"""Errors of our forecasts beside those of other libraries and of cheap methods, on the same rows and origins."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.forecasting.cheap import LAST, cheap_forecasts, seasonal_name
from benchmarks.forecasting.contenders import (
    BESIDE,
    LIGHTGBM,
    NEURAL,
    OURS,
    STATISTICAL,
    Contender,
    Desk,
    Effort,
    Forecasts,
    Own,
    train_own,
)
from benchmarks.forecasting.tasks import Array, Rows, Task
from benchmarks.forecasting.verdicts import Check, check_verdict
from benchmarks.processes import ContenderFailed
from benchmarks.tables import Bar, bars, figure, ratio, table, times


@dataclass(slots=True)
class Result:
    """What came of a task.

    Attributes:
        task: The task.
        errors: Mean absolute error by contender and by cheap method, in raw units.
        cheap: Names of the cheap methods; those of statsforecast join them.
        clocks: CPU seconds and seconds, by contender.
        checks: What our versions say of themselves beside what was worked out.
    """

    task: Task
    errors: dict[str, float]
    cheap: list[str]
    clocks: dict[str, tuple[float, float]] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)

    def add(self, name: str, error: float, forecasts: Forecasts) -> None:
        """Adds a contender."""
        self.errors[name] = error
        self.clocks[name] = forecasts.cpu_seconds, forecasts.seconds
        if name in STATISTICAL:
            self.cheap.append(name)

    @property
    def naive(self) -> float:
        """Error of seasonal naive of the shortest season; of the last value where there is no season."""
        return self.errors[seasonal_name(self.task.seasons[0]) if self.task.seasons else LAST]

    @property
    def strongest(self) -> float:
        """Error of the strongest cheap method."""
        return min(self.errors[name] for name in self.cheap)


def run(series: Iterable[Rows], contenders: Sequence[Contender], desk: Desk, effort: Effort) -> Iterator[str]:
    """Yields a table for each series, and at the end the comparison over all series, the verdicts and the bars.

    Args:
        series: What to forecast.
        contenders: Who forecasts.
        desk: Where the other libraries are asked.
        effort: How much is asked.
    """
    results = []
    for rows in series:
        with TemporaryDirectory(prefix="windowcast-benchmark-") as folder:
            results.append(_measure(rows, contenders, desk, effort, Path(folder)))
        yield f"### {rows.task.name}: {rows.task.horizon} rows ahead\n\n{_task_table(results[-1])}\n"
    yield f"### All series\n\n{_overview(results, [contender.name for contender in contenders])}\n"
    if any(result.checks for result in results):
        yield f"### Verdicts\n\n{_verdict_table(results)}\n"
    yield f"### Bars\n\n{bars(_bars(results))}\n"


def _measure(rows: Rows, contenders: Sequence[Contender], desk: Desk, effort: Effort, folder: Path) -> Result:
    """Has everybody forecast a series; a contender that fails is told and left out."""
    chosen = rows.choose(effort.origins)
    actual = rows.following(rows.origins)
    cheap = cheap_forecasts(rows, rows.task.window)
    result = Result(
        rows.task, {name: _error(each[chosen], actual[chosen]) for name, each in cheap.items()}, list(cheap)
    )
    for number, contender in enumerate(contenders):
        own_folder = folder / str(number)
        own_folder.mkdir()
        try:
            if isinstance(contender, Own):
                told, manifest = train_own(contender, rows, effort, own_folder)
                known = cheap_forecasts(rows, manifest.contract.steps)  # what the version could know of
                result.checks[contender.name] = check_verdict(manifest, told.values, known, actual)
                result.add(contender.name, _error(told.values[chosen], actual[chosen]), told)
            else:
                told = desk.ask(contender, rows, effort, own_folder)
                result.add(contender.name, _error(told.values, actual[chosen]), told)
        except ContenderFailed as failure:
            print(f"{rows.task.name}: {contender.name} is left out: {failure}", file=sys.stderr)
    return result


def _error(forecasts: Array, actual: Array) -> float:
    return float(np.abs(forecasts - actual).mean())


def _task_table(result: Result) -> str:
    """A line for each forecaster, best first."""
    head = ["forecaster", "MAE", "of seasonal naive", "of the strongest cheap", "CPU seconds", "seconds"]
    rows = []
    for name, error in sorted(result.errors.items(), key=lambda item: item[1]):
        compared = [times(ratio(error, base)) for base in (result.naive, result.strongest)]
        clock = [figure(seconds) for seconds in result.clocks.get(name, (None, None))]
        shown = f"{name}, cheap" if name in result.cheap else name
        rows.append([shown, figure(error), *compared, *clock])
    return table(head, rows)


def _overview(results: Sequence[Result], names: Sequence[str]) -> str:
    """A line for each contender: geometric means over the series that it forecast, and where ours is better."""
    head = [
        "contender",
        "series",
        "of seasonal naive",
        "of the strongest cheap",
        f"MAE of {OURS}, of its own",
        f"{OURS} is better",
    ]
    rows = []
    for name in names:
        clocks = [result.clocks[name] for result in results if name in result.clocks]
        won, shared = _wins(results, name)
        cells = [
            str(len(clocks)),
            times(_mean(results, name, lambda result: result.naive)),
            times(_mean(results, name, lambda result: result.strongest)),
            times(_compared(results, name)),
            "-" if name == OURS else f"{won} of {shared}",
            figure(sum(clock[0] for clock in clocks)),
            figure(sum(clock[1] for clock in clocks)),
        ]
        rows.append([name, *cells])
    return table([*head, "CPU seconds", "seconds"], rows)


def _verdict_table(results: Sequence[Result]) -> str:
    head = ["series", "version of", "it says", "worked out", "difference", "p", "is"]
    rows = []
    for result in results:
        for name, check in result.checks.items():
            own = check.recomputed
            worked_out = f"{own.outcome}: {own.against}"
            cells = [
                check.said,
                worked_out,
                f"{own.difference:+.1%}",
                "-" if own.p is None else f"{own.p:.3f}",
                check.problem or "right",
            ]
            rows.append([result.task.name, name, *cells])
    return table(head, rows)


def _bars(results: Sequence[Result]) -> Iterator[Bar]:
    yield Bar("MAE: of the checkout beside, geometric mean", _compared(results, BESIDE), "<=", 0.80, "x")
    strongest = _mean(results, OURS, lambda result: result.strongest)
    yield Bar("MAE: of the strongest cheap method, geometric mean", strongest, "<=", 1.00, "x")
    each = [result.errors[OURS] / result.strongest for result in results if OURS in result.errors]
    yield Bar("MAE: of the strongest cheap method, worst series", max(each, default=None), "<=", 1.05, "x")
    for name, share in (*((name, 0.8) for name in NEURAL), (LIGHTGBM, 0.7)):
        won, shared = _wins(results, name)
        yield Bar(f"series on which {OURS} is better than {name}", won if shared else None, ">=", share * len(results))
    checks = [result.checks[OURS] for result in results if OURS in result.checks]
    wrong = sum(check.problem is not None for check in checks) if checks else None
    yield Bar("verdicts that are not right", wrong, "<=", 0)


def _wins(results: Sequence[Result], name: str) -> tuple[int, int]:
    """Returns on how many series ours is better than a contender, and on how many both forecast."""
    shared = [result.errors for result in results if {OURS, name} <= result.errors.keys()]
    return sum(errors[OURS] < errors[name] for errors in shared), len(shared)


def _compared(results: Sequence[Result], name: str) -> float | None:
    """Returns the geometric mean of our error over that of a contender."""
    return _mean(results, OURS, lambda result: result.errors.get(name))


def _mean(results: Sequence[Result], name: str, base: Callable[[Result], float | None]) -> float | None:
    """Returns the geometric mean of an error over another, where both are known; None where they never are."""
    ratios = [ratio(result.errors.get(name), base(result)) for result in results]
    known = [each for each in ratios if each]
    return geometric_mean(known) if known else None
