"""The linear autoregression: forecasts the rows after a window from the rows in it, by least squares with a penalty.

Ridge regression (Hoerl and Kennard 1970, Technometrics 12, 55-67), one for every step of the horizon (direct
forecasts), in closed form, on scaled windows. With values counted from the last row it is the NLinear of Zeng et al.
2023 (AAAI 37, 11121-11128): the hardest simple baseline to beat, fitted in milliseconds.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from training.data.windows import Dataset, Part, chunks
from training.network.layers import CONSTANT_SPREAD, Centre, Scaling, Spread
from training.network.linear import Linear, Matrix

STRENGTHS = tuple(10.0**power for power in range(-6, 3))
"""Penalties to choose from, on weights that multiply columns of unit variance."""

TAIL = 0.2
"""Share of the training windows, the latest, on which the penalty is chosen."""

LARGEST_INPUTS = 2048
"""Most numbers of a window that are used; of a longer window only the last rows are."""

LARGEST_WORK = 10**11
"""Limit of windows times inputs squared; of more windows only evenly spaced windows are used."""


@dataclass(frozen=True, slots=True)
class _Samples:
    """Scaled windows and targets; read in chunks, because windows overlap.

    Attributes:
        part: Windows to learn from.
        scaling: Turns windows into inputs and targets into outputs.
        rows: How many of a window's last rows are used.
    """

    part: Part
    scaling: Scaling
    rows: int

    def __len__(self) -> int:
        return len(self.part.windows)

    def chunks(self) -> Iterator[tuple[Matrix, Matrix]]:
        """Yields inputs (n, rows * features) and outputs (n, horizon * targets), both scaled."""
        kinds, scaling = self.scaling.kinds, self.scaling
        find_centre, find_target_centre = (Centre(kind, scaling.centre) for kind in (kinds.centre, kinds.target_centre))
        find_spread = Spread(kinds.spread, scaling.spread)
        for chunk in chunks(self.part.windows, self.part.targets):
            windows, targets = self.part.windows[chunk], self.part.targets[chunk].astype(np.float64)
            centre = np.asarray(find_centre(windows))
            spread = np.asarray(find_spread(windows, centre))
            target_centre = np.asarray(find_target_centre(windows)) @ scaling.selection + scaling.fixed_centre
            target_spread = (spread @ scaling.selection + scaling.fixed_spread) * scaling.ratio
            inputs = ((windows - centre) / spread)[:, -self.rows :].astype(np.float64)
            outputs = (targets - target_centre) / target_spread
            yield inputs.reshape(len(windows), -1), outputs.reshape(len(windows), -1)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Means and spreads of inputs and outputs. Inputs are divided by theirs, so that one penalty suits all of them."""

    mean: Matrix
    spread: Matrix
    output_mean: Matrix
    output_spread: Matrix

    @classmethod
    def of(cls, samples: _Samples) -> Self:
        """Measures means and standard deviations; a column that is only rounding error is divided by infinity."""
        sums: list[Matrix] = [np.zeros(())] * 2
        for chunk in samples.chunks():
            sums = [total + values.sum(axis=0) for total, values in zip(sums, chunk, strict=True)]
        means = [total / len(samples) for total in sums]
        squares: list[Matrix] = [np.zeros(())] * 2
        for chunk in samples.chunks():
            squares = [
                total + np.square(values - mean).sum(axis=0)
                for total, values, mean in zip(squares, chunk, means, strict=True)
            ]
        spreads = [np.sqrt(total / len(samples)) for total in squares]
        spreads = [
            np.where(spread > CONSTANT_SPREAD * np.abs(mean), spread, np.inf)
            for spread, mean in zip(spreads, means, strict=True)
        ]
        return cls(means[0], spreads[0], means[1], spreads[1])

    def products(self, samples: _Samples) -> tuple[Matrix, Matrix]:
        """Returns the mean products of inputs with each other, and of inputs with outputs."""
        own: Matrix = np.zeros(())
        across: Matrix = np.zeros(())
        for inputs, outputs in samples.chunks():
            inputs = (inputs - self.mean) / self.spread  # noqa: PLW2901 - the raw inputs are not needed again
            own = own + inputs.T @ inputs
            across = across + inputs.T @ (outputs - self.output_mean)
        return own / len(samples), across / len(samples)

    def errors(self, samples: _Samples, candidates: list[Matrix]) -> Matrix:
        """Returns the square error of each matrix of weights (candidates,), outputs divided by their spread."""
        total = np.zeros(len(candidates))
        for inputs, outputs in samples.chunks():
            scaled = (inputs - self.mean) / self.spread
            errors = (outputs - self.output_mean - scaled @ np.stack(candidates)) / self.output_spread
            total += np.square(errors).sum(axis=(1, 2))
        return total


