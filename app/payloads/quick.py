"""JSON bodies of the usual form, read without a Python object per number.

A body is parsed by simdjson, which gives all numbers of nested arrays as one flat buffer, whatever their nesting. That
the nesting is right is proved by the body's skeleton: what is left without numbers and white space. It must be equal,
byte for byte, to that of a body of the right shape: a field, perhaps another beside it that holds a text, and in its
lists as many brackets and commas as there are rows and columns. Between two of them stands one number or nothing; that
none is missing, the count shows.

Whatever is unusual, be it right or wrong, is left to slower ways, which tell exactly what is wrong.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import simdjson

from app.arrays import Array, to_float32

NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
"""What numbers in JSON are made of, and white space. Letters of these go from a skeleton's texts, too."""

MAX_SHAPES = 64


class Form:
    """One way to write rows of numbers in a body.

    Args:
        field: The field that holds them.
        frame: A whole body, with `%s` in place of the rows and the commas between them.
        row: A row, with nothing in place of its numbers.
        texts: What other fields in the frame hold.
    """

    __slots__ = ("_head", "_row", "_tail", "field", "texts")

    def __init__(self, field: str, frame: str, row: bytes, texts: tuple[tuple[str, str], ...] = ()) -> None:
        self.field = field
        self.texts = texts
        self._head, self._tail = (_skeleton(part.encode()) for part in frame.split("%s"))
        self._row = row

    def count_rows(self, skeleton: bytes) -> int:
        """How many rows a skeleton of this form has; 0 if it has another form."""
        if not (skeleton.startswith(self._head) and skeleton.endswith(self._tail)):
            return 0
        rows = (len(skeleton) - len(self._head) - len(self._tail) + 1) // (len(self._row) + 1)
        return rows if rows > 0 and skeleton == self.skeleton(rows) else 0

    def skeleton(self, rows: int) -> bytes:
        """The skeleton of a body of this form."""
        return b"%s%s%s" % (self._head, b",".join([self._row] * rows), self._tail)


class SkeletonReader:
    """Reads bodies that have one of a few forms.

    Args:
        shape: Of a row.
        forms: Of a body.
    """

    def __init__(self, shape: tuple[int, ...], forms: Sequence[Form]) -> None:
        self._shape = shape
        self._size = int(np.prod(shape, dtype=int))
        self._forms = forms
        self._of_one_row = {form.skeleton(1): form for form in forms}

    def read(self, body: bytes) -> Array | None:
        """The rows as (rows, *shape), or None if the body is anything else."""
        skeleton = _skeleton(body)
        form = self._of_one_row.get(skeleton)
        if form is not None:
            return self._read(body, form, 1)
        for form in self._forms:
            if rows := form.count_rows(skeleton):
                return self._read(body, form, rows)
        return None

    def _read(self, body: bytes, form: Form, rows: int) -> Array | None:
        try:
            # A parser of its own for each body: one that is kept would keep the memory of the largest body, too.
            document: Any = simdjson.Parser().parse(body)
            doubles = np.frombuffer(document[form.field].as_buffer(of_type="d"))
            if form.texts and any(document[name] != text for name, text in form.texts):
                return None
        except (AttributeError, KeyError, RuntimeError, ValueError):
            return None  # a field has another name or holds something else, or simdjson cannot hold a number
        numbers = to_float32(doubles) if doubles.size == rows * self._size else None
        return None if numbers is None else numbers.reshape(rows, *self._shape)


class WindowReader:
    """Reads the bodies of the native routes for one shape of window.

    Args:
        steps: Rows of a window.
        features: Numbers in a row; where it is one, its brackets may be left out.
    """

    def __init__(self, steps: int, features: int) -> None:
        shape = steps, features
        windows = [nested(steps, features)] + ([nested(steps)] if features == 1 else [])
        self._window = SkeletonReader(shape, [Form("window", '{"window":%s}', window) for window in windows])
        self._windows = SkeletonReader(shape, [Form("windows", '{"windows":[%s]}', window) for window in windows])

    def read_window(self, body: bytes) -> Array | None:
        """The window in `{"window": ...}` as (1, steps, features), or None if the body is anything else."""
        return self._window.read(body)

    def read_windows(self, body: bytes) -> Array | None:
        """The windows in `{"windows": [...]}` as (batch, steps, features), or None if the body is anything else."""
        return self._windows.read(body)


@lru_cache(MAX_SHAPES)
def reader_of(window_shape: tuple[int, int]) -> WindowReader:
    """The reader for windows of (steps, features)."""
    return WindowReader(*window_shape)


def nested(*sizes: int) -> bytes:
    """The skeleton of nested lists of numbers, sizes from the outermost in."""
    skeleton = b""
    for size in reversed(sizes):
        skeleton = b"[%s]" % b",".join([skeleton] * size)
    return skeleton


def _skeleton(body: bytes) -> bytes:
    return body.translate(None, NUMBER_BYTES)
