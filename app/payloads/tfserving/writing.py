"""Forecasts to the body of an answer."""

import json
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
import orjson

from app.arrays import Array
from app.payloads.tfserving.document import Orientation
from app.payloads.writing import write_array, write_numbers
from app.version.signature import Layout

NULL = re.compile(rb"null")


def write_answer(orientation: Orientation, outputs: Layout, forecasts: Array) -> bytes:
    """Writes an answer. A single tensor stands bare; several tensors stand by name, in every row or as columns.

    Args:
        orientation: The orientation of the request and of the answer.
        outputs: The tensors that the model gives.
        forecasts: Shape (batch, horizon, targets).
    """
    written = _dump(forecasts) if outputs.is_table else _write_tensors(orientation, outputs, forecasts)
    return b'{"%s":%s}' % (orientation.answer_field, written)


def _write_tensors(orientation: Orientation, outputs: Layout, forecasts: Array) -> bytes:
    tensors = [np.ascontiguousarray(tensor) for tensor in outputs.split(forecasts)]
    if len(tensors) == 1:
        return _dump(tensors[0])
    names = [orjson.dumps(spec.name) for spec in outputs.tensors]
    if orientation is Orientation.COLUMNS:
        return _object(names, tensors)
    return b"[%s]" % b",".join(_object(names, row) for row in zip(*tensors, strict=True))


def _object(names: Sequence[bytes], values: Iterable[Array]) -> bytes:
    fields = [b"%s:%s" % (name, _dump(value)) for name, value in zip(names, values, strict=True)]
    return b"{%s}" % b",".join(fields)


def _dump(value: Array) -> bytes:
    return write_numbers(value, _write_odd)


def _write_odd(value: Array) -> bytes:
    """Writes whole numbers with `.0`, and NaN and Infinity bare."""
    written = write_array(value)
    if b"n" not in written:
        return written
    odd = (number for number in np.ravel(value).tolist() if not math.isfinite(number))
    return NULL.sub(lambda _: json.dumps(next(odd)).encode(), written)
