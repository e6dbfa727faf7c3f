"""Golden rows: windows and forecasts recorded at export, and the measure of agreement between two forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.arrays import Array, Inputs, Times
from app.errors import ArtifactError
from app.version.files import open_file, readable
from app.version.grid import row_numbers
from app.version.manifest import MANIFEST_FILE, Contract, Frequency
from app.version.npz import read_rows
from app.version.signature import Signature, TensorSpec

GOLDEN_FILE = "assets.extra/golden.npz"

TOLERANCE = 1e-5
"""Largest deviation, in units of a target's scale, at which two engines give the same forecast."""

ROUNDING_STEPS = 4
"""Rounding steps of the float32 forecast that are allowed in addition, for targets far from zero."""

MAX_SCALE_RATIO = 1000
"""Largest scale of a target, in units of the largest golden number of the target.

The scale is a standard deviation in training, which golden rows need not show: a target that does not depend on the
windows is forecast by its mean, perhaps near zero. So the ratio is generous. It still keeps the tolerance within a
hundredth of the numbers that are compared. Training writes no scale beyond it.
"""

PARITY_BATCHES = (1, 7, 64)
"""Batch sizes at which a model's forms, in memory, exported and fused, must agree."""

PROBE_SEED = 2026

PROBE_YEARS = "1990", "2040"
"""The times of random inputs: from the first of these years up to the other."""

MAX_PROBE_STEP = 100_000
"""The largest number of a row of random inputs, where rows carry numbers in place of times."""

MAX_GOLDEN_ROWS = 64
"""Most golden rows. Training records 16, and each is computed twice before a version serves."""


@dataclass(frozen=True, slots=True)
class Golden:
    """Recorded inputs of a batch, and their forecasts (batch, horizon, targets), in raw units."""

    inputs: Inputs
    forecasts: Array

    def save(self, version_dir: Path) -> None:
        """Writes the rows into a version's folder."""
        path = version_dir / GOLDEN_FILE
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            arrays: dict[str, Any] = {**self.inputs.named(), "forecasts": self.forecasts}
            np.savez(file, **arrays)

    @classmethod
    def load(cls, version_dir: Path, contract: Contract) -> "Golden":
        """Reads the rows of a version as plain data: nothing in the file is run.

        No more is inflated than `MAX_GOLDEN_ROWS` rows of the contract take, whatever the file says of itself.

        Args:
            version_dir: The version's folder.
            contract: Its contract.

        Raises:
            ArtifactError: The file is missing or does not hold golden rows of the contract, or the contract has a
                scale beyond what the rows allow.
        """
        path = version_dir / GOLDEN_FILE
        with readable(path, "the golden rows are missing"):
            file = open_file(path)
        tensors = *Signature.of(contract).inputs.tensors, TensorSpec("forecasts", contract.forecast_shape)
        with file:
            try:
                arrays = read_rows(file, tensors, MAX_GOLDEN_ROWS)
            except ValueError as error:
                raise ArtifactError(path, "does not hold golden rows") from error
        forecasts = arrays.pop("forecasts")
        if not all(len(array) == len(forecasts) and np.isfinite(array).all() for array in arrays.values()):
            raise ArtifactError(path, "the golden rows are not a finite window for each forecast")
        golden = cls(Inputs(**arrays), forecasts)
        _check_scales(contract, golden, version_dir)
        return golden


def largest_scales(contract: Contract, golden: Golden) -> list[float]:
    """Returns the largest scale that golden rows allow each target.

    The numbers of a target are its forecasts and, if it is a feature too, its values in the windows. Where all of them
    are zero, they count as 1.
    """
    features = contract.feature_names
    sizes = []
    for number, target in enumerate(contract.targets):
        forecasts = golden.forecasts[:, :, number]
        known = golden.inputs.windows[:, :, features.index(target.name)] if target.name in features else forecasts
        sizes.append(max(float(np.abs(forecasts).max()), float(np.abs(known).max())) or 1.0)
    return [MAX_SCALE_RATIO * size for size in sizes]


def with_allowed_scales(contract: Contract, golden: Golden) -> Contract:
    """Returns the contract with every scale cut to the largest that golden rows allow."""
    pairs = zip(contract.targets, largest_scales(contract, golden), strict=True)
    targets = tuple(target.model_copy(update={"scale": min(target.scale, largest)}) for target, largest in pairs)
    return contract.model_copy(update={"targets": targets})


