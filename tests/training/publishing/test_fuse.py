"""`fuse`: what it publishes computes what the SavedModel does, and what it cannot prove it does not publish."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from app.arrays import Array
from app.engines.choice import load_engine
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError
from app.version.golden import Golden, deviation, probe_windows
from app.version.manifest import MADE_ELSEWHERE, MANIFEST_FILE, TWIN_FILE, Manifest
from tests.training.tiny import config_of, dataset_of, waves
from tests.versions import contract_of, make_version
from training.data.windows import cut_training
from training.errors import ExportError, FusionError, NotFusable, TrainingError
from training.judging.baselines import fit_baselines
from training.network.model import build_model, linear_model, serving_model
from training.publishing import export as exporting
from training.publishing import fuse as fusing
from training.publishing.export import export
from training.publishing.fuse import fuse
from training.publishing.rebuild import rebuild_version

ROWS = waves(columns=3).astype(np.float32)
DATASET = dataset_of(cut_training(ROWS[:, :2], ROWS[:, 1:], 6, 3), targets=("b", "x"))
"""Two features; two targets, the second of which is no feature; three rows ahead."""

MODELS_DIR_OF_A_USER = "elsewhere"
REPORT = "report/report.html"


@pytest.fixture
def export_without_twin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Publishes models that have some weight everywhere, as a release without twins did."""

    def refuse(*_: object) -> None:
        raise NotFusable("nobody asked")

    def write_report(version_dir: Path, manifest: Manifest) -> None:
        (version_dir / "report").mkdir()
        (version_dir / REPORT).write_text(manifest.name, encoding="utf-8")

    def publish(model: keras.Model | None = None, **options: Any) -> Path:
        config = config_of(**{"units": (4, 3), **options}, models_dir=tmp_path)
        model = model or build_model(config, DATASET)
        noise = np.random.default_rng(3)
        model.set_weights([weights + noise.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
        with monkeypatch.context() as patch:
            patch.setattr(exporting, "build_twin", refuse)
            return export(serving_model(model), config, DATASET, (), "It ties.", write_report)

    return publish


def save_foreign(
    model: keras.Model, folder: Path, save: Callable[[keras.Model, str], None] = tf.saved_model.save
) -> Path:
    """A plain Keras model with some weight everywhere, saved as its user would."""
    noise = np.random.default_rng(3)
    model.set_weights([weights + noise.normal(0, 0.2, weights.shape) for weights in model.get_weights()])
    save(model, str(folder))
    return folder


def sequential(*stack: keras.layers.Layer, steps: int | None = 5) -> keras.Model:
    return keras.Sequential([keras.Input((steps, 2)), *stack])


def forecasts_of(version_dir: Path, windows: Array) -> list[Array]:
    """By either engine, as the service would load them."""
    manifest, golden = Manifest.read(version_dir), Golden.load(version_dir)
    manifest.check_files(version_dir)
    engines = [
        load_engine(name, version_dir, manifest, golden, max_windows=1, threads=1) for name in ("onnx", "tensorflow")
    ]
    return [engine.predict(windows) for engine in engines]


@pytest.mark.parametrize(
    "options",
    [
        *({"scale": scale} for scale in ("standard", "window", "last", "none")),
        *({"scale": scale, "output": "sequence"} for scale in ("standard", "window", "last", "none")),
        *({"cell": cell, "bidirectional": both} for cell in ("lstm", "gru", "rnn") for both in (False, True)),
        {"dropout": 0.2},
        *({"scale": scale, "skip": True} for scale in ("standard", "window", "last", "none")),
        {"noise": 0.1, "activation": "relu"},
        {"units": (4,)},
    ],
    ids=str,
)
def test_a_version_without_a_twin_is_published_again_with_one(
    options: dict[str, Any], export_without_twin: Callable[..., Path]
) -> None:
    before_dir = export_without_twin(**options)
    before = Manifest.read(before_dir)
    assert not before.has_twin

    after_dir = fuse(before_dir)

    assert after_dir == before_dir.with_name("2")
    after = Manifest.read(after_dir)
    windows = probe_windows(after.contract, 9)
    expected = TensorFlowEngine(before_dir, before.contract, 9).predict(windows)
    for forecasts in forecasts_of(after_dir, windows):
        assert deviation(forecasts, expected, after.contract.target_scales) <= 1


@pytest.mark.parametrize("centre", [None, np.array([50, 51], np.float32)], ids=["last row", "constant"])
@pytest.mark.parametrize("scale", ["window", "last"])
def test_a_baseline_in_the_place_of_a_network_gets_a_twin_too(
    scale: str, centre: Array | None, export_without_twin: Callable[..., Path]
) -> None:
    [*_, linear] = fit_baselines(DATASET)
    baseline = linear_model(replace(linear, centre=centre), (6, 2), (3, 2))
    before_dir = export_without_twin(baseline, scale=scale)

    after_dir = fuse(before_dir)

    after = Manifest.read(after_dir)
    windows = probe_windows(after.contract, 9)
    expected = TensorFlowEngine(before_dir, after.contract, 9).predict(windows)
    for forecasts in forecasts_of(after_dir, windows):
        assert deviation(forecasts, expected, after.contract.target_scales) <= 1


def test_a_version_keeps_its_facts_its_saved_model_and_its_golden_rows(
    export_without_twin: Callable[..., Path],
) -> None:
    before_dir = export_without_twin()
    (before_dir / ".DS_Store").touch()
    before = Manifest.read(before_dir)

    after = Manifest.read(fuse(before_dir))

    new = {"created", "files", "no_twin"}
    assert after.model_dump(exclude=new) == before.model_dump(exclude=new)
    assert after.created > before.created
    assert after.no_twin is None
    assert after.files.keys() - before.files.keys() == {TWIN_FILE}
    assert before.files.items() <= after.files.items()


def test_a_version_may_be_published_under_another_name(
    export_without_twin: Callable[..., Path], tmp_path: Path
) -> None:
    version_dir = fuse(export_without_twin(), name="other", models_dir=tmp_path / MODELS_DIR_OF_A_USER)

    assert version_dir == tmp_path / MODELS_DIR_OF_A_USER / "other" / "1"
    manifest = Manifest.read(version_dir)
    manifest.check_files(version_dir)
    assert manifest.name == "other"
    assert (version_dir / REPORT).read_text(encoding="utf-8") == manifest.config["name"] == "default"


@pytest.mark.parametrize("place", ["Scaling.centre", "weights", "constants"])
def test_a_model_that_is_rebuilt_wrong_is_not_published(
    place: str, export_without_twin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
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
    version_dir = export_without_twin(scale="standard")

    with pytest.raises(FusionError, match=r"cannot be fused, because in batches of 1 the graph is off by .*; nothing"):
        fuse(version_dir)

    assert [path.name for path in version_dir.parent.iterdir()] == ["1"]


def test_a_version_with_a_twin_is_refused(export_without_twin: Callable[..., Path]) -> None:
    with pytest.raises(FusionError, match=r"2: has a fused twin already; nothing was published\.$"):
        fuse(fuse(export_without_twin()))


def test_a_damaged_version_is_refused(export_without_twin: Callable[..., Path]) -> None:
    version_dir = export_without_twin()
    (version_dir / "saved_model.pb").write_bytes(b"")

    with pytest.raises(ArtifactError, match=r"saved_model\.pb: has changed since the export"):
        fuse(version_dir)


def test_a_version_that_training_did_not_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FusionError, match="its manifest holds no configuration that this release of training reads"):
        fuse(make_version(tmp_path, contract_of()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"units": [3, 4]}, "its variables do not have the shapes that its layers need"),
        ({"units": [4, 3, 2]}, "its variables are not those that its configuration needs"),
        ({"scale": "standard"}, "its graph holds no constant centre/Const"),
    ],
)
def test_a_manifest_with_the_configuration_of_another_model_is_refused(
    change: dict[str, Any], reason: str, export_without_twin: Callable[..., Path]
) -> None:
    version_dir = export_without_twin()
    manifest = Manifest.read(version_dir)
    other = manifest.model_copy(update={"config": manifest.config | change})
    (version_dir / MANIFEST_FILE).write_text(other.model_dump_json())

    with pytest.raises(FusionError, match=reason):
        fuse(version_dir)


