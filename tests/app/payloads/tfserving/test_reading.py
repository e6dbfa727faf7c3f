"""Bodies of TensorFlow Serving's API: tensors, or an error in TensorFlow Serving's words that repeats no value."""

import gc
import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import Inputs
from app.errors import BatchTooLarge, InvalidArgument, ServiceError
from app.payloads.tfserving.document import Orientation, parse_document
from app.payloads.tfserving.reading import BodyReader
from app.version.signature import InputLayout, Layout, TensorSpec
from tests.ahead import ahead_contract

NUMBERS = InputLayout(Layout((TensorSpec("x", (2,)),)))
WINDOWS = InputLayout(Layout((TensorSpec("windows", (4, 2)),)))
FLAT_WINDOWS = InputLayout(Layout((TensorSpec("windows", (4, 1)),)))
PAIR = InputLayout(Layout((TensorSpec("calendar", (3,)), TensorSpec("recent", (6, 2)))))

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]

TRAILING = b" and more, which nothing but the slow way overlooks"

MARK = "hunter2"
"""Put into hostile payloads; must not come back."""

LONG = "x" * 5000
PARSE_ERROR = "JSON Parse error: "
TAKES = "; input windows takes shape [4,2]"
ONE_WINDOW = "this is one window; make it a batch of one: [window], or in NumPy window[np.newaxis]"
COLUMNS_TAKE = "; input windows takes shape [-1,4,2]"
WRONG_LEVEL = "found at incorrect level: 2 in the JSON DOM. Expected at level: 2"
NOT_FLOAT = "is not of expected type: float"
NAMES_DIFFER = "of 'instances' list. JSON object: (with {} keys) keys must be equal to: {}"


def read(
    content: object, inputs: InputLayout = WINDOWS, *, max_windows: int = 8, allow_nan: bool = False
) -> tuple[Orientation, Inputs]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return BodyReader(inputs, max_windows, allow_nan=allow_nan).read(body)


def error_of(content: object, inputs: InputLayout = WINDOWS, **options: Any) -> str:
    """The text of the error that a body is refused with."""
    with pytest.raises(InvalidArgument) as caught:
        read(content, inputs, **options)
    assert MARK not in caught.value.detail
    return caught.value.detail


def element(index: int, problem: str, key: str = "") -> str:
    """The error of one row."""
    return f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {problem}"


@pytest.mark.parametrize("field", ["instances", "inputs"])
@pytest.mark.parametrize(
    "body",
    [
        '{"FIELD":[WINDOW]}',
        ' \n{ "FIELD" : [ WINDOW ] } ',
        '{"signature_name":"serving_default","FIELD":[WINDOW]}',
        '{"FIELD":[WINDOW], "signature_name": "serving_default"}',
        '{"signature_name":"","FIELD":[WINDOW]}',
        '{"FIELD":[WINDOW],"other":{"b64":"hunter2"},"signatur_name":5}',
        '{"FIELD":[WINDOW]} and more {',
        '\ufeff{"FIELD":[WINDOW]}',
    ],
)
def test_a_body_may_be_written_in_many_ways(body: str, field: str) -> None:
    body = body.replace("FIELD", field).replace("WINDOW", json.dumps(WINDOW))
    orientation, inputs = read(body.encode())
    assert orientation.field == field
    assert_array_equal(inputs.windows, [WINDOW])


def test_rows_and_columns_are_read_bare_and_by_name() -> None:
    windows = [WINDOW, WINDOW[::-1]]
    for instances in (windows, [{"windows": window} for window in windows]):
        assert_array_equal(read({"instances": instances})[1].windows, windows)
    for inputs in (windows, {"windows": windows, "more": MARK}):
        assert_array_equal(read({"inputs": inputs})[1].windows, windows)


