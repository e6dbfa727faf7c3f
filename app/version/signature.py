"""The named tensors that a model takes and returns, and their place in windows and forecasts.

Inside the service a request is `Inputs`, and its answer forecasts (batch, horizon, targets). Other protocols speak of
named tensors, and a foreign model may have several. A `Layout` says where the numbers of each tensor stand, so that
everything between a protocol and an engine knows one shape only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.arrays import Array, Inputs
from app.version.manifest import Contract, Frequency

DataType: TypeAlias = Literal["float32", "int64"]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its name, its shape without the batch, and the type of its numbers."""

    name: str
    shape: tuple[int, ...]
    datatype: DataType = "float32"

    @cached_property
    def size(self) -> int:
        """How many numbers an entry of the batch has."""
        return prod(self.shape)

    @cached_property
    def table(self) -> tuple[int, int]:
        """The shape as rows and columns: a number is 1 row and 1 column, a list is 1 column, more axes are columns."""
        rows, *columns = self.shape or (1,)
        return rows, prod(columns)


@dataclass(frozen=True)
class Layout:
    """Tensors as parts of one table for each entry of the batch.

    Tensors with equally many rows stand side by side. Otherwise the numbers of all tensors stand in a single row, one
    tensor after another.
    """

    tensors: tuple[TensorSpec, ...]

    @cached_property
    def is_side_by_side(self) -> bool:
        """Whether the tensors have equally many rows."""
        return len({tensor.table[0] for tensor in self.tensors}) == 1

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the table: steps and features, or horizon and targets."""
        rows = self.tensors[0].table[0] if self.is_side_by_side else 1
        return rows, sum(self.widths)

    @cached_property
    def window_numbers(self) -> int:
        """How many numbers an entry of the batch has, in all tensors together."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def is_table(self) -> bool:
        """Whether there is a single tensor, which has the shape of the table already."""
        return [tensor.shape for tensor in self.tensors] == [self.shape]

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many columns each tensor has in the table."""
        return tuple(tensor.table[1] if self.is_side_by_side else tensor.size for tensor in self.tensors)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """A name for each column: the tensor's name, followed by a number if the tensor has several columns."""
        return tuple(
            tensor.name if width == 1 else f"{tensor.name}.{column}"
            for tensor, width in zip(self.tensors, self.widths, strict=True)
            for column in range(width)
        )

    def join(self, arrays: Sequence[Array]) -> Array:
        """Puts the tensors of a batch, each (batch, *shape), into tables (batch, rows, columns)."""
        if self.is_table:
            return arrays[0]
        rows, _ = self.shape
        parts = [np.reshape(array, (len(array), rows, width)) for array, width in zip(arrays, self.widths, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def split(self, tables: Array) -> list[Array]:
        """Takes the tensors of a batch, each (batch, *shape), out of tables (batch, rows, columns)."""
        if self.is_table:
            return [tables]
        ends = list(accumulate(self.widths))
        parts = [tables] if len(ends) == 1 else np.split(tables, ends[:-1], axis=2)
        return [
            np.reshape(part, (len(tables), *tensor.shape)) for part, tensor in zip(parts, self.tensors, strict=True)
        ]


@dataclass(frozen=True)
class InputLayout:
    """The tensors that a model takes, and their place in `Inputs`.

    Attributes:
        windows: The tensors that make up the windows.
        future: The tensor with values of the rows to forecast; None if the model takes none.
        time: The tensor with the number of the first row to forecast; None if the model takes no time.
        spacing: The distance between the rows that the time counts; None if the model takes no time.
    """

    windows: Layout
    future: TensorSpec | None = None
    time: TensorSpec | None = None
    spacing: Frequency | None = None

    @classmethod
    def of(cls, contract: Contract) -> "InputLayout":
        """Returns the inputs of a version with a manifest."""
        has_calendar = bool(contract.calendar)
        return cls(
            windows=Layout((TensorSpec("windows", contract.window_shape),)),
            future=TensorSpec("future", contract.future_shape) if contract.known else None,
            time=TensorSpec("time", (), "int64") if has_calendar else None,
            spacing=contract.spacing if has_calendar else None,
        )

    @cached_property
    def more(self) -> tuple[TensorSpec, ...]:
        """The tensors beside the windows."""
        return tuple(tensor for tensor in (self.future, self.time) if tensor is not None)

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All tensors."""
        return self.windows.tensors + self.more

    @cached_property
    def window_numbers(self) -> int:
        """How many numbers an entry of the batch has, in all tensors together."""
        return sum(tensor.size for tensor in self.tensors)

    def join(self, arrays: Sequence[NDArray[Any]]) -> Inputs:
        """Makes inputs of the tensors of a batch, each (batch, *shape)."""
        if not self.more:
            return Inputs(self.windows.join(arrays))
        count = len(self.windows.tensors)
        others = {tensor.name: array for tensor, array in zip(self.more, arrays[count:], strict=True)}
        return Inputs(self.windows.join(arrays[:count]), **others)

    def split(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Takes the tensors of a batch, each (batch, *shape), out of inputs."""
        named = inputs.named()
        return [*self.windows.split(inputs.windows), *(named[tensor.name] for tensor in self.more)]


@dataclass(frozen=True)
class Signature:
    """The tensors that a model takes, and the tensors that it returns."""

    inputs: InputLayout
    outputs: Layout

    @classmethod
    def of(cls, contract: Contract) -> "Signature":
        """Returns the signature of a version with a manifest."""
        return cls(InputLayout.of(contract), Layout((TensorSpec("forecast", contract.forecast_shape),)))
