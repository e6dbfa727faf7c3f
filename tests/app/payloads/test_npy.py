"""Arrays in NumPy's format: read by their own header, and never more than they are."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from app.errors import BatchTooLarge, InvalidRequest, MalformedBody, ServiceError
from app.payloads.npy import read_window, read_windows, write
from tests.versions import contract_of, some_windows

CONTRACT = contract_of(steps=4)
FLAT = contract_of(steps=4, features=("co2",))
WINDOWS = some_windows(3, CONTRACT)


def saved(array: NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


def refusal(body: bytes) -> ServiceError:
    """Why a body with windows of `CONTRACT` is not taken."""
    with pytest.raises(ServiceError) as caught:
        read_windows(body, CONTRACT, 8)
    return caught.value


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_size_and_order_are_read(version: tuple[int, int], dtype: str, order: Any) -> None:
    array = np.asarray(WINDOWS.astype(dtype), order=order)
    read = read_windows(saved(array, version), CONTRACT, 8)
    assert read.dtype == np.dtype(np.float32)
    assert read.flags.c_contiguous
    assert_array_equal(read, array.astype(np.float32))


def test_integers_are_numbers_too() -> None:
    assert_array_equal(read_window(saved(np.arange(8).reshape(4, 2)), CONTRACT)[0], np.arange(8).reshape(4, 2))


def test_a_window_may_stand_alone_or_as_a_batch_of_one() -> None:
    for array in (WINDOWS[0], WINDOWS[:1]):
        assert_array_equal(read_window(saved(array), CONTRACT), WINDOWS[:1])


def test_a_single_feature_needs_no_axis() -> None:
    assert read_window(saved(np.arange(4.0)), FLAT).shape == (1, 4, 1)
    assert read_windows(saved(np.ones((3, 4))), FLAT, 8).shape == (3, 4, 1)


def test_what_is_written_is_read_back() -> None:
    assert_array_equal(np.load(io.BytesIO(write(WINDOWS)), allow_pickle=False), WINDOWS)


@pytest.mark.parametrize(
    ("shape", "came"), [((3, 4), "(3, 4)"), ((3, 5, 2), "(3, 5, 2)"), ((0, 4, 2), "(0, 4, 2)"), ((), "()")]
)
def test_another_shape_is_refused_with_the_one_that_is_needed(shape: tuple[int, ...], came: str) -> None:
    [error] = refusal(saved(np.zeros(shape))).errors
    needed = "(batch, 4 steps, 2 features (load, temp)), the batch not empty"
    assert error.message.partition("; ")[0] == f"expected an array of {needed}, got one of {came}"


@pytest.mark.parametrize("shape", [(3, 2), (2, 4, 2), (4, 3), (4,), ()])
def test_another_shape_of_a_single_window_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_window(saved(np.zeros(shape)), CONTRACT)
    [error] = caught.value.errors
    assert error.message.startswith("expected an array of (4 steps, 2 features (load, temp)), got one of ")


def test_the_line_that_puts_a_shape_right_is_told() -> None:
    [error] = refusal(saved(np.zeros((4, 2)))).errors
    assert error.message.endswith("window[np.newaxis]")
    [error] = refusal(saved(np.zeros((3, 2, 4)))).errors
    assert error.message.endswith("windows.transpose(0, 2, 1)")
    [error] = refusal(saved(np.zeros((1, 3, 4, 2)))).errors
    assert error.message.endswith("windows.reshape(-1, 4, 2)")
    [error] = refusal(saved(np.zeros((1, 1, 3, 4, 2)))).errors
    assert error.message == "expected an array of at most 4 axes, got 5"


def test_a_number_that_float32_cannot_hold_is_pointed_at() -> None:
    windows = WINDOWS.astype(np.float64)
    windows[0, 1, 0], windows[2, 3, 1], windows[2, 3, 0] = np.nan, np.inf, -1e39
    errors = refusal(saved(windows)).errors
    assert [error.pointer for error in errors] == ["/0/1/0", "/2/3/0", "/2/3/1"]
    assert errors[0].message == "expected a finite number, got NaN"


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_an_infinity_of_any_size_is_pointed_at(dtype: str) -> None:
    windows = np.zeros((1, 4, 2), dtype)
    windows[0, 2, 1] = np.inf
    assert [error.pointer for error in refusal(saved(windows)).errors] == ["/0/2/1"]


def test_a_batch_beyond_the_limit_is_refused() -> None:
    assert isinstance(refusal(saved(np.zeros((9, 4, 2)))), BatchTooLarge)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[{}]], object),
        np.zeros((3, 4, 2), bool),
        np.zeros((3, 4, 2), complex),
        np.zeros((3, 4, 2), "M8[s]"),
        np.zeros((3, 4, 2), "U3"),
        np.zeros((3, 4, 2), [("a", "f4")]),
    ],
)
def test_anything_but_numbers_is_refused(array: NDArray[Any]) -> None:
    assert isinstance(refusal(saved(array)), InvalidRequest)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x09\x00\x00",
        saved(WINDOWS)[:-1],
        saved(WINDOWS) + b"\0",
        with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4, 2)}\n"),
        with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (0, 9223372036854775807, 4)}\n"),
        with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4, 2)}\n", bytes(32)),
        with_header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4, 2)}\n", bytes(31)),
        with_header(b"{'descr': '<f4', 'fortran_order': False}\n"),
        with_header(b"(" * 9000),
        with_header(b"__import__('os').abort()\n"),
        with_header(b"\xff\xfe\n"),
    ],
)
def test_what_is_no_such_array_is_refused(body: bytes) -> None:
    assert isinstance(refusal(body), MalformedBody)


@pytest.mark.parametrize("odd", [b"'\\d': 0", b"'shape': 1or 2", b"'shape': (0x1for 2)"])
def test_no_header_makes_python_warn(odd: bytes) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert isinstance(refusal(with_header(b"{'descr': '<f4', 'fortran_order': False, %s}\n" % odd)), MalformedBody)
    assert warned == []


AWKWARD = st.sampled_from([0, 1, -1, 2, 4, 10**25, 2**63 - 1, 2**63, True, 1.5, "4", None])
STRUCTURED = [("<f4", ()), ("<f4", (2,)), {"a": ("<f4", 10**30)}, [("a", "<f4")], {"names": ["a"], "formats": ["<f4"]}]
SIMPLE = ["<f4", ">f8", "f", "<f16", "<c8", "O", "a5", "V8", "<f4,<f4", "", None, b"<f4", 5]
DESCRIPTIONS = st.sampled_from([*SIMPLE, *STRUCTURED])
SHAPES = st.lists(AWKWARD, max_size=4) | st.just([1] * 65)


@given(DESCRIPTIONS, SHAPES, st.booleans() | st.none(), st.binary(max_size=64))
def test_no_header_can_do_worse_than_be_refused(descr: object, shape: list[Any], order: object, data: bytes) -> None:
    header = repr({"descr": descr, "fortran_order": order, "shape": tuple(shape)}).encode() + b"\n"
    with pytest.raises(ServiceError):
        read_windows(with_header(header, data), CONTRACT, 8)


@given(st.binary(max_size=200), st.booleans())
def test_no_body_can_do_worse_than_be_refused(data: bytes, framed: bool) -> None:
    body = with_header(data) if framed else data
    with pytest.raises(ServiceError):
        read_window(body, CONTRACT)
    with pytest.raises(ServiceError):
        read_windows(body, CONTRACT, 8)
