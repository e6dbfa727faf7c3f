"""The reference tasks: known exercises, run by their own protocol over several seeds, beside what others published.

Each task has rows that are only judged. They reach nothing that is fitted or chosen: networks and baselines learn from
the rows before them, and the configurations below were chosen on the latest of those (docs/decisions/0011).
"""

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TextIO

import keras
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table as Grid

from training.config import ReferenceTask, TrainingConfig
from training.console import note, tell
from training.data import series
from training.data.prepare import prepare, read_table
from training.data.table import Table, settle
from training.data.windows import Dataset, Part, cut_judged, cut_training
from training.errors import ConfigError, DataError
from training.fitting.fit import Augment, fit
from training.judging.baselines import AUTOREGRESSION, fit_baselines
from training.network.linear import Linear
from training.network.model import build_model, compile_forecast

Array = NDArray[np.float32]
Measure = Literal["MAE", "correct %"]
"""Mean absolute error in raw units, or the share of forecasts, in percent, that miss by less than `CORRECT`."""

CORRECT = 0.04
"""How far a product may be off, as in Hochreiter and Schmidhuber 1997, Neural Computation 9, 1735-1780."""

ORDER = 30
"""Rows that the baselines of a series see, whatever the network's window is: the order of the autoregressions."""

RIDGE = f"linear autoregression of order {ORDER}, ridge"
LEAST_SQUARES = f"linear autoregression of order {ORDER}, least squares"

SUNSPOTS_TIME, SUNSPOTS_TARGET = "month", "sunspots"


@dataclass(frozen=True, slots=True)
class Bar:
    """What the task asks of the network; None asks for nothing. Seconds are those of the slowest seed."""

    mean: float | None = None
    median: float | None = None
    worst: float | None = None
    seconds: float | None = None
    baselines: tuple[str, ...] = ()
    """The mean is to be better than the figure of each of these."""


@dataclass(frozen=True, slots=True)
class Network:
    """How a network is trained for a task."""

    title: str
    config: TrainingConfig
    stops_early: bool = False
    """Whether the validation part decides which epoch's weights are kept; else every epoch runs and the last counts."""
    augment: Augment | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One exercise: what is judged, by what measure, and what others reached."""

    name: ReferenceTask
    measure: Measure
    judged: int
    """The last rows, or samples, which are forecast one step ahead from the true rows before them."""
    published: str
    """The figure that others reached."""
    publisher: str
    """What they reached it with."""
    bar: Bar
    network: Network
    selection: str
    """How the configuration was chosen."""
    beside: Network | None = None
    """A network to compare with."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What a network reached with each seed.

    Attributes:
        title: The network's.
        scores: By seed, in the task's measure.
        seconds: By seed, from building the network to its last weights, compilation included.
        higher_is_better: Whether a higher score is the better one.
    """

    title: str
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
    higher_is_better: bool

    @property
    def mean(self) -> float:
        """Of the scores."""
        return statistics.fmean(self.scores)

    @property
    def median(self) -> float:
        """Of the scores."""
        return statistics.median(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the scores over the seeds; None for a single seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def worst(self) -> float:
        """The worst seed's score."""
        return min(self.scores) if self.higher_is_better else max(self.scores)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task."""

    task: Task
    baselines: Mapping[str, float]
    floor: float | None
    """The score of the noiseless signal, which no forecaster can be expected to beat; None where it is not known."""
    ours: Figures
    beside: Figures | None

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What is missing to the bar, in words; nothing where the bar is met."""
        return tuple(_shortfalls(self))


def draw_anew(generator: np.random.Generator, windows: Array) -> Array:
    """Makes other samples of the multiplication problem out of given ones: the same two factors among new values.

    The answer hangs on the two marked values alone, so it stays exactly the same. They go to two steps drawn at random;
    every other value is drawn again.

    Args:
        generator: Draws them.
        windows: (n, steps, 2) of marker and value.

    Returns:
        New windows of the same shape.
    """
    samples, steps, _ = windows.shape
    marked = windows[..., 0].argsort(axis=1)[:, -2:]
    factors = np.take_along_axis(windows[..., 1], marked, axis=1)
    first, second = generator.integers(0, steps, samples), generator.integers(0, steps - 1, samples)
    places = np.stack([first, second + (second >= first)], axis=1)  # two different steps, every pair as likely
    markers, values = np.zeros((samples, steps), np.float32), generator.random((samples, steps), dtype=np.float32)
    np.put_along_axis(markers, places, 1, axis=1)
    np.put_along_axis(values, places, factors, axis=1)
    return np.stack([markers, values], axis=-1)


