"""Judges a model: its errors in raw units beside those of the baselines, and a verdict in plain words.

Every row of a part is forecast once from every origin it can be forecast from (rolling origin), with the windows that
a client would have sent there; all of them in a few large calls.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.version.manifest import Score
from training.data.windows import Dataset
from training.judging.baselines import fit_baselines
from training.judging.significance import LEVEL, diebold_mariano, least_origins
from training.network.linear import Linear
from training.network.model import Forecaster

Array = NDArray[np.float32]
Losses = NDArray[np.float64]

MODEL = "model"
"""What the network is called among the forecasters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the model compares with a baseline."""

    outcome: Literal["beats", "ties", "loses"]
    against: str
    """The baseline's name."""
    difference: float
    """Mean absolute error less the baseline's, as a share of the baseline's; negative where the model is better."""
    p: float
    """How often luck alone would bring about a difference as large, by `diebold_mariano`."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What every forecaster made of a part, and what that says.

    Attributes:
        forecasts: By forecaster, the model first: (n, horizon, targets), raw units.
        actual: What really followed; the same shape.
        target_names: Names along the last axis.
        scores: The model's first, then the baselines'; one per forecaster and target.
        verdict: On the model beside the baseline with the lowest mean absolute error.
        scales: (targets,): what errors are divided by before those of several targets are averaged; 1 for one target.
        baselines: As they were fitted on the training part.
    """

    forecasts: Mapping[str, Array]
    actual: Array
    target_names: tuple[str, ...]
    scores: tuple[Score, ...]
    verdict: Verdict
    scales: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))
    baselines: tuple[Linear, ...] = ()

    def scores_of(self, column: int) -> tuple[Score, ...]:
        """The scores of one target, by its place on the last axis: the model's first, then the baselines'."""
        return self.scores[column :: len(self.target_names)]

    def losses(self, forecaster: str) -> Losses:
        """(n,): mean absolute error of each forecast, over its rows and targets."""
        return losses_of(self.forecasts[forecaster], self.actual, self.scales)


def evaluate(forecaster: Forecaster, dataset: Dataset) -> Evaluation:
    """Scores the model and the baselines on every window of the test part.

    Args:
        forecaster: The model, and its compiled forecast.
        dataset: What the model was trained on; the baselines are fitted on its training part.
    """
    part = dataset.test
    baselines = fit_baselines(dataset)
    forecasts = {MODEL: forecaster(part.windows)}
    forecasts |= {baseline.name: baseline.forecast(part) for baseline in baselines}
    scales = error_scales(dataset)
    return Evaluation(
        forecasts=forecasts,
        actual=part.targets,
        target_names=dataset.target_names,
        scores=tuple(_scores(forecasts, part.targets, dataset)),
        verdict=_judge({name: losses_of(values, part.targets, scales) for name, values in forecasts.items()}, dataset),
        scales=scales,
        baselines=baselines,
    )


def compare(losses: Losses, others: Losses, name: str, horizon: int) -> Verdict:
    """Says in one sentence whether the model is better than a baseline.

    It beats the baseline or loses to it only where the Diebold-Mariano test finds less than `LEVEL` of luck in the
    difference; otherwise they tie, and so they do where there are too few forecasts for the test.

    Args:
        losses: (n,) the model's.
        others: (n,) the baseline's.
        name: Of the baseline.
        horizon: Rows that each forecast covers.
    """
    own, other = float(losses.mean()), float(others.mean())
    p = diebold_mariano(losses, others, horizon)
    difference = (own - other) / other if other else float(np.sign(own))
    figures = f"mean absolute error {own:.4g} against {other:.4g}, {_luck(p, len(losses), horizon)}"
    side = "below" if own < other else "above"
    if p >= LEVEL:
        share = f"{abs(difference):.1%} {side} it" if other else "which makes no error"
        sentence = f"The model ties with the best baseline, {name}, {share}: {figures}."
        return Verdict("ties", name, difference, p, sentence)
    verb = "beats" if own < other else "loses to"
    share = f"by {abs(difference):.1%}" if other else "which makes no error"
    sentence = f"The model {verb} the best baseline, {name}, {share}: {figures}."
    return Verdict("beats" if own < other else "loses", name, difference, p, sentence)


