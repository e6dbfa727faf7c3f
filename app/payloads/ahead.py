"""Annotated types for what a body brings beside windows: values of the rows to forecast, and the time of the first one.

The validation context must be a `Contract`. A model that takes neither refuses both. Numbers are as strict as those of
windows.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.arrays import Array, Times
from app.payloads.axes import Axis, Problem, future_axes, problems_in_lists, problems_in_records, read_records
from app.payloads.fields import array_schema, check_none, contract_in, field_error
from app.payloads.lists import kind_of, to_array
from app.payloads.names import listed
from app.payloads.times import read_time
from app.version.manifest import Contract, Frequency

FUTURE_SCHEMA: JsonSchemaValue = {
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "x-axis": "horizon",
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 1, "x-axis": "known"},
        },
        {
            "type": "array",
            "minItems": 1,
            "x-axis": "horizon",
            "items": {"type": "object", "additionalProperties": {"type": "number"}, "x-axis": "known"},
        },
    ]
}
TIME_SCHEMA: JsonSchemaValue = {"anyOf": [{"type": "string"}, {"type": "integer"}]}


class _Ahead:
    """Annotation that turns a JSON value into an array by a contract.

    Args:
        read: Reads the value.
        takes: Whether a model takes such a value.
        schema: Describes the value.
    """

    def __init__(
        self,
        read: Callable[[object, Contract], NDArray[Any]],
        takes: Callable[[Contract], object],
        schema: JsonSchemaValue,
    ) -> None:
        self._read = read
        self._takes = takes
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes the value. `x-axis` marks the parts that a model's contract fills in."""
        return deepcopy(self._schema)  # the shapes of a model are filled in

    def _validate(self, value: object, info: ValidationInfo) -> NDArray[Any]:
        contract = contract_in(info)
        if contract is None:
            raise field_error("this can only be read with a model's contract")
        if not self._takes(contract):
            raise field_error(f"this model takes no {info.field_name}; leave it out")
        return self._read(value, contract)


def _read_future(value: object, contract: Contract) -> Array:
    rows, columns = future_axes(contract)
    array = _to_future(value, rows, columns)
    if array is None:
        check_none(_problems_in_future(value, rows, columns))
        raise field_error("could not be read as numbers")
    return array


def _read_futures(value: object, contract: Contract) -> Array:
    rows, columns = future_axes(contract)
    entries = _entries(value)
    array = to_array(value, (None, rows.size, columns.size))
    if array is not None:
        return array
    arrays = [_to_future(entry, rows, columns) for entry in entries]
    check_none(
        ((index, *place), text)
        for index, (entry, array) in enumerate(zip(entries, arrays, strict=True))
        if array is None
        for place, text in _problems_in_future(entry, rows, columns)
    )
    return np.stack(arrays)  # type: ignore[arg-type]


def _to_future(value: object, rows: Axis, columns: Axis) -> Array | None:
    """Reads the known values of one forecast, as lists, by name, or flat where there is one known column."""
    if _is_by_name(value):
        return read_records(value, rows, columns)
    array = to_array(value, (rows.size, columns.size))
    if array is None and columns.size == 1:
        flat = to_array(value, (rows.size,))
        return None if flat is None else flat[:, np.newaxis]
    return array


def _problems_in_future(value: object, rows: Axis, columns: Axis) -> Iterator[Problem]:
    if _is_by_name(value):
        return problems_in_records(value, rows, columns)
    is_flat = columns.size == 1 and isinstance(value, list) and bool(value) and not isinstance(value[0], list)
    return problems_in_lists(value, (rows,) if is_flat else (rows, columns))


def _is_by_name(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _read_time(value: object, contract: Contract) -> Times:
    try:
        return np.array([read_time(value, contract.spacing)], np.int64)
    except ValueError as error:
        raise field_error(str(error)) from None


def _read_times(value: object, contract: Contract) -> Times:
    entries, spacing = _entries(value), contract.spacing
    try:
        return np.array([read_time(entry, spacing) for entry in entries], np.int64)
    except ValueError:
        check_none(_problems_in_times(entries, spacing))
        raise


def _problems_in_times(values: list[object], spacing: Frequency | None) -> Iterator[Problem]:
    for index, value in enumerate(values):
        try:
            read_time(value, spacing)
        except ValueError as error:
            yield (index,), str(error)


def _entries(value: object) -> list[object]:
    """Checks that a value is a list with entries, and returns the value."""
    if not isinstance(value, list):
        raise field_error(f"expected a list of {Axis('batch').expects(None)}, got {kind_of(value)}")
    if not value:
        raise field_error(f"expected {Axis('batch').expects(None)}, got 0")
    return value


def _takes_future(contract: Contract) -> bool:
    return bool(contract.known)


def _takes_time(contract: Contract) -> bool:
    return bool(contract.calendar)


Future: TypeAlias = Annotated[NDArray[np.float32], _Ahead(_read_future, _takes_future, FUTURE_SCHEMA)]
"""Values of the rows to forecast: float32 (horizon, known)."""

Futures: TypeAlias = Annotated[
    NDArray[np.float32],
    _Ahead(_read_futures, _takes_future, {"type": "array", "items": FUTURE_SCHEMA, "minItems": 1}),
]
"""The same for each window of a batch: float32 (batch, horizon, known)."""

Time: TypeAlias = Annotated[NDArray[np.int64], _Ahead(_read_time, _takes_time, TIME_SCHEMA)]
"""The number of the first row to forecast: int64 (1,)."""

FirstTimes: TypeAlias = Annotated[
    NDArray[np.int64], _Ahead(_read_times, _takes_time, {"type": "array", "items": TIME_SCHEMA, "minItems": 1})
]
"""The same for each window of a batch: int64 (batch,)."""


def missing_ahead(contract: Contract, future: Array | None, time: Times | None) -> str | None:
    """Says what a body lacks that the model takes beside windows; None if nothing is missing."""
    missing = []
    if contract.known and future is None:
        missing.append(f"future (values of {listed(contract.known)} in the rows to forecast)")
    if contract.calendar and time is None:
        missing.append("time (of the first row to forecast)")
    return f"this model needs {' and '.join(missing)} too" if missing else None