def fit_ridge(dataset: Dataset, scaling: Scaling) -> tuple[Matrix, Matrix]:
    """Fits the regression on the training part, in the space of a scaling.

    Args:
        dataset: The data set; its training part is used. The penalty is chosen on the latest windows, then all windows
            are fitted.
        scaling: As `fit_scaling` makes it for forecasts after the last step.

    Returns:
        Kernel (steps * features, horizon * targets) and bias (horizon * targets,) that turn a scaled window, flattened,
        into a scaled forecast.
    """
    steps, features = dataset.train.windows.shape[1:]
    rows = min(steps, max(1, LARGEST_INPUTS // features))
    every = -(-len(dataset.train.windows) * (rows * features) ** 2 // LARGEST_WORK)
    part = dataset.train
    samples = _Samples(Part(part.windows[::every], part.targets[::every], part.history[::every]), scaling, rows)
    frame = _Frame.of(samples)
    weights = _solve(frame.products(samples), _choose_strength(samples)) / frame.spread[:, None]
    bias = frame.output_mean - frame.mean @ weights
    kernel = np.zeros((steps * features, weights.shape[1]))
    kernel[-len(weights) :] = weights
    return kernel, bias


def ridge_baseline(dataset: Dataset, scalings: Sequence[Scaling], name: str) -> Linear:
    """Returns the regression as a map of raw windows, in the scaling that suits it best.

    Args:
        dataset: As for `fit_ridge`.
        scalings: Each is the same for all windows, or counts them from their last row. Of several the scaling is taken
            in which the earlier training windows forecast the latest windows with the lowest mean absolute error.
        name: Name of the baseline.
    """
    scaling = scalings[0] if len(scalings) == 1 else min(scalings, key=lambda each: _late_error(dataset, each))
    return _raw_map(dataset, scaling, name)


def _late_error(dataset: Dataset, scaling: Scaling) -> float:
    """Fits the earlier training windows, and returns the mean absolute error on the latest, in the targets' spread."""
    early, late = _before_and_after(dataset.train)
    if not len(early.windows) or not len(late.windows):
        return math.inf
    errors = np.abs(_raw_map(replace(dataset, train=early), scaling, "").forecast(late) - late.targets)
    return float((errors / dataset.train.targets.std(axis=(0, 1), dtype=np.float64)).mean())


def _raw_map(dataset: Dataset, scaling: Scaling, name: str) -> Linear:
    kernel, bias = fit_ridge(dataset, scaling)
    steps, horizon = dataset.train.windows.shape[1], dataset.train.targets.shape[1]
    spread = (scaling.spread @ scaling.selection + scaling.fixed_spread) * scaling.ratio
    return Linear(
        name=name,
        weights=kernel / np.tile(scaling.spread, steps)[:, None] * np.tile(spread, horizon),
        bias=bias * np.tile(spread, horizon) + np.tile(scaling.fixed_centre, horizon),
        selection=scaling.selection,
        centre=None if scaling.kinds.centre == "last" else scaling.centre,
    )


def _choose_strength(samples: _Samples) -> float:
    """Returns the penalty with which the earlier windows forecast the latest windows best; the two share no target."""
    early, late = (replace(samples, part=part) for part in _before_and_after(samples.part))
    if len(early) < 2 or not len(late):
        return STRENGTHS[-1]
    frame = _Frame.of(early)
    products = frame.products(early)
    errors = frame.errors(late, [_solve(products, strength) for strength in STRENGTHS])
    return STRENGTHS[int(np.argmin(errors))]


def _before_and_after(part: Part) -> tuple[Part, Part]:
    """Returns the earlier windows and the latest windows, a share of `TAIL`; the two share no target."""
    tail = int(len(part.windows) * TAIL)
    head = max(0, len(part.windows) - tail - part.targets.shape[1] + 1)
    return part.between(0, head), part.between(len(part.windows) - tail, len(part.windows))


def _solve(products: tuple[Matrix, Matrix], strength: float) -> Matrix:
    own, across = products
    penalised: NDArray[np.float64] = own + strength * np.eye(len(own))
    return np.asarray(linalg.solve(penalised, across, assume_a="pos"))
