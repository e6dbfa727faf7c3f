"""Numbers to JSON, for every protocol.

The writer holds Python's lock for as long as a call takes. It writes a large array in pieces, so the event loop waits
for one piece at most.
"""

from collections.abc import Callable

import orjson

from app.arrays import Array

PIECE_NUMBERS = 32 * 1024
"""Most numbers that are written in one call: in some 0.6 ms."""

Write = Callable[[Array], bytes]
"""Writes an array as nested lists."""


def write_array(array: Array) -> bytes:
    """Writes an array as nested lists: each number as the shortest text that is the same float32."""
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def write_numbers(array: Array, write: Write = write_array) -> bytes:
    """Writes an array of any size as nested lists.

    Args:
        array: The array, of one axis at least, contiguous in memory.
        write: Writes a piece of the array.
    """
    if array.size <= PIECE_NUMBERS:
        return write(array)
    rows = PIECE_NUMBERS * len(array) // array.size
    if rows == 0:
        return b"[%s]" % b",".join(write_numbers(row, write) for row in array)
    pieces = (write(array[start : start + rows])[1:-1] for start in range(0, len(array), rows))
    return b"[%s]" % b",".join(pieces)