def test_one_feature_has_brackets_of_its_own() -> None:
    assert read({"instances": [[[1], [2], [3], [6]]]}, FLAT_WINDOWS)[1].windows.shape == (1, 4, 1)
    problem = "Expecting shape [4,1] but got: [4]; input windows takes shape [4,1], this has [4]; the axis of the one "
    problem += "feature is missing: windows[..., np.newaxis]"
    assert error_of({"instances": [[1, 2, 3, 6]]}, FLAT_WINDOWS) == element(0, problem)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", PARSE_ERROR + "The document is empty"),
        (b" \r\n\t", PARSE_ERROR + "The document is empty"),
        (b"{", PARSE_ERROR + "Invalid value. at offset: 1"),
        ('{"ü": hunter2}'.encode(), PARSE_ERROR + "Invalid value. at offset: 7"),
        (b'{"inputs":' + b"9" * 5000 + b"}", PARSE_ERROR + "Number too big to be stored in double."),
        (b"\xff{}", PARSE_ERROR + "Invalid encoding, not UTF-8 at offset: 0"),
        (b'{"a":' * 60_000, PARSE_ERROR + "nested too deeply"),
        (b"[1]", "JSON Value: (Array) Is not object"),
        (b"NaN", "JSON Value: (Number) Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"Instances": [WINDOW]}, "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [WINDOW], "inputs": [MARK]},
            "JSON Value: (Object) Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (
            {"signature_name": 5, "instances": [WINDOW]},
            "JSON Value: (Object) not formatted correctly. 'signature_name' key must be a string value.",
        ),
        ({"signature_name": "x", "inputs": []}, 'Serving signature name: "x" not found in signature def'),
        ({"signature_name": LONG}, f'Serving signature name: "{LONG[:64]}" not found in signature def'),
        (
            b'{"signature_name":"\\ud800\\u0000\\"<","inputs":[]}',
            'Serving signature name: "%3F%00%22%3C" not found in signature def',
        ),
        ({"instances": {"a": MARK}}, "JSON Value: (Object) Excepting 'instances' to be an list/array"),
        ({"instances": []}, "JSON Value: (Array) No values in 'instances' array"),
    ],
)
def test_what_is_no_prediction_is_told_as_tensorflow_serving_tells_it(body: object, text: str) -> None:
    assert error_of(body) == text


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        (WINDOW[:3], f"Expecting tensor size: 8 but got: 6{TAKES}, this has [3,2]"),
        ([[1, 2, 3, 4]] * 2, f"Expecting shape [4,2] but got: [2,4]{TAKES}, this has [2,4]"),
        ([], f"Expecting tensor size: 8 but got: 0{TAKES}, this has [0]"),
        (5, f"Expecting tensor size: 8 but got: 1{TAKES}, this has []"),
        (
            [*WINDOW[:3], [1]],
            f"Encountered list at unexpected size: 1 at level: 1 expected size: 2 (at instances[1][3]){TAKES}",
        ),
        ([WINDOW], f"Encountered list at unexpected level: 2 expected < 2{TAKES}"),
        (
            [*WINDOW[:3], [1, [2]]],
            f"Encountered list at unexpected level: 2 expected < 2 (at instances[1][3][1]){TAKES}",
        ),
        ([*WINDOW[:3], 5], f"JSON Value: (at instances[1][3]) {WRONG_LEVEL}{TAKES}"),
        (MARK, f"JSON Value: (at instances[1]) Type: String {NOT_FLOAT}"),
        ([[None, 0]] * 4, f"JSON Value: (at instances[1][0][0]) Type: Null {NOT_FLOAT}"),
        ([*WINDOW[:3], [1, MARK]], f"JSON Value: (at instances[1][3][1]) Type: String {NOT_FLOAT}{TAKES}"),
        ([*WINDOW[:3], [True, 0]], f"JSON Value: (at instances[1][3][0]) Type: True {NOT_FLOAT}{TAKES}"),
        ({"b64": MARK}, f"JSON Value: (at instances[1]) Type: Object {NOT_FLOAT}"),
    ],
)
def test_the_first_wrong_row_is_told(second: object, problem: str) -> None:
    assert error_of({"instances": [WINDOW, second, MARK]}) == element(1, problem)


