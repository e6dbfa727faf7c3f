"""Turns a trained model into a version: SavedModel, golden rows, fused twin and manifest, each of them checked."""

import platform
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as release
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app import __version__
from app.engines.engine import Engine
from app.version.golden import Golden, with_allowed_scales
from app.version.manifest import Contract, DataFingerprint, Feature, Manifest, Score, Target, digest_files
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.errors import NotFusable
from training.publishing.parity import check_exported, check_twin, record_golden
from training.publishing.publication import building_dir, publish
from training.publishing.saved_model import save_model
from training.publishing.twin import build_twin, write_twin

MAX_STEPS_RECORDED = 2**16
"""Most steps whose errors are in a manifest, over all scores. The report always has them."""

Annex = Callable[[Path, Manifest], None]
"""Adds files to the folder of a version. The manifest is complete except for the checksums."""


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
        model: Maps windows (batch, steps, features), and what goes with them, to forecasts (batch, horizon, targets),
            all in raw units.
        config: How the model was trained.
        dataset: What the model was trained on.
        scores: Errors on the test part; those of `model` come first.
        verdict: How the model compares, in one sentence.
        annex: Adds further files to the version.

    Returns:
        The folder of the version.

    Raises:
        ExportError: The version could not be written, or does not compute what the model does. Nothing is published.
    """
    model_dir = config.models_dir / config.name
    with building_dir(model_dir) as building:
        contract = make_contract(dataset, {each.name for each in model.inputs})
        engine = save_model(model, contract, building)
        golden = record_golden(engine, contract, dataset.test.inputs)
        contract = with_allowed_scales(contract, golden)
        check_exported(engine, model, contract, golden)
        golden.save(building)
        no_twin = _try_twin(engine, model, contract, golden, building)
        manifest = Manifest(
            name=config.name,
            created=datetime.now(UTC),
            contract=contract,
            config=config.model_dump(mode="json"),
            data=DataFingerprint(**asdict(dataset.provenance), notices=dataset.provenance.notices),
            versions=releases(),
            scores=_recorded(scores),
            verdict=verdict,
            files={},
            no_twin=no_twin,
        )
        if annex:
            annex(building, manifest)
        return publish(manifest.model_copy(update={"files": digest_files(building)}), building, model_dir)


def _recorded(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Returns the scores for the manifest, without the errors by step if these are more than a manifest can hold."""
    if sum(len(score.mae_by_step) for score in scores) <= MAX_STEPS_RECORDED:
        return tuple(scores)
    return tuple(score.model_copy(update={"mae_by_step": (), "rmse_by_step": ()}) for score in scores)


def make_contract(dataset: Dataset, inputs: Collection[str] = ("windows",)) -> Contract:
    """Returns the shapes, names, units and training ranges that the server will enforce and show.

    Args:
        dataset: What the model was trained on.
        inputs: Names of what the model takes: a baseline takes windows alone, whatever the network took.
    """
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
        known=dataset.known if "future" in inputs else (),
        calendar=dataset.calendar if "time" in inputs else (),
    )


def _try_twin(engine: Engine, model: keras.Model, contract: Contract, golden: Golden, folder: Path) -> str | None:
    """Adds the fused twin to the folder of the SavedModel, or returns why the model has none."""
    try:
        twin = build_twin(model, contract)
        check_twin(twin, engine.predict, contract, golden)
    except NotFusable as refusal:
        return refusal.reason
    write_twin(twin, folder)
    return None


def releases() -> dict[str, str]:
    """Returns the releases that make a version."""
    return {
        "windowcast": __version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        **{package: release(package) for package in ("keras", "numpy", "onnx", "onnxruntime", "polars")},
    }
