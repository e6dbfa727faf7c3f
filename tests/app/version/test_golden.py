"""Golden rows, and the measure of agreement."""

import io
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from app.arrays import Array, Inputs
from app.errors import ArtifactError
from app.version.golden import (
    GOLDEN_FILE,
    MAX_GOLDEN_ROWS,
    TOLERANCE,
    Golden,
    deviation,
    probe_inputs,
    training_ranges,
    with_allowed_scales,
)
from app.version.manifest import Contract, Feature, Target
from tests.ahead import ahead_contract
from tests.versions import contract_of, some_windows


def forecasts_of(*numbers: float) -> Array:
    return np.array(numbers, np.float32).reshape(-1, 1, 1)


CONTRACT = contract_of(horizon=1)
WINDOWS = some_windows(2, CONTRACT)


def test_golden_rows_are_read_back_as_they_were_saved(tmp_path: Path) -> None:
    saved = Golden(Inputs(some_windows(2, contract_of())), forecasts_of(1, 2))
    saved.save(tmp_path)
    loaded = Golden.load(tmp_path, CONTRACT)
    assert_array_equal(loaded.inputs.windows, saved.inputs.windows)
    assert_array_equal(loaded.forecasts, saved.forecasts)


def test_missing_golden_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"assets\.extra/golden\.npz: the golden rows are missing"):
        Golden.load(tmp_path, CONTRACT)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive", b"\x93NUMPY\x01\x00", b"\x80\x04]\x94."])
def test_what_is_no_archive_does_not_hold_golden_rows(tmp_path: Path, content: bytes) -> None:
    _write(tmp_path, content)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


def test_an_archive_cut_short_or_of_other_things_does_not_hold_golden_rows(tmp_path: Path) -> None:
    Golden(Inputs(some_windows(2, contract_of())), forecasts_of(1, 2)).save(tmp_path)
    path = tmp_path / GOLDEN_FILE
    _refuses_after(tmp_path, lambda: path.write_bytes(path.read_bytes()[:-30]))
    _refuses_after(tmp_path, lambda: np.savez(path, windows=forecasts_of(1)))
    bare_array = io.BytesIO()
    np.save(bare_array, forecasts_of(1))
    _refuses_after(tmp_path, lambda: path.write_bytes(bare_array.getvalue()))


