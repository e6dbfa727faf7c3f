"""Native bodies for models that take more than windows: inputs, or an error that says what is wrong where."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import Inputs
from app.errors import BatchTooLarge, InvalidRequest, ServiceError
from app.payloads import native
from app.payloads.sizes import Largest
from app.version.manifest import Contract
from tests.ahead import ahead_contract
from tests.versions import contract_of

BOTH = ahead_contract()
"""temp is known for 3 rows ahead, and the hour of the day."""
TWO_KNOWN = ahead_contract(known=("temp", "load"), calendar=())
CALENDAR = ahead_contract(known=())
STEPS = ahead_contract(known=(), unit="step")

WINDOW = [[1, 0], [2, 0], [3, 0], [6, 0]]
FUTURE = [[10], [20], [30]]
NOON = "2026-11-29T12:00:00"
NOON_NUMBER = 498876
"""Hours from 1970 to that noon."""

MARK = "hunter2"
"""Put into hostile payloads; must not come back."""


def read(contract: Contract = BOTH, **fields: Any) -> Inputs:
    body = json.dumps({"window": WINDOW, **fields}).encode()
    return native.read_window(body, contract)


def read_batch(contract: Contract = BOTH, **fields: Any) -> Inputs:
    body = json.dumps({"windows": [WINDOW, WINDOW], **fields}).encode()
    return native.read_windows(body, contract, 8)


def problems(ask: Callable[[], object]) -> list[tuple[str, str]]:
    """Where something is wrong, and what."""
    with pytest.raises(InvalidRequest) as caught:
        ask()
    assert MARK not in str(caught.value.errors)
    return [(error.pointer, error.message) for error in caught.value.errors]


@pytest.mark.parametrize(
    "future",
    [FUTURE, [10, 20, 30], [{"temp": 10}, {"temp": 20}, {"temp": 30}]],
    ids=["rows", "flat", "by name"],
)
@pytest.mark.parametrize(
    "time", [NOON, "2026-11-29 12:59:59.999999", "2026-11-29T12+09:00", "20261129T12", NOON_NUMBER]
)
def test_a_window_comes_with_its_future_and_its_time(future: Any, time: Any) -> None:
    inputs = read(future=future, time=time)
    assert_array_equal(inputs.windows, [WINDOW])
    assert_array_equal(inputs.future, [FUTURE])
    assert_array_equal(inputs.time, [NOON_NUMBER])
    assert (inputs.future.dtype, inputs.time.dtype) == (np.float32, np.int64)  # type: ignore[union-attr]


def test_names_come_in_any_order() -> None:
    rows = [{"load": 1, "temp": 10}, {"temp": 20, "load": 2}, {"load": 3, "temp": 30}]
    assert_array_equal(read(TWO_KNOWN, future=rows).future, [[[10, 1], [20, 2], [30, 3]]])


def test_records_may_stand_beside_them() -> None:
    records = [{"load": load, "temp": temp} for load, temp in WINDOW]
    inputs = native.read_window(json.dumps({"records": records, "future": FUTURE, "time": NOON}).encode(), BOTH)
    assert_array_equal(inputs.windows, [WINDOW])
    assert_array_equal(inputs.future, [FUTURE])


def test_a_batch_comes_with_a_future_and_a_time_for_each_window() -> None:
    named = [{"temp": 10}, {"temp": 20}, {"temp": 30}]
    for futures in ([FUTURE, FUTURE], [named, named], [named, FUTURE], [FUTURE, [10, 20, 30]]):
        inputs = read_batch(futures=futures, times=[NOON, -1])
        assert_array_equal(inputs.windows, [WINDOW, WINDOW])
        assert_array_equal(inputs.future, [FUTURE, FUTURE])
        assert_array_equal(inputs.time, [NOON_NUMBER, -1])


NEEDS_BOTH = (
    "this model needs future (values of temp in the rows to forecast) and time (of the first row to forecast) too"
)
BEYOND_FLOAT32 = "expected a number within float32 (at most 3.4e+38 either way), got a larger one"
UNKNOWN = "unknown field; this takes "
NEEDS_TIME = "this model needs time (of the first row to forecast) too"
NOT_A_TIME = "expected a time such as 2026-11-29T13:00:00, or the whole number of a row, got "


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, [("", NEEDS_BOTH)]),
        ({"future": None, "time": None}, [("", NEEDS_BOTH)]),
        ({"future": FUTURE}, [("", NEEDS_TIME)]),
        ({"time": NOON}, [("", "this model needs future (values of temp in the rows to forecast) too")]),
        ({"future": FUTURE[1:], "time": NOON}, [("/future", "expected 3 rows, got 2")]),
        ({"future": [], "time": NOON}, [("/future", "expected 3 rows, got 0")]),
        ({"future": MARK, "time": NOON}, [("/future", "expected a list of 3 rows, got a string")]),
        ({"future": [[1], [2, 3], [4]], "time": NOON}, [("/future/1", "expected 1 known column (temp), got 2")]),
        (
            {"future": [[1], [MARK], [None]], "time": NOON},
            [("/future/1/0", "expected a number, got a string"), ("/future/2/0", "expected a number, got null")],
        ),
        ({"future": [[1], [2], [1e300]], "time": NOON}, [("/future/2/0", BEYOND_FLOAT32)]),
        ({"future": [1, True, 3], "time": NOON}, [("/future/1", "expected a number, got a boolean")]),
        (
            {"future": [{"temp": 1}, {"temp": MARK}, {"temp": 2}], "time": NOON},
            [("/future/1/temp", "expected a number, got a string")],
        ),
        (
            {"future": [{"temp": 1}, {MARK: 1}, {"temp": 2}], "time": NOON},
            [("/future/1", "expected temp; temp missing")],
        ),
        (
            {"future": [{"temp": 1}, {"temp": 1, MARK: 1}, [2]], "time": NOON},
            [
                ("/future/1", "expected temp only; unknown names: 1"),
                ("/future/2", "expected an object with temp, got a list"),
            ],
        ),
        ({"future": FUTURE, "time": MARK}, [("/time", NOT_A_TIME + "another string")]),
        ({"future": FUTURE, "time": "2026-02-30"}, [("/time", NOT_A_TIME + "another string")]),
        ({"future": FUTURE, "time": "1" * 10**5}, [("/time", NOT_A_TIME + "another string")]),
        ({"future": FUTURE, "time": 1.5}, [("/time", NOT_A_TIME + "a number that is not whole")]),
        ({"future": FUTURE, "time": True}, [("/time", NOT_A_TIME + "a boolean")]),
        ({"future": FUTURE, "time": [NOON]}, [("/time", NOT_A_TIME + "a list")]),
        ({"future": FUTURE, "time": 2**63}, [("/time", "expected a whole number within int64, got a larger one")]),
        (
            {"future": FUTURE, "time": NOON, MARK: 1},
            [("", UNKNOWN + "window or records, future, time; several windows go to POST /predict/batch")],
        ),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_is_named(fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert problems(lambda: read(**fields)) == found


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, [("", NEEDS_BOTH)]),
        (
            {"futures": [FUTURE] * 2, "times": [NOON] * 2, MARK: 1},
            [("", UNKNOWN + "windows, futures, times; a single window goes to POST /predict")],
        ),
        ({"futures": [FUTURE], "times": [NOON, NOON]}, [("", "expected 2 futures, one for each window, got 1")]),
        ({"futures": [FUTURE] * 2, "times": [NOON] * 9}, [("", "expected 2 times, one for each window, got 9")]),
        (
            {"futures": [FUTURE, MARK], "times": [NOON, 1.5]},
            [
                ("/futures/1", "expected a list of 3 rows, got a string"),
                ("/times/1", NOT_A_TIME + "a number that is not whole"),
            ],
        ),
        (
            {"futures": [FUTURE, [{"temp": 1}, {}, {"temp": 1}]], "times": [NOON, NOON]},
            [("/futures/1/1", "expected temp; temp missing")],
        ),
        (
            {"futures": MARK, "times": []},
            [
                ("/futures", "expected a list of at least 1 entry along batch, got a string"),
                ("/times", "expected at least 1 entry along batch, got 0"),
            ],
        ),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_in_a_batch_is_named(fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert problems(lambda: read_batch(**fields)) == found


@pytest.mark.parametrize(
    ("contract", "fields", "found"),
    [
        (contract_of(), {"future": FUTURE}, [("/future", "this model takes no future; leave it out")]),
        (contract_of(), {"time": MARK}, [("/time", "this model takes no time; leave it out")]),
        (CALENDAR, {"future": FUTURE, "time": NOON}, [("/future", "this model takes no future; leave it out")]),
        (TWO_KNOWN, {"future": [[1, 2]] * 3, "time": 1}, [("/time", "this model takes no time; leave it out")]),
    ],
)
def test_what_is_superfluous_is_named(contract: Contract, fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert problems(lambda: read(contract, **fields)) == found
    several = {f"{name}s": [value, value] for name, value in fields.items()}
    assert problems(lambda: read_batch(contract, **several)) == [
        (f"{pointer}s", message.replace(pointer[1:], f"{pointer[1:]}s")) for pointer, message in found
    ]


def test_rows_that_carry_numbers_have_no_times() -> None:
    assert_array_equal(read(STEPS, time=7).time, [7])
    assert problems(lambda: read(STEPS, time=NOON)) == [("/time", "expected the whole number of a row, got a string")]


def test_a_batch_has_as_few_windows_as_any() -> None:
    with pytest.raises(BatchTooLarge):
        native.read_windows(json.dumps({"windows": [WINDOW] * 9}).encode(), BOTH, 8)


@pytest.mark.parametrize(
    "contract", [BOTH, TWO_KNOWN, CALENDAR, ahead_contract(known=("a,[{:", "é"), features=("load", "a,[{:", "é"))]
)
def test_the_largest_bodies_are_taken(contract: Contract) -> None:
    number, count = -1.2345678901234567e-300, 5000
    record = dict.fromkeys(contract.feature_names, number)
    future = [dict.fromkeys(contract.known, number)] * contract.horizon
    time = "2026-11-29T13:00:00.123456+00:00"
    one: dict[str, Any] = {"records": [record] * contract.steps}
    many: dict[str, Any] = {"windows": [[[number] * len(contract.features)] * contract.steps] * count}
    if contract.known:
        one["future"], many["futures"] = future, [future] * count
    if contract.calendar:
        one["time"], many["times"] = time, [time] * count
    assert_is_taken(one, native.largest_window(contract), lambda body: native.read_window(body, contract))
    assert_is_taken(
        many, native.largest_batch(contract, count), lambda body: native.read_windows(body, contract, count)
    )


def assert_is_taken(content: object, largest: Largest, read: Callable[[bytes], Inputs]) -> None:
    """However the body is indented and escaped."""
    for indent, ascii_only in ((4, True), (4, False), (None, True)):
        body = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode()
        assert len(body) <= largest.max_bytes
        try:
            read(body)
        except ServiceError as error:
            raise AssertionError(error.detail) from error


VALUES = st.sampled_from([0, -1.5, 1e300, 2**70, True, None, "2026-11-29T13:00:00", "2026-02-30", [], [1]])
ROWS = st.lists(VALUES | st.lists(VALUES, max_size=2), max_size=4)
SOUND_ROWS = st.lists(st.floats(-1e9, 1e9).map(lambda number: [number]), min_size=3, max_size=3)


@given(
    window=st.just(WINDOW) | ROWS,
    future=SOUND_ROWS | SOUND_ROWS.map(lambda rows: [row[0] for row in rows]) | ROWS,
    time=st.sampled_from([NOON, "2026-11-29", 7, -(2**62)]) | VALUES | ROWS,
    indent=st.sampled_from([None, 1]),
)
@settings(max_examples=300)
def test_what_is_read_quickly_is_read_so_by_pydantic(window: Any, future: Any, time: Any, indent: int | None) -> None:
    body = json.dumps({"window": window, "future": future, "time": time}, indent=indent).encode()
    usual = native.read_usual_window(body, BOTH)
    if usual is not None:
        slowly = native.WindowRequest.model_validate_json(body, context=BOTH).inputs
        for name, array in usual.named().items():
            assert_array_equal(array, slowly.named()[name])
            assert array.dtype == slowly.named()[name].dtype


@pytest.mark.parametrize("contract", [BOTH, TWO_KNOWN, CALENDAR], ids=["both", "known", "calendar"])
@pytest.mark.parametrize("time", [NOON, "2026-11-29", NOON_NUMBER])
def test_the_usual_bodies_are_read_quickly(contract: Contract, time: Any) -> None:
    fields: dict[str, Any] = {"window": WINDOW}
    if contract.known:
        fields["future"] = [[1.5] * len(contract.known)] * 3
    if contract.calendar:
        fields["time"] = time
    assert native.read_usual_window(json.dumps(fields).encode(), contract) is not None
    for missing in fields:
        rest = {name: value for name, value in fields.items() if name != missing}
        assert native.read_usual_window(json.dumps(rest).encode(), contract) is None
