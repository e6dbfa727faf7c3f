"""JSON bodies of the usual form, read without a Python object per number.

simdjson parses a body and gives all numbers of nested arrays as one flat buffer, whatever their nesting. The nesting is
checked by the body's *skeleton*: the body without its numbers and white space. For windows of shape (2, 1):

    body        {"windows": [[[1.5], [2]], [[3], [4]]]}
    skeleton    {"windows":[[[],[]],[[],[]]]}

The skeleton must equal that of a right body, byte for byte: one field, perhaps beside another field with a text, and as
many brackets and commas as the windows need. Between two of them stands one number or none; the count of the numbers
shows that none is missing.

Any other body, right or wrong, is left to slower readers, which say exactly what is wrong.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

import numpy as np
import simdjson

from app.arrays import Array, Inputs, to_float32
from app.payloads.times import read_time
from app.version.manifest import Frequency

NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
"""The bytes of JSON numbers, and white space. A skeleton's texts lose these bytes, too."""

PROBLEMS = (AttributeError, KeyError, RuntimeError, ValueError)
"""Raised where a field has another name or holds something else, or simdjson cannot hold a number."""

TIMES = b"0", b'"2026-11-29T13:00:00"', b'"2026-11-29"'
"""Usual times of the first row to forecast. All others are read more slowly."""

MAX_SHAPES = 64
"""How many shapes of windows have a reader that is kept."""


class Form:
    """One way to write windows in a body.

    Args:
        field: The field that holds the windows.
        frame: A whole body, with `%s` in place of the windows and the commas between them.
        window: The skeleton of a window.
        texts: The texts of other fields in the frame, by field.
    """

    __slots__ = ("_head", "_tail", "_window", "field", "texts")

    def __init__(self, field: str, frame: str, window: bytes, texts: tuple[tuple[str, str], ...] = ()) -> None:
        self.field = field
        self.texts = texts
        self._head, self._tail = (_skeleton(part.encode()) for part in frame.split("%s"))
        self._window = window

    def count_windows(self, skeleton: bytes) -> int:
        """Returns the number of windows in a skeleton of this form; 0 if the skeleton has another form."""
        if not (skeleton.startswith(self._head) and skeleton.endswith(self._tail)):
            return 0
        windows = (len(skeleton) - len(self._head) - len(self._tail) + 1) // (len(self._window) + 1)
        return windows if windows > 0 and skeleton == self.skeleton(windows) else 0

    def skeleton(self, windows: int) -> bytes:
        """Returns the skeleton of a body of this form with a number of windows."""
        return b"%s%s%s" % (self._head, b",".join([self._window] * windows), self._tail)


class SkeletonReader:
    """Reads bodies that have one of a few forms.

    Args:
        shape: The shape of a window.
        forms: The forms of a body.
    """

    def __init__(self, shape: tuple[int, ...], forms: Sequence[Form]) -> None:
        self._shape = shape
        self._forms = forms
        self._of_one_window = {form.skeleton(1): form for form in forms}

    def read(self, body: bytes) -> Array | None:
        """Returns the windows as (batch, *shape); None if the body has another form."""
        skeleton = _skeleton(body)
        form = self._of_one_window.get(skeleton)
        if form is not None:
            return self._read(body, form, 1)
        for form in self._forms:
            if windows := form.count_windows(skeleton):
                return self._read(body, form, windows)
        return None

    def _read(self, body: bytes, form: Form, windows: int) -> Array | None:
        try:
            # Every body gets a new parser: a parser keeps the memory of the largest body that it has parsed.
            document: Any = simdjson.Parser().parse(body)
            numbers = _numbers(document, form.field, (windows, *self._shape))
            if form.texts and any(document[name] != text for name, text in form.texts):
                return None
        except PROBLEMS:
            return None
        return numbers


