"""The versions on disk: found, proved and loaded, or refused by the name of the file at fault."""

import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose

from app.arrays import Inputs
from app.engines import choice
from app.errors import ArtifactError, printable
from app.serving.loading import load_version
from app.version import folders
from app.version.folders import MAX_VERSION_BYTES, MAX_WARNINGS, check_whole, is_still, model_names, stamp_of, versions
from app.version.golden import GOLDEN_FILE, Golden
from app.version.manifest import MANIFEST_FILE, TWIN_FILE, Contract, Manifest
from tests.logs import captured_logs
from tests.pipes import pipe
from tests.versions import (
    SavedForecast,
    add_twin,
    contract_of,
    expected_forecasts,
    failing,
    failing_on_batches,
    make_version,
    mean_ahead,
    publish,
    save_model,
    signatures_of,
    some_windows,
)


def test_models_are_the_folders_with_sound_names(models_dir: Path) -> None:
    assert model_names(models_dir) == ["broken", "default", "flat", "slow"]
    assert model_names(models_dir / "nowhere") == []


@pytest.mark.parametrize("odd", [".hidden", "-x", "a b", "ä", "x" * 65, "line\n"])
def test_folders_with_odd_names_are_no_models(odd: str, tmp_path: Path) -> None:
    (tmp_path / odd).mkdir()
    assert model_names(tmp_path) == []


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / "m" / str(number)).mkdir(parents=True)
    assert versions(tmp_path / "m") == [1, 9, 10]
    assert versions(tmp_path / "nowhere") == []


@pytest.mark.parametrize("odd", ["0", "007", "-1", "1.5", "v1", "٣", "1" * 19, "1 ", "1\n", "latest"])
def test_odd_versions_are_ignored_with_a_warning(odd: str, tmp_path: Path) -> None:
    (tmp_path / odd).mkdir()
    with captured_logs() as logged:
        assert versions(tmp_path) == []
    assert [(line["level"], line["path"]) for line in logged] == [("warning", printable(tmp_path / odd))]


def test_links_in_circles_are_no_models_and_no_versions(tmp_path: Path) -> None:
    (tmp_path / "m").symlink_to("m")
    (tmp_path / "1").symlink_to("2")
    (tmp_path / "2").symlink_to("1")
    assert model_names(tmp_path) == []
    assert versions(tmp_path) == []


def test_a_link_to_a_folder_above_is_not_followed_for_ever(version_dir: Path) -> None:
    (version_dir / "above").symlink_to("../..")
    assert len(stamp_of(version_dir)) < 20
    check_whole(version_dir)


def test_hidden_folders_are_ignored_without_a_word(tmp_path: Path) -> None:
    (tmp_path / ".building-3").mkdir()
    with captured_logs() as logged:
        assert versions(tmp_path) == []
    assert logged == []


def test_a_sound_version_is_loaded(version_dir: Path, contract: Contract) -> None:
    loaded = load_version(version_dir, "auto", max_windows=2)
    assert (loaded.name, loaded.version, loaded.contract) == ("default", 1, contract)
    assert loaded.engine.remark == "XLA, compiled for batches of 1, 2; not by a twin: the version has no fused twin"
    assert loaded.load_seconds > 0


def test_damage_to_the_twin_alone_does_not_keep_a_version_from_serving(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract)
    assert load_version(version_dir, "auto", max_windows=1).engine.name == "onnx"

    (version_dir / TWIN_FILE).write_bytes(b"")

    assert load_version(version_dir, "auto", max_windows=1).engine.name == "tensorflow"


def test_all_signatures_of_the_graph_are_known_whatever_computes(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract)
    assert load_version(version_dir, "onnx", max_windows=1).signatures == signatures_of(version_dir)
    (version_dir / "saved_model.pb").write_bytes(b"no model")
    publish(version_dir, contract)
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: is not a SavedModel; export the version again"):
        load_version(version_dir, "onnx", max_windows=1)


