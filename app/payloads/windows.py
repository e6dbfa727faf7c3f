"""Annotated types for pydantic models: nested JSON arrays in, a float32 array out. Errors point at the value.

`Window` and `Windows` read nested arrays, `RecordsWindow` reads objects by feature name. With a `Contract` as
validation context they also check the steps and features of the served model.

Numbers are strict: no strings, booleans, null, NaN, infinities, or numbers that float32 cannot hold.
"""

from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from app.arrays import Array
from app.payloads.advice import forms_of, wrong_shape
from app.payloads.axes import axis_of, problems_in_lists, problems_in_records, read_records, window_axes
from app.payloads.fields import array_schema, check_none, contract_in, field_error
from app.payloads.lists import regular_shape, to_array
from app.version.manifest import Contract

UNREADABLE = "could not be read as numbers"
"""What is said of a value without a problem that is found."""


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
        return array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes nested arrays of numbers. `x-axis` names each level, so that a model's sizes can be filled in."""
        node: JsonSchemaValue = {"type": "number"}
        for axis in reversed(self.axes):
            node = {"type": "array", "items": node, "minItems": 1, "x-axis": axis}
        return node

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = contract_in(info)
        axes = [axis_of(name, contract) for name in self.axes]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        is_flat = axes[-1].name == "features" and axes[-1].size == 1 and _is_flat(value, depth=len(axes) - 1)
        expected = axes[:-1] if is_flat else axes
        array = to_array(value, [axis.size for axis in expected])
        if array is None:
            if contract is not None:
                _check_shape(value, contract, batched=self.axes[0] == "batch")
            check_none(problems_in_lists(value, expected))
            raise field_error(UNREADABLE)
        return array[..., np.newaxis] if is_flat else array


class Records:
    """Annotation that turns `[{"temp": 1.2, "load": 3.4}, ...]` into a float32 array (steps, features).

    The features come out in the contract's order, whatever the order in the objects. The validation context must be a
    `Contract`.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describes objects of numbers. `x-axis` marks the parts that a model's contract fills in."""
        record = {"type": "object", "additionalProperties": {"type": "number"}, "x-axis": "features"}
        return {"type": "array", "items": record, "minItems": 1, "x-axis": "steps"}

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = contract_in(info)
        if contract is None:
            raise field_error("records can only be read with a model's contract")
        array = read_records(value, *window_axes(contract))
        if array is None:
            check_none(problems_in_records(value, *window_axes(contract)))
            raise field_error(UNREADABLE)
        return array


Window: TypeAlias = Annotated[NDArray[np.float32], Tensor("steps", "features")]
"""One window: float32 (steps, features)."""

Windows: TypeAlias = Annotated[NDArray[np.float32], Tensor("batch", "steps", "features")]
"""A batch of windows: float32 (batch, steps, features)."""

RecordsWindow: TypeAlias = Annotated[NDArray[np.float32], Records()]
"""One window by feature name: float32 (steps, features)."""


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
        raise field_error(wrong_shape(shape, contract, batched=batched))
