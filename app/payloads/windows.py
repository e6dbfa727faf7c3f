"""From a JSON payload to a float32 tensor, with errors that point at the value.

`Window`, `Windows` and `Records` are annotated types for any pydantic model: nested JSON arrays (or objects by feature
name) in, a numpy array out. With a `Contract` as validation context they also hold the payload to the served model's
steps and features.

Numbers are strict: no strings, booleans, null, NaN, infinities, or values that float32 cannot hold. A payload that is
right is checked level by level at C speed; only one that is wrong is walked again to say where.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from app.arrays import NUMBER_TYPES, Array, flatten, kind_of, number_problem, regular_shape, to_float32, to_float64
from app.errors import MAX_LOCATED_ERRORS
from app.payloads.advice import advise, forms_of, listed
from app.version.manifest import Contract

Location: TypeAlias = tuple[int | str, ...]
Mistake: TypeAlias = tuple[Location, str]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a tensor: its name, and the size and entries that the contract gives it, if it does."""

    name: str
    size: int | None = None
    entries: tuple[str, ...] = ()

    def expects(self, size: int | None) -> str:
        """What should stand here, in words; `size` is what the contract or the first row implies."""
        if size is None:
            return f"at least 1 along {self.name}"
        counted = f"{size} {self.name.removesuffix('s') if size == 1 else self.name}"
        if self.size is None:
            return f"{counted} as in the first row"
        return f"{counted} ({listed(self.entries)})" if self.entries else counted


class Tensor:
    """Annotation that turns nested JSON arrays into a float32 array with the named axes.

    Args:
        axes: Names from the outermost in, for example `"batch", "steps", "features"`. A `Contract` in the validation
            context gives `steps` and `features` their sizes; any other axis may have any size from 1, the same in
            every row. Where the contract has one feature, the innermost lists may be left out.
    """

    def __init__(self, *axes: str) -> None:
        self.axes = axes

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return _array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Nested arrays of numbers; `x-axis` names each level, so that a served model's sizes can be filled in."""
        node: JsonSchemaValue = {"type": "number"}
        for axis in reversed(self.axes):
            node = {"type": "array", "items": node, "minItems": 1, "x-axis": axis}
        return node

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = _contract(info)
        axes = [_axis(name, contract) for name in self.axes]
        if isinstance(value, np.ndarray):
            value = value.tolist()
        is_flat = axes[-1].name == "features" and axes[-1].size == 1 and _is_flat(value, depth=len(axes) - 1)
        expected = axes[:-1] if is_flat else axes
        array = _to_array(value, [axis.size for axis in expected])
        if array is None:
            if contract is not None and (problem := _shape_problem(value, contract, batched=self.axes[0] == "batch")):
                raise _custom_error(problem)
            _explain(value, expected)
        return array[..., np.newaxis] if is_flat else array


