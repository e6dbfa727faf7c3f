"""Golden rows, and the measure of agreement."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from app.arrays import Array
from app.errors import ArtifactError
from app.version.golden import GOLDEN_FILE, TOLERANCE, Golden, deviation, probe_windows, training_ranges
from app.version.manifest import Feature
from tests.versions import contract_of, some_windows


def forecasts_of(*numbers: float) -> Array:
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


def test_golden_rows_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    saved = Golden(some_windows(2, contract_of()), forecasts_of(1, 2))
    saved.save(tmp_path)
    loaded = Golden.load(tmp_path)
    assert_array_equal(loaded.windows, saved.windows)
    assert_array_equal(loaded.forecasts, saved.forecasts)


def test_missing_golden_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"assets\.extra/golden\.npz: the golden rows are missing"):
        Golden.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"\x93NUMPY\x01\x00", b"\x80\x04]\x94."])
def test_what_is_no_archive_does_not_hold_golden_rows(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, content)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path)


def test_an_archive_cut_short_or_of_other_things_does_not_hold_golden_rows(tmp_path: Path) -> None:
    Golden(some_windows(2, contract_of()), forecasts_of(1, 2)).save(tmp_path)
    path = tmp_path / GOLDEN_FILE
    _refuses_after(tmp_path, lambda: path.write_bytes(path.read_bytes()[:-30]))
    _refuses_after(tmp_path, lambda: np.savez(path, windows=forecasts_of(1)))
    bare_array = io.BytesIO()
    np.save(bare_array, forecasts_of(1))
    _refuses_after(tmp_path, lambda: path.write_bytes(bare_array.getvalue()))


def test_pickled_golden_rows_are_never_run(tmp_path: Path) -> None:
    path = _write(tmp_path, b"")
    with path.open("wb") as file:
        np.savez(file, windows=np.array([{}], object), forecasts=forecasts_of(1))
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path)


@pytest.mark.parametrize(
    ("forecast", "expected", "scale", "agrees"),
    [
        (0.0, 0.0, 1.0, True),
        (0.9 * TOLERANCE, 0.0, 1.0, True),
        (1.1 * TOLERANCE, 0.0, 1.0, False),
        (90 * TOLERANCE, 0.0, 100.0, True),
        (2.0**24 + 2, 2.0**24, 1e-9, True),
        (2.0**24 + 10, 2.0**24, 1e-9, False),
        (np.nan, 0.0, 1.0, False),
        (np.inf, np.inf, 1.0, False),
        (0.0, np.nan, 1.0, False),
        (0.0, np.inf, 1.0, False),
    ],
)
def test_agreement_is_measured_against_scale_and_rounding(
    forecast: float, expected: float, scale: float, agrees: bool
) -> None:
    measured = deviation(forecasts_of(forecast), forecasts_of(expected), [scale])
    assert measured <= 1 if agrees else measured > 1


def test_forecasts_of_other_shapes_never_agree() -> None:
    assert deviation(forecasts_of(1, 1), forecasts_of(1), [1.0]) == float("inf")


def test_each_target_is_measured_by_its_own_scale() -> None:
    forecasts = np.array([[[0.5, 0.5]]], np.float32)
    expected = np.array([[[0.5, 0.5 + 5 * TOLERANCE]]], np.float32)
    assert deviation(forecasts, expected, [1, 10]) < 1 < deviation(forecasts, expected, [10, 1])


def test_probe_windows_reach_beyond_the_training_ranges_and_are_the_same_in_every_run() -> None:
    contract = contract_of(steps=50, features=("load",))
    contract = contract.model_copy(update={"features": (Feature(name="load", minimum=10, maximum=20),)})
    windows = probe_windows(contract, 8)
    assert windows.shape == (8, 50, 1)
    assert windows.dtype == np.float32
    assert 5 <= np.min(windows) < 10
    assert 20 < np.max(windows) <= 25
    assert_array_equal(windows, probe_windows(contract, 8))
    assert_array_equal(training_ranges(contract), [[10], [20]])


def test_windows_of_unknown_ranges_are_probed_around_zero() -> None:
    contract = contract_of(features=("x0", "x1"))
    contract = contract.model_copy(update={"features": (Feature(name="x0"), Feature(name="x1", minimum=0, maximum=0))})
    assert_array_equal(training_ranges(contract), [[-1, 0], [1, 0]])


def _refuses_after(version_dir: Path, damage: Callable[[], object]) -> None:
    damage()
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(version_dir)


def _write(version_dir: Path, content: bytes) -> Path:
    path = version_dir / GOLDEN_FILE
    path.parent.mkdir()
    path.write_bytes(content)
    return path
