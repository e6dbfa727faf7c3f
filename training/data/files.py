"""Reads a table of numbers from a CSV or Parquet file, and says in one sentence what is wrong with it."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from training.data.frequency import Times
from training.data.table import Table, check_columns
from training.errors import DataError

_LARGEST = float(np.finfo(np.float32).max)
_MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
_ZONED = "%#z"
_TIME_FORMATS = (
    "%Y-%m",
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d %H:%M:%S%.f" + _ZONED,
    "%Y-%m-%d %H:%M" + _ZONED,
)
_TIME_EXAMPLES = "2024-01-31, 2024-01-31 13:00:00, 2024-01 or a whole number"


def read_table(path: Path, columns: Sequence[str], time: str | None = None) -> Table:
    """Reads columns of numbers, and a column of times, from a CSV or Parquet file.

    The content tells the format, not the name of the file. CSV is UTF-8 with a header line and commas. Empty cells and
    NaN, NA, N/A, NULL, None are missing values.

    Args:
        path: The file.
        columns: Names of the columns of numbers, in the order wanted.
        time: Name of the column of times, if there is one.

    Returns:
        The rows in the order of the file. Every value is missing or a number that float32 can hold.

    Raises:
        DataError: The file cannot be read, a column is absent, or a cell is not what its column should hold.
    """
    names = list(dict.fromkeys([*columns, *([time] if time else [])]))
    is_parquet = _is_parquet(path)
    frame = _read_parquet(path, names) if is_parquet else _read_csv(path, names)
    if frame.is_empty():
        raise DataError(f"{path.name}: there are no rows; expected a row for each time below the names of the columns")
    first, place_word = (1, "row") if is_parquet else (2 + _blank_lines_above(path), "line")
    # A cell with a line break in it shifts the lines below. A table of numbers has no such cells.
    places = np.arange(first, first + frame.height)
    table = Table((), np.empty((frame.height, 0)), None, path.name, places, place_word)
    values = np.column_stack([_numbers(frame[name], table) for name in columns])
    return replace(table, columns=tuple(columns), values=values, times=_times(frame[time], table) if time else None)


def _blank_lines_above(path: Path) -> int:
    """Counts the lines of a CSV file above its header."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return sum(1 for _ in takewhile(lambda line: not line.strip(), file))


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{path} cannot be read ({reason}); --data takes a CSV or Parquet file") from None
    if not head.strip():
        raise DataError(f"{path.name} is empty; --data takes a CSV file with a header line, or a Parquet file")
    if head.startswith(b"PAR1"):
        return True
    if b"\0" in head:
        raise DataError(f"{path.name} is neither CSV in UTF-8 nor Parquet; save it as one of them")
    return False


def _read_parquet(path: Path, names: list[str]) -> pl.DataFrame:
    try:
        check_columns(path.name, list(pl.read_parquet_schema(path)), names)
        return pl.read_parquet(path, columns=names, glob=False).select(names)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path.name} cannot be read as Parquet ({_first_line(error)}); write it again") from None


def _read_csv(path: Path, names: list[str]) -> pl.DataFrame:
    """Reads every cell as text, so that the line of a wrong cell can be told."""
    _check_separator(path)
    try:
        # All columns are read: if only some were, a line with too many cells would pass with its values shifted.
        frame = pl.read_csv(path, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path.name} cannot be read as CSV: {_csv_trouble(path) or _first_line(error)}") from None
    check_columns(path.name, frame.columns, names)
    for name in names:
        if f"{name}_duplicated_0" in frame.columns:
            raise DataError(f"{path.name}: two columns are called '{name}'; give each its own name")
    return _without_blank_end(frame).select(names)


