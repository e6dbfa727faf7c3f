"""`python -m training reference`: runs the reference tasks by their own protocol over several seeds.

The last rows of each task are only judged. They reach nothing that is fitted or chosen: networks and baselines learn
from the rows before them. The tasks are in `tasks`, their scores and tables in `figures`.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from training.console import note, tell
from training.data import series
from training.data.files import read_table
from training.data.prepare import prepare
from training.data.table import Table, settle
from training.data.windows import Dataset, Part, cut_judged, cut_training
from training.errors import ConfigError, DataError
from training.fitting.fit import fit
from training.interrupts import done_so_far, leaving_at_once
from training.judging.baselines import AUTOREGRESSION, Baseline, fit_baselines
from training.network.linear import Linear
from training.network.model import Forecaster, build_model
from training.studies.figures import Figures, Result, result_table, score, verdict_of, write_figures
from training.studies.tasks import LEAST_SQUARES, ORDER, RIDGE, SUNSPOTS_TARGET, SUNSPOTS_TIME, Network, Task
from training.writing import check_writable

Array = NDArray[np.float32]


def run(
    tasks: Sequence[Task], seeds: int, console: Console, data: Path | None = None, output: Path | None = None
) -> list[Result]:
    """Runs tasks one after the other, tells each seed as it ends, and shows the table of each task.

    The figures are written after each task. Ctrl-C ends the process and loses only the task that is running.

    Args:
        tasks: The tasks.
        seeds: Number of networks for each figure; their seeds are 0, 1, 2 ...
        console: Gets a line for each seed, and the tables.
        data: File of monthly sunspots, for the task that needs it.
        output: File for the figures, as JSON.

    Raises:
        ConfigError: A task needs `data`, or `output` cannot be written.
        DataError: The file cannot be used.
    """
    if output:
        check_writable(output)
    datasets = [dataset_of(task, data) for task in tasks]  # all of them, so that a mistake is told before hours of work
    results: list[Result] = []
    with leaving_at_once(lambda: done_so_far(len(results), len(tasks), "task", output)):
        for task, dataset in zip(tasks, datasets, strict=True):
            results.append(_run_and_show(task, dataset, seeds, console))
            if output:
                write_figures(results, output)
    return results


def _run_and_show(task: Task, dataset: Dataset, seeds: int, console: Console) -> Result:
    work = f"{task.name}: {len(dataset.train.windows)} windows to train, {len(dataset.test.windows)} to judge"
    tell(console, f"{work}, {seeds} seed{'s' if seeds > 1 else ''}")
    result = run_task(task, dataset, seeds, console)
    console.print(result_table(result))
    tell(console, verdict_of(result))
    return result


def run_task(task: Task, dataset: Dataset, seeds: int, console: Console) -> Result:
    """Trains the networks of a task with every seed, fits its baselines, and judges all of them."""
    baselines, judged = baselines_of(task, dataset)
    return Result(
        task=task,
        baselines={each.name: score(task.measure, each.forecast(judged), judged.targets) for each in baselines},
        floor=floor_of(task),
        ours=_figures(task, task.network, dataset, seeds, console),
        beside=_figures(task, task.beside, dataset, seeds, console) if task.beside else None,
    )


def _figures(task: Task, network: Network, dataset: Dataset, seeds: int, console: Console) -> Figures:
    scores, seconds = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        forecaster = train(network, dataset, seed, console)
        seconds.append(time.perf_counter() - started)
        scores.append(score(task.measure, forecaster(dataset.test.inputs), dataset.test.targets))
        line = f"{task.name}, {network.title}, seed {seed}: {task.measure} {scores[-1]:.4g} in {seconds[-1]:.1f} s"
        tell(console, line)
    return Figures(network.title, tuple(scores), tuple(seconds), higher_is_better=task.measure != "MAE")


def train(network: Network, dataset: Dataset, seed: int, console: Console) -> Forecaster:
    """Builds and fits a network, and tells what went wrong. Does not look at the test part."""
    config = network.config.model_copy(update={"seed": seed})
    forecaster = Forecaster(build_model(config, dataset))
    validation = dataset.validation if network.stops_early else None
    history = fit(forecaster, config, dataset.train, validation, augment=network.augment)
    for incident in history.incidents:
        note(console, f"seed {seed}: {incident.sentence}")
    return forecaster


def dataset_of(task: Task, data: Path | None = None) -> Dataset:
    """Makes the data set of a task; its test part holds the judged rows.

    All other rows of a series are for training and none for validation, since the number of epochs is fixed.

    Args:
        task: The task.
        data: File of monthly sunspots, for the task that needs it.

    Raises:
        ConfigError: The task needs `data`.
        DataError: The file cannot be used.
    """
    config = task.network.config
    if task.name == "multiplication":
        return prepare(config)
    table = _read(task, data)
    return cut(table.values.astype(np.float32), table.columns, task.judged, config.window)


def cut(rows: Array, columns: tuple[str, ...], judged: int, window: int) -> Dataset:
    """Cuts the rows of a series, (rows, 1): the training part learns from all rows before the last `judged` rows."""
    start = len(rows) - judged
    train = cut_training(rows[:start], rows[:start], window, 1)
    return Dataset(
        feature_names=columns,
        target_names=columns,
        train=train,
        validation=train.between(0, 0),
        test=cut_judged(rows, rows, window, 1, start),
        series=rows[:start],
    )


def baselines_of(task: Task, dataset: Dataset) -> tuple[tuple[Baseline, ...], Part]:
    """Fits the baselines on the training part.

    Returns:
        The baselines, and the judged rows with windows of the length that the baselines take.
    """
    if task.name == "multiplication":
        return fit_baselines(dataset), dataset.test
    rows = np.concatenate([dataset.series, dataset.test.targets[:, 0]])
    shorter = cut(rows, dataset.feature_names, task.judged, ORDER)
    fitted = [
        replace(each, name=RIDGE) if isinstance(each, Linear) and each.name == AUTOREGRESSION else each
        for each in fit_baselines(shorter)
    ]
    return (*fitted, _least_squares(shorter)), shorter.test


def _least_squares(dataset: Dataset) -> Linear:
    """Fits the autoregression of a single series in raw units, without a penalty."""
    windows, targets = dataset.train.windows[..., 0].astype(np.float64), dataset.train.targets[..., 0]
    inputs = np.column_stack([windows, np.ones(len(windows))])
    weights, *_ = np.linalg.lstsq(inputs, targets.astype(np.float64))
    one = np.ones((1, 1), np.float32)
    return Linear(LEAST_SQUARES, weights[:-1], weights[-1], selection=one, centre=np.zeros(1, np.float32))


def floor_of(task: Task) -> float | None:
    """Scores the signal of a made series without its noise. Returns None where the noise is not known."""
    if task.name not in ("lesson", "exercise"):
        return None
    signal, noisy = series.signal(task.name), series.load(task.name).values[:, 0].astype(np.float32)
    return score(task.measure, signal[-task.judged :], noisy[-task.judged :])


def _read(task: Task, data: Path | None) -> Table:
    """Reads the series of a task. Monthly sunspots are in the order of time, and no month has a missing value."""
    if task.name in ("lesson", "exercise"):
        return series.load(task.name)
    if data is None:
        raise ConfigError(
            "the sunspots task needs --data FILE, because the monthly numbers are not ours to ship; give a CSV file "
            f"with the columns {SUNSPOTS_TIME} (such as 1749-01) and {SUNSPOTS_TARGET}, or name another task"
        )
    table = read_table(data, (SUNSPOTS_TARGET,), SUNSPOTS_TIME)
    gaps = np.isnan(table.values[:, 0])
    if gaps.any():
        raise DataError(
            f"{table.source}: there is no value on {table.where(int(np.argmax(gaps)))}; the {task.name} task needs a "
            "number in every row, so bring the whole series"
        )
    table = settle(table, "error")
    needed = task.judged + 2 * task.network.config.window
    if table.rows < needed:
        raise DataError(
            f"{table.source} has {table.rows} rows; the {task.name} task judges the last {task.judged} and needs "
            f"{needed} in all to have enough to learn from, so bring the whole series"
        )
    return table
