"""Bodies of TensorFlow Serving's API: tensors as rows or as columns, read from JSON and written to it.

What is usual is read without a Python object per number; everything else, be it right or wrong, by slower ways, which
tell what is wrong in TensorFlow Serving's words.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson

from app.arrays import FLOAT32_MAX, NUMBER_TYPES, Array, flatten, regular_shape, to_float32, to_float64
from app.errors import BatchTooLarge, InvalidArgument
from app.payloads.advice import advise_on_tensor
from app.payloads.parsing import collector_paused
from app.payloads.quick import Form, SkeletonReader, nested
from app.payloads.windows import is_one_window
from app.version.signature import Layout, TensorSpec

MAX_NAME_CHARACTERS = 64
"""Longest part of a caller's name that an error tells back."""

MAX_READERS = 128
"""Different orientations and shapes of rows whose reader is kept."""

SIGNATURE = "serving_default"

JSON_SPACE = " \t\r\n"
NULL = re.compile(rb"null")

JSON_TYPES = {str: "String", type(None): "Null", dict: "Object", list: "Array"}


class Orientation(Enum):
    """How a body gives tensors: the field that holds them, and the field that holds the answer's."""

    ROWS = "instances", b"predictions"
    COLUMNS = "inputs", b"outputs"

    def __init__(self, field: str, answer_field: bytes) -> None:
        self.field = field
        self.answer_field = answer_field


class Token(float):
    """NaN or Infinity as it stands in a body; a number that is too large has become infinite without being one."""

    __slots__ = ()


DECODER = json.JSONDecoder(parse_constant=Token)


