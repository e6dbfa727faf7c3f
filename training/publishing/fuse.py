"""`python -m training fuse`: gives a model without a fused twin a twin, and publishes it as a new version.

A version of ours keeps its SavedModel, its golden rows, its report and what its manifest says. Report and configuration
describe the training, so they keep the model's name of that time. A foreign SavedModel becomes a version: it is rebuilt
with our layers and written with our names, and its manifest says what is known. Every twin is compared with the
SavedModel as it was found, before anything is published.
"""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from app.arrays import Array, Inputs
from app.engines.proof import check_golden_rows
from app.engines.tensorflow import GOLDEN_PROBES, NOT_A_SAVED_MODEL, SIGNATURE, TensorFlowEngine
from app.version.golden import PARITY_BATCHES, Golden, probe_inputs, with_scales
from app.version.manifest import (
    MANIFEST_FILE,
    MAX_COLUMNS,
    MAX_NUMBERS,
    NAME_PATTERN,
    VERSION_PATTERN,
    Contract,
    Feature,
    Manifest,
    Target,
    digest_files,
)
from training.config import NAME_IN_WORDS, TrainingConfig
from training.errors import FusionError, NotFusable
from training.publishing.export import releases
from training.publishing.parity import check_twin, flat_windows
from training.publishing.publication import building_dir, publish
from training.publishing.rebuild import rebuild_foreign, rebuild_version
from training.publishing.saved_model import save_model
from training.publishing.twin import build_twin, write_twin


def fuse(path: Path, name: str | None = None, models_dir: Path | None = None) -> Path:
    """Publishes a model again, with a fused twin.

    Args:
        path: Folder of a version, or of a SavedModel.
        name: Model whose next version is published; unless given, the version's model, or the folder's own name.
        models_dir: Folder that holds the models; unless given, the version's, or `models`.

    Returns:
        The folder of the new version.

    Raises:
        FusionError: There is no model, the model has a twin already, or it cannot have a twin. Nothing is published.
        ArtifactError: The version is damaged.
        ExportError: The new version could not be written.
    """
    is_version = (path / MANIFEST_FILE).exists()
    model_dir = _model_dir(path.resolve(), name, models_dir, is_version=is_version)
    try:
        return _fuse_version(path, model_dir) if is_version else _fuse_foreign(path, model_dir)
    except NotFusable as refusal:
        raise FusionError(path, f"cannot be fused, because {refusal.reason}") from None


def _model_dir(path: Path, name: str | None, models_dir: Path | None, *, is_version: bool) -> Path:
    """Returns the folder of the new version's model. A folder with a number is a version: its parent has the name."""
    named = path.parent.name if is_version or re.fullmatch(VERSION_PATTERN, path.name) else path.name
    beside = path.parent.parent if is_version else TrainingConfig.model_fields["models_dir"].default
    model_name = named if name is None else name
    if not re.fullmatch(NAME_PATTERN, model_name):
        raise FusionError(path, f"--name: expected {NAME_IN_WORDS}")
    return (models_dir or beside) / model_name


def _fuse_version(version_dir: Path, model_dir: Path) -> Path:
    manifest = Manifest.read(version_dir)
    manifest.check_files(version_dir)
    if manifest.has_twin:
        raise FusionError(version_dir, "has a fused twin already")
    contract = manifest.contract
    golden = Golden.load(version_dir, contract)
    engine = TensorFlowEngine(version_dir, contract, max(PARITY_BATCHES))
    twin = build_twin(rebuild_version(manifest, engine.function), contract)
    check_twin(twin, engine.predict, contract, golden)

    with building_dir(model_dir) as building:
        shutil.copytree(version_dir, building, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST_FILE, ".*"))
        write_twin(twin, building)
        made_with = releases()
        news = {
            "name": model_dir.name,
            "created": datetime.now(UTC),
            "versions": manifest.versions | {package: made_with[package] for package in ("onnx", "onnxruntime")},
            "files": digest_files(building),
            "no_twin": None,
        }
        return publish(manifest.model_copy(update=news), building, model_dir)


