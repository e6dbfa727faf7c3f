"""Answers, read back as a client reads them."""

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.arrays import Inputs
from app.payloads.open_inference.reading import InferRequest, Output
from app.payloads.open_inference.writing import write_answer
from tests.app.payloads.open_inference.requests import PAIR


@given(
    outputs=st.lists(st.integers(0, 1), min_size=1, max_size=2, unique=True),
    is_binary=st.tuples(st.booleans(), st.booleans()),
    word=st.none() | st.text(max_size=5),
)
def test_what_is_written_can_be_read(outputs: list[int], is_binary: tuple[bool, bool], word: str | None) -> None:
    forecasts = np.random.default_rng(1).normal(size=(3, *PAIR.outputs.shape)).astype(np.float32)
    expected = PAIR.outputs.split(forecasts)
    wanted = [Output(place, flag) for place, flag in zip(outputs, is_binary, strict=False)]
    inputs = Inputs(np.zeros((3, *PAIR.inputs.windows.shape), np.float32))
    body, length = write_answer("m", 7, PAIR, InferRequest(inputs, wanted, word), forecasts)
    assert (length is None) is not any(output.is_binary for output in wanted)
    document = orjson.loads(body[:length])
    assert (document["model_name"], document["model_version"], document.get("id")) == ("m", "7", word)
    assert ("id" in document) is (word is not None)
    start = len(body) if length is None else length
    for output, entry in zip(wanted, document["outputs"], strict=True):
        size = entry.get("parameters", {}).get("binary_data_size", 0)
        numbers = np.frombuffer(body[start : start + size], "<f4") if output.is_binary else np.float32(entry["data"])
        start += size
        assert_array_equal(numbers.reshape(entry["shape"]), expected[output.place])
    assert start == len(body)
