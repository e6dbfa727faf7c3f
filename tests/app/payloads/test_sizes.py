"""The largest request in every form of a body: right ones are never refused, and larger ones are."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TooManyValues
from app.payloads import npy
from app.payloads.native import largest_batch, largest_window
from app.payloads.open_inference.reading import InferRequestReader
from app.payloads.sizes import OTHER_BYTES, Extent, Largest, check_values, windows_text
from app.payloads.tfserving.reading import BodyReader
from app.version.manifest import Contract
from app.version.signature import InputLayout, Layout, Signature, TensorSpec
from tests.ahead import ahead_contract
from tests.versions import contract_of

NUMBER = -1.2345678901234567e-300
"""No float has a longer text."""

COUNTS = st.integers(1, 3)
WINDOWS = st.sampled_from([1, 40])
SHAPES = st.lists(COUNTS, max_size=3).map(tuple)
NAMES = st.lists(st.text(st.sampled_from('a,:[{"\\/\n ä\U0001f600'), min_size=1, max_size=9), min_size=1, max_size=3)

REST = 200
"""More bytes, and more marks, than the rest of a right body has."""


TIME = "2026-11-29T13:00:00.123456+00:00"


def lists(*sizes: int) -> Any:
    return np.full(sizes, NUMBER).tolist()


def layout_of(names: Sequence[str], shape: tuple[int, ...]) -> Layout:
    return Layout(tuple(TensorSpec(name, shape) for name in dict.fromkeys(names)))


def is_within(largest: Largest, content: object) -> bool:
    """Whether a body is no larger than the largest, however it is indented and escaped."""
    extent = largest.extent
    for indent, ascii_only in ((4, True), (4, False), (None, True)):
        body = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
        marks = {mark: body.count(mark) for mark in ",[{:"}
        if len(body.encode()) > extent.bytes + REST or marks[","] > extent.values + REST:
            return False
        if marks["["] + marks["{"] > extent.brackets + REST or marks[":"] > extent.names + REST:
            return False
    return True


@given(steps=COUNTS, names=NAMES, windows=WINDOWS)
def test_the_largest_native_requests_are_taken(steps: int, names: list[str], windows: int) -> None:
    contract = contract_of(steps, tuple(dict.fromkeys(names)))
    shape = contract.window_shape
    assert is_within(largest_window(contract), {"window": lists(*shape)})
    records = [dict.fromkeys(contract.feature_names, NUMBER)] * steps
    assert is_within(largest_window(contract), {"records": records})
    assert is_within(largest_batch(contract, windows), {"windows": lists(windows, *shape)})
    array = np.zeros((windows, *shape))
    assert array.nbytes <= npy.largest(contract, windows).extent.bytes


def test_the_names_of_a_wide_model_are_measured_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[Extent] = []
    add = Extent.__add__

    def noted(one: Extent, other: Extent) -> Extent:
        sums.append(one)
        return add(one, other)

    monkeypatch.setattr(Extent, "__add__", noted)
    for features in (1, 1000):  # on the event loop, for every request of more than `OTHER_BYTES`
        sums.clear()
        largest_window(contract_of(features=tuple(f"sensor {number}" for number in range(features))))
        assert len(sums) < 10


@given(shape=SHAPES, names=NAMES, windows=WINDOWS)
def test_the_largest_requests_of_tensorflow_serving_are_taken(
    shape: tuple[int, ...], names: list[str], windows: int
) -> None:
    layout = layout_of(names, shape)
    largest = BodyReader(InputLayout(layout), windows, allow_nan=False).largest()
    row = {tensor.name: lists(*shape) for tensor in layout.tensors}
    column = {tensor.name: lists(windows, *shape) for tensor in layout.tensors}
    first = next(iter(column.values()))
    for content in ({"instances": [row] * windows}, {"inputs": column}, {"instances": first}, {"inputs": first}):
        assert is_within(largest, content)


@given(shape=SHAPES, names=NAMES, windows=WINDOWS)
def test_the_largest_requests_of_the_open_inference_protocol_are_taken(
    shape: tuple[int, ...], names: list[str], windows: int
) -> None:
    layout = layout_of(names, shape)
    largest = InferRequestReader("m", Signature(InputLayout(layout), layout), windows).largest()
    flags = dict.fromkeys(["binary_data", "another", "and_one_more"], False)
    outputs = [{"name": tensor.name, "parameters": flags} for tensor in layout.tensors]
    for data in (lists(windows, *shape), lists(windows * int(np.prod(shape)))):
        described = {"shape": [windows, *shape], "datatype": "FP64", "parameters": flags, "data": data}
        inputs = [{"name": tensor.name, **described} for tensor in layout.tensors]
        assert is_within(largest, {"id": "one", "inputs": inputs, "outputs": outputs})


@pytest.mark.parametrize(
    ("content", "marks", "extent"),
    [
        (b"1,", 1, Extent(values=20)),
        (b"NaN,", 1, Extent(values=20)),
        (b"[", 1, Extent(brackets=20)),
        (b"{", 1, Extent(brackets=20)),
        (b"[{", 2, Extent(brackets=20)),
        (b":", 1, Extent(names=20)),
    ],
)
def test_a_body_of_more_values_lists_or_names_than_the_largest_is_refused_unread(
    content: bytes, marks: int, extent: Extent
) -> None:
    most = (OTHER_BYTES + 20) // marks
    check_values(content * most, lambda: Largest("20 of each", extent))
    for body in (content * (most + 1), memoryview(content * (most + 1))):
        with pytest.raises(TooManyValues) as refused:
            check_values(body, lambda: Largest("20 of each", extent))
    assert refused.value.detail == "The body has more values than the largest request here: 20 of each."


def test_what_a_model_takes_is_told_in_plain_words() -> None:
    told = [windows_text(*counts) for counts in ((1, 1), (1, 8), (8, 1), (8, 8))]
    assert told == [
        "1 window of 1 number",
        "1 window of 8 numbers",
        "8 windows of 1 number each",
        "8 windows of 8 numbers each",
    ]


@pytest.mark.parametrize(
    "contract", [ahead_contract(), ahead_contract(known=()), ahead_contract(calendar=())], ids=repr
)
def test_the_largest_requests_with_a_future_and_a_time_are_taken(contract: Contract) -> None:
    count, signature = 3000, Signature.of(contract)
    row = {
        tensor.name: TIME if tensor.datatype == "int64" else lists(*tensor.shape) for tensor in signature.inputs.tensors
    }
    columns = {name: [value] * count for name, value in row.items()}
    of_v1 = BodyReader(signature.inputs, count, allow_nan=False).largest()
    assert is_within(of_v1, {"instances": [row] * count})
    assert is_within(of_v1, {"inputs": columns})
    inputs = [{"name": name, "shape": [count], "datatype": "BYTES", "data": data} for name, data in columns.items()]
    assert is_within(InferRequestReader("m", signature, count).largest(), {"inputs": inputs})
