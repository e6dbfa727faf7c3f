"""Requests of the Open Inference Protocol: windows and outputs, or an error that repeats no value."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.errors import BatchTooLarge, InvalidArgument, MalformedBody, ServiceError
from app.payloads.open_inference.reading import InferRequest
from app.payloads.open_inference.tensors import DATATYPES
from app.version.signature import InputLayout, Layout, Signature, TensorSpec
from tests.ahead import ahead_contract
from tests.app.payloads.open_inference.requests import PAIR, WINDOWS, read, read_body, tensor

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FLAT = [number for row in WINDOW for number in row]
INPUT = {"name": "windows", "shape": [1, 4, 2], "datatype": "FP32", "data": FLAT}
FOREIGN = Signature(
    inputs=InputLayout(Layout((TensorSpec("calendar", (3,)), TensorSpec("history", (6, 2))))),
    outputs=Layout((TensorSpec("mean", (5, 1)), TensorSpec("spread", (2,)))),
)

MARK = "correcthorse"
"""Put into hostile payloads; must not come back."""


def told(error: ServiceError) -> str:
    """The text of an error, once it is seen to repeat no mark."""
    assert MARK not in error.detail
    return error.detail


def error_of(document: object, tail: bytes = b"", signature: Signature = WINDOWS) -> str:
    """The text of the error that a document with bytes behind it is refused with."""
    with pytest.raises(InvalidArgument) as caught:
        read(document, tail, signature)
    return told(caught.value)


def error_of_body(body: bytes, length: bytes | None, signature: Signature = WINDOWS) -> str:
    """The text of the error that a body is refused with."""
    with pytest.raises(ServiceError) as caught:
        read_body(body, length, signature)
    assert caught.value.status == 400
    return told(caught.value)


def binary(size: Any = 32, **changes: Any) -> dict[str, Any]:
    """A document whose only input stands behind it."""
    tensor = {name: value for name, value in INPUT.items() if name != "data"}
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}, **changes}]}


def one(**changes: Any) -> dict[str, Any]:
    """A document with one input that has changed; what changes to None is left out."""
    tensor = {name: value for name, value in {**INPUT, **changes}.items() if value is not None}
    return {"inputs": [tensor]}


def test_json_is_taken_flat_and_nested() -> None:
    for data in (FLAT, [WINDOW]):
        request = read({"inputs": [{**INPUT, "data": data}], "id": "ä 1"})
        assert_array_equal(request.inputs.windows, [WINDOW])
        assert (request.id, request.timeout_seconds) == ("ä 1", None)


def test_what_is_null_is_not_there() -> None:
    document = {"id": None, "parameters": None, "outputs": None, "inputs": [{**INPUT, "parameters": None}]}
    request = read(document)
    assert request.id is None
    assert [output.place for output in request.outputs] == [0]


@given(order=st.permutations(["a", "b"]), is_binary=st.tuples(st.booleans(), st.booleans()), batch=st.integers(1, 8))
def test_tensors_may_come_in_any_order_and_any_form(order: list[str], is_binary: tuple[bool, bool], batch: int) -> None:
    arrays = {
        "a": np.arange(batch * 6, dtype=np.float32).reshape(batch, 2, 3),
        "b": np.arange(100, 100 + batch * 4, dtype=np.float32).reshape(batch, 4),
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
    windows = read({"inputs": inputs}, tail, PAIR).inputs.windows
    assert_array_equal(windows, PAIR.inputs.join([arrays["a"], arrays["b"]]).windows)
    assert windows.flags.aligned
    assert windows.flags.c_contiguous


@pytest.mark.parametrize(
    ("parameters", "output", "is_binary"),
    [
        ({}, None, False),
        ({}, {}, False),
        ({"binary_data_output": True}, None, True),
        ({"binary_data_output": True}, {}, True),
        ({"binary_data_output": True}, {"binary_data": False}, False),
        ({"binary_data_output": False}, {"binary_data": True}, True),
        ({}, {"binary_data": True, "classification": 0}, True),
    ],
)
def test_an_output_is_binary_where_it_is_asked_for(
    parameters: dict[str, Any], output: dict[str, Any] | None, is_binary: bool
) -> None:
    document = {"inputs": [INPUT], "parameters": parameters}
    if output is not None:
        document["outputs"] = [{"name": "forecast", "parameters": output}]
    assert [output.is_binary for output in read(document).outputs] == [is_binary]


def test_outputs_are_given_in_the_order_in_which_they_are_asked_for() -> None:
    inputs = [tensor("a", (1, 2, 3), data=[0] * 6), tensor("b", (1, 4), data=[0] * 4)]
    for names, places in (((), [0, 1]), (("z", "y"), [1, 0]), (("z",), [1])):
        request = read({"inputs": inputs, "outputs": [{"name": name} for name in names]}, signature=PAIR)
        assert [output.place for output in request.outputs] == places


def test_a_body_without_a_document_is_one_tensor() -> None:
    content = np.array(FLAT, "<f4").tobytes()
    request = read_body(content, b"0")
    assert_array_equal(request.inputs.windows, [WINDOW])
    assert [output.is_binary for output in request.outputs] == [True]
    for wrong in (b"", content[:-1], content * 2):
        assert error_of_body(wrong, b"0") == (
            f"input byte size mismatch for input 'windows' for model 'default'. Expected 32, got {len(wrong)}"
        )
    assert error_of_body(b"", b"0", FOREIGN) == (
        "a body without a document is one tensor, but model 'default' takes calendar, history"
    )


def test_bytes_are_read_wherever_the_document_ends() -> None:
    for spaces in range(8):
        head = json.dumps(binary()).encode() + b" " * spaces
        request = read_body(head + np.array(FLAT, "<f4").tobytes(), b"%d" % len(head))
        assert_array_equal(request.inputs.windows, [WINDOW])


SHAPE = "unexpected shape for input 'windows' for model 'default'. Expected [-1, 4, 2]"
ANY_SHAPE = f"{SHAPE}, as a list of whole numbers, where -1 stands for any from 1"


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ([], "expected a JSON object"),
        ({}, "model 'default' takes windows; windows missing"),
        ({"inputs": []}, "model 'default' takes windows; windows missing"),
        ({"inputs": MARK}, "expected inputs to be a list of objects"),
        ({"inputs": [MARK]}, "expected inputs to be a list of objects"),
        ({"inputs": [INPUT, INPUT]}, "input 'windows' is given twice"),
        ({"inputs": [INPUT], "id": 7}, "expected id to be a string"),
        ({"inputs": [INPUT], "parameters": [MARK]}, "expected parameters to be an object"),
        (
            {"inputs": [INPUT], "parameters": {MARK: {}}},
            "expected parameters to be strings, numbers or booleans",
        ),
        (
            {"inputs": [INPUT], "parameters": {"binary_data_output": 1}},
            "expected the parameter binary_data_output of the request to be true or false",
        ),
        ({"inputs": [INPUT], "outputs": {}}, "expected outputs to be a list of objects"),
        ({"inputs": [INPUT], "outputs": [{}]}, "outputs 0 needs a name, which is a string"),
        (
            {"inputs": [INPUT], "outputs": [{"name": MARK}]},
            "outputs 0 is no output of model 'default', which gives forecast",
        ),
        ({"inputs": [INPUT], "outputs": [{"name": "forecast"}] * 2}, "output 'forecast' is requested twice"),
        (
            {"inputs": [INPUT], "outputs": [{"name": "forecast", "parameters": {"binary_data": "yes"}}]},
            "expected the parameter binary_data of output 'forecast' to be true or false",
        ),
        (
            {"inputs": [INPUT], "outputs": [{"name": "forecast", "parameters": {"classification": 3}}]},
            "output 'forecast' cannot be given as classes: forecasts are numbers",
        ),
        (
            {"inputs": [INPUT], "outputs": [{"name": "forecast", "parameters": {"shared_memory_region": MARK}}]},
            "output 'forecast' cannot be in shared memory, which is not offered; leave its numbers in the body",
        ),
        (
            one(parameters={"shared_memory_region": MARK}),
            "input 'windows' cannot be in shared memory, which is not offered; leave its numbers in the body",
        ),
        (one(name=MARK), "inputs 0 is no input of model 'default', which takes windows"),
        (one(name=None), "inputs 0 needs a name, which is a string"),
        (one(name=3), "inputs 0 needs a name, which is a string"),
        (one(data=None), "input 'windows' needs either data or the parameter binary_data_size, and has neither"),
        (
            one(parameters={"binary_data_size": 32}),
            "input 'windows' needs either data or the parameter binary_data_size, and has both",
        ),
        (one(data=MARK), "expected data of input 'windows' to be a list"),
        (one(data=[]), "input 'windows' has 0 numbers, but its shape [1, 4, 2] needs 8"),
        (one(data=FLAT[1:]), "input 'windows' has 7 numbers, but its shape [1, 4, 2] needs 8"),
        (one(data=[*FLAT, 0]), "input 'windows' has 9 numbers, but its shape [1, 4, 2] needs 8"),
        (one(data=[*FLAT[1:], MARK]), "input 'windows' at [0, 3, 1]: expected a number, got a string"),
        (one(data=[*FLAT[1:], True]), "input 'windows' at [0, 3, 1]: expected a number, got a boolean"),
        (one(data=[None, *FLAT[1:]]), "input 'windows' at [0, 0, 0]: expected a number, got null"),
        (one(data=[*FLAT[1:], [0]]), "input 'windows' at [0, 3, 1]: expected a number, got a list"),
        (
            one(data=[*FLAT[1:], 1e39]),
            "input 'windows' at [0, 3, 1]: expected a number within float32 (at most 3.4e+38 either way), got a larger",
        ),
        (
            one(data=[[*WINDOW[1:], [0]]]),
            "data of input 'windows' is not nested as its shape [1, 4, 2] says; nest it so, or send one flat",
        ),
        (
            one(data=[*WINDOW]),
            "data of input 'windows' is not nested as its shape [1, 4, 2] says; nest it so, or send one flat",
        ),
        (
            one(datatype="INT32", data=[*FLAT[1:], 1.5]),
            "at [0, 3, 1]: expected an integer, as INT32 needs, got a float",
        ),
        (one(datatype="FP16"), "input 'windows' is FP16, which JSON cannot hold; send it as bytes, or as FP32"),
        (one(datatype="UINT8", data=[*FLAT[1:], -1]), "input 'windows' has a number that UINT8 cannot hold"),
        (one(datatype="INT8", data=[*FLAT[1:], 128]), "input 'windows' has a number that INT8 cannot hold"),
        *((one(datatype=name), "input 'windows' needs the datatype FP32") for name in ("BOOL", "BYTES", MARK, 3, None)),
        *((one(shape=shape), ANY_SHAPE) for shape in (None, MARK, 8, [1, 4, "2"], [1, 4, 2.0], [True, 4, 2])),
        *((one(shape=shape), ANY_SHAPE) for shape in ([0, 4, 2], [-1, 4, 2], [-1, -4, 2], [2**63, 4, 2], [10**30])),
        (one(shape=[4, 2]), f"{SHAPE}, got 2 sizes"),
        (one(shape=[1] * 1000), f"{SHAPE}, got 1000 sizes"),
        (one(shape=[1, 2, 4]), f"{SHAPE}, got [1, 2, 4]"),
        (one(shape=[1, 2**62, 2**62]), f"{SHAPE}, got"),
    ],
)
def test_what_is_wrong_with_a_document_is_said(document: object, error: str) -> None:
    assert error in error_of(document)


def test_what_is_wrong_with_several_inputs_is_said() -> None:
    history, calendar = tensor("history", (2, 6, 2), data=[0] * 24), tensor("calendar", (1, 3), data=[0] * 3)
    assert error_of({"inputs": [history]}, signature=FOREIGN) == (
        "model 'default' takes calendar, history; calendar missing"
    )
    assert "must all have the same batch" in error_of({"inputs": [history, calendar]}, signature=FOREIGN)


@pytest.mark.parametrize("content", [b"", b"{", b'"' + MARK.encode(), b"\xff", b'{"id": "\\ud800"}', b"[" * 5000])
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_body(content, None)
    assert told(caught.value) == "The body is not valid JSON in UTF-8, which has no NaN and no Infinity."


@pytest.mark.parametrize("windows", [9, 1000, 2**62])
def test_more_windows_than_the_limit_are_refused(windows: int) -> None:
    for document in (one(shape=[windows, 4, 2]), binary(shape=[windows, 4, 2])):
        with pytest.raises(BatchTooLarge, match=f"The batch has {windows} windows"):
            read(document)


@pytest.mark.parametrize(
    ("length", "error"),
    [
        (MARK, "Unable to parse Inference-Header-Content-Length, got something other than a whole number"),
        ("1.5", "Unable to parse Inference-Header-Content-Length, got something other than a whole number"),
        ("", "Unable to parse Inference-Header-Content-Length, got something other than a whole number"),
        ("1_0", "Unable to parse Inference-Header-Content-Length, got something other than a whole number"),
        ("9" * 5000, "Unable to parse Inference-Header-Content-Length, got something other than a whole number"),
        ("-1", "inference header size should be in range (0, 100), got: -1"),
        ("101", "inference header size should be in range (0, 100), got: 101"),
        ("50", "The body is not valid JSON in UTF-8, which has no NaN and no Infinity."),
    ],
)
def test_a_length_that_cannot_be_is_refused(length: str, error: str) -> None:
    content = json.dumps(one()).encode().ljust(100)[:100]
    assert error_of_body(content, length.encode()) == error


@pytest.mark.parametrize(
    ("document", "tail", "error"),
    [
        (binary(), 31, "unexpected size for input 'windows', expecting 1 additional bytes for model 'default'"),
        (binary(), 0, "unexpected size for input 'windows', expecting 32 additional bytes for model 'default'"),
        (binary(), 33, "unexpected additional input data for model 'default': 1 bytes"),
        (one(), 1, "unexpected additional input data for model 'default': 1 bytes"),
        (binary(40), 40, "input byte size mismatch for input 'windows' for model 'default'. Expected 32, got 40"),
        (binary(0), 0, "input byte size mismatch for input 'windows' for model 'default'. Expected 32, got 0"),
        (binary(64), 64, "input byte size mismatch for input 'windows' for model 'default'. Expected 32, got 64"),
        (
            binary(datatype="FP64"),
            32,
            "input byte size mismatch for input 'windows' for model 'default'. Expected 64, got 32",
        ),
        *(
            (binary(size), 32, "input 'windows' needs a binary_data_size that is a whole number from 0")
            for size in (-32, "32", 32.0, True, 2**63)
        ),
    ],
)
def test_bytes_that_are_not_what_the_document_says_are_refused(document: object, tail: int, error: str) -> None:
    assert error_of(document, bytes(tail)) == error


def test_bytes_without_a_length_are_not_found() -> None:
    assert error_of_body(json.dumps(binary()).encode(), None) == (
        "unexpected size for input 'windows', expecting 32 additional bytes for model 'default'"
    )


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"priority": 1, "sequence_id": 0, "sequence_start": False, "sequence_end": False, "timeout": 0}, None),
        ({"sequence_id": "", "timeout": 20_000_000, "anything": MARK, "more": 1.5, "headers": ""}, None),
        ({"sequence_id": 7}, "sequences are not offered"),
        ({"sequence_id": "a"}, "sequences are not offered"),
        ({"sequence_start": True}, "sequences are not offered"),
        ({"sequence_end": True}, "sequences are not offered"),
        ({f"triton_{MARK}": 1}, "parameters that start with triton_ are reserved"),
        ({"timeout": 2**63 - 1}, None),
        ({"timeout": -1}, "expected the parameter timeout to be a whole number of microseconds from 0"),
        ({"timeout": 1.5}, "expected the parameter timeout to be a whole number of microseconds from 0"),
        ({"timeout": 2**63}, "expected the parameter timeout to be a whole number of microseconds from 0"),
        ({"timeout": True}, "expected the parameter timeout to be a whole number of microseconds from 0"),
    ],
)
def test_parameters_are_followed_ignored_or_refused(parameters: dict[str, Any], error: str | None) -> None:
    document = {"inputs": [INPUT], "parameters": parameters}
    if error is None:
        assert read(document).timeout_seconds == (parameters["timeout"] / 1e6 or None)
    else:
        assert error in error_of(document)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(MARK) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["windows", "forecast"]) | ANYTHING,
        "shape": st.just([1, 4, 2]) | st.lists(st.integers(), max_size=4) | ANYTHING,
        "datatype": st.sampled_from(["FP32", "FP64", "FP16", "INT64", "UINT8", "BOOL", "BYTES"]) | ANYTHING,
        "data": st.just(FLAT) | st.lists(ANYTHING, min_size=8, max_size=8) | ANYTHING,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size", "binary_data"]), st.just(32) | ANYTHING)
        | ANYTHING,
    },
)
DOCUMENTS = ANYTHING | st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=2)},
    optional={
        "id": ANYTHING,
        "outputs": st.lists(TENSORS, max_size=2) | ANYTHING,
        "parameters": st.dictionaries(
            st.sampled_from(["timeout", "binary_data_output", "sequence_id", "priority"]), ANYTHING, max_size=2
        ),
    },
)


def assert_read(body: bytes, length: bytes | None) -> None:
    """Whatever came, it is read as windows or refused by an error of the caller's."""
    try:
        windows = read_body(body, length).inputs.windows
    except ServiceError as error:
        assert_is_the_callers(error)
    else:
        assert windows.shape[1:] == (4, 2)
        assert windows.dtype == np.float32
        assert np.isfinite(windows).all()


