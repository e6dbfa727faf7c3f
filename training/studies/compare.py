"""`python -m training compare`: which cells, in how many layers, suit a task, and what they cost.

Every candidate is trained on the same windows with several seeds, one after the other. Early stopping and the choice
of weights use the validation part alone. Errors are taken on the test part, which decides nothing. The results are
written after every candidate, so an interrupted comparison keeps what is done:

    comparison.csv   a line for each candidate
    comparison.json  the same, with the task and the best baseline
    comparison.png   errors by candidate and seed beside the best baseline, and what a forecast costs
"""

import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO, StringIO
from pathlib import Path
from statistics import mean, median, stdev

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from app.engines.onnx import OnnxEngine
from training.config import Cell, TrainingConfig
from training.console import note, tell
from training.data.windows import Dataset
from training.errors import ConfigError, NotFusable, TrainingError
from training.fitting.examine import examine
from training.fitting.fit import fit
from training.fitting.learning_rate import settle
from training.interrupts import done_so_far, leaving_at_once
from training.judging.baselines import fit_baselines
from training.judging.evaluate import error_scales, losses_of
from training.network.model import Forecaster, build_model, serving_model
from training.network.outline import KERAS_NAMES
from training.publishing.export import make_contract
from training.publishing.twin import build_twin, twin_bytes
from training.writing import check_writable, write_whole

KINDS: tuple[tuple[Cell, bool], ...] = (("rnn", False), ("gru", False), ("lstm", False), ("lstm", True))
"""Cell, and whether it reads the window in both directions."""
DEPTHS = (1, 2, 3)

CSV_FILE, JSON_FILE, PNG_FILE = "comparison.csv", "comparison.json", "comparison.png"

TIMED_CALLS = 300
WARM_UP_CALLS = 30


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of network.

    Attributes:
        cell: Cell of all layers.
        bidirectional: Whether the layers read the window in both directions.
        units: Cells in each layer, first to last.
    """

    cell: Cell
    bidirectional: bool
    units: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name in tables: `bidirectional LSTM, 2 layers`."""
        cell = KERAS_NAMES[self.cell]
        kind = f"bidirectional {cell}" if self.bidirectional else cell
        return f"{kind}, {len(self.units)} {'layer' if len(self.units) == 1 else 'layers'}"

    def configured(self, config: TrainingConfig, seed: int) -> TrainingConfig:
        """Returns the configuration with this network, without dropout where there is no second layer."""
        changes = asdict(self) | {"seed": seed} | ({"dropout": 0.0} if len(self.units) == 1 else {})
        return TrainingConfig.model_validate(config.model_dump() | changes)


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of a candidate.

    Attributes:
        candidate: The network.
        errors: Mean absolute error on the test part for each seed whose fit came to an end, in raw units; with several
            targets in units of their standard deviations.
        seconds: Time of each of these fits, compilation included.
        failures: Number of seeds whose loss did not stay a finite number.
        parameters: Numbers that are trained.
        microseconds: Median time of a forecast of one window by the fused twin on one thread; None where the network
            has no twin, or no fit came to an end.
    """

    candidate: Candidate
    errors: tuple[float, ...]
    seconds: tuple[float, ...]
    failures: int
    parameters: int
    microseconds: float | None

    @property
    def error(self) -> float | None:
        """Mean error over the seeds; None where no fit came to an end."""
        return mean(self.errors) if self.errors else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the error over the seeds; None for fewer than two."""
        return stdev(self.errors) if len(self.errors) > 1 else None


@dataclass(frozen=True, slots=True)
class Baseline:
    """The best forecaster that needs no network."""

    name: str
    error: float


def candidates(config: TrainingConfig) -> tuple[Candidate, ...]:
    """Lists every kind of network in every depth. The last of `units` is repeated for further layers.

    A network that learns from every step cannot read in both directions, so bidirectional networks are left out for
    the output `sequence`.
    """
    kinds = [(cell, both) for cell, both in KINDS if not (both and config.output == "sequence")]
    units = [*config.layers, *[config.layers[-1]] * max(DEPTHS)]
    return tuple(Candidate(cell, both, tuple(units[:depth])) for cell, both in kinds for depth in DEPTHS)


