"""Payloads in, float32 tensors or located errors out."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.arrays import FLOAT32_MAX, Array
from app.errors import MAX_LOCATED_ERRORS
from app.payloads.windows import RecordsWindow, Window, Windows
from app.version.manifest import Contract
from tests.versions import contract_of

WINDOW: TypeAdapter[Array] = TypeAdapter(Window)
WINDOWS: TypeAdapter[Array] = TypeAdapter(Windows)
RECORDS: TypeAdapter[Array] = TypeAdapter(RecordsWindow)

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)

TWO_BY_TWO = contract_of(steps=2, features=("load", "temp"))
THREE_FLAT = contract_of(steps=3, features=("co2",))

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ANY_JSON = st.recursive(SCALARS, lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=3), part))


def nearly(leaf: st.SearchStrategy[Any], depth: int) -> st.SearchStrategy[Any]:
    """Nested lists that are almost of a right shape."""
    if depth == 0:
        return leaf
    inner = nearly(leaf, depth - 1)
    return st.lists(inner, min_size=2, max_size=2) | st.lists(inner, max_size=3) | SCALARS


NEARLY_WINDOWS = nearly(st.integers(-9, 9) | FINITE, 3) | nearly(SCALARS, 3)
NEARLY_RECORDS = st.lists(st.dictionaries(st.sampled_from(["load", "temp", "x"]), FINITE | SCALARS) | SCALARS)


def mistakes(adapter: TypeAdapter[Array], payload: str, contract: Contract | None) -> list[tuple[tuple[Any, ...], str]]:
    with pytest.raises(ValidationError) as caught:
        adapter.validate_json(payload, context=contract)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def read_or_locate(adapter: TypeAdapter[Array], payload: Any, contract: Contract) -> Array | None:
    """The array; None where the payload is refused, once every error is seen to lead to something in it."""
    try:
        return adapter.validate_json(json.dumps(payload), context=contract)
    except ValidationError as error:
        refusal = error
    assert 0 < refusal.error_count() <= MAX_LOCATED_ERRORS
    assert all(resolves(payload, finding["loc"]) for finding in refusal.errors())
    return None


def resolves(payload: Any, place: tuple[Any, ...]) -> bool:
    """Whether a location leads to something in the payload."""
    for part in place:
        try:
            payload = payload[part]
        except (TypeError, LookupError):
            return False
    return True


@given(arrays(np.float32, array_shapes(min_dims=3, max_dims=3, max_side=4), elements=FINITE))
def test_any_finite_float32_array_survives_json(array: Array) -> None:
    received = WINDOWS.validate_json(json.dumps(array.tolist()))
    assert received.dtype == np.float32
    assert_array_equal(received, array)
    assert WINDOWS.dump_python(received) == array.tolist()


@given(payload=ANY_JSON | NEARLY_WINDOWS, contract=st.sampled_from([TWO_BY_TWO, THREE_FLAT]))
def test_any_json_gives_an_array_of_the_contract_or_located_errors(payload: Any, contract: Contract) -> None:
    received = read_or_locate(WINDOWS, payload, contract)
    if received is not None:
        assert received.shape == (len(payload), *contract.window_shape)
        assert np.isfinite(received).all()


@given(payload=ANY_JSON | NEARLY_RECORDS)
def test_any_json_gives_a_window_from_records_or_located_errors(payload: Any) -> None:
    received = read_or_locate(RECORDS, payload, TWO_BY_TWO)
    if received is not None:
        assert received.tolist() == [[record["load"], record["temp"]] for record in payload]


@pytest.mark.parametrize(
    ("payload", "place", "message"),
    [
        ("1", (), "expected a list of 2 steps, got a number"),
        ("null", (), "expected a list of 2 steps, got null"),
        ("{}", (), "expected a list of 2 steps, got an object"),
        ("[]", (), "expected 2 steps, got 0"),
        ("[[1, 2], [3, 4], [5]]", (), "expected 2 steps, got 3"),
        ("[[1, 2], [3]]", (1,), "expected 2 features (load, temp), got 1"),
        ("[[1, 2], []]", (1,), "expected 2 features (load, temp), got 0"),
        ("[[1, 2], 3]", (1,), "expected a list of 2 features (load, temp), got a number"),
        ("[[1, 2], [3, [4]]]", (1, 1), "expected a number, got a list"),
        ('[["1.5", 2], [3, 4]]', (0, 0), "expected a number, got a string"),
        ("[[true, 2], [3, 4]]", (0, 0), "expected a number, got a boolean"),
        ("[[null, 2], [3, 4]]", (0, 0), "expected a number, got null"),
        ("[[1, 2], [3, NaN]]", (1, 1), "expected a finite number, got NaN"),
        ("[[1, 2], [-Infinity, 4]]", (1, 0), "expected a number within float32 (at most 3.4e+38 either way)"),
        ("[[1, 2], [1e999, 4]]", (1, 0), "expected a number within float32 (at most 3.4e+38 either way)"),
        ("[[1, 2], [3.5e38, 4]]", (1, 0), "expected a number within float32 (at most 3.4e+38 either way)"),
        (f"[[1, 2], [{10**400}, 4]]", (1, 0), "expected a number within float32 (at most 3.4e+38 either way)"),
    ],
)
def test_a_wrong_window_is_told_where_and_how(payload: str, place: tuple[int, ...], message: str) -> None:
    [(where, what)] = mistakes(WINDOW, payload, TWO_BY_TWO)
    assert (where, what[: len(message)]) == (place, message)


def test_the_largest_float32_is_taken() -> None:
    received = WINDOW.validate_json(f"[[{FLOAT32_MAX!r}, {-FLOAT32_MAX!r}], [0, -0.0]]", context=TWO_BY_TWO)
    assert np.abs(received).tolist() == [[LARGEST_FLOAT32, LARGEST_FLOAT32], [0, 0]]
    assert WINDOW.validate_json("[[3.4028235e+38, 1], [1, 1]]", context=TWO_BY_TWO)[0, 0] == LARGEST_FLOAT32


def test_integers_are_taken_as_numbers() -> None:
    assert_array_equal(WINDOW.validate_json(f"[[1, {2**70}], [3, 4]]", context=TWO_BY_TWO), [[1, 2.0**70], [3, 4]])


def test_every_mistake_of_a_batch_is_located() -> None:
    payload = "[[[1, 2], [3, 4]], [[1, null], [3]], 5]"
    assert [place for place, _ in mistakes(WINDOWS, payload, TWO_BY_TWO)] == [(1, 0, 1), (1, 1), (2,)]


def test_mistakes_beyond_the_first_twenty_are_not_listed() -> None:
    places = [place for place, _ in mistakes(WINDOWS, json.dumps(["x"] * 20_000), TWO_BY_TWO)]
    assert places == [(index,) for index in range(20)]


@pytest.mark.parametrize(
    ("payload", "place", "message"),
    [
        ("[]", (), "expected at least 1 entry along steps, got 0"),
        ("[[]]", (0,), "expected at least 1 entry along features, got 0"),
        ("[3]", (0,), "expected a list of at least 1 entry along features, got a number"),
    ],
)
def test_without_a_contract_every_list_needs_an_entry(payload: str, place: tuple[int, ...], message: str) -> None:
    assert mistakes(WINDOW, payload, None) == [(place, message)]


def test_without_a_contract_the_first_list_sets_the_size() -> None:
    [(place, message)] = mistakes(WINDOW, "[[1, 2, 3], [4, 5, 6], [7, 8]]", None)
    assert (place, message) == ((2,), "expected 3 features as in the first list, got 2")


def test_one_feature_needs_no_innermost_lists() -> None:
    nested = WINDOWS.validate_json("[[[1], [2], [3]]]", context=THREE_FLAT)
    assert_array_equal(WINDOWS.validate_json("[[1, 2, 3]]", context=THREE_FLAT), nested)
    assert_array_equal(WINDOW.validate_json("[1, 2, 3]", context=THREE_FLAT), nested[0])


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ("[1, null, 3]", (1,)),
        ("[1, [2], 3]", (1,)),
        ("[[1], 2, [3]]", (1,)),
        ("[[1], [null], [3]]", (1, 0)),
        ("[1, 2]", ()),
        ("[1, [2, 3], 4]", (1,)),
        ("[1, [], 2]", (1,)),
    ],
)
def test_mistakes_in_a_flat_window_point_at_what_was_sent(payload: str, place: tuple[int, ...]) -> None:
    assert [where for where, _ in mistakes(WINDOW, payload, THREE_FLAT)] == [place]


def test_records_give_the_features_in_the_order_of_the_contract() -> None:
    payload = '[{"temp": 2, "load": 1}, {"load": 3, "temp": 4}]'
    assert_array_equal(RECORDS.validate_json(payload, context=TWO_BY_TWO), [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("payload", "place", "message"),
    [
        ("{}", (), "expected a list of objects, got an object"),
        ("[]", (), "expected 2 steps, got 0"),
        ('[{"load": 1, "temp": 2}]', (), "expected 2 steps, got 1"),
        ('[{"load": 1, "temp": 2}, 3]', (1,), "expected an object with load, temp, got a number"),
        ('[{"load": 1, "temp": 2}, {"load": 3}]', (1,), "expected load, temp; temp missing"),
        ('[{"load": 1, "temp": 2}, {"load": 3, "secret": 4}]', (1,), "expected load, temp; temp missing"),
        (
            '[{"load": 1, "temp": 2}, {"load": 3, "temp": 4, "secret": 5}]',
            (1,),
            "expected load, temp only; unknown names: 1",
        ),
        ('[{"load": 1, "temp": 2}, {"load": 3, "temp": "4"}]', (1, "temp"), "expected a number, got a string"),
    ],
)
def test_wrong_records_are_told_where_and_how(payload: str, place: tuple[int | str, ...], message: str) -> None:
    [(where, what)] = mistakes(RECORDS, payload, TWO_BY_TWO)
    assert (where, what[: len(message)]) == (place, message)
    assert "secret" not in what


def test_records_cannot_be_read_without_a_contract() -> None:
    assert mistakes(RECORDS, '[{"load": 1}]', None) == [((), "records can only be read with a model's contract")]


def test_the_types_work_in_any_pydantic_model() -> None:
    class Question(BaseModel):
        model_config = {"arbitrary_types_allowed": True}
        before: Windows

    question = Question.model_validate({"before": np.ones((1, 2, 2))}, context=TWO_BY_TWO)
    assert question.model_dump_json() == '{"before":[[[1.0,1.0],[1.0,1.0]]]}'
    assert Question.model_json_schema()["properties"]["before"]["minItems"] == 1


def test_many_features_are_named_in_brief() -> None:
    contract = contract_of(steps=1, features=[f"f{index}" for index in range(20)])
    [(_, message)] = mistakes(WINDOW, "[[1]]", contract)
    needed = "(1 step, 20 features (f0, f1, f2, f3, f4, f5, f6, f7 and 12 more))"
    assert message.startswith(f"expected an array of {needed}, got one of (1, 1); ")
    assert "frame[features]" in message


@pytest.mark.parametrize(
    ("adapter", "shape", "line"),
    [
        (WINDOW, (1, 2, 2), "window[0]"),
        (WINDOW, (3, 2, 2), 'POST /predict/batch, in JSON as {"windows": window}'),
        (WINDOW, (3, 2), "window[-2:]"),
        (WINDOW, (1, 2), "table[-2:]"),
        (WINDOW, (4,), "window.reshape(2, 2)"),
        (WINDOW, (2,), 'frame[["load", "temp"]].to_numpy()'),
        (WINDOW, (2, 3), 'frame[["load", "temp"]].to_numpy()'),
        (WINDOWS, (2, 2), "window[np.newaxis]"),
        (WINDOWS, (1, 3, 2, 2), "windows.reshape(-1, 2, 2)"),
        (WINDOWS, (3, 5, 2), "windows[:, -2:]"),
    ],
)
def test_a_wrong_shape_is_told_once_with_the_one_that_came_and_the_line_that_puts_it_right(
    adapter: TypeAdapter[Array], shape: tuple[int, ...], line: str
) -> None:
    [(place, message)] = mistakes(adapter, json.dumps(np.ones(shape).tolist()), TWO_BY_TWO)
    assert place == ()
    assert "(2 steps, 2 features (load, temp))" in message or "(batch, 2 steps, 2 features (load, temp))" in message
    assert f"got one of {shape}; " in message
    assert line in message


def test_a_wrong_shape_without_a_remedy_is_told_once_too() -> None:
    [(place, message)] = mistakes(WINDOWS, json.dumps(np.ones((5, 7, 9)).tolist()), TWO_BY_TWO)
    assert place == ()
    assert message.endswith("got one of (5, 7, 9)")
