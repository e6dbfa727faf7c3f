"""The body of a prediction to tensors: rows (one value for each window) or columns (one value for each input).

The usual bodies are read without a Python object per number. All other bodies, right or wrong, are read more slowly,
and what is wrong with them is told in TensorFlow Serving's words.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray

from app.arrays import Inputs
from app.errors import BatchTooLarge, InvalidArgument
from app.payloads.advice import is_one_window
from app.payloads.quick import Form, SkeletonReader, nested
from app.payloads.sizes import Largest, check_values, extent_of_names, extent_of_tensor, in_brackets, windows_text
from app.payloads.tfserving.document import (
    SIGNATURE,
    Orientation,
    format_error,
    is_object,
    orientation_of,
    parse_document,
)
from app.payloads.tfserving.tensors import Floats, Kind, RowTimes, advice_text, takes_text, tensor_problem
from app.version.signature import InputLayout, TensorSpec

MAX_READERS = 128
"""How many readers are kept, one for each orientation and shape of a window."""


class BodyReader:
    """Reads the body of a prediction.

    Args:
        inputs: The tensors that the model takes.
        max_windows: The largest batch taken.
        allow_nan: Whether NaN and Infinity are taken.
    """

    def __init__(self, inputs: InputLayout, max_windows: int, *, allow_nan: bool) -> None:
        self._inputs = inputs
        self._tensors = inputs.tensors
        self._max_windows = max_windows
        self._allow_nan = allow_nan

    def largest(self) -> Largest:
        """Returns the largest body, which has rows: every window has the names of all inputs there."""
        names = extent_of_names([spec.name for spec in self._tensors])
        tensors = (extent_of_tensor(spec, (), depth=3) for spec in self._tensors)
        rows = in_brackets(in_brackets(sum(tensors, names), depth=2) * self._max_windows, depth=1)
        return Largest(windows_text(self._max_windows, self._inputs.window_numbers), rows)

    def read_usual(self, body: bytes) -> tuple[Orientation, Inputs] | None:
        """Reads a body of the usual form, as `read` does; returns None for any other body.

        Raises:
            BatchTooLarge: The body has more than `max_windows` windows.
        """
        for orientation in Orientation if len(self._tensors) == 1 else ():
            tensor = quick_reader(orientation, self._tensors[0].shape).read(body)
            if tensor is not None:
                if len(tensor) > self._max_windows:
                    raise BatchTooLarge(len(tensor), self._max_windows)
                return orientation, self._inputs.join([tensor])
        return None

    def read(self, body: bytes) -> tuple[Orientation, Inputs]:
        """Returns the orientation of a body, and its inputs.

        Raises:
            InvalidArgument: The body does not fit the API or the signature.
            BatchTooLarge: The body has more than `max_windows` windows.
            TooManyValues: The body has more values than the largest request.
        """
        usual = self.read_usual(body)
        if usual is not None:
            return usual
        check_values(body, self.largest)
        content = parse_document(body)
        orientation = orientation_of(content)
        value = content[orientation.field]
        tensors = self._read_rows(value) if orientation is Orientation.ROWS else self._read_columns(value)
        return orientation, self._inputs.join(tensors)

    def _check_count(self, values: list[Any], spec: TensorSpec) -> None:
        """Checks the number of windows in a list. The entries of a single window are steps, not windows."""
        if len(values) > self._max_windows and not (
            len(spec.shape) == 2 and is_one_window(values, (spec.shape[0], spec.shape[1]))
        ):
            raise BatchTooLarge(len(values), self._max_windows)

    def _read_rows(self, instances: Any) -> list[NDArray[Any]]:
        if not isinstance(instances, list):
            raise format_error(instances, "Excepting 'instances' to be an list/array")  # misspelt there, too
        if not instances:
            raise format_error(instances, "No values in 'instances' array")
        self._check_count(instances, self._tensors[0])
        if is_object(instances[0]):
            return [self._stack(items, spec, f".{spec.name}") for spec, items in self._by_name(instances)]
        if len(self._tensors) > 1:
            raise InvalidArgument(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for index, element in enumerate(instances):
            if is_object(element):
                raise InvalidArgument(f"Expecting value/list but got object at item {index} of input list")
        return [self._stack(instances, self._tensors[0], "")]

    def _by_name(self, instances: list[Any]) -> Iterable[tuple[TensorSpec, list[object]]]:
        """Returns the values of each tensor, one from each row."""
        names = [spec.name for spec in self._tensors]
        for index, element in enumerate(instances):
            if not is_object(element):
                raise InvalidArgument(f"Expecting object but got list at item {index} of input list")
            if element.keys() != set(names):
                raise InvalidArgument(
                    f"Failed to process element: {index} of 'instances' list. JSON object: (with {len(element)} keys) "
                    f"keys must be equal to: {','.join(names)}"
                )
        return [(spec, [element[spec.name] for element in instances]) for spec in self._tensors]

    def _stack(self, items: list[Any], spec: TensorSpec, field: str) -> NDArray[Any]:
        """Makes one tensor of the values of all rows."""
        kind = self._kind(spec)
        tensor = kind.to_tensor(items, (len(items), *spec.shape))
        if tensor is not None:
            return tensor
        index = next(index for index, item in enumerate(items) if kind.to_tensor(item, spec.shape) is None)
        takes = takes_text(spec, spec.shape)
        problem = tensor_problem(items[index], spec.shape, f"instances[{index}]{field}", takes, kind)
        key = f" key: {spec.name}" if field else ""
        raise InvalidArgument(
            f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {problem}"
            + self._advice(items, spec)
        )

    def _read_columns(self, inputs: Any) -> list[NDArray[Any]]:
        if not is_object(inputs):
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

    def _column(self, value: Any, spec: TensorSpec, place: str) -> NDArray[Any]:
        """Makes a tensor of a column, which must hold at least one window."""
        values = value if isinstance(value, list) and value else [value]
        self._check_count(values, spec)
        shape = len(values), *spec.shape
        kind = self._kind(spec)
        tensor = kind.to_tensor(value, shape)
        if tensor is None:
            problem = tensor_problem(value, shape, place, takes_text(spec, (-1, *spec.shape)), kind)
            raise InvalidArgument(problem + self._advice(value, spec))
        return tensor

    def _kind(self, spec: TensorSpec) -> Kind:
        return RowTimes(self._inputs.spacing) if spec.datatype == "int64" else Floats(self._allow_nan)

    def _advice(self, value: object, spec: TensorSpec) -> str:
        return "" if spec in self._inputs.more else advice_text(value, spec)


@lru_cache(MAX_READERS)
def quick_reader(orientation: Orientation, shape: tuple[int, ...]) -> SkeletonReader:
    """Returns the reader for the usual bodies of a model with one input.

    Usual are bare values, alone or beside the signature's name.

    Args:
        orientation: Rows or columns.
        shape: The shape of a window.
    """
    field, window = orientation.field, nested(*shape)
    windows, name = f'"{field}":[%s]', f'"signature_name":"{SIGNATURE}"'
    named = (("signature_name", SIGNATURE),)
    forms = [
        Form(field, f"{{{windows}}}", window),
        Form(field, f"{{{name},{windows}}}", window, named),
        Form(field, f"{{{windows},{name}}}", window, named),
    ]
    return SkeletonReader(shape, forms)