class Records:
    """Annotation that turns `[{"temp": 1.2, "load": 3.4}, ...]` into a float32 array (steps, features).

    The features come out in the contract's order, whatever the order in the objects; so a `Contract` must be the
    validation context.
    """

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """Validates with `_validate`; dumps as nested lists."""
        return _array_schema(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Objects of numbers; `x-axis` marks what a served model's contract fills in."""
        record = {"type": "object", "additionalProperties": {"type": "number"}, "x-axis": "features"}
        return {"type": "array", "items": record, "minItems": 1, "x-axis": "steps"}

    def _validate(self, value: object, info: ValidationInfo) -> Array:
        contract = _contract(info)
        if contract is None:
            raise PydanticCustomError("records", "records can only be read with a model's contract")
        names = contract.feature_names
        axes = window_axes(contract)
        _refuse(_locate_in_records(value, names, axes[0]))
        rows = [[record[name] for name in names] for record in value]  # type: ignore[attr-defined]
        array = _to_array(rows, [axis.size for axis in axes])
        if array is None:
            _explain(rows, axes, rename=lambda place: (*place[:1], *(names[int(index)] for index in place[1:])))
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


def _axis(name: str, contract: Contract | None) -> Axis:
    if contract is not None and name == "steps":
        return Axis(name, contract.steps)
    if contract is not None and name == "features":
        return Axis(name, len(contract.features), contract.feature_names)
    return Axis(name)


def window_axes(contract: Contract) -> tuple[Axis, Axis]:
    """The axes of the contract's windows."""
    return _axis("steps", contract), _axis("features", contract)


def _is_flat(value: object, depth: int) -> bool:
    """Whether the first entry `depth` lists down is no list, so that the lists of a single feature were left out."""
    for _ in range(depth):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return not isinstance(value, list)


def _explain(
    value: object, axes: Sequence[Axis], rename: Callable[[Location], Location] = lambda place: place
) -> NoReturn:
    """Raises a `ValidationError` that says where nested lists are not what they should be."""
    _refuse((rename(place), text) for place, text in _locate(value, axes))
    raise PydanticCustomError("tensor", "could not be read as numbers")


def _shape_problem(value: object, contract: Contract, *, batched: bool) -> str | None:
    """What is wrong with the shape of nested lists of numbers, and what to do; None if they are ragged, or it fits."""
    shape = regular_shape(value)
    if shape is None or shape[1 if batched else 0 :] in forms_of(contract.window_shape):
        return None
    return wrong_shape(shape, contract, batched=batched)


def wrong_shape(came: tuple[int, ...], contract: Contract, *, batched: bool) -> str:
    """The shape that was expected, the one that came, and the line that puts it right, where one is known.

    Args:
        came: A shape that does not fit.
        contract: Of the model.
        batched: Whether a batch is expected, and not one window.
    """
    counts = ", ".join(axis.expects(axis.size) for axis in window_axes(contract))
    expected = f"(batch, {counts}), the batch not empty" if batched else f"({counts})"
    advice = advise(came, contract.window_shape, contract.feature_names, batched=batched)
    return f"expected an array of {expected}, got one of {came}{f'; {advice}' if advice else ''}"


def is_one_window(value: list[Any], window_shape: tuple[int, int]) -> bool:
    """Whether a list that should be a batch is a single window, so that its entries are steps and no windows."""
    return len(value) == window_shape[0] and regular_shape(value) in forms_of(window_shape)


def _to_array(value: object, sizes: Sequence[int | None]) -> Array | None:
    """Nested lists to a float32 array of that shape, or None if anything at all is wrong with them."""
    flat = flatten(value, sizes)
    if flat is None or not set(map(type, flat[0])) <= NUMBER_TYPES:
        return None
    entries, shape = flat
    numbers = to_float64(entries)
    tensor = None if numbers is None else to_float32(numbers)
    return None if tensor is None else tensor.reshape(shape)


def _locate(value: object, axes: Sequence[Axis], implied: Sequence[int | None] | None = None) -> Iterator[Mistake]:
    """Walks nested lists in order and yields every mistake; a sound row is passed over at C speed."""
    if not axes:
        if problem := number_problem(value):
            yield (), problem
        return
    implied = _first_sizes(value, axes) if implied is None else implied
    axis, size = axes[0], axes[0].size or implied[0]
    if not isinstance(value, list):
        yield (), f"expected a list of {axis.expects(size)}, got {kind_of(value)}"
        return
    if not value or (size is not None and len(value) != size):
        yield (), f"expected {axis.expects(size)}, got {len(value)}"
        return
    for index, row in enumerate(value):
        sound = len(axes) > 1 and _to_array(row, [a.size or i for a, i in zip(axes[1:], implied[1:], strict=True)])
        if sound is False or sound is None:
            for place, text in _locate(row, axes[1:], implied[1:]):
                yield (index, *place), text


def _first_sizes(value: object, axes: Sequence[Axis]) -> list[int | None]:
    """The sizes that the first entry of every level implies for the rest of its level; None for the outermost."""
    sizes: list[int | None] = [None]
    for _ in axes[1:]:
        value = value[0] if isinstance(value, list) and value else None
        sizes.append(len(value) if isinstance(value, list) and value else None)
    return sizes


def _locate_in_records(value: object, names: tuple[str, ...], steps: Axis) -> Iterator[Mistake]:
    if not isinstance(value, list):
        yield (), f"expected a list of objects, got {kind_of(value)}"
        return
    if len(value) != steps.size:
        yield (), f"expected {steps.expects(steps.size)}, got {len(value)}"
        return
    wanted = set(names)
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            yield (index,), f"expected an object with {listed(names)}, got {kind_of(record)}"
        elif missing := [name for name in names if name not in record]:
            yield (index,), f"expected {listed(names)}; {listed(missing)} missing"
        elif len(record) > len(wanted):
            yield (index,), f"expected {listed(names)} only, got {len(record) - len(wanted)} unknown besides"


def _refuse(mistakes: Iterator[Mistake]) -> None:
    """Raises the first mistakes, if there are any, as errors of the field that is being validated."""
    errors = [
        InitErrorDetails(type=_custom_error(text), loc=place, input=None)
        for place, text in islice(mistakes, MAX_LOCATED_ERRORS)
    ]
    if errors:
        raise ValidationError.from_exception_data("tensor", errors)


def _custom_error(text: str) -> PydanticCustomError:
    return PydanticCustomError("tensor", text)
