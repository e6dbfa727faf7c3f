"""Writes into a version's folder `report/`: a page, its figures as PNG, and the numbers behind them.

`report.html` needs nothing but itself: styles and figures stand inside, and it asks no network. Its size is bounded,
however many rows and targets there are; `metrics.json` has every epoch, every step of the sweep and every score.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from app.version.manifest import Contract, Manifest, Score
from training.config import TrainingConfig, shown
from training.data.frequency import counted
from training.data.windows import Dataset
from training.fitting.history import History
from training.fitting.learning_rate import Sweep
from training.judging.evaluate import MODEL, Evaluation
from training.network.outline import KERAS_NAMES
from training.reporting import plots

REPORT_DIR = "report"
DRAWN_TARGETS = 8
"""Targets that get figures of their own; the errors of all of them stand in the table."""
RAW_LOSSES = ("mape", "msle")
TABLE_ROWS = 200
"""Most rows of a table on the page."""

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run can tell beyond its version's manifest."""

    config: TrainingConfig
    dataset: Dataset
    history: History
    evaluation: Evaluation
    """On the test part."""
    sweep: Sweep | None = None
    """Of learning rates, where one was made."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, and what is said of it."""

    name: str
    """Of its PNG file, and of its place on the page."""
    figure: Figure
    alt: str
    """What it shows, for those who do not see it."""
    caption: str

    @property
    def svg(self) -> str:
        """The figure as part of the page."""
        return plots.svg(self.figure, self.name, self.alt)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the figures below it."""

    anchor: str
    title: str
    drawings: tuple[Drawing, ...]
    targets_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Cells:
    """A table, cut where it would grow beyond `TABLE_ROWS`."""

    caption: str
    columns: tuple[str, ...]
    all_rows: tuple[tuple[str, ...], ...]

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Those that the page shows."""
        return self.all_rows[:TABLE_ROWS]

    @property
    def left_out(self) -> int:
        """How many it does not."""
        return len(self.all_rows) - len(self.rows)


