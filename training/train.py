"""The journey from a dataset to a published version, as a run of named steps."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from app.version.manifest import Score
from training.config import TrainingConfig
from training.console import note
from training.data.windows import Dataset
from training.fitting.examine import examine, examine_fitted
from training.fitting.fit import fit
from training.fitting.history import History
from training.fitting.learning_rate import Sweep, settle
from training.fitting.listener import Listener, Listeners
from training.fitting.progress import progress
from training.fitting.tensorboard import EventWriter
from training.judging.choice import choose
from training.judging.evaluate import Evaluation, evaluate
from training.network.model import Forecaster, build_model
from training.publishing.export import export
from training.publishing.publication import require_room
from training.reporting.report import write_report
from training.reporting.run import Run


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to."""

    version_dir: Path
    history: History
    evaluation: Evaluation
    scores: tuple[Score, ...]
    """On the test part, in raw units: those of what was published first."""
    verdict: str
    sweep: Sweep | None = None
    """Of the learning rate, where it was `auto`."""


def train(config: TrainingConfig, dataset: Dataset, console: Console) -> Outcome:
    """Builds and fits a model, judges it on the test part, and publishes it.

    Args:
        config: How to train, and where the version goes.
        dataset: What to train on, as `training.data.prepare` makes it from the same configuration.
        console: Where the progress goes.

    Raises:
        TrainingError: The data or the loss are not finite, or the version cannot be published.
    """
    require_room(config.models_dir / config.name)
    config, dataset, sweep = _before(config, dataset, console)
    forecaster = Forecaster(build_model(config, dataset))
    history = fit(forecaster, config, dataset.train, dataset.validation, _listener(config, console))
    _tell_fit(history, console)
    dataset = _after(forecaster, history, dataset, console)
    evaluation = evaluate(forecaster, dataset)
    choice = choose(forecaster.model, evaluation, config.export)
    report = partial(write_report, run=Run(config, dataset, history, evaluation, sweep))
    version_dir = export(choice.model, config, dataset, choice.scores, choice.verdict, report)
    return Outcome(version_dir, history, evaluation, choice.scores, choice.verdict, sweep)


def _listener(config: TrainingConfig, console: Console) -> Listener:
    """Whoever wants to hear how the fit goes."""
    told = progress(console)
    return Listeners(told, EventWriter(config.tensorboard, config.name)) if config.tensorboard else told


def _before(config: TrainingConfig, dataset: Dataset, console: Console) -> tuple[TrainingConfig, Dataset, Sweep | None]:
    """Looks at the data and settles the rate; what was noticed joins the dataset's notices."""
    noticed = [finding.sentence for finding in examine(config, dataset)]
    config, sweep = settle(config, dataset)
    if sweep:
        noticed.append(f"--learning-rate auto is {sweep.chosen:g}: {sweep.reason}")
    for sentence in noticed:
        note(console, sentence)
    return config, dataset.with_notices(*noticed), sweep


def _after(forecaster: Forecaster, history: History, dataset: Dataset, console: Console) -> Dataset:
    """Looks at the fitted model; what was noticed, and what went wrong in the fit, joins the dataset's notices."""
    noticed = [finding.sentence for finding in examine_fitted(forecaster, dataset)]
    for sentence in noticed:
        note(console, sentence)
    incidents = [incident.sentence for incident in history.incidents]
    return dataset.with_notices(*incidents, *noticed)


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