@pytest.mark.parametrize("max_windows", [2, 8])
def test_a_window_without_a_batch_is_told_with_what_to_do(max_windows: int) -> None:
    problem = f"Expecting tensor size: 8 but got: 2{TAKES}, this has [2]; {ONE_WINDOW}"
    assert error_of({"instances": WINDOW}, max_windows=max_windows) == element(0, problem)
    assert error_of({"inputs": WINDOW}, max_windows=max_windows).endswith(f"this has [4,2]; {ONE_WINDOW}")


@pytest.mark.parametrize(
    ("instances", "text"),
    [
        ([WINDOW, {"windows": WINDOW}], "Expecting value/list but got object at item 1 of input list"),
        ([{"windows": WINDOW}, WINDOW], "Expecting object but got list at item 1 of input list"),
        (
            [{"windows": WINDOW}, {MARK: WINDOW, "windows": WINDOW}],
            f"Failed to process element: 1 {NAMES_DIFFER.format(2, 'windows')}",
        ),
        ([{}], f"Failed to process element: 0 {NAMES_DIFFER.format(0, 'windows')}"),
        (
            [{"windows": WINDOW}, {"windows": [*WINDOW[:3], [MARK, 0]]}],
            element(
                1, f"JSON Value: (at instances[1].windows[3][0]) Type: String {NOT_FLOAT}{TAKES}", key=" key: windows"
            ),
        ),
    ],
)
def test_rows_by_name_must_have_the_names(instances: object, text: str) -> None:
    assert error_of({"instances": instances}) == text


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({MARK: [WINDOW]}, "Missing named input: windows in 'inputs' object."),
        ([], f"Expecting tensor size: 8 but got: 0{COLUMNS_TAKE}, this has [0]"),
        ([[], []], f"Expecting tensor size: 16 but got: 0{COLUMNS_TAKE}, this has [2,0]"),
        (WINDOW, f"Expecting tensor size: 32 but got: 8{COLUMNS_TAKE}, this has [4,2]; {ONE_WINDOW}"),
        (5, f"Expecting tensor size: 8 but got: 1{COLUMNS_TAKE}, this has []"),
        (MARK, f"JSON Value: (at inputs) Type: String {NOT_FLOAT}"),
        (
            {"windows": [WINDOW, WINDOW[:3]]},
            f"Encountered list at unexpected size: 3 at level: 1 expected size: 4 (at inputs.windows[1]){COLUMNS_TAKE}",
        ),
    ],
)
def test_columns_must_have_the_names_and_the_shape(inputs: object, text: str) -> None:
    assert error_of({"inputs": inputs}) == text


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("field", ["instances", "inputs"])
def test_a_number_that_is_not_finite_is_refused_unless_it_is_allowed(number: str, field: str) -> None:
    body = f'{{"{field}":[[[1,2],[1,2],[{number},2],[1,2]]]}}'.encode()
    assert f"JSON Value: (at {field}[0][2][0]) Type: Number is not a finite number" in error_of(body)
    _, inputs = read(body, allow_nan=True)
    assert_array_equal(inputs.windows[0, 2], [float(number), 2])


@pytest.mark.parametrize("number", ["3.5e38", "-1e400", "1" * 50, "9" * 400])
@pytest.mark.parametrize("allow_nan", [False, True])
def test_a_number_beyond_float32_is_refused_whatever_the_settings(number: str, allow_nan: bool) -> None:
    for others in ("2", "NaN") if allow_nan else ("2",):
        body = f'{{"inputs":[[[1,2],[1,{others}],[1,{number}],[1,2]]]}}'.encode()
        assert error_of(body, allow_nan=allow_nan).startswith(
            "Cannot convert JSON value: (at inputs[0][2][1]) to float without loss of precision: it is beyond float32"
        )