def assert_is_the_callers(error: ServiceError) -> None:
    assert error.status in {400, 413}
    assert told(error)


@given(document=DOCUMENTS, tail=st.binary(max_size=40), has_length=st.booleans())
@settings(max_examples=1000)
def test_any_document_is_read_or_refused(document: object, tail: bytes, has_length: bool) -> None:
    head = json.dumps(document).encode()
    assert_read(head + tail, b"%d" % len(head) if has_length else None)


@given(
    content=st.binary(max_size=200),
    length=st.integers(-5, 250).map(str) | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=25),
)
@settings(max_examples=1000)
def test_any_bytes_are_read_or_refused(content: bytes, length: str) -> None:
    assert_read(content, length.encode())


AHEAD = Signature.of(ahead_contract())
"""Windows of 4 steps and 2 features, a future of 3 rows and 1 column, and a time by the hour."""
FUTURE = tensor("future", (1, 3, 1), data=[10, 20, 30])
TIME = tensor("time", (1,), "INT64", data=[498876])
NOON = b"2026-11-29T12:00:00"


def ahead(*tensors: dict[str, Any], tail: bytes = b"") -> InferRequest:
    return read({"inputs": [INPUT, *tensors]}, tail, AHEAD)


@pytest.mark.parametrize("datatype", ["INT32", "INT64", "UINT32", "UINT64"])
def test_a_time_may_come_as_any_integer(datatype: str) -> None:
    for time, tail in (
        (tensor("time", (1,), datatype, data=[498876]), b""),
        (
            tensor("time", (1,), datatype, parameters={"binary_data_size": DATATYPES[datatype].itemsize}),
            np.array([498876], DATATYPES[datatype]).tobytes(),
        ),
    ):
        inputs = ahead(FUTURE, time, tail=tail).inputs
        assert_array_equal(inputs.future, [[[10], [20], [30]]])
        assert_array_equal(inputs.time, [498876])
        assert inputs.time is not None
        assert inputs.time.dtype == np.int64


