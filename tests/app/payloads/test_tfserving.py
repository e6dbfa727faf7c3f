"""Bodies of TensorFlow Serving's API, read without a service."""

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import ServiceError
from app.payloads.tfserving.reading import BodyReader
from app.version.signature import Layout, TensorSpec

NUMBERS = Layout((TensorSpec("x", (2,)),))
TRAILING = b" and more, which nothing but the slow way overlooks"


def outcome_of(body: bytes) -> Any:
    """What a body is read as, with the sign of a zero, or the text of the error."""
    try:
        orientation, windows = BodyReader(NUMBERS, 8, allow_nan=False).read(body)
    except ServiceError as error:
        return error.detail
    return orientation, windows.shape, windows.tobytes()


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
