"""Mistakes of shape are told with what came, what was expected and the line that helps; and the line does help."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import config_of, dataset_of, part_of, waves
from training.data.windows import Dataset, Part, slide
from training.errors import ShapeError
from training.fitting.fit import fit
from training.network.model import Forecaster, build_model

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
    assert "got (120,); windows = training.data.windows.slide(series[:, np.newaxis], steps)" in text
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
        (part_of(waves(), steps=8), "training.data.windows.slide(rows, 6)"),
        (part_of(waves(columns=6), steps=2), "windows = windows.transpose(0, 2, 1)"),
        (part_of(waves(), horizon=1), "build the model for these targets"),
    ],
)
def test_a_fit_on_other_windows_than_the_model_takes_is_refused(other: Part, remedy: str) -> None:
    config = config_of()
    model = build_model(config, dataset_of(PART))
    assert remedy in refusal(lambda: fit(Forecaster(model), config, other, None))
    assert remedy in refusal(lambda: fit(Forecaster(model), config, PART, other))