def _check_scales(contract: Contract, golden: Golden, version_dir: Path) -> None:
    """Checks that no scale makes any forecast agree with any other."""
    for target, largest in zip(contract.targets, largest_scales(contract, golden), strict=True):
        if target.scale > largest:
            problem = (
                f"the scale of {target.name} is {target.scale:.3g}, more than {MAX_SCALE_RATIO} times its largest "
                f"golden number, {largest / MAX_SCALE_RATIO:.3g}"
            )
            raise ArtifactError(version_dir / MANIFEST_FILE, problem)


def deviation(forecasts: Array, expected: Array, scales: Sequence[float]) -> float:
    """Returns how far forecasts are from the expected forecasts, as a multiple of the allowed difference.

    At most 1 is agreement. `TOLERANCE` times the target's scale is allowed, and `ROUNDING_STEPS` float32 rounding steps
    of the expected value.

    Args:
        forecasts: Shape (batch, horizon, targets), raw units.
        expected: The same shape and units.
        scales: The targets' standard deviations in training, in raw units.

    Returns:
        The largest ratio over all values; infinity if shapes differ or a value is not finite.
    """
    if forecasts.shape != expected.shape or not (np.isfinite(forecasts).all() and np.isfinite(expected).all()):
        return float("inf")
    allowed = TOLERANCE * np.asarray(scales) + ROUNDING_STEPS * np.spacing(np.abs(expected)).astype(np.float64)
    difference = np.abs(forecasts.astype(np.float64) - expected.astype(np.float64))
    return float(np.max(difference / allowed, initial=0.0))


def training_ranges(contract: Contract) -> tuple[Array, Array]:
    """Returns the smallest and the largest value of each feature in training, each of shape (features,), in raw units.

    Unknown values are -1 and 1, the size of inputs that are scaled outside the model.
    """
    minima = [-1.0 if feature.minimum is None else feature.minimum for feature in contract.features]
    maxima = [1.0 if feature.maximum is None else feature.maximum for feature in contract.features]
    return np.array(minima, np.float32), np.array(maxima, np.float32)


def with_scales(contract: Contract, golden: Golden) -> Contract:
    """Returns the contract of a foreign model with the root mean square of its golden forecasts as scales."""
    sizes = np.sqrt(np.mean(np.square(golden.forecasts, dtype=np.float64), axis=(0, 1)))
    targets = zip(contract.targets, sizes.tolist(), strict=True)
    scaled = tuple(target.model_copy(update={"scale": size or 1.0}) for target, size in targets)
    return contract.model_copy(update={"targets": scaled})


def probe_inputs(contract: Contract, count: int) -> Inputs:
    """Returns random inputs within the training ranges and half as far again beyond them, the same in every run.

    Args:
        contract: Gives shapes, training ranges and the distance between rows.
        count: The size of the batch.
    """
    minima, maxima = training_ranges(contract)
    places = {name: place for place, name in enumerate(contract.feature_names)}
    known = [places[name] for name in contract.known]
    numbers = np.random.default_rng(PROBE_SEED)
    return Inputs(
        _probe_rows(numbers, minima, maxima, (count, *contract.window_shape)),
        _probe_rows(numbers, minima[known], maxima[known], (count, *contract.future_shape)) if known else None,
        _probe_times(numbers, contract.spacing, count) if contract.calendar and contract.spacing else None,
    )


def _probe_rows(numbers: np.random.Generator, minima: Array, maxima: Array, shape: tuple[int, int, int]) -> Array:
    """Returns random rows of columns with these ranges."""
    rows = numbers.uniform(-0.5, 1.5, shape)
    rows *= maxima - minima  # in place: there may be many
    rows += minima
    return rows.astype(np.float32)


def _probe_times(numbers: np.random.Generator, spacing: Frequency, count: int) -> Times:
    """Returns the numbers of rows at random times."""
    if spacing.unit == "step":
        return row_numbers(numbers.integers(0, MAX_PROBE_STEP, count), spacing)
    first, end = np.array(PROBE_YEARS, "datetime64[s]").astype(np.int64)
    return row_numbers(numbers.integers(first, end, count).astype("datetime64[s]"), spacing)