def _fuse_foreign(saved_dir: Path, model_dir: Path) -> Path:
    saved = _load(saved_dir)  # keeps the variables alive
    signature = saved.signatures[SIGNATURE]
    shapes = _read_contract(signature)
    predict = _as_predictor(signature, shapes)
    windows = np.concatenate([probe_inputs(shapes, GOLDEN_PROBES).windows, flat_windows(shapes)])
    inputs = Inputs(windows)
    golden = Golden(inputs, predict(inputs))
    contract = with_scales(shapes, golden)
    model = rebuild_foreign(contract, signature)
    twin = build_twin(model, contract)
    check_twin(twin, predict, contract, golden)

    with building_dir(model_dir) as building:
        engine = save_model(model, contract, building)
        check_golden_rows(engine, golden, contract, building)
        golden.save(building)
        write_twin(twin, building)
        made_with, files = releases(), digest_files(building)
        manifest = Manifest.foreign(model_dir.name, datetime.now(UTC), contract, versions=made_with, files=files)
        return publish(manifest, building, model_dir)


def _load(folder: Path) -> Any:
    """Loads a SavedModel that has the signature we serve."""
    if not (folder / "saved_model.pb").is_file():
        raise FusionError(folder, "holds no SavedModel, which would be a file saved_model.pb and a folder variables")
    try:
        model = tf.saved_model.load(str(folder))
    except NOT_A_SAVED_MODEL as error:
        raise FusionError(folder, f"is not a SavedModel that loads ({type(error).__name__})") from error
    if SIGNATURE not in getattr(model, "signatures", {}):
        raise FusionError(folder, f"has no signature {SIGNATURE}")
    return model


def _read_contract(signature: Any) -> Contract:
    """Reads a contract off a signature. Features and targets are numbered; a lone axis of outputs is the horizon.

    Raises:
        NotFusable: The signature does not map windows (batch, steps, features) to (batch, horizon[, targets]).
    """
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise NotFusable(f"it has {len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1")
    windows, forecast = next(iter(inputs.values())), next(iter(outputs.values()))
    steps, features = _sizes(windows, "(batch, steps, features)", axes=(3,))
    horizon, targets = (*_sizes(forecast, "(batch, horizon) or (batch, horizon, targets)", axes=(2, 3)), 1)[:2]
    if max(steps * features, horizon * targets) > MAX_NUMBERS or max(features, targets) > MAX_COLUMNS:
        raise NotFusable(f"its windows or forecasts have more than {MAX_NUMBERS} numbers or {MAX_COLUMNS} columns")
    return Contract(
        steps=steps,
        features=tuple(Feature(name=f"x{number}") for number in range(features)),
        horizon=horizon,
        targets=tuple(Target(name=f"y{number}", scale=1) for number in range(targets)),
    )


def _sizes(tensor: Any, needed: str, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the sizes of a tensor without the batch. The batch must be open, and every other size fixed."""
    shape = tuple(tensor.shape)
    if tensor.dtype != tf.float32 or len(shape) not in axes or shape[0] is not None or None in shape[1:]:
        found = f"{tensor.dtype.name} {str(shape).replace('None', 'any')}"
        problem = f"its {tensor.name} is {found}, not float32 {needed} with every size but the batch fixed"
        is_misshapen_input = axes == (3,) and tensor.dtype == tf.float32
        raise NotFusable(f"{problem}{_input_remedy(shape) if is_misshapen_input else ''}")
    return shape[1:]


def _input_remedy(shape: tuple[int | None, ...]) -> str:
    """Returns the line that gives a model windows as its input, after a semicolon."""
    if len(shape) == 2:  # most likely windows of one feature
        steps = shape[1] or "steps"
        return f"; begin it with keras.Input(({steps}, 1)) and train it on windows[..., np.newaxis]"
    if len(shape) == 3:
        steps, features = shape[1] or "steps", shape[2] or "features"
        return f"; begin it with keras.Input(({steps}, {features})), which leaves the batch open"
    return ""


def _as_predictor(signature: Any, contract: Contract) -> Callable[[Inputs], Array]:
    """Returns the signature as it was found, as a function of arrays."""
    input_name, output_name = (
        next(iter(signature.structured_input_signature[1])),
        next(iter(signature.structured_outputs)),
    )

    def predict(inputs: Inputs) -> Array:
        try:
            forecast = signature(**{input_name: tf.constant(inputs.windows)})[output_name]
        except tf.errors.OpError as error:
            raise NotFusable(f"it cannot compute ({type(error).__name__})") from error
        return np.asarray(forecast).reshape(-1, *contract.forecast_shape)

    return predict
