"""Model versions whose forecasts can be worked out in the head, made without the training package.

`forecast[h, t] = mean of feature t over the window + h`: the h-th row of the forecast is the first one plus h.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from app.arrays import Array, Inputs
from app.version.golden import Golden
from app.version.manifest import (
    MANIFEST_FILE,
    TWIN_FILE,
    Contract,
    DataFingerprint,
    Feature,
    Frequency,
    Manifest,
    Score,
    Target,
    digest_files,
)

SavedForecast = Callable[[tf.Tensor], tf.Tensor]
Shape = Sequence[int | str]

GOLDEN_ROWS = 3


def contract_of(
    steps: int = 4, features: Sequence[str] = ("load", "temp"), horizon: int = 2, targets: int = 1
) -> Contract:
    """A contract whose targets are the first features, all between 0 and 1 in training."""
    return Contract(
        steps=steps,
        features=tuple(Feature(name=name, unit="MW", minimum=0, maximum=1) for name in features),
        horizon=horizon,
        targets=tuple(Target(name=name, unit="MW", scale=1) for name in features[:targets]),
        frequency="1 hour",
        spacing=Frequency(count=1, unit="hour"),
    )


def expected_forecasts(windows: Array, contract: Contract) -> Array:
    """What a version of this module answers: windows (batch, steps, features) -> (batch, horizon, targets)."""
    means = windows.mean(axis=1, dtype=np.float64)[:, None, : len(contract.targets)]
    ahead = np.arange(contract.horizon)[None, :, None]
    return np.asarray(means + ahead, np.float32)


def some_windows(rows: int, contract: Contract, seed: int = 0) -> Array:
    """Different windows within the training ranges."""
    return np.random.default_rng(seed).uniform(0, 1, (rows, *contract.window_shape)).astype(np.float32)


def mean_ahead(contract: Contract) -> SavedForecast:
    """The forecast of `expected_forecasts`, as TensorFlow computes it."""

    def forecast(windows: tf.Tensor) -> tf.Tensor:
        means = tf.reduce_mean(windows, axis=1, keepdims=True)[:, :, : len(contract.targets)]
        return means + tf.reshape(tf.range(contract.horizon, dtype=tf.float32), (1, -1, 1))

    return forecast


def laborious(contract: Contract) -> SavedForecast:
    """The same forecast after as many rounds of work as the largest number in the windows says."""

    def forecast(windows: tf.Tensor) -> tf.Tensor:
        rounds = tf.cast(tf.reduce_max(windows), tf.int32)
        start = tf.ones((64, 64)) / 64
        _, work = tf.while_loop(
            lambda done, _: done < rounds, lambda done, work: (done + 1, tf.matmul(work, start)), (0, start)
        )
        return mean_ahead(contract)(windows) + 0 * tf.reduce_sum(work)

    return forecast


def failing(contract: Contract) -> SavedForecast:
    """A graph that loads and keeps the contract, and fails whenever it is run."""

    def forecast(windows: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(windows)[0], 0, message="never")]):
            return mean_ahead(contract)(tf.identity(windows))

    return forecast


def failing_on_batches(contract: Contract) -> SavedForecast:
    """A graph that computes single windows and fails on more."""

    def forecast(windows: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([tf.debugging.assert_less(tf.shape(windows)[0], 2, message="one at most")]):
            return mean_ahead(contract)(tf.identity(windows))

    return forecast


def mean_twin(
    contract: Contract | None = None,
    window_shape: Shape | None = None,
    forecast_shape: Shape | None = None,
    names: tuple[str, str] = ("windows", "forecast"),
) -> ModelProto:
    """The fused twin of `mean_ahead`.

    Args:
        contract: Of the version; None for the one that `contract_of` makes by itself.
        window_shape: What the twin says it takes, the contract's shape by default.
        forecast_shape: What the twin says it gives, the contract's shape by default.
        names: Of its input and its output.
    """
    contract = contract or contract_of()
    windows, forecast = names
    nodes = [
        helper.make_node("ReduceMean", [windows], ["means"], axes=[1]),
        helper.make_node("Gather", ["means", "targets"], ["first"], axis=2),
        helper.make_node("Add", ["first", "ahead"], [forecast]),
    ]
    constants = {
        "targets": np.arange(len(contract.targets)),
        "ahead": np.arange(contract.horizon, dtype=np.float32)[None, :, None],
    }
    shapes = window_shape or ("batch", *contract.window_shape), forecast_shape or ("batch", *contract.forecast_shape)
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(windows, TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(forecast, TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=7)


def wrong_twin() -> ModelProto:
    """A twin that keeps the contract and forecasts the mean of the wrong feature."""
    twin = mean_twin()
    [constant] = [tensor for tensor in twin.graph.initializer if tensor.name == "targets"]
    constant.CopyFrom(numpy_helper.from_array(np.array([1]), "targets"))
    return twin


def add_twin(version_dir: Path, contract: Contract, twin: ModelProto | None = None) -> Path:
    """Gives a version a twin, its own unless another is given, and the checksums to go with it; returns its folder."""
    (version_dir / TWIN_FILE).write_bytes((twin or mean_twin(contract)).SerializeToString())
    publish(version_dir, contract)
    return version_dir


def save_model(version_dir: Path, contract: Contract, forecast: SavedForecast) -> None:
    """Writes a plain SavedModel, as anything but our training could have made it."""
    module = tf.Module()
    windows = tf.TensorSpec((None, *contract.window_shape), tf.float32, name="windows")
    module.serve = tf.function(lambda windows: {"forecast": forecast(windows)}, input_signature=[windows])
    tf.saved_model.save(module, str(version_dir), signatures={"serving_default": module.serve})


def signatures_of(version_dir: Path) -> dict[str, Any]:
    """All signatures of a SavedModel, as protobuf prints them."""
    return printed(SavedModel.FromString((version_dir / "saved_model.pb").read_bytes()))


def printed(saved: Any) -> dict[str, Any]:
    """All signatures of a `SavedModel`, as protobuf prints them with every field."""
    return {
        name: json_format.MessageToDict(
            signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, signature in saved.meta_graphs[0].signature_def.items()
    }


def publish(version_dir: Path, contract: Contract, no_twin: str | None = None) -> None:
    """Writes the manifest, with the checksums of what is in the folder."""
    manifest = Manifest(
        name=version_dir.parent.name,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        contract=contract,
        config={},
        data=DataFingerprint(
            source="none", sha256="0" * 64, rows=0, columns=(), training_rows=0, validation_rows=0, test_rows=0
        ),
        versions={"tensorflow": tf.__version__},
        scores=(Score(forecaster="model", mae=1.0, rmse=2.0),),
        verdict="It answers with the mean.",
        files=digest_files(version_dir),
        no_twin=no_twin,
    )
    (version_dir / MANIFEST_FILE).write_text(manifest.model_dump_json())


def make_version(
    models_dir: Path,
    contract: Contract,
    name: str = "default",
    version: int = 1,
    make_forecast: Callable[[Contract], SavedForecast] = mean_ahead,
) -> Path:
    """Writes a whole version without a twin and returns its folder."""
    version_dir = models_dir / name / str(version)
    save_model(version_dir, contract, make_forecast(contract))
    windows = some_windows(GOLDEN_ROWS, contract)
    Golden(Inputs(windows), expected_forecasts(windows, contract)).save(version_dir)
    publish(version_dir, contract)
    return version_dir


def make_fused_version(models_dir: Path, contract: Contract, name: str = "default", version: int = 1) -> Path:
    """Writes a whole version with its twin and returns its folder: nothing that serves it needs TensorFlow."""
    return add_twin(make_version(models_dir, contract, name, version), contract)
