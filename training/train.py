"""From a data set to a published version, as a run of named steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from app.version.manifest import Finding, Score
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
from training.publishing.publication import check_room
from training.reporting.report import write_report
from training.reporting.run import Run


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a training run."""

    version_dir: Path
    history: History
    evaluation: Evaluation
    scores: tuple[Score, ...]
    """Errors on the test part, in raw units; the errors of what was published come first."""
    verdict: str
    warning: str | None
    """That `--export best` would publish a baseline, if its error is below the network's."""
    sweep: Sweep | None = None
    """The sweep of the learning rate, if the rate was `auto`."""


def train(config: TrainingConfig, dataset: Dataset, console: Console) -> Outcome:
    """Builds and fits a model, judges it on the test part, and publishes it.

    Args:
        config: How to train, and where the version goes.
        dataset: What to train on, as `training.data.prepare` makes it from the same configuration.
        console: Where the progress goes.

    Raises:
        TrainingError: The data or the loss are not finite, or the version cannot be published.
    """
    check_room(config.models_dir / config.name)
    config, dataset, sweep = _before(config, dataset, console)
    forecaster = Forecaster(build_model(config, dataset))
    history = fit(forecaster, config, dataset.train, dataset.validation, _listener(config, console))
    _tell_fit(history, console)
    dataset = _after(forecaster, history, dataset, console)
    evaluation = evaluate(forecaster, dataset)
    choice = choose(forecaster.model, evaluation, config.export)
    report = partial(write_report, run=Run(config, dataset, history, evaluation, sweep))
    version_dir = export(choice.model, config, dataset, choice.scores, choice.verdict, report)
    return Outcome(version_dir, history, evaluation, choice.scores, choice.verdict, choice.warning, sweep)


def _listener(config: TrainingConfig, console: Console) -> Listener:
    """Returns who is told how the fit goes: the console, and TensorBoard if it is asked for."""
    told = progress(console)
    return Listeners(told, EventWriter(config.tensorboard, config.name)) if config.tensorboard else told


def _before(config: TrainingConfig, dataset: Dataset, console: Console) -> tuple[TrainingConfig, Dataset, Sweep | None]:
    """Examines the data and settles the learning rate. The findings join those of the data set."""
    findings = examine(config, dataset)
    config, sweep = settle(config, dataset)
    if sweep:
        findings = (*findings, sweep.finding)
    _tell(findings, console)
    return config, dataset.with_findings(*findings), sweep


def _after(forecaster: Forecaster, history: History, dataset: Dataset, console: Console) -> Dataset:
    """Examines the fitted model. The findings, and the incidents of the fit, join those of the data set."""
    findings = examine_fitted(forecaster, dataset)
    _tell(findings, console)
    return dataset.with_findings(*(incident.finding for incident in history.incidents), *findings)


def _tell(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        note(console, finding.sentence)


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