TASKS: dict[ReferenceTask, Task] = {
    "lesson": Task(
        name="lesson",
        measure="MAE",
        judged=461,
        published="5.287",
        publisher="two bidirectional LSTM layers of a tutorial",
        bar=Bar(mean=4.50, worst=4.60, seconds=60),
        network=Network(
            "2 x LSTM(32), window 45, noise 0.3",
            TrainingConfig(
                series="lesson", window=45, units=(32, 32), scale="window", noise=0.3, learning_rate=3e-3, epochs=60
            ),
        ),
        selection="window, scale, loss, noise and epochs by the error on rows 600 to 799 and 800 to 999, "
        "each after training on the rows before",
    ),
    "exercise": Task(
        name="exercise",
        measure="MAE",
        judged=651,
        published="< 4",
        publisher="aim of a tutorial's exercise",
        bar=Bar(mean=2.80),
        network=Network(
            "2 x LSTM(32), window 60, noise 0.4",
            TrainingConfig(
                series="exercise", window=60, units=(32, 32), scale="window", noise=0.4, learning_rate=3e-3, epochs=50
            ),
        ),
        selection="window, scale, loss, noise and epochs by the error on rows 2300 to 2649 and 2650 to 2999, "
        "each after training on the rows before",
    ),
    "multiplication": Task(
        name="multiplication",
        measure="correct %",
        judged=440,
        published="92.95",
        publisher="two LSTM layers of a tutorial",
        bar=Bar(median=99.5, worst=98.5, seconds=300),
        network=Network(
            "2 x LSTM(30), samples drawn anew",
            TrainingConfig(
                series="multiplication",
                split=(2048, 2560),
                units=(30, 30),
                scale="standard",
                loss="mse",
                forget_bias=4,
                learning_rate=3e-3,
                batch_size=64,
                epochs=200,
                patience=200,
            ),
            stops_early=True,
            augment=draw_anew,
        ),
        selection="learning from samples 0 to 2047; samples 2048 to 2559 told the number of epochs, and tell which "
        "epoch's weights are kept",
        beside=Network(
            "2 x SimpleRNN(30), as published, but for clipping and a cosine",
            TrainingConfig(
                series="multiplication",
                split=(2048, 2560),
                cell="rnn",
                units=(30, 30),
                scale="none",
                loss="mse",
                learning_rate=1e-3,
                batch_size=32,
                epochs=100,
                patience=100,
            ),
            stops_early=True,
        ),
    ),
    "sunspots": Task(
        name="sunspots",
        measure="MAE",
        judged=235,
        published="15.40",
        publisher="convolution and two LSTM layers of a tutorial, on a longer copy",
        bar=Bar(baselines=(RIDGE, LEAST_SQUARES)),
        network=Network(
            "linear path and LSTM(16), window 120, noise 0.4",
            TrainingConfig(
                data=Path("sunspots.csv"),
                target=(SUNSPOTS_TARGET,),
                time=SUNSPOTS_TIME,
                window=120,
                units=(16,),
                scale="last",
                skip=True,
                noise=0.4,
                loss="mae",
                learning_rate=3e-3,
                batch_size=64,
                epochs=15,
            ),
        ),
        selection="window, scale, loss, noise and epochs by the error on the four stretches of 235 months before the "
        "judged ones, each after training on the months before",
    ),
}


def run(tasks: Sequence[Task], seeds: int, data: Path | None, console: Console) -> Iterator[Result]:
    """Runs tasks one after the other; tells each seed as it ends, and shows each task's table.

    Args:
        tasks: Which.
        seeds: Runs each task with the seeds 0 up to this number.
        data: File of monthly sunspots, for the task that needs it.
        console: Where all is told.

    Raises:
        ConfigError: A task needs `data`.
        DataError: The file cannot be used.
    """
    datasets = [dataset_of(task, data) for task in tasks]  # all, so that a mistake is told before hours are spent
    for task, dataset in zip(tasks, datasets, strict=True):
        work = f"{task.name}: {len(dataset.train.windows)} windows to train, {len(dataset.test.windows)} to judge"
        console.print(f"{work}, {seeds} seed{'s' if seeds > 1 else ''}", highlight=False)
        result = run_task(task, dataset, seeds, console)
        console.print(table_of(result))
        for sentence in sentences_of(result):
            tell(console, sentence)
        yield result


