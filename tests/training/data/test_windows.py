from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.data.windows import CHUNK_BYTES, Edges, Part, check_rows, chunks, cut_judged, cut_training, split_rows
from training.errors import ConfigError, DataError

sizes = st.integers(1, 40)


def rows_of(count: int, columns: int = 1) -> NDArray[np.float32]:
    """Every value is its row number, so that a window shows which rows it holds."""
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], columns, axis=1)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Edges, int, int, int]:
    """Edges of parts that are just long enough or longer, window, horizon and stride."""
    window, horizon, stride = draw(sizes), draw(sizes), draw(st.integers(1, 10))
    validation = window + horizon + draw(st.integers(0, 60))
    test = validation + horizon + draw(st.integers(0, 40))
    return (0, validation, test, test + horizon + draw(st.integers(0, 40))), window, horizon, stride


@pytest.mark.parametrize(
    ("split", "rows", "edges"),
    [
        ((70, 15, 15), 100, (0, 70, 85, 100)),
        ((0.7, 0.15, 0.15), 100, (0, 70, 85, 100)),
        ((2, 1, 1), 8, (0, 4, 6, 8)),
        ((1000.0, 1200.0), 1461, (0, 1000, 1200, 1461)),
        ((1, 2), 3, (0, 1, 2, 3)),
    ],
)
def test_rows_are_split_by_share_or_by_row_number(split: tuple[float, ...], rows: int, edges: Edges) -> None:
    assert split_rows(split, rows) == edges


@given(st.tuples(*[st.floats(0.01, 1000)] * 3), st.integers(0, 10_000))
def test_shares_hold_to_the_row_or_are_refused(shares: tuple[float, float, float], rows: int) -> None:
    try:
        edges = split_rows(shares, rows)
    except DataError:
        assert min(shares) / sum(shares) * rows < 1.5
        return

    for share, (start, end) in zip(shares, pairwise(edges), strict=True):
        assert end > start
        assert end - start == pytest.approx(rows * share / sum(shares), abs=1.01)


@pytest.mark.parametrize(
    "split",
    [(), (70,), (70, 10, 10, 10), (70, 30, 0), (0, 50, 50), (1e308, 1e308, 1e308), (0.7, 0.3), (5, 5), (9, 4), (0, 5)],
)
def test_a_split_that_is_none_is_refused_with_an_example(split: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="such as 70,15,15"):
        split_rows(split, 100)


@pytest.mark.parametrize(("split", "rows"), [((100, 200), 200), ((100, 300), 200), ((98, 1, 1), 20)])
def test_an_empty_part_is_refused(split: tuple[float, ...], rows: int) -> None:
    with pytest.raises(DataError, match=f"part of the {rows} rows empty"):
        split_rows(split, rows)


def test_too_few_rows_are_counted_by_part() -> None:
    with pytest.raises(DataError) as caught:
        check_rows((0, 36, 40, 50), window=30, horizon=7)

    message = str(caught.value)
    assert "--window 30 and --horizon 7" in message
    assert "37 to train, 7 to validate, 7 to test are needed" in message
    assert "36 in training, 4 in validation, 10 in test" in message


def test_just_enough_rows_give_one_window_a_part() -> None:
    edges = (0, 37, 44, 51)
    check_rows(edges, window=30, horizon=7)

    rows = rows_of(51)
    assert len(cut_training(rows[:37], rows[:37], 30, 7).windows) == 1
    assert len(cut_judged(rows[:44], rows[:44], 30, 7, 37).windows) == 1
    assert len(cut_judged(rows, rows, 30, 7, 44).windows) == 1


