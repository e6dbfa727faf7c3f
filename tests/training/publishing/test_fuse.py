"""`fuse`: what it publishes computes what the SavedModel does, and what it cannot prove it does not publish."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.arrays import Array, Inputs
from app.engines.choice import load_engine
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError
from app.version.golden import Golden, deviation, probe_inputs
from app.version.manifest import MADE_ELSEWHERE, TWIN_FILE, Manifest
from tests.training.publishing.models import FOREIGN, LARGE, SAVERS, model_of, save_foreign, sequential
from tests.training.tiny import config_of
from tests.versions import contract_of, make_version
from training.errors import ExportError, FusionError, NotFusable, TrainingError
from training.network.model import serving_model
from training.publishing import export as exporting
from training.publishing import fuse as fusing
from training.publishing.export import export
from training.publishing.fuse import fuse
from training.publishing.rebuild import rebuild_version

MODELS_DIR_OF_A_USER = "elsewhere"
REPORT = "report/report.html"


def export_without_twin(models_dir: Path, **options: Any) -> Path:
    """Publishes a model as a release without twins did."""

    def refuse(*_: object) -> None:
        raise NotFusable("nobody asked")

    def write_report(version_dir: Path, manifest: Manifest) -> None:
        (version_dir / "report").mkdir()
        (version_dir / REPORT).write_text(manifest.name, encoding="utf-8")

    config = config_of(**{"units": (4, 3), **options}, models_dir=models_dir)
    model = serving_model(model_of(config, LARGE))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "build_twin", refuse)
        return export(model, config, LARGE, (), "It ties.", write_report)


@pytest.fixture(scope="module")
def template_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version without a twin. Not to be changed."""
    return export_without_twin(tmp_path_factory.mktemp("models"), scale="standard")


@pytest.fixture
def version_dir(template_dir: Path, tmp_path: Path) -> Path:
    """The test's own version without a twin."""
    return Path(shutil.copytree(template_dir, tmp_path / "default" / "1"))


def forecasts_of(version_dir: Path, inputs: Inputs) -> list[Array]:
    """By either engine, as the service would load them."""
    manifest = Manifest.read(version_dir)
    golden = Golden.load(version_dir, manifest.contract)
    manifest.check_files(version_dir)
    engines = [
        load_engine(name, version_dir, manifest, golden, max_windows=1, threads=1) for name in ("onnx", "tensorflow")
    ]
    return [engine.predict(inputs) for engine in engines]


@pytest.mark.parametrize("options", [{}, {"scale": "window", "skip": True}, {"output": "sequence"}], ids=str)
def test_a_version_without_a_twin_is_published_again_with_one(options: dict[str, Any], tmp_path: Path) -> None:
    before_dir = export_without_twin(tmp_path, **options)
    before = Manifest.read(before_dir)
    assert not before.has_twin

    after_dir = fuse(before_dir)

    assert after_dir == before_dir.with_name("2")
    after = Manifest.read(after_dir)
    inputs = probe_inputs(after.contract, 9)
    expected = TensorFlowEngine(before_dir, before.contract, 9).predict(inputs)
    for forecasts in forecasts_of(after_dir, inputs):
        assert deviation(forecasts, expected, after.contract.target_scales) <= 1


def test_a_version_keeps_its_facts_its_saved_model_and_its_golden_rows(
    version_dir: Path,
) -> None:
    before_dir = version_dir
    (before_dir / ".DS_Store").touch()
    before = Manifest.read(before_dir)

    after = Manifest.read(fuse(before_dir))

    new = {"created", "files", "no_twin"}
    assert after.model_dump(exclude=new) == before.model_dump(exclude=new)
    assert after.created > before.created
    assert after.no_twin is None
    assert after.files.keys() - before.files.keys() == {TWIN_FILE}
    assert before.files.items() <= after.files.items()


def test_a_version_may_be_published_under_another_name(version_dir: Path, tmp_path: Path) -> None:
    version_dir = fuse(version_dir, name="other", models_dir=tmp_path / MODELS_DIR_OF_A_USER)

    assert version_dir == tmp_path / MODELS_DIR_OF_A_USER / "other" / "1"
    manifest = Manifest.read(version_dir)
    manifest.check_files(version_dir)
    assert manifest.name == "other"
    assert (version_dir / REPORT).read_text(encoding="utf-8") == manifest.config["name"] == "default"


