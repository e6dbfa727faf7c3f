"""Tensors on the wire to float32, from the numbers of a JSON document or from bytes.

Models take and give float32. Numbers of other types are taken where float32 holds exactly the same numbers. Times are
read by `app.payloads.open_inference.times`.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX, Array, to_float32
from app.errors import InvalidArgument
from app.payloads.lists import NUMBER_TYPES, flatten, number_problem
from app.version.signature import TensorSpec

DATATYPE = "FP32"
"""The datatype of windows and of forecasts."""

DATATYPES = {
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
"""The datatypes taken, and their numbers as bytes. All are little-endian."""

DATATYPES_OF: Mapping[str, str] = {"float32": DATATYPE, "int64": "INT64"}

BINARY_ONLY = {"FP16"}
"""Datatypes that the protocol has no JSON for."""


def datatype_of(spec: TensorSpec) -> str:
    """Returns the datatype of a tensor in the protocol's words."""
    return DATATYPES_OF[spec.datatype]


def from_json(spec: TensorSpec, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """Reads a tensor from its numbers in the document.

    Args:
        spec: The tensor.
        datatype: One of `DATATYPES`.
        shape: The shape of the batch.
        data: The numbers, nested as the shape says, or in one list.

    Raises:
        InvalidArgument: There are more or fewer numbers, or one of them is wrong.
    """
    if datatype in BINARY_ONLY:
        raise InvalidArgument(
            f"input '{spec.name}' is {datatype}, which JSON cannot hold; send it as bytes, or as {DATATYPE}"
        )
    values = flat_values(spec, shape, data)
    dtype = DATATYPES[datatype]
    takes = NUMBER_TYPES if dtype.kind == "f" else {int}
    if not set(map(type, values)) <= takes:
        index = next(index for index, value in enumerate(values) if type(value) not in takes)
        problem = number_problem(values[index]) or f"expected an integer, as {datatype} needs, got a float"
        raise wrong_entry(spec, shape, index, problem)
    try:
        numbers = np.array(values, np.float64 if dtype.kind == "f" else dtype)
    except OverflowError:
        raise InvalidArgument(f"input '{spec.name}' has a number that {datatype} cannot hold") from None
    return _as_float32(spec, numbers.reshape(shape), must_be_exact=datatype != DATATYPE)


def flat_values(spec: TensorSpec, shape: tuple[int, ...], data: object) -> list[Any]:
    """Returns the values of a tensor in one list.

    Raises:
        InvalidArgument: There are more or fewer values, or they are nested otherwise than the shape says.
    """
    if not isinstance(data, list):
        raise InvalidArgument(f"expected data of input '{spec.name}' to be a list")
    values = data
    if data and type(data[0]) is list:
        flat = flatten(data, shape)
        if flat is None:
            problem = f"data of input '{spec.name}' is not nested as its shape {list(shape)} says"
            raise InvalidArgument(f"{problem}; nest it so, or send one flat list")
        values, _ = flat
    if len(values) != prod(shape):
        problem = f"input '{spec.name}' has {len(values)} numbers, but its shape {list(shape)} needs {prod(shape)}"
        raise InvalidArgument(problem)
    return values


def from_bytes(spec: TensorSpec, datatype: str, shape: tuple[int, ...], body: bytes, start: int) -> Array:
    """Reads a tensor from its bytes, which must all be there.

    Args:
        spec: The tensor.
        datatype: One of `DATATYPES`.
        shape: The shape of the batch.
        body: The whole body.
        start: The place in the body where the bytes begin.

    Raises:
        InvalidArgument: One of the numbers is wrong.
    """
    numbers = np.frombuffer(body, DATATYPES[datatype], prod(shape), start).reshape(shape)
    return _as_float32(spec, numbers, must_be_exact=datatype != DATATYPE)


def _as_float32(spec: TensorSpec, numbers: NDArray[Any], *, must_be_exact: bool) -> Array:
    """Copies numbers into a float32 array. The copy is aligned as computing needs it; a body's bytes need not be."""
    array = to_float32(numbers)
    if array is None:
        wide = numbers.astype(np.float64)
        index = int(np.argmin(np.abs(wide) <= FLOAT32_MAX))
        raise wrong_entry(spec, numbers.shape, index, str(number_problem(float(wide.flat[index]))))
    if must_be_exact and not (is_same := _is_same(array, numbers)).all():
        problem = f"expected a number that {DATATYPE} holds exactly, got one that it would round; round it yourself"
        raise wrong_entry(spec, numbers.shape, int(np.argmin(is_same)), problem)
    return array


def _is_same(array: Array, numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Returns where float32 holds the same numbers. Integers are compared as integers: as floats, both may round."""
    wide = array.astype(np.float64)
    if numbers.dtype.kind == "f":
        return np.asarray(wide == numbers)
    # A number that was rounded beyond the type's largest becomes 0, which differs from the number.
    held = np.where(wide < float(np.iinfo(numbers.dtype).max + 1), wide, 0)
    return np.asarray(held.astype(numbers.dtype) == numbers)


def wrong_entry(spec: TensorSpec, shape: tuple[int, ...], index: int, problem: str) -> InvalidArgument:
    """Returns the error for a value of a tensor, by its place in the flat list."""
    place = [int(coordinate) for coordinate in np.unravel_index(index, shape)]
    return InvalidArgument(f"input '{spec.name}' at {place}: {problem}")
