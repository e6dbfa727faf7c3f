"""Advice on shapes: the lines that are told do what they say."""

import numpy as np
import pytest

from app.arrays import Array
from app.payloads.advice import advise, advise_on_tensor
from tests.versions import contract_of, some_windows

CONTRACT = contract_of(steps=5)
WINDOW_SHAPE = CONTRACT.window_shape
WINDOWS = some_windows(3, CONTRACT)


@pytest.mark.parametrize(
    ("wrong", "batched"),
    [
        (WINDOWS[0], True),
        (WINDOWS[:1], False),
        (WINDOWS[0].T, False),
        (WINDOWS.transpose(0, 2, 1), True),
        (WINDOWS[0].ravel(), False),
        (WINDOWS.reshape(3, 10), True),
        (WINDOWS[np.newaxis], True),
    ],
)
def test_the_line_makes_what_came_into_what_is_expected(wrong: Array, batched: bool) -> None:
    advice = advise(wrong.shape, WINDOW_SHAPE, batched=batched)
    assert advice is not None
    line = advice.split(": ")[-1].split(" in NumPy ")[-1]
    made = eval(line, {"np": np}, {"window": wrong, "windows": wrong})  # noqa: S307 (our own line)
    expected = WINDOWS if batched and len(made) == 3 else WINDOWS[:1] if batched else WINDOWS[0]
    np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("batched", [False, True])
def test_too_many_steps_are_cut_to_the_last(batched: bool) -> None:
    rows = np.concatenate([WINDOWS - 1, WINDOWS], axis=1)
    wrong = rows if batched else rows[0]
    advice = advise(wrong.shape, WINDOW_SHAPE, batched=batched)
    assert advice is not None
    made = eval(advice.split(": ", 1)[1], {}, {"window": wrong, "windows": wrong})  # noqa: S307
    np.testing.assert_array_equal(made, WINDOWS if batched else WINDOWS[0])


@pytest.mark.parametrize("shape", [(), (7,), (0, 5, 2), (3, 7, 4), (2, 3, 4, 5), (9, 9)])
def test_no_advice_is_given_on_what_cannot_be_guessed(shape: tuple[int, ...]) -> None:
    for batched in (False, True):
        assert advise(shape, WINDOW_SHAPE, ("load", "temp"), batched=batched) is None


def test_one_feature_may_stand_without_its_axis() -> None:
    assert "window[np.newaxis]" in str(advise((5,), (5, 1), batched=True))
    assert "windows[..., np.newaxis]" in str(advise_on_tensor((3, 5), (5, 1)))
    assert "POST /predict/batch" in str(advise((3, 5), (5, 1), batched=False))


@pytest.mark.parametrize("wrong", [np.ones(5), np.ones((3, 5))])
def test_a_tensor_of_one_feature_gets_its_axis_back(wrong: Array) -> None:
    advice = advise_on_tensor(wrong.shape, (5, 1))
    assert advice is not None
    made = eval(advice.split(": ")[-1], {"np": np}, {"window": wrong, "windows": wrong})  # noqa: S307
    assert made.shape[1:] == (5, 1)


@pytest.mark.parametrize("features", [1, 2])
@pytest.mark.parametrize(("steps", "line"), [(7, "keep the last 5 steps: window[-5:]"), (3, "start 2 steps earlier")])
def test_a_single_window_of_another_length_is_no_batch(features: int, steps: int, line: str) -> None:
    advice = str(advise((steps, features), (5, features), batched=True))
    assert advice.startswith(f"this is one window of {steps} steps; {line}")
    assert advice.endswith("make it a batch of one: [window]")


def test_tensors_that_are_no_windows_get_no_advice() -> None:
    assert advise_on_tensor((3, 2), (3,)) is None
    assert advise_on_tensor((3, 5, 2), (5, 2)) is None


def test_names_that_would_fill_the_line_are_left_out() -> None:
    long = [f"a feature with a long name {number}" for number in range(9)]
    advice = advise((4, 3), (4, 9), long, batched=False)
    assert advice is not None
    assert "frame[features]" in advice
    assert len(advice) < 200
