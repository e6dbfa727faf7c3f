"""Tables are read from CSV and Parquet files, and what is wrong with a file is located."""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from training.data.files import read_table
from training.errors import DataError

Write = Callable[[str | bytes], Path]


def parquet(folder: Path, **columns: Any) -> Path:
    path = folder / "table.parquet"
    pl.DataFrame(columns).write_parquet(path)
    return path


def refusal(path: Path, columns: Sequence[str] = ("a",), time: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_table(path, columns, time)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_csv_columns_come_in_the_order_asked_for(csv: Write) -> None:
    table = read_table(csv("a,b,c\n1,2,3\n4,5,6\n"), ["c", "a"])

    assert (table.columns, table.source, table.times) == (("c", "a"), "table.csv", None)
    np.testing.assert_array_equal(table.values, [[3, 1], [6, 4]])
    assert table.where(1) == "line 3"


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    path = parquet(tmp_path, a=[1, 2], b=[1.5, None], t=[date(2024, 1, 1), date(2024, 1, 2)])

    table = read_table(path, ["b", "a"], "t")

    np.testing.assert_array_equal(table.values, [[1.5, 1], [np.nan, 2]])
    assert table.where(1) == "row 2 (2024-01-02)"


def test_the_content_tells_the_format(tmp_path: Path) -> None:
    path = parquet(tmp_path, a=[1, 2]).rename(tmp_path / "table.csv")

    assert read_table(path, ["a"]).rows == 2


def test_whole_numbers_may_turn_into_decimal_ones_far_down(csv: Write) -> None:
    table = read_table(csv("a\n" + "1\n" * 5000 + "2.5\n"), ["a"])

    assert (table.values[0, 0], table.values[-1, 0]) == (1, 2.5)


@pytest.mark.parametrize("cell", ["", " ", '""', "NA", "NaN", "nan", "null", "None", "N/A"])
def test_missing_values_may_be_written_in_many_ways(csv: Write, cell: str) -> None:
    table = read_table(csv(f"a,b\n1,1\n{cell},2\n"), ["a"])

    assert np.isnan(table.values[1, 0])


def test_nan_in_parquet_is_missing_too(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path, a=[1.0, float("nan"), None]), ["a"])

    np.testing.assert_array_equal(np.isnan(table.values[:, 0]), [False, True, True])


def test_spaces_a_byte_order_mark_and_windows_line_ends_are_read_over(csv: Write) -> None:
    table = read_table(csv(b"\xef\xbb\xbfa,b\r\n 1 , 2\r\n"), ["a", "b"])

    np.testing.assert_array_equal(table.values, [[1, 2]])


@pytest.mark.parametrize("end", ["\n", "\n\n", "\n,\n,\n"])
def test_blank_lines_at_the_end_are_no_rows(csv: Write, end: str) -> None:
    assert read_table(csv("a,b\n1,2\n3,4" + end), ["a", "b"]).rows == 2


def test_a_file_name_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "table[1].csv"
    path.write_text("a\n1\n")

    assert read_table(path, ["a"]).source == "table[1].csv"


# Troubles with the file


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "none.csv cannot be read (no such file or directory)" in refusal(tmp_path / "none.csv")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read (is a directory)" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ["table.csv is empty"]),
        (b"\n\n", ["table.csv is empty"]),
        (b"a,b\n", ["there are no rows"]),
        (b"\x00\x01\x02\x03", ["neither CSV in UTF-8 nor Parquet"]),
        ("a,b\n1,2\n".encode("utf-16"), ["neither CSV in UTF-8 nor Parquet"]),
        ("a,b\n1,é\n".encode("latin-1"), ["not UTF-8"]),
        (b"a,b\n1,2\n1,234,5\n", ["line 3 has 3 cells", "header has 2", "thousands separators"]),
        (b'a,b\n1,2\n3,"4\n', ["quotes"]),
        (b"a;b\n1;2\n", ["separates its columns by ';'", "expected commas"]),
        (b"a;b\n1,5;2\n", ["separates its columns by ';'"]),
        (b"a\tb\n1\t2\n", ["separates its columns by '\\t'"]),
        (b"a,a\n1,2\n", ["two columns are called 'a'"]),
        (b"PAR1 and no more", ["cannot be read as Parquet"]),
    ],
)
def test_an_unreadable_file_is_told(csv: Write, content: bytes, facts: list[str]) -> None:
    message = refusal(csv(content))

    for fact in facts:
        assert fact in message


def test_an_absent_column_is_told_with_the_nearest(csv: Write) -> None:
    message = refusal(csv("open,close\n1,2\n"), ["Close"])

    assert "no column 'Close' (did you mean 'close'?); the columns are open, close" in message


def test_an_absent_time_column_is_told(csv: Write) -> None:
    assert "no column 'date'" in refusal(csv("a,b\n1,2\n"), ["a"], "date")


# Troubles with numbers


