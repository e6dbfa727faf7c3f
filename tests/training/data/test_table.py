import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from app.version.manifest import Frequency
from training.config import Missing
from training.data.frequency import Times
from training.data.table import Table, check_targets_change, constant_feature, fill, note_constant_features, settle
from training.errors import DataError

nan = float("nan")


def table_of(*columns: list[float], times: Times | None = None) -> Table:
    values = np.array(columns, dtype=np.float64).T
    names = tuple("abcdefgh"[: len(columns)])
    return Table(names, values, times, "t.csv", np.arange(2, len(values) + 2), "line")


def days(*numbers: int) -> Times:
    return np.datetime64("2024-01-01", "us") + np.array(numbers) * np.timedelta64(86_400_000_000, "us")


def message_of(error: pytest.ExceptionInfo[DataError]) -> str:
    return str(error.value)


def test_a_row_is_named_by_line_and_time() -> None:
    assert table_of([1, 2]).where(1) == "line 3"
    assert table_of([1, 2], times=days(0, 1)).where(1) == "line 3 (2024-01-02)"


def test_columns_are_selected_in_the_order_asked_for() -> None:
    chosen = table_of([1, 2], [3, 4], [5, 6]).select(("c", "a"))

    assert chosen.columns == ("c", "a")
    np.testing.assert_array_equal(chosen.values, [[5, 1], [6, 2]])


def test_an_absent_column_is_told_with_the_nearest_and_all_there_are() -> None:
    table = Table(("open", "close"), np.zeros((1, 2)), None, "t.csv", np.array([2]))

    with pytest.raises(DataError) as error:
        table.select(["Clos"])
    for fact in ("t.csv", "no column 'Clos'", "did you mean 'close'?", "the columns are open, close"):
        assert fact in message_of(error)


def test_a_long_list_of_columns_is_cut_short() -> None:
    names = tuple(f"c{number}" for number in range(25))

    with pytest.raises(DataError, match="c19 and 5 more"):
        Table(names, np.zeros((1, 25)), None, "t.csv", np.array([2])).select(["other"])


def test_a_strange_column_name_is_told_on_one_line() -> None:
    table = Table(("a,b\n1,2\n" + "3" * 1000,), np.zeros((1, 1)), None, "t.csv", np.array([2]))

    with pytest.raises(DataError) as error:
        table.select(["a"])
    assert "\n" not in message_of(error)
    assert len(message_of(error)) < 200


