"""Golden rows: windows and forecasts recorded at export, and the measure of agreement between two forecasts."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from app.arrays import Array
from app.errors import ArtifactError
from app.version.manifest import Contract

GOLDEN_FILE = "assets.extra/golden.npz"

TOLERANCE = 1e-5
"""Largest deviation, in units of a target's scale, at which two engines give the same forecast."""

ROUNDING_STEPS = 4
"""Rounding steps of the float32 forecast that are allowed in addition, for targets far from zero."""

PARITY_BATCHES = (1, 7, 64)
"""Batch sizes at which a model's forms, in memory, exported and fused, must agree."""

PROBE_SEED = 2026


@dataclass(frozen=True, slots=True)
class Golden:
    """Recorded windows (batch, steps, features) and their forecasts (batch, horizon, targets), in raw units."""

    windows: Array
    forecasts: Array

    def save(self, version_dir: Path) -> None:
        """Writes the rows into a version's folder."""
        path = version_dir / GOLDEN_FILE
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            np.savez(file, windows=self.windows, forecasts=self.forecasts)

    @classmethod
    def load(cls, version_dir: Path) -> "Golden":
        """Reads the rows of a version as plain data: nothing in the file is run.

        Raises:
            ArtifactError: The file is missing or does not hold golden rows.
        """
        path = version_dir / GOLDEN_FILE
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as rows:
                return cls(np.asarray(rows["windows"], np.float32), np.asarray(rows["forecasts"], np.float32))
        except FileNotFoundError:
            raise ArtifactError(path, "the golden rows are missing") from None
        except (EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile, zlib.error):
            raise ArtifactError(path, "does not hold golden rows") from None


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


def probe_windows(contract: Contract, count: int) -> Array:
    """Returns random windows within the training ranges and half as far again beyond them, the same in every run.

    Args:
        contract: Gives shapes and training ranges.
        count: How many windows.

    Returns:
        Shape (count, steps, features), raw units.
    """
    minima, maxima = training_ranges(contract)
    share = np.random.default_rng(PROBE_SEED).uniform(-0.5, 1.5, (count, *contract.window_shape))
    return np.asarray(minima + share * (maxima - minima), np.float32)