def cut_short(version_dir: Path) -> Path:
    path = version_dir / "variables" / "variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1])
    return path


def flip(version_dir: Path) -> Path:
    path = version_dir / "saved_model.pb"
    sound = path.read_bytes()
    path.write_bytes(sound[:100] + bytes([sound[100] ^ 1]) + sound[101:])
    return path


def remove(version_dir: Path) -> Path:
    path = version_dir / "variables" / "variables.index"
    path.unlink()
    return path


def remove_manifest(version_dir: Path) -> Path:
    path = version_dir / MANIFEST_FILE
    path.unlink()
    return path


def change_golden_rows(version_dir: Path) -> Path:
    golden = Golden.load(version_dir, contract_of())
    Golden(golden.inputs, golden.forecasts + 1).save(version_dir)
    return version_dir / GOLDEN_FILE


def record_wrong_golden_rows(version_dir: Path) -> Path:
    change_golden_rows(version_dir)
    publish(version_dir, contract_of())
    return version_dir


def promise_other_shapes(version_dir: Path) -> Path:
    publish(version_dir, contract_of(steps=5))
    return version_dir / GOLDEN_FILE


def void_the_proof(version_dir: Path) -> Path:
    """Makes any forecast agree with any other: what is recorded is wrong, and the scale makes it right."""
    change_golden_rows(version_dir)
    contract = contract_of()
    targets = tuple(target.model_copy(update={"scale": 1e300}) for target in contract.targets)
    publish(version_dir, contract.model_copy(update={"targets": targets}))
    return version_dir / MANIFEST_FILE


def forget_golden_rows(version_dir: Path) -> Path:
    path = version_dir / GOLDEN_FILE
    path.unlink()
    publish(version_dir, contract_of())
    return path


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip,
        remove,
        remove_manifest,
        change_golden_rows,
        record_wrong_golden_rows,
        promise_other_shapes,
        void_the_proof,
        forget_golden_rows,
    ],
)
def test_a_damaged_version_is_refused_by_the_name_of_what_is_at_fault(
    damage: Callable[[Path], Path], version_dir: Path
) -> None:
    at_fault = damage(version_dir)
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(at_fault))}: ") as caught:
        load_version(version_dir, "auto", max_windows=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make_forecast", "problem"),
    [
        (failing, r"the model cannot compute \(InvalidArgumentError\)"),
        (failing_on_batches, r"the tensorflow engine fails on the golden rows \(InvalidArgumentError\)"),
    ],
)
def test_a_model_whose_graph_fails_is_refused_by_its_folder(
    make_forecast: Callable[[Contract], SavedForecast], problem: str, contract: Contract, tmp_path: Path
) -> None:
    version_dir = make_version(tmp_path, contract, make_forecast=make_forecast)
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(version_dir))}: {problem}; export"):
        load_version(version_dir, "auto", max_windows=4)


def test_a_folder_that_cannot_be_listed_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    for listing in (model_names, versions):
        with pytest.raises(ArtifactError, match=r"cannot be listed \(Permission denied\); check its permissions\.$"):
            listing(tmp_path)


def test_a_folder_settles_when_nothing_in_it_changes_any_more(
    version_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        ahead_seconds = 0

        def time(self) -> float:
            return time.time() + self.ahead_seconds

    clock = Clock()
    monkeypatch.setattr(folders, "time", clock)
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 10_000)
    before = stamp_of(version_dir)
    assert not is_still(before)
    clock.ahead_seconds = 10_000
    assert is_still(before)
    assert stamp_of(version_dir) == before
    (version_dir / "variables" / "variables.index").touch()
    after = stamp_of(version_dir)
    assert after != before
    clock.ahead_seconds = 0
    assert not is_still(after)
    assert is_still(stamp_of(version_dir / "nowhere"))


