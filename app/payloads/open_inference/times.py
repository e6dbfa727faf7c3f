"""The tensor of times on the wire: whole numbers of rows, or texts as the datatype BYTES has them."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from app.arrays import Times
from app.errors import InvalidArgument
from app.payloads.lists import kind_of
from app.payloads.open_inference.tensors import DATATYPES, flat_values, wrong_entry
from app.payloads.times import EXAMPLE, read_time
from app.version.manifest import Frequency
from app.version.signature import TensorSpec

TEXT = "BYTES"
"""The datatype of texts."""

LENGTH_BYTES = 4
"""How many bytes hold the length of a text, which follows them."""

INTEGERS = {name: dtype for name, dtype in DATATYPES.items() if dtype.kind in "iu"}
"""The datatypes of whole numbers."""

NEEDS = f"the datatype INT64 or another one of integers, or {TEXT} with texts such as {EXAMPLE}"


def times_from_json(
    spec: TensorSpec, datatype: str, shape: tuple[int, ...], data: object, spacing: Frequency | None
) -> Times:
    """Reads times from their values in the document.

    Args:
        spec: The tensor.
        datatype: One of `INTEGERS`, or `TEXT`.
        shape: The shape of the batch.
        data: The values.
        spacing: The distance between the rows that are counted.

    Raises:
        InvalidArgument: There are more or fewer values, or one of them is wrong.
    """
    values = flat_values(spec, shape, data)
    kind, kind_name = (str, "a string") if datatype == TEXT else (int, "an integer")
    for index, value in enumerate(values):
        if type(value) is not kind:
            raise wrong_entry(spec, shape, index, f"expected {kind_name}, as {datatype} needs, got {kind_of(value)}")
    if datatype in INTEGERS:
        limits = np.iinfo(INTEGERS[datatype])
        if not (limits.min <= min(values) and max(values) <= limits.max):
            raise InvalidArgument(f"input '{spec.name}' has a number that {datatype} cannot hold")
    return _to_times(spec, shape, values, spacing)


def times_from_bytes(
    spec: TensorSpec, datatype: str, shape: tuple[int, ...], part: bytes, spacing: Frequency | None
) -> Times:
    """Reads times from their bytes.

    Args:
        spec: The tensor.
        datatype: One of `INTEGERS`, or `TEXT`.
        shape: The shape of the batch.
        part: The bytes of the tensor: those of its numbers, or each text behind its length.
        spacing: The distance between the rows that are counted.

    Raises:
        InvalidArgument: There are more or fewer texts, or one of the times is wrong.
    """
    if datatype == TEXT:
        return _to_times(spec, shape, _texts(spec, part, prod(shape)), spacing)
    return _to_times(spec, shape, np.frombuffer(part, INTEGERS[datatype]).tolist(), spacing)


def _to_times(spec: TensorSpec, shape: tuple[int, ...], values: Sequence[Any], spacing: Frequency | None) -> Times:
    numbers = []
    for index, value in enumerate(values):
        try:
            numbers.append(read_time(value, spacing))
        except ValueError as error:
            raise wrong_entry(spec, shape, index, str(error)) from None
    return np.array(numbers, np.int64).reshape(shape)


def _texts(spec: TensorSpec, part: bytes, count: int) -> list[str]:
    """Splits bytes into texts, each behind its length."""
    texts: list[str] = []
    start = 0
    while len(texts) < count and start + LENGTH_BYTES <= len(part):
        begin = start + LENGTH_BYTES
        start = begin + int.from_bytes(part[start:begin], "little")
        texts.append(part[begin:start].decode("utf-8", "replace"))
    if len(texts) < count or start != len(part):
        raise InvalidArgument(f"the bytes of input '{spec.name}' are not {count} texts, each behind its length")
    return texts