def archive_of(version_dir: Path, members: dict[str, bytes], **options: Any) -> None:
    """Writes an archive with these files in the place of golden rows."""
    _write(version_dir, b"")
    with zipfile.ZipFile(version_dir / GOLDEN_FILE, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy_of(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


SOUND = {"windows.npy": npy_of(WINDOWS), "forecasts.npy": npy_of(forecasts_of(1, 2))}


def ahead_rows(**changed: NDArray[Any]) -> dict[str, bytes]:
    """The files of golden rows with a future and a time, some of them changed."""
    inputs = probe_inputs(ahead_contract(), 2)
    arrays = {**inputs.named(), "forecasts": np.zeros((2, 3, 1), np.float32), **changed}
    return {f"{name}.npy": npy_of(array) for name, array in arrays.items()}


def test_golden_rows_of_a_model_that_takes_more_hold_it(tmp_path: Path) -> None:
    archive_of(tmp_path, ahead_rows())
    time = Golden.load(tmp_path, ahead_contract()).inputs.time
    assert time is not None
    assert time.dtype == np.int64
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, ahead_contract(calendar=()))


@pytest.mark.parametrize(
    "changed",
    [
        {"time": np.zeros(2, np.float32)},
        {"time": np.zeros((2, 1), np.int64)},
        {"time": np.zeros(3, np.int64)},
        {"future": np.zeros((2, 3, 2), np.float32)},
        {"future": np.zeros((2, 3, 1), np.int64)},
        {"future": np.full((2, 3, 1), np.nan, np.float32)},
    ],
    ids=lambda changed: " ".join(f"{name} {array.dtype} {array.shape}" for name, array in changed.items()),
)
def test_a_future_or_a_time_of_another_form_is_no_golden_row(changed: dict[str, NDArray[Any]], tmp_path: Path) -> None:
    archive_of(tmp_path, ahead_rows(**changed))
    with pytest.raises(ArtifactError, match="golden rows"):
        Golden.load(tmp_path, ahead_contract())


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_golden_rows_may_be_compressed(compression: int, tmp_path: Path) -> None:
    archive_of(tmp_path, SOUND, compression=compression)
    assert_array_equal(Golden.load(tmp_path, CONTRACT).inputs.windows, WINDOWS)


def test_golden_rows_may_stand_in_the_order_of_fortran(tmp_path: Path) -> None:
    archive_of(tmp_path, {**SOUND, "windows.npy": npy_of(np.asfortranarray(WINDOWS))})
    assert b"'fortran_order': True" in (tmp_path / GOLDEN_FILE).read_bytes()
    loaded = Golden.load(tmp_path, CONTRACT).inputs.windows
    assert_array_equal(loaded, WINDOWS)
    assert loaded.flags.c_contiguous


@pytest.mark.parametrize(
    ("members", "options"),
    [
        ({"windows.npy": SOUND["windows.npy"]}, {}),
        ({**SOUND, "more.npy": SOUND["windows.npy"]}, {}),
        (SOUND, {"compression": zipfile.ZIP_BZIP2}),
        (SOUND, {"compression": zipfile.ZIP_LZMA}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS.astype(np.float64))}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS.astype(">f4"))}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS.astype(np.int32))}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS[:0])}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS[:, 1:])}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS.reshape(2, -1))}, {}),
        ({**SOUND, "windows.npy": npy_of(WINDOWS.reshape(4, 2, 2))}, {}),
        ({**SOUND, "windows.npy": SOUND["windows.npy"] + b"more"}, {}),
        ({**SOUND, "windows.npy": SOUND["windows.npy"][:-1]}, {}),
        ({**SOUND, "windows.npy": npy_of(np.zeros((MAX_GOLDEN_ROWS + 1, 4, 2), np.float32))}, {}),
        ({**SOUND, "forecasts.npy": npy_of(np.zeros((2, 1, 2), np.float32))}, {}),
    ],
)
def test_anything_but_golden_rows_of_the_contract_is_refused(
    members: dict[str, bytes], options: dict[str, Any], tmp_path: Path
) -> None:
    archive_of(tmp_path, members, **options)
    with pytest.raises(ArtifactError, match=r"golden\.npz: does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


def test_there_is_a_window_for_each_forecast_and_all_are_finite(tmp_path: Path) -> None:
    for number, windows in enumerate((WINDOWS[:1], WINDOWS * np.inf)):
        version_dir = tmp_path / str(number)
        version_dir.mkdir()
        archive_of(version_dir, {**SOUND, "windows.npy": npy_of(windows)})
        with pytest.raises(ArtifactError, match="are not a finite window for each forecast"):
            Golden.load(version_dir, CONTRACT)


def count_inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes how many bytes the archives give from now on, whoever reads them."""
    inflated: list[int] = []
    read = zipfile.ZipExtFile.read

    def note(self: zipfile.ZipExtFile, size: int | None = -1) -> bytes:
        content = read(self, size)
        inflated.append(len(content))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", note)
    return inflated


def bomb() -> bytes:
    """A file of 64 MiB that says it holds a gigabyte of windows of the contract."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**25, 4, 2)})
    return header.getvalue() + bytes(2**26)


def test_rows_without_number_are_refused_before_they_are_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, {**SOUND, "windows.npy": bomb()}, compression=zipfile.ZIP_DEFLATED)
    inflated = count_inflated(monkeypatch)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)
    assert sum(inflated) == 0


def test_an_archive_that_lies_about_its_sizes_is_inflated_no_further_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, {**SOUND, "windows.npy": bomb()}, compression=zipfile.ZIP_DEFLATED)
    path = tmp_path / GOLDEN_FILE
    told = len(SOUND["windows.npy"])
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", len(bomb())), struct.pack("<I", told)))
    inflated = count_inflated(monkeypatch)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)
    assert sum(inflated) <= told


@pytest.mark.parametrize("end", [b"", b"comment"])
def test_an_archive_of_a_million_members_is_not_listed(
    end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, SOUND)
    with zipfile.ZipFile(tmp_path / GOLDEN_FILE, "a") as archive:
        for number in range(20):
            archive.writestr(f"member {number}", b"")
        archive.comment = end
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


def test_an_archive_with_a_second_directory_for_large_files_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_of(tmp_path, SOUND)
    path = tmp_path / GOLDEN_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-22] + b"PK\6\7" + bytes(16) + content[-22:])
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


def test_an_encrypted_archive_does_not_hold_golden_rows(tmp_path: Path) -> None:
    archive_of(tmp_path, SOUND)
    path = tmp_path / GOLDEN_FILE
    plain, encrypted = b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"
    assert plain in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(plain, encrypted))
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


