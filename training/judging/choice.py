"""Chooses what to publish: the network, or a baseline with a lower error."""

from dataclasses import dataclass

import keras

from app.version.manifest import Score
from training.config import Export
from training.judging.baselines import publishable
from training.judging.evaluate import MODEL, Evaluation, Verdict
from training.network.linear import Linear
from training.network.model import linear_model, serving_model, window_shape


@dataclass(frozen=True, slots=True)
class Choice:
    """What is published, and what its manifest says about it."""

    model: keras.Model
    """Windows (batch, steps, features) -> forecasts (batch, horizon, targets), raw units."""
    scores: tuple[Score, ...]
    """Errors of all forecasters; those of `model` come first."""
    verdict: str
    """One sentence; if there was a choice, it says what was published."""
    warning: str | None = None
    """One sentence if the network was published although a baseline that could be published has a lower error."""


def choose(model: keras.Model, evaluation: Evaluation, wanted: Export) -> Choice:
    """Chooses what to publish.

    Args:
        model: The network, as `training.network.model.build_model` makes it.
        evaluation: The network and the baselines on the test part.
        wanted: `model` publishes the network, and warns if a baseline has a lower error. `best` publishes the best
            baseline unless the network beats it, or ties with it and has the lower error. A baseline that needs more
            than a window to forecast cannot be published: the best of the others takes its place.
    """
    served = serving_model(model)
    verdict = evaluation.verdict
    better = _better_baseline(evaluation)
    if wanted == "model":
        return Choice(served, evaluation.scores, verdict.sentence, _warning(better))
    if better is None:
        return Choice(served, evaluation.scores, _with_reason_to_stay(verdict))
    said = f"{better.name} was published in its place"
    if better.name != verdict.against:
        said = f"{verdict.against} needs more than a window, so {said}"
    return Choice(
        model=linear_model(better, window_shape(served), served.output.shape[1:]),
        scores=tuple(sorted(evaluation.scores, key=lambda score: score.forecaster != better.name)),
        verdict=_joined(verdict, said),
    )


def _better_baseline(evaluation: Evaluation) -> Linear | None:
    """Returns the best baseline that can be published; None if its error is not below the network's."""
    means = {name: float(evaluation.losses(name).mean()) for name in evaluation.forecasts}
    best = min(publishable(evaluation.baselines), key=lambda baseline: means[baseline.name])
    return best if means[best.name] < means[MODEL] else None


def _warning(better: Linear | None) -> str | None:
    if better is None:
        return None
    return f"{better.name} has a lower error than the model: --export best publishes {better.name} in its place"


def _with_reason_to_stay(verdict: Verdict) -> str:
    """Returns the verdict, and why the network was published if a baseline has a lower error all the same."""
    if verdict.difference <= 0:
        return verdict.sentence
    said = "needs more than a window and no other baseline has a lower error than the model, which was published"
    return _joined(verdict, f"{verdict.against} {said} all the same")


def _joined(verdict: Verdict, said: str) -> str:
    return f"{verdict.sentence.removesuffix('.')}; {said}."
