"""A version is published whole or not at all, and computes what the model in memory does."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.engines.onnx import OnnxEngine
from app.engines.proof import check_golden_rows
from app.engines.tensorflow import TensorFlowEngine
from app.version.golden import Golden, deviation
from app.version.manifest import TWIN_FILE, DataFingerprint, Frequency, Manifest, Score
from training.config import TrainingConfig
from training.data.prepare import prepare
from training.data.windows import Dataset
from training.errors import ExportError
from training.network.model import build_model, serving_model
from training.publishing import export as exporting
from training.publishing import parity
from training.publishing.export import export, make_contract

SCORES = (Score(forecaster="model", mae=1.0, rmse=2.0),)


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    return TrainingConfig(series="lesson", window=6, horizon=2, units=(3,), measured_in={"lesson": "m"})


@pytest.fixture(scope="module")
def dataset(config: TrainingConfig) -> Dataset:
    return prepare(config)


@pytest.fixture(scope="module")
def model(config: TrainingConfig, dataset: Dataset) -> keras.Model:
    return serving_model(build_model(config, dataset))


Publish = Callable[[], Path]


@pytest.fixture
def publish(tmp_path: Path, config: TrainingConfig, dataset: Dataset, model: keras.Model) -> Publish:
    """Exports into the test's own folder."""
    here = config.model_copy(update={"models_dir": tmp_path})
    return lambda: export(model, here, dataset, SCORES, "It ties.")


@pytest.fixture(scope="module")
def version_dir(
    tmp_path_factory: pytest.TempPathFactory, config: TrainingConfig, dataset: Dataset, model: keras.Model
) -> Path:
    """A published version. Not to be changed."""
    here = config.model_copy(update={"models_dir": tmp_path_factory.mktemp("models")})
    return export(model, here, dataset, SCORES, "It ties.")


def test_a_version_is_a_plain_saved_model_that_computes_what_the_model_does(
    version_dir: Path, model: keras.Model, dataset: Dataset
) -> None:
    signature = tf.saved_model.load(str(version_dir)).signatures["serving_default"]

    for batch in (1, 7):
        windows = dataset.test.windows[:batch]
        forecast = signature(windows=tf.constant(windows))["forecast"].numpy()
        assert forecast.shape == (batch, 2, 1)
        np.testing.assert_allclose(forecast, np.asarray(model(windows, training=False)), rtol=1e-5)


def test_the_manifest_tells_contract_config_data_scores_and_checksums(
    version_dir: Path, config: TrainingConfig, dataset: Dataset
) -> None:
    manifest = Manifest.read(version_dir)

    assert manifest.contract == make_contract(dataset)
    assert manifest.contract.window_shape == (6, 1)
    assert manifest.contract.forecast_shape == (2, 1)
    assert manifest.contract.features[0].unit == "m"
    assert manifest.contract.features[0].minimum == np.min(dataset.train.windows)
    assert manifest.contract.targets[0].scale == pytest.approx(float(dataset.train.targets.std()), rel=1e-5)
    assert TrainingConfig.model_validate(manifest.config) == config.model_copy(
        update={"models_dir": version_dir.parent.parent}
    )
    assert manifest.data == DataFingerprint(**asdict(dataset.provenance), notices=dataset.provenance.notices)
    assert (manifest.contract.frequency, manifest.contract.spacing) == ("1 step", Frequency(count=1, unit="step"))
    assert (manifest.scores, manifest.verdict) == (SCORES, "It ties.")
    releases = {"python", "tensorflow", "keras", "numpy", "onnx", "onnxruntime", "windowcast"}
    assert releases <= set(manifest.versions)
    on_disk = {path.relative_to(version_dir).as_posix() for path in version_dir.rglob("*") if path.is_file()}
    assert set(manifest.files) == on_disk - {"manifest.json"}
    manifest.check_files(version_dir)


def test_golden_rows_are_real_windows_and_flat_extremes_with_their_forecasts(
    version_dir: Path, model: keras.Model, dataset: Dataset
) -> None:
    golden = Golden.load(version_dir, make_contract(dataset))

    np.testing.assert_array_equal(golden.inputs.windows[0], dataset.test.windows[-1])
    assert np.max(golden.inputs.windows) > np.max(dataset.train.windows)
    expected = np.asarray(model(golden.inputs.windows, training=False))
    assert deviation(golden.forecasts, expected, make_contract(dataset).target_scales) <= 1


