"""Nested lists of numbers, as JSON has them, and the arrays that they become.

Lists that are right are checked level by level at C speed: `set(map(len, ...))`, `set(map(type, ...))`. Nothing here
says where a list is wrong; see `app.payloads.axes` and `app.payloads.tfserving.tensors`.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX, Array, to_float32

NUMBER_TYPES = {int, float}
"""The types of JSON numbers in Python. A boolean is no number."""

MAX_DEPTH = 5
"""No shape with a simple remedy has more axes."""

KINDS = {str: "a string", bool: "a boolean", type(None): "null", dict: "an object", list: "a list"}


def to_array(value: object, sizes: Sequence[int | None]) -> Array | None:
    """Turns nested lists of numbers into an array.

    Args:
        value: The lists.
        sizes: The size of each axis, from the outermost; None for an axis that may have any size from 1.

    Returns:
        A float32 array; None if the lists have another shape, or hold anything but numbers that are finite in float32.
    """
    flat = flatten(value, sizes)
    if flat is None or not set(map(type, flat[0])) <= NUMBER_TYPES:
        return None
    entries, shape = flat
    numbers = to_float64(entries)
    array = None if numbers is None else to_float32(numbers)
    return None if array is None else array.reshape(shape)


def flatten(value: object, sizes: Sequence[int | None]) -> tuple[list[Any], list[int]] | None:
    """Takes nested lists apart.

    Args:
        value: The lists.
        sizes: The size of each axis, from the outermost; None for an axis that may have any size from 1.

    Returns:
        The entries of the innermost lists, of whatever type, and the sizes; None if the lists have another shape.
    """
    level: list[Any] = [value]
    shape = []
    for size in sizes:
        lengths = set(map(len, level)) if set(map(type, level)) == {list} else set()
        if len(lengths) != 1 or 0 in lengths or (size is not None and size not in lengths):
            return None
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    return level, shape


def regular_shape(value: object) -> tuple[int, ...] | None:
    """Returns the shape of nested lists of numbers; None if they are ragged, empty, too deep or hold anything else."""
    first = value
    sizes: list[int] = []
    while isinstance(first, list) and first and len(sizes) < MAX_DEPTH:
        sizes.append(len(first))
        first = first[0]
    flat = flatten(value, sizes)
    return tuple(sizes) if sizes and flat and set(map(type, flat[0])) <= NUMBER_TYPES else None


def to_float64(numbers: Sequence[float]) -> NDArray[np.float64] | None:
    """Turns numbers into float64; None if one of them is an integer beyond float64."""
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        return None


def number_problem(value: object) -> str | None:
    """Says what is wrong with a number in a body; None if nothing is."""
    if type(value) not in NUMBER_TYPES:
        return f"expected a number, got {kind_of(value)}"
    if value != value:  # noqa: PLR0124 (NaN is the one number that differs from itself)
        return "expected a finite number, got NaN"
    if abs(value) > FLOAT32_MAX:  # type: ignore[arg-type]
        return f"expected a number within float32 (at most {FLOAT32_MAX:.3g} either way), got a larger one"
    return None


def kind_of(value: object) -> str:
    """Names the kind of a JSON value, for an error text."""
    return KINDS.get(type(value), "a number")