def error_scales(dataset: Dataset) -> NDArray[np.float64]:
    """(targets,): each one's standard deviation in the training part, because units may differ; 1 for one target."""
    several = len(dataset.target_names) > 1
    return dataset.train.targets.std(axis=(0, 1), dtype=np.float64) if several else np.ones(1)


def losses_of(forecasts: Array, actual: Array, scales: NDArray[np.float64]) -> Losses:
    """(n,): mean absolute error of each forecast over its rows and targets, errors divided by (targets,) scales."""
    errors = np.abs(forecasts.astype(np.float64) - actual) / scales
    return np.asarray(errors.mean(axis=(1, 2)))


def score(forecaster: str, forecasts: Array, actual: Array, naive_error: float | None = None) -> Score:
    """The errors of one forecaster.

    Args:
        forecaster: Its name.
        forecasts: Shape (n, horizon, targets), raw units.
        actual: What really followed; the same shape and units.
        naive_error: As `naive_error` gives it; the mean absolute scaled error is left out without it.

    Returns:
        Over all windows, rows and targets: mean absolute error, root mean square error, mean absolute scaled error
        (Hyndman and Koehler 2006, International Journal of Forecasting 22, 679-688) and symmetric mean absolute
        percentage error (from 0 to 200, as in the M4 competition); the first two for each row of the horizon too.

    Raises:
        ValueError: The shapes differ, or there is nothing to judge.
    """
    if forecasts.shape != actual.shape or not actual.size:
        raise ValueError(f"cannot compare forecasts of shape {forecasts.shape} with targets of shape {actual.shape}")
    forecasts, actual = forecasts.astype(np.float64), actual.astype(np.float64)
    errors = np.abs(forecasts - actual)
    sizes = np.abs(forecasts) + np.abs(actual)
    by_step, squares_by_step = errors.mean(axis=(0, 2)), np.square(errors).mean(axis=(0, 2))
    return Score(
        forecaster=forecaster,
        mae=float(errors.mean()),
        rmse=float(np.sqrt(np.square(errors).mean())),
        mase=float(errors.mean() / naive_error) if naive_error else None,
        smape=float(200 * (errors / np.where(sizes > 0, sizes, 1)).mean()),
        mae_by_step=tuple(by_step.tolist()),
        rmse_by_step=tuple(np.sqrt(squares_by_step).tolist()),
    )


def naive_error(series: NDArray[np.float32], period: int | None) -> float | None:
    """Mean absolute error of the naive forecast within the training rows: what a scaled error is measured by.

    Args:
        series: (rows,) of one target, training part only.
        period: Rows in a season, for the seasonal naive forecast; the row before where there is none.

    Returns:
        In raw units; None where there are too few rows, or where the forecast is always right.
    """
    lag = period or 1
    if len(series) <= lag:
        return None
    return float(np.abs(series[lag:].astype(np.float64) - series[:-lag]).mean()) or None


def _judge(losses: Mapping[str, Losses], dataset: Dataset) -> Verdict:
    """Compares the model, which comes first, with the baseline that has the lowest mean loss."""
    model, *baselines = losses
    best = min(baselines, key=lambda name: float(losses[name].mean()))
    verdict = compare(losses[model], losses[best], best, horizon=dataset.train.targets.shape[1])
    if len(dataset.target_names) == 1:
        return verdict
    sentence = f"In units of each target's standard deviation: {verdict.sentence}"  # they may have different units
    return replace(verdict, sentence=sentence)


def _scores(forecasts: Mapping[str, Array], actual: Array, dataset: Dataset) -> Iterator[Score]:
    several = len(dataset.target_names) > 1
    series = dataset.series if len(dataset.series) else np.empty((0, len(dataset.target_names)), np.float32)
    naive = [naive_error(column, dataset.period) for column in series.T]
    for name, values in forecasts.items():
        for column, target in enumerate(dataset.target_names):
            own = score(name, values[..., [column]], actual[..., [column]], naive[column])
            yield own.model_copy(update={"target": target}) if several else own


def _luck(p: float, forecasts: int, horizon: int) -> str:
    """What the test says, or that there are too few forecasts for it."""
    needed = least_origins(horizon)
    if forecasts < needed:
        return f"too few forecasts to tell skill from luck ({forecasts}, at least {needed} are needed)"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