def test_a_time_may_come_as_a_text() -> None:
    in_json = tensor("time", (1,), "BYTES", data=[NOON.decode()])
    assert_array_equal(ahead(in_json, FUTURE).inputs.time, [498876])
    in_bytes = tensor("time", (1,), "BYTES", parameters={"binary_data_size": 4 + len(NOON)})
    assert_array_equal(ahead(FUTURE, in_bytes, tail=text_of(NOON)).inputs.time, [498876])


def text_of(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


TAKES_MORE = "model 'default' takes windows, future, time; "
NEEDS = (
    "input 'time' needs the datatype INT64 or another one of integers, or BYTES with texts such as 2026-11-29T13:00:00"
)


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ([], TAKES_MORE + "future, time missing"),
        ([FUTURE], TAKES_MORE + "time missing"),
        (
            [FUTURE, TIME, tensor(MARK, (1,), data=[1])],
            "inputs 3 is no input of model 'default', which takes windows, ",
        ),
        (
            [{**FUTURE, "shape": [1, 1, 3]}, TIME],
            "unexpected shape for input 'future' for model 'default'. Expected [-1, 3, 1], got [1, 1, 3]",
        ),
        (
            [FUTURE, {**TIME, "shape": [1, 1]}],
            "unexpected shape for input 'time' for model 'default'. Expected [-1], got",
        ),
        (
            [FUTURE, {**TIME, "shape": [2], "data": [1, 2]}],
            "the inputs of model 'default' must all have the same batch",
        ),
        ([FUTURE, {**TIME, "datatype": "FP64"}], NEEDS),
        ([FUTURE, {**TIME, "datatype": MARK}], NEEDS),
        ([FUTURE, {**TIME, "data": [1.0]}], "input 'time' at [0]: expected an integer, as INT64 needs, got a number"),
        ([FUTURE, {**TIME, "data": [True]}], "input 'time' at [0]: expected an integer, as INT64 needs, got a boolean"),
        ([FUTURE, {**TIME, "data": [2**63]}], "input 'time' has a number that INT64 cannot hold"),
        ([FUTURE, {**TIME, "datatype": "INT8"}], "input 'time' has a number that INT8 cannot hold"),
        (
            [FUTURE, {**TIME, "datatype": "UINT64", "data": [2**63]}],
            "input 'time' at [0]: expected a whole number within",
        ),
        (
            [FUTURE, {**TIME, "datatype": "BYTES"}],
            "input 'time' at [0]: expected a string, as BYTES needs, got a number",
        ),
        (
            [FUTURE, {**TIME, "datatype": "BYTES", "data": [MARK]}],
            "input 'time' at [0]: expected a time such as 2026-11-",
        ),
        ([{**FUTURE, "datatype": "BYTES"}, TIME], "input 'future' needs the datatype FP32"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_future_or_a_time_is_named(tensors: list[dict[str, Any]], problem: str) -> None:
    assert error_of({"inputs": [INPUT, *tensors]}, signature=AHEAD).startswith(problem)


@pytest.mark.parametrize(
    "part", [NOON, text_of(NOON)[:-1], text_of(NOON) + b"x", b"", b"\xff\xff\xff\xff", 2 * text_of(NOON)], ids=repr
)
def test_bytes_that_are_no_texts_are_refused(part: bytes) -> None:
    time = tensor("time", (1,), "BYTES", parameters={"binary_data_size": len(part)})
    problem = "the bytes of input 'time' are not 1 texts, each behind its length"
    assert error_of({"inputs": [INPUT, FUTURE, time]}, part, AHEAD) == problem


def test_a_body_without_a_document_holds_one_input_alone() -> None:
    problem = "a body without a document is one tensor, but model 'default' takes windows, future, time"
    assert error_of_body(bytes(32), b"0", AHEAD) == problem
