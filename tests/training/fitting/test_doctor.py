"""The doctor: each cause of "loss: nan", provoked for real, is found and named with its place and its remedy."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.config import TrainingConfig
from training.data.provenance import Provenance
from training.data.windows import Dataset, Part
from training.errors import ConfigError, DataError, TrainingError
from training.fitting.doctor import Finding, Rows, examine, examine_fitted
from training.fitting.fit import RETRIES, Epoch, History, Listener, fit
from training.network.model import build_model

STEPS = 6
SOUND = dataset_of(part_of(waves(90)))


class Ear(Listener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def noticed(self, sentence: str) -> None:
        self.sentences.append(sentence)


def with_value(value: float, row: int, column: int = 1, rows: int = 90) -> Part:
    """Waves with one cell replaced."""
    values = waves(rows)
    values[row, column] = value
    return part_of(values)


def causes(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.cause for finding in findings]


def run(config: TrainingConfig, dataset: Dataset = SOUND, listener: Listener | None = None) -> tuple[Any, History]:
    model = build_model(config, SOUND)
    return model, fit(model, config, dataset.train, dataset.validation, listener)


# Before


def test_sound_data_and_settings_are_not_talked_about() -> None:
    assert examine(config_of(), SOUND) == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_by_column_part_and_row(value: float) -> None:
    dataset = dataset_of(with_value(value, row=40))

    # The window that starts at row 35 is the first to hold row 40, as its last step.
    with pytest.raises(DataError, match=rf"column 'b' is {value} at row 40 \(step 6 of window 35 of the training part"):
        examine(config_of(), dataset)


def test_a_value_that_is_not_finite_is_found_in_every_part() -> None:
    bad = with_value(np.nan, row=20, rows=40)

    for name in ("validation", "test"):
        parts: dict[str, Any] = {name: bad}
        dataset = replace(SOUND, **parts, provenance=Provenance(training_rows=90, validation_rows=34))
        first_row = {"validation": 90, "test": 124}[name] - STEPS
        with pytest.raises(DataError, match=rf"column 'b' is nan at row {first_row + 20} \(.*the {name} part"):
            examine(config_of(), dataset)


def test_a_target_that_is_not_finite_is_named() -> None:
    values = waves(90)
    rows = values.astype(np.float32)
    targets = rows[:, :1].copy()
    targets[89] = np.nan  # after the last window, so in no window
    part = part_of(values)
    broken = Part(part.windows, np.stack([targets[i + STEPS : i + STEPS + 2] for i in range(83)]), part.history)

    with pytest.raises(DataError, match=r"column 'a' is nan at row 89 \(step 2 after window 82"):
        examine(config_of(), dataset_of(broken, SOUND.validation))


def test_a_constant_column_is_noted_once() -> None:
    values = waves(90)
    values[:, 1] = 3
    dataset = dataset_of(part_of(values))

    [finding] = examine(config_of(), dataset)

    assert finding.cause == "constant column"
    assert "feature 'b' never changes" in finding.sentence
    assert examine(config_of(), dataset.with_notices(finding.sentence)) == ()


def test_columns_that_nothing_scales_are_noted() -> None:
    values = waves(90)
    values[:, 1] *= 1e6
    dataset = dataset_of(part_of(values))

    unscaled, uneven = examine(config_of(scale="none"), dataset)

    assert "column 'b' as it is, up to 5" in unscaled.sentence
    assert re.search(r"'b' spreads [\d,]{7,} times as wide as 'a'", uneven.sentence)
    assert examine(config_of(scale="standard"), dataset) == ()


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_extreme_value_is_noted_with_its_place(part: str) -> None:
    parts: dict[str, Any] = {part: with_value(-4e5, row=40)}
    dataset = replace(SOUND, **parts, provenance=Provenance(training_rows=90))

    [finding] = examine(config_of(), dataset)

    row = 40 if part == "train" else 90 - STEPS + 40
    assert finding.cause == "extreme value"
    assert f"column 'b' is -4e+05 at row {row} (" in finding.sentence


def test_rows_are_counted_over_the_stride() -> None:
    part = with_value(np.nan, row=40)
    strided = Part(part.windows[::5], part.targets[::5], part.history[::5])

    with pytest.raises(DataError, match=r"at row 40 \(step 6 of window 7 "):
        examine(config_of(stride=5), dataset_of(strided))


@pytest.mark.parametrize(("loss", "value"), [("mape", 0.0), ("msle", -1.0), ("msle", -3.0)])
@pytest.mark.parametrize("output", ["last", "sequence"])
def test_a_loss_that_cannot_be_taken_is_refused_before_training(loss: Any, value: float, output: Any) -> None:
    dataset = dataset_of(with_value(value, row=40, column=0))

    with pytest.raises(
        ConfigError, match=rf"--loss {loss} .* column 'a' at row 40 \(.* is {value:g}; use --loss huber"
    ):
        examine(config_of(loss=loss, output=output), dataset)


def test_such_a_loss_is_refused_for_the_validation_rows_too() -> None:
    dataset = replace(SOUND, validation=with_value(0.0, row=20, column=0), provenance=Provenance(training_rows=90))

    with pytest.raises(ConfigError, match=r"at row 104 \(.*the validation part"):
        examine(config_of(loss="mape"), dataset)


@pytest.mark.parametrize("loss", ["mape", "msle"])
def test_such_a_loss_learns_where_it_can_be_taken(loss: Any) -> None:
    config = config_of(loss=loss, epochs=5, learning_rate=0.02)
    examine(config, SOUND)

    _, history = run(config)

    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.incidents == ()


@pytest.mark.parametrize("loss", ["mape", "msle"])
def test_losses_on_raw_values_are_what_their_names_say(loss: Any) -> None:
    model, history = run(config_of(loss=loss, epochs=1))
    forecasts = np.asarray(model(SOUND.validation.windows), np.float64)
    actual = SOUND.validation.targets.astype(np.float64)

    shares = np.abs((forecasts - actual) / actual)
    logarithms = np.square(np.log1p(forecasts) - np.log1p(actual))

    by_hand = shares.mean() if loss == "mape" else logarithms.mean()
    assert history.epochs[0].validation_loss == pytest.approx(by_hand, rel=1e-3)


def test_relu_over_many_steps_and_a_high_rate_are_noted() -> None:
    long = dataset_of(part_of(waves(120), steps=40))

    assert causes(examine(config_of(activation="relu"), SOUND)) == []
    assert causes(examine(config_of(activation="relu"), long)) == ["unsafe activation"]
    assert causes(examine(config_of(learning_rate=0.2), SOUND)) == ["high rate"]


# During


def test_a_value_that_is_not_finite_stops_the_fit_at_once_and_leaves_the_weights() -> None:
    config = config_of()
    model = build_model(config, SOUND)
    before = model.get_weights()
    ear = Ear()

    with pytest.raises(TrainingError, match=r"training loss .* epoch 1, batch \d .*feature 2 is nan at row 40 .*\(1\)"):
        fit(model, config, with_value(np.nan, row=40), SOUND.validation, ear)

    assert ear.sentences == []  # smaller steps would not have helped
    for one, same in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, same)


def test_columns_are_named_where_the_configuration_names_them() -> None:
    config = config_of(features=("load", "temp"), target=("load",))

    with pytest.raises(TrainingError, match="column 'temp' is nan"):
        fit(build_model(config, SOUND), config, with_value(np.nan, row=40), None)

    targets = SOUND.train.targets.copy()
    targets[5, 0] = np.nan
    with pytest.raises(TrainingError, match=r"target 'load' is nan at row 11 \(step 1 after window 5 of the training"):
        fit(build_model(config, SOUND), config, replace(SOUND.train, targets=targets), None)


def test_a_value_in_the_validation_part_alone_is_found_there() -> None:
    with pytest.raises(
        TrainingError,
        match=r"validation loss .* in epoch 1 \(windows 35 to 40 of the validation part\): .* at step 6 of window 35",
    ):
        run(config_of(), replace(SOUND, validation=with_value(np.nan, row=40)))


@pytest.mark.parametrize("validated", [True, False])
def test_a_rate_that_explodes_is_halved_three_times_and_then_told(validated: bool) -> None:
    config = config_of(learning_rate=8e30, loss="mse", epochs=20, patience=20)
    model = build_model(config, SOUND)
    before = model.get_weights()
    ear = Ear()

    with pytest.raises(TrainingError) as stop:
        fit(model, config, SOUND.train, SOUND.validation if validated else None, ear)

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
        fit(build_model(config, SOUND), config, SOUND.train, None)


def test_an_incident_is_survived_and_written_down() -> None:
    """The forecasts of the first windows would fall below -1 if the first steps were as large as the rate says."""
    rows = np.random.default_rng(0).normal(-0.9, 0.03, (90, 1)).clip(-0.98, -0.8)
    dataset = dataset_of(part_of(rows))
    config = config_of(loss="msle", scale="standard", learning_rate=1.0, epochs=6, patience=6)
    model = build_model(config, dataset)
    ear = Ear()

    history = fit(model, config, dataset.train, dataset.validation, ear)

    assert 1 <= len(history.incidents) <= RETRIES
    assert [incident.sentence for incident in history.incidents] == ear.sentences
    incident = history.incidents[0]
    assert "takes the logarithm of one plus it" in incident.cause
    assert re.fullmatch(r"windows [\d, ]+ and 11 more, rows \d+ to \d+", incident.rows)
    assert "half the rate (0.5) and half the clip (0.5)" in incident.remedy
    assert [epoch.number for epoch in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert examine_fitted(model, dataset) == ()


def test_extreme_values_are_blamed_where_the_windows_explode_by_themselves() -> None:
    config = config_of(scale="none", loss="mse")
    huge = dataset_of(with_value(1e30, row=40, column=0))

    with pytest.raises(TrainingError, match=r"feature 1 is 1e\+30 at row 40 .* \(1\) --scale standard \(it is none\)"):
        run(config, huge)


def test_relu_is_blamed_where_it_multiplies_beyond_all_bounds() -> None:
    dataset = dataset_of(part_of(waves(90), steps=60))
    config = config_of(activation="relu", cell="rnn", scale="standard", loss="mse", units=(8,))
    model = build_model(config, dataset)
    cell = model.get_layer("recurrent_1")
    inputs, recurrent, bias = cell.get_weights()
    cell.set_weights([np.abs(inputs), 3 * np.abs(recurrent), bias + 1])

    with pytest.raises(TrainingError, match=r"relu has no bound, and 60 steps .* \(1\) --activation tanh"):
        fit(model, config, dataset.train, dataset.validation)


def test_a_gradient_that_explodes_at_a_modest_rate_is_named() -> None:
    dataset = dataset_of(part_of(waves(60), steps=20))
    config = config_of(cell="rnn", scale="standard", units=(8,))
    model = build_model(config, dataset)
    model.get_layer("head").set_weights([np.full((8, 2), 1e25, np.float32), np.zeros(2, np.float32)])

    with pytest.raises(
        TrainingError, match=r"the gradient is not a finite number .*gradient exploded: its norm is inf, .*--window 10"
    ):
        fit(model, config, dataset.train, None)


def test_norms_are_logged_and_a_growing_one_is_told_once() -> None:
    class Watcher(Ear):
        def epoch_done(self, epoch: Epoch) -> None:
            assert 0 < epoch.gradient_norm <= epoch.largest_norm

    ear = Watcher()
    _, history = run(config_of(learning_rate=5, loss="mse", epochs=6, patience=6, batch_size=83), listener=ear)

    assert len(history.epochs) == 6
    assert len([sentence for sentence in ear.sentences if "the gradient grows" in sentence]) == 1


def test_calm_fits_are_not_talked_about() -> None:
    ear = Ear()
    _, history = run(config_of(epochs=8, learning_rate=0.02), listener=ear)

    assert (ear.sentences, history.incidents) == ([], ())


# After


def test_a_sound_model_is_not_talked_about() -> None:
    model, _ = run(config_of())

    assert examine_fitted(model, SOUND) == ()


def test_forecasts_that_are_not_finite_are_counted_by_part() -> None:
    model, _ = run(config_of(scale="standard"))
    beyond = replace(SOUND, test=with_value(np.nan, row=40))

    with pytest.raises(TrainingError, match="not finite after 6 of 83 windows of the test part, first window 35"):
        examine_fitted(model, beyond)


def test_cells_that_have_died_are_told() -> None:
    """A huge step drives the biases of relu cells below zero, whence nothing brings them back."""
    config = config_of(
        cell="rnn", activation="relu", scale="standard", learning_rate=50, epochs=3, units=(2,), clip=1e-3
    )
    model, _ = run(config)

    assert "dead network" in causes(examine_fitted(model, SOUND))


def test_weights_that_ran_away_are_told() -> None:
    model, _ = run(config_of(learning_rate=1e12, epochs=1))

    assert "runaway weights" in causes(examine_fitted(model, SOUND))


def test_weights_that_are_not_finite_are_told() -> None:
    model = build_model(config_of(), SOUND)
    model.get_layer("head").set_weights([np.full((4, 2), np.nan), np.zeros(2)])

    with pytest.raises(TrainingError, match=r"values that are not finite, first .*head/kernel"):
        examine_fitted(model, SOUND)


def test_batches_are_named_by_windows_and_rows() -> None:
    training = Rows(stride=2, first=0, part="training", steps=6)

    assert training.covered(np.arange(96, 128), 8) == "windows 96 to 127, rows 192 to 261"
    assert training.covered(np.array([9, 3, 7]), 8) == "windows 3, 7, 9, rows 6 to 25"
    assert training.covered(np.array([5]), 8) == "windows 5, rows 10 to 17"
    assert (
        Rows(1, None, "validation", 6, alone=True).covered(np.array([1, 2]), 8)
        == "samples 1 to 2 of the validation part"
    )
