"""Arrays in NumPy's npy format, in and out: the shortest way for a caller who has an array already.

Only the header is ever interpreted, as a literal; objects are refused, and nothing is unpickled.
"""

import ast
import io
from collections.abc import Iterator
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from app.errors import MAX_LOCATED_ERRORS, BatchTooLarge, InvalidRequest, LocatedError, MalformedBody
from app.golden import Array
from app.manifest import Contract
from app.windows import FLOAT32_MAX, number_problem, to_float32, window_axes

FORMAT = "an array in NumPy's npy format"
NUMBER_KINDS = "fiu"
"""Kinds of dtype that are numbers: floats, and integers with and without sign."""

LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""How many bytes the length of the header takes, by the format's version."""

MAX_HEADER_BYTES = 1024
"""A header of numbers takes 128; the literal in a longer one could be costly to read."""


def read_window(body: bytes, contract: Contract) -> Array:
    """Reads one window of (steps, features), or of (steps,) where there is one feature.

    Returns:
        Shape (1, steps, features), float32.

    Raises:
        MalformedBody: The body is not an array in the npy format.
        InvalidRequest: It has another shape or type, or a number that is not finite in float32.
    """
    steps, features = contract.window_shape
    array = _read_array(body)
    if array.shape not in {(steps, features), (1, steps, features), (steps, features)[: 1 + (features > 1)]}:
        raise _wrong_shape(array, f"({_counts(contract)})")
    return _checked(array, (1, steps, features))


def read_windows(body: bytes, contract: Contract, max_rows: int) -> Array:
    """Reads windows of (batch, steps, features), or of (batch, steps) where there is one feature.

    Returns:
        Shape (batch, steps, features), float32.

    Raises:
        MalformedBody: The body is not an array in the npy format.
        BatchTooLarge: It has more than `max_rows` windows.
        InvalidRequest: It has another shape or type, or a number that is not finite in float32.
    """
    steps, features = contract.window_shape
    array = _read_array(body)
    window_shape = (steps, features) if features > 1 or array.ndim == 3 else (steps,)
    if array.shape[1:] != window_shape or not len(array):
        raise _wrong_shape(array, f"(batch, {_counts(contract)}), the batch not empty")
    if len(array) > max_rows:
        raise BatchTooLarge(len(array), max_rows)
    return _checked(array, (len(array), steps, features))


def write(array: Array) -> bytes:
    """The array in the npy format."""
    file = io.BytesIO()
    npy.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _read_array(body: bytes) -> NDArray[Any]:
    """The array over the body's own bytes. Its size is compared before anything is made of its declared shape."""
    start = len(npy.MAGIC_PREFIX) + 2
    length = LENGTH_BYTES.get(body[start - 2], 0) if body.startswith(npy.MAGIC_PREFIX) and len(body) > start else 0
    end = start + length + int.from_bytes(body[start : start + length], "little")
    if not length or end > min(len(body), start + length + MAX_HEADER_BYTES):
        raise MalformedBody(FORMAT)
    dtype, is_fortran, shape = _read_header(body[start + length : end])
    if dtype.kind not in NUMBER_KINDS:
        raise InvalidRequest([LocatedError("", "expected an array of float32, got one of something else")])
    if len(body) - end != prod(shape) * dtype.itemsize:
        raise MalformedBody(FORMAT)
    return np.frombuffer(body, dtype, offset=end).reshape(shape, order="F" if is_fortran else "C")


def _read_header(header: bytes) -> tuple[np.dtype[Any], bool, tuple[int, ...]]:
    """What the header says: a literal in Python's notation. NumPy's own reader takes more, and warns about it."""
    try:
        content = ast.literal_eval(header.decode("ascii").strip())
        dtype, is_fortran, shape = np.dtype(content["descr"]), content["fortran_order"], content["shape"]
        sound = len(content) == 3 and type(is_fortran) is bool and type(shape) is tuple
    except (KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        raise MalformedBody(FORMAT) from None
    if not sound or not all(type(size) is int and size >= 0 for size in shape):
        raise MalformedBody(FORMAT)
    return dtype, is_fortran, shape


def _checked(array: NDArray[Any], shape: tuple[int, int, int]) -> Array:
    numbers = to_float32(array)
    if numbers is None:
        raise InvalidRequest(list(islice(_locate(array), MAX_LOCATED_ERRORS)))
    return np.ascontiguousarray(numbers.reshape(shape))


def _locate(array: NDArray[Any]) -> Iterator[LocatedError]:
    """Every number that float32 cannot hold, by its place in the array."""
    with np.errstate(invalid="ignore"):
        places = np.argwhere(~(np.abs(array) <= FLOAT32_MAX))
    for place in places:
        message = number_problem(float(array[tuple(place)]))
        yield LocatedError("".join(f"/{index}" for index in place), str(message))


def _wrong_shape(array: NDArray[Any], expected: str) -> InvalidRequest:
    return InvalidRequest([LocatedError("", f"expected an array of {expected}, got one of {array.shape}")])


def _counts(contract: Contract) -> str:
    """The axes of a window with their sizes, in words."""
    return ", ".join(axis.expects(axis.size) for axis in window_axes(contract))
