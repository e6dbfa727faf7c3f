"""A model that is rebuilt from its SavedModel is the model that was saved, whatever it is made of."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from app.arrays import Array
from app.engines.tensorflow import TensorFlowEngine
from app.version.manifest import Contract, Manifest
from tests.training.publishing.models import FOREIGN, LARGE, SAVERS, SEASONAL, manifest_for, model_of, save_foreign
from tests.training.tiny import config_of
from tests.versions import contract_of
from training.config import TrainingConfig
from training.errors import NotFusable
from training.judging.baselines import fit_baselines, publishable
from training.network.model import linear_model, serving_model
from training.publishing.export import make_contract
from training.publishing.rebuild import rebuild_foreign, rebuild_version
from training.publishing.saved_model import save_model
from training.publishing.twin import build_twin

CONTRACT = make_contract(LARGE)


def manifest_of(config: TrainingConfig, contract: Contract = CONTRACT) -> Manifest:
    return manifest_for(config, contract)


@pytest.mark.parametrize(
    "options",
    [  # every scale with every output and with a linear path, every cell in one direction and in both
        {"scale": "standard", "cell": "lstm", "bidirectional": True},
        {"scale": "window", "cell": "gru", "bidirectional": True},
        {"scale": "last", "cell": "rnn", "bidirectional": True},
        {"scale": "none", "cell": "lstm", "units": (4,), "skip": True},
        {"scale": "standard", "output": "sequence", "cell": "gru"},
        {"scale": "window", "output": "sequence", "cell": "lstm", "dropout": 0.2},
        {"scale": "last", "output": "sequence", "cell": "rnn"},
        {"scale": "none", "output": "sequence", "cell": "gru"},
        {"scale": "standard", "skip": True, "cell": "rnn"},
        {"scale": "window", "skip": True, "cell": "lstm", "noise": 0.1, "activation": "relu"},
        {"scale": "last", "skip": True, "cell": "gru"},
    ],
    ids=str,
)
def test_a_model_of_ours_has_the_same_twin_once_it_is_rebuilt(options: dict[str, Any], tmp_path: Path) -> None:
    config = config_of(**{"units": (4, 3), **options})
    model = serving_model(model_of(config, LARGE))

    saved = save_model(model, CONTRACT, tmp_path)  # keeps the variables alive

    rebuilt = rebuild_version(manifest_of(config), saved.function)

    assert build_twin(rebuilt, CONTRACT) == build_twin(model, CONTRACT)


@pytest.mark.parametrize("scale", ["standard", "window", "last", "none"])
def test_a_model_with_lags_has_the_same_twin_once_it_is_rebuilt(scale: str, tmp_path: Path) -> None:
    config = config_of(scale=scale, skip=True, window=6, lags=SEASONAL.lags)
    contract, model = make_contract(SEASONAL), model_of(config, SEASONAL)

    saved = save_model(model, contract, tmp_path)  # keeps the variables alive

    manifest = manifest_of(config).model_copy(update={"contract": contract})
    assert build_twin(rebuild_version(manifest, saved.function), contract) == build_twin(model, contract)


@pytest.mark.parametrize("centre", [None, np.array([50, 51], np.float32)], ids=["last row", "constant"])
@pytest.mark.parametrize("scale", ["window", "last"])
def test_a_baseline_in_the_place_of_a_network_has_the_same_twin_too(
    scale: str, centre: Array | None, tmp_path: Path
) -> None:
    [*_, linear] = publishable(fit_baselines(LARGE))
    baseline = linear_model(replace(linear, centre=centre), CONTRACT.window_shape, CONTRACT.forecast_shape)

    saved = save_model(baseline, CONTRACT, tmp_path)  # keeps the variables alive

    rebuilt = rebuild_version(manifest_of(config_of(scale=scale)), saved.function)

    assert build_twin(rebuilt, CONTRACT) == build_twin(baseline, CONTRACT)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> TensorFlowEngine:
    """The SavedModel of a network of two layers."""
    model = serving_model(model_of(config_of(units=(4, 3)), LARGE))
    return save_model(model, CONTRACT, tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"units": [3, 4]}, "its variables do not have the shapes that its layers need"),
        ({"units": [4, 3, 2]}, "its variables are not those that its configuration needs"),
        ({"scale": "standard"}, "its graph holds no constant centre/Const"),
        ({"cell": "transformer"}, "its manifest holds no configuration that this release of training reads"),
    ],
)
def test_a_manifest_with_the_configuration_of_another_model_is_refused(
    change: dict[str, Any], reason: str, saved: TensorFlowEngine
) -> None:
    manifest = manifest_of(config_of(units=(4, 3)))
    other = manifest.model_copy(update={"config": manifest.config | change})

    with pytest.raises(NotFusable, match=reason):
        rebuild_version(other, saved.function)


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS.keys())
@pytest.mark.parametrize(("make_model", "forecast_shape"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_plain_keras_model_forecasts_the_same_once_it_is_rebuilt(
    make_model: Callable[[], keras.Model],
    forecast_shape: tuple[int, int],
    save: Callable[[keras.Model, str], None],
    tmp_path: Path,
) -> None:
    model = make_model()
    saved = tf.saved_model.load(str(save_foreign(model, tmp_path, save)))  # keeps the variables alive
    horizon, targets = forecast_shape
    contract = contract_of(steps=5, features=("a", "b"), horizon=horizon, targets=targets)
    windows = np.random.default_rng(1).normal(0, 1, (9, 5, 2)).astype(np.float32)

    rebuilt = rebuild_foreign(contract, saved.signatures["serving_default"])

    expected = np.asarray(model(windows)).reshape(9, *forecast_shape)
    np.testing.assert_allclose(rebuilt(windows), expected, rtol=0, atol=2e-6)