@pytest.mark.parametrize("number", ["NaN", "1", "-1.5", "9" * 4000])
def test_other_threads_get_their_turn_between_any_two_numbers_of_what_is_no_standard_json(number: str) -> None:
    """They get it where Python code runs. A parser that is all C would hold Python's lock to the end."""

    def note(_: Any, event: str, __: Any) -> None:
        calls.append(event)

    calls: list[str] = []
    body = f"[NaN,{','.join([number] * 1000)}]".encode()
    sys.setprofile(note)
    try:
        with pytest.raises(InvalidArgument):
            parse_document(body)
    finally:
        sys.setprofile(None)
    assert calls.count("call") > 1000


@pytest.mark.parametrize("digits", [20, 21, 38, 39, 400, 4299, 4301])
def test_a_long_integer_is_the_number_that_it_was(digits: int) -> None:
    number = "1" + "0" * (digits - 1)
    body = f'{{"instances":[[{number},-{number}]]}} and more'.encode()
    if digits < 40:
        assert_array_equal(
            read(body, NUMBERS)[1].windows.ravel(), np.array([float(number), -float(number)], np.float32)
        )
    elif digits <= 4300:
        assert "beyond float32" in error_of(body, NUMBERS)
    else:
        assert error_of(body, NUMBERS) == PARSE_ERROR + "Number too big to be stored in double."


PLAIN = "is a plain {}, but expecting {} as multiple input tensors required as per tensorinfo_map"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"instances": [[1, 2]]}, f"instances {PLAIN.format('list', 'list of objects')}"),
        ({"instances": [{"b64": "aaaa"}]}, f"instances {PLAIN.format('list', 'list of objects')}"),
        ({"inputs": [1]}, f"inputs {PLAIN.format('value/list', 'an object')}"),
        (
            {"instances": [{"recent": [[0, 0]] * 6}]},
            f"Failed to process element: 0 {NAMES_DIFFER.format(1, 'calendar,recent')}",
        ),
        (
            {"instances": [{"recent": [[0, 0]] * 6, "calendar": [0, 0]}]},
            element(
                0,
                "Expecting tensor size: 3 but got: 2; input calendar takes shape [3], this has [2]",
                key=" key: calendar",
            ),
        ),
        ({"inputs": {"recent": [[[0, 0]] * 6]}}, "Missing named input: calendar in 'inputs' object."),
        (
            {"inputs": {"recent": [[[0, 0]] * 6] * 2, "calendar": [[0, 0, 0]]}},
            "Inputs must have equal size in dimension 0, which is the batch, but have: calendar 1, recent 2",
        ),
    ],
)
def test_several_inputs_must_be_there_and_fit(body: object, text: str) -> None:
    assert error_of(body, PAIR) == text


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [WINDOW] * 9},
        {"inputs": [WINDOW] * 9},
        {"instances": [{"windows": WINDOW}] * 9},
        {"inputs": {"windows": [WINDOW] * 9}},
        {"instances": [0] * 9},
    ],
)
def test_a_batch_beyond_the_limit_is_refused_before_any_window_is_looked_at(body: object) -> None:
    with pytest.raises(BatchTooLarge, match="has 9 windows"):
        read(body)


@pytest.mark.parametrize("field", ["instances", "inputs"])
def test_a_batch_at_the_limit_is_taken(field: str) -> None:
    for windows in ([WINDOW] * 8, {"windows": [WINDOW] * 8} if field == "inputs" else [{"windows": WINDOW}] * 8):
        assert read({field: windows})[1].windows.shape == (8, 4, 2)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(WINDOW),
    lambda part: (
        st.lists(part, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "windows", "b64", "recent", "calendar", "signature_name"]), part
        )
    ),
    max_leaves=9,
)


