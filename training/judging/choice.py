"""Chooses what to publish: the network, or a baseline that beats it."""

from dataclasses import dataclass

import keras

from app.version.manifest import Score
from training.config import Export
from training.judging.evaluate import MODEL, Evaluation, compare
from training.network.model import linear_model, serving_model


@dataclass(frozen=True, slots=True)
class Choice:
    """What is published, and what its manifest says about it."""

    model: keras.Model
    """Windows (batch, steps, features) -> forecasts (batch, horizon, targets), raw units."""
    scores: tuple[Score, ...]
    """Errors of all forecasters; those of `model` come first."""
    verdict: str
    """One sentence; if there was a choice, it says what was published."""


def choose(model: keras.Model, evaluation: Evaluation, wanted: Export) -> Choice:
    """Chooses what to publish.

    Args:
        model: The network, as `training.network.model.build_model` makes it.
        evaluation: The network and the baselines on the test part.
        wanted: `best` publishes the best baseline if the network loses to it. If the best baseline needs more than a
            window to forecast, the best baseline that needs a window alone takes its place, if it beats the network
            too.
    """
    served = serving_model(model)
    verdict = evaluation.verdict
    if wanted == "model" or verdict.outcome != "loses":
        return Choice(served, evaluation.scores, verdict.sentence)
    losses = {baseline.name: evaluation.losses(baseline.name) for baseline in evaluation.baselines}
    publishable = [baseline for baseline in evaluation.baselines if baseline.is_publishable]
    best = min(publishable, key=lambda baseline: float(losses[baseline.name].mean()))
    horizon = evaluation.actual.shape[1]
    against_best = compare(evaluation.losses(MODEL), losses[best.name], best.name, horizon)
    if against_best.outcome != "loses":
        said = f"{verdict.against} needs more than a window and no other baseline beats the model, which was published"
        return Choice(served, evaluation.scores, f"{verdict.sentence.removesuffix('.')}; {said} all the same.")
    said = f"{best.name} was published in its place"
    if best.name != verdict.against:
        said = f"{verdict.against} needs more than a window, so {said}"
    return Choice(
        model=linear_model(best, served.input.shape[1:], served.output.shape[1:]),
        scores=tuple(sorted(evaluation.scores, key=lambda score: score.forecaster != best.name)),
        verdict=f"{verdict.sentence.removesuffix('.')}; {said}.",
    )
