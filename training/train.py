"""The journey from a dataset to a published version, as a run of named steps."""

from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
from rich.console import Console

from app.manifest import Score
from training.config import TrainingConfig
from training.doctor import examine, examine_fitted
from training.evaluate import evaluate, scaled, verdict
from training.export import export
from training.fit import History, fit, note, progress
from training.learning_rate import Sweep, settle
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
    config, dataset, sweep = _before(config, dataset, console)
    model = build_model(config, dataset)
    history = fit(model, config, dataset.train, dataset.validation, progress(console))
    _tell_fit(history, console)
    dataset = _after(model, history, dataset, console)
    scores = evaluate(model, dataset.test, dataset.target_names)
    if len(dataset.target_names) > 1:  # in different units, perhaps
        scales = dataset.train.targets.std(axis=(0, 1), dtype=np.float64)
        per_target = scaled(scores, dict(zip(dataset.target_names, scales.tolist(), strict=True)))
        judgement = f"In units of each target's standard deviation: {verdict(per_target)}"
    else:
        judgement = verdict(scores)
    version_dir = export(serving_model(model), config, dataset, scores, judgement)
    return Outcome(version_dir, history, scores, judgement, sweep)


def _before(config: TrainingConfig, dataset: Dataset, console: Console) -> tuple[TrainingConfig, Dataset, Sweep | None]:
    """Looks at the data and settles the rate; what was noticed joins the dataset's notices."""
    noticed = [finding.sentence for finding in examine(config, dataset)]
    config, sweep = settle(config, dataset)
    if sweep:
        noticed.append(f"--learning-rate auto is {sweep.chosen:g}: {sweep.reason}")
    for sentence in noticed:
        note(console, sentence)
    return config, replace(dataset, notices=(*dataset.notices, *noticed)), sweep


def _after(model: keras.Model, history: History, dataset: Dataset, console: Console) -> Dataset:
    """Looks at the fitted model; what was noticed, and what went wrong in the fit, joins the dataset's notices."""
    noticed = [finding.sentence for finding in examine_fitted(model, dataset)]
    for sentence in noticed:
        note(console, sentence)
    incidents = [incident.sentence for incident in history.incidents]
    return replace(dataset, notices=(*dataset.notices, *incidents, *noticed))


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
