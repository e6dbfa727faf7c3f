"""The network: shapes for every configuration, repeatable weights, and forecasts that move with their windows."""

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from app.arrays import Inputs
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.config import Cell, Output, Scale
from training.data.windows import Dataset, cut_training
from training.fitting.fit import fit
from training.judging.baselines import fit_baselines, publishable
from training.network.layers import fit_scaling
from training.network.model import FORECAST_WINDOWS, Forecaster, build_model, serving_model
from training.network.ridge import fit_ridge

ROWS = waves(columns=3).astype(np.float32)
DATASET = dataset_of(part_of(waves()))
WALK = np.random.default_rng(1).normal(0, 1, (400, 1)).cumsum(axis=0)
SEVERAL = dataset_of(cut_training(ROWS[:, :2], ROWS[:, 1:], 6, 3), targets=("b", "x"))
"""Two features; two targets, the second of which is no feature; three rows ahead."""


@pytest.mark.parametrize("units", [(3,), (4, 3, 2)])
@pytest.mark.parametrize(
    ("output", "bidirectional"),
    [("last", False), ("last", True), ("sequence", False)],
    ids=["last", "both", "sequence"],
)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_shapes_of_every_stack(cell: Cell, output: Output, bidirectional: bool, units: tuple[int, ...]) -> None:
    dropout = 0.1 if len(units) > 1 else 0.0
    config = config_of(cell=cell, output=output, bidirectional=bidirectional, units=units, dropout=dropout)

    model = build_model(config, DATASET)

    every_step = (6,) if output == "sequence" else ()
    assert model.input.name == "windows"
    assert model.output.shape == (None, *every_step, 2, 1)
    served = serving_model(model)
    assert served.input.name == "windows"
    assert served.output.shape == (None, 2, 1)


def test_layers_have_fixed_names() -> None:
    model = build_model(config_of(units=(3, 3), dropout=0.1), DATASET)

    names = [layer.name for layer in model.layers]
    assert sorted(names) == sorted(
        ["windows", "centre", "spread", "scale", "recurrent_1", "dropout_1", "recurrent_2", "head", "rows", "forecast"]
    )


def test_served_forecast_of_a_sequence_model_is_the_last_steps() -> None:
    model = build_model(config_of(output="sequence"), DATASET)
    windows = DATASET.train.windows[:3]

    assert_array_equal(serving_model(model)(windows), model(windows)[:, -1])


@pytest.mark.parametrize("scale", ["standard", "window", "last"])
def test_no_step_of_a_sequence_model_sees_later_rows(scale: Scale) -> None:
    model = build_model(config_of(output="sequence", scale=scale), DATASET)
    windows = DATASET.train.windows[:3].copy()
    before = np.asarray(model(windows))
    windows[:, 4:] += 5

    after = np.asarray(model(windows))

    assert_allclose(after[:, :4], before[:, :4], rtol=1e-6)
    assert (np.abs(after[:, 4:] - before[:, 4:]) > 1e-3).all()


@pytest.mark.parametrize("output", ["last", "sequence"])
@pytest.mark.parametrize("scale", ["window", "last"])
def test_forecast_moves_with_its_window(scale: Scale, output: Output) -> None:
    model = serving_model(build_model(config_of(scale=scale, output=output), DATASET))
    windows = DATASET.train.windows[:5]

    assert_allclose(model(windows + 1024), np.asarray(model(windows)) + 1024, atol=2e-3)


def test_same_seed_same_weights_other_seed_other_weights() -> None:
    first, again, other = (build_model(config_of(seed=seed), DATASET).get_weights() for seed in (1, 1, 2))

    for one, same in zip(first, again, strict=True):
        assert_array_equal(one, same)
    assert not np.array_equal(first[0], other[0])


def test_constant_feature_gives_a_finite_forecast() -> None:
    values = waves()
    values[:, 1] = 3
    dataset = dataset_of(part_of(values))

    model = build_model(config_of(), dataset)

    assert np.isfinite(model(dataset.train.windows)).all()
    assert np.isfinite(model(dataset.train.windows * 100)).all()


def test_forecast_of_many_windows_leaves_none_out() -> None:
    model = build_model(config_of(), DATASET)
    windows = np.concatenate([DATASET.train.windows] * 10)[: FORECAST_WINDOWS + 3]

    forecasts = Forecaster(model)(Inputs(windows))

    assert forecasts.shape == (FORECAST_WINDOWS + 3, 2, 1)
    assert_allclose(forecasts[-3:], model(windows[-3:]), rtol=1e-5)


