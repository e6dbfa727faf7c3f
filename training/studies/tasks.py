"""The reference tasks: known exercises, how a network is trained for each, and what others published.

The configurations were chosen on rows before the judged rows (docs/decisions/0011). Imports nothing that is slow.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from training.config import TrainingConfig

if TYPE_CHECKING:
    from training.fitting.fit import Augment

ReferenceTask = Literal["lesson", "exercise", "multiplication", "sunspots"]
"""Names of the tasks."""

Measure = Literal["MAE", "correct %"]
"""Mean absolute error in raw units, or the share of forecasts, in percent, that miss by less than 0.04."""

ORDER = 30
"""Rows that the baselines of a series see, whatever the window of the network is: the order of the autoregressions."""

RIDGE = f"linear autoregression of order {ORDER}, ridge"
LEAST_SQUARES = f"linear autoregression of order {ORDER}, least squares"

SUNSPOTS_TIME, SUNSPOTS_TARGET = "month", "sunspots"
"""Columns of the file of monthly sunspots."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What a task asks of its network. None asks for nothing."""

    mean: float | None = None
    median: float | None = None
    worst: float | None = None
    """Score of the worst seed."""
    seconds: float | None = None
    """Time of the slowest seed."""
    baselines: tuple[str, ...] = ()
    """Names of baselines whose scores the mean must beat."""


@dataclass(frozen=True, slots=True)
class Network:
    """How a network is trained for a task."""

    title: str
    config: TrainingConfig
    stops_early: bool = False
    """Whether the weights of the best epoch on the validation part are kept; if not, the weights of the last epoch."""
    augment: "Augment | None" = None


@dataclass(frozen=True, slots=True)
class Task:
    """An exercise: what is judged, by what measure, and what others reached."""

    name: ReferenceTask
    measure: Measure
    judged: int
    """Number of the last rows, or samples, that are forecast one step ahead from the true rows before them."""
    published: str
    """Figure that others reached."""
    publisher: str
    """The network that reached it."""
    bar: Bar
    network: Network
    selection: str
    """How the configuration was chosen."""
    beside: Network | None = None
    """A network to compare with."""


def redraw(generator: np.random.Generator, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Makes other samples of the multiplication problem from given samples: the same two factors among other values.

    The target depends on the two marked values alone, so it stays exactly the same. The factors go to two steps drawn
    at random; every other value is drawn again.

    Args:
        generator: Source of the random numbers.
        windows: (n, steps, 2) of marker and value.

    Returns:
        Other windows of the same shape.
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
            "2 x LSTM(30), other samples in every epoch",
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
            augment=redraw,
        ),
        selection="learning from samples 0 to 2047; samples 2048 to 2559 told the number of epochs, and tell which "
        "epoch's weights are kept",
        beside=Network(
            "2 x SimpleRNN(30), as published, plus clipping and a cosine",
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
