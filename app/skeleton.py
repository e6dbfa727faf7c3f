"""JSON bodies that are exactly what the contract says, read without a Python object per number.

A body is parsed by simdjson, which gives all numbers of nested arrays as one flat buffer, whatever their nesting. That
the nesting is right is proved by the body's skeleton: what is left without numbers and white space. It must be equal,
byte for byte, to that of a body of the right shape: one field, and in its lists as many brackets and commas as there
are rows and columns. Between two of them stands one number or nothing; that none is missing, the count shows.

Whatever is unusual, be it right or wrong, is left to `app.windows`, which tells exactly what is wrong.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import simdjson

from app.golden import Array
from app.windows import to_float32

NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
"""What numbers in JSON are made of, and white space."""

MAX_CONTRACTS = 64


class SkeletonReader:
    """Reads bodies for one shape of window.

    Args:
        steps: Rows of a window.
        features: Numbers in a row; where it is one, its brackets may be left out.
    """

    def __init__(self, steps: int, features: int) -> None:
        self._shape = steps, features
        self._size = steps * features
        forms = [_nested(steps, features)]
        if features == 1:
            forms.append(_nested(steps))
        self._windows = tuple(forms)
        self._single_bodies = {b'{"window":%s}' % form for form in forms}

    def read_window(self, body: bytes) -> Array | None:
        """The window in `{"window": ...}` as (1, steps, features), or None if the body is anything else."""
        if body.translate(None, NUMBER_BYTES) not in self._single_bodies:
            return None
        return self._read(body, "window", 1)

    def read_windows(self, body: bytes) -> Array | None:
        """The windows in `{"windows": [...]}` as (batch, steps, features), or None if the body is anything else."""
        skeleton = body.translate(None, NUMBER_BYTES)
        for window in self._windows:
            rows = (len(skeleton) - len(b'{"windows":[') - len(b"]}") + 1) // (len(window) + 1)
            if rows > 0 and skeleton == b'{"windows":[%s]}' % b",".join([window] * rows):
                return self._read(body, "windows", rows)
        return None

    def _read(self, body: bytes, field: str, rows: int) -> Array | None:
        try:
            # A parser of its own for each body: one that is kept would keep the memory of the largest body, too.
            document: Any = simdjson.Parser().parse(body)
            doubles = np.frombuffer(document[field].as_buffer(of_type="d"))
        except (KeyError, RuntimeError, ValueError):  # the field has another name, or simdjson cannot hold a number
            return None
        numbers = to_float32(doubles) if doubles.size == rows * self._size else None
        return None if numbers is None else numbers.reshape(rows, *self._shape)


@lru_cache(MAX_CONTRACTS)
def reader_of(window_shape: tuple[int, int]) -> SkeletonReader:
    """The reader for windows of (steps, features)."""
    return SkeletonReader(*window_shape)


def _nested(*sizes: int) -> bytes:
    """The skeleton of nested lists of numbers, sizes from the outermost in."""
    skeleton = b""
    for size in reversed(sizes):
        skeleton = b"[%s]" % b",".join([skeleton] * size)
    return skeleton
