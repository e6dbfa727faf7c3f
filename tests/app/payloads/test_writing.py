"""Numbers to JSON: the same in pieces as in one call, in every protocol."""

import json
import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import Array, Inputs
from app.payloads import native, writing
from app.payloads.open_inference.reading import InferRequest, Output
from app.payloads.open_inference.writing import write_answer as write_v2
from app.payloads.tfserving.document import Orientation
from app.payloads.tfserving.writing import write_answer as write_v1
from app.payloads.writing import write_array, write_numbers
from app.version.signature import InputLayout, Layout, Signature, TensorSpec


@given(shape=st.lists(st.integers(1, 6), min_size=1, max_size=4), piece=st.integers(1, 40))
def test_pieces_are_written_as_the_whole_and_none_is_larger_than_allowed(shape: list[int], piece: int) -> None:
    numbers = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    sizes: list[int] = []

    def write(part: Array) -> bytes:
        sizes.append(part.size)
        return write_array(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "PIECE_NUMBERS", piece)
        written = write_numbers(numbers, write)

    assert written == write_array(numbers)
    assert max(sizes) <= piece
    assert len(sizes) <= math.ceil(2 * numbers.size / piece)


@pytest.mark.parametrize("protocol", ["native", "v1", "v1 odd", "v2"])
def test_every_protocol_writes_a_large_answer_in_pieces(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forecasts = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
    if protocol == "v1 odd":
        forecasts[0, 0], forecasts[2, 4] = (np.nan, np.inf), (-np.inf, 7)
    layout = Layout((TensorSpec("forecast", (5, 2)),))
    asked = InferRequest(Inputs(np.zeros((3, 5, 2), np.float32)), [Output(0, is_binary=False)], None)

    def write() -> bytes:
        match protocol:
            case "native":
                return native.write_answer("m", 1, ("a", "b"), b"predictions", forecasts)
            case "v2":
                return write_v2("m", 1, Signature(InputLayout(layout), layout), asked, forecasts)[0]
        return write_v1(Orientation.ROWS, layout, forecasts)

    whole = write()
    sizes: list[int] = []
    dumps = orjson.dumps

    def noted_dumps(content: Any, **options: Any) -> bytes:
        sizes.append(np.size(content))
        return dumps(content, **options)

    monkeypatch.setattr(writing, "PIECE_NUMBERS", 7)
    monkeypatch.setattr(orjson, "dumps", noted_dumps)
    assert write() == whole
    assert max(sizes) <= 7
    assert_array_equal(read_numbers(whole), forecasts.ravel())


def read_numbers(answer: bytes) -> Array:
    """The numbers of an answer, in their order."""
    document = json.loads(answer)
    numbers = document["outputs"][0]["data"] if "outputs" in document else document["predictions"]
    return np.asarray(numbers, np.float32).ravel()
