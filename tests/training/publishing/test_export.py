"""A version is published whole or not at all, and computes what the model in memory does."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.engines.onnx import OnnxEngine
from app.engines.proof import check_golden_rows
from app.engines.tensorflow import TensorFlowEngine
from app.version.golden import Golden, deviation
from app.version.manifest import TWIN_FILE, VERSION_PATTERN, DataFingerprint, Frequency, Manifest, Score
from training.config import TrainingConfig
from training.data.prepare import prepare
from training.data.windows import Dataset
from training.errors import ExportError
from training.network.model import build_model, serving_model
from training.publishing import export as exporting
from training.publishing import publication
from training.publishing.export import export, make_contract
from training.publishing.publication import BUILDING_PREFIX, STALE_SECONDS

SCORES = (Score(forecaster="model", mae=1.0, rmse=2.0),)
KILLS = 4


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


def visible_folders(models_dir: Path, name: str = "default") -> list[str]:
    return sorted(path.name for path in (models_dir / name).iterdir() if re.match(VERSION_PATTERN, path.name))


def test_a_version_is_a_plain_saved_model_that_computes_what_the_model_does(
    publish: Publish, model: keras.Model, dataset: Dataset
) -> None:
    signature = tf.saved_model.load(str(publish())).signatures["serving_default"]

    for batch in (1, 7):
        windows = dataset.test.windows[:batch]
        forecast = signature(windows=tf.constant(windows))["forecast"].numpy()
        assert forecast.shape == (batch, 2, 1)
        np.testing.assert_allclose(forecast, np.asarray(model(windows, training=False)), rtol=1e-5)


def test_the_manifest_tells_contract_config_data_scores_and_checksums(
    publish: Publish, config: TrainingConfig, dataset: Dataset
) -> None:
    version_dir = publish()
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
    publish: Publish, model: keras.Model, dataset: Dataset, config: TrainingConfig
) -> None:
    golden = Golden.load(publish())

    np.testing.assert_array_equal(golden.windows[0], dataset.test.windows[-1])
    assert np.max(golden.windows) > np.max(dataset.train.windows)
    expected = np.asarray(model(golden.windows, training=False))
    assert deviation(golden.forecasts, expected, make_contract(dataset).target_scales) <= 1


def test_the_saved_model_is_loaded_once(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = tf.saved_model.load

    def count(folder: str) -> Any:
        loaded.append(folder)
        return load(folder)

    monkeypatch.setattr(tf.saved_model, "load", count)

    publish()

    assert len(loaded) == 1


def test_a_version_has_a_twin_that_computes_its_golden_rows(publish: Publish) -> None:
    version_dir = publish()
    manifest, golden = Manifest.read(version_dir), Golden.load(version_dir)

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
    monkeypatch.setattr(OnnxEngine, "predict", lambda self, windows: predict(self, windows) * 1.001)

    manifest = Manifest.read(publish())

    assert not manifest.has_twin
    assert manifest.no_twin is not None
    assert manifest.no_twin.startswith("in batches of 1 the graph is off by ")


def test_versions_are_numbered_from_one_upwards(publish: Publish, tmp_path: Path) -> None:
    assert publish().name == "1"
    assert publish().name == "2"
    (tmp_path / "default" / "7").mkdir()
    assert publish().name == "8"


def test_a_number_that_another_export_takes_first_is_passed_over(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def lose_the_race_once(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        target.mkdir()
        (target / "manifest.json").write_text("another's")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", lose_the_race_once)

    assert publish().name == "2"
    assert (tmp_path / "default" / "1" / "manifest.json").read_text() == "another's"


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (exporting, "save_model"),
        (exporting, "record_golden"),
        (exporting, "write_twin"),
        (publication, "_write_through"),
        (publication, "_write_last"),
        (publication, "_take_number"),
    ],
)
def test_an_export_that_fails_at_any_step_leaves_nothing_and_harms_nothing(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    earlier = publish()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, step, fail)
    with pytest.raises(ExportError, match=r"No space left on device.*nothing was published"):
        publish()

    assert [path.name for path in (tmp_path / "default").iterdir()] == ["1"]
    Manifest.read(earlier).check_files(earlier)


def test_an_exported_model_that_computes_something_else_is_not_published(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = TensorFlowEngine.predict
    monkeypatch.setattr(TensorFlowEngine, "predict", lambda self, windows: predict(self, windows) * 1.001)

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


def test_what_a_killed_export_left_behind_is_cleared_away_when_it_is_old(publish: Publish, tmp_path: Path) -> None:
    old, recent = (tmp_path / "default" / f"{BUILDING_PREFIX}{age}" for age in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir(parents=True)
    long_ago = time.time() - STALE_SECONDS - 60
    os.utime(old, (long_ago, long_ago))

    publish()

    assert not old.exists()
    assert recent.exists()


def test_a_stale_folder_that_another_export_removes_first_does_no_harm(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "default" / f"{BUILDING_PREFIX}gone"
    glob = Path.glob

    def find_it_too(self: Path, pattern: str, **options: bool) -> Iterator[Path]:
        return iter([gone]) if str(pattern).startswith(BUILDING_PREFIX) else glob(self, pattern, **options)

    monkeypatch.setattr(Path, "glob", find_it_too)

    assert publish().name == "1"


def raise_on_the_folder_of_versions(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    flush = publication._flush

    def flush_or_raise(path: Path) -> None:
        if path.name == "default":
            raise error
        flush(path)

    monkeypatch.setattr(publication, "_flush", flush_or_raise)


def test_nothing_after_the_rename_fails_an_export(publish: Publish, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on_the_folder_of_versions(OSError(5, "Input/output error"), monkeypatch)

    assert publish().is_dir()


def test_an_interrupt_after_the_rename_says_that_the_version_was_published(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_on_the_folder_of_versions(KeyboardInterrupt(), monkeypatch)

    with pytest.raises(KeyboardInterrupt, match="the version was published"):
        publish()
    assert visible_folders(tmp_path) == ["1"]


EXPORT_FOREVER = """
import sys
from pathlib import Path
from app.version.manifest import Score
from training.config import TrainingConfig
from training.data.prepare import prepare
from training.publishing.export import export
from training.network.model import build_model, serving_model

config = TrainingConfig(series="lesson", window=6, units=(3,), models_dir=Path(sys.argv[1]))
dataset = prepare(config)
model = serving_model(build_model(config, dataset))
print("exporting", flush=True)
while True:
    export(model, config, dataset, (Score(forecaster="model", mae=1.0, rmse=2.0),), "")
"""


def start_exporting(models_dir: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", EXPORT_FOREVER, str(models_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload]
    assert process.stdout is not None
    assert process.stdout.readline() == "exporting\n"
    return process  # type: ignore[no-any-return]


def test_kill_9_at_any_moment_leaves_only_whole_versions(tmp_path: Path) -> None:
    moments = random.Random(0)  # noqa: S311
    for _ in range(KILLS):
        process = start_exporting(tmp_path)
        time.sleep(moments.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()

        for version in visible_folders(tmp_path):
            version_dir = tmp_path / "default" / version
            Manifest.read(version_dir).check_files(version_dir)


def test_a_full_disk_stops_the_export_with_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of any file fails a write half way, as a full disk does, and needs no privilege.
    limit = 20_000
    process = start_exporting(tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    _, errors = process.communicate(timeout=60)

    assert process.returncode != 0
    assert "ExportError" in errors
    assert "nothing was published" in errors
    assert list((tmp_path / "default").iterdir()) == []
