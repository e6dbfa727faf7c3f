"""Publishes a trained model as a version: a SavedModel, golden rows and a manifest, all or nothing.

A version is built in a hidden folder beside its brothers, proved, written through to the disk, and renamed to the next
free number. Whatever ends the export before the rename leaves no folder that a server would look at.
"""

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version as release
from pathlib import Path
from uuid import uuid4

import keras
import numpy as np
import tensorflow as tf

from app import __version__
from app.engines.tensorflow import SIGNATURE, TensorFlowEngine
from app.golden import PARITY_BATCHES, TOLERANCE, Array, Golden, deviation, probe_windows, training_ranges
from app.manifest import (
    MANIFEST_FILE,
    VERSION_PATTERN,
    Contract,
    DataFingerprint,
    Feature,
    Manifest,
    Score,
    Target,
    digest_files,
)
from training.config import TrainingConfig
from training.errors import ExportError
from training.windows import Dataset

BUILDING_PREFIX = ".building-"
STALE_SECONDS = 24 * 3600
"""Age at which the folder of an export that was killed is cleared away; no export takes that long."""

GOLDEN_REAL_WINDOWS = 12


def export(model: keras.Model, config: TrainingConfig, dataset: Dataset, scores: Sequence[Score], verdict: str) -> Path:
    """Publishes a model as the next version of `config.name`.

    Args:
        model: Maps windows (batch, steps, features) to forecasts (batch, horizon, targets), both raw.
        config: What trained it.
        dataset: What it was trained on.
        scores: Its errors on the test part, first its own, then the baselines'.
        verdict: How it compares, in one sentence.

    Returns:
        The folder of the version.

    Raises:
        ExportError: The version could not be written, or does not compute what the model does. Nothing is published.
    """
    model_dir = config.models_dir / config.name
    with _building_dir(model_dir) as building:
        contract = make_contract(dataset)
        _save(model, contract, building)
        _prove(model, contract, dataset, building)
        manifest = Manifest(
            name=config.name,
            created=datetime.now(UTC),
            contract=contract,
            config=config.model_dump(mode="json"),
            data=_fingerprint(dataset),
            versions=_releases(),
            scores=tuple(scores),
            verdict=verdict,
            files=digest_files(building),
        )
        _write_through(building)
        _write_last(building / MANIFEST_FILE, manifest.model_dump_json(indent=2))
        return _publish(building, model_dir)


def make_contract(dataset: Dataset) -> Contract:
    """The shapes, names, units and training ranges that the server will enforce and show."""
    windows, targets = dataset.train.windows, dataset.train.targets
    minima, maxima = windows.min(axis=(0, 1)), windows.max(axis=(0, 1))
    scales = targets.astype(np.float64).std(axis=(0, 1))
    units = dataset.units
    features = tuple(
        Feature(name=name, unit=units.get(name), minimum=float(low), maximum=float(high))
        for name, low, high in zip(dataset.feature_names, minima, maxima, strict=True)
    )
    named_scales = zip(dataset.target_names, scales, strict=True)
    return Contract(
        steps=windows.shape[1],
        features=features,
        horizon=targets.shape[1],
        targets=tuple(Target(name=name, unit=units.get(name), scale=float(scale)) for name, scale in named_scales),
        frequency=dataset.frequency,
    )


