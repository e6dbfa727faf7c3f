"""Judges a model: its errors in raw units beside the errors of the baselines, and a verdict in plain words.

Every row of a part is forecast once from every origin from which it can be forecast (rolling origin), with the windows
that a client would have sent. A few large calls compute all forecasts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.version.manifest import Score
from training.config import Scale
from training.data.windows import Dataset
from training.judging.baselines import Baseline, fit_baselines, fit_regression_with_lags
from training.judging.significance import LEVEL, diebold_mariano, least_origins
from training.network.model import Forecaster

Array = NDArray[np.float32]
Losses = NDArray[np.float64]

MODEL, START = "model", "linear start"
"""Names of the network, and of a linear start that reads more than windows, among the forecasters."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the model compares with a baseline."""

    outcome: Literal["beats", "ties", "loses"]
    against: str
    """The baseline's name."""
    difference: float
    """Mean absolute error less the baseline's, as a share of the baseline's; negative if the model is better."""
    p: float
    """How often luck alone would make a difference as large, by `diebold_mariano`; 1 if there are too few forecasts."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The forecasts of all forecasters on a part, and how good they are.

    Attributes:
        forecasts: (n, horizon, targets) in raw units, by the name of the forecaster; the model comes first.
        actual: What really followed; the same shape.
        target_names: Names along the last axis.
        scores: One per forecaster and target; the model's come first.
        verdict: How the model compares with the baseline that has the lowest mean absolute error.
        scales: (targets,): errors are divided by these before targets are averaged; 1 for a single target.
        baselines: The baselines, fitted on the training part.
    """

    forecasts: Mapping[str, Array]
    actual: Array
    target_names: tuple[str, ...]
    scores: tuple[Score, ...]
    verdict: Verdict
    scales: NDArray[np.float64] = field(default_factory=lambda: np.ones(1))
    baselines: tuple[Baseline, ...] = ()

    def scores_of(self, column: int) -> tuple[Score, ...]:
        """Returns the scores of the target in a column; the model's comes first."""
        return self.scores[column :: len(self.target_names)]

    def losses(self, forecaster: str) -> Losses:
        """Returns the mean absolute error of each forecast (n,), over its steps and targets."""
        return losses_of(self.forecasts[forecaster], self.actual, self.scales)


@dataclass(frozen=True, slots=True)
class LinearStart:
    """A network with a linear path before its first epoch.

    Attributes:
        dataset: What the network was built for. Its windows may be longer than those of the model that is judged.
        scale: What its windows are counted from.
        forecasts: (n, horizon, targets) of the test part.
    """

    dataset: Dataset
    scale: Scale
    forecasts: Array


def evaluate(forecaster: Forecaster, dataset: Dataset, start: LinearStart | None = None) -> Evaluation:
    """Scores the model and the baselines on every window of the test part.

    Args:
        forecaster: The model, and its compiled forecast.
        dataset: What the model was trained on; the baselines are fitted on its training part.
        start: The linear start, of the model or of a network that was fitted beside it. The linear autoregression reads
            the same lags in the same scale, and the verdict says what the cells add.
    """
    part = dataset.test
    scale = None if start is None else start.scale
    baselines = fit_baselines(dataset, scale)
    forecasts = {MODEL: forecaster(part.inputs)}
    forecasts |= {baseline.name: baseline.forecast(part) for baseline in baselines}
    if start is not None and start.dataset.lags != dataset.lags:
        regression = fit_regression_with_lags(start.dataset, scale)
        baselines = (*baselines, regression)
        forecasts[regression.name] = regression.forecast(start.dataset.test)
    if start is not None and (start.dataset.known or start.dataset.calendar):
        forecasts[START] = start.forecasts
    scales = error_scales(dataset)
    losses = {name: losses_of(values, part.targets, scales) for name, values in forecasts.items()}
    verdict = _judge(losses, dataset)
    if start is not None and verdict.against != START:
        added = _added(losses[MODEL], losses_of(start.forecasts, part.targets, scales), part.targets.shape[1])
        verdict = replace(verdict, sentence=f"{verdict.sentence} {added}")
    return Evaluation(
        forecasts=forecasts,
        actual=part.targets,
        target_names=dataset.target_names,
        scores=tuple(_scores(forecasts, part.targets, dataset)),
        verdict=verdict,
        scales=scales,
        baselines=baselines,
    )