def write_report(version_dir: Path, manifest: Manifest, run: Run) -> None:
    """Writes the report of a version.

    Args:
        version_dir: The version's folder, which has none yet.
        manifest: What the version says about itself; the checksums of its files are of no concern.
        run: What trained it.

    Raises:
        OSError: A file cannot be written.
    """
    folder = version_dir / REPORT_DIR
    folder.mkdir()
    sections = tuple(_sections(run))
    for drawing in (drawing for section in sections for drawing in section.drawings):
        plots.png(drawing.figure, folder / f"{drawing.name}.png")
    incidents = [incident.sentence for incident in run.history.incidents]
    page = _PAGES.get_template("report.html").render(
        manifest=manifest,
        verdict=run.evaluation.verdict,
        facts=tuple(_facts(manifest, run)),
        settings=_settings(run.config),
        incidents=incidents,
        notices=[notice for notice in manifest.data.notices if notice not in incidents],
        sections=sections,
        scores=_score_table(manifest.scores),
        contract=manifest.contract,
        tables=_contract_tables(manifest.contract),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    numbers = json.dumps(_finite(_metrics(manifest, run)), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(f"{numbers}\n", encoding="utf-8")


def _sections(run: Run) -> Iterator[Section]:
    labels = _labels(run.dataset)
    left_out = len(run.dataset.target_names) - len(labels)
    yield Section("loss", "Loss", (_draw_losses(run),))
    if run.sweep:
        yield Section("sweep", "Sweep of learning rates", (_draw_sweep(run.sweep),))
    yield Section(
        "forecast",
        "Forecast against actual",
        tuple(_draw_forecast(run, column, label) for column, label in enumerate(labels)),
        left_out,
    )
    is_single = run.evaluation.actual.shape[1] == 1
    title = "Error by forecaster" if is_single else "Error by step of the horizon"
    yield Section("errors", title, (_draw_errors(run, labels),), left_out)
    yield Section(
        "residuals",
        "Residuals",
        tuple(_draw_residuals(run, column, label) for column, label in enumerate(labels)),
        left_out,
    )


def _labels(dataset: Dataset) -> tuple[str, ...]:
    """The drawn targets with their units."""
    names = dataset.target_names[:DRAWN_TARGETS]
    return tuple(f"{name} ({dataset.units[name]})" if name in dataset.units else name for name in names)


def _draw_losses(run: Run) -> Drawing:
    epochs, best = run.history.epochs, run.history.best
    return Drawing(
        "loss",
        plots.losses(run.history, run.config.clip),
        f"The training loss goes from {epochs[0].loss:.3g} to {epochs[-1].loss:.3g} in {len(epochs)} epochs; the "
        f"validation loss is lowest in epoch {best.number}, at {best.validation_loss:.3g}.",
        f"The loss is {run.config.loss}, on {'raw' if run.config.loss in RAW_LOSSES else 'scaled'} values. That of "
        "training is taken while the weights change, that of validation at the end of each epoch; the dot marks the "
        "epoch whose weights were kept."
        + (" Dash-dotted: epochs with an incident." if run.history.incidents else "")
        + _thinned(len(epochs), "epoch"),
    )


def _draw_sweep(sweep: Sweep) -> Drawing:
    return Drawing(
        "sweep",
        plots.sweep(sweep),
        f"The smoothed loss over rates from {sweep.rates[0]:.2g} to {sweep.rates[-1]:.2g}; the rate {sweep.chosen:.2g} "
        "was chosen.",
        f"Chosen: {sweep.reason}.",
    )


def _draw_forecast(run: Run, column: int, label: str) -> Drawing:
    evaluation, against = run.evaluation, run.evaluation.verdict.against
    horizon = evaluation.actual.shape[1]
    name = f"forecast-{column + 1}"
    first = {score.forecaster: score.mae_by_step[0] for score in evaluation.scores_of(column)}
    errors = (
        f"{label}: mean absolute error one step ahead {first[MODEL]:.4g} for the model, {first[against]:.4g} for "
        f"{against}."
    )
    if not len(run.dataset.series):
        figure = plots.agreement(evaluation, column, label)
        caption = "A point per sample of the test part; on the line, forecast and actual agree."
        return Drawing(name, figure, errors, caption + _thinned(len(evaluation.actual), "sample"))
    windows = len(evaluation.actual)
    part = f"the last {plots.SHOWN_ROWS} of {windows}" if windows > plots.SHOWN_ROWS else f"all {windows}"
    caption = f"{label} one step ahead, after {part} windows of the test part."
    if horizon > 1:
        caption += f" Right: the {horizon} rows after the last window, and in grey the other baselines."
    return Drawing(name, plots.forecast(evaluation, column, run.dataset.test, _first_row(run), label), errors, caption)


def _draw_errors(run: Run, labels: Sequence[str]) -> Drawing:
    evaluation = run.evaluation
    ends = (f"{score.forecaster} {score.mae_by_step[-1]:.4g}" for score in evaluation.scores_of(0))
    step = f"step {evaluation.actual.shape[1]}"
    return Drawing(
        "errors",
        plots.horizon_errors(evaluation, labels),
        f"Mean absolute errors of {labels[0]} at {step}: {', '.join(ends)}.",
        f"Mean absolute error on the test part's {len(evaluation.actual)} windows; the model in blue, in orange the "
        f"best baseline, {evaluation.verdict.against}.",
    )


def _draw_residuals(run: Run, column: int, label: str) -> Drawing:
    left = plots.left_over(run.evaluation, column)
    summary = (
        f"{label}: actual less the model's forecast one step ahead, mean {left.mean():.3g}, standard deviation "
        f"{left.std():.3g}."
    )
    correlations = plots.autocorrelation(left)
    echo = f" Autocorrelation at one row: {correlations[0]:.2f}." if len(correlations) else ""
    return Drawing(
        f"residuals-{column + 1}",
        plots.residuals(run.evaluation, column, _first_row(run), label),
        summary + echo,
        f"{summary} Autocorrelations outside the grey band are beyond chance, 19 times out of 20: something is left to "
        "learn." + _thinned(len(left), "row"),
    )


def _thinned(points: int, what: str) -> str:
    step = plots.stride(points)
    return f" One {what} in {step} is drawn." if step > 1 else ""


def _first_row(run: Run) -> int:
    """Where in the table the test part starts."""
    return run.dataset.rows - run.dataset.test_rows


def _facts(manifest: Manifest, run: Run) -> Iterator[tuple[str, str]]:
    config, data, contract = run.config, manifest.data, manifest.contract
    ways = ", both ways" if config.bidirectional else ""
    path = ", beside a linear path" if config.skip else ""
    layers = " and ".join(str(units) for units in config.units)
    yield "model", f"{KERAS_NAMES[config.cell]}, {layers} cells{ways}{path}"
    if manifest.scores[0].forecaster != MODEL:
        yield "published", f"the baseline {manifest.scores[0].forecaster}, in place of the model that this report is on"
    yield "window", f"{counted(contract.steps, 'step')} of {_some(contract.feature_names)}"
    yield "forecast", f"{counted(contract.horizon, 'step')} of {_some(contract.target_names)}"
    times = f", {data.first_time} to {data.last_time}" if data.first_time else ""
    apart = f", {contract.frequency} apart" if contract.frequency else ""
    yield "data", f"{data.source}: {data.rows} rows{apart}{times}"
    yield "split", f"{data.training_rows} rows to train, {data.validation_rows} to validate, {data.test_rows} to test"
    if run.dataset.period:
        yield "season", f"{run.dataset.period} rows"
    yield "sha256 of the data", data.sha256 or ""
    epochs = f"{len(run.history.epochs)} of at most {config.epochs} epochs"
    yield (
        "fitting",
        f"{epochs} in {run.history.seconds:.1f} seconds; kept the weights of epoch {run.history.best.number}",
    )
    yield "made with", ", ".join(f"{package} {release}" for package, release in manifest.versions.items())


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - DRAWN_TARGETS} more" if len(names) > DRAWN_TARGETS else ""
    return ", ".join(names[:DRAWN_TARGETS]) + more


def _settings(config: TrainingConfig) -> Cells:
    rows = tuple(
        (
            f"--{name.replace('_', '-')}",
            _shown(value),
            _shown(field.default),
            " ".join((field.description or "").split()),
        )
        for name, field in TrainingConfig.model_fields.items()
        if (value := getattr(config, name)) != field.default
    )
    return Cells("Settings that differ from the defaults", ("setting", "value", "default", "meaning"), rows)


def _shown(value: object) -> str:
    if value in (None, (), {}):
        return "none"
    return ",".join(f"{name}={unit}" for name, unit in value.items()) if isinstance(value, Mapping) else shown(value)


def _score_table(scores: Sequence[Score]) -> Cells:
    several = any(score.target for score in scores)
    rows = tuple(
        (
            score.forecaster,
            *((score.target or "",) if several else ()),
            *(_figure(error) for error in (score.mae, score.rmse, score.mase, score.smape)),
        )
        for score in scores
    )
    columns = ("forecaster", *(("target",) if several else ()), "MAE", "RMSE", "MASE", "sMAPE, %")
    return Cells("On the test part, over all steps of the horizon", columns, rows)


def _contract_tables(contract: Contract) -> tuple[Cells, Cells]:
    features = tuple(
        (feature.name, feature.unit or "", _figure(feature.minimum), _figure(feature.maximum))
        for feature in contract.features
    )
    targets = tuple((target.name, target.unit or "", _figure(target.scale)) for target in contract.targets)
    return (
        Cells("Features", ("feature", "unit", "smallest in training", "largest in training"), features),
        Cells("Targets", ("target", "unit", "standard deviation in training"), targets),
    )


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.5g}"


def _metrics(manifest: Manifest, run: Run) -> dict[str, Any]:
    history = run.history
    return {
        "verdict": asdict(run.evaluation.verdict),
        "scores": [score.model_dump(mode="json") for score in manifest.scores],
        "history": {
            "seconds": history.seconds,
            "best_epoch": history.best.number,
            "epochs": [asdict(epoch) for epoch in history.epochs],
        },
        "incidents": [asdict(incident) for incident in history.incidents],
        "sweep": asdict(run.sweep) if run.sweep else None,
        "data": manifest.data.model_dump(mode="json"),
    }


def _finite(value: Any) -> Any:
    """The same with null for every number that is not finite, which JSON cannot write."""
    match value:
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
    return value