class BodyReader:
    """Reads the body of a prediction.

    Args:
        inputs: The tensors that the model takes.
        max_windows: Most rows taken.
        allow_nan: Whether NaN and Infinity are taken.
    """

    def __init__(self, inputs: Layout, max_windows: int, *, allow_nan: bool) -> None:
        self._inputs = inputs
        self._tensors = inputs.tensors
        self._max_windows = max_windows
        self._allow_nan = allow_nan

    def read(self, body: bytes) -> tuple[Orientation, Array]:
        """The orientation of a body, and its windows (batch, steps, features).

        Raises:
            InvalidArgument: The body is not what the API or the signature says.
            BatchTooLarge: It has more rows than are taken.
        """
        if len(self._tensors) == 1:
            for orientation in Orientation:
                tensor = quick_reader(orientation, self._tensors[0].shape).read(body)
                if tensor is not None:
                    self._check_rows(len(tensor))
                    return orientation, self._inputs.join([tensor])
        content = _parse(body)
        orientation = _orientation(content)
        value = content[orientation.field]
        tensors = self._read_rows(value) if orientation is Orientation.ROWS else self._read_columns(value)
        return orientation, self._inputs.join(tensors)

    def _check_rows(self, rows: int) -> None:
        if rows > self._max_windows:
            raise BatchTooLarge(rows, self._max_windows)

    def _check_list(self, values: list[Any], spec: TensorSpec) -> None:
        """Counts the rows in a list, unless it is a window by itself, whose entries are steps and no rows."""
        if len(values) > self._max_windows and not (
            len(spec.shape) == 2 and is_one_window(values, (spec.shape[0], spec.shape[1]))
        ):
            raise BatchTooLarge(len(values), self._max_windows)

    def _read_rows(self, instances: Any) -> list[Array]:
        if not isinstance(instances, list):
            raise _format_error(instances, "Excepting 'instances' to be an list/array")  # misspelt there, too
        if not instances:
            raise _format_error(instances, "No values in 'instances' array")
        self._check_list(instances, self._tensors[0])
        if _is_object(instances[0]):
            return [self._stack(items, spec, f".{spec.name}") for spec, items in self._by_name(instances)]
        if len(self._tensors) > 1:
            raise InvalidArgument(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for index, element in enumerate(instances):
            if _is_object(element):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
        return [self._stack(instances, self._tensors[0], "")]

    def _by_name(self, instances: list[Any]) -> Iterable[tuple[TensorSpec, list[object]]]:
        """The values of each tensor in the objects, one of each object."""
        names = [spec.name for spec in self._tensors]
        for index, element in enumerate(instances):
            if not _is_object(element):
                raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
            if element.keys() != set(names):
                raise InvalidArgument(
                    f"Failed to process element: {index} of 'instances' list. JSON object: (with {len(element)} keys) "
                    f"keys must be equal to: {','.join(names)}"
                )
        return [(spec, [element[spec.name] for element in instances]) for spec in self._tensors]

    def _stack(self, items: list[Any], spec: TensorSpec, field: str) -> Array:
        """One value for each row, as one tensor."""
        tensor = self._to_array(items, (len(items), *spec.shape))
        if tensor is not None:
            return tensor
        index = next(index for index, item in enumerate(items) if self._to_array(item, spec.shape) is None)
        problem = self._problem(items[index], spec.shape, f"instances[{index}]{field}", _takes(spec, spec.shape))
        key = f" key: {spec.name}" if field else ""
        raise InvalidArgument(
            f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {problem}"
            + _advice(items, spec)
        )

    def _read_columns(self, inputs: Any) -> list[Array]:
        if not _is_object(inputs):
            if len(self._tensors) > 1:
                raise InvalidArgument(
                    "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                    "tensorinfo_map"
                )
            return [self._column(inputs, self._tensors[0], "inputs")]
        tensors = []
        for spec in self._tensors:
            if spec.name not in inputs:
                raise InvalidArgument(f"Missing named input: {spec.name} in 'inputs' object.")
            tensors.append(self._column(inputs[spec.name], spec, f"inputs.{spec.name}"))
        if len({len(tensor) for tensor in tensors}) > 1:
            sizes = ", ".join(f"{spec.name} {len(tensor)}" for spec, tensor in zip(self._tensors, tensors, strict=True))
            raise InvalidArgument(f"Inputs must have equal size in dimension 0, which is the batch, but have: {sizes}")
        return tensors

    def _column(self, value: Any, spec: TensorSpec, place: str) -> Array:
        """A whole tensor, of which there must be at least one row."""
        values = value if isinstance(value, list) and value else [value]
        self._check_list(values, spec)
        shape = len(values), *spec.shape
        tensor = self._to_array(value, shape)
        if tensor is None:
            problem = self._problem(value, shape, place, _takes(spec, (-1, *spec.shape)))
            raise InvalidArgument(problem + _advice(value, spec))
        return tensor

    def _to_array(self, value: Any, shape: tuple[int, ...]) -> Array | None:
        """Nested lists to a float32 array of that shape, or None if anything at all is wrong with them."""
        flat = flatten(value, shape)
        if flat is None:
            return None
        entries, _ = flat
        tokens = set(map(type, entries)) - NUMBER_TYPES
        if tokens and not (tokens == {Token} and self._allow_nan):
            return None
        numbers = to_float64(entries)
        if numbers is None:
            return None
        if tokens:
            others = np.array([0.0 if type(number) is Token else number for number in entries])
            return None if to_float32(others) is None else numbers.astype(np.float32).reshape(shape)
        tensor = to_float32(numbers)
        return None if tensor is None else tensor.reshape(shape)

    def _problem(self, value: Any, shape: tuple[int, ...], place: str, takes: str) -> str:
        """What is wrong with a value that is no tensor of that shape.

        Only what has the right shape, as far as its first entries tell, is walked through: that is no larger than a
        sound body.
        """
        sizes, first = _measure(value, len(shape))
        if isinstance(first, list):
            return f"{_too_deep(shape)}; {takes}"
        if problem := self._number_problem(first, place + "[0]" * len(sizes)):
            return problem
        if sizes == shape and (problem := self._find(value, shape, place)):
            return f"{problem}; {takes}"
        size, came = math.prod(shape), math.prod(sizes)
        expecting = (
            f"tensor size: {size} but got: {came}"
            if size != came
            else f"shape {_shape(shape)} but got: {_shape(sizes)}"
        )
        return f"Expecting {expecting}; {takes}, this has {_shape(sizes)}"

    def _find(self, value: Any, shape: tuple[int, ...], place: str, level: int = 0) -> str | None:
        """The first mistake in nested lists; what is sound is passed over at C speed."""
        rank = len(shape)
        if level == rank:
            if isinstance(value, list):
                return f"{_too_deep(shape)} (at {place})"
            return self._number_problem(value, place)
        if not isinstance(value, list):
            problem = f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            return f"JSON Value: (at {place}) {problem}"
        if len(value) != shape[level]:
            problem = f"Encountered list at unexpected size: {len(value)} at level: {level}"
            return f"{problem} expected size: {shape[level]} (at {place})"
        unsound = (index for index, part in enumerate(value) if self._to_array(part, shape[level + 1 :]) is None)
        index = next(unsound, None)
        return None if index is None else self._find(value[index], shape, f"{place}[{index}]", level + 1)

    def _number_problem(self, number: Any, place: str) -> str | None:
        """What is wrong with a number as it stands in a body; None if nothing is."""
        if type(number) is Token:
            remedy = "is no finite number; WINDOWCAST_ALLOW_NAN=true would have it taken"
            return None if self._allow_nan else f"JSON Value: (at {place}) Type: Number {remedy}"
        if type(number) not in NUMBER_TYPES:
            return f"JSON Value: (at {place}) Type: {_type(number)} is not of expected type: float"
        if abs(number) > FLOAT32_MAX:
            return f"Cannot convert JSON value: (at {place}) to float without loss of precision: it is beyond float32"
        return None


def _parse(body: bytes) -> dict[str, Any]:
    """The object that a body begins with; what follows it is ignored.

    Raises:
        InvalidArgument: There is none, or none that names a signature which serves.
    """
    with collector_paused():
        content = _decode(body)
    if not isinstance(content, dict):
        raise _format_error(content, "Is not object")
    name = content.get("signature_name", SIGNATURE)
    if not isinstance(name, str):
        raise _format_error(content, "not formatted correctly. 'signature_name' key must be a string value.")
    if name not in {"", SIGNATURE}:
        raise InvalidArgument(f'Serving signature name: "{shown(name)}" not found in signature def')
    return content


def _decode(body: bytes) -> Any:
    """The JSON that a body begins with: by orjson if it is strict and nothing follows it, else slowly."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> Any:
    """The JSON that a body begins with, NaN, Infinity and numbers beyond float64 included.

    Raises:
        InvalidArgument: It begins with something else.
    """
    try:
        text = body.decode("utf-8-sig")
        start = len(text) - len(text.lstrip(JSON_SPACE))
        if start == len(text):
            raise InvalidArgument("JSON Parse error: The document is empty")
        return DECODER.raw_decode(text, start)[0]
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"JSON Parse error: Invalid encoding, not UTF-8 at offset: {error.start}") from None
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise InvalidArgument(f"JSON Parse error: Invalid value. at offset: {offset}") from None
    except ValueError:  # an integer of thousands of digits
        raise InvalidArgument("JSON Parse error: Number too big to be stored in double.") from None
    except RecursionError:
        raise InvalidArgument("JSON Parse error: nested too deeply") from None


def _orientation(content: Mapping[str, Any]) -> Orientation:
    given = [orientation for orientation in Orientation if orientation.field in content]
    if not given:
        raise InvalidArgument("Missing 'inputs' or 'instances' key")
    if len(given) > 1:
        problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
        raise _format_error(content, problem)
    return given[0]


@lru_cache(MAX_READERS)
def quick_reader(orientation: Orientation, shape: tuple[int, ...]) -> SkeletonReader:
    """The reader for the usual bodies of a model with one input: bare values, and the signature's name if any."""
    field, row = orientation.field, nested(*shape)
    rows, name = f'"{field}":[%s]', f'"signature_name":"{SIGNATURE}"'
    named = (("signature_name", SIGNATURE),)
    forms = [
        Form(field, f"{{{rows}}}", row),
        Form(field, f"{{{name},{rows}}}", row, named),
        Form(field, f"{{{rows},{name}}}", row, named),
    ]
    return SkeletonReader(shape, forms)


def _measure(value: Any, depth: int) -> tuple[tuple[int, ...], Any]:
    """The sizes that the first entries of nested lists tell, to that depth, and the first entry there; 0.0 if none."""
    sizes: list[int] = []
    while isinstance(value, list) and len(sizes) < depth:
        sizes.append(len(value))
        value = value[0] if value else 0.0
    return tuple(sizes), value


def _is_object(value: Any) -> bool:
    """Whether it is an object, and not a text in base 64, which is written as one."""
    return isinstance(value, dict) and not (len(value) == 1 and isinstance(value.get("b64"), str))


def _format_error(value: Any, problem: str) -> InvalidArgument:
    return InvalidArgument(f"JSON Value: ({_type(value)}) {problem}")


def _type(value: Any) -> str:
    """What TensorFlow Serving calls the type of a JSON value."""
    return str(value) if isinstance(value, bool) else JSON_TYPES.get(type(value), "Number")


def _too_deep(shape: tuple[int, ...]) -> str:
    return f"Encountered list at unexpected level: {len(shape)} expected < {len(shape)}"


def _takes(spec: TensorSpec, shape: tuple[int, ...]) -> str:
    return f"input {spec.name} takes shape {_shape(shape)}"


def _advice(value: object, spec: TensorSpec) -> str:
    """What puts a batch of another shape right, if it is one of the usual mistakes; behind a semicolon, or nothing."""
    shape = regular_shape(value)
    advice = advise_on_tensor(shape, spec.shape) if shape else None
    return f"; {advice}" if advice else ""


def _shape(sizes: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, sizes))}]"


def shown(text: str, max_characters: int = MAX_NAME_CHARACTERS) -> str:
    """A caller's text as it may stand in an answer."""
    return quote(text[:max_characters], safe="/:%", errors="replace")


def write_answer(orientation: Orientation, outputs: Layout, forecasts: Array) -> bytes:
    """Writes the answer: a tensor by itself where there is one, else by name, in each row or as a whole.

    Args:
        orientation: Of the request, and so of the answer.
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
    """Numbers as the shortest text that is the same float32, whole ones with `.0`; NaN and Infinity bare."""
    written = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" not in written:
        return written
    odd = (number for number in np.ravel(value).tolist() if not math.isfinite(number))
    return NULL.sub(lambda _: json.dumps(next(odd)).encode(), written)
