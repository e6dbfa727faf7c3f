"""From a data set to a published version, as a run of named steps."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from app.version.manifest import Finding, Score
from training.config import TrainingConfig
from training.console import note
from training.data.windows import Dataset
from training.fitting.budget import Budget
from training.fitting.examine import examine, examine_fitted, examine_reach
from training.fitting.fit import fit
from training.fitting.history import History
from training.fitting.learning_rate import Sweep, settle
from training.fitting.listener import Listener, Listeners
from training.fitting.progress import progress
from training.fitting.tensorboard import EventWriter
from training.judging.choice import choose
from training.judging.evaluate import Evaluation, LinearStart, error_scales, evaluate, losses_of
from training.network.model import Forecaster, build_model
from training.network.start import settle_start
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
    budget = Budget(config.budget_seconds)
    check_room(config.models_dir / config.name)
    findings = examine(config, dataset)
    _tell(findings, console)
    dataset = dataset.with_findings(*findings)
    scales = error_scales(dataset)
    limit = "" if config.budget == "none" else f", in {config.budget:g} seconds for the whole run"
    console.print(f"choosing what the networks read{limit}", highlight=False)
    choices = [*_choices(config, dataset)]
    attempts = [
        _attempt(*choice, scales, partial(budget.share, len(choices) - number), console)
        for number, choice in enumerate(choices)
    ]
    kept = min(attempts, key=lambda attempt: attempt.error)
    start = next((attempt.start for attempt in attempts if attempt.start), None)
    evaluation = evaluate(kept.forecaster, kept.dataset, start)
    config, dataset = kept.config, _after(config, kept, attempts, console)
    choice = choose(kept.forecaster.model, evaluation, config.export)
    report = partial(write_report, run=Run(config, dataset, kept.history, evaluation, kept.sweep))
    version_dir = export(choice.model, config, dataset, choice.scores, choice.verdict, report)
    return Outcome(version_dir, kept.history, evaluation, choice.scores, choice.verdict, choice.warning, kept.sweep)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A fitted network among which validation chooses."""

    config: TrainingConfig
    dataset: Dataset
    forecaster: Forecaster
    history: History
    sweep: Sweep | None
    start: LinearStart | None
    """The network before its first epoch, if it has a linear path."""
    error: float
    """Mean absolute error on the validation part; of several targets, in their standard deviations."""


def _choices(config: TrainingConfig, dataset: Dataset) -> Iterator[tuple[TrainingConfig, Dataset]]:
    """Yields what is fitted: with a linear path or without, or both if validation is to choose."""
    if config.skip is not None:
        yield settle_start(config, dataset)
        return
    if config.output == "last":
        first, settled = settle_start(config.model_copy(update={"skip": True}), dataset)
        yield first, settled
        config = config.model_copy(update={"calendar": first.calendar})
        dataset = dataset.with_calendar(settled.calendar)
    if not config.chosen_lags:
        yield settle_start(config.model_copy(update={"skip": False, "lags": "none"}), dataset)


def _attempt(
    config: TrainingConfig,
    dataset: Dataset,
    scales: NDArray[np.float64],
    find_seconds: Callable[[], float],
    console: Console,
) -> _Attempt:
    """Settles the learning rate, and builds and fits a network.

    Args:
        config: How to build and fit it.
        dataset: What to fit it to.
        scales: What errors are divided by, one for each target.
        find_seconds: Returns how long a fit that starts now may take.
        console: Where the progress goes.
    """
    console.print(f"{_described(config, dataset)}:", highlight=False)
    config, sweep = settle(config, dataset)
    if sweep:
        _tell([sweep.finding], console)
    forecaster = Forecaster(build_model(config, dataset))
    start = LinearStart(dataset, config.chosen_scale, forecaster(dataset.test.inputs)) if config.skip else None
    listener = _listener(config, console)
    history = fit(forecaster, config, dataset.train, dataset.validation, listener, seconds=find_seconds())
    _tell_fit(history, console)
    validation = dataset.validation
    losses = losses_of(forecaster(validation.inputs), validation.targets, scales)
    return _Attempt(history.plan.settled(config), dataset, forecaster, history, sweep, start, float(losses.mean()))


def _described(config: TrainingConfig, dataset: Dataset) -> str:
    """Says what is fitted: `a network beside a linear path with the lags 24 and 168, windows of 168 steps`."""
    if not config.skip:
        return "a network"
    lags = f" with the lags {' and '.join(map(str, dataset.lags))}" if dataset.lags else ""
    return f"a network beside a linear path{lags}, windows of {dataset.train.windows.shape[1]} steps"


def _listener(config: TrainingConfig, console: Console) -> Listener:
    """Returns who is told how the fit goes: the console, and TensorBoard if it is asked for."""
    told = progress(console)
    name = f"{config.name}-linear-path" if config.skip else config.name
    return Listeners(told, EventWriter(config.tensorboard, name)) if config.tensorboard else told


def _after(config: TrainingConfig, kept: _Attempt, attempts: Sequence[_Attempt], console: Console) -> Dataset:
    """Examines the network that is kept. What was found of it, and why it was kept, joins the findings of its data."""
    findings = [incident.finding for incident in kept.history.incidents]
    findings += kept.history.plan.findings(kept.config.budget_seconds)
    if kept.sweep:
        findings.append(kept.sweep.finding)
    found = [*examine_fitted(kept.forecaster, kept.dataset), *examine_reach(config, kept.dataset)]
    if config.calendar == "auto" and kept.dataset.calendar:
        found.append(_calendar_taken(kept.dataset))
    if len(attempts) > 1:
        found.append(_choice_between(kept, {attempt.config.skip: attempt.error for attempt in attempts}))
    _tell(found, console)
    return kept.dataset.with_findings(*findings, *found)


def _calendar_taken(dataset: Dataset) -> Finding:
    """Says which cycles were taken, and what that means for a client."""
    names = " and ".join(phase.name for phase in dataset.calendar)
    return Finding(
        kind="calendar",
        sentence=f"the network knows the calendar ({names}), because validation wants it, so a request says for when "
        "it wants a forecast; --calendar none leaves the calendar out",
    )


def _choice_between(kept: _Attempt, errors: Mapping[bool | None, float]) -> Finding:
    """Says why a network was kept, by the errors with a linear path (True) and without (False)."""
    sentence = f"validation error {errors[True]:.4g} with a linear path and {errors[False]:.4g} without"
    said = "with" if kept.config.skip else "without"
    return Finding(kind="linear_path", sentence=f"{sentence}, so the network {said} the path was kept")


def _tell(findings: Iterable[Finding], console: Console) -> None:
    for finding in findings:
        note(console, finding.sentence)


def _tell_fit(history: History, console: Console) -> None:
    kept = f"kept the weights of epoch {history.best.number} of {len(history.epochs)}"
    console.print(f"{kept}, after {history.seconds:.1f} seconds", highlight=False)