def test_training_windows_are_followed_by_their_targets() -> None:
    part = cut_training(rows_of(10, columns=2), rows_of(10), window=3, horizon=2)

    assert (part.windows.shape, part.targets.shape, part.history.shape) == ((6, 3, 2), (6, 2, 1), (6, 3, 1))
    np.testing.assert_array_equal(part.windows[0], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(part.targets[0, :, 0], [3, 4])
    np.testing.assert_array_equal(part.windows[-1, :, 0], [5, 6, 7])
    np.testing.assert_array_equal(part.targets[-1, :, 0], [8, 9])


def test_stride_sets_the_starts_of_training_windows_apart() -> None:
    part = cut_training(rows_of(20), rows_of(20), window=3, horizon=2, stride=4)

    np.testing.assert_array_equal(part.windows[:, 0, 0], [0, 4, 8, 12])
    np.testing.assert_array_equal(part.targets[:, 0, 0], [3, 7, 11, 15])


def test_features_and_targets_keep_their_own_columns() -> None:
    features, targets = rows_of(12, columns=2), rows_of(12) + 100

    part = cut_judged(features, targets, window=4, horizon=2, start=6)

    np.testing.assert_array_equal(part.windows[0, :, 0], [2, 3, 4, 5])
    np.testing.assert_array_equal(part.history[0, :, 0], [100, 101, 102, 103, 104, 105])
    np.testing.assert_array_equal(part.targets[0, :, 0], [106, 107])


@given(cuts())
def test_no_training_window_or_target_leaves_the_training_part(cut: tuple[Edges, int, int, int]) -> None:
    (_, validation, _, rows), window, horizon, stride = cut

    table = rows_of(rows)[:validation]
    part = cut_training(table, table, window, horizon, stride)

    assert np.min(part.windows) == 0
    assert np.max(part.targets) < validation
    np.testing.assert_array_equal(part.windows[:, 0, 0], np.arange(0, validation - window - horizon + 1, stride))
    np.testing.assert_array_equal(part.targets[:, 0, 0], part.windows[:, -1, 0] + 1)


@given(cuts())
def test_every_judged_row_is_judged_as_often_as_it_should_be(cut: tuple[Edges, int, int, int]) -> None:
    (_, validation, test, rows), window, horizon, _ = cut

    for start, end in ((validation, test), (test, rows)):
        table = rows_of(end)
        part = cut_judged(table, table, window, horizon, start)

        judged, times = np.unique(part.targets, return_counts=True)
        from_the_start, to_the_end = np.arange(1, end - start + 1), np.arange(end - start, 0, -1)
        origins = end - start - horizon + 1
        np.testing.assert_array_equal(judged, np.arange(start, end))
        np.testing.assert_array_equal(times, np.minimum(from_the_start, to_the_end).clip(max=min(horizon, origins)))
        np.testing.assert_array_equal(part.windows[:, -1, 0], part.targets[:, 0, 0] - 1)
        np.testing.assert_array_equal(part.windows, part.history[:, -window:])


@given(cuts())
def test_every_step_is_followed_by_its_own_targets(cut: tuple[Edges, int, int, int]) -> None:
    (_, validation, test, _), window, horizon, _ = cut
    table = rows_of(test, columns=2)

    part = cut_judged(table, table, window, horizon, validation)

    assert part.step_targets.shape == (len(part.windows), window, horizon, 2)
    steps_ahead = np.arange(1, horizon + 1, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(part.step_targets, part.history[:, -window:, None, :] + steps_ahead)
    np.testing.assert_array_equal(part.step_targets[:, -1], part.targets)


def test_windows_are_views_that_cannot_be_written() -> None:
    rows = rows_of(1000)

    part = cut_training(rows, rows, window=100, horizon=1)

    assert np.shares_memory(part.windows, rows)
    assert not part.windows.flags.writeable


def test_a_part_can_be_shortened() -> None:
    part = cut_training(rows_of(10), rows_of(10), window=3, horizon=2)

    shorter: Part = part.between(1, 3)

    np.testing.assert_array_equal(shorter.windows[:, 0, 0], [1, 2])
    np.testing.assert_array_equal(shorter.targets[:, 0, 0], [4, 5])
    np.testing.assert_array_equal(shorter.history, shorter.windows)


@pytest.mark.parametrize("numbers", [1, 1000, CHUNK_BYTES])
def test_chunks_hold_every_window_once_and_no_more_than_they_may(numbers: int) -> None:
    narrow, wide = (np.broadcast_to(np.float32(0), (9000, size, 1)) for size in (1, numbers))

    slices = list(chunks(narrow, wide))

    np.testing.assert_array_equal(np.concatenate([np.arange(9000)[each] for each in slices]), np.arange(9000))
    longest = max(len(narrow[each]) for each in slices)
    assert longest == 1 or longest * numbers * 4 <= CHUNK_BYTES