def test_rows_out_of_order_are_sorted_with_a_finding() -> None:
    table = settle(table_of([1, 3, 2, 4], times=days(0, 2, 1, 3)), "error")

    np.testing.assert_array_equal(table.values[:, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(table.places, [2, 4, 3, 5])
    assert table.frequency == Frequency(count=1, unit="day")
    assert len(table.findings) == 1
    assert "have been sorted; the first out of place is line 4 (2024-01-02)" in table.findings[0].sentence


def test_rows_without_times_stay_as_they_are() -> None:
    table = table_of([3, 1, 2])

    assert settle(table, "error") is not None
    np.testing.assert_array_equal(settle(table, "error").values, table.values)


def test_gaps_in_the_grid_are_noticed() -> None:
    table = settle(table_of([1, 2, 3, 4], times=days(0, 1, 2, 5)), "error")

    assert "2 rows are absent from the grid of 1 day, the first after 2024-01-03" in table.findings[0].sentence


def test_duplicate_times_are_refused_with_both_lines() -> None:
    with pytest.raises(DataError) as error:
        settle(table_of([1, 2, 3, 4], times=days(0, 1, 2, 1)), "error")
    for fact in ("1 of 4 rows too many", "2024-01-02", "lines 3 and 5", "one row per time"):
        assert fact in message_of(error)


def test_missing_values_are_refused_with_count_column_line_and_choices() -> None:
    with pytest.raises(DataError) as error:
        settle(table_of([1, 2, nan, nan], [1, 2, 3, nan]), "error")
    for fact in (
        "2 missing values in column 'a' from line 4",
        "1 missing value in column 'b' from line 5",
        "--missing forward",
        "interpolate",
        "drop",
    ):
        assert fact in message_of(error)


def test_many_columns_with_missing_values_are_summed_up() -> None:
    with pytest.raises(DataError, match="and more in 2 other columns"):
        settle(table_of(*[[nan, 1.0]] * 7), "error")


@pytest.mark.parametrize("missing", ["error", "forward", "interpolate", "drop"])
def test_an_empty_column_is_refused(missing: Missing) -> None:
    with pytest.raises(DataError, match="column 'b' holds no value at all"):
        settle(table_of([1, 2], [nan, nan]), missing)


def test_rows_with_missing_values_are_dropped_with_a_finding() -> None:
    table = settle(table_of([1, nan, 3, 4], [1, 2, 3, nan], times=days(0, 1, 2, 3)), "drop")

    np.testing.assert_array_equal(table.values, [[1, 1], [3, 3]])
    np.testing.assert_array_equal(table.places, [2, 4])
    assert "2 rows of 4 with a missing value left out, the first on line 3 (2024-01-02)" in table.findings[0].sentence


def test_nothing_left_after_dropping_is_refused() -> None:
    with pytest.raises(DataError, match="every row has a missing value"):
        settle(table_of([1, nan], [nan, 2]), "drop")


def test_forward_takes_the_last_value_before() -> None:
    table = fill(table_of([1, nan, nan, 4, nan, 6]), "forward", (0, 3, 5, 6))

    np.testing.assert_array_equal(table.values[:, 0], [1, 1, 1, 4, 4, 6])
    assert table.findings[0].sentence.startswith(
        "3 missing values filled by --missing forward: 2 in training, 1 in validation;"
    )


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ([0, nan, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ([0, 1, nan, nan, 4, 5, 6, 7, 8], [0, 1, 1, 1, 4, 5, 6, 7, 8]),  # the run crosses into validation
        ([0, 1, 2, nan, 4, 5, 6, 7, 8], [0, 1, 2, 2, 4, 5, 6, 7, 8]),  # validation starts with a gap
        ([0, 1, 2, 3, nan, 5, 6, 7, nan], [0, 1, 2, 3, 4, 5, 6, 7, 7]),
        ([0, 1, 2, nan, nan, nan, 6, nan, 8], [0, 1, 2, 2, 2, 2, 6, 7, 8]),  # all of validation is missing
    ],
)
def test_interpolation_stays_within_a_part(values: list[float], filled: list[float]) -> None:
    table = fill(table_of(values), "interpolate", (0, 3, 6, 9))

    np.testing.assert_array_equal(table.values[:, 0], filled)


@pytest.mark.parametrize("missing", ["forward", "interpolate"])
def test_filling_in_a_judged_part_is_said_to_flatter(missing: Missing) -> None:
    flattered = fill(table_of([0, 1, 2, 3, nan, 5, 6, nan, 8]), missing, (0, 3, 6, 9))
    plain = fill(table_of([0, nan, 2, 3, 4, 5, 6, 7, 8]), missing, (0, 3, 6, 9))

    assert "2 rows of validation and test hold filled values" in flattered.findings[0].sentence
    assert "too low by an unknown amount" in flattered.findings[0].sentence
    assert "errors" not in plain.findings[0].sentence


@pytest.mark.parametrize("missing", ["forward", "interpolate"])
def test_a_start_without_a_value_is_refused(missing: Missing) -> None:
    with pytest.raises(DataError) as error:
        fill(table_of([1, 2, 3], [nan, 2, 3]), missing, (0, 1, 2, 3))
    for fact in ("column 'b'", "line 2", "--missing drop"):
        assert fact in message_of(error)


def test_a_whole_table_is_not_filled() -> None:
    table = table_of([1, 2, 3])

    assert fill(table, "forward", (0, 1, 2, 3)) is table


@given(
    values=arrays(np.float64, (30, 2), elements=st.one_of(st.just(nan), st.floats(-100, 100))),
    later=arrays(np.float64, (10, 2), elements=st.one_of(st.just(nan), st.floats(-100, 100))),
    missing=st.sampled_from(["forward", "interpolate"]),
    changed_from=st.sampled_from([10, 20]),
)
def test_later_rows_never_change_an_earlier_part(
    values: NDArray[np.float64], later: NDArray[np.float64], missing: Missing, changed_from: int
) -> None:
    values[0] = 0
    other = values.copy()
    other[changed_from : changed_from + 10] = later
    edges = (0, 10, 20, 30)

    first, second = (fill(table_of(*rows.T.tolist()), missing, edges) for rows in (values, other))

    assert not np.isnan(first.values).any()
    np.testing.assert_array_equal(first.values[:changed_from], second.values[:changed_from])


def test_a_constant_target_is_refused() -> None:
    with pytest.raises(DataError) as error:
        check_targets_change(table_of([1, 2, 3, 4], [5, 5, 5, 6]), targets=["b"], training_rows=3)
    for fact in ("target 'b'", "is 5 in all 3 training rows", "--target"):
        assert fact in message_of(error)


def test_a_target_constant_in_float32_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        check_targets_change(table_of([1e9, 1e9 + 1, 1e9 + 2]), targets=["a"], training_rows=3)


def test_a_constant_feature_is_noticed() -> None:
    table = table_of([1, 2, 3], [5, 5, 5])
    check_targets_change(table, targets=["a"], training_rows=3)
    table = note_constant_features(table, training_rows=3)

    assert table.findings == (constant_feature("b"),)
    assert table.findings[0].column == "b"
    assert table.findings[0].sentence == "feature 'b' never changes in the training part, so it carries nothing"
