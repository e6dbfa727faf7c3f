"""Mistakes of shape are told with what came, what was expected and the line that helps; and the line does help."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from app.manifest import Manifest
from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.errors import ShapeError
from training.fit import fit
from training.fusion import fuse
from training.mistakes import assemble
from training.model import build_model
from training.windows import Dataset, Part, slide

PART = part_of(waves())
WINDOWS, TARGETS, HISTORY = PART.windows, PART.targets, PART.history
ONE_FEATURE = part_of(waves(columns=1))


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(ShapeError) as caught:
        make()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_windows_of_two_axes_are_refused_with_the_line_that_adds_the_third() -> None:
    flat = ONE_FEATURE.windows[..., 0]
    text = refusal(lambda: Part(flat, ONE_FEATURE.targets, ONE_FEATURE.history))
    assert text.startswith(f"windows: expected (windows, steps, features), got ({len(flat)}, 6); ")
    assert "windows = windows[..., np.newaxis]" in text
    assert Part(flat[..., np.newaxis], ONE_FEATURE.targets, ONE_FEATURE.history).windows.shape == (len(flat), 6, 1)


def test_a_bare_series_is_refused_with_the_line_that_cuts_it() -> None:
    series = waves(columns=1)[:, 0].astype(np.float32)
    text = refusal(lambda: Part(series, ONE_FEATURE.targets, ONE_FEATURE.history))
    assert "got (120,); windows = training.windows.slide(series[:, np.newaxis], steps)" in text
    assert slide(series[:, np.newaxis], 6)[: len(ONE_FEATURE.windows)].tolist() == ONE_FEATURE.windows.tolist()


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"windows": WINDOWS[np.newaxis]}, ("windows: expected", "windows.reshape(-1, *windows.shape[-2:])")),
        ({"targets": TARGETS[:, 0, 0]}, ("targets: expected", "targets[:, np.newaxis, np.newaxis]")),
        ({"targets": TARGETS[..., 0]}, ("targets: expected", "targets[..., np.newaxis]")),
        ({"history": HISTORY[..., 0]}, ("history: expected", "history[..., np.newaxis]")),
        ({"targets": TARGETS[1:]}, (f"{len(WINDOWS)} windows and {len(WINDOWS) - 1} targets", "cut_training(")),
        ({"history": HISTORY[:, 2:]}, ("at least the window's 6 steps", "slide(targets, 6)")),
        ({"history": np.concatenate([HISTORY] * 2, axis=2)}, ("the 1 columns of the targets",)),
    ],
)
def test_arrays_that_make_no_part_are_refused(changes: dict[str, Any], facts: tuple[str, ...]) -> None:
    text = refusal(lambda: replace(PART, **changes))
    for fact in facts:
        assert fact in text


def test_names_must_fit_the_columns() -> None:
    dataset = dataset_of(PART)
    text = refusal(lambda: replace(dataset, feature_names=("a", "b", "c")))
    assert "expected 3 in the last axis, one for each of feature_names (a, b, c)" in text
    swapped = replace(PART, windows=WINDOWS.transpose(0, 2, 1))
    assert "windows.transpose(0, 2, 1)" in refusal(lambda: Dataset(("a", "b"), ("a",), swapped, swapped, swapped))
    assert "target_names" in refusal(lambda: replace(dataset, target_names=("a", "b")))


def test_parts_must_be_cut_alike() -> None:
    text = refusal(lambda: replace(dataset_of(PART), test=part_of(waves(), steps=5)))
    assert "windows of the test part: expected (any, 6, 2) as in the training part, got (" in text


@pytest.mark.parametrize(
    ("other", "remedy"),
    [
        (part_of(waves(columns=3)), "build the model for these features"),
        (part_of(waves(), steps=8), "training.windows.slide(rows, 6)"),
        (part_of(waves(columns=6), steps=2), "windows = windows.transpose(0, 2, 1)"),
        (part_of(waves(), horizon=1), "build the model for these targets"),
    ],
)
def test_a_fit_on_other_windows_than_the_model_takes_is_refused(other: Part, remedy: str) -> None:
    config = config_of()
    model = build_model(config, dataset_of(PART))
    assert remedy in refusal(lambda: fit(model, config, other, None))
    assert remedy in refusal(lambda: fit(model, config, PART, other))


def test_a_layer_without_return_sequences_is_named_with_the_line_that_gives_it() -> None:
    text = refusal(lambda: assemble([layers.LSTM(4, name="first"), layers.GRU(3, name="second")], (6, 2)))
    assert text == (
        "layer 2 (second): expected (batch, steps, features), got (batch, 4) from first; "
        "let first hand on every step: LSTM(4, return_sequences=True)"
    )
    model = assemble([layers.LSTM(4, return_sequences=True), layers.GRU(3), layers.Dense(1)], (6, 2))
    assert model(WINDOWS[:5]).shape == (5, 1)


def test_the_same_of_a_layer_that_reads_in_both_directions_and_behind_a_dropout() -> None:
    both = layers.Bidirectional(layers.SimpleRNN(4), name="both")
    text = refusal(lambda: assemble([both, layers.Dropout(0.1, name="pause"), layers.LSTM(4)], (6, 2)))
    assert "got (batch, 8) from pause; let both hand on every step: SimpleRNN(4, return_sequences=True)" in text


def test_the_same_of_a_layer_around_a_cell() -> None:
    around = layers.RNN(layers.LSTMCell(4), name="around")
    text = refusal(lambda: assemble([around, layers.LSTM(3)], (6, 2)))
    assert text.endswith("let around hand on every step: RNN(cell, return_sequences=True)")


def test_a_stack_is_fused_once_it_is_exported(tmp_path: Path) -> None:
    stack = [layers.LSTM(4, return_sequences=True), layers.Dropout(0.1), layers.LSTM(3), layers.Dense(1)]
    assemble(stack, (6, 2)).export(tmp_path / "stack", verbose=False)
    version_dir = fuse(tmp_path / "stack", models_dir=tmp_path / "models")
    assert Manifest.read(version_dir).contract.window_shape == (6, 2)


def test_steps_that_are_dropped_otherwise_are_told_too() -> None:
    assert "such as Flatten" in refusal(lambda: assemble([layers.Flatten(), layers.LSTM(4)], (6, 2)))
    assert "got (6,); windows of one feature" in refusal(lambda: assemble([layers.LSTM(4)], (6,)))


def test_a_stack_is_that_of_keras() -> None:
    keras.utils.set_random_seed(1)
    ours = assemble([layers.LSTM(4, return_sequences=True), layers.LSTM(3), layers.Dense(2)], (6, 2))
    keras.utils.set_random_seed(1)
    theirs = keras.Sequential(
        [keras.Input((6, 2)), layers.LSTM(4, return_sequences=True), layers.LSTM(3), layers.Dense(2)]
    )
    np.testing.assert_array_equal(ours(WINDOWS[:3]), theirs(WINDOWS[:3]))
