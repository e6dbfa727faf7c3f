"""Annotated types for pydantic models: nested JSON arrays in, a float32 array out. Errors point at the value.

`Window` and `Windows` read nested arrays, `RecordsWindow` reads objects by feature name. With a `Contract` as
validation context they also check the steps and features of the served model.

Numbers are strict: no strings, booleans, null, NaN, infinities, or numbers that float32 cannot hold.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Annotated, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from app.arrays import Array
from app.errors import MAX_LOCATED_ERRORS
from app.payloads.advice import forms_of, wrong_shape
from app.payloads.axes import Axis, Place, Problem, axis_of, problems_in_lists, problems_in_records, window_axes
from app.payloads.lists import regular_shape, to_array
from app.version.manifest import Contract


class Tensor:
    """Annotation that turns nested JSON arrays into a float32 array with named axes.

    Args:
        axes: Names from the outermost axis, for example `"batch", "steps", "features"`. A `Contract` in the validation
            context gives `steps` and `features` their sizes. Any other axis may have any size from 1, the same in
            every list. Where the contract has one feature, the innermost lists may be left out.
    """

    def __init__(self, *axes: str) -> None:
        self.axes = axes

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return _array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes nested arrays of numbers. `x-axis` names each level, so that a model's sizes can be filled in."""
        node: JsonSchemaValue = {"type": "number"}
        for axis in reversed(self.axes):
            node = {"type": "array", "items": node, "minItems": 1, "x-axis": axis}
        return node

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = _contract(info)
        axes = [axis_of(name, contract) for name in self.axes]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        is_flat = axes[-1].name == "features" and axes[-1].size == 1 and _is_flat(value, depth=len(axes) - 1)
        expected = axes[:-1] if is_flat else axes
        array = to_array(value, [axis.size for axis in expected])
        if array is None:
            if contract is not None:
                _check_shape(value, contract, batched=self.axes[0] == "batch")
            _explain(value, expected)
        return array[..., np.newaxis] if is_flat else array


class Records:
    """Annotation that turns `[{"temp": 1.2, "load": 3.4}, ...]` into a float32 array (steps, features).

    The features come out in the contract's order, whatever the order in the objects. The validation context must be a
    `Contract`.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return _array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes objects of numbers. `x-axis` marks the parts that a model's contract fills in."""
        record = {"type": "object", "additionalProperties": {"type": "number"}, "x-axis": "features"}
        return {"type": "array", "items": record, "minItems": 1, "x-axis": "steps"}

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = _contract(info)
        if contract is None:
            raise PydanticCustomError("records", "records can only be read with a model's contract")
        _check_none(problems_in_records(value, contract))
        names, axes = contract.feature_names, window_axes(contract)
        window = [[record[name] for name in names] for record in value]  # type: ignore[attr-defined]
        array = to_array(window, [axis.size for axis in axes])
        if array is None:
            _explain(window, axes, rename=lambda place: (*place[:1], *(names[int(index)] for index in place[1:])))
        return array


Window: TypeAlias = Annotated[NDArray[np.float32], Tensor("steps", "features")]
"""One window: float32 (steps, features)."""

Windows: TypeAlias = Annotated[NDArray[np.float32], Tensor("batch", "steps", "features")]
"""A batch of windows: float32 (batch, steps, features)."""

RecordsWindow: TypeAlias = Annotated[NDArray[np.float32], Records()]
"""One window by feature name: float32 (steps, features)."""


def _array_schema(validate: Callable[[object, ValidationInfo], Array]) -> CoreSchema:
    return core_schema.with_info_plain_validator_function(
        validate, serialization=core_schema.plain_serializer_function_ser_schema(np.ndarray.tolist)
    )


def _contract(info: ValidationInfo) -> Contract | None:
    return info.context if isinstance(info.context, Contract) else None


def _is_flat(value: object, depth: int) -> bool:
    """Returns whether the lists of a single feature are left out: the first entry `depth` lists down is no list."""
    for _ in range(depth):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return not isinstance(value, list)


def _check_shape(value: object, contract: Contract, *, batched: bool) -> None:
    """Checks the shape of nested lists of numbers. Ragged lists have no shape, and pass."""
    shape = regular_shape(value)
    if shape is not None and shape[1 if batched else 0 :] not in forms_of(contract.window_shape):
        raise _error(wrong_shape(shape, contract, batched=batched))


def _explain(value: object, axes: Sequence[Axis], rename: Callable[[Place], Place] = lambda place: place) -> NoReturn:
    """Raises the problems of nested lists."""
    _check_none((rename(place), text) for place, text in problems_in_lists(value, axes))
    raise _error("could not be read as numbers")


def _check_none(problems: Iterator[Problem]) -> None:
    """Checks that there are no problems. Raises the first ones as errors of the field that is being validated."""
    errors = [
        InitErrorDetails(type=_error(text), loc=place, input=None)
        for place, text in islice(problems, MAX_LOCATED_ERRORS)
    ]
    if errors:
        raise ValidationError.from_exception_data("tensor", errors)


def _error(text: str) -> PydanticCustomError:
    return PydanticCustomError("tensor", text)