def compare(config: TrainingConfig, dataset: Dataset, seeds: int, folder: Path, console: Console) -> Table:
    """Trains and times every candidate, and writes the results after each. Ctrl-C ends the process and keeps them.

    Args:
        config: The task and how to fit; each candidate brings its own cell, layers and directions.
        dataset: Data set that `training.data.prepare` makes from the same configuration.
        seeds: Number of fits of each candidate; the first seed is that of the configuration.
        folder: Folder for the results.
        console: Gets a line for each fit.

    Returns:
        The table of all candidates.

    Raises:
        DataError: A value is not a finite number.
        ConfigError: The loss cannot be taken of the targets, or the folder cannot be written.
        TrainingError: No fit came to an end.
    """
    _check_folder(folder)
    for finding in examine(config, dataset):
        note(console, finding.sentence)
    results: list[Result] = []
    baseline = _best_baseline(dataset)
    entrants = candidates(config)
    with leaving_at_once(lambda: done_so_far(len(results), len(entrants), "candidate", folder)):
        for number, candidate in enumerate(entrants, start=1):
            tell(console, f"{candidate.name} ({number} of {len(entrants)})")
            results.append(_run(candidate, config, dataset, seeds, console))
            write(results, baseline, config, dataset, folder)
    if not any(result.errors for result in results):
        raise TrainingError("no fit came to an end: try a lower --learning-rate, or --loss huber")
    return comparison_table(results, baseline)


def _run(candidate: Candidate, config: TrainingConfig, dataset: Dataset, seeds: int, console: Console) -> Result:
    """Fits a candidate with every seed and judges it on the test part."""
    errors, seconds, failures, microseconds = [], [], 0, None
    rate = config.learning_rate
    for seed in range(config.seed, config.seed + seeds):
        keras.utils.clear_session()
        own = candidate.configured(config, seed).model_copy(update={"learning_rate": rate})
        forecaster = Forecaster(build_model(own, dataset))
        try:
            own, _ = settle(own, dataset)  # the first seed whose sweep finds a rate finds it for the other seeds too
            rate = own.learning_rate
            history = fit(forecaster, own, dataset.train, dataset.validation)
        except TrainingError as error:
            failures += 1
            tell(console, f"  seed {seed}: {error}")
            continue
        for incident in history.incidents:
            tell(console, f"  seed {seed}: {incident.sentence}")
        errors.append(_error_of(forecaster(dataset.test.inputs), dataset))
        seconds.append(history.seconds)
        tell(console, f"  seed {seed}: error {errors[-1]:.4g}, {seconds[-1]:.1f} seconds")
        if microseconds is None:
            microseconds = _microseconds(forecaster.model, dataset)
    return Result(candidate, tuple(errors), tuple(seconds), failures, forecaster.model.count_params(), microseconds)


def _best_baseline(dataset: Dataset) -> Baseline:
    """Fits the baselines, and returns the baseline with the lowest error on the test part."""
    errors = {each.name: _error_of(each.forecast(dataset.test), dataset) for each in fit_baselines(dataset)}
    name = min(errors, key=lambda each: errors[each])
    return Baseline(name, errors[name])


def _error_of(forecasts: NDArray[np.float32], dataset: Dataset) -> float:
    """Returns the mean absolute error on the test part; with several targets in units of their standard deviations."""
    return float(losses_of(forecasts, dataset.test.targets, error_scales(dataset)).mean())


