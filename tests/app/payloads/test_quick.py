"""Bodies that are read without a Python object per number: the same numbers, or none at all."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from pydantic import ValidationError

from app.payloads.native import BatchRequest, WindowRequest
from app.payloads.quick import WindowReader
from app.payloads.tfserving.document import Orientation
from app.payloads.tfserving.reading import BodyReader, quick_reader
from app.version.signature import InputLayout, Layout, TensorSpec
from tests.versions import contract_of, some_windows

CONTRACTS = {1: contract_of(steps=4, features=("co2",)), 2: contract_of(steps=4)}

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
WHITE_SPACE = st.sampled_from(["", " ", "\n\t", "\r\n  "])
SCALARS: st.SearchStrategy[Any] = NUMBERS | st.sampled_from([None, True, "1", "", {}, [], float("nan"), 1e39, 10**400])


def reader_for(features: int) -> WindowReader:
    return WindowReader(*CONTRACTS[features].window_shape)


def shaped(*sizes: int) -> st.SearchStrategy[Any]:
    """Nested lists of numbers, sizes from the outermost in."""
    nested: st.SearchStrategy[Any] = NUMBERS
    for size in reversed(sizes):
        nested = st.lists(nested, min_size=size, max_size=size)
    return nested


def by_pydantic(model: type[Any], body: bytes, features: int) -> Any:
    """What the public type reads; None where it refuses."""
    try:
        return model.model_validate_json(body, context=CONTRACTS[features]).inputs.windows
    except (ValidationError, ValueError):
        return None


@given(st.data(), st.sampled_from([1, 2]), st.integers(1, 3), WHITE_SPACE)
def test_it_reads_what_the_public_type_reads(data: Any, features: int, rows: int, space: str) -> None:
    windows = data.draw(shaped(rows, 4, features))
    body = json.dumps({"windows": windows}, separators=(space + "," + space, ":" + space)).encode()
    read = reader_for(features).read_windows(body)
    if read is not None:  # an integer beyond 64 bits is left to the other way
        assert_array_equal(read, by_pydantic(BatchRequest, body, features))
    else:
        assert any(len(number) > 18 for number in re.findall(r"\d+", json.dumps(windows)))


@given(st.data(), st.sampled_from([1, 2]))
@settings(max_examples=300)
def test_whatever_it_reads_the_public_type_takes(data: Any, features: int) -> None:
    deep = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=20)
    ragged = st.lists(st.lists(SCALARS, max_size=3) | SCALARS, min_size=3, max_size=5)
    field = data.draw(st.sampled_from(["window", "windows", "wind ow", "window1", "records", "e"]))
    body = json.dumps({field: data.draw(deep | ragged | shaped(4, features) | shaped(2, 4, features))}).encode()
    reader = reader_for(features)
    for read, model in ((reader.read_window(body), WindowRequest), (reader.read_windows(body), BatchRequest)):
        if read is not None:
            assert_array_equal(read, by_pydantic(model, body, features))


@pytest.mark.parametrize("features", [1, 2])
def test_usual_bodies_are_read(features: int) -> None:
    windows = some_windows(3, CONTRACTS[features])
    reader = reader_for(features)
    assert_array_equal(reader.read_windows(json.dumps({"windows": windows.tolist()}).encode()), windows)
    assert_array_equal(reader.read_window(json.dumps({"window": windows[0].tolist()}).encode()), windows[:1])


def test_the_brackets_of_a_single_feature_may_be_left_out() -> None:
    reader = reader_for(1)
    assert_array_equal(reader.read_window(b'{"window":[1,2,3,4]}'), [[[1], [2], [3], [4]]])
    assert_array_equal(reader.read_windows(b'{"windows":[[1,2,3,4]]}'), [[[1], [2], [3], [4]]])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"window":[[1],[2],[3],[]]}',
        b'{"window":[[1],[2],[3],[4',
        b'{"window":[[1],[2],[3],[4]]',
        b'{"window":[[1],[2],[3],[4]]}]',
        b'{"window":[[1],[2],[3],[4],[5]]}',
        b'{"window":[[1],[2],[3]]}',
        b'{"window":[[1],[2],3,[4]]}',
        b'{"window":[[1],[2],[3],[null]]}',
        b'{"window":[[1],[2],[3],["4"]]}',
        b'{"window":[[1],[2],[3],[true]]}',
        b'{"window":[[1],[2],[3],[NaN]]}',
        b'{"window":[[1],[2],[3],[4e39]]}',
        b'{"window":[[1],[2],[3],[1e400]]}',
        b'{"window":[[1],[2],[3],[-]]}',
        b'{"window":[[1],[2],[3],[01]]}',
        b'{"window":[[1],[2],[3],[1.]]}',
        b'{"window":[[1],[2],[3],[e]]}',
        b'{"window":[[1],[2],[3],[1 2]]}',
        b'{"window":[[1],[2],[3],[' + b"9" * 5000 + b"]]}",
        b'{"window2":[[1],[2],[3],[4]]}',
        b'{"win dow":[[1],[2],[3],[4]]}',
        b'{"wind\\u006fw":[[1],[2],[3],[4]]}',
        b'\xef\xbb\xbf{"window":[[1],[2],[3],[4]]}',
        b'{"window":[[1],[2],[3],[4]],"window":[[1],[2],[3],[4]]}',
    ],
)
def test_anything_else_is_left_to_the_public_type(body: bytes) -> None:
    assert reader_for(1).read_window(body) is None
    assert reader_for(1).read_windows(body.replace(b"window", b"windows")) is None


USUAL = [
    '{"FIELD":%s}',
    '{"signature_name":"serving_default","FIELD":%s}',
    '{"FIELD":%s,"signature_name":"serving_default"}',
]


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (4, 2), (2, 3, 2)])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("usual", USUAL)
@pytest.mark.parametrize("orientation", Orientation)
def test_usual_bodies_of_tensorflow_serving_are_read(
    orientation: Orientation, usual: str, rows: int, shape: tuple[int, ...]
) -> None:
    tensor = np.random.default_rng(rows).normal(size=(rows, *shape)).astype(np.float32)
    body = usual.replace("FIELD", orientation.field) % json.dumps(tensor.tolist(), indent=1)
    read = quick_reader(orientation, shape).read(body.encode())
    assert read is not None
    assert_array_equal(read, tensor)


TFS_BODIES = st.sampled_from(
    [
        *USUAL,
        '{"FIELD":%s}}',
        '{"FIELD":%s,}',
        '{"F1ELD":%s}',
        '{"FIELD1":%s}',
        '{"FIELD":%s,"FIELD":%s}',
        '{"signature_name":"serving default","FIELD":%s}',
        '{"signature_name":"serving_default1","FIELD":%s}',
        '{"signature_nam1":"serving_default","FIELD":%s}',
        '{"signature_name":"servin\\u0067_default","FIELD":%s}',
        '{"FIELD":%s,"signature_name":["serving_default"]}',
        '{"FIELD":"%s","signature_name":"serving_default"}',
    ]
)


@given(st.data(), st.sampled_from([(), (2,), (4, 1), (4, 2)]), st.sampled_from(Orientation), TFS_BODIES)
@settings(max_examples=500)
def test_what_it_reads_of_tensorflow_serving_the_slow_way_reads(
    data: Any, shape: tuple[int, ...], orientation: Orientation, form: str
) -> None:
    deep = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4), max_leaves=20)
    rows = data.draw(st.integers(1, 3))
    value = json.dumps(data.draw(shaped(rows, *shape) | st.lists(shaped(*shape) | deep, max_size=3)))
    body = form.replace("FIELD", orientation.field).replace("%s", value).encode()
    read = quick_reader(orientation, shape).read(body)
    if read is not None:
        reader = BodyReader(InputLayout(Layout((TensorSpec("windows", shape),))), 3, allow_nan=False)
        oriented, inputs = reader.read(body + b" more, which nothing but the slow way overlooks")
        assert oriented is orientation
        assert_array_equal(inputs.windows.reshape(read.shape), read)