def test_forecast_is_compiled_once_and_follows_the_weights() -> None:
    model = build_model(config_of(), DATASET)
    forecaster, windows = Forecaster(model), DATASET.train.windows
    before = forecaster(Inputs(windows))

    model.set_weights([2 * weights for weights in model.get_weights()])

    assert_allclose(forecaster(Inputs(windows[:7])), model(windows[:7]), rtol=1e-5)
    assert not np.array_equal(forecaster(Inputs(windows)), before)
    assert forecaster._compute.experimental_get_tracing_count() == 1


def test_forecast_of_no_windows_is_empty() -> None:
    assert Forecaster(build_model(config_of(), DATASET))(DATASET.train.inputs[:0]).shape == (0, 2, 1)


def test_model_is_rebuilt_from_its_configuration_and_weights() -> None:
    model = build_model(config_of(scale="window"), DATASET)

    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())

    assert_array_equal(again(DATASET.train.windows), model(DATASET.train.windows))


def test_forget_gate_starts_where_it_is_told() -> None:
    model = build_model(config_of(forget_bias=4), DATASET)

    biases = model.get_layer("recurrent_1").get_weights()[2].reshape(4, -1)

    assert_array_equal(biases, np.array([0, 4, 0, 0], np.float32)[:, None].repeat(biases.shape[1], axis=1))


def test_noise_is_for_training_only() -> None:
    windows = DATASET.train.windows[:3]
    noisy, plain = (build_model(config_of(noise=noise), DATASET) for noise in (0.5, 0.0))
    noisy.set_weights(plain.get_weights())

    assert_array_equal(noisy(windows, training=False), plain(windows, training=False))
    assert not np.array_equal(noisy(windows, training=True), plain(windows, training=True))


@pytest.mark.parametrize("dataset", [DATASET, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize("scale", ["standard", "window", "last", "none"])
def test_with_a_linear_path_the_network_starts_as_the_ridge_autoregression(scale: Scale, dataset: Dataset) -> None:
    model = build_model(config_of(scale=scale, skip=True, units=(4, 3)), dataset)
    windows = dataset.train.windows.astype(np.float64)
    scaling = fit_scaling(dataset, scale, "last")

    forecasts = Forecaster(model)(dataset.train.inputs)

    kernel, bias = fit_ridge(dataset, scaling)
    centre, spread = (np.broadcast_to(each, windows[:, :1].shape) * 1.0 for each in (scaling.centre, scaling.spread))
    if scale == "window":
        centre = windows.mean(axis=1, keepdims=True)
        spread = scaling.spread * np.sqrt(np.mean(((windows - centre) / scaling.spread) ** 2, 1, keepdims=True) + 0.01)
    elif scale == "last":
        centre = windows[:, -1:]
    scaled = ((windows - centre) / spread).reshape(len(windows), -1)
    target_spread = (spread @ scaling.selection + scaling.fixed_spread) * scaling.ratio
    target_centre = centre @ scaling.selection + scaling.fixed_centre
    expected = (scaled @ kernel + bias).reshape(forecasts.shape) * target_spread + target_centre
    assert_allclose(forecasts, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())
    errors = np.abs(expected - dataset.train.targets).mean(axis=(0, 1))
    assert (errors < np.abs(dataset.train.targets - dataset.train.targets.mean(axis=(0, 1))).mean(axis=(0, 1))).all()


@pytest.mark.parametrize(("scale", "rows"), [("standard", waves()), ("last", WALK)])
def test_in_the_scale_that_suits_the_series_that_is_the_baseline(scale: Scale, rows: NDArray[np.float64]) -> None:
    dataset = dataset_of(part_of(rows))
    [*_, baseline] = publishable(fit_baselines(dataset))
    assert (baseline.centre is None) == (scale == "last")

    forecasts = Forecaster(build_model(config_of(skip=True, scale=scale), dataset))(dataset.test.inputs)

    assert_allclose(forecasts, baseline.forecast(dataset.test), rtol=1e-6, atol=1e-5)


def test_both_paths_learn() -> None:
    model = build_model(config_of(skip=True), DATASET)
    before = {layer: model.get_layer(layer).get_weights()[0].copy() for layer in ("recurrent_1", "head", "skip")}

    fit(Forecaster(model), config_of(skip=True), DATASET.train, None)

    for layer, weights in before.items():
        assert not np.array_equal(model.get_layer(layer).get_weights()[0], weights), layer
