"""A stack of one's own layers is put together, or told what it lacks."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

from app.version.manifest import Manifest
from tests.training.data.test_checks import refusal
from tests.training.tiny import part_of, waves
from training.network.stack import assemble
from training.publishing.fuse import fuse

WINDOWS = part_of(waves()).windows


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
