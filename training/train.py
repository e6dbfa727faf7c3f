"""The journey from a dataset to a published version, as a run of named steps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from app.manifest import Score
from training.config import TrainingConfig
from training.evaluate import evaluate, scaled, verdict
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
    scores = evaluate(model, dataset.test, dataset.target_names)
    if len(dataset.target_names) > 1:  # in different units, perhaps
        scales = dataset.train.targets.std(axis=(0, 1), dtype=np.float64)
        per_target = scaled(scores, dict(zip(dataset.target_names, scales.tolist(), strict=True)))
        judgement = f"In units of each target's standard deviation: {verdict(per_target)}"
    else:
        judgement = verdict(scores)
    version_dir = export(serving_model(model), config, dataset, scores, judgement)
    return Outcome(version_dir, history, scores, judgement)


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
