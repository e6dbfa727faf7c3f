"""Arrays in NumPy's npy format, in and out: the fastest format for a caller who has an array.

Only the header is interpreted, as a literal. Objects are refused, and nothing is unpickled.
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

from app.arrays import FLOAT32_MAX, Array, to_float32
from app.errors import MAX_LOCATED_ERRORS, BatchTooLarge, InvalidRequest, LocatedError, MalformedBody
from app.payloads.advice import wrong_shape
from app.payloads.lists import number_problem
from app.payloads.sizes import Extent, Largest, windows_text
from app.version.manifest import Contract

FORMAT = "an array in NumPy's npy format"
NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248])")
"""The types that are read: floats and integers with or without sign, in either byte order."""

MAX_AXES = 4
"""One more than a batch has, so that there can be advice on an array with one axis too many."""

KNOWN_HEADERS = 256
"""How many headers are remembered. A caller's headers are all alike, and reading one takes longer than a forecast."""

LENGTH_BYTES = {1: 2, 2: 4, 3: 4}
"""How many bytes hold the length of the header, by the format's version."""

MAX_HEADER_BYTES = 1024
"""A header of a numeric array has 128 bytes. The literal in a longer header could be costly to read."""

WARNED_OF = re.compile(rb"\\|[0-9][A-Za-z_]")
"""What Python warns of in a literal, with a line in the log each time. No header of a numeric array has it."""

MAX_NUMBER_BYTES = 8
"""Most bytes of a number of the types that are read."""


def largest(contract: Contract, max_windows: int) -> Largest:
    """Returns the largest body with an array of that many windows."""
    numbers = prod(contract.window_shape)
    return Largest(windows_text(max_windows, numbers), Extent(MAX_NUMBER_BYTES * numbers * max_windows))


def read_window(body: bytes, contract: Contract) -> Array:
    """Reads one window of shape (steps, features), or of shape (steps,) where there is one feature.

    Returns:
        Shape (1, steps, features), float32.

    Raises:
        MalformedBody: The body is not an array in the npy format.
        InvalidRequest: The array has another shape or type, or a number that is not finite in float32.
    """
    steps, features = contract.window_shape
    array = _read_array(body)
    if array.shape not in {(steps, features), (1, steps, features), (steps, features)[: 1 + (features > 1)]}:
        raise InvalidRequest([LocatedError("", wrong_shape(array.shape, contract, batched=False))])
    return _checked(array, (1, steps, features))


def read_windows(body: bytes, contract: Contract, max_windows: int) -> Array:
    """Reads windows of shape (batch, steps, features), or of shape (batch, steps) where there is one feature.

    Returns:
        Shape (batch, steps, features), float32.

    Raises:
        MalformedBody: The body is not an array in the npy format.
        BatchTooLarge: The array has more than `max_windows` windows.
        InvalidRequest: The array has another shape or type, or a number that is not finite in float32.
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
    """Writes a float32 array in the npy format."""
    return _header(array.shape) + array.tobytes()


@lru_cache(KNOWN_HEADERS)
def _header(shape: tuple[int, ...]) -> bytes:
    """Returns the header of a float32 array of a shape."""
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _read_array(body: bytes) -> NDArray[Any]:
    """Returns an array over the body's own bytes. Checks the size before it makes anything of the declared shape."""
    start = len(npy.MAGIC_PREFIX) + 2
    length = LENGTH_BYTES.get(body[start - 2], 0) if body.startswith(npy.MAGIC_PREFIX) and len(body) > start else 0
    end = start + length + int.from_bytes(body[start : start + length], "little")
    if not length or end > min(len(body), start + length + MAX_HEADER_BYTES):
        raise MalformedBody(FORMAT)
    descr, is_fortran, shape = _read_header(body[start + length : end])
    if not NUMBERS.fullmatch(descr):
        raise InvalidRequest([LocatedError("", "expected an array of float32 or other numbers, got another type")])
    dtype = np.dtype(descr)
    if len(body) - end != prod(shape) * dtype.itemsize:
        raise MalformedBody(FORMAT)
    try:
        return np.frombuffer(body, dtype, offset=end).reshape(shape, order="F" if is_fortran else "C")
    except ValueError:  # an array without numbers, with a size that NumPy cannot count
        raise MalformedBody(FORMAT) from None


@lru_cache(KNOWN_HEADERS)
def _read_header(header: bytes) -> tuple[str, bool, tuple[int, ...]]:
    """Reads type, order and shape from a header, a literal of Python. NumPy's own reader is less strict."""
    if WARNED_OF.search(header):
        raise MalformedBody(FORMAT)
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
    """Yields every number that is not finite in float32, by its place in the array.

    Only the places that are asked for are worked out: there may be millions.
    """
    for flat_place in np.flatnonzero(~(np.abs(array.astype(np.float64)) <= FLOAT32_MAX)):
        place = np.unravel_index(flat_place, array.shape)
        message = number_problem(float(array[place]))
        yield LocatedError("".join(f"/{index}" for index in place), str(message))
