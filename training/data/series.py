"""The built-in series: real series to start with, made series whose noise is known, and the multiplication problem.

Made series are drawn from numpy's `RandomState`, whose numbers never change, so everyone gets the same series.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.config import Series
from training.data.frequency import Times
from training.data.table import Table

SAMPLES = 3000
SAMPLE_STEPS = 100

Pattern = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""Gives the value of a season from the share of the year that has passed."""

_DAYS_A_YEAR = 365
_BASELINE = 10
_AMPLITUDE = 40


MadeSeries = Literal["lesson", "exercise"]
"""The series whose noise is known."""


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What a made series is drawn from: a trend, a yearly pattern with two jumps, and noise."""

    years: int
    slope: float
    """Rise of the trend in a day."""
    pattern: Pattern
    noise: float
    """Standard deviation of the noise."""
    seed: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Windows that stand alone, each with one number to forecast.

    Attributes:
        windows: (samples, steps, features) float32.
        targets: (samples, targets) float32.
        feature_names: Names along the last axis of the windows.
        target_names: Names along the last axis of the targets.
        source: Name of the built-in series.
    """

    windows: NDArray[np.float32]
    targets: NDArray[np.float32]
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...]
    source: str


def load(name: Series) -> Table:
    """Loads a built-in series by name. `multiplication` is not a series: see `multiplication_samples`."""
    return _LOADERS[name]()


def signal(name: MadeSeries) -> NDArray[np.float32]:
    """Returns (rows,): a made series without its noise, which is the best forecast there is.

    The parts are summed in float32, as published; in float64 the last digits of the series would differ.
    """
    recipe = _RECIPES[name]
    time = np.arange(recipe.years * _DAYS_A_YEAR + 1).astype(np.float32)
    season = _AMPLITUDE * recipe.pattern(time % _DAYS_A_YEAR / _DAYS_A_YEAR)
    return np.asarray(_BASELINE + recipe.slope * time + season, np.float32)


def multiplication_samples() -> Samples:
    """Draws samples of the multiplication problem: 100 steps of (marker, value), and the product of two marked values.

    Values are uniform between 0 and 1. The marker is 1 at two steps drawn at random and 0 elsewhere, so the target may
    depend on a step far back.
    """
    random = np.random.RandomState(0)
    values = random.uniform(size=(SAMPLES, SAMPLE_STEPS))
    marked = random.uniform(size=(SAMPLES, SAMPLE_STEPS)).argsort(axis=1)[:, :2]  # two different steps of every sample
    markers = np.zeros_like(values)
    np.put_along_axis(markers, marked, 1, axis=1)
    products = np.take_along_axis(values, marked, axis=1).prod(axis=1, keepdims=True)
    windows = np.stack([markers, values], axis=-1).astype(np.float32)
    return Samples(windows, products.astype(np.float32), ("marker", "value"), ("product",), "multiplication")


def _co2() -> Table:
    """Loads the weekly carbon dioxide over Mauna Loa, 1958 to 2001, with 59 missing weeks."""
    from statsmodels.datasets import co2  # noqa: PLC0415 - takes a second to import

    weeks = co2.load_pandas().data["co2"]
    times = weeks.index.to_numpy().astype("datetime64[us]")
    return _table("co2", times, weeks.to_numpy(), unit="ppm")


def _sunspots() -> Table:
    """Loads the mean sunspot number of every year, 1700 to 2008."""
    from statsmodels.datasets import sunspots  # noqa: PLC0415 - takes a second to import

    years = sunspots.load_pandas().data
    times = (years["YEAR"].to_numpy().astype(np.int64) - 1970).astype("datetime64[Y]").astype("datetime64[us]")
    return _table("sunspots", times, years["SUNACTIVITY"].to_numpy())


def _lesson() -> Table:
    return _made("lesson")


def _exercise() -> Table:
    return _made("exercise")


def _made(name: MadeSeries) -> Table:
    """Adds noise to the signal."""
    recipe = _RECIPES[name]
    series = signal(name)
    series += np.random.RandomState(recipe.seed).randn(len(series)) * recipe.noise
    return _table(name, np.arange(len(series)), series)


def _cosine_then_decay(phase: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.where(phase < 0.4, np.cos(phase * 2 * np.pi), 1 / np.exp(3 * phase)))


def _waves_then_decay(phase: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(np.where(phase < 0.1, np.cos(phase * 6 * np.pi), 2 / np.exp(9 * phase)))


def _table(name: str, times: Times, values: NDArray[np.floating], unit: str | None = None) -> Table:
    return Table(
        columns=(name,),
        values=values.astype(np.float64).reshape(-1, 1),
        times=times,
        source=name,
        places=np.arange(1, len(values) + 1),
        units={name: unit} if unit else {},
    )


_RECIPES: dict[MadeSeries, _Recipe] = {
    "lesson": _Recipe(years=4, slope=0.05, pattern=_cosine_then_decay, noise=5, seed=42),
    "exercise": _Recipe(years=10, slope=0.005, pattern=_waves_then_decay, noise=3, seed=51),
}

_LOADERS: dict[str, Callable[[], Table]] = {
    "co2": _co2,
    "sunspots": _sunspots,
    "lesson": _lesson,
    "exercise": _exercise,
}
