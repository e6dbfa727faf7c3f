"""Arrays in NumPy's npy format, in and out: the shortest way for a caller who has an array already.

Only the header is ever interpreted, as a literal; objects are refused, and nothing is unpickled.
"""

import ast
import io
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX, Array, number_problem, to_float32
from app.errors import MAX_LOCATED_ERRORS, BatchTooLarge, InvalidRequest, LocatedError, MalformedBody
from app.payloads.windows import wrong_shape
from app.version.manifest import Contract

FORMAT = "an array in NumPy's npy format"
NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248])")
"""Types that are numbers: floats, and integers with and without sign, in either order of bytes."""

MAX_AXES = 4
"""One more than a batch has, so that whoever sends one too many is told what to do about it."""

KNOWN_HEADERS = 256
"""Headers that are remembered; a caller's are all alike, and reading one takes longer than a forecast."""

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
        raise InvalidRequest([LocatedError("", wrong_shape(array.shape, contract, batched=False))])
    return _checked(array, (1, steps, features))


def read_windows(body: bytes, contract: Contract, max_windows: int) -> Array:
    """Reads windows of (batch, steps, features), or of (batch, steps) where there is one feature.

    Returns:
        Shape (batch, steps, features), float32.

    Raises:
        MalformedBody: The body is not an array in the npy format.
        BatchTooLarge: It has more than `max_windows` windows.
        InvalidRequest: It has another shape or type, or a number that is not finite in float32.
    """
    steps, features = contract.window_shape
    array = _read_array(body)
    window_shape = (steps, features) if features > 1 or array.ndim == 3 else (steps,)
    if array.shape[1:] != window_shape or not len(array):
        raise InvalidRequest([LocatedError("", wrong_shape(array.shape, contract, batched=True))])
    if len(array) > max_windows:
        raise BatchTooLarge(len(array), max_windows)
    return _checked(array, (len(array), steps, features))


def write(array: Array) -> bytes:
    """The array in the npy format."""
    return _header(array.shape) + array.tobytes()


@lru_cache(KNOWN_HEADERS)
def _header(shape: tuple[int, ...]) -> bytes:
    """What stands before the numbers of a float32 array of that shape."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _read_array(body: bytes) -> NDArray[Any]:
    """The array over the body's own bytes. Its size is compared before anything is made of its declared shape."""
    start = len(npy.MAGIC_PREFIX) + 2
    length = LENGTH_BYTES.get(body[start - 2], 0) if body.startswith(npy.MAGIC_PREFIX) and len(body) > start else 0
    end = start + length + int.from_bytes(body[start : start + length], "little")
    if not length or end > min(len(body), start + length + MAX_HEADER_BYTES):
        raise MalformedBody(FORMAT)
    descr, is_fortran, shape = _read_header(body[start + length : end])
    if not NUMBERS.fullmatch(descr):
        raise InvalidRequest([LocatedError("", "expected an array of float32, got one of something else")])
    dtype = np.dtype(descr)
    if len(body) - end != prod(shape) * dtype.itemsize:
        raise MalformedBody(FORMAT)
    try:
        return np.frombuffer(body, dtype, offset=end).reshape(shape, order="F" if is_fortran else "C")
    except ValueError:  # no numbers at all, in a shape beyond what NumPy can count
        raise MalformedBody(FORMAT) from None


@lru_cache(KNOWN_HEADERS)
def _read_header(header: bytes) -> tuple[str, bool, tuple[int, ...]]:
    """What the header says of type, order and shape: a literal in Python's notation. NumPy's own reader takes more."""
    try:
        content = ast.literal_eval(header.decode("ascii").strip())
        descr, is_fortran, shape = content["descr"], content["fortran_order"], content["shape"]
    except (KeyError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        raise MalformedBody(FORMAT) from None
    is_sound = type(is_fortran) is bool and type(shape) is tuple
    if not is_sound or not all(type(size) is int and 0 <= size <= sys.maxsize for size in shape):
        raise MalformedBody(FORMAT)
    if len(shape) > MAX_AXES:
        raise InvalidRequest([LocatedError("", f"expected an array of at most {MAX_AXES} axes, got {len(shape)}")])
    return str(descr), is_fortran, shape


def _checked(array: NDArray[Any], shape: tuple[int, int, int]) -> Array:
    numbers = to_float32(array)
    if numbers is None:
        raise InvalidRequest(list(islice(_locate(array), MAX_LOCATED_ERRORS)))
    return np.ascontiguousarray(numbers.reshape(shape))


def _locate(array: NDArray[Any]) -> Iterator[LocatedError]:
    """Every number that float32 cannot hold, by its place in the array."""
    for place in np.argwhere(~(np.abs(array.astype(np.float64)) <= FLOAT32_MAX)):
        message = number_problem(float(array[tuple(place)]))
        yield LocatedError("".join(f"/{index}" for index in place), str(message))