@given(st.data())
def test_any_damage_to_an_archive_is_an_error_or_goes_unseen(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        version_dir = Path(folder)
        Golden(Inputs(WINDOWS), forecasts_of(1, 2)).save(version_dir)
        path = version_dir / GOLDEN_FILE
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        with suppress(ArtifactError):
            Golden.load(version_dir, CONTRACT)


def with_scale(contract: Contract, scale: float) -> Contract:
    targets = tuple(target.model_copy(update={"scale": scale}) for target in contract.targets)
    return contract.model_copy(update={"targets": targets})


@pytest.mark.parametrize(
    ("largest_window", "largest_forecast", "largest_scale"),
    [(0, 3, 3000), (0, -3, 3000), (7, 3, 7000), (-7, 3, 7000), (0, 0, 1000), (0, 1e-30, 1e-27)],
)
def test_a_scale_is_no_larger_than_the_numbers_of_its_target_allow(
    largest_window: float, largest_forecast: float, largest_scale: float, tmp_path: Path
) -> None:
    windows = np.zeros((2, *CONTRACT.window_shape), np.float32)
    windows[1, 2, 0] = largest_window  # of the feature that is the target too
    windows[:, :, 1] = 1e6
    Golden(Inputs(windows), forecasts_of(0, largest_forecast)).save(tmp_path)
    Golden.load(tmp_path, with_scale(CONTRACT, 0.99 * largest_scale))
    with pytest.raises(
        ArtifactError, match=r"manifest\.json: the scale of load is .*, more than 1000 times its largest"
    ):
        Golden.load(tmp_path, with_scale(CONTRACT, 1.01 * largest_scale))


def test_a_target_that_is_no_feature_is_measured_by_its_forecasts_alone(tmp_path: Path) -> None:
    contract = CONTRACT.model_copy(update={"targets": (Target(name="other", scale=1001),)})
    Golden(Inputs(1e6 * WINDOWS), forecasts_of(1, 0)).save(tmp_path)
    with pytest.raises(ArtifactError, match="the scale of other is 1e"):
        Golden.load(tmp_path, contract)


finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(finite, min_size=8, max_size=8), finite, st.floats(1e-300, 1e300))
def test_a_scale_that_training_cuts_is_always_taken(numbers: list[float], forecast: float, scale: float) -> None:
    golden = Golden(Inputs(np.array(numbers, np.float32).reshape(1, *CONTRACT.window_shape)), forecasts_of(forecast))
    cut = with_allowed_scales(with_scale(CONTRACT, scale), golden)
    with TemporaryDirectory() as folder:
        golden.save(Path(folder))
        Golden.load(Path(folder), cut)
    assert cut.target_scales[0] <= scale


def test_pickled_golden_rows_are_never_run(tmp_path: Path) -> None:
    path = _write(tmp_path, b"")
    with path.open("wb") as file:
        np.savez(file, windows=np.array([{}], object), forecasts=forecasts_of(1))
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(tmp_path, CONTRACT)


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


def test_probes_reach_beyond_the_training_ranges_and_are_the_same_in_every_run() -> None:
    contract = contract_of(steps=50, features=("load",))
    contract = contract.model_copy(update={"features": (Feature(name="load", minimum=10, maximum=20),)})
    windows = probe_inputs(contract, 8).windows
    assert windows.shape == (8, 50, 1)
    assert windows.dtype == np.float32
    assert 5 <= np.min(windows) < 10
    assert 20 < np.max(windows) <= 25
    assert_array_equal(windows, probe_inputs(contract, 8).windows)
    assert_array_equal(training_ranges(contract), [[10], [20]])


def test_windows_of_unknown_ranges_are_probed_around_zero() -> None:
    contract = contract_of(features=("x0", "x1"))
    contract = contract.model_copy(update={"features": (Feature(name="x0"), Feature(name="x1", minimum=0, maximum=0))})
    assert_array_equal(training_ranges(contract), [[-1, 0], [1, 0]])


def _refuses_after(version_dir: Path, damage: Callable[[], object]) -> None:
    damage()
    with pytest.raises(ArtifactError, match="does not hold golden rows"):
        Golden.load(version_dir, CONTRACT)


def _write(version_dir: Path, content: bytes) -> Path:
    path = version_dir / GOLDEN_FILE
    path.parent.mkdir()
    path.write_bytes(content)
    return path