class WindowReader:
    """Reads the bodies of the native routes for one shape of window.

    Args:
        steps: The steps of a window.
        features: The features of a step. The brackets around a single feature may be left out.

    Attributes:
        read_window: Returns the window in `{"window": ...}` as (1, steps, features); None if the body has another form.
        read_windows: Returns the windows in `{"windows": [...]}` as (batch, steps, features); None if the body has
            another form.
    """

    __slots__ = ("read_window", "read_windows")

    def __init__(self, steps: int, features: int) -> None:
        shape = steps, features
        windows = _nested_rows(steps, features)
        self.read_window = SkeletonReader(shape, [Form("window", '{"window":%s}', window) for window in windows]).read
        self.read_windows = SkeletonReader(
            shape, [Form("windows", '{"windows":[%s]}', window) for window in windows]
        ).read


class AheadReader:
    """Reads bodies of one window for a model that takes more.

    The usual body has a window, a future and a time in this order, as far as the model takes them.

    Args:
        window_shape: (steps, features).
        future_shape: (horizon, known); None for a model that takes no future.
        has_time: Whether the model takes a time.
    """

    def __init__(self, window_shape: tuple[int, int], future_shape: tuple[int, int] | None, *, has_time: bool) -> None:
        self._window_shape = window_shape
        self._future_shape = future_shape
        self._has_time = has_time
        fields = [[f'"window":{form.decode()}' for form in _nested_rows(*window_shape)]]
        if future_shape is not None:
            fields.append([f'"future":{form.decode()}' for form in _nested_rows(*future_shape)])
        if has_time:
            fields.append([f'"time":{_skeleton(time).decode()}' for time in TIMES])
        self._skeletons = {_skeleton(b"{%s}" % ",".join(chosen).encode()) for chosen in product(*fields)}

    def read(self, body: bytes, spacing: Frequency | None) -> Inputs | None:
        """Returns the inputs as a batch of one; None if the body has another form."""
        if _skeleton(body) not in self._skeletons:
            return None
        try:
            document: Any = simdjson.Parser().parse(body)
            window = _numbers(document, "window", (1, *self._window_shape))
            future = time = None
            if self._future_shape is not None:
                future = _numbers(document, "future", (1, *self._future_shape))
            if self._has_time:
                time = np.array([read_time(document["time"], spacing)], np.int64)
        except PROBLEMS:
            return None
        if window is None or (future is None and self._future_shape is not None):
            return None
        return Inputs(window, future, time)


@lru_cache(MAX_SHAPES)
def ahead_reader_of(
    window_shape: tuple[int, int], future_shape: tuple[int, int] | None, *, has_time: bool
) -> AheadReader:
    """Returns the reader for a window with a future and a time, as far as a model takes them."""
    return AheadReader(window_shape, future_shape, has_time=has_time)


@lru_cache(MAX_SHAPES)
def reader_of(window_shape: tuple[int, int]) -> WindowReader:
    """Returns the reader for windows of (steps, features)."""
    return WindowReader(*window_shape)


def nested(*sizes: int) -> bytes:
    """Returns the skeleton of nested lists of numbers, with sizes from the outermost list."""
    skeleton = b""
    for size in reversed(sizes):
        skeleton = b"[%s]" % b",".join([skeleton] * size)
    return skeleton


def _nested_rows(rows: int, columns: int) -> list[bytes]:
    """Returns the skeletons of a table: the brackets around a single column may be left out."""
    return [nested(rows, columns)] + ([nested(rows)] if columns == 1 else [])


def _numbers(document: Any, field: str, shape: tuple[int, ...]) -> Array | None:
    """Returns the numbers of a field; None if there are more or fewer, or not all are finite in float32."""
    doubles = np.frombuffer(document[field].as_buffer(of_type="d"))
    numbers = to_float32(doubles) if doubles.size == prod(shape) else None
    return None if numbers is None else numbers.reshape(shape)


def _skeleton(body: bytes) -> bytes:
    return body.translate(None, NUMBER_BYTES)
