"""The linear autoregression: forecasts the rows after a window from the rows in it, by least squares with a penalty.

Ridge regression (Hoerl and Kennard 1970, Technometrics 12, 55-67), one for every step of the horizon (direct
forecasts), in closed form, on scaled windows. With values counted from the last row it is the NLinear of Zeng et al.
2023 (AAAI 37, 11121-11128): the hardest simple baseline to beat, fitted in milliseconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from training.data.windows import Dataset, Part, chunks
from training.network.ahead import WINDOWS_ALONE, Ahead
from training.network.layers import CONSTANT_SPREAD, Centre, Scaling, Spread
from training.network.linear import Linear, Matrix
from training.network.reading import Places, places_of

STRENGTHS = tuple(10.0 ** (halves / 2) for halves in range(-12, 7))
"""Penalties to choose from, on weights that multiply columns of unit variance."""

TAIL = 0.3
"""Share of the training windows, the latest, that are forecast for the choice of penalty and scaling."""

ORIGINS = 3
"""Parts of the tail. Each part is forecast by the windows before it, as in the rolling origins of the verdict."""

LARGEST_INPUTS = 2048
"""Most numbers of a window that are used; of the rows that are read whole only the last are."""

LARGEST_WORK = 3 * 10**10
"""Limit of windows times inputs squared; of more windows only evenly spaced windows are used."""


@dataclass(frozen=True, slots=True)
class _Samples:
    """Scaled windows and targets; read in chunks, because windows overlap.

    Attributes:
        part: Windows to learn from.
        scaling: Turns windows into inputs and targets into outputs.
        recent: How many of a window's last steps the scaling reads.
        places: Which numbers of a flat window are used.
        ahead: What is known of the rows to forecast, which follows as further inputs.
    """

    part: Part
    scaling: Scaling
    recent: int
    places: Places
    ahead: Ahead

    def __len__(self) -> int:
        return len(self.part.windows)

    def chunks(self) -> Iterator[tuple[Matrix, Matrix]]:
        """Yields inputs (n, places and what is known ahead) and outputs (n, horizon * targets), both scaled."""
        return ((inputs, outputs) for inputs, outputs, _ in self.chunks_in_units())

    def chunks_in_units(self) -> Iterator[tuple[Matrix, Matrix, Matrix]]:
        """Yields the same, and how much of the raw unit each output stands for, (n, horizon * targets)."""
        kinds, scaling = self.scaling.kinds, self.scaling
        find_centre, find_target_centre = (Centre(kind, scaling.centre) for kind in (kinds.centre, kinds.target_centre))
        find_spread = Spread(kinds.spread, scaling.spread)
        columns = self.places % self.part.windows.shape[2]
        for chunk in chunks(self.part.windows, self.part.targets):
            windows, targets = self.part.windows[chunk], self.part.targets[chunk].astype(np.float64)
            recent = windows[:, -self.recent :]
            centre = np.asarray(find_centre(recent))
            spread = np.asarray(find_spread(recent, centre))
            target_centre = np.asarray(find_target_centre(recent)) @ scaling.selection + scaling.fixed_centre
            target_spread = (spread @ scaling.selection + scaling.fixed_spread) * scaling.ratio
            picked = windows.reshape(len(windows), -1)[:, self.places]
            scaled = (picked - centre[:, 0, columns]) / spread[:, 0, columns]
            told = self.ahead.compute(self.part.inputs[chunk], centre, spread)
            inputs = np.concatenate([scaled, told], axis=1, dtype=np.float64)
            outputs = (targets - target_centre) / target_spread
            units = np.broadcast_to(target_spread, outputs.shape)
            yield tuple(values.reshape(len(windows), -1) for values in (inputs, outputs, units))  # type: ignore[misc]


@dataclass(frozen=True, slots=True)
class _Frame:
    """Means of inputs and outputs, and spreads of the inputs, which make one penalty suit all of them."""

    mean: Matrix
    spread: Matrix
    output_mean: Matrix

    @classmethod
    def of(cls, samples: _Samples) -> Self:
        """Measures means and standard deviations; a column that is only rounding error is divided by infinity."""
        sums: list[Matrix] = [np.zeros(())] * 2
        for chunk in samples.chunks():
            sums = [total + values.sum(axis=0) for total, values in zip(sums, chunk, strict=True)]
        means = [total / len(samples) for total in sums]
        squares: Matrix = np.zeros(())
        for inputs, _ in samples.chunks():
            squares = squares + np.square(inputs - means[0]).sum(axis=0)
        spread = np.sqrt(squares / len(samples))
        return cls(means[0], np.where(spread > CONSTANT_SPREAD * np.abs(means[0]), spread, np.inf), means[1])

    def products(self, samples: _Samples) -> tuple[Matrix, Matrix]:
        """Returns the mean products of inputs with each other, and of inputs with outputs."""
        own: Matrix = np.zeros(())
        across: Matrix = np.zeros(())
        for inputs, outputs in samples.chunks():
            inputs = (inputs - self.mean) / self.spread  # noqa: PLW2901 - the raw inputs are not needed again
            own = own + inputs.T @ inputs
            across = across + inputs.T @ (outputs - self.output_mean)
        return own / len(samples), across / len(samples)

    def errors(self, samples: _Samples, candidates: Sequence[Matrix], sizes: Matrix) -> Matrix:
        """Returns the absolute error of each matrix of weights (candidates,), summed over windows and outputs.

        Args:
            samples: What is forecast.
            candidates: Matrices of weights (inputs, outputs).
            sizes: What raw errors are divided by, (outputs,).
        """
        total = np.zeros(len(candidates))
        for inputs, outputs, units in samples.chunks_in_units():
            scaled, wanted = (inputs - self.mean) / self.spread, outputs - self.output_mean
            total += [float(np.abs((wanted - scaled @ weights) * units / sizes).sum()) for weights in candidates]
        return total


def late_error(dataset: Dataset, scaling: Scaling, tail: int) -> float:
    """Returns the lowest mean absolute error of any penalty over rolling origins of the training tail.

    Args:
        dataset: The data set; its training part is used.
        scaling: The scaling.
        tail: How many windows, the latest, are forecast.

    Returns:
        The error in standard deviations of the targets of these windows.
    """
    return float(_late_errors(_samples_of(dataset, scaling), tail / len(dataset.train.windows)).min())


def fit_ridge(dataset: Dataset, scaling: Scaling) -> tuple[Matrix, Matrix]:
    """Fits the regression on the training part, in the space of a scaling.

    Args:
        dataset: The data set; its training part is used. The penalty is chosen by rolling origins over the latest
            windows, then all windows are fitted.
        scaling: As `fit_scaling` makes it for forecasts after the last step.

    Returns:
        Kernel (places, horizon * targets) and bias (horizon * targets,) that turn the places of a scaled window that
        the linear path reads, and what is known ahead, into a scaled forecast.
    """
    samples = _samples_of(dataset, scaling, Ahead.of(dataset))
    kernel, bias = _fit(samples, STRENGTHS[int(np.argmin(_late_errors(samples)))])
    _, steps, features = dataset.train.windows.shape
    return np.concatenate([kernel[places_of(dataset)], kernel[steps * features :]]), bias


def validation_error(dataset: Dataset, scaling: Scaling) -> float:
    """Returns the mean absolute error of the regression of `fit_ridge` on the validation part.

    The error is in standard deviations of the targets.
    """
    samples = _samples_of(dataset, scaling, Ahead.of(dataset))
    frame = _Frame.of(samples)
    weights = _solve(frame.products(samples), STRENGTHS[int(np.argmin(_late_errors(samples)))])
    judged = replace(samples, part=dataset.validation)
    sizes = _sizes(dataset.validation.targets)
    return float(frame.errors(judged, [weights], sizes)[0]) / dataset.validation.targets.size


def ridge_baseline(dataset: Dataset, scalings: Sequence[Scaling], name: str) -> Linear:
    """Returns the regression as a map of raw windows, in the scaling and with the penalty that suit it best together.

    Args:
        dataset: As for `fit_ridge`.
        scalings: Each is the same for all windows, or counts them from their last row.
        name: Name of the baseline.
    """
    choices = [_samples_of(dataset, scaling) for scaling in scalings]
    errors = np.stack([_late_errors(samples) for samples in choices])  # (scalings, strengths)
    choice, strength = np.unravel_index(int(np.argmin(errors)), errors.shape)
    samples = choices[int(choice)]
    return _raw_map(_fit(samples, STRENGTHS[int(strength)]), samples, name)


def _samples_of(dataset: Dataset, scaling: Scaling, ahead: Ahead = WINDOWS_ALONE) -> _Samples:
    """Returns the training windows, or evenly spaced windows of very many, and the last inputs of very long windows."""
    part, features = dataset.train, len(dataset.feature_names)
    places = places_of(dataset)
    whole = part.windows.shape[1] - dataset.recent_steps
    seasons, rest = places[places < whole * features], places[places >= whole * features]
    rest = rest[-max(1, (LARGEST_INPUTS - len(seasons)) // features) * features :]
    places = np.concatenate([seasons, rest])
    inputs = len(places) + ahead.size(part.targets.shape[1])
    every = -(-len(part.windows) * inputs**2 // LARGEST_WORK)
    sparse = part[::every] if ahead != WINDOWS_ALONE else replace(part, future=None, time=None)[::every]
    return _Samples(sparse, scaling, dataset.recent_steps, places, ahead)


def _fit(samples: _Samples, strength: float) -> tuple[Matrix, Matrix]:
    frame = _Frame.of(samples)
    weights = _solve(frame.products(samples), strength) / frame.spread[:, None]
    bias = frame.output_mean - frame.mean @ weights
    _, steps, features = samples.part.windows.shape
    count = len(samples.places)
    kernel = np.zeros((steps * features, weights.shape[1]))
    kernel[samples.places] = weights[:count]
    return np.concatenate([kernel, weights[count:]]), bias


def _raw_map(fitted: tuple[Matrix, Matrix], samples: _Samples, name: str) -> Linear:
    """Returns a fitted regression as a map of raw windows."""
    kernel, bias = fitted
    scaling = samples.scaling
    steps, horizon = samples.part.windows.shape[1], samples.part.targets.shape[1]
    spread = (scaling.spread @ scaling.selection + scaling.fixed_spread) * scaling.ratio
    return Linear(
        name=name,
        weights=kernel / np.tile(scaling.spread, steps)[:, None] * np.tile(spread, horizon),
        bias=bias * np.tile(spread, horizon) + np.tile(scaling.fixed_centre, horizon),
        selection=scaling.selection,
        centre=None if scaling.kinds.centre == "last" else scaling.centre,
    )


def _late_errors(samples: _Samples, tail: float = TAIL) -> Matrix:
    """Returns the mean absolute error with each penalty (strengths,), in the standard deviations of the tail's targets.

    Each of `ORIGINS` parts of the tail is forecast by a regression on the windows before it that share no target with
    it. Where these windows are too few for any regression, the largest penalty has the lowest error.
    """
    targets = samples.part.targets
    sizes = _sizes(targets[-max(1, int(tail * len(targets))) :])
    total, count = np.zeros(len(STRENGTHS)), 0
    for early, late in _origins(samples.part, tail):
        before, after = replace(samples, part=early), replace(samples, part=late)
        frame = _Frame.of(before)
        products = frame.products(before)
        total += frame.errors(after, [_solve(products, strength) for strength in STRENGTHS], sizes)
        count += len(late.windows) * len(sizes)
    return total / count if count else np.arange(len(STRENGTHS), 0.0, -1)


def _sizes(targets: NDArray[np.float32]) -> Matrix:
    """Returns the standard deviations of targets (windows, horizon, targets), once for each row: (horizon * targets,).

    A target that stays the same has 1.
    """
    sizes = targets.std(axis=(0, 1), dtype=np.float64)
    return np.tile(np.where(sizes > 0, sizes, 1), targets.shape[1])


def _origins(part: Part, tail: float) -> Iterator[tuple[Part, Part]]:
    """Yields earlier windows and the windows that they forecast; the two share no target."""
    count, horizon = len(part.windows), part.targets.shape[1]
    edges = [count - int(count * tail * left / ORIGINS) for left in range(ORIGINS, -1, -1)]
    for start, end in pairwise(edges):
        head = start - horizon + 1
        if head >= 2 and end > start:
            yield part.between(0, head), part.between(start, end)


def _solve(products: tuple[Matrix, Matrix], strength: float) -> Matrix:
    own, across = products
    penalised: NDArray[np.float64] = own + strength * np.eye(len(own))
    return np.asarray(linalg.solve(penalised, across, assume_a="pos"))
