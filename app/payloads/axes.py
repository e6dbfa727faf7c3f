"""The axes of windows and forecasts by name, and the places where nested lists do not fit them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

from app.arrays import Array
from app.errors import MAX_LOCATED_ERRORS
from app.payloads.lists import kind_of, number_problem, to_array
from app.payloads.names import listed
from app.version.manifest import Contract

Place: TypeAlias = tuple[int | str, ...]
"""Indices and names from the outermost value in."""

Problem: TypeAlias = tuple[Place, str]
"""What is wrong with a value, and where the value is."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of an array.

    Attributes:
        name: The axis' name, for example `steps`.
        size: The size that the contract gives the axis, if it does.
        entries: The names that the contract gives the entries along the axis, if it does.
    """

    name: str
    size: int | None = None
    entries: tuple[str, ...] = ()

    def expects(self, size: int | None) -> str:
        """Says what is expected along the axis.

        Args:
            size: The size from the contract or from the first list; None if any size from 1 will do.
        """
        if size is None:
            return f"at least 1 entry along {self.name}"
        counted = f"{size} {self.name.removesuffix('s') if size == 1 else self.name}"
        if self.size is None:
            return f"{counted} as in the first list"
        return f"{counted} ({listed(self.entries)})" if self.entries else counted


def axis_of(name: str, contract: Contract | None) -> Axis:
    """Returns the axis of a name, with the contract's size and entries where there is a contract that has them."""
    if contract is not None and name == "steps":
        return Axis(name, contract.steps)
    if contract is not None and name == "features":
        return Axis(name, len(contract.features), contract.feature_names)
    if contract is not None and name == "horizon":
        return Axis("rows", contract.horizon)
    if contract is not None and name == "known":
        return Axis("known columns", len(contract.known), contract.known)
    return Axis(name)


def window_axes(contract: Contract) -> tuple[Axis, Axis]:
    """Returns the axes of the contract's windows: steps and features."""
    return axis_of("steps", contract), axis_of("features", contract)


def future_axes(contract: Contract) -> tuple[Axis, Axis]:
    """Returns the axes of the contract's futures: the rows of the horizon and the known columns."""
    return axis_of("horizon", contract), axis_of("known", contract)


def problems_in_lists(
    value: object, axes: Sequence[Axis], sizes: Sequence[int | None] | None = None
) -> Iterator[Problem]:
    """Walks nested lists in order and yields every problem. Lists without a problem are skipped at C speed.

    Args:
        value: The lists.
        axes: The axes, from the outermost.
        sizes: The expected size of each axis; by default the contract's, or else the size of the first list.
    """
    if not axes:
        if problem := number_problem(value):
            yield (), problem
        return
    sizes = _expected_sizes(value, axes) if sizes is None else sizes
    axis, size = axes[0], sizes[0]
    if not isinstance(value, list):
        yield (), f"expected a list of {axis.expects(size)}, got {kind_of(value)}"
        return
    if not value or (size is not None and len(value) != size):
        yield (), f"expected {axis.expects(size)}, got {len(value)}"
        return
    for index, entry in enumerate(value):
        if len(axes) == 1 or to_array(entry, sizes[1:]) is None:
            for place, text in problems_in_lists(entry, axes[1:], sizes[1:]):
                yield (index, *place), text


def _expected_sizes(value: object, axes: Sequence[Axis]) -> list[int | None]:
    """Returns the expected size of each axis; None where any size from 1 will do."""
    sizes = [axes[0].size]
    for axis in axes[1:]:
        value = value[0] if isinstance(value, list) and value else None
        sizes.append(axis.size or (len(value) if isinstance(value, list) and value else None))
    return sizes


def read_records(value: object, rows: Axis, columns: Axis) -> Array | None:
    """Turns a list of objects by column name into an array (rows, columns); None if something is wrong with the list.

    Args:
        value: The list.
        rows: The axis of the objects.
        columns: The axis of the names.
    """
    if any(_problems_in_objects(value, rows, columns)):
        return None
    return to_array(_as_lists(value, columns), [rows.size, columns.size])


def problems_in_records(value: object, rows: Axis, columns: Axis) -> Iterator[Problem]:
    """Yields every problem of the same list: those of its objects, or else those of their numbers."""
    in_objects = list(islice(_problems_in_objects(value, rows, columns), MAX_LOCATED_ERRORS))
    if in_objects:
        yield from in_objects
        return
    for (row, *column), text in problems_in_lists(_as_lists(value, columns), (rows, columns)):
        yield (row, *(columns.entries[int(index)] for index in column)), text


def _problems_in_objects(value: object, rows: Axis, columns: Axis) -> Iterator[Problem]:
    names = columns.entries
    if not isinstance(value, list):
        yield (), f"expected a list of objects, got {kind_of(value)}"
        return
    if len(value) != rows.size:
        yield (), f"expected {rows.expects(rows.size)}, got {len(value)}"
        return
    for index, record in enumerate(value):
        if not isinstance(record, dict):
            yield (index,), f"expected an object with {listed(names)}, got {kind_of(record)}"
        elif missing := [name for name in names if name not in record]:
            yield (index,), f"expected {listed(names)}; {listed(missing)} missing"
        elif len(record) > len(names):
            yield (index,), f"expected {listed(names)} only; unknown names: {len(record) - len(names)}"


def _as_lists(records: Any, columns: Axis) -> list[list[object]]:
    return [[record[name] for name in columns.entries] for record in records]
