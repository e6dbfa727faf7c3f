"""Versions are chosen by policy, swapped in and released, or it is told why they do not serve."""

import gc
import json
import os
import shutil
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from app.engines.onnx import OnnxEngine
from app.engines.tensorflow import TensorFlowEngine
from app.errors import ArtifactError
from app.process import cores
from app.serving import repository as repository_module
from app.serving import states
from app.serving.batching import Batcher, Limits
from app.serving.catalogue import Miss, NoSuchLabel, NoSuchVersion
from app.serving.loading import LoadedVersion, loader_of
from app.serving.repository import LOAD_ATTEMPTS, MAX_TROUBLE_TOLD, Repository
from app.serving.states import Status
from app.settings import Settings
from app.telemetry.metrics import VERSION_STATE
from app.version import folders
from app.version.golden import GOLDEN_FILE
from app.version.manifest import MANIFEST_FILE, TWIN_FILE, Contract, Manifest
from tests.app.version.test_folders import flip, promise_other_shapes, record_wrong_golden_rows
from tests.logs import captured_logs
from tests.pipes import pipe
from tests.versions import add_twin, make_version, mean_twin


def repository_of(models_dir: Path, model: str = "default", **settings: Any) -> Repository:
    """A repository whose versions are loaded and never asked."""
    given = Settings(models_dir=models_dir, model=model, max_batch_windows=1, **settings)
    return Repository(given, idle_batcher, loader_of(given))


def idle_batcher(loaded: LoadedVersion) -> Batcher:
    """A queue in front of an engine."""
    limits = Limits(call_windows=1, inline_windows=1, queue_windows=1, queue_seconds=1, windows_per_second=1, seconds=1)
    return Batcher(loaded.engine.predict, ThreadPoolExecutor(1), limits, set(), lambda _: None, lambda _: None)


def test_a_model_without_versions_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"m: holds no version of a model; train one with .* --name m"):
        repository_of(tmp_path, "m").load()


