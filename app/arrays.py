"""What every array of the service has in common: float32, its limits, and how nested lists become one."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]

FLOAT32_MAX = float(np.nextafter(2.0**128 - 2.0**103, 0))
"""The largest number that float32 holds once it is rounded; from half a step more on, it becomes infinite."""

NUMBER_TYPES = {int, float}

MAX_DEPTH = 5
"""Lists nested deeper than this are no mistake of shape that has a simple remedy."""

KINDS = {str: "a string", bool: "a boolean", type(None): "null", dict: "an object", list: "a list"}


def regular_shape(value: object) -> tuple[int, ...] | None:
    """The shape of nested lists of numbers; None if they are ragged, empty, too deep or hold anything else."""
    first = value
    sizes: list[int] = []
    while isinstance(first, list) and first and len(sizes) < MAX_DEPTH:
        sizes.append(len(first))
        first = first[0]
    flat = flatten(value, sizes)
    return tuple(sizes) if sizes and flat and set(map(type, flat[0])) <= NUMBER_TYPES else None


def flatten(value: object, sizes: Sequence[int | None]) -> tuple[list[Any], list[int]] | None:
    """Takes nested lists apart, level by level at C speed.

    Args:
        value: The lists.
        sizes: Of each level, from the outermost in; None where any from 1 will do, the same in every list.

    Returns:
        What is in the innermost lists, whatever it is, and all sizes; None if the lists have others.
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


def to_float64(numbers: Sequence[float]) -> NDArray[np.float64] | None:
    """Numbers as float64; None if there is an integer that even float64 cannot hold."""
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        return None


def to_float32(numbers: NDArray[Any]) -> Array | None:
    """Numbers as float32; None if there is one that is not finite there. There must be at least one."""
    largest = float(np.maximum.reduce(np.abs(numbers), axis=None))
    return numbers.astype(np.float32) if largest <= FLOAT32_MAX else None  # NaN compares false


def number_problem(value: object) -> str | None:
    """What is wrong with a number, as it stands in JSON; None if nothing is."""
    if type(value) not in NUMBER_TYPES:
        return f"expected a number, got {kind_of(value)}"
    if value != value:  # noqa: PLR0124 (NaN is the one number that differs from itself)
        return "expected a finite number, got NaN"
    if abs(value) > FLOAT32_MAX:  # type: ignore[arg-type]
        return f"expected a number within float32 (at most {FLOAT32_MAX:.3g} either way), got a larger one"
    return None


def kind_of(value: object) -> str:
    """Names the kind of a JSON value, for an error."""
    return KINDS.get(type(value), "a number")
