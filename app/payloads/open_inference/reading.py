"""The body of a request to windows, and to the outputs that the request asks for.

A body is a JSON document that describes the tensors, and behind it the bytes of all tensors without numbers in the
document, one after another. Both parts are optional. Without the length header the whole body is JSON. With length 0
it is the bytes of the only input, for one window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.arrays import Inputs
from app.errors import BatchTooLarge, InvalidArgument
from app.payloads.advice import advise_on_tensor
from app.payloads.names import listed
from app.payloads.open_inference.document import (
    INT64_MAX,
    Entry,
    check_in_body,
    check_offered,
    document_length,
    entries_of,
    flag_of,
    name_of,
    optional,
    parameters_of,
    parse_document,
    timeout_of,
)
from app.payloads.open_inference.tensors import DATATYPE, DATATYPES, from_bytes, from_json
from app.payloads.open_inference.times import INTEGERS, NEEDS, TEXT, times_from_bytes, times_from_json
from app.payloads.sizes import Extent, Largest, check_values, extent_of_names, extent_of_tensor, windows_text
from app.version.signature import Signature, TensorSpec

ENTRY = Extent(bytes=1024, values=32, brackets=4, names=16)
"""Room for what describes a tensor beside its name: shape, datatype, parameters."""


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that the answer should have.

    Attributes:
        place: The place of the tensor among the model's outputs.
        is_binary: Whether its numbers should stand as bytes behind the document.
    """

    place: int
    is_binary: bool


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a request asks for.

    Attributes:
        inputs: What the model takes.
        outputs: The tensors that the answer should have, in this order.
        id: The caller's id, which the answer repeats.
        timeout_seconds: The longest time that the caller waits for the forecasts; None for no limit.
    """

    inputs: Inputs
    outputs: Sequence[Output]
    id: str | None = None
    timeout_seconds: float | None = None


class InferRequestReader:
    """Reads requests to one model.

    Args:
        model: The model's name.
        signature: The model's tensors.
        max_windows: The largest batch taken.
    """

    def __init__(self, model: str, signature: Signature, max_windows: int) -> None:
        self._model = model
        self._signature = signature
        self._max_windows = max_windows

    def largest(self) -> Largest:
        """Returns the largest body, which has all numbers in its document."""
        inputs, outputs = self._signature.inputs, self._signature.outputs
        names = [spec.name for spec in (*inputs.tensors, *outputs.tensors)]
        entries = ENTRY * len(names) + extent_of_names(names)
        data = (extent_of_tensor(spec, (self._max_windows,), depth=3) for spec in inputs.tensors)
        return Largest(windows_text(self._max_windows, inputs.window_numbers), sum(data, entries))

    def read(self, body: bytes, length: bytes | None) -> InferRequest:
        """Reads a request.

        Args:
            body: The document and the bytes behind it, without a content encoding.
            length: The value of the header with the length of the document; None if there is no such header.

        Raises:
            MalformedBody: The document is not JSON.
            InvalidArgument: The document does not fit the model, or the bytes do not fit the document.
            BatchTooLarge: The request has more than `max_windows` windows.
            TooManyValues: The document has more values than the largest request.
        """
        end = len(body) if length is None else document_length(length, len(body))
        if length is not None and not end:
            return self._read_raw(body)
        check_values(memoryview(body)[:end], self.largest)
        document = parse_document(memoryview(body)[:end])
        parameters = parameters_of(document)
        check_offered(parameters)
        return InferRequest(
            inputs=self._read_inputs(entries_of(document, "inputs"), body, end),
            outputs=self._read_outputs(entries_of(document, "outputs"), parameters),
            id=optional(document, "id", str, "a string"),
            timeout_seconds=timeout_of(parameters),
        )

    def _read_raw(self, body: bytes) -> InferRequest:
        """Reads the bytes of the only input, for one window. All tensors of the answer will be bytes, too."""
        tensors = self._signature.inputs.tensors
        if len(tensors) > 1:
            problem = f"a body without a document is one tensor, but model '{self._model}' takes {_listed(tensors)}"
            raise InvalidArgument(problem)
        shape = 1, *tensors[0].shape
        self._check_size(tensors[0], shape, DATATYPES[DATATYPE], len(body))
        inputs = self._signature.inputs.join([from_bytes(tensors[0], DATATYPE, shape, body, 0)])
        return InferRequest(inputs, [Output(place, is_binary=True) for place in range(self._output_count)])

    @property
    def _output_count(self) -> int:
        return len(self._signature.outputs.tensors)

    def _read_inputs(self, entries: Sequence[Entry], body: bytes, end: int) -> Inputs:
        layout = self._signature.inputs
        known = {tensor.name: tensor for tensor in layout.tensors}
        arrays: dict[str, NDArray[Any]] = {}
        for number, entry in enumerate(entries):
            tensor = known.get(name_of(entry, "inputs", number))
            if tensor is None:
                takes = _listed(layout.tensors)
                raise InvalidArgument(f"inputs {number} is no input of model '{self._model}', which takes {takes}")
            if tensor.name in arrays:
                raise InvalidArgument(f"input '{tensor.name}' is given twice")
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

    def _read_input(self, tensor: TensorSpec, entry: Entry, body: bytes, start: int) -> tuple[NDArray[Any], int]:
        """Reads a tensor, whose bytes would begin at `start`. Returns where they end, too."""
        parameters = parameters_of(entry)
        check_in_body(parameters, f"input '{tensor.name}'")
        shape = self._shape(tensor, entry)
        datatype = _datatype(tensor, entry)
        size = parameters.get("binary_data_size")
        data = entry.get("data")
        if (size is None) == (data is None):
            problem = f"input '{tensor.name}' needs either data or the parameter binary_data_size"
            raise InvalidArgument(f"{problem}, and has {'neither' if data is None else 'both'}")
        if data is not None:
            return self._from_json(tensor, datatype, shape, data), start
        if type(size) is not int or not 0 <= size <= INT64_MAX:
            raise InvalidArgument(f"input '{tensor.name}' needs a binary_data_size that is a whole number from 0")
        return self._from_bytes(tensor, datatype, shape, body, start, size), start + size

    def _from_bytes(
        self, tensor: TensorSpec, datatype: str, shape: tuple[int, ...], body: bytes, start: int, size: int
    ) -> NDArray[Any]:
        if datatype != TEXT:
            self._check_size(tensor, shape, DATATYPES[datatype], size)
        if start + size > len(body):
            lacking = start + size - len(body)
            problem = f"unexpected size for input '{tensor.name}', expecting {lacking} additional bytes"
            raise InvalidArgument(f"{problem} for model '{self._model}'")
        if tensor.datatype == "int64":
            part = body[start : start + size]
            return times_from_bytes(tensor, datatype, shape, part, self._signature.inputs.spacing)
        return from_bytes(tensor, datatype, shape, body, start)

    def _from_json(self, tensor: TensorSpec, datatype: str, shape: tuple[int, ...], data: object) -> NDArray[Any]:
        if tensor.datatype == "int64":
            return times_from_json(tensor, datatype, shape, data, self._signature.inputs.spacing)
        return from_json(tensor, datatype, shape, data)

    def _shape(self, tensor: TensorSpec, entry: Entry) -> tuple[int, ...]:
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(type(size) is int and 0 < size <= INT64_MAX for size in shape):
            raise self._wrong_shape(tensor, "as a list of whole numbers, where -1 stands for any from 1")
        if len(shape) != 1 + len(tensor.shape):
            raise self._wrong_shape(tensor, f"got {len(shape)} sizes", shape)
        windows, *sizes = shape
        if tuple(sizes) != tensor.shape:
            raise self._wrong_shape(tensor, f"got {shape}", shape)
        if windows > self._max_windows:
            raise BatchTooLarge(windows, self._max_windows)
        return tuple(shape)

    def _wrong_shape(self, tensor: TensorSpec, difference: str, came: Sequence[int] = ()) -> InvalidArgument:
        problem = f"unexpected shape for input '{tensor.name}' for model '{self._model}'"
        is_window = tensor not in self._signature.inputs.more
        advice = advise_on_tensor(tuple(came), tensor.shape) if is_window else None
        return InvalidArgument(
            f"{problem}. Expected {[-1, *tensor.shape]}, {difference}{f'; {advice}' if advice else ''}"
        )

    def _check_size(self, tensor: TensorSpec, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
        expected = prod(shape) * dtype.itemsize
        if size != expected:
            problem = f"input byte size mismatch for input '{tensor.name}' for model '{self._model}'"
            raise InvalidArgument(f"{problem}. Expected {expected}, got {size}")

    def _read_outputs(self, entries: Sequence[Entry], parameters: Mapping[str, Any]) -> list[Output]:
        tensors = self._signature.outputs.tensors
        is_binary = flag_of(parameters, "binary_data_output", "the request", default=False)
        if not entries:
            return [Output(place, is_binary) for place in range(self._output_count)]
        places = {tensor.name: place for place, tensor in enumerate(tensors)}
        outputs: dict[int, Output] = {}
        for number, entry in enumerate(entries):
            place = places.get(name_of(entry, "outputs", number))
            if place is None:
                gives = _listed(tensors)
                raise InvalidArgument(f"outputs {number} is no output of model '{self._model}', which gives {gives}")
            if place in outputs:
                raise InvalidArgument(f"output '{tensors[place].name}' is requested twice")
            outputs[place] = _output(place, f"output '{tensors[place].name}'", parameters_of(entry), is_binary)
        return list(outputs.values())


def _output(place: int, what: str, parameters: Mapping[str, Any], is_binary: bool) -> Output:
    check_in_body(parameters, what)
    if parameters.get("classification"):
        raise InvalidArgument(f"{what} cannot be given as classes: forecasts are numbers")
    return Output(place, flag_of(parameters, "binary_data", what, default=is_binary))


def _datatype(tensor: TensorSpec, entry: Entry) -> str:
    datatype = entry.get("datatype")
    if tensor.datatype == "int64":
        if isinstance(datatype, str) and (datatype in INTEGERS or datatype == TEXT):
            return datatype
        raise InvalidArgument(f"input '{tensor.name}' needs {NEEDS}")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        problem = f"input '{tensor.name}' needs the datatype {DATATYPE}"
        raise InvalidArgument(f"{problem}, or one of {', '.join(DATATYPES)} with numbers that {DATATYPE} holds exactly")
    return datatype


def _listed(tensors: Sequence[TensorSpec]) -> str:
    return listed([tensor.name for tensor in tensors])
