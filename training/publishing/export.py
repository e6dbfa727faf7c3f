"""Turns a trained model into a version: a SavedModel, golden rows, the fused twin and a manifest, each proved."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as release
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app import __version__
from app.arrays import Array
from app.engines.tensorflow import SIGNATURE, TensorFlowEngine
from app.version.golden import PARITY_BATCHES, TOLERANCE, Golden, deviation, probe_windows, training_ranges
from app.version.manifest import Contract, DataFingerprint, Feature, Manifest, Score, Target, digest_files
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.errors import ExportError
from training.publishing.publication import building_dir, publish
from training.publishing.twin import NotFusable, build_twin, check_twin, write_twin

GOLDEN_REAL_WINDOWS = 12

Annex = Callable[[Path, Manifest], None]
"""Adds files to the folder of a version whose manifest is complete but for the checksums."""


def export(
    model: keras.Model,
    config: TrainingConfig,
    dataset: Dataset,
    scores: Sequence[Score],
    verdict: str,
    annex: Annex | None = None,
) -> Path:
    """Publishes a model as the next version of `config.name`.

    Args:
        model: Maps windows (batch, steps, features) to forecasts (batch, horizon, targets), both raw.
        config: What trained it.
        dataset: What it was trained on.
        scores: Its errors on the test part, first its own, then the baselines'.
        verdict: How it compares, in one sentence.
        annex: Adds what else belongs to the version, if anything.

    Returns:
        The folder of the version.

    Raises:
        ExportError: The version could not be written, or does not compute what the model does. Nothing is published.
    """
    model_dir = config.models_dir / config.name
    with building_dir(model_dir) as building:
        contract = make_contract(dataset)
        save_model(model, contract, building)
        engine = TensorFlowEngine(building, contract, max(PARITY_BATCHES))
        golden = _record_golden_rows(engine, model, contract, dataset)
        golden.save(building)
        no_twin = _try_twin(engine, model, contract, golden, building)
        manifest = Manifest(
            name=config.name,
            created=datetime.now(UTC),
            contract=contract,
            config=config.model_dump(mode="json"),
            data=DataFingerprint.model_validate(asdict(dataset.provenance)),
            versions=releases(),
            scores=tuple(scores),
            verdict=verdict,
            files={},
            no_twin=no_twin,
        )
        if annex:
            annex(building, manifest)
        return publish(manifest.model_copy(update={"files": digest_files(building)}), building, model_dir)


def make_contract(dataset: Dataset) -> Contract:
    """The shapes, names, units and training ranges that the server will enforce and show."""
    windows, targets = dataset.train.windows, dataset.train.targets
    minima, maxima = windows.min(axis=(0, 1)), windows.max(axis=(0, 1))
    scales = targets.astype(np.float64).std(axis=(0, 1))
    units, frequency = dataset.units, dataset.frequency
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
        frequency=frequency.words if frequency else None,
        spacing=frequency,
    )


def save_model(model: keras.Model, contract: Contract, folder: Path) -> None:
    """Writes the SavedModel with one signature; the batch dimension stays open, steps and features are fixed.

    Raises:
        ExportError: The graph holds an operator that cannot be served.
    """

    def forecast(windows: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"forecast": model(windows, training=False)}

    archive = keras.export.ExportArchive()
    archive.track(model)
    windows = tf.TensorSpec((None, *contract.window_shape), tf.float32, name="windows")
    archive.add_endpoint("serve", forecast, input_signature=[windows])
    archive.write_out(str(folder), verbose=False)
    _refuse_operators(folder)


def _record_golden_rows(engine: TensorFlowEngine, model: keras.Model, contract: Contract, dataset: Dataset) -> Golden:
    """Compares the SavedModel that was written, not warmed up and hence as it is, with the model in memory."""
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
    return Golden(golden_windows, engine.predict(golden_windows))


def _try_twin(
    engine: TensorFlowEngine, model: keras.Model, contract: Contract, golden: Golden, folder: Path
) -> str | None:
    """Adds the fused twin to the folder of the SavedModel; returns why not, where there can be none."""
    try:
        twin = build_twin(model, contract)
        check_twin(twin, engine.predict, contract, golden)
    except NotFusable as refusal:
        return refusal.reason
    write_twin(twin, folder)
    return None


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
    """Real windows, the latest first, and flat ones."""
    real = dataset.test.windows[:: -max(1, len(dataset.test.windows) // GOLDEN_REAL_WINDOWS)][:GOLDEN_REAL_WINDOWS]
    return np.concatenate([real, flat_windows(contract)]).astype(np.float32)


def flat_windows(contract: Contract) -> Array:
    """Four windows that never change, at and beyond the ends of the training ranges: (4, steps, features)."""
    minima, maxima = training_ranges(contract)
    spreads = maxima - minima
    levels = (minima, maxima, minima - spreads, maxima + spreads)
    return np.stack([np.broadcast_to(level, contract.window_shape) for level in levels])


def releases() -> dict[str, str]:
    """What the version is made with."""
    return {
        "windowcast": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{package: release(package) for package in ("keras", "numpy", "onnx", "onnxruntime", "polars")},
    }