def test_times_in_the_future_keep_no_folder_from_settling(version_dir: Path) -> None:
    later = time.time() + 3600
    for path in (version_dir, *version_dir.rglob("*")):
        os.utime(path, (later, later))
    assert is_still(stamp_of(version_dir))


SAVED_MODEL_FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


@pytest.mark.parametrize("part", [*SAVED_MODEL_FILES, GOLDEN_FILE])
def test_a_version_is_not_whole_without_a_file_that_its_manifest_lists(part: str, version_dir: Path) -> None:
    check_whole(version_dir)
    (version_dir / part).unlink()
    with pytest.raises(ArtifactError, match=f"{part}: the file is missing, so the export was not finished"):
        check_whole(version_dir)


def test_the_manifest_of_a_version_is_read_once_for_both_looks_at_it(
    twin_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = check_whole(twin_dir)
    assert manifest == Manifest.read(twin_dir)

    monkeypatch.setattr(Manifest, "read", None)
    assert load_version(twin_dir, "onnx", max_windows=1, manifest=manifest).manifest is manifest


def test_a_manifest_that_cannot_be_read_is_left_to_the_loading(version_dir: Path) -> None:
    (version_dir / MANIFEST_FILE).write_bytes(b"{")

    assert check_whole(version_dir) is None
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a manifest"):
        load_version(version_dir, "onnx", max_windows=1)


def test_a_version_of_ours_without_its_manifest_is_not_whole(version_dir: Path) -> None:
    (version_dir / MANIFEST_FILE).unlink()
    with pytest.raises(ArtifactError, match="the manifest is missing, so the export was not finished"):
        check_whole(version_dir)


def test_a_version_can_do_without_its_twin(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract)
    (version_dir / TWIN_FILE).unlink()
    check_whole(version_dir)


@pytest.mark.parametrize(
    "part", ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
)
def test_a_version_from_elsewhere_is_whole_with_graph_and_variables(
    part: str, contract: Contract, tmp_path: Path
) -> None:
    save_model(tmp_path / "1", contract, mean_ahead(contract))
    check_whole(tmp_path / "1")
    (tmp_path / "1" / part).unlink()
    with pytest.raises(ArtifactError, match=f"{part}: the file is missing"):
        check_whole(tmp_path / "1")


def make_pipe(path: Path) -> AbstractContextManager[None]:
    return pipe(path)


def make_folder(path: Path) -> AbstractContextManager[None]:
    path.mkdir()
    return nullcontext()


def link_to_a_device(path: Path) -> AbstractContextManager[None]:
    path.symlink_to("/dev/zero")
    return nullcontext()


@pytest.mark.parametrize("part", [*SAVED_MODEL_FILES, GOLDEN_FILE, TWIN_FILE, MANIFEST_FILE, "fingerprint.pb"])
@pytest.mark.parametrize("make", [make_pipe, link_to_a_device])
def test_a_version_is_not_opened_where_something_else_than_a_file_is_in_it(
    make: Callable[[Path], AbstractContextManager[None]], part: str, twin_dir: Path
) -> None:
    (twin_dir / part).unlink(missing_ok=True)
    with make(twin_dir / part), pytest.raises(ArtifactError, match=f"{part}: is not a file"):
        check_whole(twin_dir)


@pytest.mark.parametrize("part", [*SAVED_MODEL_FILES, GOLDEN_FILE, MANIFEST_FILE])
@pytest.mark.parametrize("make", [make_pipe, make_folder, link_to_a_device])
def test_what_takes_the_place_of_a_file_after_the_look_is_refused_too(
    make: Callable[[Path], AbstractContextManager[None]], part: str, version_dir: Path
) -> None:
    check_whole(version_dir)
    (version_dir / part).unlink()
    with make(version_dir / part), pytest.raises(ArtifactError, match=f"{part}: is not a file"):
        load_version(version_dir, "auto", max_windows=1)


@pytest.mark.parametrize("make", [make_pipe, make_folder, link_to_a_device])
def test_a_twin_that_is_no_file_after_the_look_is_refused(
    make: Callable[[Path], AbstractContextManager[None]], twin_dir: Path
) -> None:
    (twin_dir / TWIN_FILE).unlink()
    with make(twin_dir / TWIN_FILE):
        with pytest.raises(ArtifactError, match=r"model\.onnx: is not a file"):
            load_version(twin_dir, "onnx", max_windows=1)
        assert load_version(twin_dir, "auto", max_windows=1).engine.remark.endswith("; not by a twin: is not a file")


def test_a_pipe_that_is_hidden_is_passed_over(version_dir: Path) -> None:
    with pipe(version_dir / ".pipe"):
        check_whole(version_dir)


def test_a_twin_larger_than_is_read_is_refused(twin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MAX_TWIN_BYTES", 10)
    with pytest.raises(ArtifactError, match=r"model\.onnx: has more than 10 bytes"):
        load_version(twin_dir, "onnx", max_windows=1)


def test_a_version_of_more_bytes_than_are_worth_a_checksum_is_refused(version_dir: Path) -> None:
    with (version_dir / GOLDEN_FILE).open("r+b") as file:
        file.truncate(MAX_VERSION_BYTES)  # takes no room
    with pytest.raises(ArtifactError, match=f"1: has more than {MAX_VERSION_BYTES} bytes"):
        check_whole(version_dir)


@pytest.mark.parametrize("list_folder", [model_names, versions])
def test_folders_without_number_are_told_and_not_listed(
    list_folder: Callable[[Path], list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MAX_LISTED", 3)
    for number in range(1, 4):
        (tmp_path / str(number)).mkdir()
    assert len(list_folder(tmp_path)) == 3
    (tmp_path / "4").mkdir()
    with pytest.raises(ArtifactError, match="holds more than 3 files and folders; remove what is not served"):
        list_folder(tmp_path)


def test_odd_names_without_number_do_not_fill_the_log(tmp_path: Path) -> None:
    for number in range(MAX_WARNINGS + 5):
        (tmp_path / f"odd{number}").mkdir()
    with captured_logs() as logged:
        for _ in range(3):
            assert versions(tmp_path) == []
    assert len(logged) == MAX_WARNINGS


def test_every_shard_of_the_variables_must_be_there(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "1", contract, mean_ahead(contract))
    variables = tmp_path / "1" / "variables"
    (variables / "variables.data-00000-of-00001").rename(variables / "variables.data-00001-of-00002")
    with pytest.raises(ArtifactError, match=r"variables\.data-00000-of-00002: the file is missing"):
        check_whole(tmp_path / "1")


def test_a_version_from_elsewhere_is_read_off_its_signature(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "other" / "3", contract, mean_ahead(contract))
    loaded = load_version(tmp_path / "other" / "3", "auto", max_windows=2)
    assert (loaded.name, loaded.version, loaded.is_foreign, loaded.engine.name) == ("other", 3, True, "tensorflow")
    assert loaded.contract.window_shape == contract.window_shape
    assert loaded.contract.forecast_shape == contract.forecast_shape
    assert loaded.contract.feature_names == ("windows.0", "windows.1")
    assert loaded.contract.target_names == ("forecast",)
    assert loaded.manifest.verdict == "Unknown: made elsewhere."
    windows = some_windows(3, contract)
    assert_allclose(loaded.engine.predict(Inputs(windows)), expected_forecasts(windows, contract), atol=1e-6)
    assert_allclose(loaded.engine.predict(loaded.golden.inputs), loaded.golden.forecasts, atol=1e-6)
    assert loaded.contract.targets[0].scale == pytest.approx(
        float(np.sqrt(np.mean(loaded.golden.forecasts**2))), rel=1e-5
    )


def test_a_version_from_elsewhere_has_no_twin(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "other" / "3", contract, mean_ahead(contract))
    with pytest.raises(ArtifactError, match=r"has no fused twin; set WINDOWCAST_ENGINE=auto, or .* training fuse"):
        load_version(tmp_path / "other" / "3", "onnx", max_windows=1)


def two_by_two(folder: Path) -> None:
    """A SavedModel of two inputs and two outputs: 5 hours of 2 numbers and 1 flag; the sum and the two means."""

    def serve(history: tf.Tensor, flags: tf.Tensor) -> dict[str, tf.Tensor]:
        total = tf.reduce_sum(history, axis=(1, 2)) + tf.reduce_sum(flags, axis=(1, 2))
        return {"total": total, "means": tf.reduce_mean(history, axis=1)}

    module = tf.Module()
    module.serve = tf.function(
        serve,
        input_signature=[
            tf.TensorSpec((None, 5, 2), tf.float32, name="history"),
            tf.TensorSpec((None, 5, 1), tf.float32, name="flags"),
        ],
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def test_several_inputs_and_outputs_become_one_table_each(tmp_path: Path) -> None:
    two_by_two(tmp_path / "m" / "1")
    loaded = load_version(tmp_path / "m" / "1", "auto", max_windows=4)
    assert loaded.contract.feature_names == ("flags", "history.0", "history.1")
    assert loaded.contract.forecast_shape == (1, 3)
    flags, history = np.ones((3, 5, 1), np.float32), np.arange(30, dtype=np.float32).reshape(3, 5, 2)
    forecasts = loaded.engine.predict(loaded.signature.inputs.join([flags, history]))
    means, total = loaded.signature.outputs.split(forecasts)
    assert_allclose(means, history.mean(axis=1), rtol=1e-6)
    assert_allclose(total, history.sum(axis=(1, 2)) + 5, rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (tf.TensorSpec((None, 4), tf.int32, name="x"), r"x int32 \[any, 4\]"),
        (tf.TensorSpec((None, None, 2), tf.float32, name="x"), r"x float32 \[any, any, 2\]"),
        (tf.TensorSpec((1, 4, 2), tf.float32, name="x"), r"x float32 \[1, 4, 2\]"),
        (tf.TensorSpec(None, tf.float32, name="x"), "x float32 of any shape"),
        (tf.TensorSpec((), tf.float32, name="x"), r"x float32 \[\]"),
    ],
)
def test_a_signature_that_cannot_be_served_is_told(spec: tf.TensorSpec, problem: str, tmp_path: Path) -> None:
    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": tf.cast(x, tf.float32)}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "m" / "1"), signatures={"serving_default": module.serve})
    with pytest.raises(ArtifactError, match=f"serving_default has {problem}, but only float32 with an open batch"):
        load_version(tmp_path / "m" / "1", "auto", max_windows=1)


def test_a_model_from_elsewhere_whose_forecasts_are_not_finite_is_refused(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "m" / "1", contract, lambda windows: mean_ahead(contract)(windows) / 0)
    with pytest.raises(ArtifactError, match="forecasts are not finite"):
        load_version(tmp_path / "m" / "1", "auto", max_windows=1)


def test_the_layout_of_triton_is_told_how_to_become_ours(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "1" / "model.savedmodel", contract, mean_ahead(contract))
    with pytest.raises(ArtifactError, match=r"is where Triton keeps a SavedModel; move its content one folder up"):
        check_whole(tmp_path / "1")


def test_variables_that_were_cut_short_are_no_saved_model(contract: Contract, tmp_path: Path) -> None:
    save_model(tmp_path / "m" / "1", contract, mean_ahead(contract))
    (tmp_path / "m" / "1" / "variables" / "variables.data-00000-of-00001").write_bytes(b"")
    with pytest.raises(ArtifactError, match="is not a SavedModel that loads"):
        load_version(tmp_path / "m" / "1", "auto", max_windows=1)
