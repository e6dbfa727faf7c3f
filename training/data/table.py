"""A table of numbers, and its cleaning: order, missing values, columns that never change.

`files` and `series` make tables, `windows` splits and cuts them, all in this folder.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.version.manifest import Finding, Frequency
from training.config import Missing
from training.data.frequency import Times, counted, distances, guess, iso
from training.data.windows import PARTS, Edges
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers by row and column, and what is known about them.

    Attributes:
        columns: Names of the columns.
        values: (rows, columns) float64; NaN where a value is missing.
        times: (rows,) datetime64 or int64; None where rows carry no time.
        source: File name without its folder, or the name of a built-in series.
        places: (rows,) place of each row in its source: its line in a CSV file, otherwise its number from 1.
        place_word: What `places` counts: `line` or `row`.
        frequency: Distance between two rows; None where it is unknown.
        units: Units of measure by column, where they are known.
        findings: What was found and done, for the user to know.
    """

    columns: tuple[str, ...]
    values: NDArray[np.float64]
    times: Times | None
    source: str
    places: NDArray[np.int64]
    place_word: str = "row"
    frequency: Frequency | None = None
    units: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.values)

    def where(self, row: int) -> str:
        """Tells the place of a row in the source, for example `line 7 (2024-01-31)`."""
        place = f"{self.place_word} {self.places[row]}"
        return place if self.times is None else f"{place} ({iso(self.times[row])})"

    def select(self, columns: Sequence[str]) -> "Table":
        """Returns the same rows with these columns only.

        Raises:
            DataError: A column is absent.
        """
        check_columns(self.source, self.columns, columns)
        positions = [self.columns.index(name) for name in columns]
        return replace(self, columns=tuple(columns), values=self.values[:, positions])

    def take(self, rows: NDArray[np.intp]) -> "Table":
        """Returns the rows at these positions, in this order."""
        times = None if self.times is None else self.times[rows]
        return replace(self, values=self.values[rows], places=self.places[rows], times=times)

    def with_findings(self, *findings: Finding) -> "Table":
        """Returns the same table with more findings."""
        return replace(self, findings=self.findings + findings)


def settle(table: Table, missing: Missing) -> Table:
    """Puts the rows in time order and finds their frequency.

    With `error` a missing value stops it, with `drop` rows with missing values are left out, otherwise they stay.

    Raises:
        DataError: A column is empty, a value is missing with `error`, no row is left, or a time occurs twice.
    """
    table = _in_order(_without_missing(table, missing))
    _check_duplicates(table)
    return _with_frequency(table)


def fill(table: Table, missing: Missing, edges: Edges) -> Table:
    """Fills missing values so that no part of the split learns from a later part.

    `forward` takes the last value before the gap. `interpolate` draws a line between two known values of the same part,
    and does as `forward` does where a part starts or ends with a gap.

    Args:
        table: Rows in time order.
        missing: `forward` or `interpolate`; the other choices leave nothing to fill.
        edges: Where the parts start and end.

    Raises:
        DataError: A column starts with a missing value.
    """
    gaps = np.isnan(table.values)
    if not gaps.any():
        return table
    values = table.values.copy()
    if missing == "interpolate":
        for start, end in pairwise(edges):
            _draw_lines(values[start:end])
    _carry_forward(values)
    if np.isnan(values[0]).any():
        name = table.columns[int(np.argmax(np.isnan(values[0])))]
        raise DataError(
            f"{table.source}: column '{name}' has no value on {table.where(0)}, the first row in order, so there is "
            "no value to carry forward; begin later, or pass --missing drop"
        )
    filled = Finding(kind="filled_values", sentence=_filled_sentence(gaps, missing, edges))
    return replace(table, values=values).with_findings(filled)


def check_targets_change(table: Table, targets: Sequence[str], training_rows: int) -> None:
    """Checks that every target changes in the training part.

    A constant target leaves nothing to learn, and its scale of zero cannot be divided by.

    Raises:
        DataError: A target is constant in the training part, in float32.
    """
    for name in _constant_columns(table, training_rows):
        if name in targets:
            value = table.values[0, table.columns.index(name)]
            raise DataError(
                f"{table.source}: target '{name}' is {value:g} in all {training_rows} training rows, so there is "
                "nothing to learn; choose another --target, or a --split whose training part sees it change"
            )


def note_constant_features(table: Table, training_rows: int) -> Table:
    """Notes the columns that never change in the training part.

    A constant feature may stay: a rare event that the training part happens to miss is common.
    """
    return table.with_findings(*map(constant_feature, _constant_columns(table, training_rows)))


def _constant_columns(table: Table, training_rows: int) -> list[str]:
    training = table.values[:training_rows].astype(np.float32)
    return [name for name, column in zip(table.columns, training.T, strict=True) if (column == column[0]).all()]


def constant_feature(name: str) -> Finding:
    """Returns the finding on a constant feature."""
    sentence = f"feature '{name}' never changes in the training part, so it carries nothing"
    return Finding(kind="constant_column", sentence=sentence, column=name)