@settings(max_examples=500)
@given(
    content=st.fixed_dictionaries({}, optional={"instances": ANY_JSON, "inputs": ANY_JSON, "signature_name": ANY_JSON})
    | ANY_JSON,
    inputs=st.sampled_from([WINDOWS, PAIR]),
    allow_nan=st.booleans(),
)
def test_any_json_is_read_as_windows_or_gets_an_error_of_the_callers(
    content: Any, inputs: InputLayout, allow_nan: bool
) -> None:
    try:
        windows = read(content, inputs, max_windows=3, allow_nan=allow_nan)[1].windows
    except ServiceError as error:
        assert_is_the_callers(error)
    else:
        assert windows.shape[1:] == inputs.windows.shape
        assert windows.dtype == np.float32
        assert allow_nan or np.isfinite(windows).all()


def assert_is_the_callers(error: ServiceError) -> None:
    assert error.status in {400, 413}
    assert error.detail
    assert MARK not in error.detail


MARKED = st.text(max_size=200).map(lambda text: text + MARK)


@settings(max_examples=1000)
@given(body=st.binary(max_size=200) | MARKED.map(str.encode) | MARKED.map(json.dumps).map(str.encode))
def test_any_bytes_get_an_error_that_does_not_repeat_them(body: bytes) -> None:
    assert error_of(body)


def outcome_of(body: bytes) -> Any:
    """What a body is read as, with the sign of a zero, or the text of the error."""
    try:
        orientation, inputs = BodyReader(NUMBERS, 8, allow_nan=False).read(body)
    except ServiceError as error:
        return error.detail
    return orientation, inputs.windows.shape, inputs.windows.tobytes()


def assert_both_ways_agree(body: bytes) -> None:
    assert outcome_of(body) == outcome_of(body + TRAILING)
    assert gc.isenabled()


