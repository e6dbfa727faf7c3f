"""Named tensors, and their place in windows and forecasts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from app.version.manifest import Contract
from app.version.signature import Layout, Signature, TensorSpec

SHAPES = st.lists(st.integers(1, 4), max_size=4).map(tuple)


def layout_of(*shapes: tuple[int, ...]) -> Layout:
    return Layout(tuple(TensorSpec(f"t{number}", shape) for number, shape in enumerate(shapes)))


@pytest.mark.parametrize(
    ("shapes", "shape", "columns"),
    [
        ([(4, 2)], (4, 2), ("t0.0", "t0.1")),
        ([(4,)], (4, 1), ("t0",)),
        ([()], (1, 1), ("t0",)),
        ([(4, 2, 3)], (4, 6), tuple(f"t0.{column}" for column in range(6))),
        ([(4, 2), (4, 1)], (4, 3), ("t0.0", "t0.1", "t1")),
        ([(4, 1), (2,)], (1, 6), ("t0.0", "t0.1", "t0.2", "t0.3", "t1.0", "t1.1")),
        ([(3,), ()], (1, 4), ("t0.0", "t0.1", "t0.2", "t1")),
    ],
)
def test_tensors_make_a_table(shapes: list[tuple[int, ...]], shape: tuple[int, int], columns: tuple[str, ...]) -> None:
    layout = layout_of(*shapes)
    assert (layout.shape, layout.columns) == (shape, columns)
    assert layout.window_numbers == shape[0] * shape[1]


def test_tensors_of_equally_many_rows_stand_side_by_side() -> None:
    layout = layout_of((2, 1), (2, 2))
    first, second = np.array([[[1], [2]]], np.float32), np.array([[[3, 4], [5, 6]]], np.float32)
    assert_array_equal(layout.join([first, second]), [[[1, 3, 4], [2, 5, 6]]])


def test_other_tensors_stand_one_after_another() -> None:
    layout = layout_of((2,), (3,))
    tables = layout.join([np.array([[1, 2]], np.float32), np.array([[3, 4, 5]], np.float32)])
    assert_array_equal(tables, [[[1, 2, 3, 4, 5]]])


@given(st.lists(SHAPES, min_size=1, max_size=4), st.integers(1, 3))
def test_what_is_joined_comes_apart_again(shapes: list[tuple[int, ...]], batch: int) -> None:
    layout = layout_of(*shapes)
    numbers = np.random.default_rng(0)
    arrays = [numbers.uniform(size=(batch, *shape)).astype(np.float32) for shape in shapes]
    tables = layout.join(arrays)
    assert tables.shape == (batch, *layout.shape)
    assert len(layout.columns) == layout.shape[1]
    for array, again in zip(arrays, layout.split(tables), strict=True):
        assert_array_equal(again, array)


def test_a_version_with_a_manifest_takes_windows_and_gives_a_forecast(contract: Contract) -> None:
    signature = Signature.of(contract)
    assert signature.inputs.tensors == (TensorSpec("windows", contract.window_shape),)
    assert signature.outputs.tensors == (TensorSpec("forecast", contract.forecast_shape),)
    assert signature.inputs.windows.is_table
