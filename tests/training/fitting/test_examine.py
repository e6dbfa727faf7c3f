"""What may spoil a forecast is found in data, settings and fitted models, and named with place and remedy."""

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from app.version.manifest import Finding, Manifest
from tests.training.fitting.fits import SOUND, STEPS, fitted, with_value
from tests.training.tiny import config_of, dataset_of, part_of, waves, write_csv
from training.data.prepare import prepare
from training.data.provenance import Provenance
from training.data.windows import Part
from training.errors import ConfigError, DataError, TrainingError
from training.fitting.examine import examine, examine_fitted, examine_reach
from training.network.model import Forecaster, build_model
from training.train import train


def kinds(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.kind for finding in findings]


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

    assert finding.kind == "constant_column"
    assert "feature 'b' never changes" in finding.sentence
    assert examine(config_of(), dataset.with_findings(finding)) == ()


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
    assert finding.kind == "extreme_value"
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

    _, history = fitted(config)

    assert history.epochs[-1].loss < history.epochs[0].loss
    assert history.incidents == ()


def test_relu_over_many_steps_and_a_high_rate_are_noted() -> None:
    long = dataset_of(part_of(waves(120), steps=40))

    assert kinds(examine(config_of(activation="relu"), SOUND)) == []
    assert kinds(examine(config_of(activation="relu"), long)) == ["unsafe_activation"]
    assert kinds(examine(config_of(learning_rate=0.2), SOUND)) == ["high_rate"]


@pytest.mark.parametrize(
    ("options", "changes", "remedy"),
    [
        ({}, {}, "use --window 12 or --lags 12"),
        ({"skip": True}, {"lags": (6,)}, "use --window 12 or --lags 12"),
        ({"skip": False, "lags": "none"}, {}, "use --window 12"),
        ({"output": "sequence"}, {}, "use --window 12"),
        ({}, {"target_names": ("elsewhere",)}, "use --window 12"),
    ],
)
def test_a_season_beyond_window_and_lags_is_told_with_what_mends_it(
    options: dict[str, Any], changes: dict[str, Any], remedy: str
) -> None:
    dataset = replace(dataset_of(part_of(waves(columns=1))), period=12, **changes)

    [finding] = examine_reach(config_of(**options), dataset)

    assert finding.kind == "season_out_of_reach"
    assert finding.sentence == (
        "the season of 12 rows is longer than the window of 6, so the model cannot see the season before; " + remedy
    )


def test_a_season_out_of_reach_is_told_by_training_and_kept_in_the_version(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "load.csv", {"load": waves(columns=1)[:, 0]})
    options: dict[str, Any] = {"series": None, "data": data, "target": ("load",), "window": 6, "period": 12}
    config = config_of(**options, skip=False, lags="none", epochs=1, models_dir=tmp_path / "models")
    text = io.StringIO()

    outcome = train(config, prepare(config), Console(file=text, width=300))

    assert "note: the season of 12 rows is longer than the window of 6" in text.getvalue()
    assert "season_out_of_reach" in {finding.kind for finding in Manifest.read(outcome.version_dir).data.findings}


@pytest.mark.parametrize("changes", [{"period": None}, {"period": 6}, {"period": 12, "lags": (12,)}])
def test_a_season_that_is_seen_or_not_there_is_not_talked_about(changes: dict[str, Any]) -> None:
    assert not examine_reach(config_of(), replace(dataset_of(part_of(waves(columns=1))), **changes))


@pytest.fixture(scope="module")
def sound_model() -> keras.Model:
    model, _ = fitted(config_of(scale="standard"))
    return model


def test_a_sound_model_is_not_talked_about(sound_model: keras.Model) -> None:
    assert examine_fitted(Forecaster(sound_model), SOUND) == ()


def test_forecasts_that_are_not_finite_are_counted_by_part(sound_model: keras.Model) -> None:
    beyond = replace(SOUND, test=with_value(np.nan, row=40))

    with pytest.raises(TrainingError, match="not finite after 6 of 83 windows of the test part, first window 35"):
        examine_fitted(Forecaster(sound_model), beyond)


def test_cells_that_have_died_are_told() -> None:
    """A huge step drives the biases of relu cells below zero, whence nothing brings them back."""
    config = config_of(
        cell="rnn", activation="relu", scale="standard", learning_rate=50, epochs=3, units=(2,), clip=1e-3
    )
    model, _ = fitted(config)

    assert "dead_network" in kinds(examine_fitted(Forecaster(model), SOUND))


def test_weights_that_ran_away_are_told() -> None:
    model, _ = fitted(config_of(learning_rate=1e12, epochs=1))

    assert "runaway_weights" in kinds(examine_fitted(Forecaster(model), SOUND))


def test_weights_that_are_not_finite_are_told() -> None:
    model = build_model(config_of(), SOUND)
    model.get_layer("head").set_weights([np.full((4, 2), np.nan), np.zeros(2)])

    with pytest.raises(TrainingError, match=r"values that are not finite, first .*head/kernel"):
        examine_fitted(Forecaster(model), SOUND)
