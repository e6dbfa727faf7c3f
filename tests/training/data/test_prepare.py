import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from training.config import Missing, TrainingConfig
from training.data.prepare import prepare, read_table
from training.data.provenance import Provenance
from training.errors import ConfigError, DataError

Write = Callable[[str | bytes], Path]


@pytest.fixture
def csv(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


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


def days_csv(values: Sequence[object], start: str = "2024-01-01") -> str:
    dates = np.datetime64(start) + np.arange(len(values))
    return "t,a\n" + "".join(f"{day},{value}\n" for day, value in zip(dates, values, strict=True))


# Reading


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


# From a configuration to a dataset


def test_a_file_becomes_a_dataset(csv: Write) -> None:
    values = np.arange(40) * 0.5
    config = TrainingConfig(
        data=csv(days_csv(values.tolist())),
        target="a",
        time="t",
        window=3,
        horizon=2,
        split=(20, 30),
        measured_in="a=°C",
    )

    dataset = prepare(config)

    assert (dataset.feature_names, dataset.target_names) == (("a",), ("a",))
    assert (dataset.frequency, dataset.units) == ("1 day", {"a": "°C"})
    assert dataset.provenance == Provenance(
        source="table.csv",
        sha256=hashlib.sha256(values.astype("<f8").tobytes()).hexdigest(),
        rows=40,
        columns=("a",),
        first_time="2024-01-01",
        last_time="2024-02-09",
        training_rows=20,
        validation_rows=10,
        test_rows=10,
    )
    assert [len(part.windows) for part in (dataset.train, dataset.validation, dataset.test)] == [16, 9, 9]
    for part in (dataset.train, dataset.validation, dataset.test):
        assert {part.windows.dtype, part.targets.dtype, part.history.dtype} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(dataset.test.windows[0, :, 0], values[27:30])
    np.testing.assert_array_equal(dataset.test.targets[-1, :, 0], values[38:])


def test_the_target_need_not_be_a_feature(csv: Write) -> None:
    lines = "".join(f"{row},{row * 10}\n" for row in range(30))

    dataset = prepare(TrainingConfig(data=csv("a,b\n" + lines), target="b", features="a", window=3))

    assert (dataset.feature_names, dataset.target_names) == (("a",), ("b",))
    assert dataset.provenance.columns == ("a", "b")
    np.testing.assert_array_equal(dataset.train.windows[0, :, 0], [0, 1, 2])
    np.testing.assert_array_equal(dataset.train.history[0, :, 0], [0, 10, 20])
    np.testing.assert_array_equal(dataset.train.targets[0, :, 0], [30])


@pytest.mark.parametrize("missing", ["forward", "interpolate"])
@pytest.mark.parametrize("later", [["", "", "7"], ["5", "", ""], ["1e6", "-1e6", "0"]])
def test_later_rows_never_change_a_training_window(csv: Write, missing: Missing, later: list[str]) -> None:
    training = [str(value) for value in range(20)]
    training[4], training[18:] = "", ["", ""]

    def windows(rest: list[str]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        data = csv(days_csv(training + rest * 4))
        config = TrainingConfig(data=data, target="a", time="t", window=3, split=(20, 26), missing=missing)
        train = prepare(config).train
        return train.windows.copy(), train.targets.copy()

    for before, after in zip(windows(["20", "21", "22"]), windows(later), strict=True):
        np.testing.assert_array_equal(before, after)


def test_shuffled_rows_give_the_same_numbers_and_a_notice(csv: Write) -> None:
    header, *lines = days_csv(range(40)).splitlines(keepends=True)
    shuffled = [lines[row] for row in np.random.default_rng(0).permutation(40)]

    def dataset_of(rows: list[str]) -> Any:
        return prepare(TrainingConfig(data=csv(header + "".join(rows)), target="a", time="t", window=3))

    in_order, sorted_back = dataset_of(lines), dataset_of(shuffled)

    assert sorted_back.provenance.sha256 == in_order.provenance.sha256
    assert "have been sorted" in sorted_back.provenance.notices[0]


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"features": "a,b,a"}, "--features names 'a' twice"),
        ({"target": "a,a"}, "--target names 'a' twice"),
        ({"measured_in": "c=m"}, "unit for 'c'"),
        ({"split": "50"}, "--split 50 is neither"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(csv: Write, changes: dict[str, Any], facts: str) -> None:
    data = csv("a,b\n" + "".join(f"{row},{row}\n" for row in range(60)))

    with pytest.raises(ConfigError, match=facts):
        prepare(TrainingConfig.model_validate({"data": data, "target": "a", "window": 3, **changes}))


def test_too_few_rows_are_refused(csv: Write) -> None:
    with pytest.raises(
        DataError, match="31 to train, 1 to validate, 1 to test are needed, but there are 14 in training"
    ):
        prepare(TrainingConfig(data=csv(days_csv(range(20))), target="a", time="t"))


def test_a_constant_target_is_refused(csv: Write) -> None:
    with pytest.raises(DataError, match="target 'a' is 7 in all 28 training rows"):
        prepare(TrainingConfig(data=csv(days_csv([7] * 40)), target="a", time="t", window=3))


# Built-in series


def test_a_built_in_series_needs_no_target() -> None:
    dataset = prepare(TrainingConfig(series="lesson", window=20, split=(1000, 1200)))

    data = dataset.provenance
    assert (data.source, data.columns, dataset.frequency) == ("lesson", ("lesson",), "1 step")
    assert (data.first_time, data.last_time) == ("0", "1460")
    assert (dataset.train.windows.shape, dataset.test.windows.shape) == ((980, 20, 1), (261, 20, 1))


def test_a_built_in_series_may_be_named_and_measured() -> None:
    dataset = prepare(TrainingConfig(series="co2", target="co2", features="co2", missing="interpolate"))

    assert (dataset.units, dataset.frequency) == ({"co2": "ppm"}, "1 week")
    assert dataset.provenance.notices == ("59 missing values filled by --missing interpolate: 59 in training",)


def test_a_column_that_a_built_in_series_lacks_is_told() -> None:
    with pytest.raises(DataError, match=r"co2: there is no column 'CO2' \(did you mean 'co2'\?\)"):
        prepare(TrainingConfig(series="co2", target="CO2", missing="forward"))


def test_a_built_in_series_brings_its_own_times() -> None:
    with pytest.raises(ConfigError, match="--time is for --data"):
        prepare(TrainingConfig(series="lesson", time="t"))


@pytest.mark.parametrize("window", [30, 100])
def test_multiplication_samples_are_split_in_order(window: int) -> None:
    dataset = prepare(TrainingConfig(series="multiplication", window=window, split=(2048, 2560)))

    assert (dataset.feature_names, dataset.target_names) == (("marker", "value"), ("product",))
    data = dataset.provenance
    assert (data.rows, data.training_rows, data.validation_rows, data.test_rows) == (3000, 2048, 512, 440)
    assert dataset.test.windows.shape == (440, 100, 2)
    assert dataset.test.targets.shape == (440, 1, 1)


def test_multiplication_history_is_the_answers_before() -> None:
    dataset = prepare(TrainingConfig(series="multiplication"))

    answers = np.concatenate([part.targets[:, 0, 0] for part in (dataset.train, dataset.validation, dataset.test)])
    history = np.concatenate([part.history[:, :, 0] for part in (dataset.train, dataset.validation, dataset.test)])
    np.testing.assert_array_equal(history[500], answers[400:500])
    np.testing.assert_array_equal(history[0], np.repeat(answers[0], 100))


def test_multiplication_features_may_be_chosen() -> None:
    dataset = prepare(TrainingConfig(series="multiplication", features="value", target="product"))

    assert dataset.train.windows.shape == (2100, 100, 1)
    assert dataset.provenance.columns == ("value", "product")


@pytest.mark.parametrize(
    "changes", [{"window": 50}, {"horizon": 2}, {"stride": 2}, {"period": 7}, {"output": "sequence"}, {"time": "t"}]
)
def test_settings_that_samples_cannot_follow_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not go with --series multiplication"):
        prepare(TrainingConfig(series="multiplication", **changes))


@pytest.mark.parametrize("changes", [{"features": "marker,product"}, {"target": "value"}])
def test_columns_that_samples_lack_are_told(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="multiplication: there is no column"):
        prepare(TrainingConfig(series="multiplication", **changes))


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        (range(46), {"split": (31, 40)}),  # one training window
        (range(200), {"stride": 5000}),
        ([*range(30), *[7] * 170], {}),  # changes only in the first window
    ],
)
def test_a_target_that_is_the_same_after_every_training_window_is_refused(
    csv: Write, values: Sequence[int], choices: dict[str, Any]
) -> None:
    with pytest.raises(DataError, match=r"target 'a' is \d+ wherever .* nothing to learn"):
        prepare(TrainingConfig(data=csv(days_csv(values)), target=("a",), **choices))


def test_two_training_windows_are_enough_to_make_a_contract(csv: Write) -> None:
    config = TrainingConfig(data=csv(days_csv(range(46))), target=("a",), split=(32, 40))

    assert prepare(config).train.targets.std() > 0


def test_blank_lines_above_the_header_are_counted(csv: Write) -> None:
    assert "on line 5;" in refusal(csv("\n\na\n1\nx\n"))