def test_errors_by_step_without_number_are_left_to_the_report(
    tmp_path: Path, config: TrainingConfig, dataset: Dataset, model: keras.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = config.model_copy(update={"models_dir": tmp_path})
    by_step = {"mae_by_step": (1.0, 2.0), "rmse_by_step": (1.0, 2.0)}
    scores = [score.model_copy(update=by_step) for score in (*SCORES, *SCORES)]
    for most, expected in ((4, tuple(scores)), (3, (*SCORES, *SCORES))):
        monkeypatch.setattr(exporting, "MAX_STEPS_RECORDED", most)
        assert Manifest.read(export(model, here, dataset, scores, "It ties.")).scores == expected


def test_a_twin_larger_than_a_service_reads_is_not_published(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "MAX_TWIN_BYTES", 1000)
    manifest = Manifest.read(publish())
    assert (manifest.has_twin, manifest.no_twin) == (False, "its twin would have more than 1000 bytes")


def test_the_saved_model_is_loaded_once(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = tf.saved_model.load

    def count(folder: str) -> Any:
        loaded.append(folder)
        return load(folder)

    monkeypatch.setattr(tf.saved_model, "load", count)

    publish()

    assert len(loaded) == 1


def test_a_version_has_a_twin_that_computes_its_golden_rows(version_dir: Path) -> None:
    manifest = Manifest.read(version_dir)
    golden = Golden.load(version_dir, manifest.contract)

    assert manifest.has_twin
    assert manifest.no_twin is None
    engine = OnnxEngine((version_dir / TWIN_FILE).read_bytes(), manifest.contract, 64, threads=1)
    check_golden_rows(engine, golden, manifest.contract, version_dir)


def test_a_model_that_cannot_be_fused_is_published_without_a_twin_and_the_manifest_says_why(
    tmp_path: Path, config: TrainingConfig, dataset: Dataset, model: keras.Model
) -> None:
    doubled = keras.Model(model.input, keras.layers.Rescaling(2.0, name="double")(model.output))

    version_dir = export(doubled, config.model_copy(update={"models_dir": tmp_path}), dataset, SCORES, "")

    manifest = Manifest.read(version_dir)
    assert not manifest.has_twin
    assert manifest.no_twin == "it holds double, a Rescaling, which cannot be drawn"


def test_a_twin_that_computes_something_else_is_not_published(
    publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = OnnxEngine.predict
    monkeypatch.setattr(OnnxEngine, "predict", lambda self, inputs: predict(self, inputs) * 1.001)

    manifest = Manifest.read(publish())

    assert not manifest.has_twin
    assert manifest.no_twin is not None
    assert manifest.no_twin.startswith("in batches of 1 the graph is off by ")


@pytest.mark.parametrize("step", ["save_model", "record_golden", "write_twin"])
def test_an_export_that_fails_at_any_step_leaves_nothing_and_harms_nothing(
    publish: Publish, version_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    earlier = Path(shutil.copytree(version_dir, tmp_path / "default" / "1"))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, step, fail)
    with pytest.raises(ExportError, match=r"No space left on device.*nothing was published"):
        publish()

    assert [path.name for path in (tmp_path / "default").iterdir()] == ["1"]
    Manifest.read(earlier).check_files(earlier)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Fails a write half way, as a full disk does, and needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_the_export_with_a_sentence_and_leaves_nothing(publish: Publish, tmp_path: Path) -> None:
    with (
        files_of_at_most(20_000),
        pytest.raises(ExportError, match=r"could not be written \(.+\); nothing was published"),
    ):
        publish()

    assert list((tmp_path / "default").iterdir()) == []


def test_an_exported_model_that_computes_something_else_is_not_published(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = TensorFlowEngine.predict
    monkeypatch.setattr(TensorFlowEngine, "predict", lambda self, inputs: predict(self, inputs) * 1.001)

    with pytest.raises(ExportError, match="does not compute what the trained one does"):
        publish()

    assert list((tmp_path / "default").iterdir()) == []


def test_a_graph_that_changes_a_variable_is_not_published(
    tmp_path: Path, config: TrainingConfig, dataset: Dataset, model: keras.Model
) -> None:
    @keras.saving.register_keras_serializable(package="tests")
    class Counter(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, forecast: tf.Tensor) -> tf.Tensor:
            self.calls.assign_add(1.0)
            return forecast

    counting = keras.Model(model.input, Counter()(model.output))

    with pytest.raises(ExportError, match="operator Assign"):
        export(counting, config.model_copy(update={"models_dir": tmp_path}), dataset, SCORES, "")

    assert list((tmp_path / "default").iterdir()) == []
