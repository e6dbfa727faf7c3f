"""Tensors read and written without a service: every type, and numbers of every kind."""

from fractions import Fraction
from math import isfinite
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import FLOAT32_MAX
from app.errors import InvalidArgument
from app.payloads.open_inference.reading import InferRequest, InferRequestReader, Output
from app.payloads.open_inference.tensors import DATATYPES
from app.payloads.open_inference.writing import write_answer
from app.version.signature import Layout, Signature, TensorSpec

NUMBER = Signature(inputs=Layout((TensorSpec("x", ()),)), outputs=Layout((TensorSpec("y", ()),)))
"""One number in, one number out."""
PAIR = Signature(
    inputs=Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (4,)))),
    outputs=Layout((TensorSpec("y", (5, 2)), TensorSpec("z", ()))),
)

INTEGERS = sorted(name for name in DATATYPES if "INT" in name)
CURIOUS_INTEGERS = st.integers(-(2**63), 2**64 - 1) | st.builds(
    lambda exponent, offset, sign: sign * (2**exponent + offset),
    st.integers(0, 64),
    st.integers(-2, 2),
    st.sampled_from([-1, 1]),
)


def read(document: dict[str, Any], tail: bytes = b"", signature: Signature = NUMBER) -> InferRequest:
    head = orjson.dumps(document)
    return InferRequestReader("m", signature, 8).read(head + tail, b"%d" % len(head))


def ask(datatype: str, **rest: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1], "datatype": datatype, **rest}]}


def taken(document: dict[str, Any], tail: bytes = b"") -> float | None:
    """The number as the model would get it; None if it is refused."""
    try:
        windows = read(document, tail).windows
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


@given(order=st.permutations(["a", "b"]), is_binary=st.tuples(st.booleans(), st.booleans()), rows=st.integers(1, 8))
def test_tensors_may_come_in_any_order_and_any_form(order: list[str], is_binary: tuple[bool, bool], rows: int) -> None:
    arrays = {
        "a": np.arange(rows * 6, dtype=np.float32).reshape(rows, 2, 3),
        "b": np.arange(100, 100 + rows * 4, dtype=np.float32).reshape(rows, 4),
    }
    inputs, tail = [], b""
    for name, is_bytes in zip(order, is_binary, strict=True):
        array = arrays[name]
        entry: dict[str, Any] = {"name": name, "shape": array.shape, "datatype": "FP32"}
        if is_bytes:
            entry["parameters"] = {"binary_data_size": array.nbytes}
            tail += array.tobytes()
        else:
            entry["data"] = array.tolist()
        inputs.append(entry)
    windows = read({"inputs": inputs}, tail, PAIR).windows
    assert_array_equal(windows, PAIR.inputs.join([arrays["a"], arrays["b"]]))
    assert windows.flags.aligned
    assert windows.flags.c_contiguous


@given(
    outputs=st.lists(st.integers(0, 1), min_size=1, max_size=2, unique=True),
    is_binary=st.tuples(st.booleans(), st.booleans()),
    word=st.none() | st.text(max_size=5),
)
def test_what_is_written_can_be_read(outputs: list[int], is_binary: tuple[bool, bool], word: str | None) -> None:
    forecasts = np.random.default_rng(1).normal(size=(3, *PAIR.outputs.shape)).astype(np.float32)
    expected = PAIR.outputs.split(forecasts)
    wanted = [Output(place, flag) for place, flag in zip(outputs, is_binary, strict=False)]
    windows = np.zeros((3, *PAIR.inputs.shape), np.float32)
    body, length = write_answer("m", 7, PAIR, InferRequest(windows, wanted, word), forecasts)
    assert (length is None) is not any(output.is_binary for output in wanted)
    document = orjson.loads(body[:length])
    assert (document["model_name"], document["model_version"], document.get("id")) == ("m", "7", word)
    start = len(body) if length is None else length
    for output, entry in zip(wanted, document["outputs"], strict=True):
        size = entry.get("parameters", {}).get("binary_data_size", 0)
        numbers = np.frombuffer(body[start : start + size], "<f4") if output.is_binary else np.float32(entry["data"])
        start += size
        assert_array_equal(numbers.reshape(entry["shape"]), expected[output.place])
    assert start == len(body)


def test_windows_do_not_hold_on_to_the_body() -> None:
    windows = read(ask("FP32", parameters={"binary_data_size": 4}), bytes(4)).windows
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
