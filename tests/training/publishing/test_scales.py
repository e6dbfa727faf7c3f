"""The service takes every version that training makes, however odd the series: its scales fit its golden rows."""

from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.arrays import Array, Inputs
from app.engines.choice import load_engine
from app.version.golden import Golden, with_allowed_scales
from app.version.manifest import Manifest
from tests.training.publishing.models import model_of
from tests.training.tiny import config_of, dataset_of
from training.config import Scale
from training.data.windows import Dataset, cut_judged, cut_training
from training.network.linear import Linear
from training.network.model import linear_model
from training.publishing.export import export, make_contract
from training.publishing.parity import record_golden

STEPS, HORIZON, TRAINING_ROWS = 6, 2, 90
ROW = np.arange(120.0)
WAVE = np.sin(ROW / 5)
Series = NDArray[np.float64]


def spike(row: int, size: float = 1e6) -> Series:
    return np.where(row == ROW, size, 0.0)


ODD = {
    "far from zero": 1e7 + WAVE,
    "tiny": 1e-20 * WAVE,
    "huge": 1e30 * WAVE,
    "trend": 1e4 * ROW,
    "one large row": WAVE + spike(40),
    "nothing but the last row that is learnt": spike(TRAINING_ROWS - 1),
    "now and then": np.where(ROW % 17 == 0, 5.0, 0.0),
    "a jump at the end of training": np.where(ROW > TRAINING_ROWS - 3, 1e5, 1.0),
}


def dataset(targets: Series, features: Series | None = None) -> Dataset:
    """A series of which the first 90 rows are for training, forecast from itself or from another series."""
    columns = (targets if features is None else features).astype(np.float32)[:, None]
    outputs = targets.astype(np.float32)[:, None]
    train = cut_training(columns[:TRAINING_ROWS], outputs[:TRAINING_ROWS], STEPS, HORIZON)
    test = cut_judged(columns, outputs, STEPS, HORIZON, TRAINING_ROWS)
    return dataset_of(train, test, targets=("a",) if features is None else ("b",))


@pytest.mark.parametrize("scale", ["last", "standard"])
@pytest.mark.parametrize("series", ODD.values(), ids=ODD.keys())
def test_a_version_of_an_odd_series_is_taken(series: Series, scale: Scale, tmp_path: Path) -> None:
    config = config_of(units=(3,), scale=scale, models_dir=tmp_path)
    given = dataset(series)
    assert_taken(export(model_of(config, given), config, given, (), ""))


UNFORESEEABLE = np.random.default_rng(3).choice([-1e6, 1e6], len(ROW))


@pytest.mark.parametrize("features", [WAVE, 0 * ROW], ids=["told nothing", "shown nothing"])
def test_a_version_of_a_target_that_nothing_foretells_is_taken(features: Series, tmp_path: Path) -> None:
    config = config_of(units=(3,), models_dir=tmp_path)
    given = dataset(UNFORESEEABLE, features)
    assert_taken(export(model_of(config, given), config, given, (), ""))


@pytest.mark.parametrize("forecast", [0.0, 1.0])
def test_a_version_that_always_answers_the_same_is_taken(forecast: float, tmp_path: Path) -> None:
    given = dataset(UNFORESEEABLE, WAVE)
    linear = Linear(
        name="always the same",
        weights=np.zeros((STEPS, HORIZON), np.float32),
        bias=np.full(HORIZON, forecast, np.float32),
        selection=np.zeros((1, 1), np.float32),
        centre=np.zeros(1, np.float32),
    )
    model = linear_model(linear, (STEPS, 1), (HORIZON, 1))
    version_dir = export(model, config_of(models_dir=tmp_path), given, (), "")
    assert_taken(version_dir)
    assert Manifest.read(version_dir).contract.target_scales == (1000.0,), "cut to what the golden rows allow"


def assert_taken(version_dir: Path) -> None:
    manifest = Manifest.read(version_dir)
    manifest.check_files(version_dir)
    golden = Golden.load(version_dir, manifest.contract)
    assert manifest.has_twin, manifest.no_twin
    load_engine("onnx", version_dir, manifest, golden, max_windows=1, threads=1)


def test_the_scale_of_a_usual_series_is_its_standard_deviation() -> None:
    given = dataset(50 + WAVE)
    contract = make_contract(given)
    golden = record_golden(InMemory(model_of(config_of(units=(3,)), given)), contract, given.test.inputs)
    assert with_allowed_scales(contract, golden) == contract
    assert contract.target_scales == pytest.approx([given.train.targets.std()], rel=1e-4)


class InMemory:
    """A model in memory as an engine."""

    name, remark, is_steady = "in memory", "", True

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def warm_up(self) -> None:
        """Nothing is slow."""

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray(self._model(inputs.windows, training=False))


size = st.sampled_from([0.0, 1e-20, 1e-3, 1.0, 1e6, 1e25])


@st.composite
def series(draw: st.DrawFn) -> Series:
    """Level, trend, waves, noise, zeros and spikes of any size, each of them anywhere."""
    noise = np.random.default_rng(draw(st.integers(0, 99))).normal(size=len(ROW))
    values = draw(size) + draw(size) * ROW + draw(size) * WAVE + draw(size) * noise
    for row in draw(st.lists(st.sampled_from([0, 40, TRAINING_ROWS - 1, TRAINING_ROWS, len(ROW) - 1]), max_size=2)):
        values = values + spike(row, draw(size))
    return np.where(ROW % draw(st.integers(1, 20)) == 0, values, draw(st.sampled_from([0, 1])) * values)


@settings(max_examples=40)
@given(series(), st.none() | series(), st.sampled_from(["last", "standard", "window"]))
def test_the_service_takes_the_scales_of_any_series(targets: Series, features: Series | None, scale: Scale) -> None:
    given = dataset(targets, features)
    assume(np.ptp(given.train.targets) > 0)  # training refuses a target that never changes
    contract = make_contract(given)
    golden = record_golden(InMemory(model_of(config_of(units=(3,), scale=scale), given)), contract, given.test.inputs)
    assume(np.isfinite(golden.forecasts).all())
    with TemporaryDirectory() as folder:
        golden.save(Path(folder))
        Golden.load(Path(folder), with_allowed_scales(contract, golden))