@pytest.mark.parametrize("place", ["Scaling.centre", "weights", "constants"])
def test_a_model_that_is_rebuilt_wrong_is_not_published(
    place: str, version_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rebuild_wrong(manifest: Manifest, signature: Any) -> keras.Model:
        model = rebuild_version(manifest, signature)
        match place:
            case "Scaling.centre":
                model.get_layer("centre").constant += 0.01
            case "constants":
                model.get_layer("forecast").ratio *= 1.001
            case _:
                model.set_weights([weights * 1.001 for weights in model.get_weights()])
        return model

    monkeypatch.setattr(fusing, "rebuild_version", rebuild_wrong)

    with pytest.raises(FusionError, match=r"cannot be fused, because in batches of 1 the graph is off by .*; nothing"):
        fuse(version_dir)

    assert [path.name for path in version_dir.parent.iterdir()] == ["1"]


def test_a_version_with_a_twin_is_refused(version_dir: Path) -> None:
    with pytest.raises(FusionError, match=r"2: has a fused twin already; nothing was published\.$"):
        fuse(fuse(version_dir))


def test_a_damaged_version_is_refused(version_dir: Path) -> None:
    (version_dir / "saved_model.pb").write_bytes(b"")

    with pytest.raises(ArtifactError, match=r"saved_model\.pb: has changed since the export"):
        fuse(version_dir)


def test_a_version_that_training_did_not_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="its manifest holds no configuration that this release of training reads"):
        fuse(make_version(tmp_path, contract_of()))


def test_what_cannot_be_written_leaves_nothing(version_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fusing, "write_twin", fail)

    with pytest.raises(ExportError, match=r"No space left on device.*nothing was published"):
        fuse(version_dir)

    assert [path.name for path in version_dir.parent.iterdir()] == ["1"]


@pytest.mark.parametrize(("name", "saver"), [("lstm, dropout", "export"), ("both directions", "save")])
def test_a_plain_keras_model_becomes_a_version(name: str, saver: str, tmp_path: Path) -> None:
    make_model, forecast_shape = FOREIGN[name]
    model = make_model()
    saved_dir = save_foreign(model, tmp_path / "notebook", SAVERS[saver])

    version_dir = fuse(saved_dir, models_dir=tmp_path / "models")

    assert version_dir == tmp_path / "models" / "notebook" / "1"
    contract = Manifest.read(version_dir).contract
    assert (contract.window_shape, contract.forecast_shape) == ((5, 2), forecast_shape)
    windows = np.random.default_rng(1).normal(0, 1, (9, 5, 2)).astype(np.float32)
    expected = np.asarray(model(windows)).reshape(9, *forecast_shape)
    for forecasts in forecasts_of(version_dir, Inputs(windows)):
        np.testing.assert_allclose(forecasts, expected, rtol=0, atol=2e-6)


def test_the_manifest_of_a_foreign_model_invents_nothing(tmp_path: Path) -> None:
    model = sequential(layers.LSTM(3), layers.Dense(1))
    saved_dir = save_foreign(model, tmp_path / "notebook")

    version_dir = fuse(saved_dir, models_dir=tmp_path)

    manifest = Manifest.read(version_dir)
    golden = Golden.load(version_dir, manifest.contract)
    assert manifest.contract.feature_names == ("x0", "x1")
    assert manifest.contract.target_names == ("y0",)
    assert {(feature.unit, feature.minimum, feature.maximum) for feature in manifest.contract.features} == {(None,) * 3}
    assert manifest.data.model_dump(exclude_defaults=True) == {"source": MADE_ELSEWHERE}
    assert (manifest.config, manifest.scores, manifest.verdict) == ({}, (), "Unknown: made elsewhere.")
    expected = np.asarray(model(golden.inputs.windows))[:, None]
    np.testing.assert_allclose(golden.forecasts, expected, rtol=0, atol=1e-6)
    assert manifest.contract.target_scales == pytest.approx([np.sqrt(np.mean(golden.forecasts**2))])


