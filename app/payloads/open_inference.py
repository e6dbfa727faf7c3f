"""Named tensors on the wire, as the Open Inference Protocol and its binary extension have them.

A body is a JSON document that names the tensors, and behind it the bytes of those that are not in the document, one
after another. Either part may be missing: a body without a length for its document is nothing else, and one whose
document has no bytes is the only tensor of a single row.

Models take and give float32. Numbers of other types are taken where float32 holds exactly the same ones.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import orjson
from numpy.typing import NDArray

from app.arrays import FLOAT32_MAX, NUMBER_TYPES, Array, flatten, number_problem, to_float32
from app.errors import BatchTooLarge, InvalidArgument, MalformedBody
from app.payloads.advice import advise_on_tensor, listed
from app.payloads.parsing import collector_paused
from app.version.signature import Signature, TensorSpec

Entry: TypeAlias = dict[str, Any]
"""A tensor as the document names it."""

DATATYPE = "FP32"
"""What models take and give."""

DATATYPES = {
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
}
"""How numbers of a datatype stand in bytes; all are little-endian."""

BINARY_ONLY = {"FP16"}

LENGTH_HEADER = "Inference-Header-Content-Length"
INTEGER = re.compile(rb"-?[0-9]{1,18}")

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that the answer shall have.

    Attributes:
        place: Which of the model's outputs it is.
        is_binary: Whether its numbers shall stand behind the document.
    """

    place: int
    is_binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a request asks.

    Attributes:
        windows: Shape (batch, steps, features).
        outputs: What the answer shall have, in that order.
        id: A word of the caller's that the answer repeats.
        timeout_seconds: The longest that the caller will wait for the forecasts.
    """

    windows: Array
    outputs: Sequence[Output]
    id: str | None = None
    timeout_seconds: float | None = None


class InferRequestReader:
    """Reads requests to one model.

    Args:
        model: Its name.
        signature: Its tensors.
        max_windows: The largest batch taken.
    """

    def __init__(self, model: str, signature: Signature, max_windows: int) -> None:
        self._model = model
        self._signature = signature
        self._max_windows = max_windows

    def read(self, body: bytes, length: bytes | None) -> InferRequest:
        """Reads a request.

        Args:
            body: Document and bytes, not encoded in any way.
            length: The header that says how many bytes the document has; None if there is no such header.

        Raises:
            MalformedBody: The document is not JSON.
            InvalidArgument: It does not name what the model takes and gives, or the bytes are others than it says.
            BatchTooLarge: There are more than `max_windows` rows.
        """
        end = len(body) if length is None else _document_length(length, len(body))
        if length is not None and not end:
            return self._read_raw(body)
        document = parse_document(memoryview(body)[:end])
        parameters = _parameters(document)
        _refuse_unoffered(parameters)
        return InferRequest(
            windows=self._read_inputs(_entries(document, "inputs"), body, end),
            outputs=self._read_outputs(_entries(document, "outputs"), parameters),
            id=_optional(document, "id", str, "a string"),
            timeout_seconds=_timeout(parameters),
        )

    def _read_raw(self, body: bytes) -> InferRequest:
        """The bytes of the only input, a single row; all of the answer's tensors will be bytes, too."""
        tensors = self._signature.inputs.tensors
        if len(tensors) > 1:
            problem = f"a body without a document is one tensor, but model '{self._model}' takes {_listed(tensors)}"
            raise InvalidArgument(problem)
        shape = 1, *tensors[0].shape
        self._check_size(tensors[0], shape, DATATYPES[DATATYPE], len(body))
        windows = self._signature.inputs.join([self._numbers(tensors[0], DATATYPE, shape, body, 0)])
        return InferRequest(windows, [Output(place, is_binary=True) for place in range(self._output_count)])

    @property
    def _output_count(self) -> int:
        return len(self._signature.outputs.tensors)

    def _read_inputs(self, entries: Sequence[Entry], body: bytes, end: int) -> Array:
        layout = self._signature.inputs
        known = {tensor.name: tensor for tensor in layout.tensors}
        arrays: dict[str, Array] = {}
        for number, entry in enumerate(entries):
            tensor = known.get(_name(entry, "inputs", number))
            if tensor is None:
                problem = f"inputs {number} is none of model '{self._model}', which takes {_listed(layout.tensors)}"
                raise InvalidArgument(problem)
            if tensor.name in arrays:
                raise InvalidArgument(f"input '{tensor.name}' is there twice")
            arrays[tensor.name], end = self._read_input(tensor, entry, body, end)
        if missing := [tensor for tensor in layout.tensors if tensor.name not in arrays]:
            problem = f"model '{self._model}' takes {_listed(layout.tensors)}; {_listed(missing)} missing"
            raise InvalidArgument(problem)
        if end != len(body):
            raise InvalidArgument(
                f"unexpected additional input data for model '{self._model}': {len(body) - end} bytes"
            )
        if len({len(array) for array in arrays.values()}) > 1:
            raise InvalidArgument(
                f"the inputs of model '{self._model}' must all have the same batch, the first size of shape"
            )
        return layout.join([arrays[tensor.name] for tensor in layout.tensors])

    def _read_input(self, tensor: TensorSpec, entry: Entry, body: bytes, start: int) -> tuple[Array, int]:
        """A tensor, and where in the body its bytes end, which would start there."""
        parameters = _parameters(entry)
        _refuse_shared_memory(parameters, f"input '{tensor.name}'")
        shape = self._shape(tensor, entry)
        datatype = _datatype(tensor, entry)
        size = parameters.get("binary_data_size")
        data = entry.get("data")
        if (size is None) == (data is None):
            problem = f"input '{tensor.name}' needs either data or the parameter binary_data_size"
            raise InvalidArgument(f"{problem}, and {'has neither' if data is None else 'not both'}")
        if data is not None:
            return _from_json(tensor, datatype, shape, data), start
        if type(size) is not int or not 0 <= size <= INT64_MAX:
            raise InvalidArgument(f"input '{tensor.name}' needs a binary_data_size that is a whole number from 0")
        self._check_size(tensor, shape, DATATYPES[datatype], size)
        if start + size > len(body):
            lacking = start + size - len(body)
            problem = f"unexpected size for input '{tensor.name}', expecting {lacking} additional bytes"
            raise InvalidArgument(f"{problem} for model '{self._model}'")
        return self._numbers(tensor, datatype, shape, body, start), start + size

    def _shape(self, tensor: TensorSpec, entry: Entry) -> tuple[int, ...]:
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int and 0 < size <= INT64_MAX for size in shape):
            raise self._wrong_shape(tensor, "as a list of whole numbers, -1 standing for any from 1")
        if len(shape) != 1 + len(tensor.shape):
            raise self._wrong_shape(tensor, f"got {len(shape)} sizes", shape)
        rows, *sizes = shape
        if tuple(sizes) != tensor.shape:
            raise self._wrong_shape(tensor, f"got {shape}", shape)
        if rows > self._max_windows:
            raise BatchTooLarge(rows, self._max_windows)
        return tuple(shape)

    def _wrong_shape(self, tensor: TensorSpec, difference: str, came: Sequence[int] = ()) -> InvalidArgument:
        problem = f"unexpected shape for input '{tensor.name}' for model '{self._model}'"
        advice = advise_on_tensor(tuple(came), tensor.shape)
        return InvalidArgument(
            f"{problem}. Expected {[-1, *tensor.shape]}, {difference}{f'; {advice}' if advice else ''}"
        )

    def _check_size(self, tensor: TensorSpec, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
        expected = prod(shape) * dtype.itemsize
        if size != expected:
            problem = f"input byte size mismatch for input '{tensor.name}' for model '{self._model}'"
            raise InvalidArgument(f"{problem}. Expected {expected}, got {size}")

    def _numbers(self, tensor: TensorSpec, datatype: str, shape: tuple[int, ...], body: bytes, start: int) -> Array:
        """A tensor from its bytes, which are there."""
        numbers = np.frombuffer(body, DATATYPES[datatype], prod(shape), start).reshape(shape)
        return _as_float32(tensor, numbers, must_be_exact=datatype != DATATYPE)

    def _read_outputs(self, entries: Sequence[Entry], parameters: Mapping[str, Any]) -> list[Output]:
        tensors = self._signature.outputs.tensors
        is_binary = _flag(parameters, "binary_data_output", "the request", default=False)
        if not entries:
            return [Output(place, is_binary) for place in range(self._output_count)]
        places = {tensor.name: place for place, tensor in enumerate(tensors)}
        outputs: dict[int, Output] = {}
        for number, entry in enumerate(entries):
            place = places.get(_name(entry, "outputs", number))
            if place is None:
                raise InvalidArgument(
                    f"outputs {number} is none of model '{self._model}', which gives {_listed(tensors)}"
                )
            if place in outputs:
                raise InvalidArgument(f"output '{tensors[place].name}' is asked for twice")
            outputs[place] = _output(place, f"output '{tensors[place].name}'", _parameters(entry), is_binary)
        return list(outputs.values())


def write_answer(
    model: str, version: int, signature: Signature, request: InferRequest, forecasts: Array
) -> tuple[bytes, int | None]:
    """Writes the answer to a request.

    Args:
        model: The model that answers.
        version: Its version.
        signature: Its tensors.
        request: The request.
        forecasts: Shape (batch, horizon, targets).

    Returns:
        The body, and how many bytes of it the document has, if it is not all.
    """
    arrays = signature.outputs.split(forecasts)
    entries: list[Entry] = []
    parts: list[bytes] = []
    for output in request.outputs:
        array = arrays[output.place]
        name = signature.outputs.tensors[output.place].name
        entry: Entry = {"name": name, "datatype": DATATYPE, "shape": array.shape}
        if output.is_binary:
            parts.append(array.astype("<f4", copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = np.ascontiguousarray(array).reshape(-1)
        entries.append(entry)
    head = {"model_name": model, "model_version": str(version)}
    word = {} if request.id is None else {"id": request.id}
    document = orjson.dumps({**head, **word, "outputs": entries}, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([document, *parts]), len(document)) if parts else (document, None)


def _document_length(header: bytes, body_bytes: int) -> int:
    if not INTEGER.fullmatch(header.strip()):
        raise InvalidArgument(f"Unable to parse {LENGTH_HEADER}, got something else than a whole number")
    length = int(header)
    if not 0 <= length <= body_bytes:
        raise InvalidArgument(f"inference header size should be in range (0, {body_bytes}), got: {length}")
    return length


def parse_document(document: bytes | memoryview) -> Entry:
    """A JSON document, which is an object.

    Raises:
        MalformedBody: It is not JSON.
        InvalidArgument: It is something else than an object.
    """
    try:
        with collector_paused():
            content = orjson.loads(document)
    except orjson.JSONDecodeError:
        raise MalformedBody("valid JSON in UTF-8, which knows no NaN and no Infinity") from None
    if not isinstance(content, dict):
        raise InvalidArgument("expected a JSON object")
    return content


def _entries(document: Entry, field: str) -> list[Entry]:
    """A list of objects, or nothing."""
    entries: list[Entry] = _optional(document, field, list, "a list of objects") or []
    if not all(isinstance(entry, dict) for entry in entries):
        raise InvalidArgument(f"expected {field} to be a list of objects")
    return entries


def _parameters(content: Entry) -> dict[str, Any]:
    """Parameters of the request or of a tensor. Those that nobody here knows are for others, and are passed over."""
    parameters: dict[str, Any] = _optional(content, "parameters", dict, "an object") or {}
    if not all(isinstance(value, str | int | float) for value in parameters.values()):
        raise InvalidArgument("expected parameters to be strings, numbers or booleans")
    return parameters


def _optional(content: Entry, field: str, kind: type, kind_name: str) -> Any:
    """A field that may be missing, or null."""
    value = content.get(field)
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"expected {field} to be {kind_name}")
    return value


def _name(entry: Entry, field: str, number: int) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InvalidArgument(f"{field} {number} needs a name, which is a string")
    return name


def _flag(parameters: Mapping[str, Any], key: str, what: str, *, default: bool) -> bool:
    flag = parameters.get(key, default)
    if not isinstance(flag, bool):
        raise InvalidArgument(f"expected the parameter {key} of {what} to be true or false")
    return flag


def _refuse_unoffered(parameters: Mapping[str, Any]) -> None:
    """Refuses what a request could not do without noticing: sequences, and what is reserved for servers that know it.

    Priorities are passed over: all requests wait in one queue.
    """
    sequences = "sequence_id", "sequence_start", "sequence_end"
    if any(parameters.get(key) for key in sequences):
        raise InvalidArgument("sequences are not offered: a window is forecast by itself; leave sequence_id at 0")
    if any(key.startswith("triton_") for key in parameters):
        raise InvalidArgument("parameters that start with triton_ are reserved")


def _refuse_shared_memory(parameters: Mapping[str, Any], what: str) -> None:
    if any(key.startswith("shared_memory_") for key in parameters):
        raise InvalidArgument(f"{what} cannot be in shared memory, which is not offered; send or take its numbers")


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """The parameter is in microseconds; 0 is none."""
    timeout = parameters.get("timeout", 0)
    if type(timeout) is not int or not 0 <= timeout <= INT64_MAX:
        raise InvalidArgument("expected the parameter timeout to be a whole number of microseconds from 0")
    return timeout / 1e6 or None


def _output(place: int, what: str, parameters: Mapping[str, Any], is_binary: bool) -> Output:
    _refuse_shared_memory(parameters, what)
    if parameters.get("classification"):
        raise InvalidArgument(f"{what} cannot be asked for as classes: forecasts are numbers")
    return Output(place, _flag(parameters, "binary_data", what, default=is_binary))


def _datatype(tensor: TensorSpec, entry: Entry) -> str:
    datatype = entry.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        problem = f"input '{tensor.name}' needs the datatype {DATATYPE}"
        raise InvalidArgument(f"{problem}, or numbers that are the same in it, of one of {', '.join(DATATYPES)}")
    return datatype


def _from_json(tensor: TensorSpec, datatype: str, shape: tuple[int, ...], data: object) -> Array:
    """A tensor from its numbers in the document, nested as its shape says or not at all."""
    if datatype in BINARY_ONLY:
        raise InvalidArgument(
            f"input '{tensor.name}' is {datatype}, which JSON cannot hold; send it as bytes, or as {DATATYPE}"
        )
    if not isinstance(data, list):
        raise InvalidArgument(f"expected data of input '{tensor.name}' to be a list")
    values = data
    if data and type(data[0]) is list:
        flat = flatten(data, shape)
        if flat is None:
            problem = f"data of input '{tensor.name}' is nested in another way than its shape {list(shape)}"
            raise InvalidArgument(f"{problem}; nest it so, or send one flat list")
        values, _ = flat
    if len(values) != prod(shape):
        raise InvalidArgument(
            f"input '{tensor.name}' has {len(values)} numbers, but its shape {list(shape)} {prod(shape)}"
        )
    dtype = DATATYPES[datatype]
    takes = NUMBER_TYPES if dtype.kind == "f" else {int}
    if not set(map(type, values)) <= takes:
        index = next(index for index, value in enumerate(values) if type(value) not in takes)
        problem = number_problem(values[index]) or f"expected a whole number, as {datatype} says, got another"
        raise _wrong_number(tensor, shape, index, problem)
    try:
        numbers = np.array(values, np.float64 if dtype.kind == "f" else dtype)
    except OverflowError:
        raise InvalidArgument(f"input '{tensor.name}' has a number that {datatype} cannot hold") from None
    return _as_float32(tensor, numbers.reshape(shape), must_be_exact=datatype != DATATYPE)


def _as_float32(tensor: TensorSpec, numbers: NDArray[Any], *, must_be_exact: bool) -> Array:
    """The numbers as an array of its own, aligned as computing needs it, which a body's bytes need not be."""
    array = to_float32(numbers)
    if array is None:
        wide = numbers.astype(np.float64)
        index = int(np.argmin(np.abs(wide) <= FLOAT32_MAX))
        raise _wrong_number(tensor, numbers.shape, index, str(number_problem(float(wide.flat[index]))))
    if must_be_exact and not (is_same := _is_same(array, numbers)).all():
        problem = f"expected a number that {DATATYPE} holds exactly, got one that it would round; round it yourself"
        raise _wrong_number(tensor, numbers.shape, int(np.argmin(is_same)), problem)
    return array


def _is_same(array: Array, numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Where float32 holds the very numbers it was made of. Integers are compared as such: as floats both may round."""
    wide = array.astype(np.float64)
    if numbers.dtype.kind == "f":
        return np.asarray(wide == numbers)
    # What was rounded beyond the type's largest number becomes 0, which it cannot have been.
    held = np.where(wide < float(np.iinfo(numbers.dtype).max + 1), wide, 0)
    return np.asarray(held.astype(numbers.dtype) == numbers)


def _wrong_number(tensor: TensorSpec, shape: tuple[int, ...], index: int, problem: str) -> InvalidArgument:
    place = [int(coordinate) for coordinate in np.unravel_index(index, shape)]
    return InvalidArgument(f"input '{tensor.name}' at {place}: {problem}")


def _listed(tensors: Sequence[TensorSpec]) -> str:
    return listed([tensor.name for tensor in tensors])