@contextmanager
def _building_dir(model_dir: Path) -> Iterator[Path]:
    """A folder to build in, on the same filesystem; gone afterwards unless it was published."""
    building = model_dir / f"{BUILDING_PREFIX}{uuid4().hex}"
    is_made = False
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        _clear_stale(model_dir)
        building.mkdir()
        is_made = True
        yield building
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ExportError(
            f"{model_dir}: the version could not be written ({reason}); nothing was published."
        ) from error
    except KeyboardInterrupt:
        if is_made and not building.exists():
            raise KeyboardInterrupt(f"the version was published in {model_dir}") from None
        raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _clear_stale(model_dir: Path) -> None:
    for path in model_dir.glob(f"{BUILDING_PREFIX}*"):
        with suppress(FileNotFoundError):  # another export was first
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _save(model: keras.Model, contract: Contract, folder: Path) -> None:
    """Writes the SavedModel with one signature; the batch dimension stays open, steps and features are fixed."""

    def forecast(windows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"forecast": model(windows, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    windows = tf.TensorSpec((None, *contract.window_shape), tf.float32, name="windows")
    archive.add_endpoint("serve", forecast, input_signature=[windows])
    archive.write_out(str(folder), verbose=False)


def _prove(model: keras.Model, contract: Contract, dataset: Dataset, folder: Path) -> None:
    """Loads what was written, compares it with the model in memory, and records the golden rows."""
    _refuse_operators(folder)
    engine = TensorFlowEngine(folder, contract, max(PARITY_BATCHES))
    golden_windows = _golden_windows(contract, dataset)
    worst = 0.0
    for windows in (golden_windows, *(probe_windows(contract, rows) for rows in PARITY_BATCHES)):
        expected = np.asarray(model(windows, training=False))
        worst = max(worst, deviation(engine.predict(windows), expected, contract.target_scales))
    if worst > 1:
        raise ExportError(
            f"The exported model does not compute what the trained one does: it is off by {worst * TOLERANCE:.1g} of "
            f"the targets' scale where {TOLERANCE:g} is allowed. Nothing was published."
        )
    Golden(golden_windows, engine.predict(golden_windows)).save(folder)


def _refuse_operators(folder: Path) -> None:
    """Refuses operators that only a GPU can run, and any that lets one forecast change the next."""
    graph = tf.saved_model.load(str(folder)).signatures[SIGNATURE].graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    for operator in {node.op for node in nodes}:
        if "cudnn" in operator.lower() or operator.startswith("Assign"):
            raise ExportError(
                f"The graph holds the operator {operator}, which cannot be served. Nothing was published."
            )


def _golden_windows(contract: Contract, dataset: Dataset) -> Array:
    """Real windows, the latest first, and flat ones at and beyond the ends of the training ranges."""
    real = dataset.test.windows[:: -max(1, len(dataset.test.windows) // GOLDEN_REAL_WINDOWS)][:GOLDEN_REAL_WINDOWS]
    minima, maxima = training_ranges(contract)
    spreads = maxima - minima
    levels = (minima, maxima, minima - spreads, maxima + spreads)
    flat = [np.broadcast_to(level, contract.window_shape) for level in levels]
    return np.concatenate([real, np.stack(flat)]).astype(np.float32)


def _fingerprint(dataset: Dataset) -> DataFingerprint:
    return DataFingerprint(
        source=dataset.source,
        sha256=dataset.sha256,
        rows=dataset.rows,
        columns=dataset.columns,
        first_time=dataset.first_time,
        last_time=dataset.last_time,
        training_rows=dataset.training_rows,
        validation_rows=dataset.validation_rows,
        test_rows=dataset.test_rows,
        notices=dataset.notices,
    )


def _releases() -> dict[str, str]:
    return {
        "windowcast": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{package: release(package) for package in ("keras", "numpy", "polars")},
    }


def _write_through(folder: Path) -> None:
    """Flushes every file and folder to the disk, so that the manifest cannot outlive what it vouches for."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _write_last(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
    _flush(path)
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _publish(building: Path, model_dir: Path) -> Path:
    """Renames the finished folder to the next free number; another export may take the number first."""
    while True:
        numbers = [int(path.name) for path in model_dir.iterdir() if re.match(VERSION_PATTERN, path.name)]
        target = model_dir / str(max(numbers, default=0) + 1)
        try:
            building.rename(target)
        except OSError:
            if not target.exists():
                raise
        else:
            with suppress(OSError):  # the version is published, whatever becomes of this flush
                _flush(model_dir)
            return target
