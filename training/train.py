"""The journey from a dataset to a published version, as a run of named steps."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from app.manifest import Score
from training.choice import choose
from training.config import TrainingConfig
from training.evaluate import Evaluation, evaluate
from training.export import export
from training.fit import History, fit, progress
from training.model import build_model
from training.report import Run, write_report
from training.windows import Dataset


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to."""

    version_dir: Path
    history: History
    evaluation: Evaluation
    scores: tuple[Score, ...]
    """On the test part, in raw units: those of what was published first."""
    verdict: str


def train(config: TrainingConfig, dataset: Dataset, console: Console) -> Outcome:
    """Builds and fits a model, judges it on the test part, and publishes it.

    Args:
        config: How to train, and where the version goes.
        dataset: What to train on, as `training.data.prepare` makes it from the same configuration.
        console: Where the progress goes.

    Raises:
        TrainingError: The loss is not finite, or the version cannot be published.
    """
    model = build_model(config, dataset)
    history = fit(model, config, dataset.train, dataset.validation, progress(console))
    _tell_fit(history, console)
    evaluation = evaluate(model, dataset)
    choice = choose(model, evaluation, config.export)
    report = partial(write_report, run=Run(config, dataset, history, evaluation))
    version_dir = export(choice.model, config, dataset, choice.scores, choice.verdict, report)
    return Outcome(version_dir, history, evaluation, choice.scores, choice.verdict)


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