def _microseconds(model: keras.Model, dataset: Dataset) -> float | None:
    """Times forecasts of one window as the service computes them, on one thread. Returns None without a twin."""
    contract = make_contract(dataset, {each.name for each in model.inputs})
    try:
        twin = build_twin(serving_model(model), contract)
    except NotFusable:
        return None
    engine = OnnxEngine(twin_bytes(twin), contract, max_windows=1, threads=1)
    window = dataset.train.inputs[:1].map(np.ascontiguousarray)
    durations = []
    for _ in range(WARM_UP_CALLS + TIMED_CALLS):
        started = time.perf_counter()
        engine.predict(window)
        durations.append(time.perf_counter() - started)
    return 1e6 * median(durations[WARM_UP_CALLS:])


def write(
    results: Sequence[Result], baseline: Baseline, config: TrainingConfig, dataset: Dataset, folder: Path
) -> None:
    """Writes the table as CSV and JSON, and the plot.

    Raises:
        ConfigError: The folder cannot be written.
    """
    rows = list(_rows(results))
    content = {
        "source": dataset.provenance.source,
        "config": config.model_dump(mode="json"),
        "baseline": asdict(baseline),
        "candidates": [{**row, "errors": result.errors} for row, result in zip(rows, results, strict=True)],
    }
    write_whole(folder / CSV_FILE, _as_csv(rows))
    write_whole(folder / JSON_FILE, json.dumps(content, indent=2) + "\n")
    write_whole(folder / PNG_FILE, _as_png(draw(results, baseline)))


def _check_folder(folder: Path) -> None:
    """Makes the folder, and checks that results can be written to it: before the work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made ({error.strerror}); choose another --results.") from None
    for name in (CSV_FILE, JSON_FILE, PNG_FILE):
        check_writable(folder / name)


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    text = StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_png(figure: Figure) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()


def _rows(results: Sequence[Result]) -> Iterator[dict[str, object]]:
    for result in results:
        yield {
            "candidate": result.candidate.name,
            "units": ",".join(map(str, result.candidate.units)),
            "error": result.error,
            "spread": result.spread,
            "seeds": len(result.errors),
            "failures": result.failures,
            "parameters": result.parameters,
            "seconds_to_train": mean(result.seconds) if result.seconds else None,
            "microseconds_to_predict": result.microseconds,
        }


def comparison_table(results: Sequence[Result], baseline: Baseline) -> Table:
    """Shows the results, the best baseline last."""
    table = Table(title="Test part, chosen by validation", title_justify="left")
    table.add_column("network")
    for name in ("error", "spread", "parameters", "seconds to train", "us to predict"):
        table.add_column(name, justify="right")
    for result in results:
        failed = f" ({result.failures} failed)" if result.failures else ""
        table.add_row(
            result.candidate.name,
            _shown(result.error) + failed,
            _shown(result.spread),
            str(result.parameters),
            _shown(mean(result.seconds) if result.seconds else None),
            _shown(result.microseconds),
        )
    table.add_section()
    table.add_row(f"best baseline: {baseline.name}", _shown(baseline.error), "", "", "", "")
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def draw(results: Sequence[Result], baseline: Baseline) -> Figure:
    """Draws the errors by candidate, a dot for each seed and a bar at the mean, beside the time of a forecast."""
    figure = Figure(figsize=(11, 1.6 + 0.38 * len(results)), layout="constrained")
    errors, costs = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(results))
    for place, result in zip(places, results, strict=True):
        errors.plot(result.errors, [place] * len(result.errors), "o", color="tab:blue", alpha=0.6)
        if result.error is not None:
            errors.plot([result.error], [place], "|", color="black", markersize=16, markeredgewidth=2)
    errors.axvline(baseline.error, color="tab:red", linestyle="--", label=f"best baseline: {baseline.name}")
    errors.set_yticks(places, [result.candidate.name for result in results])
    errors.invert_yaxis()
    errors.set_xlabel("mean absolute error on the test part, a dot for each seed")
    errors.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    costs.barh(places, [result.microseconds or 0 for result in results], color="tab:gray")
    costs.set_xlabel("microseconds to predict one window")
    for axes in (errors, costs):
        axes.grid(axis="x", alpha=0.3)
    return figure