def compare(losses: Losses, others: Losses, name: str, horizon: int) -> Verdict:
    """Says in one sentence whether the model is better than a baseline.

    The model beats the baseline, or loses to it, if luck alone would make the difference less often than `LEVEL`, by
    `diebold_mariano`. Otherwise the two tie; they also tie if there are too few forecasts for the test.

    Args:
        losses: (n,) losses of the model.
        others: (n,) losses of the baseline, from the same origins.
        name: Name of the baseline.
        horizon: Steps of each forecast.
    """
    own, other = float(losses.mean()), float(others.mean())
    p = diebold_mariano(losses, others, horizon)
    difference = (own - other) / other if other else float(np.sign(own))
    figures = f"{own:.4g} against {other:.4g}, {_luck(p, len(losses), horizon)}"
    if p >= LEVEL:
        sentence = f"The model ties with the best baseline, {name}: its mean absolute error is {_distance(own, other)}"
        return Verdict("ties", name, difference, p, f"{sentence}, {figures}.")
    verb = "beats" if own < other else "loses to"
    share = f"by {abs(difference):.1%}" if other else "which makes no error"
    sentence = f"The model {verb} the best baseline, {name}, {share}: mean absolute error {figures}."
    return Verdict("beats" if own < other else "loses", name, difference, p, sentence)


def error_scales(dataset: Dataset) -> NDArray[np.float64]:
    """Returns the targets' standard deviations in the training part, as units may differ; 1 for a single target."""
    several = len(dataset.target_names) > 1
    return dataset.train.targets.std(axis=(0, 1), dtype=np.float64) if several else np.ones(1)


def losses_of(forecasts: Array, actual: Array, scales: NDArray[np.float64]) -> Losses:
    """Returns the mean absolute error of each forecast (n,); errors are divided by scales (targets,)."""
    errors = np.abs(forecasts.astype(np.float64) - actual) / scales
    return np.asarray(errors.mean(axis=(1, 2)))


def score(forecaster: str, forecasts: Array, actual: Array, naive_error: float | None = None) -> Score:
    """Returns the errors of a forecaster.

    Args:
        forecaster: Name of the forecaster.
        forecasts: Shape (n, horizon, targets), raw units.
        actual: What really followed; the same shape and units.
        naive_error: As `naive_error` returns it; without it there is no mean absolute scaled error.

    Returns:
        Over all windows, steps and targets: mean absolute error, root mean square error, mean absolute scaled error
        (Hyndman and Koehler 2006, International Journal of Forecasting 22, 679-688) and symmetric mean absolute
        percentage error (from 0 to 200, as in the M4 competition). The first two for each step of the horizon too.

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
    """Returns the mean absolute error of the naive forecast within the training rows, the unit of scaled errors.

    Args:
        series: (rows,) of one target, training part only.
        period: Rows in a season, for the seasonal naive forecast; None takes the row before.

    Returns:
        In raw units; None if there are too few rows, or if the naive forecast is always right.
    """
    lag = period or 1
    if len(series) <= lag:
        return None
    return float(np.abs(series[lag:].astype(np.float64) - series[:-lag]).mean()) or None


def _judge(losses: Mapping[str, Losses], dataset: Dataset) -> Verdict:
    """Compares the model, whose losses come first, with the baseline that has the lowest mean loss."""
    model, *baselines = losses
    best = min(baselines, key=lambda name: float(losses[name].mean()))
    verdict = compare(losses[model], losses[best], best, horizon=dataset.train.targets.shape[1])
    if len(dataset.target_names) == 1:
        return verdict
    sentence = f"In units of each target's standard deviation: {verdict.sentence}"  # units may differ
    return replace(verdict, sentence=sentence)


def _added(losses: Losses, start: Losses, horizon: int) -> str:
    """Says in a sentence what the cells add to the linear start, so that nobody takes a regression for a network."""
    own, other = float(losses.mean()), float(start.mean())
    if np.array_equal(losses, start):
        return f"The model is its linear start, which makes {other:.4g}: the cells add nothing."
    share = f"{abs(own - other) / own:.1%} " if own else ""
    luck = _luck(diebold_mariano(losses, start, horizon), len(losses), horizon)
    return f"The linear start alone makes {other:.4g}, {share}{'more' if other > own else 'less'}, {luck}."


def _scores(forecasts: Mapping[str, Array], actual: Array, dataset: Dataset) -> Iterator[Score]:
    several = len(dataset.target_names) > 1
    series = dataset.series if len(dataset.series) else np.empty((0, len(dataset.target_names)), np.float32)
    naive = [naive_error(column, dataset.period) for column in series.T]
    for name, values in forecasts.items():
        for column, target in enumerate(dataset.target_names):
            own = score(name, values[..., [column]], actual[..., [column]], naive[column])
            yield own.model_copy(update={"target": target}) if several else own


def _distance(own: float, other: float) -> str:
    """Returns how far the model's error is above or below the baseline's."""
    if own == other:
        return "the same"
    share = f"{abs(own - other) / other:.1%} " if other else ""
    return f"{share}{'below' if own < other else 'above'}"


def _luck(p: float, forecasts: int, horizon: int) -> str:
    """Returns the result of the test, or that there are too few forecasts for it."""
    needed = least_origins(horizon)
    if forecasts < needed:
        return f"too few forecasts to tell skill from luck ({forecasts}, at least {needed} are needed)"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