def test_cores_are_shared_out_among_the_workers(
    version_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_twin(version_dir, contract)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(cores, "_quotas", lambda _: iter(()))  # whatever limits the machine that runs the test
    for workers, share in ((1, "6 threads"), (2, "3 threads"), (5, "1 thread"), (64, "1 thread")):
        repository = repository_of(version_dir.parent.parent, workers=workers)
        repository.load()
        assert repository.catalogue.find().loaded.engine.remark == f"fused operators, {share}"


def test_a_model_that_needs_what_is_not_installed_is_named_without_a_traceback(
    version_dir: Path, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_twin(version_dir, contract)
    make_version(version_dir.parent.parent, contract, "plain")
    monkeypatch.delitem(sys.modules, "app.engines.tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    repository = repository_of(version_dir.parent.parent)
    with captured_logs() as logged:
        repository.load()
    assert list(repository.catalogue.models()) == ["default"]
    [line] = [line for line in logged if line["event"] == "version not served"]
    assert "TensorFlow is not installed" in line["reason"]
    assert not line["exc_info"]


def test_the_latest_version_of_every_model_is_loaded(models_dir: Path) -> None:
    repository = repository_of(models_dir, "flat")
    repository.load()
    assert [(name, model.latest.version) for name, model in repository.catalogue.models().items()] == [
        ("flat", 1),
        ("default", 2),
        ("slow", 1),
    ]
    assert repository.statuses.failures().keys() == {"broken/1"}
    assert repository.catalogue.find().name == "flat"
    assert repository.catalogue.find("default", 2).version == 2
    for name, version in (("default", 1), ("broken", None), ("nothing", None)):
        with pytest.raises(Miss):
            repository.catalogue.find(name, version)


def test_the_default_model_must_load(models_dir: Path) -> None:
    with pytest.raises(ArtifactError, match=r"broken/1/saved_model\.pb"):
        repository_of(models_dir, "broken").load()


def test_a_damaged_model_does_not_keep_the_default_one_from_serving(version_dir: Path, tmp_path: Path) -> None:
    for name, damage in (("a", flip), ("b", record_wrong_golden_rows), ("c", promise_other_shapes)):
        damage(Path(shutil.copytree(version_dir, tmp_path / "models" / name / "1")))
    repository = repository_of(tmp_path / "models")
    with captured_logs() as logged:
        repository.load()
    assert list(repository.catalogue.models()) == ["default"]
    assert repository.statuses.failures().keys() == {"a/1", "b/1", "c/1"}
    assert [line["model"] for line in logged if line["event"] == "version not served"] == ["a", "b", "c"]


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
    with captured_logs() as logged:
        repository.load()
    assert list(repository.catalogue.models()) == ["default"]
    assert repository.statuses.failures().keys() == {"other/1"}
    [line] = [line for line in logged if line["event"] == "version not served"]
    assert (line["model"], line["reason"], line["exc_info"]) == ("other", trouble.__name__, True)


class Shelf:
    """A models folder with a repository, where versions of model `default` come and go."""

    def __init__(self, template: Path, models_dir: Path) -> None:
        self.template = template
        self.models_dir = models_dir
        self.repository = repository_of(models_dir)

    def put(self, version: int, name: str = "default") -> Path:
        """Publishes a version as the export does, in one go."""
        building = self.models_dir / name / f".building-{version}"
        shutil.copytree(self.template, building)
        return building.rename(building.with_name(str(version)))

    def decide(self, policies: str) -> None:
        (self.models_dir / "policies.toml").write_text(policies)
        self.repository.refresh(at_once=True)

    def serving(self, name: str = "default") -> list[int]:
        model = self.repository.catalogue.model(name)
        return list(model.versions) if model else []

    def states(self, name: str = "default") -> dict[int, str]:
        self.repository.note_endings()
        return {version: str(status.state) for version, status in self.repository.statuses.all()[name].items()}


@pytest.fixture
def shelf(version_dir: Path, contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """With version 1, which has a twin and so is loaded in no time; folders settle at once."""
    add_twin(version_dir, contract)
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
    template = Path(shutil.copytree(version_dir, tmp_path / "template"))
    shelf = Shelf(template, tmp_path / "models")
    shelf.repository.load()
    return shelf


def test_a_new_version_takes_over_and_the_old_one_ends(shelf: Shelf) -> None:
    old = shelf.repository.catalogue.find()
    engine = weakref.ref(old.loaded.engine)
    shelf.put(2)
    shelf.repository.refresh()
    assert shelf.repository.catalogue.find().version == 2
    assert shelf.states() == {1: "unloading", 2: "available"}, "somebody still holds it"
    del old
    assert engine() is None
    assert shelf.states() == {1: "ended", 2: "available"}


def test_what_serves_already_is_not_loaded_again(shelf: Shelf) -> None:
    served = shelf.repository.catalogue.find()
    for _ in range(3):
        shelf.repository.refresh()
    assert shelf.repository.catalogue.find() is served


def test_a_model_that_appears_is_served(shelf: Shelf) -> None:
    shelf.put(4, "other")
    shelf.repository.refresh()
    assert shelf.serving("other") == [4]
    assert list(shelf.repository.catalogue.models()) == ["default", "other"]


def test_a_broken_version_disturbs_nothing_and_is_tried_a_few_times(shelf: Shelf) -> None:
    record_wrong_golden_rows(shelf.put(2))
    with captured_logs() as logged:
        for _ in range(LOAD_ATTEMPTS + 3):
            shelf.repository.refresh()
            assert shelf.serving() == [1]
    assert shelf.states() == {1: "available", 2: "failed"}
    attempts = [line["attempt"] for line in logged if line["event"] == "version not served"]
    assert attempts == [f"{number} of {LOAD_ATTEMPTS}" for number in range(1, LOAD_ATTEMPTS + 1)]
    reason = shelf.repository.statuses.failures()["default/2"]
    assert "does not reproduce the golden rows" in reason
    assert str(shelf.models_dir) not in reason


def test_a_version_that_is_tried_again_keeps_its_reason_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note_and_load(folder: Path, manifest: Manifest | None) -> LoadedVersion:
        meanwhile.append(shelf.repository.statuses.of("default")[2])
        return load(folder, manifest)

    meanwhile: list[Status] = []
    load = shelf.repository._load_version
    monkeypatch.setattr(shelf.repository, "_load_version", note_and_load)
    flip(shelf.put(2))
    for _ in range(2):
        shelf.repository.refresh()
    failure = shelf.repository.statuses.of("default")[2]
    assert [(status.state, status.reason) for status in meanwhile] == [("loading", ""), ("loading", failure.reason)]
    assert failure.reason


@pytest.mark.parametrize("part", [TWIN_FILE, GOLDEN_FILE, MANIFEST_FILE, "saved_model.pb", "variables/variables.index"])
def test_a_version_with_a_pipe_in_the_place_of_a_file_keeps_no_other_from_serving(part: str, shelf: Shelf) -> None:
    folder = shelf.put(2)
    (folder / part).unlink()
    with pipe(folder / part):
        shelf.repository.refresh()
        assert shelf.serving() == [1]
        assert f"default/2/{part}: is not a file" in shelf.repository.statuses.failures()["default/2"]
        shelf.put(3)
        shelf.repository.refresh()
        assert shelf.serving() == [3]


def test_a_foreign_version_with_a_pipe_among_its_files_keeps_no_other_from_serving(shelf: Shelf) -> None:
    folder = shelf.put(2)
    (folder / MANIFEST_FILE).unlink()
    shutil.rmtree(folder / "assets.extra")
    (folder / "debug").mkdir()
    with pipe(folder / "debug" / "saved_model_debug_info.pb"):  # TensorFlow reads it if it is there
        shelf.put(3)
        shelf.decide("[default]\nlatest = 2\n")
    assert shelf.serving() == [1, 3]
    assert "saved_model_debug_info.pb: is not a file" in shelf.repository.statuses.failures()["default/2"]


def test_a_start_with_a_pipe_in_the_place_of_a_file_serves_the_version_before(shelf: Shelf) -> None:
    folder = shelf.put(2)
    (folder / "saved_model.pb").unlink()
    with pipe(folder / "saved_model.pb"):
        assert repository_loads(shelf)


def test_a_name_that_is_no_text_is_told_as_text(shelf: Shelf) -> None:
    folder = shelf.put(2)
    (shelf.models_dir / "default" / os.fsdecode(b"\xff")).mkdir()
    (folder / os.fsdecode(b"\xfe")).touch()
    with captured_logs() as logged:
        shelf.repository.refresh()
    assert shelf.repository.statuses.failures()["default/2"].startswith("default/2/\\udcfe: is not listed")
    assert [line["path"][-6:] for line in logged if "path" in line] == ["\\udcff"]
    assert all(str(line).encode() for line in logged)


def test_a_problem_of_any_length_is_told_in_short(shelf: Shelf, contract: Contract) -> None:
    add_twin(shelf.put(2), contract, mean_twin(names=("x" * 10_000, "forecast")))
    repository = repository_of(shelf.models_dir, engine="onnx")
    repository.load()
    reason = repository.statuses.failures()["default/2"]
    assert "has the input xxx" in reason
    assert len(reason) < 1000


@pytest.mark.parametrize(
    "name",
    ["a" * 300, "a/" * 5000, "a" * 10**6, "a\0\x1b[31m\n"],
    ids=["long", "deep", "huge", "control characters"],
)
def test_a_manifest_that_lists_what_no_file_is_called_gives_way_to_the_version_before(shelf: Shelf, name: str) -> None:
    path = shelf.put(2) / MANIFEST_FILE
    manifest = json.loads(path.read_bytes())
    manifest["files"][name] = "0" * 64
    path.write_text(json.dumps(manifest))
    repository = repository_of(shelf.models_dir)
    repository.load()
    assert repository.catalogue.find().version == 1
    reason = repository.statuses.failures()["default/2"]
    assert len(reason) < 5000
    assert reason.isprintable()


def test_of_broken_versions_without_number_only_the_highest_are_looked_at(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_module, "MAX_CANDIDATES", 3)
    for version in range(2, 8):
        (shelf.models_dir / "default" / str(version)).mkdir()
    shelf.repository.refresh()
    assert shelf.serving() == [1], "what serves goes on"
    assert shelf.states() == {1: "available", 5: "pending", 6: "pending", 7: "pending"}
    shelf.decide("[default]\nlatest = 2\n")
    shelf.put(8)
    shelf.repository.refresh()
    assert shelf.serving() == [1, 8]


def test_trouble_and_failures_without_number_are_told_in_part(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.decide("".join(f"[m{number:02}]\n" for number in range(MAX_TROUBLE_TOLD + 5)))
    trouble = shelf.repository.trouble
    assert (len(trouble), trouble[-1]) == (MAX_TROUBLE_TOLD + 1, "And 5 more.")
    monkeypatch.setattr(states, "MAX_FAILURES_TOLD", 2)
    for version in range(2, 6):
        (shelf.models_dir / "default" / str(version)).mkdir()
    shelf.repository.refresh()
    assert shelf.repository.statuses.failures().keys() == {"default/2", "default/3"}


def test_a_version_that_was_mended_is_tried_again(shelf: Shelf) -> None:
    folder = shelf.put(2)
    flip(folder)
    for _ in range(LOAD_ATTEMPTS + 1):
        shelf.repository.refresh()
    shutil.copy(shelf.template / "saved_model.pb", folder)
    shelf.repository.refresh()
    assert shelf.serving() == [2]


def test_a_broken_version_gives_way_to_the_next_lower_one_at_the_start(shelf: Shelf) -> None:
    flip(shelf.put(3))
    shelf.put(2)
    repository = repository_of(shelf.models_dir)
    repository.load()
    assert repository.catalogue.find().version == 2
    assert repository.statuses.failures().keys() == {"default/3"}


def test_a_version_is_not_touched_before_it_is_whole(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path.relative_to(shelf.template) for path in sorted(shelf.template.rglob("*")) if path.is_file()]
    folder = shelf.models_dir / "default" / "2"
    for number, file in enumerate([*files[1:], files[0]]):
        shelf.repository.refresh()
        assert shelf.serving() == [1]
        assert shelf.states().get(2, "pending") == "pending", f"after {number} files"
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shelf.template / file, folder / file)
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 60)
    shelf.repository.refresh()
    assert shelf.states()[2] == "pending", "its last file is fresh"
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
    shelf.repository.refresh()
    assert shelf.serving() == [2]


def test_a_version_read_off_its_signature_is_loaded_anew_when_its_manifest_comes(shelf: Shelf) -> None:
    folder = shelf.models_dir / "default" / "2"
    late = [MANIFEST_FILE, "assets.extra"]
    shutil.copytree(shelf.template, folder, ignore=shutil.ignore_patterns(*late))
    shelf.repository.refresh()
    assert shelf.repository.catalogue.find().loaded.is_foreign
    shutil.copytree(shelf.template / "assets.extra", folder / "assets.extra")
    shutil.copy(shelf.template / MANIFEST_FILE, folder)
    shelf.repository.refresh()
    assert not shelf.repository.catalogue.find().loaded.is_foreign
    assert shelf.states() == {1: "ended", 2: "available"}


def test_a_folder_that_is_deleted_does_not_stop_its_version(shelf: Shelf) -> None:
    shelf.put(2)
    shelf.repository.refresh()
    shutil.rmtree(shelf.models_dir / "default" / "2")
    shelf.repository.refresh()
    assert shelf.serving() == [2]
    shutil.rmtree(shelf.models_dir / "default")
    shelf.repository.refresh()
    assert shelf.serving() == [2]


def test_the_latest_so_many_versions_serve(shelf: Shelf) -> None:
    for version in (2, 3, 10):
        shelf.put(version)
    shelf.decide("[default]\nlatest = 3\n")
    assert shelf.serving() == [2, 3, 10]
    assert shelf.repository.catalogue.find().version == 10
    assert shelf.repository.catalogue.find("default", 3).version == 3


def test_a_broken_one_does_not_count_among_the_latest(shelf: Shelf) -> None:
    flip(shelf.put(3))
    shelf.put(2)
    shelf.decide("[default]\nlatest = 2\n")
    assert shelf.serving() == [1, 2]


def test_going_back_is_a_change_of_policy(shelf: Shelf) -> None:
    shelf.put(2)
    shelf.repository.refresh()
    shelf.decide("[default]\nversions = [1]\n")
    assert shelf.serving() == [1]
    assert shelf.states() == {1: "available", 2: "ended"}
    shelf.decide("[default]\nversions = [1, 2]\n")
    assert shelf.serving() == [1, 2]
    with pytest.raises(NoSuchVersion) as miss:
        shelf.repository.catalogue.find("default", 3)
    assert miss.value.serving == [1, 2]


def test_what_serves_stays_where_nothing_that_is_wanted_can_be_had(shelf: Shelf) -> None:
    flip(shelf.put(2))
    shelf.decide("[default]\nversions = [2, 9]\n")
    assert shelf.serving() == [1]
    assert shelf.states() == {1: "available", 2: "failed", 9: "pending"}
    assert "there is no such folder" in shelf.repository.statuses.failures()["default/9"]
    shelf.decide("")
    assert shelf.states().keys() == {1, 2}, "nobody wants 9 any more"


def test_an_empty_list_lets_a_model_rest(shelf: Shelf) -> None:
    shelf.put(1, "other")
    shelf.repository.refresh()
    shelf.decide("[other]\nversions = []\n")
    assert shelf.serving("other") == []
    assert shelf.states("other") == {1: "ended"}
    shelf.decide("")
    assert shelf.serving("other") == [1]


def test_labels_point_at_versions_that_serve_only(shelf: Shelf) -> None:
    shelf.put(2)
    shelf.decide("[default]\nlatest = 2\nlabels = { stable = 1, canary = 2, next = 3 }\n")
    get = shelf.repository.catalogue.find
    assert (get(label="stable").version, get("default", None, "canary").version) == (1, 2)
    with pytest.raises(NoSuchLabel):
        get(label="next")
    shelf.decide("[default]\nlatest = 2\nlabels = { stable = 3 }\n")
    assert get(label="stable").version == 1, "where it was, until its version serves"
    shelf.put(3)
    shelf.repository.refresh()
    assert get(label="stable").version == 3


def test_policies_that_are_wrong_are_told_and_change_nothing(shelf: Shelf) -> None:
    shelf.put(2)
    shelf.decide("[default]\nversions = [1]\n")
    shelf.decide("[default]\nversions = 1\n")
    assert shelf.serving() == [1]
    for _ in range(2):
        [trouble] = shelf.repository.trouble
        assert trouble.startswith("policies.toml: default.versions: ")
        shelf.repository.refresh()
    shelf.decide("[default]\nversions = [2]\n")
    assert shelf.serving() == [2]
    assert shelf.repository.trouble == []


def test_policies_that_are_wrong_end_the_start(shelf: Shelf) -> None:
    (shelf.models_dir / "policies.toml").write_text("[default]\nlatest = 0\n")
    with pytest.raises(ArtifactError, match=r"policies\.toml: default\.latest"):
        repository_of(shelf.models_dir).load()


def test_policies_may_be_elsewhere(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(2)
    (tmp_path / "p.toml").write_text("[default]\nversions = [1]\n")
    repository = repository_of(shelf.models_dir, policies=tmp_path / "p.toml")
    repository.load()
    assert repository.catalogue.find().version == 1
    (tmp_path / "p.toml").write_text("[default")
    repository.refresh(at_once=True)
    [trouble] = repository.trouble
    assert trouble.startswith("p.toml: is not TOML")


def test_two_hundred_rolls_leave_nothing_behind(shelf: Shelf) -> None:
    shelf.put(2)
    engines = weakref.WeakSet([shelf.repository.catalogue.find().loaded.engine])
    for turn in range(200):
        shelf.decide(f"[default]\nversions = [{1 + turn % 2}]  # {turn}\n")
        engines.add(shelf.repository.catalogue.find().loaded.engine)
    assert len(engines) == 1


def test_a_version_that_comes_while_others_load_at_the_start_is_not_forgotten(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0.3)
    time.sleep(0.3)
    repository = repository_of(shelf.models_dir)
    refresh = repository._refresh_models

    def refresh_beside_a_writer() -> None:
        if not (shelf.models_dir / "default" / "2").exists():
            shelf.put(2)
        refresh()

    monkeypatch.setattr(repository, "_refresh_models", refresh_beside_a_writer)
    repository.load()
    assert repository.catalogue.find().version == 2


def test_a_failed_version_leaves_no_engine_behind(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = weakref.WeakSet[OnnxEngine]()
    warm_up = OnnxEngine.warm_up
    monkeypatch.setattr(OnnxEngine, "warm_up", lambda engine: engines.add(engine) or warm_up(engine))  # type: ignore[func-returns-value]
    record_wrong_golden_rows(shelf.put(2))
    shelf.repository.refresh()
    assert shelf.states()[2] == "failed"
    gc.collect()
    assert len(engines) == 0


def test_a_models_folder_that_vanishes_for_a_while_changes_nothing(shelf: Shelf) -> None:
    shelf.put(2)
    shelf.decide("[default]\nlatest = 2\nlabels = { stable = 1 }\n")
    shelf.models_dir.rename(shelf.models_dir.with_name("away"))
    shelf.repository.refresh(at_once=True)
    assert shelf.serving() == [1, 2]
    assert shelf.repository.catalogue.find(label="stable").version == 1
    shelf.models_dir.with_name("away").rename(shelf.models_dir)
    shelf.repository.refresh(at_once=True)
    assert shelf.serving() == [1, 2]


def test_a_version_may_end_while_anything_is_counted(shelf: Shelf) -> None:
    served = shelf.repository.catalogue.find()
    shelf.put(2)
    shelf.repository.refresh()
    with VERSION_STATE._lock, shelf.repository.statuses._changing:
        del served  # which would wait for itself if it were noted here
    assert shelf.states() == {1: "ended", 2: "available"}


def test_trouble_with_one_model_is_no_trouble_for_others(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put(1, "a")
    shelf.put(1, "z")
    look = Repository._refresh_model

    def refuse(repository: Repository, name: str) -> list[str]:
        if name == "a":
            raise PermissionError(13, "Permission denied")
        return look(repository, name)

    monkeypatch.setattr(Repository, "_refresh_model", refuse)
    shelf.repository.refresh()
    assert list(shelf.repository.catalogue.models()) == ["default", "z"]
    assert shelf.repository.trouble == ["a: could not be looked at (PermissionError)."]


def test_a_folder_that_nobody_may_look_into_waits(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shelf.put(2)
    scan = os.scandir

    def refuse(path: str | Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return scan(os.fspath(path))

    monkeypatch.setattr(os, "scandir", refuse)
    shelf.repository.refresh()
    assert shelf.serving() == [1]
    assert "cannot be read (Permission denied)" in shelf.repository.statuses.failures()["default/2"]
    assert repository_loads(shelf)


def repository_loads(shelf: Shelf) -> bool:
    repository = repository_of(shelf.models_dir)
    repository.load()
    return repository.catalogue.find().version == 1


def test_files_beside_the_shards_of_the_variables_are_passed_over(shelf: Shelf) -> None:
    folder = shelf.put(2)
    (folder / MANIFEST_FILE).unlink()
    shutil.rmtree(folder / "assets.extra")
    (folder / "variables" / "variables.data-00000-of-backup").touch()
    shelf.repository.refresh()
    assert shelf.repository.catalogue.find().loaded.is_foreign


def test_a_policy_that_lets_nothing_serve_is_named_at_the_start(shelf: Shelf) -> None:
    for policy in ("[]", "[9]"):
        (shelf.models_dir / "policies.toml").write_text(f"[default]\nversions = {policy}\n")
        with pytest.raises(ArtifactError, match=r"policies\.toml: lets no version of default serve|no such folder"):
            repository_of(shelf.models_dir).load()


def test_a_version_that_is_wanted_again_before_it_ended_serves(shelf: Shelf) -> None:
    shelf.put(2)
    held = shelf.repository.catalogue.find()
    shelf.decide("[default]\nversions = [2]\n")
    shelf.decide("[default]\nversions = [1]  # again\n")
    assert shelf.repository.catalogue.find() is not held
    del held
    assert shelf.states() == {1: "available", 2: "ended"}


def test_a_folder_that_is_not_whole_keeps_no_version_from_ending(shelf: Shelf) -> None:
    (shelf.models_dir / "default" / "9").mkdir()
    shelf.repository.refresh()
    shelf.put(2)
    shelf.repository.refresh()
    assert shelf.states() == {1: "ended", 2: "available", 9: "pending"}


def test_what_an_operator_may_not_have_meant_is_told(shelf: Shelf) -> None:
    shelf.decide("[laod]\nlatest = 1\n[default]\nlabels = { stable = 7 }\n")
    assert shelf.repository.trouble == [
        "policies.toml: there is no model laod.",
        "default: the label stable waits for version 7, which does not serve.",
    ]
    shelf.decide("")
    assert shelf.repository.trouble == []
    shutil.rmtree(shelf.models_dir / "default" / "1")
    shelf.repository.refresh()
    assert shelf.repository.trouble == ["default/1 serves, but its folder is gone: it could not be loaded again."]


def test_a_start_beside_the_models_is_told_where_they_are(shelf: Shelf) -> None:
    with pytest.raises(ArtifactError, match=r"other: holds no version of a model; .* the folder has default\.$"):
        repository_of(shelf.models_dir, "other").load()
    with pytest.raises(
        ArtifactError, match=rf"looks like a model itself; set WINDOWCAST_MODELS_DIR={shelf.models_dir}"
    ):
        repository_of(shelf.models_dir / "default").load()


def test_a_start_that_a_policy_prevents_names_policy_and_version(shelf: Shelf) -> None:
    (shelf.models_dir / "default" / "4").mkdir()
    (shelf.models_dir / "policies.toml").write_text("[default]\nversions = [4]\n")
    problem = r"policies\.toml: lets no version of default serve but 4: default/4/saved_model\.pb: the file is missing"
    with pytest.raises(ArtifactError, match=problem):
        repository_of(shelf.models_dir).load()