def test_what_cannot_be_written_leaves_nothing(
    export_without_twin: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    version_dir = export_without_twin()
    monkeypatch.setattr(fusing, "write_twin", fail)

    with pytest.raises(ExportError, match=r"No space left on device.*nothing was published"):
        fuse(version_dir)

    assert [path.name for path in version_dir.parent.iterdir()] == ["1"]


FOREIGN = {
    "lstm, dropout": (
        lambda: sequential(layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.LSTM(3), layers.Dense(1)),
        (1, 1),
    ),
    "gru": (lambda: sequential(layers.GRU(4), layers.Dense(3)), (3, 1)),
    "rnn, reshaped": (lambda: sequential(layers.SimpleRNN(2), layers.Dense(6), layers.Reshape((3, 2))), (3, 2)),
    "both directions": (
        lambda: sequential(
            layers.Bidirectional(layers.GRU(4, return_sequences=True)),
            layers.Bidirectional(layers.GRU(3)),
            layers.Dense(2),
        ),
        (2, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "save", [tf.saved_model.save, lambda model, folder: model.export(folder, verbose=False)], ids=["save", "export"]
)
@pytest.mark.parametrize(("make_model", "forecast_shape"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_plain_keras_model_becomes_a_version(
    make_model: Callable[[], keras.Model],
    forecast_shape: tuple[int, int],
    save: Callable[[keras.Model, str], None],
    tmp_path: Path,
) -> None:
    model = make_model()
    saved_dir = save_foreign(model, tmp_path / "notebook", save)

    version_dir = fuse(saved_dir, models_dir=tmp_path / "models")

    assert version_dir == tmp_path / "models" / "notebook" / "1"
    contract = Manifest.read(version_dir).contract
    assert (contract.window_shape, contract.forecast_shape) == ((5, 2), forecast_shape)
    windows = np.random.default_rng(1).normal(0, 1, (9, 5, 2)).astype(np.float32)
    expected = np.asarray(model(windows)).reshape(9, *forecast_shape)
    for forecasts in forecasts_of(version_dir, windows):
        np.testing.assert_allclose(forecasts, expected, rtol=0, atol=2e-6)


def test_the_manifest_of_a_foreign_model_invents_nothing(tmp_path: Path) -> None:
    model = sequential(layers.LSTM(3), layers.Dense(1))
    saved_dir = save_foreign(model, tmp_path / "notebook")

    version_dir = fuse(saved_dir, models_dir=tmp_path)

    manifest, golden = Manifest.read(version_dir), Golden.load(version_dir)
    assert manifest.contract.feature_names == ("x0", "x1")
    assert manifest.contract.target_names == ("y0",)
    assert {(feature.unit, feature.minimum, feature.maximum) for feature in manifest.contract.features} == {(None,) * 3}
    assert manifest.data.model_dump(exclude_defaults=True) == {"source": MADE_ELSEWHERE}
    assert (manifest.config, manifest.scores, manifest.verdict) == ({}, (), "Unknown: made elsewhere.")
    expected = np.asarray(model(golden.windows))[:, None]
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
        "a forecast after every one of its .* take return_sequences=True from its last recurrent layer",
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
