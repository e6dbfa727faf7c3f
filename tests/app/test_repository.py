"""The models on disk: found, proved and loaded, or refused by the name of the file at fault."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app import cores
from app.batching import Batcher, Limits
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError, NotFound
from app.golden import GOLDEN_FILE, Golden
from app.manifest import MANIFEST_FILE, TWIN_FILE, Contract
from app.repository import Repository
from app.settings import Settings
from app.versions import LoadedVersion, load_version, model_names, versions
from tests.versions import (
    SavedForecast,
    add_twin,
    contract_of,
    failing,
    failing_on_batches,
    make_version,
    mean_twin,
    publish,
)


def repository_of(models_dir: Path, model: str = "default", **settings: Any) -> Repository:
    """A repository whose versions are loaded and never asked."""
    return Repository(Settings(models_dir=models_dir, model=model, max_batch_rows=1, **settings), idle_batcher)


def idle_batcher(loaded: LoadedVersion) -> Batcher:
    """A queue in front of an engine."""
    limits = Limits(call_rows=1, inline_rows=1, queue_rows=1, seconds=1)
    return Batcher(loaded.engine.predict, ThreadPoolExecutor(1), limits, lambda _: None, lambda _: None)


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
    with capture_logs() as logged:
        assert versions(tmp_path) == []
    assert [(line["log_level"], line["path"]) for line in logged] == [("warning", str(tmp_path / odd))]


def test_hidden_folders_are_ignored_without_a_word(tmp_path: Path) -> None:
    (tmp_path / ".building-3").mkdir()
    with capture_logs() as logged:
        assert versions(tmp_path) == []
    assert logged == []


def test_a_model_without_versions_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"m: holds no version of a model; train one with .* --name m"):
        repository_of(tmp_path, "m").load()


def test_a_sound_version_is_loaded(version_dir: Path, contract: Contract) -> None:
    loaded = load_version(version_dir, "auto", max_rows=2)
    assert (loaded.name, loaded.version, loaded.contract) == ("default", 1, contract)
    assert loaded.engine.remark == "XLA, compiled for batches of 1, 2; not by a twin: the version has no fused twin"
    assert loaded.load_seconds > 0


def test_damage_to_the_twin_alone_does_not_keep_a_version_from_serving(version_dir: Path, contract: Contract) -> None:
    add_twin(version_dir, contract, mean_twin())
    assert load_version(version_dir, "auto", max_rows=1).engine.name == "onnx"

    (version_dir / TWIN_FILE).write_bytes(b"")

    assert load_version(version_dir, "auto", max_rows=1).engine.name == "tensorflow"


def test_cores_are_shared_out_among_the_workers(
    version_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_twin(version_dir, contract, mean_twin())
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cores, "_quotas", lambda _: iter(()))  # whatever limits the machine that runs the test
    for workers, share in ((1, "6 threads"), (2, "3 threads"), (5, "1 thread"), (64, "1 thread")):
        repository = repository_of(version_dir.parent.parent, workers=workers)
        repository.load()
        assert repository.get().loaded.engine.remark == f"fused operators, {share}"


def test_a_model_that_needs_what_is_not_installed_is_named_without_a_traceback(
    models_dir: Path, version_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_twin(version_dir, contract, mean_twin())
    shutil.copytree(models_dir / "flat", version_dir.parent.parent / "flat")
    monkeypatch.delitem(sys.modules, "app.engines.tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    repository = repository_of(version_dir.parent.parent)
    with capture_logs() as logged:
        repository.load()
    assert list(repository.models()) == ["default"]
    [line] = [line for line in logged if line["event"] == "version not served"]
    assert "TensorFlow is not installed" in line["reason"]
    assert not line["exc_info"]


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
    golden = Golden.load(version_dir)
    Golden(golden.windows, golden.forecasts + 1).save(version_dir)
    return version_dir / GOLDEN_FILE


def record_wrong_golden_rows(version_dir: Path) -> Path:
    change_golden_rows(version_dir)
    publish(version_dir, contract_of())
    return version_dir


def promise_other_shapes(version_dir: Path) -> Path:
    publish(version_dir, contract_of(steps=5))
    return version_dir


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
        forget_golden_rows,
    ],
)
def test_a_damaged_version_is_refused_by_the_name_of_what_is_at_fault(
    damage: Callable[[Path], Path], version_dir: Path
) -> None:
    at_fault = damage(version_dir)
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(at_fault))}: ") as caught:
        load_version(version_dir, "auto", max_rows=1)
    assert "\n" not in str(caught.value)


def test_the_latest_version_of_every_model_is_loaded(models_dir: Path) -> None:
    repository = repository_of(models_dir, "flat")
    repository.load()
    assert [(name, model.latest.version) for name, model in repository.models().items()] == [
        ("flat", 1),
        ("default", 2),
        ("slow", 1),
    ]
    assert repository.failures().keys() == {"broken/1"}
    assert repository.get().name == "flat"
    assert repository.get("default", 2).version == 2
    for name, version in (("default", 1), ("broken", None), ("nothing", None)):
        with pytest.raises(NotFound):
            repository.get(name, version)


def test_the_default_model_must_load(models_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=r"broken/1/saved_model\.pb"):
        repository_of(models_dir, "broken").load()


def test_a_damaged_model_does_not_keep_the_default_one_from_serving(version_dir: Path, tmp_path: Path) -> None:
    for name, damage in (("a", flip), ("b", record_wrong_golden_rows), ("c", promise_other_shapes)):
        damage(Path(shutil.copytree(version_dir, tmp_path / "models" / name / "1")))
    repository = repository_of(tmp_path / "models")
    with capture_logs() as logged:
        repository.load()
    assert list(repository.models()) == ["default"]
    assert repository.failures().keys() == {"a/1", "b/1", "c/1"}
    assert [line["model"] for line in logged if line["event"] == "version not served"] == ["a", "b", "c"]


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
        load_version(version_dir, "auto", max_rows=4)


@pytest.mark.parametrize("trouble", [RuntimeError, MemoryError, PermissionError])
def test_no_trouble_with_another_model_keeps_the_default_one_from_serving(
    trouble: type[Exception], version_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(engine: TensorFlowEngine) -> None:
        if engine._version_dir.parent.name == "other":
            raise trouble

    shutil.copytree(version_dir, tmp_path / "models" / "other" / "1")
    monkeypatch.setattr(TensorFlowEngine, "warm_up", refuse)
    repository = repository_of(tmp_path / "models")
    with capture_logs() as logged:
        repository.load()
    assert list(repository.models()) == ["default"]
    assert repository.failures().keys() == {"other/1"}
    [line] = [line for line in logged if line["event"] == "version not served"]
    assert (line["model"], line["reason"], line["exc_info"]) == ("other", trouble.__name__, True)


def test_a_folder_that_cannot_be_listed_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    for listing in (model_names, versions):
        with pytest.raises(ArtifactError, match=r"cannot be listed \(Permission denied\); check its permissions\.$"):
            listing(tmp_path)