def run_task(task: Task, dataset: Dataset, seeds: int, console: Console) -> Result:
    """Trains and judges a task's networks with every seed, and its baselines."""
    baselines, judged = baselines_of(task, dataset)
    return Result(
        task=task,
        baselines={each.name: score(task.measure, each.forecast(judged), judged.targets) for each in baselines},
        floor=floor_of(task),
        ours=_figures(task, task.network, dataset, seeds, console),
        beside=_figures(task, task.beside, dataset, seeds, console) if task.beside else None,
    )


def dataset_of(task: Task, data: Path | None = None) -> Dataset:
    """What a task is learnt from and judged on; the judged rows are the test part.

    The other rows of a series are all for training, none for validation: it is settled how many epochs there are.

    Args:
        task: Which.
        data: File of monthly sunspots, for that task.

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
    """Cuts the rows of a series (rows, 1) into windows to learn from and, of its last rows, windows to be judged."""
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


def train(network: Network, dataset: Dataset, seed: int, console: Console) -> keras.Model:
    """Builds and fits a network, and tells what went wrong; the dataset's test part is not looked at."""
    config = network.config.model_copy(update={"seed": seed})
    model = build_model(config, dataset)
    validation = dataset.validation if network.stops_early else None
    history = fit(model, config, dataset.train, validation, augment=network.augment)
    for incident in history.incidents:
        note(console, f"seed {seed}: {incident.sentence}")
    return model


def score(measure: Measure, forecasts: Array, actual: Array) -> float:
    """How good forecasts are, by a task's measure.

    Args:
        measure: Which.
        forecasts: (n, horizon, targets), raw units.
        actual: What really followed; the same shape.
    """
    errors = np.abs(forecasts.astype(np.float64) - actual)
    return float(errors.mean()) if measure == "MAE" else 100 * float((errors < CORRECT).mean())


def baselines_of(task: Task, dataset: Dataset) -> tuple[tuple[Linear, ...], Part]:
    """Fits the baselines on the training part.

    Returns:
        The baselines, and the judged rows as they see them.
    """
    if task.name == "multiplication":
        return fit_baselines(dataset), dataset.test
    rows = np.concatenate([dataset.series, dataset.test.targets[:, 0]])
    shorter = cut(rows, dataset.feature_names, task.judged, ORDER)
    fitted = [
        replace(each, name=RIDGE if each.name == AUTOREGRESSION else each.name) for each in fit_baselines(shorter)
    ]
    return (*fitted, _least_squares(shorter)), shorter.test


def _least_squares(dataset: Dataset) -> Linear:
    """The autoregression of a single series in raw units, without a penalty."""
    windows, targets = dataset.train.windows[..., 0].astype(np.float64), dataset.train.targets[..., 0]
    inputs = np.column_stack([windows, np.ones(len(windows))])
    weights, *_ = np.linalg.lstsq(inputs, targets.astype(np.float64))
    one = np.ones((1, 1), np.float32)
    return Linear(LEAST_SQUARES, weights[:-1], weights[-1], selection=one, centre=np.zeros(1, np.float32))


def floor_of(task: Task) -> float | None:
    """The score of a made series' own signal; None where the noise is not known."""
    if task.name not in ("lesson", "exercise"):
        return None
    signal, noisy = series.signal(task.name), series.load(task.name).values[:, 0].astype(np.float32)
    return score(task.measure, signal[-task.judged :], noisy[-task.judged :])


def table_of(result: Result) -> Grid:
    """A task's figures side by side, and how the network was chosen."""
    task = result.task
    title = f"{task.name}: {task.measure} on the last {task.judged}, one step ahead"
    chosen = f"Chosen without the judged rows: {task.selection}."
    grid = Grid(title=title, title_justify="left", caption=chosen, caption_justify="left")
    grid.add_column("forecaster")
    for name in ("mean", "median", "s.d.", "worst", "seconds a seed"):
        grid.add_column(name, justify="right")
    grid.add_row(f"published: {task.publisher}", task.published)
    for name, figure in result.baselines.items():
        grid.add_row(name, f"{figure:.4g}")
    if result.floor is not None:
        grid.add_row("floor: the signal without its noise", f"{result.floor:.4g}")
    for figures in filter(None, (result.beside, result.ours)):
        deviation = "" if figures.deviation is None else f"{figures.deviation:.2g}"
        numbers = f"{figures.mean:.4g}", f"{figures.median:.4g}", deviation, f"{figures.worst:.4g}"
        own = "ours: " if figures is result.ours else ""
        seeds = f"{len(figures.scores)} seed{'s' if len(figures.scores) > 1 else ''}"
        grid.add_row(f"{own}{figures.title}, {seeds}", *numbers, f"{statistics.fmean(figures.seconds):.1f}")
    return grid