@pytest.mark.parametrize(
    "number",
    [
        *("0", "-0", "-0.0", "1e-400", "1e400", "-1e400", "3.4028235677973366e38", "3.4028235677973365e38"),
        *(str(2**63 - 1), str(2**63), str(2**64 - 1), str(2**64), str(2**64 + 1), str(-(2**63) - 1)),
        *("16777217", "9007199254740993", "1" + "0" * 38, "1" + "0" * 39, "1" + "0" * 400, "9" * 5000),
        *("NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "1e", "true", "null", '"1"', "{}", "[]", "[1]", ""),
        *('"\\ud800"', '"\\u0000"', '"\x01"', '{"b64":"AA=="}', '"\xff"', "0.1", "16777216.999999999"),
    ],
)
def test_a_number_is_the_same_by_the_strict_way_and_by_the_slow_one(number: str) -> None:
    for field in ("instances", "inputs"):
        assert_both_ways_agree(b'{"more":1,"%s":[[0,1],[%s,3]]}' % (field.encode(), number.encode("latin-1")))


@pytest.mark.parametrize(
    "body",
    [
        b"[1]",
        b"{}",
        b"\xef\xbb\xbf{}",
        b"{\x00}",
        b'{"instances":[[1,2]],"instances":[[3,4]],"more":1}',
        b'{"instances":[[1,2]],"inst\\u0061nces":[[3,4]],"more":1}',
        b'{"inputs":{"x":[[1,2]],"x":[[3]]}}',
        b'{"signature_name":"x","signature_name":"serving_default","instances":[[1,2]],"more":1}',
        b'{"signature_name":"\\ud83d\\ude00","instances":[[1,2]]}',
        b'{"more":%s1%s,"instances":[[1,2]]}' % (b"[" * 500, b"]" * 500),
        b'{"instances":[[1,%s1%s]],"more":1}' % (b"[" * 500, b"]" * 500),
        b'{"more":%s' % (b"[" * 100_000),
        b'{"more":%s1%s,"instances":[[1,2]]}' % (b"[" * 100_000, b"]" * 100_000),
        '{"ü": 1,}'.encode(),
    ],
)
def test_a_body_is_the_same_by_the_strict_way_and_by_the_slow_one(body: bytes) -> None:
    assert_both_ways_agree(body)


@given(st.recursive(st.floats() | st.integers() | st.text() | st.none() | st.booleans(), st.lists))
def test_any_rows_are_the_same_by_the_strict_way_and_by_the_slow_one(rows: Any) -> None:
    assert_both_ways_agree(json.dumps({"more": 1, "instances": rows}).encode())
    assert_both_ways_agree(json.dumps({"more": 1, "instances": [rows, [1, 2]]}).encode())


AHEAD = InputLayout.of(ahead_contract())
"""Windows of 4 steps and 2 features, a future of 3 rows and 1 column, and a time by the hour."""
ROW = {"windows": WINDOW, "future": [[10], [20], [30]], "time": 498876}
NOON = "2026-11-29T12:00:00"
NOT_A_TIME = "is not of expected type: int64; expected a time such as 2026-11-29T13:00:00, or the whole number of a row"


@pytest.mark.parametrize("time", [498876, NOON])
def test_rows_and_columns_have_a_future_and_a_time_by_name(time: int | str) -> None:
    columns = {"windows": [WINDOW, WINDOW], "future": [ROW["future"]] * 2, "time": [time, -1]}
    for content in ({"instances": [{**ROW, "time": time}, {**ROW, "time": -1}]}, {"inputs": columns}):
        _, inputs = read(content, AHEAD)
        assert_array_equal(inputs.windows, [WINDOW, WINDOW])
        assert_array_equal(inputs.future, [[[10], [20], [30]]] * 2)
        assert_array_equal(inputs.time, [498876, -1])
        assert inputs.time is not None
        assert inputs.time.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"instances": [WINDOW]}, "instances is a plain list, but expecting list of objects as multiple input tensors"),
        ({"inputs": [WINDOW]}, "inputs is a plain value/list, but expecting an object as multiple input tensors"),
        (
            {"instances": [ROW, {"windows": WINDOW}]},
            f"Failed to process element: 1 {NAMES_DIFFER.format(1, 'windows,future,time')}",
        ),
        (
            {"instances": [{**ROW, MARK: 1}]},
            f"Failed to process element: 0 {NAMES_DIFFER.format(4, 'windows,future,time')}",
        ),
        ({"inputs": {"windows": [WINDOW], "time": [1]}}, "Missing named input: future in 'inputs' object."),
        (
            {"instances": [ROW, {**ROW, "future": [[1], [MARK], [3]]}]},
            element(1, f"JSON Value: (at instances[1].future[1][0]) Type: String {NOT_FLOAT}", key=" key: future"),
        ),
        (
            {"instances": [{**ROW, "future": [[1], [2]]}]},
            element(
                0,
                "Expecting tensor size: 3 but got: 2; input future takes shape [3,1], this has [2,1]",
                key=" key: future",
            ),
        ),
        (
            {"instances": [{**ROW, "time": MARK}]},
            element(0, f"JSON Value: (at instances[0].time) Type: String {NOT_A_TIME}", key=" key: time"),
        ),
        (
            {"inputs": {"windows": [WINDOW], "future": [ROW["future"]], "time": [1.5]}},
            f"JSON Value: (at inputs.time[0]) Type: Number {NOT_A_TIME}, got a number that is not whole",
        ),
        (
            {"inputs": {"windows": [WINDOW] * 2, "future": [ROW["future"]] * 2, "time": [1, None]}},
            f"JSON Value: (at inputs.time[1]) Type: Null {NOT_A_TIME}, got null",
        ),
        (
            {"inputs": {"windows": [WINDOW] * 2, "future": [ROW["future"]] * 2, "time": [1]}},
            "Inputs must have equal size in dimension 0, which is the batch, but have: windows 2, future 2, time 1",
        ),
        (
            {"inputs": {"windows": [WINDOW], "future": ROW["future"], "time": [1]}},
            "Expecting tensor size: 9 but got: 3; input future takes shape [-1,3,1], this has [3,1]",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_future_or_a_time_is_told(content: dict[str, Any], problem: str) -> None:
    assert error_of(content, AHEAD).startswith(problem)
