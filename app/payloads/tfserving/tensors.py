"""Nested lists of a prediction to tensors, and what is wrong with them in TensorFlow Serving's words."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX, Array, Times, to_float32
from app.payloads.advice import advise_on_tensor
from app.payloads.lists import NUMBER_TYPES, flatten, regular_shape, to_array, to_float64
from app.payloads.tfserving.document import Token, type_name
from app.payloads.times import read_time
from app.version.manifest import Frequency
from app.version.signature import TensorSpec

Shape = tuple[int, ...]


class Kind(Protocol):
    """What the entries of a tensor are."""

    def to_tensor(self, value: object, shape: Shape) -> NDArray[Any] | None:
        """Turns nested lists into a tensor; returns None if anything is wrong with the lists."""

    def problem(self, entry: object, place: str) -> str | None:
        """Says what is wrong with an entry, which stands at a place; None if nothing is."""


@dataclass(frozen=True, slots=True)
class Floats:
    """Numbers that are finite in float32.

    Attributes:
        allow_nan: Whether NaN and Infinity are taken, too.
    """

    allow_nan: bool

    def to_tensor(self, value: object, shape: Shape) -> Array | None:
        """Turns nested lists into a tensor; returns None if anything is wrong with the lists."""
        tensor = to_array(value, shape)
        return _with_tokens(value, shape) if tensor is None and self.allow_nan else tensor

    def problem(self, entry: Any, place: str) -> str | None:
        """Says what is wrong with a number in a body; None if nothing is."""
        if type(entry) is Token:
            remedy = "is not a finite number; WINDOWCAST_ALLOW_NAN=true allows it"
            return None if self.allow_nan else f"JSON Value: (at {place}) Type: Number {remedy}"
        if type(entry) not in NUMBER_TYPES:
            return f"JSON Value: (at {place}) Type: {type_name(entry)} is not of expected type: float"
        if abs(entry) > FLOAT32_MAX:
            return f"Cannot convert JSON value: (at {place}) to float without loss of precision: it is beyond float32"
        return None


@dataclass(frozen=True, slots=True)
class RowTimes:
    """Times of rows, each as the number of the row or as a text.

    Attributes:
        spacing: The distance between the rows that are counted.
    """

    spacing: Frequency | None

    def to_tensor(self, value: object, shape: Shape) -> Times | None:
        """Turns nested lists into a tensor; returns None if anything is wrong with the lists."""
        flat = flatten(value, shape)
        try:
            return (
                None if flat is None else np.array([read_time(entry, self.spacing) for entry in flat[0]]).reshape(shape)
            )
        except ValueError:
            return None

    def problem(self, entry: object, place: str) -> str | None:
        """Says what is wrong with a time in a body; None if nothing is."""
        try:
            read_time(entry, self.spacing)
        except ValueError as error:
            return f"JSON Value: (at {place}) Type: {type_name(entry)} is not of expected type: int64; {error}"
        return None


def _with_tokens(value: object, shape: Shape) -> Array | None:
    """Turns nested lists with NaN and Infinity into a tensor. All other numbers must be finite in float32."""
    flat = flatten(value, shape)
    if flat is None or not set(map(type, flat[0])) <= NUMBER_TYPES | {Token}:
        return None
    entries, _ = flat
    numbers = to_float64(entries)
    others = to_float64([0.0 if type(number) is Token else number for number in entries])
    if numbers is None or others is None or to_float32(others) is None:
        return None
    return numbers.astype(np.float32).reshape(shape)


def tensor_problem(value: object, shape: Shape, place: str, takes: str, kind: Kind) -> str:
    """Says what is wrong with lists that a kind does not take.

    Only lists of the right shape, as far as their first entries tell, are walked: those are no larger than right ones.

    Args:
        value: The lists.
        shape: The shape that they should have.
        place: Where they stand in the body.
        takes: What the model takes, in words.
        kind: What the entries should be.
    """
    sizes, first = _first_sizes(value, len(shape))
    if isinstance(first, list):
        return f"{_too_deep(shape)}; {takes}"
    if problem := kind.problem(first, place + "[0]" * len(sizes)):
        return problem
    if sizes == shape and (problem := _first_problem(value, shape, place, kind)):
        return f"{problem}; {takes}"
    size, came = math.prod(shape), math.prod(sizes)
    expecting = (
        f"tensor size: {size} but got: {came}"
        if size != came
        else f"shape {shape_text(shape)} but got: {shape_text(sizes)}"
    )
    return f"Expecting {expecting}; {takes}, this has {shape_text(sizes)}"


def _first_sizes(value: object, depth: int) -> tuple[Shape, object]:
    """Returns the sizes of the first lists down to a depth, and the first entry there; 0.0 if there is no entry."""
    sizes: list[int] = []
    while isinstance(value, list) and len(sizes) < depth:
        sizes.append(len(value))
        value = value[0] if value else 0.0
    return tuple(sizes), value


def _first_problem(value: Any, shape: Shape, place: str, kind: Kind, level: int = 0) -> str | None:
    """Finds the first problem in nested lists. Lists without a problem are skipped at C speed."""
    rank = len(shape)
    if level == rank:
        if isinstance(value, list):
            return f"{_too_deep(shape)} (at {place})"
        return kind.problem(value, place)
    if not isinstance(value, list):
        problem = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
        return f"JSON Value: (at {place}) {problem}"
    if len(value) != shape[level]:
        problem = f"Encountered list at unexpected size: {len(value)} at level: {level}"
        return f"{problem} expected size: {shape[level]} (at {place})"
    for index, part in enumerate(value):
        if kind.to_tensor(part, shape[level + 1 :]) is None:
            return _first_problem(part, shape, f"{place}[{index}]", kind, level + 1)
    return None


def _too_deep(shape: Shape) -> str:
    return f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"


def takes_text(spec: TensorSpec, shape: Shape) -> str:
    """Says which shape an input takes."""
    return f"input {spec.name} takes shape {shape_text(shape)}"


def advice_text(value: object, spec: TensorSpec) -> str:
    """Returns the advice on a batch of a wrong shape, behind a semicolon; empty if the mistake is not a usual one."""
    shape = regular_shape(value)
    advice = advise_on_tensor(shape, spec.shape) if shape else None
    return f"; {advice}" if advice else ""


def shape_text(sizes: Shape) -> str:
    """Writes a shape as TensorFlow does."""
    return f"[{','.join(map(str, sizes))}]"
