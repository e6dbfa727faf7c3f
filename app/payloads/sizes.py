"""How large the largest request for a model is, in each form of a body.

Whatever is larger is refused before anything is made of it: bytes before they arrive, and values before they become
objects, because a parser holds Python's lock until it has made the last object.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import TooManyValues
from app.version.manifest import Contract
from app.version.signature import TensorSpec

NUMBER_BYTES = 32
"""Room for a number in JSON. The longest text that a float needs has 24 bytes."""

TIME_BYTES, TIME_MARKS = 64, 6
"""Room for a time in JSON, and for the colons in it. A text with microseconds and a zone has 34 bytes."""

LINE_BYTES = 4
"""Room for the end of a line, a bracket and a comma."""

INDENT_BYTES = 4
"""Room for the white space in front of a value, for each list and object around the value."""

LAST_DIGIT = ord("9")
"""In ASCII brackets, colons and letters stand behind it; the rest of numbers, commas and white space before it."""

MAX_ANSWER_NUMBERS = 2**22
"""Most numbers in an answer with several forecasts: some 80 MB as text. A contract allows a forecast half of them."""

OTHER_BYTES = 64 * 1024
"""Room for the rest of a body, which may be as many values. A body that is no larger is never too large."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a body something takes, if every value and every bracket stands on a line of its own.

    Attributes:
        bytes: All bytes.
        values: Values in lists and objects.
        brackets: Lists and objects.
        names: Names in objects.
    """

    bytes: int = 0
    values: int = 0
    brackets: int = 0
    names: int = 0

    def __add__(self, other: "Extent") -> "Extent":
        """Returns how much both take together."""
        return Extent(
            self.bytes + other.bytes,
            self.values + other.values,
            self.brackets + other.brackets,
            self.names + other.names,
        )

    def __mul__(self, count: int) -> "Extent":
        """Returns how much several take."""
        return Extent(count * self.bytes, count * self.values, count * self.brackets, count * self.names)


@dataclass(frozen=True, slots=True)
class Largest:
    """The largest request, in one form of a body.

    Attributes:
        takes: What the request asks for, in words.
        extent: How much of the body the windows take.
    """

    takes: str
    extent: Extent

    @property
    def max_bytes(self) -> int:
        """The most bytes that the request can have."""
        return self.extent.bytes + OTHER_BYTES


def request_windows(contract: Contract, most: int) -> int:
    """Returns the most windows in one request: `most`, or fewer if their forecasts are large, at least 1."""
    return max(1, min(most, MAX_ANSWER_NUMBERS // prod(contract.forecast_shape)))


NO_WINDOWS = Largest("no windows", Extent())
"""The largest request to a path that takes no windows."""

FindLargest: TypeAlias = Callable[[], Largest]
"""Works out the largest request. Only a body of more than `OTHER_BYTES` needs it."""


def check_values(body: bytes | memoryview, largest: FindLargest) -> None:
    """Checks that a body of JSON has no more values, lists and names than the largest request can have.

    Only their marks are counted, wherever they stand. A mark inside a text counts as well, and can only refuse a body
    with more than `OTHER_BYTES` of them.

    Args:
        body: The body.
        largest: Works out the largest request.

    Raises:
        TooManyValues: The body has more.
    """
    if len(body) <= OTHER_BYTES:
        return
    marks, extent = np.frombuffer(body, np.uint8), largest().extent
    kinds = [(b"[{", extent.brackets), (b":", extent.names)] if _count(marks > LAST_DIGIT) > OTHER_BYTES else []
    if len(body) // 2 > extent.values + OTHER_BYTES:  # a value and its comma have two bytes at least
        kinds.append((b",", extent.values))
    for of_kind, most in kinds:
        if sum(_count(marks == mark) for mark in of_kind) > most + OTHER_BYTES:
            raise TooManyValues(largest().takes)


def _count(is_counted: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(is_counted))


def windows_text(windows: int, numbers: int) -> str:
    """Says how many windows a model takes, and how many numbers a window has."""
    counted = f"{numbers} number{'s' if numbers > 1 else ''}"
    return f"1 window of {counted}" if windows == 1 else f"{windows} windows of {counted} each"


def extent_of_number(depth: int) -> Extent:
    """Returns the extent of a number.

    Args:
        depth: How many lists and objects are around it.
    """
    return Extent(_line(depth) + NUMBER_BYTES, values=1)


def extent_of_time(depth: int) -> Extent:
    """Returns the extent of a time, which may be a text, or of the number in its place.

    Args:
        depth: How many lists and objects are around it.
    """
    return Extent(_line(depth) + TIME_BYTES, values=1, names=TIME_MARKS)


def in_brackets(content: Extent, depth: int) -> Extent:
    """Returns the extent of a list or an object."""
    return Extent(2 * _line(depth), values=1, brackets=1) + content


def extent_of_lists(sizes: Sequence[int], depth: int, of_entry: Callable[[int], Extent] = extent_of_number) -> Extent:
    """Returns the extent of nested lists of numbers or of others, with sizes from the outermost list."""
    extent = of_entry(depth + len(sizes))
    for level in reversed(range(len(sizes))):
        extent = in_brackets(extent * sizes[level], depth + level)
    return extent


def extent_of_tensor(tensor: TensorSpec, batch: tuple[int, ...], depth: int) -> Extent:
    """Returns the extent of the nested lists of a tensor.

    Args:
        tensor: The tensor.
        batch: The size of the batch; nothing for a single entry.
        depth: How many lists and objects are around it.
    """
    of_entry = extent_of_time if tensor.datatype == "int64" else extent_of_number
    return extent_of_lists((*batch, *tensor.shape), depth, of_entry)


def extent_of_names(names: Sequence[str]) -> Extent:
    """Returns the extent of the names in an object, all of whose characters may be escaped, or may be marks.

    All names are measured together: a model may have 65 536, and requests wait meanwhile.
    """
    text = "".join(names)
    escaped = 3 * len(text.encode("utf-16-le", "surrogatepass"))  # \uXXXX for every two bytes
    marks = [sum(text.count(mark) for mark in of_kind) for of_kind in (",", "[{", ":")]
    return Extent(escaped + len('"": ') * len(names), marks[0], marks[1], marks[2] + len(names))


def _line(depth: int) -> int:
    return INDENT_BYTES * depth + LINE_BYTES
