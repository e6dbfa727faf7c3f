"""JSON bodies of the native routes: windows, or an error that points at the value and repeats nothing of it."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import Array
from app.errors import MAX_LOCATED_ERRORS, BatchTooLarge, MalformedBody, ServiceError
from app.payloads import native
from tests.versions import contract_of, some_windows

CONTRACT = contract_of()
"""4 steps of load and temp."""
WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
MAX_WINDOWS = 8

MARK = "hunter2"
"""Put into hostile payloads; must not come back."""

Read = Callable[[bytes], Array]


def read_window(body: bytes) -> Array:
    return native.read_window(body, CONTRACT).windows


def read_windows(body: bytes, max_windows: int = MAX_WINDOWS) -> Array:
    return native.read_windows(body, CONTRACT, max_windows).windows


READERS = {"/predict": read_window, "/predict/batch": read_windows}


def told(error: ServiceError) -> str:
    """Everything that an error says, once it is seen to be bounded and to repeat no mark."""
    assert len(error.errors) <= MAX_LOCATED_ERRORS
    texts = " ".join([error.detail, *(f"{located.pointer} {located.message}" for located in error.errors)])
    assert MARK not in texts
    return texts


def refusal(body: bytes | str, read: Read = read_window) -> ServiceError:
    """The error that a body is refused with."""
    with pytest.raises(ServiceError) as caught:
        read(body.encode() if isinstance(body, str) else body)
    told(caught.value)
    return caught.value


def test_records_are_read_whatever_the_order_of_their_features() -> None:
    records = [{"temp": temp, "load": load} for load, temp in WINDOW]
    assert_array_equal(read_window(json.dumps({"records": records}).encode()), [WINDOW])


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ("", 400, None),
        (MARK, 400, None),
        ("{", 400, None),
        ('{"window": [[1, 2],]}', 400, None),
        ('{"window": "\\ud800"}', 400, None),
        (b'{"window": "\xff\xfe"}', 400, None),
        (b"\xef\xbb\xbf{}", 400, None),
        ('{"window": []}'.encode("utf-16"), 400, None),
        (gzip.compress(b'{"window": []}', mtime=0), 400, None),
        ("[" * 900, 400, None),
        ('{"window": ' + "[" * 900 + "]" * 900 + "}", 400, None),
        ('{"window": ' + "[" * 60_000, 400, None),
        ('{"a":' * 60_000, 400, None),
        ('{"window": ' + "[" * 100_000, 413, None),
        ('{"a":' * 100_000, 413, None),
        ("null", 422, ""),
        ("[]", 422, ""),
        (f'"{MARK}"', 422, ""),
        ("{}", 422, ""),
        ('{"window": null}', 422, ""),
        (f'{{"{MARK}": 1}}', 422, ""),
        (f'{{"window": [[1, 0], [2, 0], [3, 0], [6, 0]], "{MARK}": 1}}', 422, ""),
        ('{"window": [[1,0],[1,0],[1,0],[1,0]], "records": [' + ",".join(['{"load":1,"temp":0}'] * 4) + "]}", 422, ""),
        ("{" + ",".join(f'"{number}": 0' for number in range(20_000)) + "}", 422, ""),
        ('{"window": []}', 422, "/window"),
        ('{"window": {}}', 422, "/window"),
        ('{"window": [[1, 0], [2, 0], [3, 0]]}', 422, "/window"),
        ('{"window": [1, 2, 3, 4]}', 422, "/window"),
        ('{"window": [1, 2, 3, "4"]}', 422, "/window/0"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6]]}', 422, "/window/3"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, NaN]]}', 422, "/window/3/1"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, -Infinity]]}', 422, "/window/3/1"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, 1e999]]}', 422, "/window/3/1"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, 1e39]]}', 422, "/window/3/1"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, true]]}', 422, "/window/3/1"),
        ('{"window": [[1, 0], [2, 0], [3, 0], [6, null]]}', 422, "/window/3/1"),
        (f'{{"window": [[1, 0], [2, 0], [3, 0], [6, "{MARK}"]]}}', 422, "/window/3/1"),
        (f'{{"window": [[1, 0], [2, 0], [3, 0], [6, {{"{MARK}": 1}}]]}}', 422, "/window/3/1"),
        ('{"records": []}', 422, "/records"),
        ('{"records": [{"load": 1}, {"load": 1}, {"load": 1}, {"load": 1}]}', 422, "/records/0"),
        (
            '{"records": [' + '{"load": 1, "temp": 0},' * 3 + f'{{"load": 1, "temp": 0, "{MARK}": 1}}]}}',
            422,
            "/records/3",
        ),
        (
            '{"records": [' + '{"load": 1, "temp": 0},' * 3 + f'{{"load": 1, "temp": "{MARK}"}}]}}',
            422,
            "/records/3/temp",
        ),
    ],
)
def test_a_hostile_body_is_refused_at_its_place(body: bytes | str, status: int, pointer: str | None) -> None:
    error = refusal(body)
    assert error.status == status
    assert pointer is None or error.errors[0].pointer == pointer


def test_an_integer_of_five_thousand_digits_is_refused() -> None:
    error = refusal('{"window": [[1, 0], [2, 0], [3, 0], [6, ' + "9" * 5000 + "]]}")
    assert error.status in {400, 422}
    assert "999" not in told(error)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ("{}", "/windows"),
        ('{"windows": []}', "/windows"),
        ('{"windows": [[]]}', "/windows/0"),
        ('{"windows": [[[1, 0], [2, 0], [3, 0], [6, 0]], [[1, 0], [2, 0], [3, 0], [6, "x"]]]}', "/windows/1/3/1"),
        ('{"window": [[[1, 0], [2, 0], [3, 0], [6, 0]]]}', "/windows"),
    ],
)
def test_a_wrong_batch_is_refused_as_a_whole(body: str, pointer: str) -> None:
    error = refusal(body, read_windows)
    assert (error.status, error.errors[0].pointer) == (422, pointer)


BATCH_TAKES = "(batch, 4 steps, 2 features (load, temp)), the batch not empty"


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (
            "/predict",
            {"window": [WINDOW]},
            {
                "pointer": "/window",
                "message": "expected an array of (4 steps, 2 features (load, temp)), got one of (1, 4, 2); "
                "this is a batch of one window; send the window itself: window[0]",
            },
        ),
        (
            "/predict/batch",
            {"windows": WINDOW},
            {
                "pointer": "/windows",
                "message": f"expected an array of {BATCH_TAKES}, got one of (4, 2); "
                "this is one window; make it a batch of one: [window], or in NumPy window[np.newaxis]",
            },
        ),
        (
            "/predict/batch",
            {"windows": [list(zip(*WINDOW, strict=True))]},
            {
                "pointer": "/windows",
                "message": f"expected an array of {BATCH_TAKES}, got one of (1, 2, 4); "
                "steps and features are swapped: windows.transpose(0, 2, 1)",
            },
        ),
        (
            "/predict",
            {"windows": [WINDOW]},
            {
                "pointer": "",
                "message": "unknown field; this takes window or records; several windows go to POST /predict/batch",
            },
        ),
    ],
)
def test_a_window_for_a_batch_and_the_like_is_told_with_what_to_do(
    path: str, body: object, error: dict[str, str]
) -> None:
    refused = refusal(json.dumps(body), READERS[path])
    assert refused.status == 422
    assert error in [{"pointer": located.pointer, "message": located.message} for located in refused.errors]


def test_the_steps_of_a_single_window_are_not_counted_as_a_batch_beyond_the_limit() -> None:
    error = refusal(json.dumps({"windows": WINDOW}), lambda body: read_windows(body, max_windows=2))
    assert error.errors[0].message.endswith("window[np.newaxis]")


@pytest.mark.parametrize("windows", [[WINDOW] * 9, [[["unusual", 0], *WINDOW[1:]]] * 9, [MARK] * 20_000])
def test_windows_beyond_the_limit_are_refused_before_any_is_looked_at(windows: list[Any]) -> None:
    error = refusal(json.dumps({"windows": windows}), read_windows)
    assert isinstance(error, BatchTooLarge)
    assert read_windows(json.dumps({"windows": [WINDOW] * 8}).encode()).shape == (8, 4, 2)


@pytest.mark.parametrize(("field", "read"), [("window", read_window), ("windows", read_windows)])
def test_of_twenty_thousand_problems_the_first_twenty_are_told(field: str, read: Read) -> None:
    windows = [[[MARK] * 2_500] * 4] * 2
    error = refusal(json.dumps({field: windows if field == "windows" else [[MARK] * 5_000] * 4}), read)
    assert error.status == 422
    assert len(error.errors) > 1


MARKED = st.text(max_size=99).map(lambda text: text + MARK)


@settings(max_examples=1000)
@given(body=st.binary(max_size=200) | MARKED.map(str.encode) | MARKED.map(json.dumps).map(str.encode))
def test_any_bytes_get_a_bounded_error_that_does_not_repeat_them(body: bytes) -> None:
    for read in READERS.values():
        assert refusal(body, read).status in {400, 413, 422}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(WINDOW),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.sampled_from(["window", "records", "load"]), part),
)


@settings(max_examples=1000)
@given(content=ANY_JSON, field=st.sampled_from(["window", "records", "windows"]))
def test_any_json_is_read_as_windows_or_gets_a_bounded_error(content: Any, field: str) -> None:
    read = read_windows if field == "windows" else read_window
    body = json.dumps({field: content}).encode()
    try:
        windows = read(body)
    except ServiceError:
        assert refusal(body, read).status in {400, 422}
    else:
        assert windows.shape == (len(content) if field == "windows" else 1, 4, 2)
        assert windows.dtype == np.float32
        assert np.isfinite(windows).all()


def test_what_is_no_json_is_malformed() -> None:
    assert isinstance(refusal("{"), MalformedBody)


def test_an_answer_holds_the_shortest_numbers_that_are_the_same() -> None:
    forecasts = some_windows(2, contract_of(steps=2, features=("load",)))
    body = native.write_answer("default", 2, ("load",), b"predictions", forecasts)
    answer = native.BatchResponse.model_validate_json(body)
    assert (answer.model, answer.version, answer.targets) == ("default", 2, ("load",))
    assert_array_equal(answer.predictions, forecasts)
