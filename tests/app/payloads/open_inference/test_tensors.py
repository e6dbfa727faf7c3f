"""Tensors of every datatype, from JSON and from bytes: the numbers that float32 holds, and the place of any other."""

from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX
from app.errors import InvalidArgument, ServiceError
from app.payloads.open_inference.tensors import DATATYPES
from tests.app.payloads.open_inference.requests import NUMBER, PAIR, read, tensor

INTEGERS = sorted(name for name in DATATYPES if "INT" in name)
CURIOUS_INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.builds(
    lambda exponent, offset, sign: sign * (2**exponent + offset),
    st.integers(0, 64),
    st.integers(-2, 2),
    st.sampled_from([-1, 1]),
)


def ask(datatype: str, **rest: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1], "datatype": datatype, **rest}]}


def taken(document: dict[str, Any], tail: bytes = b"") -> float | None:
    """The number as the model would get it; None if it is refused."""
    try:
        windows = read(document, tail, NUMBER).inputs.windows
    except InvalidArgument:
        return None
    assert windows.shape == (1, 1, 1)
    assert windows.dtype == np.float32
    return float(windows.item())


def held(number: float) -> float | None:
    """The number itself if float32 holds it exactly, by exact arithmetic; None if it does not."""
    if not isfinite(number) or abs(number) > FLOAT32_MAX:
        return None
    rounded = float(np.float32(number))
    return rounded if Fraction(rounded) == Fraction(number) else None


@given(number=CURIOUS_INTEGERS, datatype=st.sampled_from(INTEGERS))
def test_an_integer_is_taken_if_and_only_if_float32_holds_it(number: int, datatype: str) -> None:
    limits = np.iinfo(DATATYPES[datatype])
    expected = held(number) if limits.min <= number <= limits.max else None
    if -(2**63) <= number < 2**64:
        assert taken(ask(datatype, data=[number])) == expected
    if limits.min <= number <= limits.max:
        tail = np.array([number], DATATYPES[datatype]).tobytes()
        assert taken(ask(datatype, parameters={"binary_data_size": len(tail)}), tail) == expected


@given(number=st.floats(width=64) | st.floats(width=32))
def test_a_double_is_taken_if_and_only_if_float32_holds_it(number: float) -> None:
    tail = np.array([number], "<f8").tobytes()
    assert taken(ask("FP64", parameters={"binary_data_size": 8}), tail) == held(number)
    if isfinite(number):
        assert taken(ask("FP64", data=[number])) == held(number)


@given(number=st.floats(width=32))
def test_a_float32_comes_as_it_is(number: float) -> None:
    tail = np.array([number], "<f4").tobytes()
    expected = number if isfinite(number) else None
    assert taken(ask("FP32", parameters={"binary_data_size": 4}), tail) == expected
    if isfinite(number):
        assert taken(ask("FP32", data=[number])) == number


@given(number=st.floats(width=16))
def test_a_float16_comes_as_it_is(number: float) -> None:
    tail = np.array([number], "<f2").tobytes()
    assert taken(ask("FP16", parameters={"binary_data_size": 2}), tail) == (number if isfinite(number) else None)


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_json_is_rounded_to_float32(number: float) -> None:
    expected = float(np.float32(number)) if abs(number) <= FLOAT32_MAX else None
    assert taken(ask("FP32", data=[number])) == expected


def test_windows_do_not_hold_on_to_the_body() -> None:
    windows = read(ask("FP32", parameters={"binary_data_size": 4}), bytes(4), NUMBER).inputs.windows
    while windows.base is not None:
        assert isinstance(windows.base, np.ndarray)
        windows = windows.base
    assert windows.flags.owndata


def test_the_first_wrong_number_is_told_by_its_place() -> None:
    numbers = np.zeros((3, 4), "<f8")
    numbers[1, 2], numbers[2, 0] = 0.1, np.nan
    other = np.zeros((3, 2, 3), "<f4")
    inputs = [
        {"name": "a", "shape": other.shape, "datatype": "FP32", "data": other.ravel().tolist()},
        {"name": "b", "shape": numbers.shape, "datatype": "FP64", "parameters": {"binary_data_size": numbers.nbytes}},
    ]
    with pytest.raises(InvalidArgument) as refusal:
        read({"inputs": inputs}, numbers.tobytes(), PAIR)
    assert refusal.value.detail == "input 'b' at [2, 0]: expected a finite number, got NaN"
    numbers[2, 0] = 0
    with pytest.raises(InvalidArgument) as refusal:
        read({"inputs": inputs}, numbers.tobytes(), PAIR)
    assert refusal.value.detail.startswith("input 'b' at [1, 2]: expected a number that FP32 holds exactly")


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize(
    ("number", "kind"), [(2**24 + 1, np.int32), (2**63 - 1, np.int64), (2**64 - 1, np.uint64), (0.1, np.float64)]
)
def test_a_number_that_would_be_rounded_is_told_by_its_place(number: Any, kind: type, is_binary: bool) -> None:
    windows: Any = np.zeros((2, 4, 2), kind)
    windows[1, 2, 0] = number
    problem = "input 'windows' at [1, 2, 0]: expected a number that FP32 holds exactly, got one that it would round"
    assert refusal(windows, is_binary=is_binary).detail.startswith(problem)


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_numbers_that_are_not_finite_are_refused(kind: type, number: float, is_binary: bool) -> None:
    windows: Any = np.zeros((1, 4, 2), kind)
    windows[0, 3, 1] = number
    expected = "input 'windows' at [0, 3, 1]: expected a " if is_binary else "has no NaN and no Infinity"
    assert expected in refusal(windows, is_binary=is_binary).detail


def refusal(windows: NDArray[Any], *, is_binary: bool) -> ServiceError:
    """The error that windows are refused with."""
    names = {"f": "FP", "i": "INT", "u": "UINT"}
    datatype = f"{names[windows.dtype.kind]}{8 * windows.dtype.itemsize}"
    numbers = {"parameters": {"binary_data_size": windows.nbytes}} if is_binary else {"data": windows.ravel().tolist()}
    with pytest.raises(ServiceError) as caught:
        read({"inputs": [tensor("windows", windows.shape, datatype, **numbers)]}, windows.tobytes() * is_binary)
    return caught.value