def sentences_of(result: Result) -> Iterator[str]:
    """Whether the bar is met."""
    task = result.task
    asked = ", ".join(_asked(task.bar, result))
    if result.shortfalls:
        yield f"{task.name}: the bar is missed: {'; '.join(result.shortfalls)} (asked: {asked})."
    else:
        yield f"{task.name}: the bar is met (asked: {asked})."


def record_of(result: Result) -> dict[str, Any]:
    """A task's figures as plain values, for JSON."""
    return {
        "task": result.task.name,
        "measure": result.task.measure,
        "judged": result.task.judged,
        "published": f"{result.task.published} ({result.task.publisher})",
        "baselines": dict(result.baselines),
        "floor": result.floor,
        "ours": _record_of(result.ours),
        "beside": _record_of(result.beside) if result.beside else None,
        "bar": asdict(result.task.bar),
        "shortfalls": list(result.shortfalls),
        "selection": result.task.selection,
    }


def write(results: Sequence[Result], path: Path) -> None:
    """Writes the figures of tasks as JSON.

    Raises:
        ConfigError: The file cannot be written.
    """
    text = json.dumps([record_of(result) for result in results], indent=2)
    with _output(path, "w") as file:
        file.write(text + "\n")


def require_writable(path: Path) -> None:
    """Tries whether figures can be written; leaves alone what is in the file, and no file where there was none.

    Raises:
        ConfigError: They cannot.
    """
    is_new = not path.exists()
    with _output(path, "a"):
        pass
    if is_new:
        path.unlink()


@contextmanager
def _output(path: Path, mode: Literal["w", "a"]) -> Iterator[TextIO]:
    try:
        with path.open(mode, encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written ({error.strerror}); choose another file") from None


def _figures(task: Task, network: Network, dataset: Dataset, seeds: int, console: Console) -> Figures:
    scores, seconds = [], []
    for seed in range(seeds):
        started = time.perf_counter()
        model = train(network, dataset, seed, console)
        seconds.append(time.perf_counter() - started)
        scores.append(score(task.measure, compile_forecast(model)(dataset.test.windows), dataset.test.targets))
        line = f"{task.name}, {network.title}, seed {seed}: {task.measure} {scores[-1]:.4g} in {seconds[-1]:.1f} s"
        tell(console, line)
    return Figures(network.title, tuple(scores), tuple(seconds), higher_is_better=task.measure != "MAE")


def _read(task: Task, data: Path | None) -> Table:
    """The task's series; of months in the order of time, none of them missing."""
    if task.name in ("lesson", "exercise"):
        return series.load(task.name)
    if data is None:
        raise ConfigError(
            "the sunspots task needs --data FILE: the monthly numbers are not ours to ship, so give a CSV file with "
            f"the columns {SUNSPOTS_TIME} (such as 1749-01) and {SUNSPOTS_TARGET}, or name another task"
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
            f"{table.source} has {table.rows} rows; the {task.name} task judges the last {task.judged} and needs more "
            f"to learn from, {needed} in all, so bring the whole series"
        )
    return table


def _shortfalls(result: Result) -> Iterator[str]:
    bar, ours = result.task.bar, result.ours
    sign = -1 if ours.higher_is_better else 1
    for name, figure, limit in (
        ("mean", ours.mean, bar.mean),
        ("median", ours.median, bar.median),
        ("worst seed", ours.worst, bar.worst),
    ):
        if limit is not None and sign * figure > sign * limit:
            yield f"{name} {figure:.4g}"
    if bar.seconds is not None and max(ours.seconds) > bar.seconds:
        yield f"slowest seed {max(ours.seconds):.0f} s"
    for name in bar.baselines:
        if sign * ours.mean >= sign * result.baselines[name]:
            yield f"mean {ours.mean:.4g} against {result.baselines[name]:.4g} of the {name}"


def _asked(bar: Bar, result: Result) -> Iterator[str]:
    bound = "at least" if result.ours.higher_is_better else "at most"
    for name, limit in (("mean", bar.mean), ("median", bar.median), ("worst seed", bar.worst)):
        if limit is not None:
            yield f"{name} {bound} {limit:g}"
    if bar.seconds is not None:
        yield f"at most {bar.seconds:g} s a seed"
    for name in bar.baselines:
        yield f"a better mean than {result.baselines[name]:.4g} of the {name}"


def _record_of(figures: Figures) -> dict[str, Any]:
    summary = {name: getattr(figures, name) for name in ("mean", "median", "deviation", "worst")}
    return {"title": figures.title, "scores": figures.scores, "seconds": figures.seconds, **summary}