def test_a_folder_of_versions_gives_its_name(tmp_path: Path) -> None:
    saved_dir = save_foreign(sequential(layers.LSTM(3), layers.Dense(1)), tmp_path / "load" / "17")

    assert fuse(saved_dir, models_dir=tmp_path / "models") == tmp_path / "models" / "load" / "1"


REFUSED = {
    "another activation": (
        lambda: sequential(layers.LSTM(4, activation="softsign"), layers.Dense(1)),
        "in batches of 1 the graph is off by",
    ),
    "an activation that may never act": (
        lambda: sequential(
            layers.LSTM(4), layers.Dense(1, bias_initializer=keras.initializers.Constant(9)), layers.ReLU()
        ),
        "its graph holds the operator Relu; only LSTM",
    ),
    "a mask that may never act": (
        lambda: sequential(layers.Masking(7.7), layers.LSTM(4), layers.Dense(1)),
        "its graph holds the operator SelectV2; only LSTM",
    ),
    "scaling": (
        lambda: sequential(layers.Rescaling(2.0), layers.LSTM(4), layers.Dense(1)),
        "in batches of 1 the graph is off by",
    ),
    "two dense layers": (
        lambda: sequential(layers.LSTM(4), layers.Dense(3, name="first"), layers.Dense(1, name="last")),
        "it has the layers .*first, .*last; only LSTM, GRU or SimpleRNN layers",
    ),
    "normalised": (
        lambda: sequential(layers.LSTM(4), layers.LayerNormalization(name="polish"), layers.Dense(1)),
        "it has the layers .*polish, .*; only LSTM",
    ),
    "no recurrent layer": (lambda: sequential(layers.Flatten(), layers.Dense(1)), "it has the layers .*; only LSTM"),
    "without bias": (
        lambda: sequential(layers.LSTM(4, use_bias=False), layers.Dense(1)),
        "only LSTM, GRU or SimpleRNN",
    ),
    "several cells": (
        lambda: sequential(layers.LSTM(4, return_sequences=True), layers.GRU(4), layers.Dense(1)),
        "its recurrent layers are of several kinds",
    ),
    "old GRU": (
        lambda: sequential(layers.GRU(4, reset_after=False), layers.Dense(1)),
        "its variables do not have the shapes that its layers need",
    ),
    "every step": (
        lambda: sequential(layers.LSTM(4, return_sequences=True), layers.Dense(1)),
        "it forecasts after every one of its .* take return_sequences=True from its last recurrent layer",
    ),
    "any steps": (
        lambda: sequential(layers.LSTM(4), layers.Dense(1), steps=None),
        r"float32 \(any, any, 2\), not float32 \(batch, steps, features\) .*; begin it with keras.Input\(\(steps, 2",
    ),
    "long numbers": (
        lambda: keras.Sequential([keras.Input((5, 2), dtype="float64"), layers.LSTM(4), layers.Dense(1)]),
        r"float64 \(any, 5, 2\), not float32 \(batch, steps, features\) with every size but the batch fixed(?!; begin)",
    ),
    "flat windows": (
        lambda: keras.Sequential([keras.Input((6,)), layers.Reshape((6, 1)), layers.LSTM(4), layers.Dense(1)]),
        r"float32 \(any, 6\), not float32 \(batch, steps, features\) .*; begin it with keras.Input\(\(6, 1\)\)",
    ),
}


@pytest.mark.parametrize(("make_model", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_foreign_model_that_cannot_be_fused_is_refused_in_one_sentence(
    make_model: Callable[[], keras.Model], reason: str, tmp_path: Path
) -> None:
    saved_dir = save_foreign(make_model(), tmp_path / "notebook")

    with pytest.raises(
        FusionError, match=rf"notebook: cannot be fused, because .*{reason}.*; nothing was published\.$"
    ):
        fuse(saved_dir, models_dir=tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_a_folder_that_holds_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="holds no SavedModel"):
        fuse(tmp_path / "nowhere")

    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(FusionError, match="is not a SavedModel that loads"):
        fuse(tmp_path)

    shutil.rmtree(tmp_path / "bare", ignore_errors=True)
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(FusionError, match="has no signature serving_default"):
        fuse(tmp_path / "bare")


def test_a_name_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--name: expected letters, digits"):
        fuse(tmp_path, name="../x")
