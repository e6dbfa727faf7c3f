"""Judges a model: its errors in raw units beside those of the baselines, and a verdict in plain words."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from numpy.typing import NDArray

from app.manifest import Score
from training.baselines import last_value, moving_average
from training.model import compile_forecast
from training.windows import Part

Array = NDArray[np.float32]

AVERAGED_POINTS = 5

TIE = 0.01
"""Mean absolute errors closer than this share of the baseline's count as a tie."""


def evaluate(model: keras.Model, part: Part, targets: Sequence[str] = ()) -> tuple[Score, ...]:
    """Scores the model and the baselines on every window of a part.

    Args:
        model: As `training.model.build_model` makes it.
        part: Usually the test part.
        targets: Their names; where there are several, each gets its own scores.

    Returns:
        The model's score first, then the last value's and the moving average's (of fewer than five points where the
        window is shorter).
    """
    horizon = part.targets.shape[1]
    points = min(AVERAGED_POINTS, part.history.shape[1])
    forecasts = {
        "model": compile_forecast(model)(part.windows),
        "last value": last_value(part.history, horizon),
        f"{points}-point average": moving_average(part.history, horizon, points),
    }
    if len(targets) < 2:
        return tuple(score(name, values, part.targets) for name, values in forecasts.items())
    return tuple(
        score(name, values[..., [column]], part.targets[..., [column]]).model_copy(update={"target": target})
        for name, values in forecasts.items()
        for column, target in enumerate(targets)
    )


def score(forecaster: str, forecasts: Array, targets: Array) -> Score:
    """Mean absolute and root mean square error over all windows, rows and targets.

    Args:
        forecaster: Its name.
        forecasts: Shape (n, horizon, targets), raw units.
        targets: What really followed; the same shape and units.

    Raises:
        ValueError: The shapes differ, or there is nothing to judge.
    """
    if forecasts.shape != targets.shape or not targets.size:
        raise ValueError(f"cannot compare forecasts of shape {forecasts.shape} with targets of shape {targets.shape}")
    errors = forecasts.astype(np.float64) - targets
    return Score(forecaster=forecaster, mae=float(np.abs(errors).mean()), rmse=float(np.sqrt(np.square(errors).mean())))


def scaled(scores: tuple[Score, ...], scales: Mapping[str, float]) -> tuple[Score, ...]:
    """One score per forecaster: the mean over its targets, each divided by the target's scale."""
    means = []
    for forecaster in dict.fromkeys(score.forecaster for score in scores):
        own = [(each, scales[each.target]) for each in scores if each.forecaster == forecaster and each.target]
        mae, rmse = (float(np.mean(errors)) for errors in zip(*((e.mae / s, e.rmse / s) for e, s in own), strict=True))
        means.append(Score(forecaster=forecaster, mae=mae, rmse=rmse))
    return tuple(means)


def verdict(scores: tuple[Score, ...]) -> str:
    """Says in one sentence whether the model is better than the best baseline, by mean absolute error.

    Args:
        scores: As `evaluate` gives them: the model's first, then at least one baseline's.
    """
    model, *baselines = scores
    best = min(baselines, key=lambda baseline: baseline.mae)
    figures = f"mean absolute error {model.mae:.4g} against {best.mae:.4g}"
    if abs(model.mae - best.mae) <= TIE * best.mae:
        return f"The model ties with the best baseline, the {best.forecaster}: {figures}."
    if best.mae == 0:
        return f"The model loses to the best baseline, the {best.forecaster}, which makes no error: {figures}."
    share = abs(model.mae - best.mae) / best.mae
    beats = "beats" if model.mae < best.mae else "loses to"
    return f"The model {beats} the best baseline, the {best.forecaster}, by {share:.1%}: {figures}."
