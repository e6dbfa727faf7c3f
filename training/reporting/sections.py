"""The sections of a report that hold figures, each figure with a caption and with words for readers who do not see."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from training.data.windows import Dataset
from training.fitting.learning_rate import Sweep
from training.judging.evaluate import MODEL
from training.reporting import canvas, plots
from training.reporting.run import Run

DRAWN_TARGETS = 8
"""Targets that get figures of their own; the table of scores has the errors of all targets."""
RAW_LOSSES = ("mape", "msle")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure and its words."""

    name: str
    """Name of its PNG file, and of its place on the page."""
    figure: Figure
    alt: str
    """What it shows, for readers who do not see it."""
    caption: str

    @property
    def svg(self) -> str:
        """The figure as part of the page."""
        return canvas.svg(self.figure, self.name, self.alt)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the figures below it."""

    anchor: str
    title: str
    drawings: tuple[Drawing, ...]
    targets_left_out: int = 0


def sections(run: Run) -> Iterator[Section]:
    """Draws the figures of a run, section by section, in the order of the page."""
    labels = _labels(run.dataset)
    left_out = len(run.dataset.target_names) - len(labels)
    yield Section("loss", "Loss", (_draw_losses(run),))
    if run.sweep:
        yield Section("sweep", "Sweep of learning rates", (_draw_sweep(run.sweep),))
    forecasts = tuple(_draw_forecast(run, column, label) for column, label in enumerate(labels))
    yield Section("forecast", "Forecast against actual", forecasts, left_out)
    is_single = run.evaluation.actual.shape[1] == 1
    title = "Error by forecaster" if is_single else "Error by step of the horizon"
    yield Section("errors", title, (_draw_errors(run, labels),), left_out)
    residuals = tuple(_draw_residuals(run, column, label) for column, label in enumerate(labels))
    yield Section("residuals", "Residuals", residuals, left_out)


def _labels(dataset: Dataset) -> tuple[str, ...]:
    """Returns the drawn targets with their units."""
    names = dataset.target_names[:DRAWN_TARGETS]
    return tuple(f"{name} ({dataset.units[name]})" if name in dataset.units else name for name in names)


def _place(epoch: int) -> str:
    return f"in epoch {epoch}" if epoch else "before the first epoch"


def _draw_losses(run: Run) -> Drawing:
    epochs, best = run.history.epochs, run.history.best
    return Drawing(
        "loss",
        plots.losses(run.history, run.config.clip),
        f"The training loss goes from {epochs[0].loss:.3g} to {epochs[-1].loss:.3g} in {len(epochs)} epochs; the "
        f"validation loss is lowest {_place(best.number)}, at {best.validation_loss:.3g}.",
        f"The loss is {run.config.loss}, on {'raw' if run.config.loss in RAW_LOSSES else 'scaled'} values. The "
        "training loss is taken while the weights change, the validation loss at the end of each epoch; the dot marks "
        "the epoch whose weights were kept."
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
    windows, horizon = evaluation.actual.shape[:2]
    name = f"forecast-{column + 1}"
    first = {score.forecaster: score.mae_by_step[0] for score in evaluation.scores_of(column)}
    errors = (
        f"{label}: mean absolute error one step ahead {first[MODEL]:.4g} for the model, {first[against]:.4g} for "
        f"{against}."
    )
    if not len(run.dataset.series):
        figure = plots.agreement(evaluation, column, label)
        caption = "A point per sample of the test part; on the line, forecast and actual agree."
        return Drawing(name, figure, errors, caption + _thinned(windows, "sample"))
    part = f"the last {plots.SHOWN_ROWS} of {windows}" if windows > plots.SHOWN_ROWS else f"all {windows}"
    caption = f"{label} one step ahead, after {part} windows of the test part."
    if horizon > 1:
        caption += f" Right: the {horizon} rows after the last window, and in grey the other baselines."
    figure = plots.forecast(evaluation, column, run.dataset.test, run.first_test_row, label)
    return Drawing(name, figure, errors, caption)


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
        plots.residuals(run.evaluation, column, run.first_test_row, label),
        summary + echo,
        f"{summary} Autocorrelations outside the grey band are beyond chance, 19 times out of 20: something is left to "
        "learn." + _thinned(len(left), "row"),
    )


def _thinned(points: int, what: str) -> str:
    step = plots.stride(points)
    return f" One {what} in {step} is drawn." if step > 1 else ""
