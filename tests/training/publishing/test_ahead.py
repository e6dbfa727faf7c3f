"""Versions that are told what is ahead: SavedModel, golden rows and twin agree, and a baseline takes windows alone."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.testing import assert_array_equal

from app.engines.choice import load_engine
from app.version.golden import Golden, deviation, probe_inputs
from app.version.manifest import Manifest
from tests.training.publishing.models import ahead_of, check, contract_for, manifest_for, model_of
from tests.training.tiny import config_of
from training.config import TrainingConfig
from training.data.windows import Dataset
from training.errors import NotFusable
from training.judging.choice import choose
from training.judging.evaluate import MODEL, evaluate
from training.network.model import Forecaster, build_model, call, serving_model
from training.publishing import export as exporting
from training.publishing.export import export
from training.publishing.fuse import fuse
from training.publishing.rebuild import rebuild_version
from training.publishing.saved_model import save_model
from training.publishing.twin import build_twin

LAGS = (2, 9, 20)

CASES: list[tuple[str, dict[str, Any]]] = [
    # Every cell in one direction and in both, every scale with both inputs, with and without the linear path.
    ("known", {"cell": "lstm", "scale": "last", "skip": True}),
    ("known", {"cell": "gru", "scale": "window", "bidirectional": True}),
    ("known", {"cell": "rnn", "scale": "standard", "skip": True, "lags": LAGS}),
    ("known", {"cell": "lstm", "scale": "none", "units": (3,)}),
    ("calendar", {"cell": "lstm", "scale": "window", "skip": True, "bidirectional": True}),
    ("calendar", {"cell": "gru", "scale": "last", "units": (3,), "activation": "relu"}),
    ("calendar", {"cell": "rnn", "scale": "none", "skip": True, "lags": LAGS}),
    ("calendar", {"cell": "lstm", "scale": "standard", "dropout": 0.1}),
    ("known and calendar", {"cell": "lstm", "scale": "last", "skip": True, "lags": LAGS}),
    ("known and calendar", {"cell": "gru", "scale": "standard", "skip": True, "noise": 0.1}),
    ("known and calendar", {"cell": "rnn", "scale": "window", "skip": True, "lags": LAGS, "bidirectional": True}),
    ("known and calendar", {"cell": "lstm", "scale": "none"}),
]


def made(told: str, options: dict[str, Any]) -> tuple[TrainingConfig, Dataset]:
    config = config_of(**{"units": (4, 3), "lags": "none", "skip": False, "window": 6, **options})
    return config, ahead_of(told, config.chosen_lags)


@pytest.mark.parametrize(("told", "options"), CASES, ids=str)
def test_a_twin_computes_what_keras_does_and_is_the_same_once_it_is_rebuilt(
    told: str, options: dict[str, Any], tmp_path: Path
) -> None:
    config, dataset = made(told, options)
    model = serving_model(model_of(config, dataset))
    contract = contract_for(model, dataset)

    twin = build_twin(model, contract)

    onnx.checker.check_model(twin, full_check=True)
    check(twin, model, contract)

    saved = save_model(model, contract, tmp_path)  # keeps the variables alive
    manifest = manifest_for(config, contract)
    assert build_twin(rebuild_version(manifest, saved.function), contract) == twin


@pytest.mark.parametrize(("told", "options"), [CASES[2], CASES[5], CASES[8], CASES[10]], ids=str)
def test_a_version_is_told_the_same_by_both_engines(told: str, options: dict[str, Any], tmp_path: Path) -> None:
    config, dataset = made(told, {**options, "models_dir": tmp_path})
    model = model_of(config, dataset)

    version_dir = export(serving_model(model), config, dataset, (), "")

    manifest = Manifest.read(version_dir)
    contract = manifest.contract
    assert (manifest.has_twin, manifest.no_twin) == (True, None)
    assert contract.known == (("c", "a") if "known" in told else ())
    assert [phase.name for phase in contract.calendar] == (["hour", "weekday", "yearday"] if "calendar" in told else [])
    assert contract.steps == (20 if "lags" in options else 6)
    golden = Golden.load(version_dir, contract)
    for name, array in dataset.test.inputs.named().items():
        assert_array_equal(golden.inputs.named()[name][0], array[-1])

    inputs = probe_inputs(contract, 9)
    expected = np.asarray(call(model, inputs.named()))
    for engine_name in ("onnx", "tensorflow"):
        engine = load_engine(engine_name, version_dir, manifest, golden, max_windows=9, threads=1)
        assert deviation(engine.predict(inputs), expected, contract.target_scales) <= 1
        assert deviation(engine.predict(golden.inputs), golden.forecasts, contract.target_scales) <= 1


def test_a_version_without_a_twin_is_published_again_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, dataset = made(*CASES[8])

    def refuse(*_: object) -> None:
        raise NotFusable("nobody asked")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "build_twin", refuse)
        here = config.model_copy(update={"models_dir": tmp_path})
        before = export(serving_model(model_of(config, dataset)), here, dataset, (), "")
    assert not Manifest.read(before).has_twin

    after = fuse(before)

    manifest = Manifest.read(after)
    assert manifest.has_twin
    assert manifest.contract == Manifest.read(before).contract
    golden = Golden.load(after, manifest.contract)
    load_engine("onnx", after, manifest, golden, max_windows=1, threads=1)  # which replays the golden rows


def test_a_baseline_in_the_place_of_a_network_takes_windows_alone(tmp_path: Path) -> None:
    config, dataset = made("known and calendar", {"models_dir": tmp_path})
    model = build_model(config, dataset)
    model.set_weights([weights + 3 for weights in model.get_weights()])  # no forecaster at all
    evaluation = evaluate(Forecaster(model), dataset)
    choice = choose(model, evaluation, "best")
    assert choice.scores[0].forecaster != MODEL

    manifest = Manifest.read(export(choice.model, config, dataset, choice.scores, choice.verdict))

    assert manifest.contract.takes_windows_alone
    assert manifest.contract.steps == 6
    assert manifest.has_twin