def check_columns(source: str, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Checks that names are among the columns.

    Raises:
        DataError: Names the first absent column, the nearest name, and all columns.
    """
    for name in wanted:
        if name in present:
            continue
        by_lower_case = {column.lower(): column for column in reversed(present)}
        nearest = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
        hint = f" (did you mean '{by_lower_case[nearest[0]]}'?)" if nearest else ""
        raise DataError(f"{source}: there is no column '{name}'{hint}; the columns are {_listed(present)}")


def _without_missing(table: Table, missing: Missing) -> Table:
    gaps = np.isnan(table.values)
    if not gaps.any():
        return table
    for name, column in zip(table.columns, gaps.T, strict=True):
        if column.all():
            raise DataError(f"{table.source}: column '{name}' holds no value at all; leave it out")
    if missing == "error":
        raise DataError(
            f"{table.source}: {_missing_sentence(table, gaps)}; a model needs every cell, so choose "
            "--missing forward (take the last value), interpolate (draw a line) or drop (leave the rows out)"
        )
    if missing == "drop":
        return _drop(table, gaps)
    return table


def _drop(table: Table, gaps: NDArray[np.bool_]) -> Table:
    dropped = np.asarray(gaps.any(axis=1))
    if dropped.all():
        raise DataError(
            f"{table.source}: every row has a missing value, so --missing drop leaves no row; choose other columns, or "
            "--missing forward"
        )
    count = counted(int(dropped.sum()), "row")
    sentence = (
        f"{count} of {table.rows} with a missing value left out, the first on {table.where(int(np.argmax(dropped)))}"
    )
    return table.take(np.flatnonzero(~dropped)).with_findings(Finding(kind="dropped_rows", sentence=sentence))


def _in_order(table: Table) -> Table:
    if table.times is None:
        return table
    late = distances(table.times) < 0
    if late.any():
        first = table.where(int(np.argmax(late)) + 1)
        table = table.take(np.argsort(table.times, kind="stable"))
        sentence = f"rows were not in time order and have been sorted; the first out of place is {first}"
        table = table.with_findings(Finding(kind="sorted_rows", sentence=sentence))
    return table


def _check_duplicates(table: Table) -> None:
    if table.times is None:
        return
    repeated = distances(table.times) == 0
    if repeated.any():
        row = int(np.argmax(repeated))
        raise DataError(
            f"{table.source}: times occur more than once ({int(repeated.sum())} of {table.rows} rows too many), first "
            f"{iso(table.times[row])} on {table.place_word}s {table.places[row]} and {table.places[row + 1]}; expected "
            "one row per time, so keep one series per file, or give each series its own column"
        )


def _with_frequency(table: Table) -> Table:
    if table.times is None:
        return table
    guessed = guess(table.times)
    findings = (guessed.finding,) if guessed.finding else ()
    return replace(table, frequency=guessed.frequency).with_findings(*findings)


def _draw_lines(values: NDArray[np.float64]) -> None:
    """Fills NaN between two known values of a column along a line, in place."""
    rows = np.arange(len(values))
    for column in values.T:
        known = np.flatnonzero(~np.isnan(column))
        if len(known):
            inner = slice(known[0], known[-1] + 1)
            column[inner] = np.interp(rows[inner], known, column[known])


def _carry_forward(values: NDArray[np.float64]) -> None:
    """Fills NaN with the last known value above it, in place."""
    rows = np.arange(len(values))[:, np.newaxis]
    last_known = np.maximum.accumulate(np.where(np.isnan(values), 0, rows), axis=0)
    values[:] = np.take_along_axis(values, last_known, axis=0)


def _filled_sentence(gaps: NDArray[np.bool_], missing: Missing, edges: Edges) -> str:
    counts = [int(gaps[start:end].sum()) for start, end in pairwise(edges)]
    parts = ", ".join(f"{count} in {part}" for part, count in zip(PARTS, counts, strict=True) if count)
    sentence = f"{counted(sum(counts), 'missing value')} filled by --missing {missing}: {parts}"
    judged = int(gaps[edges[1] :].any(axis=1).sum())
    if judged:
        sentence += (
            f"; {counted(judged, 'row')} of validation and test hold filled values that are judged as if they were "
            "measured, so the errors printed are too low by an unknown amount"
        )
    return sentence


def _missing_sentence(table: Table, gaps: NDArray[np.bool_]) -> str:
    columns = [(name, gap) for name, gap in zip(table.columns, gaps.T, strict=True) if gap.any()]
    told = [
        f"{counted(int(gap.sum()), 'missing value')} in column '{name}' from {table.where(int(gap.argmax()))} on"
        for name, gap in columns[:5]
    ]
    more = f" and more in {counted(len(columns) - 5, 'other column')}" if len(columns) > 5 else ""
    return ", ".join(told) + more


def _listed(names: Sequence[str]) -> str:
    """Lists the first 20 names, cut to one line of 40 characters each: a stray quote makes long names of many lines."""
    on_one_line = (" ".join(name.split()) for name in names[:20])
    shown = ", ".join(name if len(name) <= 40 else f"{name[:39]}…" for name in on_one_line)
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"
