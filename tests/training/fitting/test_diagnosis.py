"""Each cause of "loss: nan" in a fit, provoked for real, is named with its place and its remedy."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.training.fitting.fits import SOUND, Ear, fitted, with_value
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.errors import TrainingError
from training.fitting.examine import examine_fitted
from training.fitting.fit import RETRIES, fit
from training.fitting.history import Epoch
from training.network.model import Forecaster, build_model


def test_a_value_that_is_not_finite_stops_the_fit_at_once_and_leaves_the_weights() -> None:
    config = config_of()
    model = build_model(config, SOUND)
    before = model.get_weights()
    ear = Ear()

    with pytest.raises(TrainingError, match=r"training loss .* epoch 1, batch \d .*feature 2 is nan at row 40 .*\(1\)"):
        fit(Forecaster(model), config, with_value(np.nan, row=40), SOUND.validation, ear)

    assert ear.sentences == []  # smaller steps would not have helped
    for one, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, same)


def test_columns_are_named_where_the_configuration_names_them() -> None:
    config = config_of(features=("load", "temp"), target=("load",))

    with pytest.raises(TrainingError, match="column 'temp' is nan"):
        fit(Forecaster(build_model(config, SOUND)), config, with_value(np.nan, row=40), None)

    targets = SOUND.train.targets.copy()
    targets[5, 0] = np.nan
    with pytest.raises(TrainingError, match=r"target 'load' is nan at row 11 \(step 1 after window 5 of the training"):
        fit(Forecaster(build_model(config, SOUND)), config, replace(SOUND.train, targets=targets), None)


def test_a_value_in_the_validation_part_alone_is_found_there() -> None:
    with pytest.raises(
        TrainingError,
        match=r"validation loss .* in epoch 1 \(windows 35 to 40 of the validation part\): .* at step 6 of window 35",
    ):
        fitted(config_of(), replace(SOUND, validation=with_value(np.nan, row=40)))


@pytest.mark.parametrize("validated", [True, False])
def test_a_rate_that_explodes_is_halved_three_times_and_then_told(validated: bool) -> None:
    config = config_of(learning_rate=8e30, loss="mse", epochs=20, patience=20)
    model = build_model(config, SOUND)
    before = model.get_weights()
    ear = Ear()

    with pytest.raises(TrainingError) as stop:
        fit(Forecaster(model), config, SOUND.train, SOUND.validation if validated else None, ear)

    assert "the rate of 8e+30 is too high" in str(stop.value)
    assert "(1) --learning-rate 0.003; (2) --learning-rate auto; (3) --clip 0.1 (it is 1)" in str(stop.value)
    assert len(ear.sentences) == RETRIES
    for sentence, rate, clip in zip(ear.sentences, ("4e+30", "2e+30", "1e+30"), ("0.5", "0.25", "0.12"), strict=True):
        assert f"half the rate ({rate}) and half the clip ({clip})" in sentence
    for one, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, same)


def test_weights_beyond_float32_are_found_though_the_loss_before_them_was_finite() -> None:
    config = config_of(learning_rate=1e39, epochs=1, batch_size=83)  # one step, which no loss follows

    with pytest.raises(
        TrainingError, match=r"weight after the step is not .* batch 1 .*the rate of 1e\+39 is too high"
    ):
        fit(Forecaster(build_model(config, SOUND)), config, SOUND.train, None)


def test_an_incident_is_survived_and_written_down() -> None:
    """The forecasts of the first windows would fall below -1 if the first steps were as large as the rate says."""
    rows = np.random.default_rng(0).normal(-0.9, 0.03, (90, 1)).clip(-0.98, -0.8)
    dataset = dataset_of(part_of(rows))
    config = config_of(loss="msle", scale="standard", learning_rate=1.0, epochs=6, patience=6)
    model = build_model(config, dataset)
    ear = Ear()

    history = fit(Forecaster(model), config, dataset.train, dataset.validation, ear)

    assert 1 <= len(history.incidents) <= RETRIES
    assert [incident.sentence for incident in history.incidents] == ear.sentences
    incident = history.incidents[0]
    assert "takes the logarithm of one plus it" in incident.cause
    assert re.fullmatch(r"windows [\d, ]+ and 11 more, rows \d+ to \d+", incident.rows)
    assert "half the rate (0.5) and half the clip (0.5)" in incident.remedy
    assert [epoch.number for epoch in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert examine_fitted(Forecaster(model), dataset) == ()


def test_extreme_values_are_blamed_where_the_windows_explode_by_themselves() -> None:
    config = config_of(scale="none", loss="mse")
    huge = dataset_of(with_value(1e30, row=40, column=0))

    with pytest.raises(TrainingError, match=r"feature 1 is 1e\+30 at row 40 .* \(1\) --scale standard \(it is none\)"):
        fitted(config, huge)


def test_relu_is_blamed_where_it_multiplies_beyond_all_bounds() -> None:
    dataset = dataset_of(part_of(waves(90), steps=60))
    config = config_of(activation="relu", cell="rnn", scale="standard", loss="mse", units=(8,))
    model = build_model(config, dataset)
    cell = model.get_layer("recurrent_1")
    inputs, recurrent, bias = cell.get_weights()
    cell.set_weights([np.abs(inputs), 3 * np.abs(recurrent), bias + 1])

    with pytest.raises(TrainingError, match=r"relu has no bound, and 60 steps .* \(1\) --activation tanh"):
        fit(Forecaster(model), config, dataset.train, dataset.validation)


def test_a_gradient_that_explodes_at_a_modest_rate_is_named() -> None:
    dataset = dataset_of(part_of(waves(60), steps=20))
    config = config_of(cell="rnn", scale="standard", units=(8,))
    model = build_model(config, dataset)
    model.get_layer("head").set_weights([np.full((8, 2), 1e25, np.float32), np.zeros(2, np.float32)])

    with pytest.raises(
        TrainingError, match=r"the gradient is not a finite number .*gradient exploded: its norm is inf, .*--window 10"
    ):
        fit(Forecaster(model), config, dataset.train, None)


def test_norms_are_logged_and_a_growing_one_is_told_once() -> None:
    class Watcher(Ear):
        def epoch_done(self, epoch: Epoch) -> None:
            assert 0 < epoch.gradient_norm <= epoch.largest_norm

    ear = Watcher()
    _, history = fitted(config_of(learning_rate=5, loss="mse", epochs=6, patience=6, batch_size=83), listener=ear)

    assert len(history.epochs) == 6
    assert len([sentence for sentence in ear.sentences if "the gradient grows" in sentence]) == 1


def test_calm_fits_are_not_talked_about() -> None:
    ear = Ear()
    _, history = fitted(config_of(epochs=8, learning_rate=0.02), listener=ear)

    assert (ear.sentences, history.incidents) == ([], ())