def _csv_trouble(path: Path) -> str | None:
    """Reads a file that polars refused once more, slowly, and says which line is wrong. Returns None if no line is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            width = len(next(filter(None, lines), []))  # blank lines may stand above the header
            for cells in lines:
                if len(cells) > width:
                    return (
                        f"line {lines.line_num} has {len(cells)} cells, the header has {width}; "
                        "write numbers without thousands separators, and quote text that holds a comma"
                    )
    except UnicodeDecodeError:
        return "it is not UTF-8; save it with that encoding"
    except csv.Error:
        return f"the quotes on line {lines.line_num} do not match; close them, or double those inside a cell"
    return None


def _check_separator(path: Path) -> None:
    with path.open(encoding="utf-8", errors="replace") as file:
        header = next(filter(str.strip, file), "")
    other = next((mark for mark in ";\t|" if mark in header), None)
    if other and "," not in header:
        raise DataError(
            f"{path.name} separates its columns by {other!r}; expected commas, and a point in decimal numbers"
        )


def _without_blank_end(frame: pl.DataFrame) -> pl.DataFrame:
    """Drops the blank lines below the last row, which are no rows with missing values."""
    written = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series().arg_true()
    return frame.head(written[-1] + 1 if len(written) else 0)


def _numbers(column: pl.Series, table: Table) -> NDArray[np.float64]:
    """Returns (rows,): the numbers of a column, NaN where a number is missing."""
    if column.dtype == pl.String:
        numbers = _parse_numbers(column, table)
    elif column.dtype.is_numeric() or column.dtype == pl.Null:
        numbers = column.cast(pl.Float64)
    else:
        # Booleans are refused too: the service takes numbers only, so a model must not be trained on anything else.
        raise DataError(
            f"{table.source}: column '{column.name}' holds {column.dtype} values; expected numbers "
            "(write true and false as 1 and 0), so convert it or leave it out of --features and --target"
        )
    values = numbers.fill_null(float("nan")).to_numpy().astype(np.float64, copy=False)
    _check_range(values, column.name, table)
    return values


def _parse_numbers(column: pl.Series, table: Table) -> pl.Series:
    text = _trimmed(column)
    numbers = text.cast(pl.Float64, strict=False)
    bad = (numbers.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"{table.source}: column '{column.name}' holds {_shown(text[row])} on {table.where(row)}; expected a "
            "number such as 1234.5, or an empty cell for a missing value; text can be neither feature nor target"
        )
    return numbers


def _check_range(values: NDArray[np.float64], name: str, table: Table) -> None:
    beyond = np.abs(values) > _LARGEST  # False for NaN
    if not beyond.any():
        return
    row = int(np.argmax(beyond))
    if np.isinf(values[row]):
        trouble = "an infinite value"
        remedy = "leave the cell empty and choose a --missing"
    else:
        trouble = f"{values[row]:.4g}, more than float32 can hold ({_LARGEST:.3g})"
        remedy = "write the column in a larger unit"
    raise DataError(f"{table.source}: column '{name}' holds {trouble} on {table.where(row)}; {remedy}")


def _times(column: pl.Series, table: Table) -> Times:
    """Returns (rows,): datetime64[us], in UTC where the column has a zone, or int64."""
    if column.dtype in (pl.Date, pl.Datetime):
        times = _naive(column)
    elif column.dtype == pl.String or column.dtype.is_numeric():
        times = _parse_times(column, table)
    else:
        raise DataError(
            f"{table.source}: time column '{column.name}' holds {column.dtype} values; expected times such as "
            f"{_TIME_EXAMPLES}"
        )
    if times.null_count():
        row = int(times.is_null().arg_max() or 0)
        raise DataError(
            f"{table.source}: column '{column.name}' has no time on {table.where(row)}; every row needs a time, so "
            "fill it in or delete the row"
        )
    return times.to_numpy()


def _naive(times: pl.Series) -> pl.Series:
    if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
        times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return times.cast(pl.Datetime("us"))


def _parse_times(column: pl.Series, table: Table) -> pl.Series:
    text = _trimmed(column.cast(pl.String))
    first = text.drop_nulls().head(1)
    if first.is_empty():
        raise DataError(
            f"{table.source}: time column '{column.name}' is empty; expected times such as {_TIME_EXAMPLES}"
        )
    candidates = (form for form in (None, *_TIME_FORMATS) if _parsed_as(form, first).null_count() == 0)
    times = _parsed_as(next(candidates, None), text)
    bad = (times.is_null() & text.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        like = _TIME_EXAMPLES if text[row] == first[0] else f"{_shown(first[0])} in the rows above"
        raise DataError(
            f"{table.source}: time column '{column.name}' holds {_shown(text[row])} on {table.where(row)}; expected a "
            f"time such as {like}"
        )
    return times


def _parsed_as(form: str | None, text: pl.Series) -> pl.Series:
    """Reads times in a format, or whole numbers if it is None. Gives null where the text is neither."""
    if form is None:
        return text.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    blank_for_t = text.str.replace(r"^(\d{4}-\d{2}-\d{2})T", "$1 ")
    dtype = pl.Datetime("us", "UTC" if form.endswith(_ZONED) else None)
    return _naive(blank_for_t.str.strptime(dtype, form, strict=False))


def _trimmed(column: pl.Series) -> pl.Series:
    """Returns the text of a column without blanks around it; null where the text means a missing value."""
    text = column.str.strip_chars()
    return text.set(text.is_in(_MISSING_WORDS), None)


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 20 else cell[:19] + "…")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