def test_text_in_a_number_column_is_located(csv: Write) -> None:
    message = refusal(csv("b,a\n" + "x,1\n" * 500 + "x,about two or three, perhaps\n".replace(", ", " ")))

    assert "column 'a'" in message
    assert "'about two or three …' on line 502" in message
    assert "perhaps" not in message


@pytest.mark.parametrize("cell", ["true", "1_000", "0x10", '"1,5"', "2024-01-01", "?"])
def test_what_is_no_number_is_refused(csv: Write, cell: str) -> None:
    assert "on line 3; expected a number" in refusal(csv(f"a,b\n1,1\n{cell},1\n"))


@pytest.mark.parametrize(
    ("value", "facts"),
    [
        ("inf", ["infinite", "line 3"]),
        ("-Infinity", ["infinite"]),
        ("1e400", ["infinite"]),
        ("1e39", ["1e+39", "line 3", "float32 can hold (3.4e+38)"]),
        ("-4e38", ["-4e+38"]),
    ],
)
def test_numbers_beyond_float32_are_located(csv: Write, value: str, facts: list[str]) -> None:
    message = refusal(csv(f"a\n1\n{value}\n2\n"))

    for fact in ["column 'a'", *facts]:
        assert fact in message


@pytest.mark.parametrize("values", [[True, False], [date(2024, 1, 1)], [[1.0]]])
def test_parquet_columns_of_other_kinds_are_refused(tmp_path: Path, values: list[object]) -> None:
    message = refusal(parquet(tmp_path, a=values))

    assert "column 'a' holds" in message
    assert "expected numbers" in message


# Times


@pytest.mark.parametrize(
    ("cells", "times"),
    [
        (["2024-01-31", "2024-02-01"], ["2024-01-31", "2024-02-01"]),
        (["2024-01", "2024-02"], ["2024-01-01", "2024-02-01"]),
        (["2024-01-31T13:00:00", "2024-01-31 14:00:00.5"], ["2024-01-31T13:00:00", "2024-01-31T14:00:00.5"]),
        (["2024-01-31 13:00", "2024-01-31 13:30"], ["2024-01-31T13:00", "2024-01-31T13:30"]),
        (["2024-01-31T13:00:00Z", "2024-01-31T15:00:00+01:00"], ["2024-01-31T13:00", "2024-01-31T14:00"]),
    ],
)
def test_times_may_be_dates_months_or_date_times(csv: Write, cells: list[str], times: list[str]) -> None:
    table = read_table(csv("t,a\n" + "".join(f"{cell},1\n" for cell in cells)), ["a"], "t")

    assert table.times is not None
    np.testing.assert_array_equal(table.times, np.array(times, dtype="datetime64[us]"))


@pytest.mark.parametrize("cells", ["1\n2", "1.0\n2.0"])
def test_times_may_be_whole_numbers(csv: Write, cells: str) -> None:
    table = read_table(csv(f"t\n{cells}\n"), ["t"], "t")

    assert table.times is not None
    np.testing.assert_array_equal(table.times, [1, 2])
    assert table.times.dtype == np.int64


@pytest.mark.parametrize(
    "column",
    [
        [date(2024, 1, 31), date(2024, 2, 1)],
        [datetime(2024, 1, 31), datetime(2024, 2, 1)],  # noqa: DTZ001
        [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)],
        ["2024-01-31", "2024-02-01"],
    ],
)
def test_parquet_times_lose_their_zone(tmp_path: Path, column: list[object]) -> None:
    table = read_table(parquet(tmp_path, a=[1, 2], t=column), ["a"], "t")

    assert table.times is not None
    np.testing.assert_array_equal(table.times, np.array(["2024-01-31", "2024-02-01"], dtype="datetime64[us]"))


@pytest.mark.parametrize(
    ("cells", "facts"),
    [
        (["31/01/2024"], ["'31/01/2024' on line 2", "2024-01-31 13:00:00", "2024-01"]),
        (["2024-01-31", "2024-02-30"], ["'2024-02-30' on line 3", "such as '2024-01-31'"]),
        (["1", "1.5"], ["'1.5' on line 3", "such as '1'"]),
        (["2024-01-31", ""], ["no time on line 3"]),
        (["", ""], ["time column 't' is empty"]),
    ],
)
def test_times_that_are_none_are_located(csv: Write, cells: list[str], facts: list[str]) -> None:
    message = refusal(csv("t,a\n" + "".join(f"{cell},1\n" for cell in cells)), ["a"], "t")

    for fact in ["'t'", *facts]:
        assert fact in message


def test_a_time_of_day_is_no_time(tmp_path: Path) -> None:
    path = parquet(tmp_path, a=[1], t=[datetime(2024, 1, 31, 13, tzinfo=UTC).time()])

    assert "time column 't' holds Time values" in refusal(path, ["a"], "t")


def test_blank_lines_above_the_header_are_counted(csv: Write) -> None:
    assert "on line 5;" in refusal(csv("\n\na\n1\nx\n"))
