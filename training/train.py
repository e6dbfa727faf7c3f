"""The journey from a configuration to a published version, as a run of named steps."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from app.manifest import Score
from training.config import TrainingConfig
from training.data import prepare
from training.evaluate import evaluate, verdict
from training.export import export
from training.fit import History, fit, progress
from training.model import build_model, serving_model
from training.windows import Dataset


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training run came to."""

    version_dir: Path
    history: History
    scores: tuple[Score, ...]
    """On the test part, in raw units: the model's first, then the baselines'."""
    verdict: str


def train(config: TrainingConfig, console: Console) -> Outcome:
    """Prepares the data, builds and fits a model, judges it on the test part, and publishes it.

    Args:
        config: What to train on, how, and where the version goes.
        console: Where notices about the data and the progress go.

    Raises:
        TrainingError: The data, the configuration or the folder stops the run; nothing is published.
    """
    dataset = prepare(config)
    _tell(dataset, console)
    model = build_model(config, dataset)
    history = fit(model, config, dataset.train, dataset.validation, progress(console))
    _tell_fit(history, console)
    scores = evaluate(model, dataset.test)
    judgement = verdict(scores)
    version_dir = export(serving_model(model), config, dataset, scores, judgement)
    return Outcome(version_dir, history, scores, judgement)


def _tell(dataset: Dataset, console: Console) -> None:
    rows = f"{dataset.training_rows} to train, {dataset.validation_rows} to validate, {dataset.test_rows} to test"
    console.print(f"{dataset.source}: {dataset.rows} rows: {rows}", highlight=False, markup=False)
    for notice in dataset.notices:
        console.print(f"note: {notice}", highlight=False, markup=False, soft_wrap=True)


def _tell_fit(history: History, console: Console) -> None:
    console.print(
        f"kept the weights of epoch {history.best.number} of {len(history.epochs)}, after {history.seconds:.1f} seconds",
        highlight=False,
    )
