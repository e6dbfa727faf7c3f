"""The models that are measured: made and exported by our own training, with random weights, for speed knows no scores.

Run as a module it writes them into a folder, in a process of its own that takes TensorFlow's memory with it.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).parents[1]
DATA_ROWS = 64
"""Windows of the random data set, from which the scaling and the golden rows are taken."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model: two LSTM layers of so many units each."""

    name: str
    steps: int
    features: int
    horizon: int
    units: int

    def __str__(self) -> str:
        return f"windows ({self.steps}, {self.features}), 2 x {self.units} units"


SHAPES = {
    "small": Shape("small", steps=30, features=1, horizon=1, units=64),
    "large": Shape("large", steps=168, features=7, horizon=24, units=128),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model on disk, in every form that somebody needs."""

    shape: Shape
    folder: Path

    @property
    def models_dir(self) -> Path:
        """What the service is given as WINDOWCAST_MODELS_DIR."""
        return self.folder / "models"

    @property
    def version_dir(self) -> Path:
        """The version, with SavedModel, golden rows and manifest."""
        return self.folder_of(1)

    def folder_of(self, version: int) -> Path:
        """Where a version is, or would be. Only the first is made."""
        return self.models_dir / "default" / str(version)

    @property
    def twin_path(self) -> Path:
        """The fused twin, which is the kernel of all peers."""
        return self.version_dir / "assets.extra" / "model.onnx"

    @property
    def keras_path(self) -> Path:
        """The model as Keras saves it, for `model.predict`."""
        return self.folder / "model.keras"

    @property
    def weights_path(self) -> Path:
        """The weights as plain arrays, for PyTorch."""
        return self.folder / "weights.npz"

    @property
    def golden_path(self) -> Path:
        """Windows and forecasts, against which every contender is checked."""
        return self.version_dir / "assets.extra" / "golden.npz"

    def windows(self, rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Random windows (rows, steps, features), the same in every run."""
        shape = (rows, self.shape.steps, self.shape.features)
        return np.random.default_rng(rows).uniform(0, 1, shape).astype(np.float32)


@contextmanager
def made_models(names: list[str]) -> Iterator[dict[str, Model]]:
    """Makes the models of these shapes in a temporary folder, which goes with them."""
    with TemporaryDirectory(prefix="windowcast-benchmark-") as folder:
        command = [sys.executable, "-m", "benchmarks.making", folder, *names]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        yield {name: Model(SHAPES[name], Path(folder) / name) for name in names}
